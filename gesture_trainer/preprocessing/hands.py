"""The shape of a hand, whatever its place, size, side and turn in the picture: distances and angles.

Landmarks are MediaPipe's 21 points of a hand: 0 wrist, then four points a finger from base to tip, thumb first.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise

import numpy as np

from shared.features.arrays import Array, Inputs, const, floored, greatest, length, mean_and_deviation, namespace
from shared.features.sequences import kernel_resampled, steps

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
_MOVEMENT = 10.0  # of one picture's height, against a hand that is as much higher and still
_STRAIGHT = 0.999  # the largest cosine that counts as less than 1


@dataclass(frozen=True)
class HandShape:
    """Mean and deviation over time of a hand's 40 shape numbers."""

    coordinates: int

    def __call__(self, inputs: Inputs) -> Array:
        """{"sequence": (T, 21 * coordinates)} -> (80,)."""
        sequence = inputs["sequence"]
        points = namespace(sequence).reshape(sequence, (-1, POINTS, self.coordinates))
        mean, deviation = mean_and_deviation(shape_of(points))
        return namespace(sequence).concat([mean, deviation], axis=0)


@dataclass(frozen=True)
class HandsShape:
    """The shape of the active hand over the frames that show it, and in how many there is another.

    Nothing else of the other hand: one that rests in view on one day and not on the next would say which day it is.
    """

    world: bool = True  # both hands are repeated in metres, from which their shapes are computed

    def __call__(self, inputs: Inputs) -> Array:
        """{"sequence": (T, 2 or 4 * 21 * 3)}: left, right in the image, then left, right in metres -> (81,)."""
        active, other, _ = _active_and_other(inputs["sequence"], self.world)
        mean, deviation, _ = _shape_where_visible(active)
        return namespace(active).concat([mean, deviation, _shape_where_visible(other)[2]], axis=0)


@dataclass(frozen=True)
class OtherHand:
    """The mean shape of the hand that is not the active one, for signs that are made with both."""

    world: bool = True

    def __call__(self, inputs: Inputs) -> Array:
        """{"sequence": (T, 2 or 4 * 21 * 3)} -> (40,)."""
        return _shape_where_visible(_active_and_other(inputs["sequence"], self.world)[1])[0]


@dataclass(frozen=True)
class Fingertips:
    """Mean place of the active hand's fingertips from its wrist: thumbs up is not thumbs down.

    In decimetres, where hands are given in metres, which keeps numbers near one; else in palm lengths. A right hand
    counts as its mirror image where the sequence says which hand it is.
    """

    coordinates: int
    hands: int
    world: bool

    def __call__(self, inputs: Inputs) -> Array:
        """{"sequence": (T, hands * 21 * coordinates), twice that with `world`} -> (5 * coordinates,)."""
        sequence = inputs["sequence"]
        xp = namespace(sequence)
        hand, mirror = xp.reshape(sequence[:, : POINTS * self.coordinates], (-1, POINTS, self.coordinates)), None
        if self.hands == 2:
            hand, _, swap = _active_and_other(sequence, self.world)
            mirror = 1.0 - xp.reshape(swap, (1, 1)) * const(np.array([[2.0, 0.0, 0.0]]), sequence)
        visible = xp.expand_dims(whole_hand_visible(hand), axis=2)
        unit = 0.1 if self.world else xp.expand_dims(floored(palm_length(hand), 1e-6), axis=2)
        tips = _between(hand, tuple((0, tip) for tip in _TIPS)) / unit * visible
        mean = xp.sum(tips, axis=0) / floored(xp.sum(visible, axis=0), 1.0)
        return xp.reshape(mean if mirror is None else mean * mirror, (-1,))


def _active_and_other(sequence: Array, world: bool) -> tuple[Array, Array, Array]:
    """(T, 2 or 4 * 21 * 3) -> active and other hand (T, 21, 3), in metres with `world`, and (1, 1, 1) 1 if swapped.

    Activity is measured in the image, where hands move; in metres each hand is its own origin.
    """
    xp = namespace(sequence)
    points = xp.reshape(sequence, (-1, 4 if world else 2, POINTS, 3))
    active, other, swap = active_first(points[:, 0, :, :], points[:, 1, :, :])
    if world:
        active, other = _exchanged(points[:, 2, :, :], points[:, 3, :, :], swap)
    return active, other, swap


