"""A gesture in the body's own frame: where the hands go between the shoulders, and what shape they take.

Input is `mediapipe_tasks_video_xy_v1`: 107 points x (x, y), pose 33, left hand 21, right hand 21, face 32, a missing
point at the origin. The frame's origin is between the shoulders, its unit their distance and its x axis their line,
so neither place in the picture nor distance from the camera nor its tilt counts. The more active hand stands on one
side, whichever it is, unless sides are asked for.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from gesture_trainer.preprocessing.hands import active_first, found, palm_length, shape_of, there
from gesture_trainer.preprocessing.motion import filled
from shared.features.arrays import Array, Inputs, const, floored, length, namespace

_MOUTH, _SHOULDERS = (9, 10), (11, 12)  # left, right
_LEFT = (15, 13, 16, 14, *range(33, 54))  # wrist and elbow, those of the other arm, and the hand
_RIGHT = (16, 14, 15, 13, *range(54, 75))
_HANDS = slice(33, 54), slice(54, 75)
_ARMS, _HAND = slice(0, 4), slice(4, 25)  # among those
_LEFT_LIMB, _RIGHT_LIMB = (15, *range(33, 54)), (16, *range(54, 75))
_POINTING = (4, 5, 8, 9, 12, 17, 20)  # points of a hand that say where it points and how it is turned
_MOMENTS = 4  # at which the hand's shape is taken


@dataclass(frozen=True)
class Body:
    """Two arms in the body's frame, the active one first, each (T, …) with 1 where it was seen."""

    path: Array  # (T, 12): active wrist, its elbow, other wrist, its elbow, active wrist from mouth; two distances
    path_seen: Array
    shape: Array  # (T, 54): 40 shape numbers of the active hand, and 7 of its points from its wrist, in palm lengths
    shape_seen: Array  # (T, 1)


@dataclass(frozen=True)
class BodyMotion:
    """Paths of wrists and elbows with velocities at `frames` even places, and the active hand's shape over time."""

    frames: int
    sided: bool = False  # whether the right hand stays the right one

    def __call__(self, inputs: Inputs) -> Array:
        """{"sequence": (T, 214)} -> features."""
        body = in_body_frame(inputs["sequence"], self.sided)
        xp = namespace(body.path)
        places = filled(body.path, body.path_seen, self.frames)
        velocities = (places[1:, :] - places[:-1, :]) * (self.frames / 4.0)
        count = floored(xp.sum(body.shape_seen, axis=0), 1.0)
        mean = xp.sum(body.shape * body.shape_seen, axis=0) / count
        off = (body.shape - mean) * body.shape_seen
        moments = filled(body.shape, body.shape_seen + xp.zeros_like(body.shape), _MOMENTS)
        parts = [xp.reshape(part, (-1,)) for part in (places, velocities, moments)]
        parts += [mean, xp.sqrt(xp.sum(off * off, axis=0) / count)]
        parts.append(xp.log(xp.astype(xp.reshape(length(body.path), (1,)), body.path.dtype)))
        return xp.concat(parts, axis=0)


