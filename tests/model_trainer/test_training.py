"""What `train` returns, what it refuses and how it says so, and that it leaves nothing behind."""

from __future__ import annotations

import gc
import os
import tempfile
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from threadpoolctl import threadpool_info, threadpool_limits

from model_registry.errors import RegistryError
from model_registry.store import Registry
from model_trainer import ConfigError, DataError, QualityGateError, TrainerError, train
from shared.packaging.bundle import FILE_NAMES
from tests.model_trainer.labelled import LABELS, WIDTH, labelled, sample

FOUND = labelled(6)
TEXTS = ["tea please", "a cup of tea", "more tea", "we go out", "out to the park", "let us go out"] * 2
SPOKEN = {
    "samples": TEXTS,
    "labels": (["meal"] * 3 + ["outing"] * 3) * 2,
    "sessions": ["monday"] * 6 + ["tuesday"] * 6,
}
GATE = {"gate": {"minimum_accuracy": 0.99}}
NGRAMS = {"candidates": [{"features": "ngrams", "classifier": {"type": "lda"}}]}  # need no network


@pytest.fixture(autouse=True)
def temporary(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """The folder of temporary files; nothing is left in it once nothing refers to what was returned."""
    folder = tmp_path / "temporary files"
    folder.mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(folder))
    yield folder
    gc.collect()
    assert list(folder.iterdir()) == []


def refused(**changes: Any) -> TrainerError:
    """Return what training on FOUND with these arguments raises."""
    arguments: dict[str, Any] = {**FOUND.columns, "user_id": "ana", "consent": True, **changes}
    with pytest.raises(TrainerError) as raised:
        train(arguments.pop("modality", "gesture"), **arguments)
    return raised.value


def changed(place: int, content: object) -> list[Any]:
    return [content if k == place else value for k, value in enumerate(FOUND.samples)]


@pytest.mark.slow
def test_the_result_holds_metrics_card_log_and_model(temporary: Path) -> None:
    with train("gesture", **FOUND.columns, user_id="ana", consent=True) as result:
        assert (result.user_id, result.modality, result.labels) == ("ana", "gesture", tuple(sorted(LABELS)))
        assert result.metrics["accuracy"] > 0.9 and result.verdict in ("good", "weak")
        assert result.card.startswith("<!doctype html>") and "ana" in result.card
        assert result.log["sample_count"] == len(FOUND.samples) and result.log["status"] == "success"
        assert str(temporary) not in str(result.log)
        predictions = result.predict([sample("more", 900, 6), sample("no", 901, 6), np.full((6, WIDTH), 50.0)])
        assert [prediction.label for prediction in predictions] == ["more", "no", "unknown"]
        assert [prediction.accepted for prediction in predictions] == [True, True, False]
        assert result.predict(sample("yes", 902, 6)).scores["yes"] > 0.5
        (left,) = temporary.iterdir()  # the bundle; the recordings are gone
        assert left.stat().st_mode & 0o777 == 0o700
        assert {path.name for path in left.rglob("*") if path.is_file()} == {*FILE_NAMES.values(), "bundle.json"}
    with pytest.raises(AttributeError):
        result.verdict = "good"  # type: ignore[misc]


@pytest.mark.slow
def test_records_are_in_the_order_of_the_samples() -> None:
    with train("gesture", **FOUND.columns, user_id="ana", consent=True) as result:
        labels = {record: label for record, label, _ in result.log["metrics"]["predictions"]}
        assert [labels[record] for record in result.record_ids] == FOUND.labels


@pytest.mark.slow
def test_it_is_saved_and_published_as_often_as_one_likes(tmp_path: Path) -> None:
    with train("gesture", **FOUND.columns, user_id="ana", consent=True) as result:
        bundle = result.save(tmp_path / "out")
        assert (bundle / "model.onnx").read_bytes() == result.model_bytes
        assert refusal(lambda: result.save(tmp_path / "out")).endswith("exists already")
        published = [result.publish(tmp_path / "models") for _ in range(2)]
        assert [(one.version, one.status) for one in published] == [("v1", "active")] * 2
    later = train("gesture", **FOUND.columns, user_id="ana", consent=True)
    assert later.publish(Registry(tmp_path / "models"), promote="never").status == "candidate"
    assert Registry(tmp_path / "models").resolve("ana", "gesture").version == 1


@pytest.mark.slow
def test_what_was_closed_is_not_used_any_more(tmp_path: Path) -> None:
    with train("sound", **FOUND.columns, user_id="ana", consent=True) as result:
        assert refusal(lambda: result.publish(tmp_path / "models", promote="maybe")).startswith(
            "promote: 'maybe': must"
        )
    for use in (
        lambda: result.card,
        lambda: result.predict(FOUND.samples[0]),
        lambda: result.save(tmp_path),
        lambda: result.publish(tmp_path / "models"),
    ):
        assert refusal(use) == "the sound model of ana was closed; load it again"
    assert list(tmp_path.iterdir()) == [tmp_path / "temporary files"]


