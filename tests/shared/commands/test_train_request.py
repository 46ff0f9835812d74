"""A trainer's `--request`: followed or refused, and in the training log of the run that fulfils it."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from shared.commands.main import run
from shared.commands.train import trainer_command
from shared.recipe import load_recipe
from shared.schema_utils import TrainingLogEntry
from shared.trainers import find_trainer

GESTURE = find_trainer("gesture")
REQUEST = {
    "user_id": "ana",
    "modality": "gesture",
    "timestamp": "2026-03-01T12:00:00.000Z",
    "retrain_reason": "High clarification rate (0.23 > 0.15)",
    "latest_model_version": "v6",
    "policy_config_version": "v1.0.0",
}
FIELDS = ("retrain_reason", "policy_config_version", "requested_training_config")
Train = Callable[..., tuple[int, dict[str, Any]]]


@pytest.fixture
def train(demo_data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> Train:
    """Return a function that trains ana's gestures with some options, and returns exit code and log entry."""

    def train(*words: str) -> tuple[int, dict[str, Any]]:
        command = trainer_command(GESTURE, load_recipe(GESTURE))
        places = ["--data", str(demo_data), "--out", str(tmp_path / "out"), "--demo-data", "--user", "ana"]
        code = run(lambda: command([*places, "--set", "evaluation.folds=2", *words], standalone_mode=False))
        return code, json.loads(capsys.readouterr().out)

    return train


def request(**fields: Any) -> tuple[str, str]:
    return "--request", json.dumps(REQUEST | fields)


@pytest.mark.slow
def test_the_log_says_why_and_after_which_policy_a_model_was_trained(train: Train) -> None:
    code, entry = train(*request())
    assert code == 0
    assert [entry[name] for name in FIELDS] == [REQUEST["retrain_reason"], "v1.0.0", None]
    stored = TrainingLogEntry.model_validate_json((Path(entry["bundle"]) / "training_log.json").read_bytes())
    assert (stored.retrain_reason, stored.policy_config_version) == (REQUEST["retrain_reason"], "v1.0.0")
    code, plain = train()
    assert code == 0 and [plain[name] for name in FIELDS] == [None, None, None]
    assert plain["job_fingerprint"] == entry["job_fingerprint"], "a reason changes no model"


@pytest.mark.slow
def test_what_a_trainer_has_not_is_refused_and_nothing_is_trained(train: Train, tmp_path: Path) -> None:
    wanted = {"model_type": "transformer", "hyperparameters": {"layers": 12}}
    code, entry = train(*request(training_config=wanted))
    assert (code, entry["status"], entry["error_type"]) == (2, "failure", "ConfigError")
    assert entry["error_message"].startswith("training_config: ")
    assert [entry[name] for name in FIELDS] == [REQUEST["retrain_reason"], "v1.0.0", wanted]
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["failures"]


@pytest.mark.slow
def test_a_requested_model_is_the_one_that_is_trained(train: Train) -> None:
    _, plain = train(*request())
    wanted = {"model_type": "LogReg", "hyperparameters": {"C": 0.5}, "feature_set": "body_motion"}
    code, entry = train(*request(training_config=wanted))
    assert code == 0, entry["error_message"]
    (candidate,) = entry["training_config"]["candidates"]
    assert (candidate["features"], candidate["classifier"]["C"]) == (["body_motion"], 0.5)
    assert candidate["classifier"]["type"] == "logistic_regression"
    assert len(entry["metrics"]["candidates"]) == 1 < len(plain["metrics"]["candidates"])
    assert entry["requested_training_config"] == wanted
    assert entry["job_fingerprint"] != plain["job_fingerprint"]


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("{", "--request: (whole): is not readable JSON"),
        ('{"user_id": "ana", "modality": "smell"}', "--request: modality: "),
        (json.dumps(REQUEST | {"user_id": "ben"}), "is for ben's gesture model, but this run trains ana's"),
        (json.dumps(REQUEST | {"modality": "audio"}), "is for ana's sound model, but this run trains ana's gesture"),
        (json.dumps(REQUEST | {"training_config": "lda"}), "--request: training_config: "),
    ],
)
def test_a_request_that_cannot_be_read_or_is_for_another_model_is_refused(text: str, reason: str, train: Train) -> None:
    code, entry = train("--request", text)
    assert (code, entry["error_type"]) == (2, "ConfigError")
    assert reason in entry["error_message"]
