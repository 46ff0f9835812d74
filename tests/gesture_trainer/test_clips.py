"""What is said of a clip beside whether it can be decoded."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from gesture_trainer.preprocessing.clips import check_file, movements
from shared.schema_utils import Example
from tests.visual_environment_trainer.pictures import film


def clip(path: Path, seconds: str, noise: float = 2.0) -> Example:
    """Write a clip at 15 frames a second, and return its example: a bright square moves in each second that is `m`."""
    random, frames, place = np.random.default_rng(0), [], 10
    for second in seconds:
        for _ in range(15):
            place += 4 if second == "m" and place < 240 else -230 if second == "m" else 0
            frame = np.clip(90 + random.normal(0, noise, (120, 320, 3)), 0, 255).astype(np.uint8)
            frame[30:90, place : place + 60] = 230
            frames.append(frame)
    film(path, frames, 15.0)
    return Example.model_validate(
        {
            "record_id": "r",
            "user_id": "ana",
            "session_id": "s",
            "timestamp": "2026-03-01T10:00:00Z",
            "modality": "gesture",
            "label": "come",
            "media": {"path": path.name, "sha256": "0" * 64},
        }
    )


@pytest.mark.slow
def test_several_gestures_in_one_clip_are_said(tmp_path: Path) -> None:
    path = tmp_path / "several.mp4"
    example = clip(path, "-m--m--m-")
    (note,) = check_file(path, example)
    assert note.startswith("moves 3 times with pauses between") and "onset and offset" in note
    assert check_file(path, example.model_copy(update={"onset": 3.0, "offset": 6.0})) == ()


@pytest.mark.parametrize("seconds", ["-m-", "mmmm", "m--m", "----"], ids=["one", "always", "held", "never"])
def test_one_gesture_is_not_several(tmp_path: Path, seconds: str) -> None:
    assert check_file(tmp_path / "one.avi", clip(tmp_path / "one.avi", seconds)) == ()


def test_movements_are_counted_between_pauses_of_a_second() -> None:
    moving, still, breath = np.full(10, 9.0), np.full(20, 1.0), np.full(8, 1.0)
    assert movements(np.concatenate([moving, still, moving, still, moving, still])) == 3
    assert movements(np.concatenate([moving, breath, moving, breath, moving, still])) == 1
    assert movements(np.array([])) == 0
