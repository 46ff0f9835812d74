"""Optional steps after extraction: smoothing of landmarks, and selection of key frames.

They run when landmarks are extracted, in training and in `predict` alike: the model's description of its input holds
the settings. They are not part of the graph, which takes sequences as they are: a filter on a running camera cannot use
later frames, and features depend on the number of frames.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from pydantic import Field, model_validator

from gesture_trainer.preprocessing.landmarker import RATE
from shared.schema_utils import Schema

Sequence = NDArray[np.float32]


class SavitzkyGolay(Schema):
    """Each landmark is replaced by a polynomial fitted to the frames around it, before and after."""

    window: int = Field(default=7, ge=3, le=31, description="frames; odd")
    order: int = Field(default=2, ge=1, le=5, description="of the polynomial; less than the window")

    @model_validator(mode="after")
    def _fits(self) -> SavitzkyGolay:
        if self.window % 2 == 0 or self.window <= self.order:
            raise ValueError("the window must be odd and longer than the order")
        return self


class OneEuro(Schema):
    """A low-pass filter that lags less the faster a landmark moves; it uses past frames only, as a live camera must."""

    cutoff: float = Field(gt=0.0, le=7.5, description="in Hz, for a landmark at rest: lower is smoother; 1 is usual")
    speed: float = Field(
        default=5.0, ge=0.0, le=1000.0, description="Hz more per picture width a second: higher means less lag"
    )


Smoothing = SavitzkyGolay | OneEuro


def postprocess(sequence: Sequence, coordinates: int, smoothing: Smoothing | None, keyframes: int | None) -> Sequence:
    """(T, D) float32 -> (T', D) float32: smoothed, then reduced to key frames, each where it is configured."""
    if smoothing is not None:
        sequence = smoothed(sequence, coordinates, smoothing)
    return sequence if keyframes is None else key_frames(sequence, keyframes)


def smoothed(sequence: Sequence, coordinates: int, smoothing: Smoothing) -> Sequence:
    """(T, D) float32 -> the same with each unbroken run of a landmark smoothed; a missing landmark stays missing."""
    points = sequence.reshape(len(sequence), -1, coordinates).copy()
    visible = np.asarray(points.any(axis=2))
    for point in range(points.shape[1]):
        edges = np.flatnonzero(np.diff(np.concatenate([[0], visible[:, point].astype(np.int8), [0]])))
        for start, stop in zip(edges[::2], edges[1::2], strict=True):
            run = points[start:stop, point]
            if isinstance(smoothing, OneEuro):
                points[start:stop, point] = _one_euro(run, smoothing)
            elif len(run) >= smoothing.window:  # a shorter run stays as it is
                points[start:stop, point] = _savitzky_golay(run, smoothing)
    return points.reshape(sequence.shape)


def _savitzky_golay(run: Sequence, settings: SavitzkyGolay) -> Sequence:
    from scipy.signal import savgol_filter

    return np.asarray(savgol_filter(run, settings.window, settings.order, axis=0), np.float32)


def _one_euro(run: Sequence, settings: OneEuro) -> Sequence:
    """(T, C) -> (T, C). Casiez, Roussel and Vogel 2012, "1 Euro filter", at 15 frames a second."""
    smooth, place, speed = run.copy(), run[0], np.zeros_like(run[0])
    for number in range(1, len(run)):
        speed = speed + _smoothing_factor(1.0) * ((run[number] - place) * RATE - speed)
        cutoff = settings.cutoff + settings.speed * float(np.linalg.norm(speed))
        place = place + _smoothing_factor(cutoff) * (run[number] - place)
        smooth[number] = place
    return smooth


def _smoothing_factor(cutoff: float) -> float:
    """Return the weight of the newest value in a first-order low-pass of `cutoff` Hz."""
    return 1.0 / (1.0 + RATE / (2 * np.pi * cutoff))


def key_frames(sequence: Sequence, count: int) -> Sequence:
    """(T, D) float32 -> (at most count, D): first and last frame, and those at even parts of the distance travelled."""
    if len(sequence) <= count:
        return sequence
    both = (sequence[1:] != 0) & (sequence[:-1] != 0)
    travelled = np.concatenate([[0.0], np.cumsum(np.linalg.norm((sequence[1:] - sequence[:-1]) * both, axis=1))])
    marks = np.linspace(0.0, travelled[-1], count)
    places = np.searchsorted(travelled, marks) if travelled[-1] > 0 else np.arange(count)
    places[-1] = len(sequence) - 1
    return sequence[np.unique(places)]
