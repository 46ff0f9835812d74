"""A gesture in the body's own frame: where the hands go relative to the shoulders, and their shapes.

Input is `mediapipe_tasks_video_xy_v1`: 107 points x (x, y), pose 33, left hand 21, right hand 21, face 32, a missing
point at the origin. The frame's origin is between the shoulders, its unit their distance and its x axis their line, so
features do not depend on the place in the picture, the distance from the camera or its tilt. The more active hand comes
first, whichever it is, unless sides are kept apart.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from gesture_trainer.preprocessing.hands import active_first, palm_length, points_visible, shape_of, whole_hand_visible
from shared.features.arrays import Array, Inputs, const, floored, length, namespace
from shared.features.sequences import kernel_resampled

_MOUTH, _SHOULDERS = (9, 10), (11, 12)  # left, right
_LEFT = (15, 13, 16, 14, *range(33, 54))  # wrist and elbow, those of the other arm, and the hand
_RIGHT = (16, 14, 15, 13, *range(54, 75))
_HANDS = slice(33, 54), slice(54, 75)
_ARMS, _HAND = slice(0, 4), slice(4, 25)  # of _LEFT and _RIGHT
_LEFT_LIMB, _RIGHT_LIMB = (15, *range(33, 54)), (16, *range(54, 75))
_POINTING = (4, 5, 8, 9, 12, 17, 20)  # points of a hand that show its direction and rotation
_MOMENTS = 4  # points in time at which the hand's shape is taken


@dataclass(frozen=True)
class Body:
    """Two arms in the body's frame, the active one first, each (T, …) with a mask that is 1 where it is visible."""

    path: Array  # (T, 12): active wrist, its elbow, other wrist, its elbow, active wrist from mouth; two distances
    path_visible: Array
    shape: Array  # (T, 54): 40 shape numbers of the active hand, and 7 of its points from its wrist, in palm lengths
    shape_visible: Array  # (T, 1)


@dataclass(frozen=True)
class BodyMotion:
    """Paths of wrists and elbows with velocities at `frames` even places, and the active hand's shape over time."""

    frames: int
    sided: bool = False  # whether left and right hand are kept apart

    def __call__(self, inputs: Inputs) -> Array:
        """{"sequence": (T, 214)} -> features."""
        body = in_body_frame(inputs["sequence"], self.sided)
        xp = namespace(body.path)
        places = kernel_resampled(body.path, body.path_visible, self.frames)
        velocities = (places[1:, :] - places[:-1, :]) * (self.frames / 4.0)
        count = floored(xp.sum(body.shape_visible, axis=0), 1.0)
        mean = xp.sum(body.shape * body.shape_visible, axis=0) / count
        off = (body.shape - mean) * body.shape_visible
        moments = kernel_resampled(body.shape, body.shape_visible + xp.zeros_like(body.shape), _MOMENTS)
        parts = [xp.reshape(part, (-1,)) for part in (places, velocities, moments)]
        parts += [mean, xp.sqrt(xp.sum(off * off, axis=0) / count)]
        parts.append(xp.log(xp.astype(xp.reshape(length(body.path), (1,)), body.path.dtype)))
        return xp.concat(parts, axis=0)


