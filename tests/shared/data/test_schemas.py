"""What the schemas accept, refuse and write."""

from __future__ import annotations

import math
from typing import Any

import pytest
from pydantic import ValidationError

from shared.schema_faults import faults_of
from shared.schema_utils import Example, TrainingLogEntry, TrainingRequest, finite_floats

EXAMPLE = {
    "record_id": "r1",
    "user_id": "anna",
    "session_id": "s1",
    "timestamp": "2026-03-01T11:00:00+01:00",
    "modality": "speech_context",
    "label": " eat ",
    "transcript": "I want to eat",
}
HASH = "0" * 64


def faults(**changes: Any) -> dict[str, str]:
    value = {key: item for key, item in (EXAMPLE | changes).items() if item is not None}
    with pytest.raises(ValidationError) as caught:
        Example.model_validate(value)
    return {fault.field: fault.reason for fault in faults_of(caught.value, Example, "f", 1)}


def test_an_example_is_normalised_and_written_as_a3cp_writes() -> None:
    example = Example.model_validate(EXAMPLE)
    written = example.model_dump(mode="json")
    assert written["timestamp"] == "2026-03-01T10:00:00.000Z"
    assert written["modality"] == "speech"
    assert written["label"] == "eat"
    assert example.label_status == "unconfirmed"
    assert example.consent_given is False
    assert Example.model_validate_json(example.model_dump_json()) == example


def test_the_same_word_in_both_unicode_forms_is_one_label() -> None:
    forms = ["caf\u00e9", "cafe\u0301"]
    assert len({Example.model_validate(EXAMPLE | {"label": form}).label for form in forms}) == 1


@pytest.mark.parametrize(
    ("changes", "field"),
    [
        ({"label": ""}, "label"),
        ({"label": "  "}, "label"),
        ({"label": "a\nb"}, "label"),
        ({"label": "unknown"}, "label"),
        ({"label": 5}, "label"),
        ({"consent_given": "yes"}, "consent_given"),
        ({"timestamp": "yesterday"}, "timestamp"),
        ({"confidence": 1.5}, "confidence"),
        ({"onset": -1}, "onset"),
        ({"onset": 2.0, "offset": 1.0}, "(line)"),
        ({"onset": math.inf}, "onset"),
        ({"transcript": None}, "(line)"),
        ({"transcript": " "}, "(line)"),
        ({"media": {"path": "a.wav", "sha256": HASH}}, "(line)"),
        ({"transcript": None, "media": {"path": "../a.wav", "sha256": HASH}}, "media.path"),
        ({"transcript": None, "media": {"path": "/a.wav", "sha256": HASH}}, "media.path"),
        ({"transcript": None, "media": {"path": "a\\b.wav", "sha256": HASH}}, "media.path"),
        ({"transcript": None, "media": {"path": "a.wav", "sha256": "x"}}, "media.sha256"),
        ({"box": {"x": 0.5, "y": 0, "width": 0.6, "height": 1}}, "box"),
        ({"box": {"x": 10, "y": 0, "width": 0.6, "height": 1}}, "box.x"),
        ({"colour": "red"}, "colour"),
        ({"a b\n": "red"}, "'a b\\n'"),
    ],
)
def test_what_an_example_must_not_be(changes: dict[str, Any], field: str) -> None:
    assert field in faults(**changes)


def test_a_training_log_entry_carries_what_a3cp_requires_also_on_failure() -> None:
    entry = TrainingLogEntry.model_validate(
        {"user_id": "anna", "modality": "gesture", "timestamp": "2026-03-01T10:00:00Z", "status": "failure", "extra": 1}
    )
    written = entry.model_dump(mode="json")
    assert written["model_artifact_path"] == ""
    assert written["label_encoder_path"] == ""
    assert written["sample_count"] == 0
    assert written["training_config"] == {}
    assert written["extra"] == 1
    assert written["schema_version"].count(".") == 2


@pytest.mark.parametrize("metrics", [{"accuracy": math.nan}, {"accuracy": "high"}, {"accuracy": [0.1, 0.2]}])
def test_training_metrics_are_finite_floats(metrics: dict[str, Any]) -> None:
    base = {"user_id": "a", "modality": "gesture", "timestamp": "2026-03-01T10:00:00Z", "status": "success"}
    with pytest.raises(ValidationError):
        TrainingLogEntry.model_validate(base | {"training_metrics": metrics})
    assert finite_floats({**metrics, "f1": 1, "flag": True}) == {"f1": 1.0}


def test_a_retraining_request_of_a3cp_is_read() -> None:
    request = TrainingRequest.model_validate(
        {
            "user_id": "anna",
            "modality": "audio",
            "timestamp": "2026-03-01T10:00:00Z",
            "retrain_reason": "50 new samples",
            "policy_config_version": "1.0.0",
            "something_new": 5,
        }
    )
    assert request.modality == "sound"
    assert request.latest_model_version is None
