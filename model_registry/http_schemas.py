"""What client and service send each other over HTTP; the OpenAPI document is made of these."""

from __future__ import annotations

from typing import Annotated, Any

from pydantic import Field, JsonValue, SerializerFunctionWrapHandler, StringConstraints, model_serializer

from model_registry.storage.encoders import FileName, Sha256
from model_registry.storage.entry import Document, Event, RegistryEntry, StoredFile, UserId

Reason = Annotated[str, StringConstraints(max_length=500)]
GivenReason = Annotated[str, StringConstraints(min_length=1, max_length=500)]
VersionName = Annotated[str, StringConstraints(pattern=r"^v?[1-9][0-9]{0,8}$")]


class _Extended(Document):
    """A response that has got a field since clients were released that refuse unknown ones: empty, it is left out."""

    @model_serializer(mode="wrap")
    def _without_empty(self, serialise: SerializerFunctionWrapHandler) -> dict[str, Any]:
        fields: dict[str, Any] = serialise(self)
        return {name: value for name, value in fields.items() if name not in ("damaged", "pooled", "copies") or value}


class PublishResponse(Document):
    """What a bundle was published as."""

    entry: RegistryEntry
    created: bool


class UploadResponse(Document):
    """An upload that has begun, or what its run was published as before."""

    id: str
    missing_files: tuple[str, ...]  # roles
    missing_encoders: tuple[Sha256, ...]
    published: PublishResponse | None = None


class ResolveResponse(Document):
    """The version to use."""

    user_id: UserId
    fallback: bool
    entry: RegistryEntry
    files: dict[str, StoredFile]  # role -> file; download from …/versions/<version>/files/<role>
    encoders: dict[Sha256, dict[FileName, Sha256]]  # sha256 -> file name -> sha256; from /v1/encoders/<sha256>/<name>


class VersionResponse(Document):
    """A version and what happened to it."""

    entry: RegistryEntry
    history: tuple[Event, ...]


class DamageResponse(Document):
    """A version that is damaged, or without a number all versions of a user and modality."""

    user_id: UserId
    modality: str
    version: int | None
    reason: str


class ListResponse(_Extended):
    """One page of versions; `next` is the value of `after` for the following page.

    `damaged`, which is left out where it is empty, lists what is missing from the page because it is damaged.
    """

    entries: tuple[RegistryEntry, ...]
    next: str | None
    damaged: tuple[DamageResponse, ...] = ()


class Change(Document):
    """A value in both versions; null where a version has none."""

    before: JsonValue
    after: JsonValue


class DiffResponse(Document):
    """What changed from one version to another."""

    before: str
    after: str
    metrics: dict[str, Change]
    labels_gained: tuple[str, ...]
    labels_lost: tuple[str, ...]
    config: dict[str, Change]
    facts: dict[str, Change]
    sessions: dict[str, Change]


class VerifyResponse(Document):
    """How many versions were checked, and which differ: version -> what is wrong."""

    checked: int
    faults: dict[str, str]


class ActiveVersionResponse(Document):
    """Which version is active now, and which was before."""

    before: int | None
    active: int | None


class CollectResponse(Document):
    """What a garbage collection removed, or would remove."""

    versions: tuple[str, ...]
    encoders: tuple[Sha256, ...]
    bytes: int


class FindingResponse(Document):
    """One thing that doctor found."""

    what: str
    mended: bool


class EraseResponse(_Extended):
    """That a user's models were removed, the `pooled` ones that contained them, and where `copies` of them are."""

    id: str
    versions: int
    pooled: tuple[str, ...] = ()
    copies: tuple[str, ...] = ()


class ReindexResponse(Document):
    """Whether anything had to be changed."""

    changed: bool


class PromoteRequest(Document):
    """Which version to make the active one."""

    version: VersionName
    reason: Reason = ""


class RollbackRequest(Document):
    """Why to roll back."""

    reason: GivenReason


class ArchiveRequest(Document):
    """Which version to take out of use."""

    version: VersionName
    reason: Reason = ""
    withdraw: bool = False


class EraseRequest(Document):
    """Why to erase, without naming the person."""

    reason: GivenReason


class CollectRequest(Document):
    """How many archived versions to keep of each user and modality."""

    keep: Annotated[int, Field(ge=0, le=1_000_000)] = 5
    dry_run: bool = False
