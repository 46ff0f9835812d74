"""`model-trainer evaluate`: long recordings through a published model, with and without marked spans."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import cv2
import librosa
import numpy as np
import pytest
import soundfile

from demo.make_data import PEOPLE, SESSIONS, write_session
from model_registry.store import Registry
from shared.commands.evaluate import read_spans
from shared.commands.main import model_trainer, run
from shared.commands.train import trainer_command
from shared.data_loader import DataFilter, load_dataset, load_features
from shared.errors import DataError
from shared.recipe import load_recipe
from shared.report.detection import Span
from shared.trainers import find_trainer

USER = PEOPLE[0].user_id
RATE = 16_000


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A registry with a model of sounds, gestures, places and texts."""
    root = tmp_path_factory.mktemp("evaluating")
    for session in SESSIONS:
        write_session(root / "data", PEOPLE[0], session, 0)
    for modality in ("gesture", "sound", "visual_environment", "speech"):
        words = ["--user", USER, "--data", str(root / "data"), "--out", str(root / "out"), "--demo-data"]
        words += ["--registry", str(root / "models"), "--set", "evaluation.folds=2"]
        trainer = find_trainer(modality)
        assert run(lambda t=trainer, w=words: trainer_command(t, load_recipe(t))(w, standalone_mode=False)) == 0
    return root / "models"


def _evaluate(
    models: Path, capsys: pytest.CaptureFixture[str], modality: str, *words: str
) -> tuple[int, list[dict[str, Any]], str]:
    capsys.readouterr()
    given = ["evaluate", "--user", USER, "--modality", modality, "--registry", str(models), *words]
    code = run(lambda: model_trainer(given, standalone_mode=False))
    printed = capsys.readouterr()
    return code, [json.loads(line) for line in printed.out.splitlines()], printed.err


def _afternoon(models: Path, folder: Path) -> tuple[Path, list[Span]]:
    """Write a recording of six of the person's sounds, five seconds of noise apart; return it and when they are."""
    dataset = load_dataset(models.parent / "data", (USER,), "sound", DataFilter(include_demo=True))
    noise = np.random.default_rng(0).normal(0, 1e-4, 5 * RATE).astype(np.float32)
    parts, spans, length = [noise], [], len(noise)
    for sample in dataset.samples[:: len(dataset) // 6][:6]:
        assert sample.path is not None
        wave, _ = librosa.load(sample.path, sr=RATE)
        spans.append(Span(length / RATE, (length + len(wave)) / RATE, sample.label))
        parts += [wave, noise]
        length += len(wave) + len(noise)
    path = folder / "afternoon.wav"
    soundfile.write(path, np.concatenate(parts), RATE)
    return path, spans


@pytest.mark.slow
def test_sounds_in_a_long_recording_are_found_where_they_are_marked(
    models: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    recording, spans = _afternoon(models, tmp_path)
    code, (alone, _), _ = _evaluate(models, capsys, "sound", str(recording))
    assert code == 0 and alone["marked_by"] is None and "recall" not in alone
    assert alone["false_alarms"] == alone["detections"] > 0
    rows = "".join(f"{span.onset:.3f}\t{span.offset:.3f}\t{span.label}\n" for span in spans)
    (tmp_path / "afternoon.txt").write_text(rows)
    code, (line, total), _ = _evaluate(models, capsys, "sound", "--false-alarms-per-hour", "0", str(recording))
    assert code == 0 and line["marked_by"] == str(tmp_path / "afternoon.txt") and line["spans"] == 6
    assert line["recall"] > 0.5 and line["false_alarms"] < line["detections"]
    assert line["hours"] == pytest.approx(soundfile.info(recording).duration / 3600, rel=0.1)
    assert total["at_most"]["summary"]["false_alarms"] == 0 and total["at_most"]["summary"]["recall"] <= total["recall"]


@pytest.mark.slow
def test_gestures_are_cut_as_the_live_classifier_cuts_them(
    models: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    dataset = load_dataset(models.parent / "data", (USER,), "gesture", DataFilter(include_demo=True))
    frames = [load_features(sample) for sample in dataset.samples[:4]]
    np.savez(tmp_path / "day.npz", features=np.concatenate(frames))
    code, (line, total), _ = _evaluate(models, capsys, "gesture", str(tmp_path / "day.npz"))
    count = (sum(map(len, frames)) - 16) // 5 + 1
    assert code == 0 and line["windows"] <= count and total["recordings"] == 1
    assert total["hours"] == pytest.approx(((count - 1) * 5 + 16) / 15 / 3600, abs=1e-4)


@pytest.mark.slow
def test_a_video_is_classified_frame_by_frame(models: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    video, random = tmp_path / "walk.mp4", np.random.default_rng(0)
    writer = cv2.VideoWriter(str(video), cv2.VideoWriter_fourcc(*"mp4v"), 10.0, (64, 48))
    for _ in range(40):
        writer.write(random.integers(0, 255, (48, 64, 3), np.uint8))
    writer.release()
    code, (line, _), _ = _evaluate(models, capsys, "visual_environment", "--stride", "0.5", str(video))
    assert code == 0 and line["windows"] == 8


@pytest.mark.slow
def test_what_cannot_be_evaluated_is_said(models: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "words.txt").write_text("more")
    code, _, err = _evaluate(models, capsys, "speech", str(tmp_path / "words.txt"))
    assert code == 2 and "model-trainer predict" in err
    (tmp_path / "broken.wav").write_bytes(b"no sound")
    code, lines, err = _evaluate(models, capsys, "sound", str(tmp_path / "broken.wav"))
    assert code == 3 and lines == [] and "broken.wav" in err
    assert Registry(models).resolve(USER, "sound").version == 1


@pytest.mark.parametrize(
    ("text", "spans"),
    [
        ("onset,offset,label\n0.5,1.5,more\n", [Span(0.5, 1.5, "more")]),
        ("Start,End,Label\n1,2,no\n", [Span(1, 2, "no")]),
        ("0.5\t1.5\tmore\n", [Span(0.5, 1.5, "more")]),
    ],
)
def test_spans_are_read_from_tables_and_labels(tmp_path: Path, text: str, spans: list[Span]) -> None:
    path = tmp_path / "spans.csv"
    path.write_text(text)
    assert read_spans(path) == spans


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("time,label\n1,a\n", "onset, offset"),
        ("onset,offset,label\n2,1,a\n", "is not after the onset"),
        ("onset,offset,label\nsoon,1,a\n", "no times in seconds"),
        ("onset,offset,label\n0,nan,a\n", "no times in seconds"),
        ("onset,offset,label\n0,inf,a\n", "no times in seconds"),
        ("", "onset, offset"),
    ],
)
def test_what_is_no_table_of_spans_is_named_with_its_line(tmp_path: Path, text: str, said: str) -> None:
    path = tmp_path / "spans.csv"
    path.write_text(text)
    with pytest.raises(DataError, match=said):
        read_spans(path)
