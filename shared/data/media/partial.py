"""How much of a file is whole, where a recorder or a transfer was interrupted."""

from __future__ import annotations

from pathlib import Path

import av.error

from shared.data.media.containers import UnreadableMediaError, open_container

_LARGEST = 4 << 30  # bytes


def whole_seconds(path: Path) -> float | None:
    """Return how many seconds of a sound or video can be decoded; None for a picture, and where nothing can.

    Of a video it is the time of the last picture, so that the region up to there holds it.
    """
    try:
        with open_container(path, _LARGEST, "a sound or video") as container:
            video, audio = container.streams.video, container.streams.audio
            if not (video or audio):
                return None
            times: list[float] = []
            try:
                for frame in container.decode(video[0]) if video else container.decode(audio[0]):
                    if frame.time is not None:
                        times = [*times[:1], frame.time]
            except (av.error.FFmpegError, ValueError):
                pass  # what was decoded before is whole
            return times[1] - times[0] if len(times) == 2 else None
    except UnreadableMediaError:
        return None
