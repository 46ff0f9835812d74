"""Video clips and images -> RGB frames at a fixed rate, whatever the recording's own rate."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from gesture_trainer.preprocessing.sandbox import UnusableItemError
from shared.data.media.containers import UnreadableMediaError
from shared.data.media.pictures import PICTURE_SUFFIXES, read_picture
from shared.data.media.video import VIDEO_SUFFIXES as _VIDEO_SUFFIXES
from shared.data.media.video import read_timing, upright, video_frames
from shared.errors import DataError, Fault
from shared.schema_utils import Example

VIDEO_SUFFIXES = frozenset(_VIDEO_SUFFIXES)
IMAGE_SUFFIXES = frozenset(PICTURE_SUFFIXES)
MAX_BYTES = 200_000_000
CHECK_RATE, CHECK_SECONDS = 15.0, 60.0  # what is extracted by default
_COARSE = 8  # of so many pixels one is compared with the frame before
_SEVERAL = 3  # movements: a gesture that is held in between has two
_TWICE, _LEAST = 2.0, 0.5  # times the change of a still picture, and grey levels above it

Frame = NDArray[np.uint8]  # (height, width, 3) RGB


def frames(path: Path, rate: float, longest: float, onset: float = 0.0, offset: float | None = None) -> Iterator[Frame]:
    """Yield (height, width, 3) uint8 RGB frames at `rate` a second from `onset` to `offset` seconds; an image is one.

    A frame that is repeated comes as the same object. Raises UnusableItemError for a file that is too large or too
    long, cut off, or that cannot be decoded.
    """
    suffix = path.suffix.lower()
    if suffix not in VIDEO_SUFFIXES | IMAGE_SUFFIXES:
        known = ", ".join(sorted(VIDEO_SUFFIXES | IMAGE_SUFFIXES))
        raise UnusableItemError(f"is neither video nor image ({suffix or 'no suffix'}); use one of {known}")
    try:
        if suffix in IMAGE_SUFFIXES:
            yield read_picture(path)
        else:
            yield from _resampled(path, rate, longest, onset, offset)
    except UnreadableMediaError as refused:
        raise UnusableItemError(str(refused)) from None


def check_file(path: Path, example: Example) -> tuple[str, ...]:
    """Decode a clip or image and return what should be known of it. Raises DataError for one that cannot be used."""
    change: list[float] = []
    before: NDArray[np.int16] | None = None
    try:
        for frame in frames(path, CHECK_RATE, CHECK_SECONDS, example.onset or 0.0, example.offset):
            small = frame[::_COARSE, ::_COARSE].mean(axis=2).astype(np.int16)
            if before is not None:
                change.append(float(np.abs(small - before).mean()))
            before = small
    except UnusableItemError as error:
        raise DataError([Fault(str(path), None, "media", str(error))]) from None
    count = movements(np.array(change))
    if count < _SEVERAL:
        return ()
    return (f"moves {count} times with pauses between; if these are several gestures, give each its onset and offset",)


def movements(change: NDArray[np.float64]) -> int:
    """(T - 1,) mean change (grey levels) of each frame at CHECK_RATE from the one before -> movements between pauses.

    A pause is a second or more in which the picture changes little more than in its stillest quarter. Single frames do
    not count: every second or so, a codec draws the whole picture anew.
    """
    from scipy.ndimage import median_filter  # slow to import, and whoever extracts landmarks needs none of it

    if not len(change):
        return 0
    change = median_filter(change, size=3)
    still = float(np.quantile(change, 0.25))
    moving = np.flatnonzero(change > max(_TWICE * still, still + _LEAST))
    return 0 if not len(moving) else 1 + int((np.diff(moving) > CHECK_RATE).sum())


def _resampled(path: Path, rate: float, longest: float, onset: float, offset: float | None) -> Iterator[Frame]:
    timing = read_timing(path, MAX_BYTES)
    timing.refuse_if_cut(offset)
    if min(timing.seconds, offset if offset is not None else timing.seconds) - onset > longest:
        raise UnusableItemError(f"is longer than {longest:g} seconds; cut it, or raise extraction.longest")
    first, last, place, current, picture, shown = None, 0.0, 0, None, None, 0.0
    for time, frame in video_frames(path, MAX_BYTES):
        shown = time + timing.step
        if time < onset:
            continue
        if offset is not None and time >= offset:
            break
        first = time if first is None else first
        while current is not None and place / rate < time - first - 1e-3:
            picture = upright(current) if picture is None else picture
            yield picture
            place += 1
        current, picture = frame, None  # most frames are passed over
        last = time - first
    if current is None:
        raise UnusableItemError("holds no frame that can be decoded; record or export it again")
    timing.refuse_if_cut(offset, shown)
    picture = upright(current) if picture is None else picture
    while place / rate <= last + 1e-3:
        yield picture
        place += 1
