"""Small copies of recordings show the part that an example is, and nothing else that a file holds."""

from __future__ import annotations

import io
from pathlib import Path

import numpy as np
import pytest
import soundfile
from PIL import Image

from shared.data.media.containers import UnreadableMediaError
from shared.data.media.previews import SIDE, preview
from shared.schema_utils import Example
from tests.visual_environment_trainer.pictures import film


def example(modality: str, path: Path, **changes: object) -> Example:
    return Example.model_validate(
        {
            "record_id": "r",
            "user_id": "anna",
            "session_id": "s",
            "timestamp": "2026-03-01T10:00:00Z",
            "modality": modality,
            "label": "yes",
            "media": {"path": path.name, "sha256": "0" * 64},
            **changes,
        }
    )


def pixels(content: bytes) -> np.ndarray:
    return np.asarray(Image.open(io.BytesIO(content)).convert("RGB")).astype(int)


def test_a_sound_is_the_region_of_its_example_and_at_most_ten_seconds(tmp_path: Path) -> None:
    path = tmp_path / "a.wav"
    silence, hum = np.zeros(16000), 0.5 * np.sin(np.arange(16000) * 0.2)
    soundfile.write(path, np.concatenate([silence, hum, silence]), 16000)
    kind, content = preview(path, example("sound", path, onset=1.0, offset=2.0))
    heard, rate = soundfile.read(io.BytesIO(content))
    assert kind == "audio/mpeg" and 0.9 < len(heard) / rate < 1.2
    assert np.sqrt((heard**2).mean()) > 0.25, "only the hum is there"
    soundfile.write(path, np.tile(hum, 30), 16000)
    heard, rate = soundfile.read(io.BytesIO(preview(path, example("sound", path))[1]))
    assert 9.9 < len(heard) / rate < 10.3


def test_a_picture_is_small_cut_to_its_box_and_says_nothing_of_the_place(tmp_path: Path) -> None:
    image = Image.fromarray(np.repeat([[[255, 0, 0]] * 400 + [[0, 0, 255]] * 400], 600, axis=0).astype(np.uint8))
    exif = Image.Exif()
    exif[0x010E] = "the home of ana"
    image.save(tmp_path / "a.jpg", exif=exif)
    right = {"x": 0.5, "y": 0.0, "width": 0.5, "height": 1.0}
    kind, content = preview(tmp_path / "a.jpg", example("visual_environment", tmp_path / "a.jpg", box=right))
    shown = pixels(content)
    assert kind == "image/jpeg" and max(shown.shape) == SIDE
    assert shown[..., 2].min() > 200 and shown[..., 0].max() < 60 and b"home of ana" not in content


def test_a_video_is_four_pictures_of_its_part(tmp_path: Path) -> None:
    grey = [np.full((60, 80, 3), 12 * k, np.uint8) for k in range(20)]
    path = film(tmp_path / "a.mp4", grey)
    strip = pixels(preview(path, example("gesture", path, onset=0.5, offset=1.1))[1])
    assert strip.shape == (60, 320, 3)
    levels = [strip[:, 80 * k + 20 : 80 * k + 60].mean() for k in range(4)]
    assert np.allclose(levels, [60, 84, 108, 132], atol=14) and levels == sorted(levels)
    with pytest.raises(UnreadableMediaError, match="no picture in this part"):
        preview(path, example("gesture", path, onset=7.0, offset=8.0))
