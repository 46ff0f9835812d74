"""Video clips and images -> RGB frames at a fixed rate, whatever the recording's own rate."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

os.environ.setdefault("OPENCV_IO_MAX_IMAGE_PIXELS", str(50_000_000))  # read once, when cv2 is imported

from gesture_trainer.preprocessing.sandbox import UnusableItemError

VIDEO_SUFFIXES = frozenset({".mp4", ".webm", ".avi"})
IMAGE_SUFFIXES = frozenset({".jpg", ".jpeg", ".png"})
MAX_BYTES = 200_000_000
MAX_PIXELS = 16_000_000  # of one frame of a video

Frame = NDArray[np.uint8]  # (height, width, 3) RGB


def frames(path: Path, rate: float, longest: float, onset: float = 0.0, offset: float | None = None) -> Iterator[Frame]:
    """Yield (height, width, 3) uint8 RGB frames at `rate` a second from `onset` to `offset` seconds; an image is one.

    A frame that is repeated comes as the same object. Raises UnusableItemError for a file that is too large or too
    long, or that cannot be decoded.
    """
    suffix = path.suffix.lower()
    if suffix not in VIDEO_SUFFIXES | IMAGE_SUFFIXES:
        known = ", ".join(sorted(VIDEO_SUFFIXES | IMAGE_SUFFIXES))
        raise UnusableItemError(f"is neither video nor image ({suffix or 'no suffix'}); use one of {known}")
    if path.stat().st_size > MAX_BYTES:
        raise UnusableItemError(f"is larger than {MAX_BYTES // 10**6} MB")
    if suffix in IMAGE_SUFFIXES:
        yield _image(path)
        return
    first, last, place, current = None, 0.0, 0, None
    for time, frame in _timed(path):
        if time < onset:
            continue
        if offset is not None and time >= offset:
            break
        first = time if first is None else first
        if time - first > longest:
            raise UnusableItemError(f"is longer than {longest:g} seconds; cut it, or raise extraction.longest")
        while current is not None and place / rate < time - first - 1e-3:
            yield current
            place += 1
        current = frame
        last = time - first
    if current is None:
        raise UnusableItemError("holds no frame that can be decoded; record or export it again")
    while place / rate <= last + 1e-3:
        yield current
        place += 1


def _timed(path: Path) -> Iterator[tuple[float, Frame]]:
    """Yield (seconds, frame) of a video; where its own timestamps do not increase, they follow from its rate."""
    import cv2  # slow to import, and feature files need none of it

    video = cv2.VideoCapture(str(path))
    try:
        own_rate = video.get(cv2.CAP_PROP_FPS)
        own_rate = own_rate if 1 <= own_rate <= 240 else 30.0
        number, before = 0, -1.0
        while True:
            decoded, picture = video.read()
            if not decoded:
                return
            if picture.shape[0] * picture.shape[1] > MAX_PIXELS:
                raise UnusableItemError(f"has frames of more than {MAX_PIXELS // 10**6} megapixels")
            time = video.get(cv2.CAP_PROP_POS_MSEC) / 1000.0
            if not (time > before and (number > 0 or time >= 0)):
                time = before + 1.0 / own_rate if number else 0.0
            yield time, np.asarray(cv2.cvtColor(picture, cv2.COLOR_BGR2RGB), np.uint8)
            before = time
            number += 1
    finally:
        video.release()


def _image(path: Path) -> Frame:
    import cv2

    try:
        picture = cv2.imdecode(np.frombuffer(path.read_bytes(), np.uint8), cv2.IMREAD_COLOR)
    except cv2.error:
        picture = None
    if picture is None:
        raise UnusableItemError("cannot be decoded; record or export the picture again")
    return np.asarray(cv2.cvtColor(picture, cv2.COLOR_BGR2RGB), np.uint8)