def refusal(call: Any) -> str:
    with pytest.raises((TrainerError, RegistryError)) as raised:
        call()
    return str(raised.value)


@pytest.mark.slow
def test_texts_are_samples_and_so_are_their_files(tmp_path: Path) -> None:
    files = []
    for k, text in enumerate(TEXTS):
        files.append(tmp_path / f"{k}.txt")
        files[-1].write_text(text)
    arguments: dict[str, Any] = {"user_id": "ana", "consent": True, "config": NGRAMS}
    of_texts = train("speech", **SPOKEN, **arguments)
    of_files = train("speech", **{**SPOKEN, "samples": files}, **arguments)
    assert of_texts.model_bytes == of_files.model_bytes
    assert of_texts.predict("some tea").scores == of_files.predict([*files[:1], "some tea"])[1].scores
    nothing = of_texts.predict("…")
    assert nothing.label == "unknown" and nothing.reason


@pytest.mark.slow
def test_a_default_model_is_trained_from_several_people() -> None:
    people = [("ana", "ben", "cem")[k % 3] for k in range(len(FOUND.samples))]
    with train("sound", **FOUND.columns, people=people, consent=True) as result:
        assert (result.user_id, result.log["users"]) == ("_default", ["ana", "ben", "cem"])
        labels = {record: label for record, label, _ in result.log["metrics"]["predictions"]}
        assert [labels[record] for record in result.record_ids] == FOUND.labels


class Frame:
    """As much of a data frame as matters: iterated, it gives its columns."""

    def __init__(self, rows: np.ndarray) -> None:
        self.rows = rows

    def __len__(self) -> int:
        return len(self.rows)

    def __iter__(self) -> Iterator[int]:
        return iter(range(self.rows.shape[1]))

    def to_numpy(self) -> np.ndarray:
        return self.rows


@pytest.mark.slow
def test_samples_may_be_the_rows_of_a_matrix_or_of_a_data_frame() -> None:
    vectors = labelled(None)
    matrix, labels, sessions = np.stack(vectors.samples), np.array(vectors.labels), np.array(vectors.sessions)
    given: list[Any] = [vectors.samples, matrix, Frame(matrix)]
    models = [train("sound", each, labels, sessions=sessions, user_id="ana", consent=True) for each in given]
    assert len({result.model_bytes for result in models}) == 1


@pytest.mark.slow
def test_the_configuration_is_a_mapping_or_a_file(tmp_path: Path) -> None:
    (tmp_path / "own.yaml").write_text("minimum_per_label: 3\nseed: 5\n")
    for config in (tmp_path / "own.yaml", str(tmp_path / "own.yaml"), {"minimum_per_label": 3, "seed": 5}):
        with train("sound", **FOUND.columns, user_id="ana", consent=True, config=config) as result:
            used = result.log["training_config"]
            assert (used["minimum_per_label"], used["seed"]) == (3, 5)


@pytest.mark.slow
def test_the_times_of_recording_are_those_given() -> None:
    times = [datetime(2025, 3, 1 + int(session[-1]), 12, tzinfo=UTC) for session in FOUND.sessions]
    with train("sound", **FOUND.columns, user_id="ana", consent=True, recorded=times) as result:
        days = [session["started"][:10] for session in result.log["timeline"]]
        assert days == ["2025-03-01", "2025-03-02", "2025-03-03"]


