"""Near duplicates: what a camera does to a picture leaves it one, another picture is none."""

from __future__ import annotations

import cv2
import numpy as np
import pytest

from tests.visual_environment_trainer.pictures import ROOMS, Picture, room
from visual_environment_trainer.preprocessing.near_duplicates import fingerprint, near_duplicate_groups

CHANGES = {
    "compressed": lambda p: cv2.imdecode(cv2.imencode(".jpg", p, [cv2.IMWRITE_JPEG_QUALITY, 25])[1], cv2.IMREAD_COLOR),
    "smaller": lambda p: cv2.resize(cv2.resize(p, None, fx=0.4, fy=0.4), p.shape[1::-1]),
    "brighter": lambda p: cv2.convertScaleAbs(p, alpha=1.08, beta=4),
    "noisy": lambda p: cv2.add(p, np.random.default_rng(1).integers(0, 12, p.shape, dtype=np.uint8)),
    "blurred": lambda p: cv2.GaussianBlur(p, (0, 0), 1.5),
}


def _prints(*pictures: Picture) -> np.ndarray:
    return np.stack([fingerprint(np.asarray(picture)[None]) for picture in pictures])


@pytest.mark.parametrize("change", CHANGES)
def test_a_changed_picture_of_another_session_is_a_near_duplicate(change: str) -> None:
    pictures = [room(label, k) for label in ROOMS for k in range(8)]
    changed = [CHANGES[change](picture) for picture in pictures]
    groups = near_duplicate_groups(_prints(*pictures, *changed), ["a"] * len(pictures) + ["b"] * len(pictures))
    assert groups[: len(pictures)] == groups[len(pictures) :]
    assert len(set(groups)) == len(pictures), "and no other picture is"


def test_pictures_of_one_session_are_left_alone() -> None:
    picture = room("hall", 0)
    groups = near_duplicate_groups(_prints(picture, picture), ["a", "a"])
    assert len(set(groups)) == 2


def test_dark_and_bright_empty_pictures_are_no_duplicates_but_two_dark_ones_are() -> None:
    dark, bright = np.full((64, 64, 3), 5, np.uint8), np.full((64, 64, 3), 240, np.uint8)
    groups = near_duplicate_groups(_prints(dark, bright, dark), ["a", "b", "c"])
    assert groups[0] == groups[2] != groups[1]


def test_many_pictures_are_compared_in_parts() -> None:
    rng = np.random.default_rng(0)
    signs = np.where(rng.random((2500, 64)) < 0.5, -1, 1).astype(np.float32)
    signs[2400] = signs[3]
    prints = np.concatenate([signs, np.full((2500, 1), 0.5, np.float32)], axis=1)
    groups = near_duplicate_groups(prints, [str(k % 7) for k in range(2500)])
    assert groups[2400] == groups[3]
    assert len(set(groups)) == 2499
