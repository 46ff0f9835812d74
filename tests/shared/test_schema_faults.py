"""Whatever pydantic refuses is said in our words: the key, the reason, and what would be valid."""

from __future__ import annotations

import math
from typing import Annotated, Any, Literal

import pytest
from pydantic import AwareDatetime, BaseModel, ConfigDict, Field, StrictBool, ValidationError

from shared.schema_faults import closest_first, faults_of, problems_of
from shared.schema_utils import (
    Example,
    HashReference,
    Identifier,
    KnownModality,
    SessionMetadata,
    TrainingLogEntry,
    TrainingRequest,
)


class _Schema(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class _Svm(_Schema):
    type: Literal["svm"]
    C: float = Field(default=1.0, gt=0, le=1000)
    kernel: Literal["linear", "rbf"] = "rbf"


class _Mlp(_Schema):
    type: Literal["mlp"]
    hidden_layer_sizes: tuple[Annotated[int, Field(ge=1)], ...] = (64,)


class _Candidate(_Schema):
    features: Literal["hand_shape", "body_motion"] | tuple[Literal["hand_shape", "body_motion"], ...]
    classifier: Annotated[_Svm | _Mlp, Field(discriminator="type")]


class _Window(_Schema):
    length: int = 7
    order: int = 2


class _Filter(_Schema):
    cutoff: float


class _Config(_Schema):
    seed: int = Field(default=0, ge=0, lt=100)
    strict: StrictBool = False
    since: AwareDatetime | None = None
    modality: KnownModality = "sound"
    candidates: tuple[_Candidate, ...] | None = Field(default=None, min_length=1)
    smoothing: _Window | _Filter | None = None
    encoder: str | _Filter = "lite0"
    encoders: dict[str, int] = {}
    tried: Literal["auto"] | Annotated[tuple[_Candidate, ...], Field(min_length=1)] = "auto"
    name: Identifier = "x"
    hash: HashReference | None = None
    shape: tuple[int, int] = (1, 1)
    window: _Window = _Window()
    ratio: float = Field(default=0.5, ge=0, allow_inf_nan=False)


def _said(values: dict[str, Any], schema: type[BaseModel] = _Config) -> dict[str, str]:
    with pytest.raises(ValidationError) as caught:
        schema.model_validate(values)
    return {fault.field: fault.reason for fault in faults_of(caught.value, schema, "f", None)}


def _candidate(**classifier: Any) -> dict[str, Any]:
    return {"candidates": [{"features": "hand_shape", "classifier": classifier}]}


@pytest.mark.parametrize(
    ("values", "field", "reason"),
    [
        ({"sed": 1}, "sed", "is not a known key; valid keys: seed, strict, since, modality, candidates, "),
        ({"seed": "many"}, "seed", "must be a whole number of at least 0 and below 100, not 'many'"),
        ({"seed": -1}, "seed", "must be a whole number of at least 0 and below 100, not -1"),
        ({"strict": "on"}, "strict", "must be true or false, not 'on'"),
        (
            {"since": "yesterday"},
            "since",
            "must be a time with its zone, as in 2026-03-01T10:00:00Z, or null, not 'yesterday'",
        ),
        ({"since": "2026-03-01T10:00:00"}, "since", "must carry a time zone, as in 2026-03-01T10:00:00.000Z"),
        ({"modality": "smell"}, "modality", "modality 'smell': must be one of gesture, sound, speech"),
        ({"window": {"lenght": 3}}, "window.lenght", "is not a known key; valid keys: length, order"),
        ({"window": 3}, "window", "must be a section with the keys length, order, not 3"),
        ({"encoders": {"a": "x"}}, "encoders.a", "must be a whole number, not 'x'"),
        ({"name": ""}, "name", "must be text of 1 to 128 characters, not ''"),
        ({"hash": "md5:1"}, "hash", "must be 'sha256:' and a SHA-256 as 64 lower-case hexadecimal digits"),
        ({"shape": [1, "b"]}, "shape.1", "must be a whole number, not 'b'"),
        ({"shape": [1]}, "shape.1", "is missing; it must be a whole number"),
        ({"shape": "wide"}, "shape", "must be a list of 2 values, not 'wide'"),
        ({"ratio": math.inf}, "ratio", "must be a finite number, not Infinity"),
        (
            {"candidates": []},
            "candidates",
            "must be a list of at least 1, each a section with the keys features, ",
        ),
        (
            {"candidates": "svm"},
            "candidates",
            "must be a list of at least 1, each a section with the keys features, ",
        ),
        (_candidate(type="svm", c=1), "candidates.0.classifier.c", "is not a known key; valid keys: C, type, kernel"),
        (_candidate(type="svm", C=0), "candidates.0.classifier.C", "must be a number above 0 and at most 1000, not 0"),
        (_candidate(type="svm", kernel="rbg"), "candidates.0.classifier.kernel", "must be one of rbf, linear, not"),
        (_candidate(type="svn"), "candidates.0.classifier.type", "must be one of svm, mlp, not 'svn'"),
        (_candidate(C=1), "candidates.0.classifier.type", "is missing; it must be one of mlp, svm"),
        (
            _candidate(type="mlp", hidden_layer_sizes=[8, 0]),
            "candidates.0.classifier.hidden_layer_sizes.1",
            "must be a whole number of at least 1, not 0",
        ),
        (
            {"candidates": [{"features": "hand_shape", "classifier": "svm"}]},
            "candidates.0.classifier",
            "must be a section whose type is one of svm, mlp, not 'svm'",
        ),
        (
            {"candidates": [{"features": "hand_shaep", "classifier": {"type": "svm"}}]},
            "candidates.0.features",
            "must be one of hand_shape, body_motion, or a list, each one of hand_shape, body_motion, not 'hand_shaep'",
        ),
        (
            {"smoothing": True},
            "smoothing",
            "must be a section with the keys length, order, or a section with the keys cutoff, or null, not true",
        ),
        ({"smoothing": {"cutof": 1.0, "cutoff": 1.0}}, "smoothing.cutof", "is not a known key; valid keys: cutoff"),
        ({"smoothing": {"length": "x"}}, "smoothing.length", "must be a whole number, not 'x'"),
        ({"tried": "atuo"}, "tried", "must be auto, or a list of at least 1, each a section with the keys features, "),
        ({"tried": []}, "tried", "must be auto, or a list of at least 1, each a section with the keys features, "),
        (
            {"tried": [{"features": "hand_shape", "classifier": {"type": "svn"}}]},
            "tried.0.classifier.type",
            "must be one of svm, mlp, not 'svn'",
        ),
        (
            {"tried": [{"features": "hand_shape", "classifier": {"type": "svm", "c": 1}}]},
            "tried.0.classifier.c",
            "is not a known key; valid keys: C, type, kernel",
        ),
        ({"encoder": 5}, "encoder", "must be text, or a section with the keys cutoff, not 5"),
        ({"encoder": {"cutoff": "x"}}, "encoder.cutoff", "must be a number, not 'x'"),
    ],
)
def test_a_wrong_key_or_value_is_named_with_what_would_be_valid(
    values: dict[str, Any], field: str, reason: str
) -> None:
    said = _said(values)
    assert said.keys() == {field}
    assert said[field].startswith(reason)


def test_all_faults_are_found_at_once_each_key_once() -> None:
    said = _said({"sed": 1, "strict": 2, "window": {"length": None, "x": 1}, **_candidate(type="x")})
    assert list(said) == ["strict", "candidates.0.classifier.type", "window.length", "window.x", "sed"]


@pytest.mark.parametrize(
    ("schema", "values"),
    [
        (Example, {"record_id": 5, "timestamp": 1, "modality": "x", "media": "a.wav", "colour": 1, "box": {"x": "a"}}),
        (SessionMetadata, {"user_id": "", "start_time": "x", "modality_versions": {"sound": 1}}),
        (TrainingRequest, {"user_id": None, "modality": 5, "timestamp": []}),
        (TrainingLogEntry, {"status": "ok", "sample_count": -1, "training_metrics": {"a": math.nan}}),
    ],
)
def test_no_word_of_pydantic_reaches_a_person(schema: type[BaseModel], values: dict[str, Any]) -> None:
    with pytest.raises(ValidationError) as caught:
        schema.model_validate(values)
    problems = problems_of(caught.value, schema)
    assert {problem.key for problem in problems} == {tuple(detail["loc"]) for detail in caught.value.errors()}
    for detail in caught.value.errors():
        assert detail["msg"].lower() not in " ".join(problem.reason for problem in problems).lower()
    assert not [p.reason for p in problems if "nput should" in p.reason or "ield required" in p.reason]


def test_broken_json_is_one_fault() -> None:
    with pytest.raises(ValidationError) as caught:
        TrainingRequest.model_validate_json('{"user_id": ')
    (fault,) = faults_of(caught.value, TrainingRequest, "f", 3)
    assert (fault.line, fault.field) == (3, "(line)")
    assert fault.reason.startswith("is not readable JSON: EOF")


def test_hostile_keys_and_values_are_printable_and_short() -> None:
    said = _said({"a\nb": 1, "seed": "x" * 1000, "strict": ["y" * 1000]})
    assert "'a\\nb'" in said
    assert all(text.isprintable() and len(text) < 400 for pair in said.items() for text in pair)


def test_the_closest_name_comes_first_and_the_others_keep_their_order() -> None:
    assert closest_first(["folds", "unknown", "seed"], "sed") == ["seed", "folds", "unknown"]
    assert closest_first(["folds", "unknown"], "xyz") == ["folds", "unknown"]
    assert closest_first([], "x") == []
