"""Runs a trainer's command in this process, on the demo's data or on a part of it."""

from __future__ import annotations

import json
import shutil
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from model_registry.names import Modality
from shared.commands.main import run
from shared.commands.train import trainer_command
from shared.recipe import load_recipe
from shared.trainers import Trainer

PACKAGES = {
    "gesture": "gesture_trainer",
    "sound": "sound_trainer",
    "speech": "speech_context_trainer",
    "visual_environment": "visual_environment_trainer",
}
USER = "ana"


@dataclass(frozen=True)
class TrainerRun:
    """What one run of a trainer's command printed and returned."""

    code: int
    entry: dict[str, Any]
    complaints: str

    @property
    def model(self) -> bytes:
        """The exported model."""
        return Path(self.entry["bundle"], "model.onnx").read_bytes()


Run = Callable[..., TrainerRun]  # takes the data root and options


def runs_of(trainer: Trainer, out: Path, capsys: pytest.CaptureFixture[str]) -> Run:
    """Return what runs the trainer's command on a data root with options."""

    def train(data: Path, *words: str, user: str = USER) -> TrainerRun:
        arguments = ["--user", user, "--data", str(data), "--out", str(out), "--demo-data", *words]
        code = run(lambda: trainer_command(trainer, load_recipe(trainer))(arguments, standalone_mode=False))
        printed = capsys.readouterr()
        (line,) = printed.out.splitlines()
        return TrainerRun(code, json.loads(line), printed.err)

    return train


def copy_modality(data: Path, modality: Modality, to: Path) -> tuple[Path, list[Path]]:
    """Copy one user's examples of one modality; return the new root and its examples files."""
    shutil.copytree(data / "users" / USER, to / "users" / USER)
    files = sorted((to / "users" / USER / "sessions").glob("*/examples.jsonl"))
    for path in files:
        lines = [line for line in path.read_text().splitlines() if json.loads(line)["modality"] == modality]
        path.write_text("\n".join(lines) + "\n")
    return to, files


def copy_some(data: Path, modality: Modality, to: Path, each: int) -> Path:
    """Copy `each` usable examples of each label in each session of one user; return the new root."""
    root, files = copy_modality(data, modality, to)
    for path in files:
        counts: Counter[str] = Counter()
        kept = []
        for line in map(json.loads, path.read_text().splitlines()):
            usable = line["consent_given"] and line.get("label_status") != "rejected" and not line.get("is_partial")
            if usable and counts[line["label"]] < each:
                counts[line["label"]] += 1
                kept.append(json.dumps(line) + "\n")
        path.write_text("".join(kept))
    return root
