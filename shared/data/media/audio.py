"""Sound of containers that libsndfile does not read: what phones and browsers record, and the sound of videos."""

from __future__ import annotations

from pathlib import Path

import av
import av.error
import numpy as np
from numpy.typing import NDArray

from shared.data.media.containers import AV_TIME_BASE, UnreadableMediaError, open_container

_WHAT = "a sound that can be read"
_REQUIRED = 0.9  # share of the seconds promised by the header that must be there
_SPARE = 0.25  # seconds that may be missing all the same: encoders count their own delay


def read_audio(path: Path, largest: int, start: float, longest: float) -> tuple[NDArray[np.float32], int]:
    """Return (channels, N) float32 from `start` (s) on, at most `longest` seconds, and the rate in Hz.

    Raises UnreadableMediaError for a file that is too large, damaged, cut short, or holds no sound.
    """
    with open_container(path, largest, _WHAT) as container:
        if not container.streams.audio:
            raise UnreadableMediaError("holds no sound")
        stream = container.streams.audio[0]
        rate = stream.rate
        if not rate:
            raise UnreadableMediaError("holds no sound")
        promised = float(stream.duration * stream.time_base) if stream.duration and stream.time_base else None
        if promised is None and container.duration is not None and len(container.streams) == 1:
            promised = container.duration / AV_TIME_BASE
        resampler = av.AudioResampler(format="fltp")
        parts: list[NDArray[np.float32]] = []
        count, wanted, whole = 0, round((start + longest) * rate), False
        try:
            for frame in container.decode(stream):
                for converted in resampler.resample(frame):
                    parts.append(np.asarray(converted.to_ndarray(), np.float32))
                    count += parts[-1].shape[1]
                if count > wanted:
                    break
            else:
                whole = True
        except (av.error.FFmpegError, ValueError):
            raise UnreadableMediaError(f"is damaged after {count / rate:.1f} s; bring it here again") from None
        if not parts:
            raise UnreadableMediaError("holds no sound")
        seconds = count / rate
        if whole and promised is not None and promised - seconds > max(_SPARE, (1 - _REQUIRED) * promised):
            raise UnreadableMediaError(
                f"is cut short: {seconds:.1f} of {promised:.1f} s are there; bring it here again"
            )
        samples = np.concatenate(parts, axis=1)
        return samples[:, round(start * rate) : round((start + longest) * rate)], rate