def in_body_frame(sequence: Array, sided: bool) -> Body:
    """(T, 214) -> arms and the active hand in the body's frame; missing points are zero.

    Without shoulders the frame is the picture's, its width one unit.
    """
    xp = namespace(sequence)
    points = _hands_at_wrists(xp.reshape(sequence, (-1, 107, 2)))
    visible = points_visible(points)
    positioned = _in_body_frame(points, visible)
    swap = xp.ones_like(points[:1, :1, :1])
    if not sided:
        _, _, swap = active_first(_select(points, _LEFT_LIMB), _select(points, _RIGHT_LIMB))
    mirror = 1.0 - const(np.array([0.0 if sided else 2.0, 0.0]), sequence) * swap

    ours = (_select(positioned, _LEFT) * (1 - swap) + _select(positioned, _RIGHT) * swap) * mirror
    arm_points_visible = _select(visible, _LEFT) * (1 - swap) + _select(visible, _RIGHT) * swap
    lips = _both_visible(visible, _MOUTH)
    middle = xp.mean(_select(positioned, _MOUTH), axis=1, keepdims=True) * mirror * lips
    mouth = xp.sum(middle, axis=0, keepdims=True) / floored(xp.sum(lips, axis=0, keepdims=True), 1.0)
    wrist, wrist_visible = ours[:, :1, :], arm_points_visible[:, :1, :]
    both_visible = wrist_visible * arm_points_visible[:, 2:3, :]
    from_mouth = (wrist - mouth) * wrist_visible
    between = xp.concat([from_mouth, (wrist - ours[:, 2:3, :]) * both_visible], axis=1)
    arms = xp.concat([ours[:, _ARMS, :], from_mouth], axis=1)
    arms_visible = xp.concat([arm_points_visible[:, _ARMS, :], wrist_visible], axis=1) + xp.zeros_like(arms)
    distances = xp.sqrt(xp.sum(between * between, axis=2))
    path = xp.concat([xp.reshape(arms, (-1, 10)), distances], axis=1)
    path_visible = xp.concat(
        [xp.reshape(arms_visible, (-1, 10)), wrist_visible[:, :, 0], both_visible[:, :, 0]], axis=1
    )

    hand = ours[:, _HAND, :]
    hand_visible = whole_hand_visible(hand, missing=0)
    offsets = hand - hand[:, :1, :]
    palm = xp.expand_dims(floored(palm_length(offsets), 1e-3), axis=2)
    pointing = xp.reshape(_select(offsets, _POINTING) / palm, (-1, 2 * len(_POINTING)))
    return Body(path, path_visible, xp.concat([shape_of(hand), pointing], axis=1) * hand_visible, hand_visible)


def _hands_at_wrists(points: Array) -> Array:
    """(T, 107, 2) -> the same with the hands exchanged where each is at the other wrist.

    A landmarker labels hands as left and right by their shape, and assumes a mirrored picture.
    """
    visible = points_visible(points)
    left, right = points[:, _HANDS[0], :], points[:, _HANDS[1], :]
    straight = _wrist_distance(points, visible, 33, 15) + _wrist_distance(points, visible, 54, 16)
    crossed = _wrist_distance(points, visible, 33, 16) + _wrist_distance(points, visible, 54, 15)
    xp = namespace(points)
    swap = xp.reshape(xp.astype(straight > crossed, points.dtype), (1, 1, 1))
    exchanged = [left * (1 - swap) + right * swap, right * (1 - swap) + left * swap]
    return xp.concat([points[:, :33, :], *exchanged, points[:, 75:, :]], axis=1)


def _wrist_distance(points: Array, visible: Array, hand: int, wrist: int) -> Array:
    """(T, 107, 2) -> (): sum over frames of the distance from a hand's wrist to a pose's, where both are visible."""
    xp = namespace(points)
    both = visible[:, hand, :] * visible[:, wrist, :]
    off = (points[:, hand, :] - points[:, wrist, :]) * both
    return xp.sum(xp.sqrt(xp.sum(off * off, axis=1)))


def _in_body_frame(points: Array, visible: Array) -> Array:
    """(T, 107, 2) in the picture -> in the body's frame of the whole sequence; missing points are zero."""
    xp = namespace(points)
    shoulders = _select(points, _SHOULDERS)
    both = _both_visible(visible, _SHOULDERS)
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
    return xp.concat([x * cosine + y * sine, y * cosine - x * sine], axis=2) * visible


def _select(points: Array, which: tuple[int, ...]) -> Array:
    return namespace(points).take(points, const(np.array(which), points, np.int64), axis=1)


def _both_visible(visible: Array, which: tuple[int, int]) -> Array:
    """(T, P, 1), 1 where visible -> (T, 1, 1): 1 where both points are."""
    return visible[:, which[0] : which[0] + 1, :] * visible[:, which[1] : which[1] + 1, :]
