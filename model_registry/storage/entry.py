"""The registry's documents: the description of a bundle, and those of a version.

Every document is frozen, refuses unknown fields, and is written by `to_json` and read by `from_json` only.
"""

from __future__ import annotations

import json
from typing import Annotated, Any, Final, Literal, Self

from pydantic import (
    AfterValidator,
    BaseModel,
    ConfigDict,
    Field,
    FiniteFloat,
    JsonValue,
    NonNegativeInt,
    PositiveInt,
    SerializerFunctionWrapHandler,
    StringConstraints,
    ValidationError,
    model_serializer,
    model_validator,
)

from model_registry.errors import DocumentError
from model_registry.messages import printable
from model_registry.names import MODALITY_PATTERN, ROLES, modality_aliases, parse_name, parse_user
from model_registry.storage.encoders import Sha256

SCHEMA_VERSION = "1.1.0"  # of an entry
NEWEST_FORMAT: Final = 2  # of a registry's layout
DOCUMENT_LIMIT = 2 << 20  # bytes; a bundle's description with its whole configuration is a few kB
FILE_LIMIT = 256 << 20  # bytes of one file of a bundle; a user's own part stays under 4 MB
REQUIRED_ROLES = ("model", "label_map", "label_encoder", "training_log")

Status = Literal["active", "candidate", "archived"]
ExportForm = Literal["tar", "onnx"]
Hash = Annotated[str, StringConstraints(pattern=r"^sha256:[0-9a-f]{64}$")]
Timestamp = Annotated[str, StringConstraints(pattern=r"^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d{1,6})?Z$")]
Text = Annotated[str, StringConstraints(min_length=1, max_length=200)]
UserId = Annotated[str, AfterValidator(parse_user)]
ModalityName = Annotated[str, StringConstraints(pattern=f"^{MODALITY_PATTERN}$")]
RunId = Annotated[str, AfterValidator(lambda text: parse_name(text, "run id"))]
FileName = Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9][A-Za-z0-9_-]*(\.[A-Za-z0-9_-]+)*$", max_length=200)]
StoredPath = Annotated[str, StringConstraints(min_length=1, max_length=400)]


def _label(text: str) -> str:
    if text == "unknown":
        raise ValueError("'unknown' cannot be a label: it is the result of rejection")
    if not text.isprintable() or text != text.strip():
        raise ValueError(f"label {printable(text)}: control characters, or spaces at the beginning or end")
    return text


Label = Annotated[Text, AfterValidator(_label)]


def _no_alias(modality: str) -> str:
    if modality in modality_aliases():
        raise ValueError(f"{modality!r} is another name for {modality_aliases()[modality]!r}; write that")
    return modality


def _plain(value: dict[str, JsonValue]) -> dict[str, JsonValue]:
    """Refuse what JSON cannot represent: NaN, infinity, unpaired surrogates."""
    json.dumps(value, ensure_ascii=False, allow_nan=False).encode()
    return value


class Document(BaseModel):
    """A frozen JSON object without unknown fields."""

    model_config = ConfigDict(extra="forbid", frozen=True, protected_namespaces=())

    @classmethod
    def from_json(cls, data: bytes, name: str) -> Self:
        """Return the document that `data` holds; `name` is its source, for messages.

        Raises DocumentError with every fault: too large, not UTF-8, not JSON, a key twice, NaN, too deep,
        an unpaired surrogate, a missing, unknown or wrong field.
        """
        value = parse_json(data, name)
        try:
            return cls.model_validate(value)
        except ValidationError as error:
            raise DocumentError(
                f"{name}: {'.'.join(map(str, e['loc'])) or 'document'}: {e['msg']}"
                for e in error.errors(include_url=False, include_context=False, include_input=False)
            ) from None

    def to_json(self) -> bytes:
        """Return the document as indented UTF-8 JSON with a newline at the end."""
        return (json.dumps(self.model_dump(mode="json"), ensure_ascii=False, allow_nan=False, indent=1) + "\n").encode()

    def to_line(self) -> bytes:
        """Return the document as one line of UTF-8 JSON, newline included; the same document gives the same bytes."""
        dumped = self.model_dump(mode="json")
        return (json.dumps(dumped, ensure_ascii=False, allow_nan=False, separators=(",", ":")) + "\n").encode()


class StoredFile(Document):
    """One file: its name within the folder, sha256 and size in bytes."""

    name: FileName
    sha256: Sha256
    size: NonNegativeInt


class EncoderRef(Document):
    """A shared encoder, named by the sha256 of its network."""

    name: Annotated[str, AfterValidator(lambda text: parse_name(text, "encoder name"))]
    sha256: Sha256


