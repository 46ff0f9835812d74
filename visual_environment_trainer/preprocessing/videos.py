"""Video files -> upright RGB frames, sampled at a rate."""

from __future__ import annotations

import math
from collections.abc import Iterator
from pathlib import Path

import cv2

from shared.data.files import reason_of
from shared.schema_utils import Box
from visual_environment_trainer.preprocessing.images import Pixels, UnreadableImageError, refuse_too_large, rgb

VIDEO_SUFFIXES = (".mp4", ".mov", ".avi", ".mkv", ".webm")
MAX_FRAMES = 32  # that are used; a longer section is sampled more sparsely
MAX_SECONDS = 600.0  # that are searched for frames
MAX_BYTES = 500_000_000
_REQUIRED = 0.8  # share of the frames promised by the header that must be readable


def read_frames(
    path: Path, rate: float, onset: float | None = None, offset: float | None = None, box: Box | None = None
) -> list[Pixels]:
    """Return frames, (height, width, 3) uint8 RGB each: `rate` a second between onset and offset (s), at most 32.

    Raises UnreadableImageError for a file that is too large or too long, damaged, cut off, or not what its name says.
    """
    _check_container(path)
    # Only FFmpeg's reader: others take a name for a pattern of many files.
    capture = cv2.VideoCapture(str(path), cv2.CAP_FFMPEG)
    try:
        if not capture.isOpened():
            raise UnreadableImageError("cannot be opened as a video; record or export it again")
        per_second, promised = capture.get(cv2.CAP_PROP_FPS), int(capture.get(cv2.CAP_PROP_FRAME_COUNT))
        refuse_too_large(int(capture.get(cv2.CAP_PROP_FRAME_WIDTH)), int(capture.get(cv2.CAP_PROP_FRAME_HEIGHT)))
        if not (math.isfinite(per_second) and 0.1 <= per_second <= 1000):
            raise UnreadableImageError("does not say how many frames a second it has")
        first = round((onset or 0.0) * per_second)
        last = min(promised, round(offset * per_second)) if offset is not None else promised
        if last <= first:
            raise UnreadableImageError(f"has no frame in this region; it lasts {max(promised, 0) / per_second:.1f} s")
        if last > MAX_SECONDS * per_second:
            raise UnreadableImageError(f"has a region that ends after {MAX_SECONDS:.0f} s; cut out what matters")
        wanted = _spread(first, last, per_second, rate)
        frames = list(_retrieved(capture, wanted, box))
    except cv2.error:
        raise UnreadableImageError("cannot be decoded; record or export the video again") from None
    finally:
        capture.release()
    if len(frames) < max(1.0, _REQUIRED * len(wanted)):
        raise UnreadableImageError(f"is cut off: {len(frames)} of {len(wanted)} frames can be read")
    return frames


def _spread(first: int, last: int, per_second: float, rate: float) -> list[int]:
    """Return the numbers of the frames to use, in the middle of equal parts of [first, last)."""
    count = min(max(round((last - first) / per_second * rate), 1), MAX_FRAMES, last - first)
    return [first + int((k + 0.5) * (last - first) / count) for k in range(count)]


def _retrieved(capture: cv2.VideoCapture, wanted: list[int], box: Box | None) -> Iterator[Pixels]:
    """Yield the wanted frames. All before them are read, since seeking is inexact in many files."""
    remaining = iter(wanted)
    next_one = next(remaining, None)
    for number in range(wanted[-1] + 1):
        if not capture.grab():
            return
        if number == next_one:
            read, frame = capture.retrieve()
            if not read:
                return
            yield rgb(frame, box)
            next_one = next(remaining, None)


def _check_container(path: Path) -> None:
    """Refuse what is not a video, so that FFmpeg never opens a playlist or another file that points elsewhere."""
    try:
        size = path.stat().st_size
        with path.open("rb") as file:
            start = file.read(16)
    except OSError as error:
        raise UnreadableImageError(reason_of(error)) from None
    if size > MAX_BYTES:
        raise UnreadableImageError(f"is larger than {MAX_BYTES // 10**6} MB")
    if start[4:8] == b"ftyp":
        suffixes: tuple[str, ...] = (".mp4", ".mov")
    elif start[:4] == b"RIFF" and start[8:12] == b"AVI ":
        suffixes = (".avi",)
    elif start[:4] == b"\x1a\x45\xdf\xa3":
        suffixes = (".mkv", ".webm")
    else:
        raise UnreadableImageError("is not an MP4, MOV, AVI, MKV or WebM video")
    if path.suffix.lower() not in suffixes:
        raise UnreadableImageError(f"is named {path.suffix} but holds a {suffixes[0]} video")
