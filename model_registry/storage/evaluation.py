"""How a version was evaluated, as far as its training log says so and pages show it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, FiniteFloat, NonNegativeInt, TypeAdapter, ValidationError

from model_registry.errors import RegistryError
from model_registry.storage.entry import FILE_LIMIT, parse_json

Share = Annotated[FiniteFloat, Field(ge=0, le=1)]


class LabelEvaluation(BaseModel):
    """One label's recall and precision on held-out samples; other fields of the log are ignored."""

    model_config = ConfigDict(frozen=True)

    label: str
    recall: Share
    recall_low: Share | None = None
    recall_high: Share | None = None
    precision: Share | None = None
    support: NonNegativeInt = 0
    sessions: NonNegativeInt = 0
    within_session: bool = False


@dataclass(frozen=True)
class Evaluation:
    """What a training log says of its model; what it does not say is left empty."""

    reasons: tuple[str, ...] = ()  # of the verdict
    advice: tuple[str, ...] = ()
    labels: tuple[LabelEvaluation, ...] = ()
    scheme: str = ""
    unit: Literal["session", "person"] = "session"

    @property
    def on_unseen(self) -> bool:
        """Whether the model was tested on sessions or people that it was not trained on, so that intervals hold."""
        return self.scheme != "within-session"


def read_evaluation(log: bytes) -> Evaluation:
    """Return what the bytes of a training log say; a log of another shape says nothing."""
    try:
        document = parse_json(log, "training log", FILE_LIMIT)
    except RegistryError:
        return Evaluation()
    metrics = document.get("metrics") if isinstance(document, Mapping) else None
    if not isinstance(metrics, Mapping):
        return Evaluation()
    return Evaluation(
        reasons=_valid(tuple[str, ...], metrics.get("verdict_reasons"), ()),
        advice=_valid(tuple[str, ...], metrics.get("advice"), ()),
        labels=_valid(tuple[LabelEvaluation, ...], metrics.get("labels"), ()),
        scheme=_valid(str, metrics.get("validation"), ""),
        unit=_valid(Literal["session", "person"], metrics.get("validated_by"), "session"),
    )


def _valid(kind: Any, value: object, otherwise: Any) -> Any:
    try:
        return TypeAdapter(kind).validate_python(value)
    except ValidationError:
        return otherwise