@pytest.mark.slow
@pytest.mark.parametrize(
    ("changes", "error", "said"),
    [
        ({"consent": False}, ConfigError, "consent: nothing is trained before ana agreed to it"),
        ({"user_id": None}, ConfigError, "user_id: name whose model to train"),
        ({"people": ["ana"] * 36}, ConfigError, "user_id: name whose model to train"),
        ({"people": ["ana"] * 36, "user_id": None}, ConfigError, "people: names one person; give user_id instead"),
        ({"people": ["ana", "b/c"] * 18, "user_id": None}, ConfigError, "people 'b/c': use 1 to 64 letters"),
        ({"user_id": "../x"}, ConfigError, "user_id '../x': use 1 to 64 letters"),
        ({"modality": "taste"}, ConfigError, "modality 'taste': must be one of"),
        ({"seed": -1}, ConfigError, "seed: seed: must be a whole number of at least 0"),
        ({"config": {"foo": 1}}, ConfigError, "config: foo: is not a known key"),
        ({"config": {"gate": {"minimum_accuracy": 2}}}, ConfigError, "config: gate.minimum_accuracy: must be a number"),
        ({"config": [1]}, ConfigError, "config: must be a path or a mapping, not list"),
        ({"samples": [], "labels": [], "sessions": []}, DataError, "samples: length: there is none"),
        ({"sessions": ["", *FOUND.sessions[1:]]}, DataError, "sessions[0]: value: is empty"),
        ({"labels": ["unknown"] * 36}, DataError, "samples[0]: label: 'unknown' is the prediction for a rejected"),
        ({"recorded": [datetime(2025, 3, 1)] * 36}, DataError, "samples[0]: timestamp: must carry a time zone"),
        ({"config": "nowhere.yaml"}, ConfigError, "nowhere.yaml: (whole): file not found"),
        ({"labels": FOUND.labels[:-1]}, DataError, "labels: length: 35 values for 36 samples; give one for each"),
        ({"sessions": [*FOUND.sessions, "day9"]}, DataError, "sessions: length: 37 values for 36 samples"),
        ({"labels": [*FOUND.labels[:-1], 3]}, DataError, "labels[35]: type: must be a text, not int"),
        ({"labels": ["yes"] * 36}, DataError, "samples: label: all gesture samples are 'yes'"),
        ({"labels": [*FOUND.labels[:-1], "x/\x07"]}, DataError, "samples[35]: label: "),
        ({"samples": changed(7, np.full((3, WIDTH), np.nan))}, DataError, "samples[7]: features: holds NaN"),
        ({"samples": changed(7, np.zeros((0, WIDTH)))}, DataError, "samples[7]: features: must be frames of numbers"),
        ({"samples": changed(7, {"a": 1})}, DataError, "samples[7]: features: must be numbers, a text or a path"),
        ({"samples": changed(7, [[1, 2], [3]])}, DataError, "samples[7]: features: must be numbers, a text or a path"),
        ({"samples": changed(7, FOUND.samples[7][:, :5])}, DataError, "samples: encoding: one gesture model needs one"),
        ({"samples": changed(7, "no.wav")}, DataError, "samples[7] (no.wav): (file): file not found"),
        ({"samples": changed(7, Path("no.npz"))}, DataError, "samples[7] (no.npz): (file): file not found"),
        (
            {"modality": "speech", **SPOKEN, "samples": ["\ud800", *TEXTS[1:]]},
            DataError,
            "samples[0]: transcript: holds",
        ),
        ({"labels": [*FOUND.labels[1:], "yes"], "config": GATE}, QualityGateError, "session-wise accuracy"),
    ],
)
def test_what_cannot_be_used_is_one_clear_line(changes: dict[str, Any], error: type, said: str) -> None:
    raised = refused(**changes)
    assert type(raised) is error
    assert str(raised).startswith(said) and "\n" not in str(raised), str(raised)


def test_every_fault_of_the_samples_is_said_at_once(tmp_path: Path) -> None:
    bad = [np.full((2, 3), np.inf) if k in (3, 11) else value for k, value in enumerate(FOUND.samples)]
    assert [fault.path for fault in refused(samples=bad).faults] == ["samples[11]", "samples[3]"]


def test_a_recording_that_training_refuses_is_named_by_its_place(tmp_path: Path) -> None:
    """Its place in the temporary folder would say nothing."""
    files = [tmp_path / f"\\{k}.wav" for k in range(6)]  # a backslash means something to regular expressions
    for k, file in enumerate(files):
        file.write_bytes(b"no sound %d" % k)
    raised = refused(modality="sound", samples=files, labels=["yes", "no"] * 3, sessions=["a", "a", "b", "b", "c", "c"])
    places = [fault.path for fault in raised.faults]
    assert places == [f"samples[{k}] ({file})" for k, file in enumerate(files)] and isinstance(raised, DataError)


@pytest.mark.slow
def test_a_text_under_two_labels_is_warned_of_at_its_place() -> None:
    texts = {**SPOKEN, "samples": [*TEXTS[:-1], TEXTS[0]]}
    config = NGRAMS | {"gate": {"beat_majority": False}}
    with train("speech", **texts, user_id="ana", consent=True, config=config) as result:
        (warning,) = [text for text in result.warnings if "label" in text]
        assert warning.startswith("samples")


def threads() -> dict[str, int]:
    """Return how many threads each library of numerics uses."""
    return {library["filepath"]: library["num_threads"] for library in threadpool_info()}


@pytest.mark.slow
def test_the_caller_keeps_arrays_threads_and_umask() -> None:
    array, mask = np.ascontiguousarray(FOUND.samples[0]), os.umask(0o22)
    try:
        with threadpool_limits(2):
            before = threads()
            train("sound", **{**FOUND.columns, "samples": changed(0, array)}, user_id="ana", consent=True)
            after = threads()
        assert os.umask(0o22) == 0o22
    finally:
        os.umask(mask)
    assert 2 in before.values() and {library: after[library] for library in before} == before
    assert array.flags.writeable
