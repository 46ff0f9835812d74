"""The shape of a hand, whatever its place, size, side and turn in the picture: distances and angles.

Landmarks are MediaPipe's 21 points of a hand: 0 wrist, then four points a finger from base to tip, thumb first.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise

import numpy as np

from shared.arrays import Array, Inputs, const, floored, mean_and_deviation, namespace

POINTS = 21
_TIPS = (4, 8, 12, 16, 20)
_BASES = (5, 9, 13, 17)  # of the four fingers: the knuckles
_DISTANCES = (
    *((0, tip) for tip in _TIPS),
    *((a, b) for k, a in enumerate(_TIPS) for b in _TIPS[k + 1 :]),
    *((4, joint) for joint in (5, 6, 9, 10, 13, 17)),
)
_FINGERS = tuple((0, *range(first, first + 4)) for first in (1, 5, 9, 13, 17))
_BENDS = tuple((f[k], f[k + 1], f[k + 2]) for f in _FINGERS for k in range(3))  # before, at, after
_SPREADS = tuple(((0, tip_a), (0, tip_b)) for tip_a, tip_b in pairwise(_TIPS))
NUMBERS = len(_DISTANCES) + len(_BENDS) + len(_SPREADS)


@dataclass(frozen=True)
class HandShape:
    """Mean and deviation over time of a hand's 40 shape numbers, and the squares of the means."""

    coordinates: int

    def __call__(self, inputs: Inputs) -> Array:
        """{"sequence": (T, 21 * coordinates)} -> (120,)."""
        sequence = inputs["sequence"]
        points = namespace(sequence).reshape(sequence, (-1, POINTS, self.coordinates))
        mean, deviation = mean_and_deviation(shape_of(points))
        return namespace(sequence).concat([mean, deviation, mean * mean], axis=0)


@dataclass(frozen=True)
class HandsShape:
    """The shape of the more active hand over the frames that show it, and of the other hand where there is one."""

    def __call__(self, inputs: Inputs) -> Array:
        """{"sequence": (T, 4 * 21 * 3)}: left, right in the image, then left, right in metres -> (161,)."""
        sequence = inputs["sequence"]
        xp = namespace(sequence)
        points = xp.reshape(sequence, (-1, 4, POINTS, 3))
        left, right = (xp.concat([points[:, k, :, :], points[:, k + 2, :, :]], axis=1) for k in (0, 1))
        # Activity is seen in the image, where hands move; in metres each has its origin in itself.
        _, _, swap = active_first(left[:, :POINTS, :], right[:, :POINTS, :])
        active, other = left * (1 - swap) + right * swap, right * (1 - swap) + left * swap
        mean, deviation, _ = _shape_where_seen(active[:, POINTS:, :])
        resting, _, share = _shape_where_seen(other[:, POINTS:, :])
        return xp.concat([mean, deviation, mean * mean, resting, share], axis=0)


def _shape_where_seen(points: Array) -> tuple[Array, Array, Array]:
    """(T, 21, 3) -> mean (40,) and deviation (40,) of its shape over the frames that show it, and their share (1,)."""
    xp = namespace(points)
    seen = xp.astype(xp.any(xp.reshape(points, (-1, POINTS * 3)) != 0, axis=1, keepdims=True), points.dtype)
    shape = shape_of(points) * seen
    count = floored(xp.sum(seen, axis=0), 1.0)
    mean = xp.sum(shape, axis=0) / count
    off = (shape - mean) * seen
    return mean, xp.sqrt(xp.sum(off * off, axis=0) / count), xp.mean(seen, axis=0)


def shape_of(points: Array) -> Array:
    """(T, 21, 2 or 3) -> (T, 40): 21 distances in palm lengths, 15 cosines of flexion, 4 of abduction.

    The same for the other hand, for a moved, turned, mirrored or scaled one. A hand without extent is all zeros.
    """
    xp = namespace(points)
    bones = _between(points, tuple((0, base) for base in _BASES))
    palm = floored(xp.mean(xp.sqrt(xp.sum(bones * bones, axis=2)), axis=1, keepdims=True), 1e-6)
    spans = _between(points, _DISTANCES)
    distances = xp.sqrt(xp.sum(spans * spans, axis=2)) / palm
    first = _between(points, tuple((a, b) for a, b, _ in _BENDS))
    second = _between(points, tuple((b, c) for _, b, c in _BENDS))
    flexion = _cosine(first, second)
    abduction = _cosine(
        _between(points, tuple(a for a, _ in _SPREADS)), _between(points, tuple(b for _, b in _SPREADS))
    )
    return xp.concat([distances, flexion, abduction], axis=1)


def _between(points: Array, pairs: tuple[tuple[int, int], ...]) -> Array:
    """(T, P, C) -> (T, len(pairs), C): from the first to the second point of each pair."""
    xp = namespace(points)
    ends = xp.take(points, const(np.array([b for _, b in pairs]), points, np.int64), axis=1)
    return ends - xp.take(points, const(np.array([a for a, _ in pairs]), points, np.int64), axis=1)


def _cosine(a: Array, b: Array) -> Array:
    xp = namespace(a)
    lengths = xp.sqrt(xp.sum(a * a, axis=2) * xp.sum(b * b, axis=2))
    return xp.sum(a * b, axis=2) / floored(lengths, 1e-9)


def active_first(first: Array, second: Array) -> tuple[Array, Array, Array]:
    """Two hands (T, P, C), a missing point at the origin -> the more active, the other, and (1, 1, 1) 1 if swapped.

    Which hand a person uses may differ from day to day; what it does is the same.
    """
    xp = namespace(first)
    swap = xp.astype(_activity(second) > _activity(first), first.dtype)
    swap = xp.reshape(swap, (1, 1, 1))
    return first * (1 - swap) + second * swap, second * (1 - swap) + first * swap, swap


def _activity(hand: Array) -> Array:
    """(T, P, C) -> (): how far the seen points travel, plus a little for being seen at all."""
    xp = namespace(hand)
    seen = xp.astype(xp.any(hand != 0, axis=2, keepdims=True), hand.dtype)
    step = (hand[1:, ...] - hand[:-1, ...]) * seen[1:, ...] * seen[:-1, ...]
    return xp.sum(xp.sqrt(xp.sum(step * step, axis=2) + 1e-12)) + 1e-3 * xp.sum(seen)
