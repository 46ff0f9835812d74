"""`--dry-run` of a trainer says what would be trained and what it takes, and leaves nothing behind."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from shared.commands.main import run
from shared.commands.train import trainer_command
from shared.commands.training_summary import dry_run_summary, training_summary
from shared.trainers import find_trainer
from tests.shared.data.session_folders import features_row, session_folder, write_rows

TRAINER = find_trainer("gesture")
DEAR = "candidates=[{features: frame_mean, classifier: {type: lda}}, {features: frame_mean, classifier: {type: mlp}}]"


class Place:
    """24 vectors of anna in three sessions, and the command that trains on them."""

    def __init__(self, root: Path, capsys: pytest.CaptureFixture[str]) -> None:
        self.root, self.capsys = root, capsys
        rng = np.random.default_rng(0)
        for s in ("s1", "s2", "s3"):
            folder = session_folder(root / "data", session=s)
            centres = {"come": [[1.5, 0.0, 0.0]], "stop": [[0.0, 1.5, 0.0]]}
            labels = ["come", "stop"] * 4
            rows = [
                features_row(folder, f"{s}-{k}", label, centres[label] + rng.normal(size=(1, 3)))
                for k, label in enumerate(labels)
            ]
            write_rows(folder, rows)

    def train(self, *more: str) -> tuple[int, dict[str, Any], str]:
        """Return the exit code, what is printed as JSON, and what is printed beside it."""
        words = ["--user", "anna", "--data", str(self.root / "data"), "--out", str(self.root / "out"), "--no-cache"]
        command = trainer_command(TRAINER)
        self.capsys.readouterr()
        code = run(lambda: command([*words, "--run-id", "r1", *more], standalone_mode=False))
        printed = self.capsys.readouterr()
        return code, json.loads(printed.out or "{}"), printed.err

    def files(self) -> dict[str, bytes]:
        return {str(path): path.read_bytes() for path in sorted(self.root.rglob("*")) if path.is_file()}


@pytest.fixture
def place(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> Place:
    return Place(tmp_path, capsys)


def test_a_dry_run_says_what_would_be_trained_and_writes_nothing(place: Place) -> None:
    before, folders = place.files(), sorted(place.root.rglob("*"))
    registry = str(place.root / "models")
    code, described, _ = place.train("--dry-run", "--registry", registry, "--set", "budget_seconds=null")
    assert code == 0
    assert (place.files(), sorted(place.root.rglob("*"))) == (before, folders)
    each = dict.fromkeys(("s1", "s2", "s3"), 4)
    assert described["samples"] == {"come": each, "stop": each}
    assert (described["status"], described["sample_count"]) == ("dry_run", 24)
    assert described["candidates"][0]["name"] == "frame_mean: lda"
    assert described["estimated_seconds"] > 0 and described["estimated_memory_bytes"] > 0
    assert (described["budget_seconds"], described["left_out_candidates"]) == (None, [])


@pytest.mark.slow
def test_a_dry_run_names_the_candidates_that_the_training_compares(place: Place) -> None:
    _, described, _ = place.train("--dry-run")
    _, entry, _ = place.train()
    assert [one["name"] for one in described["candidates"]] == list(entry["metrics"]["candidates"])
    assert entry["left_out_candidates"] == []


def test_what_is_left_out_for_the_budget_is_named_everywhere(place: Place) -> None:
    words = ("--set", "budget_seconds=0.5", "--set", DEAR)
    _, described, _ = place.train("--dry-run", *words)
    code, entry, shown = place.train(*words)
    assert code == 0
    assert list(entry["metrics"]["candidates"]) == ["frame_mean: lda"]
    (left_out,) = entry["left_out_candidates"]
    assert left_out["name"] == "frame_mean: mlp" and left_out["seconds"] > 0
    assert described["left_out_candidates"] == [left_out]
    assert any("budget_seconds: frame_mean: mlp" in warning for warning in entry["warnings"])
    assert "frame_mean: mlp" in shown
    assert "budget_seconds</code> allows: frame_mean: mlp" in _card(entry)


@pytest.mark.slow
def test_nothing_is_left_out_by_default_and_the_budget_changes_no_byte_of_the_model(place: Place) -> None:
    _, entry, _ = place.train()
    _, unlimited, _ = place.train("--run-id", "r2", "--set", "budget_seconds=null")
    assert entry["left_out_candidates"] == unlimited["left_out_candidates"] == []
    assert entry["model_sha256"] == unlimited["model_sha256"]
    assert "Left out for" not in _card(entry)


@pytest.mark.parametrize(
    ("more", "expected", "reason"),
    [
        (("--set", "budget_seconds=0"), 2, "budget_seconds"),
        (("--set", "budget_seconds=soon"), 2, "budget_seconds"),
        (("--session", "s9"), 3, "there is no session"),
        (("--set", "candidates=[{features: hand_shape, classifier: {type: lda}}]"), 2, "do not fit the encoding"),
    ],
)
def test_a_dry_run_fails_as_the_training_would_and_leaves_no_log(
    place: Place, more: tuple[str, ...], expected: int, reason: str
) -> None:
    code, entry, shown = place.train("--dry-run", *more)
    assert code == expected
    assert entry["status"] == "failure"
    assert reason in shown
    assert not (place.root / "out").exists()


def test_people_see_a_line_for_each_label_and_for_what_is_left_out(place: Place) -> None:
    _, described, _ = place.train("--dry-run", "--set", "budget_seconds=0.5", "--set", DEAR)
    lines = [" ".join(line.split()) for line in dry_run_summary(described).splitlines()]
    assert lines[0] == "anna's gesture model: dry run, nothing was trained or written"
    assert "samples 24 of 2 labels in 3 sessions" in lines
    assert "label come 12: s1 4, s2 4, s3 4" in lines
    assert any(line.startswith("compares frame_mean: lda (") for line in lines)
    assert any(line.startswith("leaves out frame_mean: mlp (") for line in lines)
    _, entry, _ = place.train("--set", "budget_seconds=0.5", "--set", DEAR)
    assert "leaves out  frame_mean: mlp (" in training_summary(entry)


def _card(entry: dict[str, Any]) -> str:
    return (Path(entry["bundle"]) / "model_card.html").read_text("utf-8")
