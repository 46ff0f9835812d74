"""Features of a sequence of any length: statistics over time, and positions with velocities.

Each class is a feature function: `{"sequence": (T, D) float32}` -> (F,) float32. Where the D numbers are
landmark points, a point at the origin is missing, and the others are centred on the points' mean and scaled
by their spread over the whole sequence, so that features depend neither on the place in the image nor on the distance.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from shared.features.arrays import Array, Inputs, const, floored, length, matmul, mean_and_deviation, namespace


@dataclass(frozen=True)
class Statistics:
    """Mean, deviation, minimum, maximum, first and last value of each number over time, and how fast it changes."""

    coordinates: int  # of a landmark point; 0 for channels

    def __call__(self, inputs: Inputs) -> Array:
        """{"sequence": (T, D)} -> (8 D + 1,)."""
        sequence, _ = normalised(inputs["sequence"], self.coordinates)
        xp = namespace(sequence)
        mean, deviation = mean_and_deviation(sequence)
        speed, restlessness = mean_and_deviation(xp.abs(steps(sequence)))
        parts = [mean, deviation, xp.min(sequence, axis=0), xp.max(sequence, axis=0)]
        parts += [sequence[0, :], sequence[-1, :], speed, restlessness]
        duration = xp.log(xp.astype(xp.reshape(length(sequence), (1,)), sequence.dtype))
        return xp.concat([*parts, duration], axis=0)


@dataclass(frozen=True)
class FrameMean:
    """The numbers of a frame as they are, averaged over the frames: of a single frame, the frame itself."""

    def __call__(self, inputs: Inputs) -> Array:
        """{"sequence": (T, D)} -> (D,)."""
        sequence = inputs["sequence"]
        return namespace(sequence).mean(sequence, axis=0)


@dataclass(frozen=True)
class Resampled:
    """Positions at `frames` evenly spaced times of the sequence, and the velocities between them."""

    coordinates: int
    frames: int

    def __call__(self, inputs: Inputs) -> Array:
        """{"sequence": (T, D)} -> (frames * D + (frames - 1) * D,)."""
        sequence, visible = normalised(inputs["sequence"], self.coordinates)
        xp = namespace(sequence)
        places, _ = resampled(sequence, visible, self.frames)
        velocity = places[1:, :] - places[:-1, :]
        return xp.concat([xp.reshape(places, (-1,)), xp.reshape(velocity, (-1,)) * float(self.frames) / 4], axis=0)


def normalised(sequence: Array, coordinates: int) -> tuple[Array, Array]:
    """(T, D) raw -> (T, D) centred and scaled, and (T, D) 1 where visible; channels are left as they are.

    Points are centred on the mean of all visible points of the sequence and divided by their root mean square
    distance from it; missing points become zero.
    """
    xp = namespace(sequence)
    if coordinates == 0:
        return sequence, xp.ones_like(sequence)
    points = xp.reshape(sequence, (-1, sequence.shape[1] // coordinates, coordinates))
    visible = xp.astype(xp.sum(xp.abs(points), axis=2, keepdims=True) > 0, sequence.dtype)
    count = floored(xp.sum(visible, axis=(0, 1), keepdims=True), 1.0)
    centre = xp.sum(points * visible, axis=(0, 1), keepdims=True) / count
    offsets = (points - centre) * visible
    square = xp.sum(xp.sum(offsets * offsets, axis=2, keepdims=True), axis=(0, 1), keepdims=True) / count
    offsets = offsets / xp.sqrt(floored(square, 1e-12))
    flat = xp.reshape(offsets, (-1, sequence.shape[1]))
    return flat, xp.reshape(visible + xp.zeros_like(points), (-1, sequence.shape[1]))


def steps(sequence: Array) -> Array:
    """(T, D) -> (T, D): change from each frame to the next, zero at the last."""
    xp = namespace(sequence)
    return xp.concat([sequence[1:, :], sequence[-1:, :]], axis=0) - sequence


def resampled(sequence: Array, visible: Array, frames: int) -> tuple[Array, Array]:
    """(T, D), (T, D) -> (frames, D) at evenly spaced times, and (frames, D) 1 where either neighbour is visible.

    Linear interpolation between the two nearest frames, weighted by visibility. Times are exact integers, so rounding
    cannot pick another frame on another machine.
    """
    xp = namespace(sequence)
    last = length(sequence) - 1
    place = const(np.arange(frames), sequence, np.int64) * last
    low = place // (frames - 1)
    part = xp.astype(place - low * (frames - 1), sequence.dtype) / float(frames - 1)
    part = xp.reshape(part, (-1, 1))
    high = xp.minimum(low + 1, xp.zeros_like(low) + last)
    left = (1.0 - part) * xp.take(visible, low, axis=0)
    right = part * xp.take(visible, high, axis=0)
    total = left + right
    mixed = left * xp.take(sequence, low, axis=0) + right * xp.take(sequence, high, axis=0)
    return mixed / floored(total, 1e-6), xp.astype(total > 0, sequence.dtype)


def kernel_resampled(sequence: Array, visible: Array, frames: int) -> Array:
    """(T, D), (T, D) -> (frames, D) at evenly spaced times: means of the visible frames, weighted by their nearness.

    Gaussian weights, half the distance between two times wide, smooth jitter. Where no near frame is visible, distant
    ones fill the gap; where none ever is, the result is zero.
    """
    xp = namespace(sequence)
    count = xp.astype(length(sequence), sequence.dtype)
    index = xp.cumulative_sum(xp.ones_like(sequence[:, 0]), axis=0) - 1.0
    place = const(np.linspace(0.0, 1.0, frames)[:, None], sequence) * (count - 1.0)
    distance = (xp.expand_dims(index, axis=0) - place) / floored(count * (0.5 / frames), 0.7)
    square = distance * distance
    weights = xp.exp(square * -0.5) + 1e-4 / (1.0 + square)
    return matmul(weights, sequence * visible) / floored(matmul(weights, visible), 1e-9)
