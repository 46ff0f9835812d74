"""What an example, a session and a training log entry consist of: pydantic schemas, frozen, checked on entry.

The names are A3CP's. Schemas of our own files refuse unknown fields, so that a misspelt one is found; what A3CP
writes may carry more fields than are known here (see `shared.data.a3cp`).
"""

from __future__ import annotations

import json
import math
import re
import unicodedata
from datetime import UTC, date, datetime
from typing import Annotated, Any, Literal, Self

from pydantic import (
    AfterValidator,
    AwareDatetime,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    FiniteFloat,
    JsonValue,
    PlainSerializer,
    StrictBool,
    StringConstraints,
    model_validator,
)

from model_registry.names import MODALITY_PATTERN, Modality, parse_user
from model_registry.storage.comparison import logged_predictions
from model_registry.timestamps import format_time
from shared.trainers import parse_known_modality

SCHEMA_VERSION = "1.0.0"
UNKNOWN = "unknown"  # the prediction for an input that a model rejects; never a trained label
BACKGROUND = "background"  # the label of recordings that hold none of the labels; never a prediction
LABEL_STATUSES = ("unconfirmed", "confirmed", "corrected", "rejected")

_PRINTABLE_LENGTH = 128
_REQUEST_LIMIT = 32 << 10  # bytes of a request's training_config


_JOINERS = dict.fromkeys(map(ord, "\u200c\u200d"))  # parts of words in Persian and Hindi, and of many emoji


def _printable(text: str) -> str:
    if not text.isprintable():
        raise ValueError("holds characters that cannot be printed")
    return text


def _printable_words(text: str) -> str:
    without_joiners = text.translate(_JOINERS)
    if not without_joiners:
        raise ValueError("holds no character that is visible")
    _printable(without_joiners)
    return text


def _label(text: str) -> str:
    """Return the label in Unicode's composed form, so that the same word typed on two systems is one label."""
    text = unicodedata.normalize("NFC", text)
    if text.casefold() == UNKNOWN:
        raise ValueError(f"'{UNKNOWN}' is the prediction for a rejected input; choose another label")
    return text


def _relative(path: str) -> str:
    """Return `path` if it stays in the folder that it is relative to, as far as its text says."""
    if not path.isprintable() or "\\" in path or path.startswith("/") or re.match(r"[A-Za-z]:", path):
        raise ValueError("must be a path relative to the session folder, with '/' between its parts")
    if any(part in ("", ".", "..") for part in path.split("/")):
        raise ValueError("must not hold '..', '.' or empty parts")
    return path


def _json_object(value: dict[str, JsonValue]) -> dict[str, JsonValue]:
    """Return `value` if JSON can hold it and a command line can carry it."""
    try:
        text = json.dumps(value, allow_nan=False)
    except ValueError:
        raise ValueError("holds a number that is not finite") from None
    if len(text) > _REQUEST_LIMIT:
        raise ValueError(f"is larger than {_REQUEST_LIMIT >> 10} KiB")
    return value


def _utc(moment: datetime) -> datetime:
    return moment.astimezone(UTC)


def _start_of_day(value: Any) -> Any:
    """Return midnight UTC for a bare date, and `value` itself otherwise: parsing is pydantic's."""
    if isinstance(value, str) and re.fullmatch(r"\d{4}-\d{2}-\d{2}", value.strip()):
        return f"{value.strip()}T00:00:00Z"
    if isinstance(value, date) and not isinstance(value, datetime):
        return datetime(value.year, value.month, value.day, tzinfo=UTC)
    return value


def utc_text(moment: datetime) -> str:
    """Return a moment as A3CP writes it: UTC, milliseconds, `Z`."""
    return format_time(moment)


