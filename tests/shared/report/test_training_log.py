"""The training log entry of a finished run: what it was made of, what came out, and who labelled what."""

import json
from pathlib import Path

import pytest

from shared.report.training_log import evaluation_fields, training_log
from shared.schema_utils import logged_predictions
from tests.shared.finished_runs import finished_run


@pytest.fixture(scope="module")
def entry(tmp_path_factory: pytest.TempPathFactory) -> dict[str, object]:
    run = finished_run(tmp_path_factory.mktemp("out"), encoding="hands_xyz_v1")
    written: dict[str, object] = training_log(run).model_dump(mode="json")
    return json.loads(json.dumps(written, allow_nan=False))  # type: ignore[no-any-return]


def test_it_says_what_the_model_was_trained_on(entry: dict[str, object]) -> None:
    assert (entry["sample_count"], entry["session_count"]) == (24, 3)
    assert entry["sessions"] == ["s1", "s2", "s3"]
    assert entry["label_counts"] == {"come": 12, "stop": 12}
    assert entry["encoding"] == "hands_xyz_v1"
    assert entry["dropped"] == [{"record_id": "r900", "reason": "no consent", "path": "examples.jsonl", "line": 25}]


def test_it_says_who_labelled_a_session_and_what_recorded_it_and_nothing_private(entry: dict[str, object]) -> None:
    described = {"labeler_id": "carer01", "device": "tablet", "modality_versions": {"gesture": "2.1"}}
    assert entry["session_metadata"] == {"s1": described}


def test_every_prediction_confusion_and_mistake_is_listed(entry: dict[str, object]) -> None:
    predictions = logged_predictions(entry)
    assert len(predictions) == 24
    wrong = {record: pair for record, pair in predictions.items() if pair[0] != pair[1]}
    assert wrong == {"r005": ("stop", "come")}
    (mistake,) = entry["misclassified"]  # type: ignore[misc,attr-defined]
    assert (mistake["record_id"], mistake["label"], mistake["predicted"]) == ("r005", "stop", "come")
    metrics = entry["metrics"]
    assert isinstance(metrics, dict)
    (confusion,) = metrics["confusions"]
    assert (confusion["label"], confusion["predicted"], confusion["count"]) == ("stop", "come", 1)
    assert metrics["confusion_matrix"] == [[12, 0], [1, 11]]
    assert len(metrics["content_hashes"]) == 24 and metrics.keys() >= {"audit", "advice", "learning_curve"}


def test_what_is_known_before_the_gate_stands_in_the_log_under_the_same_names(
    entry: dict[str, object], tmp_path: Path
) -> None:
    run = finished_run(tmp_path)
    known = evaluation_fields(run.report, run.validation, run.dataset)
    assert entry.keys() >= known.keys()
    assert set(entry["metrics"]) == known["metrics"].keys() | {"audit", "advice"}  # type: ignore[call-overload]
    assert run.job.log.fields.keys() >= known.keys(), "judging records it"


def test_logs_of_old_versions_are_read() -> None:
    assert logged_predictions({"metrics": {"answers": [["r1", "a", "b"]]}}) == {"r1": ("a", "b")}
    assert logged_predictions({"metrics": {}}) == logged_predictions({}) == {}