def _shape_where_visible(points: Array) -> tuple[Array, Array, Array]:
    """(T, 21, 3) -> mean (40,), deviation (40,) of its shape over the frames that show it, and their share (1,)."""
    xp = namespace(points)
    visible = whole_hand_visible(points)
    shape = shape_of(points) * visible
    count = floored(xp.sum(visible, axis=0), 1.0)
    mean = xp.sum(shape, axis=0) / count
    off = (shape - mean) * visible
    return mean, xp.sqrt(xp.sum(off * off, axis=0) / count), xp.mean(visible, axis=0)


@dataclass(frozen=True)
class HandMotion:
    """The shape of the active hand over time, its wrist's path in palm lengths, and whether there is another hand.

    Invariant to mirroring, to which hand is used, and to place and distance.
    """

    coordinates: int
    hands: int
    world: bool  # the hands are repeated in metres around their own centre, from which their shapes are computed
    frames: int

    def __call__(self, inputs: Inputs) -> Array:
        """{"sequence": (T, hands * 21 * coordinates), twice that with `world`} -> features."""
        sequence = inputs["sequence"]
        xp = namespace(sequence)
        width = POINTS * self.coordinates
        blocks = [
            xp.reshape(sequence[:, k * width : (k + 1) * width], (-1, POINTS, self.coordinates))
            for k in range(self.hands * (2 if self.world else 1))
        ]
        active, other, mirror = blocks[0], blocks[self.hands - 1], 1.0
        solid = blocks[-self.hands :]
        if self.hands == 2:
            active, other, swap = active_first(blocks[0], blocks[1])
            solid = list(_exchanged(solid[0], solid[1], swap))
            mirror = 1 - 2 * swap
        parts = _course(solid[0], self.frames // 4)
        visible = whole_hand_visible(active)
        flip = const([1.0] + [0.0] * (self.coordinates - 1), sequence)
        count = floored(xp.sum(visible, axis=0), 1.0)
        path = active[:, 0, :] - xp.sum(active[:, 0, :] * visible, axis=0) / count
        path = path / floored(xp.sum(palm_length(active) * visible, axis=0) / count, 1e-6) * visible
        path = path * (flip * xp.reshape(mirror + xp.zeros((1, 1), dtype=path.dtype), (1, 1)) + (1 - flip))
        places = kernel_resampled(path, visible + xp.zeros_like(path), self.frames)
        parts += [xp.reshape(places, (-1,)), xp.reshape(places[1:, :] - places[:-1, :], (-1,)) * (self.frames / 4.0)]
        parts += [*mean_and_deviation(xp.abs(steps(path))), greatest(path, axis=0), -greatest(-path, axis=0)]
        parts += [xp.mean(visible, axis=0), xp.mean(whole_hand_visible(other), axis=0)]
        parts.append(xp.log(xp.astype(xp.reshape(length(sequence), (1,)), sequence.dtype)))
        return xp.concat(parts, axis=0)


def whole_hand_visible(hand: Array, missing: int = 1) -> Array:
    """(T, 21, C) -> (T, 1): 1 where all points but `missing` are visible: the wrist may be the origin of the others."""
    xp = namespace(hand)
    count = xp.sum(points_visible(hand), axis=1)
    return xp.astype(count > POINTS - missing - 0.5, hand.dtype)


def points_visible(points: Array) -> Array:
    """(T, P, C) -> (T, P, 1): 0 where a point is at the origin, which means that it is missing, else 1."""
    xp = namespace(points)
    return xp.astype(xp.sum(xp.abs(points), axis=2, keepdims=True) > 0, points.dtype)


def _course(hand: Array, moments: int) -> list[Array]:
    """(T, 21, C) -> mean and deviation of 40 shape numbers while the hand is visible, and the shape at moments."""
    xp = namespace(hand)
    visible = whole_hand_visible(hand)
    shape = shape_of(hand) * visible
    count = floored(xp.sum(visible, axis=0), 1.0)
    mean = xp.sum(shape, axis=0) / count
    off = (shape - mean) * visible
    places = kernel_resampled(shape, visible + xp.zeros_like(shape), max(moments, 2))
    return [mean, xp.sqrt(xp.sum(off * off, axis=0) / count), xp.reshape(places, (-1,))]


def palm_length(hand: Array) -> Array:
    """(T, 21, C) -> (T, 1): mean distance from wrist to knuckles."""
    xp = namespace(hand)
    bones = _between(hand, tuple((0, base) for base in _BASES))
    return xp.mean(xp.sqrt(xp.sum(bones * bones, axis=2)), axis=1, keepdims=True)


def shape_of(points: Array) -> Array:
    """(T, 21, 2 or 3) -> (T, 40): 21 distances in palm lengths, 15 angles of flexion and 4 of abduction in radians.

    Invariant to which hand it is, and to translation, rotation, mirroring and scale.
    """
    xp = namespace(points)
    palm = floored(palm_length(points), 1e-6)
    spans = _between(points, _DISTANCES)
    distances = xp.sqrt(xp.sum(spans * spans, axis=2)) / palm
    first = _between(points, tuple((a, b) for a, b, _ in _BENDS))
    second = _between(points, tuple((b, c) for _, b, c in _BENDS))
    flexion = _angle(first, second)
    abduction = _angle(_between(points, tuple(a for a, _ in _SPREADS)), _between(points, tuple(b for _, b in _SPREADS)))
    return xp.concat([distances, flexion, abduction], axis=1)


def _between(points: Array, pairs: tuple[tuple[int, int], ...]) -> Array:
    """(T, P, C) -> (T, len(pairs), C): from the first to the second point of each pair."""
    xp = namespace(points)
    ends = xp.take(points, const(np.array([b for _, b in pairs]), points, np.int64), axis=1)
    return ends - xp.take(points, const(np.array([a for a, _ in pairs]), points, np.int64), axis=1)


def _angle(a: Array, b: Array) -> Array:
    """(T, N, C), (T, N, C) -> (T, N) radians. Clipped just short of 0 and pi, where rounding errors are amplified."""
    xp = namespace(a)
    lengths = xp.sqrt(xp.sum(a * a, axis=2) * xp.sum(b * b, axis=2))
    cosine = xp.sum(a * b, axis=2) / floored(lengths, 1e-9)
    return xp.acos(-floored(-floored(cosine, -_STRAIGHT), -_STRAIGHT))


def active_first(first: Array, second: Array) -> tuple[Array, Array, Array]:
    """Two hands (T, P, C), a missing point at the origin -> the more active, the other, and (1, 1, 1) 1 if swapped.

    A person may make the same gesture with the other hand on another day.
    """
    xp = namespace(first)
    swap = xp.astype(_activity(second) > _activity(first), first.dtype)
    swap = xp.reshape(swap, (1, 1, 1))
    return (*_exchanged(first, second, swap), swap)


def _exchanged(first: Array, second: Array, swap: Array) -> tuple[Array, Array]:
    """Return the two hands, exchanged where `swap` (1, 1, 1) is 1."""
    return first * (1 - swap) + second * swap, second * (1 - swap) + first * swap


def _activity(hand: Array) -> Array:
    """(T, P, C) in the image, y down -> (): how far the points move, how high they are, in how many frames.

    Movement is the standard deviation of the places, not the way: a hand that is held still trembles as much as one
    that rests, and then the higher one is the active one.
    """
    xp = namespace(hand)
    visible = points_visible(hand)
    count = floored(xp.sum(visible, axis=0, keepdims=True), 1.0)
    total = floored(xp.sum(visible), 1.0)
    off = (hand - xp.sum(hand, axis=0, keepdims=True) / count) * visible
    moved = xp.sqrt(xp.sum(off * off) / total + 1e-12)
    height = xp.sum((1.0 - hand[..., 1:2]) * visible) / total
    return moved * _MOVEMENT + height + xp.mean(visible)