Identifier = Annotated[str, StringConstraints(min_length=1, max_length=_PRINTABLE_LENGTH), AfterValidator(_printable)]
Label = Annotated[
    str,
    StringConstraints(strip_whitespace=True, min_length=1, max_length=_PRINTABLE_LENGTH),
    AfterValidator(_printable_words),
    AfterValidator(_label),
]
ShortText = Annotated[str, StringConstraints(max_length=2000)]
KnownModality = Annotated[
    Modality, StringConstraints(pattern=f"^{MODALITY_PATTERN}$"), BeforeValidator(parse_known_modality)
]
Timestamp = Annotated[AwareDatetime, AfterValidator(_utc), PlainSerializer(utc_text, when_used="json")]
Moment = Annotated[Timestamp, BeforeValidator(_start_of_day)]
Sha256 = Annotated[str, StringConstraints(pattern=r"^[0-9a-f]{64}$")]
HashReference = Annotated[str, StringConstraints(pattern=r"^sha256:[0-9a-f]{64}$")]
RelativePath = Annotated[str, StringConstraints(min_length=1, max_length=1024), AfterValidator(_relative)]
LabelStatus = Literal["unconfirmed", "confirmed", "corrected", "rejected"]
Fraction = Annotated[float, Field(ge=0, le=1, allow_inf_nan=False)]


class Schema(BaseModel):
    """Root of our own schemas: values that do not change, with no unknown field."""

    model_config = ConfigDict(frozen=True, extra="forbid")


class FileRef(Schema):
    """A media file (wav, JPEG, mp4, …), relative to the session folder."""

    path: RelativePath
    sha256: Sha256


class FeaturesRef(BaseModel):
    """A file of ready features, in the words of A3CP's `raw_features_ref`: array `features`, (T, D)."""

    model_config = ConfigDict(frozen=True, extra="ignore")

    uri: Annotated[str, StringConstraints(min_length=1, max_length=1024), AfterValidator(_printable)]
    hash: HashReference
    encoding: Identifier
    shape: tuple[Annotated[int, Field(ge=1)], Annotated[int, Field(ge=1)]]
    dtype: Literal["float16", "float32", "float64"] = "float32"
    format: Literal["npz", "json"] = "npz"

    @property
    def sha256(self) -> str:
        return self.hash.removeprefix("sha256:")


class Box(Schema):
    """A region of an upright image, in fractions of its width and height: (0, 0) is the upper left corner."""

    x: Fraction
    y: Fraction
    width: Annotated[float, Field(gt=0, le=1)]
    height: Annotated[float, Field(gt=0, le=1)]

    @model_validator(mode="after")
    def _inside(self) -> Self:
        if self.x + self.width > 1 + 1e-6 or self.y + self.height > 1 + 1e-6:
            raise ValueError("the box must lie inside the image: x + width and y + height are at most 1")
        return self


class Example(Schema):
    """One labelled sample of one modality in one session: one line of `examples.jsonl`.

    Exactly one of `media`, `features` and `transcript` says what the sample is.
    """

    record_id: Identifier
    user_id: Identifier
    session_id: Identifier
    timestamp: Timestamp
    modality: KnownModality
    label: Label
    label_status: LabelStatus = "unconfirmed"
    performer_id: Identifier | None = None
    consent_given: StrictBool = False
    is_demo: StrictBool = False

    media: FileRef | None = None
    features: FeaturesRef | None = None
    transcript: Annotated[str, StringConstraints(max_length=20_000)] | None = None

    onset: Annotated[FiniteFloat, Field(ge=0)] | None = None  # seconds from the start of the media file
    offset: Annotated[FiniteFloat, Field(gt=0)] | None = None  # seconds from the start of the media file
    box: Box | None = None
    confidence: Fraction | None = None  # of the speech recogniser that wrote the transcript
    language: Identifier | None = None
    partner_speech: ShortText | None = None
    location: ShortText | None = None
    prompt_type: ShortText | None = None
    is_partial: StrictBool = False

    @model_validator(mode="after")
    def _one_content(self) -> Self:
        given = [name for name in ("media", "features", "transcript") if getattr(self, name) is not None]
        if len(given) != 1:
            given_names = " and ".join(given) or "none"
            raise ValueError(f"exactly one of media, features and transcript is needed; given: {given_names}")
        if self.transcript is not None and not self.transcript.strip():
            raise ValueError("the transcript is empty")
        if self.offset is not None and self.offset <= (self.onset or 0.0):
            raise ValueError("offset must be later than onset")
        return self


