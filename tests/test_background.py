"""Recordings of the background: imported, trained and tested on as what no label is, and never predicted."""

from __future__ import annotations

import hashlib
import json
import shutil
from pathlib import Path

import cv2
import numpy as np
import pytest
import soundfile

from shared.data.formats.folders import read_folder
from shared.data.formats.raw import ReadOptions
from shared.data_loader import DataFilter, load_dataset
from shared.features.probes import MOST_BACKGROUND, split_background
from shared.schema_utils import BACKGROUND
from shared.trainers import find_trainer
from tests.trainer_runs import PACKAGES, USER, copy_modality, runs_of


@pytest.mark.parametrize("folder", ["background", "_background_noise_", "None", "silence"])
def test_folders_of_background_are_imported_as_such(folder: str, tmp_path: Path) -> None:
    for name in (folder, "yes"):
        (tmp_path / name).mkdir()
        soundfile.write(tmp_path / name / "a.wav", np.ones(1000), 8000)
    assert {sample.label for sample in read_folder(tmp_path, ReadOptions()).samples} == {BACKGROUND, "yes"}


def _with_background(data: Path, modality: str, to: Path, count: int) -> Path:
    """Label the first examples of one label as background; only one session has them."""
    root, files = copy_modality(data, find_trainer(modality).modality, to)
    lines = [json.loads(line) for line in files[0].read_text().splitlines()]
    label = sorted({line["label"] for line in lines})[0]
    kept = [line for line in lines if line["label"] != label]
    mine = [line | {"label": BACKGROUND} for line in lines if line["label"] == label and line["consent_given"]]
    mine = [line for line in mine if line.get("label_status") != "rejected" and not line.get("is_partial")][:count]
    files[0].write_text("".join(json.dumps(line) + "\n" for line in (*kept, *mine)))
    for path in files[1:]:
        rest = [line for line in path.read_text().splitlines() if json.loads(line)["label"] != label]
        path.write_text("".join(f"{line}\n" for line in rest))
    return root


@pytest.mark.slow
@pytest.mark.parametrize("modality", PACKAGES)
def test_background_is_trained_and_tested_on_and_is_no_label(
    modality: str, demo_data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    root = _with_background(demo_data, modality, tmp_path / "data", 4)
    entry = runs_of(find_trainer(modality), tmp_path / "out", capsys)(root).entry
    assert (entry["status"], entry["background_count"]) == ("success", 4)
    assert BACKGROUND not in entry["labels"]
    rows = {row["kind"]: row for row in entry["metrics"]["probes"]}
    share = rows[BACKGROUND]["accepted"] / rows[BACKGROUND]["count"]
    metrics = entry["training_metrics"]
    assert metrics["background_acceptance_low"] <= metrics["background_acceptance"] == share
    card = (Path(entry["bundle"]) / "model_card.html").read_text()
    assert "Of background recordings" in card
    timed = modality in ("gesture", "sound")
    assert ("false_alarms_per_hour" in metrics) == ("false alarms an hour" in card) == timed


@pytest.mark.slow
def test_a_video_of_the_background_is_cut_into_its_frames(
    demo_data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    root = _with_background(demo_data, "visual_environment", tmp_path / "data", 1)
    video, random = tmp_path / "walk.mp4", np.random.default_rng(0)
    writer = cv2.VideoWriter(str(video), cv2.VideoWriter_fourcc(*"mp4v"), 10.0, (64, 48))
    for _ in range(80):
        writer.write(random.integers(0, 255, (48, 64, 3), np.uint8))
    writer.release()
    (file,) = [path for path in root.glob("users/*/sessions/*/examples.jsonl") if BACKGROUND in path.read_text()]
    lines = [json.loads(line) for line in file.read_text().splitlines()]
    (line,) = [line for line in lines if line["label"] == BACKGROUND]
    line["media"] = {"path": "walk.mp4", "sha256": hashlib.sha256(video.read_bytes()).hexdigest()}
    shutil.move(video, file.parent / "walk.mp4")
    file.write_text("".join(json.dumps(line) + "\n" for line in lines))
    entry = runs_of(find_trainer("visual_environment"), tmp_path / "out", capsys)(root).entry
    assert entry["status"] == "success", entry["error_message"]
    (row,) = [row for row in entry["metrics"]["probes"] if row["kind"] == BACKGROUND]
    assert row["count"] == 4, "eight frames, one a second; half of them are trained on"


def test_one_recording_of_background_is_no_fault_and_counts_as_data(demo_data: Path, tmp_path: Path) -> None:
    root = _with_background(demo_data, "sound", tmp_path / "one", 1)
    found = load_dataset(root, (USER,), "sound", DataFilter(include_demo=True), minimum_per_label=5)
    assert len(found.background) == 1
    assert BACKGROUND not in found.labels
    shutil.copytree(root, tmp_path / "none")
    for path in (tmp_path / "none").glob("users/*/sessions/*/examples.jsonl"):
        path.write_text("".join(f"{line}\n" for line in path.read_text().splitlines() if BACKGROUND not in line))
    without = load_dataset(tmp_path / "none", (USER,), "sound", DataFilter(include_demo=True))
    assert [sample.record_id for sample in without.samples] == [sample.record_id for sample in found.samples]
    assert without.fingerprint != found.fingerprint


def test_pieces_of_one_recording_stay_together_unless_there_is_only_one() -> None:
    recordings = [[{"wave": (k, n)} for n in range(3)] for k in range(4)]
    fitted, tested = split_background(recordings)
    assert {piece["wave"][0] for piece in fitted} == {0, 2}
    assert {probe.inputs["wave"][0] for probe in tested} == {1, 3}
    fitted, tested = split_background([[{"wave": n} for n in range(500)]])
    assert len(fitted) == len(tested) == MOST_BACKGROUND
    assert max(piece["wave"] for piece in fitted) < min(probe.inputs["wave"] for probe in tested)
    assert split_background([]) == ([], [])
