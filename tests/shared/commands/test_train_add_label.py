"""A trainer's `--add-label`: features and classifier of the active version, with the labels that there are now."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from shared.commands.main import run
from shared.commands.train import trainer_command
from shared.recipe import load_recipe
from shared.trainers import find_trainer

SPEECH = find_trainer("speech")
OTHER = {"features": "ngrams", "classifier": {"type": "ridge", "alpha": 2.0}}  # what "auto" would not choose
Train = Callable[..., tuple[int, dict[str, Any]]]


@pytest.fixture
def data(demo_data: Path, tmp_path: Path) -> Path:
    """Return a data root with ana's sessions, which a test may change."""
    shutil.copytree(demo_data / "users" / "ana", tmp_path / "data" / "users" / "ana")
    return tmp_path / "data"


@pytest.fixture
def train(data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> Train:
    """Return a function that trains ana's speech model with some options, and returns exit code and log entry."""

    def train(*words: str) -> tuple[int, dict[str, Any]]:
        command = trainer_command(SPEECH, load_recipe(SPEECH))
        places = ["--data", str(data), "--out", str(tmp_path / "out"), "--demo-data", "--user", "ana"]
        code = run(lambda: command([*places, "--set", "evaluation.folds=2", *words], standalone_mode=False))
        return code, json.loads(capsys.readouterr().out)

    return train


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
    code, first = train(*registry, "--set", f"candidates={json.dumps([OTHER])}")
    assert code == 0 and new not in first["labels"], first["error_message"]
    for file, content in before.items():
        file.write_bytes(content)
    code, added = train(*registry, "--add-label")
    assert code == 0, added["error_message"]
    assert set(added["labels"]) == {*first["labels"], new}
    assert added["metrics"]["chosen_candidate"] == first["metrics"]["chosen_candidate"]
    assert list(added["metrics"]["candidates"]) == [first["metrics"]["chosen"]]
    assert any("those of v1" in warning and "optimistic" in warning for warning in added["warnings"])
    again_code, again = train("--set", f"candidates={json.dumps([OTHER])}")
    assert again_code == 0 and again["model_sha256"] == added["model_sha256"], "as if it had been configured"
    code, compared = train(*registry)
    assert code == 0 and len(compared["metrics"]["candidates"]) > 1, "without the option all are compared again"


def test_without_a_version_to_keep_to_nothing_is_trained(train: Train, tmp_path: Path) -> None:
    for words, reason in {
        (): "--add-label: needs --registry",
        ("--registry", str(tmp_path / "models")): "ana has no active speech model yet",
        ("--registry", str(tmp_path / "models"), "--set", "candidates=auto"): "--set candidates names features",
    }.items():
        code, entry = train("--add-label", *words)
        assert (code, entry["error_type"]) == (2, "ConfigError")
        assert reason in entry["error_message"]
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["failures"]
    assert not (tmp_path / "models").exists()
