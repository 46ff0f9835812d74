"""What is done to the landmarks of a clip once they are found, where it is asked for: smoothing, and key frames.

It is done when landmarks are extracted, for training and by `predict` in the same way: the model's description of its
input holds the settings. It is no part of the graph, which takes sequences as they are: a running camera's filter looks
at no later frame, and features count frames by themselves.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from pydantic import Field, model_validator

from gesture_trainer.preprocessing.landmarker import RATE
from shared.schema_utils import Schema

Sequence = NDArray[np.float32]


class SavitzkyGolay(Schema):
    """Each landmark follows a polynomial fitted to the frames around it, before and after."""

    window: int = Field(default=7, ge=3, le=31, description="frames; odd")
    order: int = Field(default=2, ge=1, le=5, description="of the polynomial; less than the window")

    @model_validator(mode="after")
    def _fits(self) -> SavitzkyGolay:
        if self.window % 2 == 0 or self.window <= self.order:
            raise ValueError("the window must be odd and longer than the order")
        return self


class OneEuro(Schema):
    """Each landmark lags the less the faster it moves, and only frames before it count: for use on a running camera."""

    cutoff: float = Field(gt=0.0, le=7.5, description="in Hz, of what stands still: the lower the calmer; 1 is usual")
    speed: float = Field(
        default=5.0, ge=0.0, le=1000.0, description="Hz more for each picture width a second: the higher, the less lag"
    )


Smoothing = SavitzkyGolay | OneEuro


def finish(sequence: Sequence, coordinates: int, smoothing: Smoothing | None, keyframes: int | None) -> Sequence:
    """(T, D) float32 -> (T', D) float32: smoothed, then reduced to key frames, each where it is asked for."""
    if smoothing is not None:
        sequence = smoothed(sequence, coordinates, smoothing)
    return sequence if keyframes is None else key_frames(sequence, keyframes)


def smoothed(sequence: Sequence, coordinates: int, smoothing: Smoothing) -> Sequence:
    """(T, D) float32 -> the same with each unbroken run of a landmark smoothed; a missing landmark stays missing."""
    points = sequence.reshape(len(sequence), -1, coordinates).copy()
    seen = np.asarray(points.any(axis=2))
    for point in range(points.shape[1]):
        edges = np.flatnonzero(np.diff(np.concatenate([[0], seen[:, point].astype(np.int8), [0]])))
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
    calm, place, speed = run.copy(), run[0], np.zeros_like(run[0])
    for number in range(1, len(run)):
        speed = speed + _share(1.0) * ((run[number] - place) * RATE - speed)
        place = place + _share(settings.cutoff + settings.speed * float(np.linalg.norm(speed))) * (run[number] - place)
        calm[number] = place
    return calm


def _share(cutoff: float) -> float:
    """Return how much of what is new passes a first-order low-pass of `cutoff` Hz."""
    return 1.0 / (1.0 + RATE / (2 * np.pi * cutoff))


def key_frames(sequence: Sequence, count: int) -> Sequence:
    """(T, D) float32 -> (at most count, D): first and last frame, and those at even parts of the way travelled."""
    if len(sequence) <= count:
        return sequence
    both = (sequence[1:] != 0) & (sequence[:-1] != 0)
    way = np.concatenate([[0.0], np.cumsum(np.linalg.norm((sequence[1:] - sequence[:-1]) * both, axis=1))])
    places = np.searchsorted(way, np.linspace(0.0, way[-1], count)) if way[-1] > 0 else np.arange(count)
    places[-1] = len(sequence) - 1
    return sequence[np.unique(places)]
