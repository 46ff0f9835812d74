"""What `train` makes of samples is byte for byte what the trainer's command makes of the same samples, imported."""

from __future__ import annotations

import csv
import json
import shutil
from pathlib import Path

import numpy as np
import pytest

from model_trainer import train
from shared.commands.main import model_trainer, run
from shared.data.feature_files import parse_features
from shared.trainers import find_trainer
from tests.model_trainer.labelled import LABELS, Labelled, labelled
from tests.trainer_runs import PACKAGES, USER, copy_some, runs_of

ENCODING = "mediapipe_tasks_video_xy_v1"
LANDMARKS = {"gesture": ("--encoding", ENCODING)}  # in the demo's data; the other modalities have recordings


def demo_samples(data: Path, modality: str, to: Path) -> Labelled:
    """Return a few of the demo's samples of each label and session, as arrays, paths or texts."""
    root = copy_some(data, modality, to, 3)
    found = Labelled([], [], [])
    for file in sorted((root / "users" / USER / "sessions").glob("*/examples.jsonl")):
        for example in map(json.loads, file.read_text().splitlines()):
            if "transcript" in example:
                content: object = example["transcript"]
            elif "features" in example:
                content = parse_features((file.parent / example["features"]["uri"]).read_bytes(), "npz")
            else:
                content = file.parent / example["media"]["path"]
            found.samples.append(content)
            found.labels.append(example["label"])
            found.sessions.append(example["session_id"])
    assert len(found.samples) > 20
    return found


def source_of(found: Labelled, folder: Path) -> Path:
    """Write the samples as somebody would have them: a table of texts, or files in `<label>/<session>/`."""
    rows = list(zip(found.samples, found.labels, found.sessions, strict=True))
    folder.mkdir()
    if isinstance(rows[0][0], str):
        with (folder / "said.csv").open("w", newline="") as file:
            csv.writer(file).writerows([("text", "label", "session"), *rows])
        return folder / "said.csv"
    for k, (content, label, session) in enumerate(rows):
        path = folder / label / session / f"{k:03d}"
        path.parent.mkdir(parents=True, exist_ok=True)
        if isinstance(content, Path):
            shutil.copy(content, path.with_suffix(content.suffix))
        else:
            np.save(path.with_suffix(".npy"), content)
    return folder


def command_model(
    found: Labelled, modality: str, tmp_path: Path, capsys: pytest.CaptureFixture[str], *options: str
) -> tuple[bytes, dict[str, float]]:
    """Import the samples and train with the commands; return the model and the metrics."""
    source, data = source_of(found, tmp_path / "source"), tmp_path / "data"
    words = ["import", str(source), "--data", str(data), "--modality", modality, "--user", USER, "--consent", *options]
    assert run(lambda: model_trainer(words, standalone_mode=False)) == 0
    capsys.readouterr()
    trained = runs_of(find_trainer(modality), tmp_path / "out", capsys)(data)
    assert trained.code == 0, trained.complaints
    return trained.model, trained.entry["training_metrics"]


@pytest.mark.slow
@pytest.mark.parametrize("modality", PACKAGES)
def test_recordings(modality: str, demo_data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    found = demo_samples(demo_data, modality, tmp_path / "demo")
    options = LANDMARKS.get(modality, ())
    model, metrics = command_model(found, modality, tmp_path, capsys, *options)
    encoding = options[1] if options else None
    with train(modality, **found.columns, user_id=USER, consent=True, encoding=encoding) as result:
        assert result.model_bytes == model
        assert result.metrics == metrics
        predictions = result.predict(found.samples[:5])
        assert {p.label for p in predictions} <= {*found.labels, "unknown"}
        assert all(sum(p.scores.values()) == pytest.approx(1) for p in predictions)


@pytest.mark.slow
@pytest.mark.parametrize("modality", PACKAGES)
@pytest.mark.parametrize("frames", [None, 6], ids=["vectors", "sequences"])
def test_ready_made_features(
    modality: str, frames: int | None, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    found = labelled(frames)
    model, metrics = command_model(found, modality, tmp_path, capsys, "--encoding", "mine_v1")
    with train(modality, **found.columns, user_id=USER, consent=True, encoding="mine_v1") as result:
        assert result.model_bytes == model
        assert result.metrics == metrics
        assert result.labels == tuple(sorted(LABELS))


@pytest.mark.slow
def test_another_seed_makes_another_model() -> None:
    """So equal bytes say something."""
    found, config = labelled(6), {"candidates": [{"features": "resampled", "classifier": {"type": "extra_trees"}}]}
    models = [
        train("sound", **found.columns, user_id=USER, consent=True, config=config, seed=seed).model_bytes
        for seed in (0, 0, 1)
    ]
    assert models[0] == models[1] != models[2]
