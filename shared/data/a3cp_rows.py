"""Rows of A3CP's files, as far as a trainer reads them: pydantic schemas that tolerate every other field."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, StrictBool, StringConstraints, model_validator

from shared.schema_utils import FeaturesRef, Fraction, Identifier, LabelStatus, Timestamp


class Governed(BaseModel):
    """Fields that A3CP may put on any row."""

    model_config = ConfigDict(frozen=True, extra="ignore")

    timestamp: Timestamp
    label_status: LabelStatus | None = None
    label_correction: str | None = None
    consent_given: StrictBool | None = None
    is_demo: StrictBool | None = None
    performer_id: Identifier | None = None
    context: dict[str, Any] | None = None

    @property
    def surroundings(self) -> dict[str, Any]:
        """Where it was and what was said, as far as the row says."""
        return self.context or {}


class Event(Governed):
    """What every event of a session log has, and what a trainer reads from some."""

    schema_version: Annotated[str, StringConstraints(pattern=r"^\d{1,6}\.\d{1,6}\.\d{1,6}$")]
    record_id: Identifier
    user_id: Identifier
    session_id: Identifier | None = None
    modality: str | None = None
    source: str | None = None
    event: str | None = None
    final_label: str | None = None
    capture_id: Identifier | None = None
    context_location: str | None = None  # these three are what messages have in the place of `context`
    context_partner_speech: str | None = None
    context_prompt_type: str | None = None

    @property
    def surroundings(self) -> dict[str, Any]:
        """Where it was and what was said, as far as the event says."""
        values = {
            "location": self.context_location,
            "partner_speech": self.context_partner_speech,
            "prompt_type": self.context_prompt_type,
        }
        return {**(self.context or {}), **{name: value for name, value in values.items() if value is not None}}


class SpeechMessage(BaseModel):
    """A message of modality `speech` in a session log: one finalised transcript."""

    model_config = ConfigDict(frozen=True, extra="ignore")

    context_partner_speech: str
    confidence: Fraction | None = Field(default=None, validation_alias="ASR_confidence_score")
    language: Identifier | None = None
    is_partial: StrictBool = False


class Annotation(BaseModel):
    """What the person was asked for, or meant, when a capture was opened."""

    model_config = ConfigDict(frozen=True, extra="ignore")

    intent: str | None = None


class CaptureOpen(BaseModel):
    """`event: capture.open`."""

    model_config = ConfigDict(frozen=True, extra="ignore")

    annotation: Annotation | None = None


class FeaturesReady(BaseModel):
    """`event: raw_features.ready`."""

    model_config = ConfigDict(frozen=True, extra="ignore")

    capture_id: Identifier
    raw_features_ref: FeaturesRef


class SessionEvent(BaseModel):
    """`source: session_manager`: a session begins or ends."""

    model_config = ConfigDict(frozen=True, extra="ignore")

    start_time: Timestamp | None = None
    end_time: Timestamp | None = None
    is_training_data: StrictBool | None = None
    training_intent_label: str | None = None
    session_notes: str | None = None


class TrainingExample(Governed):
    """A row of `training_examples.jsonl`."""

    record_id: Identifier
    session_id: Identifier | None = None

    @model_validator(mode="before")
    @classmethod
    def _name_accepted_label(cls, raw: Any) -> Any:
        """Make a prediction that the partner accepted the final label, where the row does not repeat it."""
        if not isinstance(raw, dict) or raw.get("partner_action") != "accept" or raw.get("final_label"):
            return raw
        return {**raw, "final_label": raw.get("label_correction") or raw.get("predicted_label")}


class FinalLabel(TrainingExample):
    """A label that a partner accepted or corrected."""

    capture_id: Identifier | None = None
    final_label: str | None = None
    partner_action: Literal["accept", "correct"] | None = None


class PartnerDecision(TrainingExample):
    """What a model predicted in use, and what the partner made of it: the same row as a FinalLabel."""

    modality: str
    predicted_label: str  # `unknown` where the model rejected the input
    final_label: str
    model_version: str | None = None


class Transcript(Governed):
    """One utterance, in `transcripts/session_<session>.jsonl`."""

    transcript: str
    session_id: Identifier
    user_id: Identifier
    record_id: Identifier | None = None
    capture_id: Identifier | None = None
    segment_id: Identifier | int | None = None
    confidence: Fraction | None = None
    language: Identifier | None = None
    is_partial: StrictBool = False