class SessionMetadata(BaseModel):
    """One recording session: `session.json`. Further fields are kept, for whoever keeps the records."""

    model_config = ConfigDict(frozen=True, extra="allow")

    user_id: Identifier
    session_id: Identifier
    session_name: ShortText | None = None  # what its source calls it, where that cannot be an id
    start_time: Timestamp | None = None
    end_time: Timestamp | None = None
    labeler_id: Identifier | None = None
    performer_id: Identifier | None = None
    device: ShortText | None = None
    modality_versions: dict[str, str] = Field(default_factory=dict)  # modality -> version of what recorded it
    notes: str | None = None
    is_training_data: StrictBool | None = None
    training_intent_label: str | None = None


class TrainingRequest(BaseModel):
    """One request to train or retrain a model, as A3CP's trainer and job queue write it; further fields are ignored.

    `training_config` asks for a model: `model_type`, `architecture`, `hyperparameters`, `feature_set`. A trainer
    follows it or refuses it; it never trains something else instead.
    """

    model_config = ConfigDict(frozen=True, extra="ignore", protected_namespaces=())

    user_id: Annotated[str, AfterValidator(parse_user)]
    modality: KnownModality
    timestamp: Timestamp | None = None
    training_config: Annotated[dict[str, JsonValue], AfterValidator(_json_object)] = Field(default_factory=dict)
    retrain_reason: ShortText = ""
    latest_model_version: ShortText | None = None
    policy_config_version: ShortText | None = None

    def to_json(self) -> str:
        """Return the request on one line, without fields that it leaves at their defaults."""
        return self.model_dump_json(exclude_defaults=True)

    def log_fields(self) -> dict[str, Any]:
        """Return what the training log entry of a run that fulfils this request says of it."""
        return {
            "retrain_reason": self.retrain_reason or None,
            "policy_config_version": self.policy_config_version,
            "requested_training_config": dict(self.training_config) or None,
        }


class TrainingLogEntry(BaseModel):
    """What one training run was: A3CP's training log entry with our own fields beside its required ones.

    `training_metrics` holds finite floats only, because A3CP refuses anything else; intervals and tables are in
    `metrics`.
    """

    model_config = ConfigDict(frozen=True, extra="allow", protected_namespaces=())

    schema_version: str = SCHEMA_VERSION
    user_id: str
    modality: str
    timestamp: Timestamp
    sample_count: Annotated[int, Field(ge=0)] = 0
    training_config: dict[str, Any] = Field(default_factory=dict)
    training_metrics: dict[str, FiniteFloat] | None = None
    status: Literal["success", "failure", "partial"]
    error_trace: str | None = None
    model_artifact_path: str = ""
    label_encoder_path: str = ""
    model_version: str | None = None

    run_id: str = ""
    bundle: str = ""
    stage: str | None = None
    error_type: str | None = None
    error_message: str | None = None
    seconds: dict[str, FiniteFloat] = Field(default_factory=dict)  # stage -> seconds
    session_count: Annotated[int, Field(ge=0)] = 0
    metrics: dict[str, Any] = Field(default_factory=dict)
    verdict: str | None = None

    retrain_reason: str | None = None  # these three are those of the request that asked for the training
    policy_config_version: str | None = None
    requested_training_config: dict[str, Any] | None = None


def finite_floats(metrics: dict[str, Any]) -> dict[str, float]:
    """Return the entries of `metrics` that A3CP's `training_metrics` may hold: finite numbers, as floats."""
    return {
        name: float(value)
        for name, value in metrics.items()
        if isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)
    }


__all__ = [
    "BACKGROUND",
    "LABEL_STATUSES",
    "SCHEMA_VERSION",
    "UNKNOWN",
    "Box",
    "Example",
    "FeaturesRef",
    "FileRef",
    "LabelStatus",
    "SessionMetadata",
    "TrainingLogEntry",
    "TrainingRequest",
    "finite_floats",
    "logged_predictions",
    "utc_text",
]
