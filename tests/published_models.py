"""A registry with one model of every modality, trained on the demo's data, and files to run them on."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from click.testing import CliRunner

from model_registry.commands.reading import export
from model_registry.names import Modality
from shared.commands.main import run
from shared.commands.predict import predict_command
from shared.commands.train import trainer_command
from shared.recipe import load_recipe
from shared.trainers import find_trainer
from tests.trainer_runs import PACKAGES, USER, copy_some

EACH = 5  # examples of a label in a session that a model is trained on


@dataclass(frozen=True)
class PublishedModels:
    """A registry, a portable file of each modality's model, and files of each modality, seen in training or not."""

    registry: Path
    portable: Mapping[Modality, Path]
    files: Mapping[Modality, Sequence[Path]]

    def predictions(self, modality: Modality, files: Sequence[Path]) -> list[dict[str, Any]]:
        """Return what `model-trainer predict` prints for files of a modality."""
        words = ["--user", USER, "--modality", modality, "--registry", str(self.registry), *map(str, files)]
        done = CliRunner().invoke(predict_command, words, standalone_mode=False)
        assert done.return_value == 0, done.output
        return [json.loads(line) for line in done.stdout.splitlines()]


def publish_models(data: Path, folder: Path) -> PublishedModels:
    """Train and publish a model of every modality of one user on some of the demo's data."""
    portable, files = {}, {}
    for modality in PACKAGES:
        root = copy_some(data, modality, folder / "data" / modality, EACH)
        portable[modality] = publish_model(root, folder, modality)
        files[modality] = _files(data, modality, folder / "texts")
    return PublishedModels(folder / "registry", portable, files)


def publish_model(data: Path, folder: Path, modality: Modality, *options: str) -> Path:
    """Train a model on a data root and publish it in `<folder>/registry`; return it as one exported file."""
    trainer, registry, exported = find_trainer(modality), str(folder / "registry"), folder / f"{modality}.onnx"
    words = ["--user", USER, "--data", str(data), "--out", str(folder / "out"), "--registry", registry, "--demo-data"]
    command = trainer_command(trainer, load_recipe(trainer))
    assert run(lambda: command([*words, *options], standalone_mode=False)) == 0
    done = CliRunner().invoke(export, [USER, modality, str(exported), "--registry", registry])
    assert done.exit_code == 0, done.output
    return exported


def _files(data: Path, modality: Modality, texts: Path) -> list[Path]:
    """Return the files of a user's examples; a transcript becomes one in the folder `texts`."""
    found = []
    for examples in sorted((data / "users" / USER / "sessions").glob("*/examples.jsonl")):
        for line in map(json.loads, examples.read_text(encoding="utf-8").splitlines()):
            if line["modality"] != modality:
                continue
            if modality == "speech":
                texts.mkdir(exist_ok=True)
                found.append(texts / f"{line['record_id']}.txt")
                found[-1].write_text(line["transcript"], encoding="utf-8")
            else:
                given = line.get("media") or line["features"]
                found.append(examples.parent / (given.get("path") or given["uri"]))
    return found
