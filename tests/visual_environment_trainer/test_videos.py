"""Videos: frames at a rate, upright and within a section, or a reason why not."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from shared.schema_utils import Box
from tests.visual_environment_trainer.pictures import film, flag
from visual_environment_trainer.preprocessing.images import UnreadableImageError
from visual_environment_trainer.preprocessing.videos import MAX_FRAMES, read_frames
from visual_environment_trainer.preprocessing.views import SEVERAL_VIEWS, Viewing, read_views


def _brightening(count: int) -> list[np.ndarray]:
    """Return frames (48, 80, 3), each brighter than the one before."""
    return [np.full((48, 80, 3), 20 + 200 * k // count, np.uint8) for k in range(count)]


@pytest.fixture(params=[".mp4", ".avi", ".mkv", ".mov"])
def four_seconds(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    return film(tmp_path / f"film{request.param}", _brightening(40))


def test_frames_are_sampled_evenly_at_the_rate(four_seconds: Path) -> None:
    for rate, count in ((1.0, 4), (2.5, 10), (0.01, 1), (30.0, MAX_FRAMES)):
        frames = read_frames(four_seconds, rate)
        assert len(frames) == count
        light = [frame.mean() for frame in frames]
        expected = [20 + 200 * (k + 0.5) / count for k in range(count)]
        np.testing.assert_allclose(light, expected, atol=10)


def test_only_the_section_of_the_example_is_seen(four_seconds: Path) -> None:
    light = [frame.mean() for frame in read_frames(four_seconds, 2.0, onset=2.0, offset=3.0)]
    np.testing.assert_allclose(light, [133, 158], atol=10)


def test_a_region_is_cut_out_and_colours_are_in_order(tmp_path: Path) -> None:
    path = film(tmp_path / "flag.mp4", [flag(96, 160)] * 10)
    (frame,) = read_frames(path, 1.0, box=Box(x=0.6, y=0.5, width=0.3, height=0.4))
    assert frame[..., 2].mean() > 150 > 80 > frame[..., 0].mean()
    viewing = Viewing(side=32, views=SEVERAL_VIEWS, frames_per_second=3.0)
    assert read_views(path, viewing).shape == (9, 32, 32, 3)


def test_what_cannot_be_used_is_refused_with_its_reason(tmp_path: Path) -> None:
    whole = film(tmp_path / "whole.avi", [flag(96, 160) for _ in range(60)]).read_bytes()
    mp4 = film(tmp_path / "whole.mp4", _brightening(40)).read_bytes()
    cases = {
        "cut.avi": (whole[: len(whole) // 3], "cut off"),
        "cut.mp4": (mp4[: len(mp4) // 2], "cannot be opened"),
        "text.mp4": (b"hello, I am a film", "is not a video"),
        "list.mkv": (b"#EXTM3U\nfile:///etc/passwd\n", "is not a video"),
        "empty.mov": (b"", "is not a video"),
        "sound.mp4": (b"RIFF\0\0\0\0WAVEfmt ", "cannot be opened|holds no picture"),
        "hollow.mp4": (mp4[:40] + b"\0" * 500, "cannot be opened"),
    }
    for name, (content, reason) in cases.items():
        (tmp_path / name).write_bytes(content)
        with pytest.raises(UnreadableImageError, match=reason):
            read_frames(tmp_path / name, 1.0)
    with pytest.raises(UnreadableImageError, match=r"lasts 4\.0 s"):
        read_frames(tmp_path / "whole.mp4", 1.0, onset=9.0)
    with pytest.raises(UnreadableImageError, match="not found"):
        read_frames(tmp_path / "nowhere.mp4", 1.0)


def test_a_video_without_end_is_not_searched(tmp_path: Path) -> None:
    path = film(tmp_path / "slow.mp4", _brightening(7), per_second=0.01)
    with pytest.raises(UnreadableImageError, match="more than 600 s"):
        read_frames(path, 1.0)
