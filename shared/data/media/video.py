"""Video files -> upright RGB frames with their times."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from statistics import median

import av
import av.container
import av.error
import av.video.frame
import av.video.stream
import numpy as np
from numpy.typing import NDArray

from shared.data.media.containers import AV_TIME_BASE, UnreadableMediaError, open_container

VIDEO_SUFFIXES = (".mp4", ".m4v", ".mov", ".avi", ".mkv", ".webm", ".3gp", ".3g2")
MAX_BYTES = 500_000_000
MAX_PIXELS = 50_000_000  # of one frame
_WHAT = "a video (MP4, MOV, AVI, MKV, WebM, 3GP)"
_REQUIRED = 0.9  # share of the seconds promised by the header that must be there
_SPARE_FRAMES = 2.5  # that may be missing at the end all the same: headers count what was cut off at the start

Frame = NDArray[np.uint8]  # (height, width, 3) RGB


@dataclass(frozen=True)
class Timing:
    """When the frames of a video are shown, in seconds from the first, found without decoding any."""

    times: tuple[float, ...]
    step: float  # seconds that the last frame lasts
    promised: float | None  # seconds by the header; None where it does not say

    @property
    def seconds(self) -> float:
        return self.times[-1] + self.step

    def refuse_if_cut(self, offset: float | None, shown: float | None = None) -> None:
        """Raise UnreadableMediaError where less is there than the header promises, unless `offset` ends before.

        `shown` are the seconds that could be decoded, where that was tried.
        """
        there = self.seconds if shown is None else shown
        if self.promised is None or (offset is not None and offset <= there + self.step):
            return
        if there < _REQUIRED * self.promised and self.promised - there > _SPARE_FRAMES * self.step:
            raise UnreadableMediaError(
                f"is cut off: {there:.1f} of {self.promised:.1f} s are there; bring it here again, or give an offset "
                "before its end"
            )


def read_timing(path: Path, largest: int = MAX_BYTES) -> Timing:
    """Return when a video's frames are shown. Raises UnreadableMediaError for a file that cannot be used."""
    with open_container(path, largest, _WHAT) as container:
        stream = _stream(container)
        base = float(stream.time_base or 0) or 1.0
        rate = stream.average_rate or stream.guessed_rate
        stamps: list[float] = []
        try:
            for packet in container.demux(stream):
                stamp = packet.pts if packet.pts is not None else packet.dts
                if packet.size and stamp is not None and not packet.is_discard:
                    stamps.append(stamp * base)
        except av.error.FFmpegError:
            pass  # what could be demuxed is judged by the promise of the header
        if not stamps:
            raise UnreadableMediaError("holds no frame that can be decoded; record or export it again")
        stamps.sort()
        steps = [later - earlier for earlier, later in pairwise(stamps) if later > earlier]
        step = median(steps) if steps else 1.0 / float(rate or 25)
        promised = None
        if container.format.name == "avi" and stream.frames and rate:
            promised = stream.frames / float(rate)  # FFmpeg shortens the duration to what the file holds
        elif stream.duration is not None:
            promised = stream.duration * base
        elif container.duration is not None and len(container.streams) == 1:  # of all streams, which need not end alike
            promised = container.duration / AV_TIME_BASE
        return Timing(tuple(stamp - stamps[0] for stamp in stamps), step, promised)


def video_frames(path: Path, largest: int = MAX_BYTES) -> Iterator[tuple[float, av.video.frame.VideoFrame]]:
    """Yield (seconds from the first frame, decoded frame) of a video; `upright` makes a picture of those that are used.

    Raises UnreadableMediaError for a file that cannot be used; frames that cannot be decoded end the video.
    """
    with open_container(path, largest, _WHAT) as container:
        stream = _stream(container)
        stream.thread_type = "AUTO"
        first: float | None = None
        before = -1.0
        try:
            for frame in container.decode(stream):
                if frame.width * frame.height > MAX_PIXELS:
                    raise UnreadableMediaError(f"has frames of more than {MAX_PIXELS // 10**6} megapixels")
                step = 1.0 / float(stream.average_rate or 25)
                time = frame.time if frame.time is not None else before + step
                first = time if first is None else first
                before = time
                yield time - first, frame
        except av.error.FFmpegError:
            return


def _stream(container: av.container.InputContainer) -> av.video.stream.VideoStream:
    if not container.streams.video:
        raise UnreadableMediaError("holds no picture, only sound")
    stream = container.streams.video[0]
    if (stream.codec_context.width or 0) * (stream.codec_context.height or 0) > MAX_PIXELS:
        raise UnreadableMediaError(f"has frames of more than {MAX_PIXELS // 10**6} megapixels")
    return stream


def upright(frame: av.video.frame.VideoFrame) -> Frame:
    """Return a decoded frame as (height, width, 3) uint8 RGB, turned as its recording says."""
    pixels = np.asarray(frame.to_ndarray(format="rgb24"), np.uint8)
    turns = round(frame.rotation / 90) % 4  # a camera that was held sideways says so beside the pictures
    return np.ascontiguousarray(np.rot90(pixels, turns)) if turns else pixels