class InputTensor(Document):
    """An input of a model; a name in `shape` is a length that may vary."""

    name: Text
    dtype: Text
    shape: tuple[PositiveInt | Text, ...]
    meaning: Annotated[str, StringConstraints(max_length=500)] = ""


class BundleEntry(Document):
    """What is known about a model before it has a version number."""

    timestamp: Timestamp
    schema_version: Text = SCHEMA_VERSION
    trainer_name: Text
    vector_version: Text
    feature_spec_id: Text
    encoding: Text | None = None  # what the samples are: A3CP's raw_features_ref.encoding, or their media types
    config: Annotated[dict[str, JsonValue], AfterValidator(_plain)]
    labels: tuple[Label, ...] = Field(min_length=1)
    metrics: dict[Text, FiniteFloat]
    verdict: Text | None = None
    example_count: PositiveInt
    session_count: PositiveInt
    examples_hash: Hash
    data_fingerprint: Text
    job_fingerprint: Text
    normalisation_version: Text | None = None
    expected_frame_rate: FiniteFloat | None = None
    expected_length: PositiveInt | None = None
    rejection_threshold: FiniteFloat | None = None
    set_threshold: FiniteFloat | None = None  # of a label's probability, for the label set
    inputs: tuple[InputTensor, ...] = ()
    preparation: Annotated[dict[str, JsonValue], AfterValidator(_plain)] = {}  # how the inputs are made of media

    @model_validator(mode="after")
    def _agree(self) -> Self:
        if self.feature_spec_id != self.vector_version:
            raise ValueError("feature_spec_id and vector_version name the same thing and must be equal")
        if len(set(self.labels)) != len(self.labels):
            raise ValueError("labels: a label appears twice")
        return self


class BundleManifest(Document):
    """`bundle.json`: everything that a bundle holds. Written last, so a bundle without it is unfinished."""

    format: Literal[1]
    user_id: UserId
    modality: Annotated[ModalityName, AfterValidator(_no_alias)]
    run_id: RunId
    created: Timestamp
    files: dict[str, StoredFile]
    encoder_refs: tuple[EncoderRef, ...] = ()
    entry: BundleEntry

    @model_validator(mode="after")
    def _complete(self) -> Self:
        faults = [f"files: unknown role {printable(role)}" for role in self.files if role not in ROLES]
        faults += [f"files: role {role!r} is missing" for role in REQUIRED_ROLES if role not in self.files]
        names = [file.name for file in self.files.values()]
        faults += [f"files: {name!r} appears twice" for name in set(names) if names.count(name) > 1]
        faults += [f"files: {name!r} is the name of the description itself" for name in names if name == "bundle.json"]
        faults += [f"files: {f.name!r} is above {FILE_LIMIT} bytes" for f in self.files.values() if f.size > FILE_LIMIT]
        if len({ref.name for ref in self.encoder_refs}) != len(self.encoder_refs):
            faults.append("encoder_refs: an encoder appears twice")
        if faults:
            raise ValueError("; ".join(faults))
        return self


class RegistryEntry(BundleEntry):
    """One version as A3CP reads it: a line of `model_registry.jsonl`. Paths are relative to the registry's root."""

    user_id: UserId
    modality: ModalityName
    run_id: RunId
    model_version: Annotated[str, StringConstraints(pattern=r"^v[1-9][0-9]{0,8}$")]
    status: Status
    model_artifact_path: StoredPath
    label_map_path: StoredPath
    label_encoder_path: StoredPath
    artifact_hash: Hash
    label_map_hash: Hash | None = None  # releases before 0.3 wrote neither of these two
    label_encoder_hash: Hash | None = None  # of the file that A3CP calls encoder_ref
    encoder_refs: tuple[EncoderRef, ...] = ()
    recorded_at: Timestamp | None = None  # in the journal: when the version took this status

    @property
    def version(self) -> int:
        """The number of the version."""
        return int(self.model_version[1:])

    @property
    def folder(self) -> str:
        """The version's folder, relative to the registry's root: `users/<user>/<modality>/v3`."""
        return self.model_artifact_path.rpartition("/")[0]


class VersionManifest(Document):
    """`manifest.json`: every other file of a version, and the sha256 of each encoder's `encoder.json`."""

    format: Literal[1] = 1
    user_id: UserId
    modality: ModalityName
    version: PositiveInt
    run_id: RunId
    bundle_sha256: (
        Sha256  # of the bundle's description: a run published again has the same, another run of that id has not
    )
    files: dict[str, StoredFile]
    encoders: dict[Sha256, Sha256] = {}


class ActivePointer(Document):
    """`active.json`: the active version, and the sha256 of its `manifest.json`."""

    format: Literal[1] = 1
    version: PositiveInt
    manifest_sha256: Sha256
    since: Timestamp


