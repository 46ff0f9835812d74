"""What holds nothing to classify is refused before any model, in training and in prediction alike."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
import soundfile

from gesture_trainer.preprocessing.extraction import BODY
from shared.errors import InvalidInputError
from shared.recipe import load_recipe
from shared.trainers import find_trainer
from tests.trainer_runs import PACKAGES, runs_of

RATE = 16_000
TIME = np.arange(RATE // 2) / RATE
TONE = 0.5 * np.sin(2 * np.pi * 440 * TIME)
ENCODER_FREE = {"side": 32, "views": ["centre"], "frames_per_second": 1.0}
LANDMARKS = {"encoding": BODY, "width": 214, "extraction": None, "least_frames": 16}

Write = Callable[[Path], Any]


def sound(wave: Any) -> Write:
    return lambda path: soundfile.write(path, wave, RATE, subtype="PCM_16")


def picture(image: Any) -> Write:
    return lambda path: cv2.imwrite(str(path), np.broadcast_to(image, (48, 64, 3)).astype(np.uint8))


def landmarks(sequence: Any) -> Write:
    return lambda path: np.savez(path, features=np.asarray(sequence, np.float32))


def dark() -> Any:
    return np.random.default_rng(0).integers(0, 12, (48, 64, 3))


INVALID = {
    "digital silence": ("sound", "a.wav", sound(np.zeros(RATE)), "is silent"),
    "a constant offset": ("sound", "a.wav", sound(np.full(RATE, 0.4)), "is silent"),
    "an empty text": ("speech", "a.txt", lambda path: path.write_text(" \n"), "is empty"),
    "punctuation": ("speech", "a.txt", lambda path: path.write_text("… ?! \u200b"), "holds no word"),
    "an empty transcript": ("speech", "a.json", lambda path: path.write_text('{"transcript": ""}'), "is empty"),
    "a covered lens": ("visual_environment", "a.png", picture(dark()), "is black"),
    "one colour": ("visual_environment", "a.png", picture([200, 180, 90]), "is of one colour"),
    "no landmarks": ("gesture", "a.npz", landmarks(np.zeros((20, 214))), "no landmark in any frame"),
    "too few frames": ("gesture", "a.npz", landmarks(np.ones((15, 214))), "15 frames; at least 16 are needed"),
}
VALID = {
    "phase-inverted stereo": ("sound", "a.wav", sound(np.stack([TONE, -TONE], axis=1))),
    "a tone on an offset": ("sound", "a.wav", sound(0.1 + 0.01 * TONE)),
    "a word": ("speech", "a.txt", lambda path: path.write_text("Hallo")),
    "a dim room": ("visual_environment", "a.png", picture(dark() * 4)),
    "enough frames": ("gesture", "a.npz", landmarks(np.ones((16, 214)))),
}
SPECS = {
    "sound": {"decoding": {}},
    "speech": {"surroundings": False},
    "visual_environment": ENCODER_FREE,
    "gesture": LANDMARKS,
}


def _decode(modality: str, path: Path) -> Any:
    return load_recipe(find_trainer(modality)).decode(path, SPECS[modality], {})


@pytest.mark.parametrize("name", INVALID)
def test_invalid_input_never_reaches_a_model(name: str, tmp_path: Path) -> None:
    modality, file, write, reason = INVALID[name]
    write(tmp_path / file)
    with pytest.raises(InvalidInputError, match=reason):
        _decode(modality, tmp_path / file)


@pytest.mark.parametrize("name", VALID)
def test_other_input_does(name: str, tmp_path: Path) -> None:
    modality, file, write = VALID[name]
    write(tmp_path / file)
    assert _decode(modality, tmp_path / file)


def _reference(path: Path) -> dict[str, str]:
    return {"path": path.name, "sha256": hashlib.sha256(path.read_bytes()).hexdigest()}


@pytest.mark.parametrize("name", [name for name in INVALID if name != "too few frames"])
def test_invalid_input_is_never_trained_on(name: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    modality, file, write, reason = INVALID[name]
    folder = tmp_path / "users" / "ana" / "sessions" / "s1"
    folder.mkdir(parents=True)
    (folder / "session.json").write_text(json.dumps({"user_id": "ana", "session_id": "s1"}))
    write(folder / file)
    content: dict[str, Any] = {"media": _reference(folder / file)}
    other: dict[str, Any] | None = None  # of another label, since the same file may not have two
    if modality in ("sound", "visual_environment"):
        _, valid, write_valid = next(row for row in VALID.values() if row[0] == modality)
        write_valid(folder / f"valid-{valid}")
        other = {"media": _reference(folder / f"valid-{valid}")}
    if modality == "speech":
        content = {"transcript": "…"}  # the schema refuses an empty one
        reason = "holds no word"
    if modality == "gesture":
        digest = _reference(folder / file)["sha256"]
        reference = {"uri": file, "hash": f"sha256:{digest}", "encoding": BODY, "shape": [20, 214]}
        content = {"features": reference}
    example = {"user_id": "ana", "session_id": "s1", "timestamp": "2026-03-01T10:00:00.000Z", "modality": modality}
    rows = [
        example | held | {"record_id": f"r{k}", "label": f"label{k}", "consent_given": True}
        for k, held in enumerate((content, other or content))
    ]
    (folder / "examples.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    trained = runs_of(find_trainer(modality), tmp_path / "out", capsys)(tmp_path, "--set", "minimum_per_label=1")
    assert trained.code == 3
    assert reason in trained.entry["error_message"]


def test_every_trainer_has_inputs_that_it_refuses() -> None:
    for table in (INVALID, VALID):
        assert {row[0] for row in table.values()} == {*PACKAGES}
