"""The geometry of a few points' paths: their speed and turns, wherever they are drawn."""

from __future__ import annotations

from dataclasses import dataclass

from shared.features.arrays import Array, Inputs, floored, greatest, mean_and_deviation, namespace
from shared.features.sequences import resampled

_SLOW = 1e-3  # of the picture's width a frame: below it a direction is noise


@dataclass(frozen=True)
class PathGeometry:
    """Log speed, and sine and cosine of each turn, at `frames` evenly spaced times and summarised over the path."""

    frames: int

    def __call__(self, inputs: Inputs) -> Array:
        """{"sequence": (T, 2 P) with P points x (x, y)} -> features, with their squares."""
        sequence = inputs["sequence"]
        xp = namespace(sequence)
        places, _ = resampled(sequence, xp.ones_like(sequence), self.frames)
        steps = xp.reshape(places[1:, :] - places[:-1, :], (self.frames - 1, -1, 2))
        speed = xp.sqrt(xp.sum(steps * steps, axis=2))
        before, after = steps[:-1, :, :], steps[1:, :, :]
        scale = floored(speed[:-1, :] * speed[1:, :], 1e-6)
        cross = before[:, :, 0] * after[:, :, 1] - before[:, :, 1] * after[:, :, 0]
        turning, straight = cross / scale, xp.sum(before * after, axis=2) / scale
        length = floored(xp.sum(speed, axis=0), 1e-6)
        slow = xp.log(speed + _SLOW)
        net = places[-1, :] - places[0, :]
        parts = [xp.reshape(part, (-1,)) for part in (slow, turning, straight)]
        parts += [summary for part in (slow, turning, straight, turning * speed[1:, :]) for summary in _summary(part)]
        parts += [xp.sum(part * speed[1:, :], axis=0) / length for part in (turning, straight)]
        parts.append(xp.log(xp.sqrt(xp.sum(xp.reshape(net * net, (-1, 2)), axis=1)) + _SLOW))
        features = xp.concat(parts, axis=0)
        return xp.concat([features, features * features], axis=0)


def _summary(part: Array) -> list[Array]:
    return [*mean_and_deviation(part), greatest(part, axis=0), -greatest(-part, axis=0)]
