"""Video files -> upright RGB frames, sampled at a rate."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

from shared.data.media.video import VIDEO_SUFFIXES, read_timing, upright, video_frames
from shared.schema_utils import Box
from visual_environment_trainer.preprocessing.images import Pixels, UnreadableImageError, cut_out

__all__ = ["MAX_FRAMES", "VIDEO_SUFFIXES", "frames_shown", "read_frames"]

MAX_FRAMES = 32  # that are used; a longer section is sampled more sparsely
MAX_SECONDS = 600.0  # that are searched for frames


def read_frames(
    path: Path, rate: float, onset: float | None = None, offset: float | None = None, box: Box | None = None
) -> list[Pixels]:
    """Return frames, (height, width, 3) uint8 RGB each: `rate` a second between onset and offset (s), at most 32.

    Each is the frame that is shown in the middle of an equal part of that section. Raises UnreadableImageError for a
    file that is too large or too long, damaged, cut off, or no video.
    """
    timing = read_timing(path)
    timing.refuse_if_cut(offset)
    start, end = onset or 0.0, min(timing.seconds, offset if offset is not None else timing.seconds)
    shown = sum(start - timing.step < time < end for time in timing.times)
    if end <= start or not shown:
        raise UnreadableImageError(f"has no frame in this region; it lasts {timing.seconds:.1f} s")
    if end > MAX_SECONDS:
        raise UnreadableImageError(f"lasts more than {MAX_SECONDS:.0f} s; cut out what matters, or give an offset")
    count = min(max(round((end - start) * rate), 1), MAX_FRAMES, shown)
    middles = [start + (k + 0.5) * (end - start) / count for k in range(count)]
    frames = [cut_out(frame, box) for frame in frames_shown(path, middles)]
    if len(frames) < count:
        raise UnreadableImageError(f"is cut off or damaged: {len(frames)} of {count} frames can be read")
    return frames


def frames_shown(path: Path, moments: Sequence[float]) -> Iterator[Pixels]:
    """Yield the frame that is shown at each moment (s), in order. All are decoded: seeking is inexact in many files."""
    remaining = list(moments)
    current = None
    for time, frame in video_frames(path):
        while remaining and current is not None and remaining[0] < time:
            remaining.pop(0)
            yield upright(current)
        if not remaining:
            return
        current = frame
    if current is not None and len(remaining) == 1:  # the last frame lasts until the end
        yield upright(current)
