"""A trainer's `--add-label`: features and classifier of the active version, with the labels that there are now."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from functools import partial
from pathlib import Path

import pytest

from shared.trainers import find_trainer
from tests.trainer_runs import TrainerRun, runs_of

SPEECH = find_trainer("speech")
OTHER = {"features": "ngrams", "classifier": {"type": "ridge", "alpha": 2.0}}  # what "auto" would not choose
Train = Callable[..., TrainerRun]


@pytest.fixture
def data(demo_data: Path, tmp_path: Path) -> Path:
    """Return a data root with ana's sessions, which a test may change."""
    shutil.copytree(demo_data / "users" / "ana", tmp_path / "data" / "users" / "ana")
    return tmp_path / "data"


@pytest.fixture
def train(data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> Train:
    """Return a function that trains ana's speech model with some options."""
    return partial(runs_of(SPEECH, tmp_path / "out", capsys), data, "--set", "evaluation.folds=2")


def _take_away_a_label(data: Path) -> tuple[str, dict[Path, bytes]]:
    """Take the last of the speech labels out of the data root; return it, and what the files were."""
    before = {file: file.read_bytes() for file in data.glob("users/ana/sessions/*/examples.jsonl")}
    examples = {file: [json.loads(line) for line in content.splitlines()] for file, content in before.items()}
    gone = max(one["label"] for mine in examples.values() for one in mine if one["modality"] == "speech")
    for file, mine in examples.items():
        file.write_text("".join(json.dumps(one) + "\n" for one in mine if one["label"] != gone))
    return gone, before


@pytest.mark.slow
def test_a_new_label_is_added_with_the_features_and_the_classifier_of_the_active_version(
    train: Train, data: Path, tmp_path: Path
) -> None:
    registry = ("--registry", str(tmp_path / "models"))
    new, before = _take_away_a_label(data)
    first = train(*registry, "--set", f"candidates={json.dumps([OTHER])}").entry
    assert first["status"] == "success" and new not in first["labels"], first["error_message"]
    for file, content in before.items():
        file.write_bytes(content)
    added = train(*registry, "--add-label").entry
    assert added["status"] == "success", added["error_message"]
    assert set(added["labels"]) == {*first["labels"], new}
    assert added["metrics"]["chosen_candidate"] == first["metrics"]["chosen_candidate"]
    assert list(added["metrics"]["candidates"]) == [first["metrics"]["chosen"]]
    assert any("those of v1" in warning and "optimistic" in warning for warning in added["warnings"])
    again = train("--set", f"candidates={json.dumps([OTHER])}").entry
    assert again["model_sha256"] == added["model_sha256"], "as if it had been configured"
    compared = train(*registry).entry
    assert len(compared["metrics"]["candidates"]) > 1, "without the option all are compared again"
    assert compared["job_fingerprint"] != added["job_fingerprint"]


def test_without_a_version_to_keep_to_nothing_is_trained(train: Train, tmp_path: Path) -> None:
    for words, reason in {
        (): "--add-label: needs --registry",
        ("--registry", str(tmp_path / "models")): "ana has no active speech model yet",
        ("--registry", str(tmp_path / "models"), "--set", "candidates=auto"): "--set candidates names features",
    }.items():
        run = train("--add-label", *words)
        assert (run.code, run.entry["error_type"]) == (2, "ConfigError")
        assert reason in run.entry["error_message"]
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["failures"]
    assert not (tmp_path / "models").exists()
