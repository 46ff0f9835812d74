"""Video files -> upright RGB frames, sampled at a rate."""

from __future__ import annotations

import math
from collections.abc import Iterator
from pathlib import Path

import cv2

from shared.schema_utils import Box
from visual_environment_trainer.preprocessing.images import Pixels, UnreadableImageError, refuse_too_large, rgb

VIDEO_ENDINGS = (".mp4", ".mov", ".avi", ".mkv", ".webm")
MOST_FRAMES = 32  # that are looked at; a longer section is sampled more thinly
MOST_SECONDS = 600.0  # that are searched for frames
MOST_BYTES = 500_000_000
_MISSING = 0.8  # of the frames that the header tells of, at least so many must be there


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
            raise UnreadableImageError("does not tell how many frames it has in a second")
        first = round((onset or 0.0) * per_second)
        last = min(promised, round(offset * per_second)) if offset is not None else promised
        if last <= first:
            raise UnreadableImageError(f"has no frame to look at; it lasts {max(promised, 0) / per_second:.1f} s")
        if last > MOST_SECONDS * per_second:
            raise UnreadableImageError(f"is searched for more than {MOST_SECONDS:.0f} s; cut out what matters")
        wanted = _spread(first, last, per_second, rate)
        frames = list(_retrieved(capture, wanted, box))
    except cv2.error:
        raise UnreadableImageError("cannot be decoded; record or export the video again") from None
    finally:
        capture.release()
    if len(frames) < max(1.0, _MISSING * len(wanted)):
        raise UnreadableImageError(f"is cut off: {len(frames)} of {len(wanted)} frames can be read")
    return frames


def _spread(first: int, last: int, per_second: float, rate: float) -> list[int]:
    """Return the numbers of the frames to look at, in the middle of equal parts of [first, last)."""
    count = min(max(round((last - first) / per_second * rate), 1), MOST_FRAMES, last - first)
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
    """Refuse what is no video, so that FFmpeg sees no playlist or other file that leads it elsewhere."""
    try:
        size = path.stat().st_size
        with path.open("rb") as file:
            start = file.read(16)
    except OSError as error:
        raise UnreadableImageError((error.strerror or "cannot be read").lower()) from None
    if size > MOST_BYTES:
        raise UnreadableImageError(f"is larger than {MOST_BYTES // 10**6} MB")
    if start[4:8] == b"ftyp":
        endings: tuple[str, ...] = (".mp4", ".mov")
    elif start[:4] == b"RIFF" and start[8:12] == b"AVI ":
        endings = (".avi",)
    elif start[:4] == b"\x1a\x45\xdf\xa3":
        endings = (".mkv", ".webm")
    else:
        raise UnreadableImageError("is no MP4, MOV, AVI, MKV or WebM video")
    if path.suffix.lower() not in endings:
        raise UnreadableImageError(f"is named {path.suffix} but holds a {endings[0]} video")