def in_body_frame(sequence: Array, sided: bool) -> Body:
    """(T, 214) -> arms and the active hand in the body's frame; what is missing is zero.

    Without shoulders the frame is that of the picture, one unit its width.
    """
    xp = namespace(sequence)
    points = _hands_at_wrists(xp.reshape(sequence, (-1, 107, 2)))
    seen = there(points)
    placed = _placed(points, seen)
    swap = xp.ones_like(points[:1, :1, :1])
    if not sided:
        _, _, swap = active_first(_taken(points, _LEFT_LIMB), _taken(points, _RIGHT_LIMB))
    mirror = 1.0 - const(np.array([0.0 if sided else 2.0, 0.0]), sequence) * swap

    ours = (_taken(placed, _LEFT) * (1 - swap) + _taken(placed, _RIGHT) * swap) * mirror
    shown = _taken(seen, _LEFT) * (1 - swap) + _taken(seen, _RIGHT) * swap
    lips = _all_of(seen, _MOUTH)
    middle = xp.mean(_taken(placed, _MOUTH), axis=1, keepdims=True) * mirror * lips
    mouth = xp.sum(middle, axis=0, keepdims=True) / floored(xp.sum(lips, axis=0, keepdims=True), 1.0)
    wrist, wrist_there = ours[:, :1, :], shown[:, :1, :]
    both_there = wrist_there * shown[:, 2:3, :]
    from_mouth = (wrist - mouth) * wrist_there
    between = xp.concat([from_mouth, (wrist - ours[:, 2:3, :]) * both_there], axis=1)
    arms = xp.concat([ours[:, _ARMS, :], from_mouth], axis=1)
    arms_there = xp.concat([shown[:, _ARMS, :], wrist_there], axis=1) + xp.zeros_like(arms)
    distances = xp.sqrt(xp.sum(between * between, axis=2))
    path = xp.concat([xp.reshape(arms, (-1, 10)), distances], axis=1)
    path_seen = xp.concat([xp.reshape(arms_there, (-1, 10)), wrist_there[:, :, 0], both_there[:, :, 0]], axis=1)

    hand = ours[:, _HAND, :]
    hand_seen = found(hand, missing=0)
    offsets = hand - hand[:, :1, :]
    palm = xp.expand_dims(floored(palm_length(offsets), 1e-3), axis=2)
    pointing = xp.reshape(_taken(offsets, _POINTING) / palm, (-1, 2 * len(_POINTING)))
    return Body(path, path_seen, xp.concat([shape_of(hand), pointing], axis=1) * hand_seen, hand_seen)


def _hands_at_wrists(points: Array) -> Array:
    """(T, 107, 2) -> the same with the hands exchanged where each lies at the other wrist.

    A landmarker tells left from right by the look of a hand, and takes a picture for mirrored that is not.
    """
    seen = there(points)
    left, right = points[:, _HANDS[0], :], points[:, _HANDS[1], :]
    away = _apart(points, seen, 33, 15) + _apart(points, seen, 54, 16)
    crossed = _apart(points, seen, 33, 16) + _apart(points, seen, 54, 15)
    xp = namespace(points)
    swap = xp.reshape(xp.astype(away > crossed, points.dtype), (1, 1, 1))
    exchanged = [left * (1 - swap) + right * swap, right * (1 - swap) + left * swap]
    return xp.concat([points[:, :33, :], *exchanged, points[:, 75:, :]], axis=1)


def _apart(points: Array, seen: Array, hand: int, wrist: int) -> Array:
    """(T, 107, 2) -> (): sum of distances between a hand's wrist and one of the pose, where both are seen."""
    xp = namespace(points)
    both = seen[:, hand, :] * seen[:, wrist, :]
    off = (points[:, hand, :] - points[:, wrist, :]) * both
    return xp.sum(xp.sqrt(xp.sum(off * off, axis=1)))


def _placed(points: Array, seen: Array) -> Array:
    """(T, 107, 2) in the picture -> in the body's frame, taken over the whole sequence; missing points are zero."""
    xp = namespace(points)
    shoulders = _taken(points, _SHOULDERS)
    both = _all_of(seen, _SHOULDERS)
    count = xp.sum(both, axis=0, keepdims=True)
    known = xp.astype(count > 0, points.dtype)
    count = floored(count, 1.0)
    centre = xp.sum(xp.mean(shoulders, axis=1, keepdims=True) * both, axis=0, keepdims=True) / count
    line = xp.sum((shoulders[:, :1, :] - shoulders[:, 1:, :]) * both, axis=0, keepdims=True) / count * known
    line = line + const(np.array([1.0, 0.0]), points) * (1 - known)
    width = floored(xp.sqrt(xp.sum(line * line, axis=2, keepdims=True)), 1e-3)
    cosine, sine = line[:, :, :1] / width, line[:, :, 1:] / width
    moved = (points - (centre * known + 0.5 * (1 - known))) / width
    x, y = moved[:, :, :1], moved[:, :, 1:]
    return xp.concat([x * cosine + y * sine, y * cosine - x * sine], axis=2) * seen


def _taken(points: Array, which: tuple[int, ...]) -> Array:
    return namespace(points).take(points, const(np.array(which), points, np.int64), axis=1)


def _all_of(seen: Array, which: tuple[int, int]) -> Array:
    """(T, P, 1), 1 where seen -> (T, 1, 1): 1 where both are."""
    return seen[:, which[0] : which[0] + 1, :] * seen[:, which[1] : which[1] + 1, :]