PUBLIC_KEY_PATTERN: Final = r"^[0-9a-f]{64}$"
PublicKey = Annotated[str, StringConstraints(pattern=PUBLIC_KEY_PATTERN)]  # Ed25519


class Signature(Document):
    """An Ed25519 signature and the public key that verifies it, as hexadecimal digits."""

    public_key: PublicKey
    signature: Annotated[str, StringConstraints(pattern=r"^[0-9a-f]{128}$")]


class VersionSignature(Signature):
    """`signature.json`: of `model-trainer version`, a newline, and the bytes of the `manifest.json` beside it."""

    format: Literal[1] = 1


class TrustedKey(Document):
    """A public key that a reader trusts, under a name of the reader's choice."""

    name: Annotated[str, AfterValidator(lambda text: parse_name(text, "key name"))]
    public_key: PublicKey
    added: Timestamp


class TrustedKeys(Document):
    """The trust file of a reader; it is never part of a registry."""

    format: Literal[1] = 1
    keys: tuple[TrustedKey, ...] = ()


class ObservedTimes(Document):
    """How new the histories were that a reader has read: sha256 of salt, registry, slot -> time of a signed event."""

    format: Literal[1] = 1
    salt: Annotated[str, StringConstraints(pattern=r"^[0-9a-f]{32}$")]
    times: dict[Sha256, Timestamp] = {}


class Event(Document):
    """One line of `history.jsonl`: what happened to which version, and which one is active since then.

    `signature`, left out where there is none, is of slot and history up to here: see `signatures`.
    """

    time: Timestamp
    event: Literal["publish", "promote", "rollback", "archive", "remove"]
    version: PositiveInt
    active: PositiveInt | None
    reason: Annotated[str, StringConstraints(max_length=500)] = ""
    run_id: RunId | None = None
    manifest_sha256: Sha256 | None = None
    signature: Signature | None = None

    @model_serializer(mode="wrap")
    def _without_empty(self, serialise: SerializerFunctionWrapHandler) -> dict[str, Any]:
        fields: dict[str, Any] = serialise(self)
        return {name: value for name, value in fields.items() if name != "signature" or value is not None}


class Tombstone(Document):
    """One line of `tombstones.jsonl`: that a person was erased, or readmitted; who, only a salted hash says.

    Lines of releases before 0.3 have `versions`, and no hash.
    """

    id: Annotated[str, StringConstraints(pattern=r"^[0-9a-f]{16}$")]
    time: Timestamp
    reason: Annotated[str, StringConstraints(min_length=1, max_length=500)]
    versions: NonNegativeInt | None = None
    salt: Annotated[str, StringConstraints(pattern=r"^[0-9a-f]{32}$")] | None = None
    person: Sha256 | None = None  # scrypt of salt and user id
    readmitted: bool = False


class CopyRecord(Document):
    """One line of `copies.jsonl`: where a command wrote a model or a page, and whose data it was made of."""

    time: Timestamp
    users: tuple[UserId, ...] = Field(min_length=1)
    path: Annotated[str, StringConstraints(min_length=1, max_length=5000)]


class PendingErasure(Document):
    """`.erasing-<id>.json`: an erasure that has begun, and is completed by the next erasure or by doctor."""

    user_id: UserId
    reason: Annotated[str, StringConstraints(min_length=1, max_length=500)]


class Erasure(Document):
    """`erasure.json` in a folder `.erased-<id>`: what releases before 0.3 wrote in place of a `PendingErasure`."""

    user_id: UserId
    tombstone: Tombstone


class RegistryFormat(Document):
    """`registry.json`: which layout the folder has. See `migrations`."""

    format: Literal[1, 2] = NEWEST_FORMAT


def parse_json(data: bytes, name: str, limit: int = DOCUMENT_LIMIT) -> Any:
    """Return the JSON value in `data`. Raises DocumentError, naming `name`."""
    if len(data) > limit:
        raise DocumentError([f"{name}: document: larger than {limit} bytes"])
    try:
        value = json.loads(data.decode("utf-8"), object_pairs_hook=_unique, parse_constant=_refuse_constant)
        if b"\\u" in data:
            json.dumps(value, ensure_ascii=False).encode()  # an unpaired surrogate cannot be written again
    except (ValueError, RecursionError) as error:
        reason = "nested too deeply" if isinstance(error, RecursionError) else str(error).split(": '", 1)[0]
        raise DocumentError([f"{name}: document: invalid JSON: {reason}"]) from None
    return value


def _unique(items: list[tuple[str, Any]]) -> dict[str, Any]:
    if len({key for key, _ in items}) != len(items):
        raise ValueError("a key appears twice in an object")
    return dict(items)


def _refuse_constant(text: str) -> None:
    raise ValueError(f"{text} is not valid in JSON")
