"""A gesture in the body's own frame: where the hands go between the shoulders, and what shape they take.

Input is `mediapipe_tasks_video_xy_v1`: 107 points x (x, y), pose 33, left hand 21, right hand 21, face 32, a missing
point at the origin. The frame's origin is between the shoulders and its unit their distance, so neither place in
the picture nor distance from the camera counts; the more active hand stands on one side, whichever it is.
"""

from __future__ import annotations

from dataclasses import dataclass

from gesture_trainer.preprocessing.hands import active_first, shape_of
from gesture_trainer.preprocessing.motion import resampled, steps
from shared.arrays import Array, Inputs, const, floored, greatest, length, mean_and_deviation, namespace

_SHOULDERS, _ELBOWS, _WRISTS = (11, 12), (13, 14), (15, 16)  # left, right
_LEFT_HAND, _RIGHT_HAND = slice(33, 54), slice(54, 75)


@dataclass(frozen=True)
class BodyMotion:
    """Paths of wrists and elbow, and the active hand's shape, over time and at `frames` even places."""

    frames: int

    def __call__(self, inputs: Inputs) -> Array:
        """{"sequence": (T, 214)} -> features."""
        path, seen, shape, shape_seen = in_body_frame(inputs["sequence"])
        xp = namespace(path)
        mean, deviation = mean_and_deviation(path)
        speed, restlessness = mean_and_deviation(xp.abs(steps(path)))
        parts = [mean, deviation, speed, restlessness, greatest(path, axis=0), -greatest(-path, axis=0)]
        places, _ = resampled(path, seen, self.frames)
        parts += [xp.reshape(places, (-1,)), xp.reshape(places[1:, :] - places[:-1, :], (-1,)) * (self.frames / 4.0)]
        count = floored(xp.sum(shape_seen, axis=0), 1.0)
        average = xp.sum(shape * shape_seen, axis=0) / count
        off = (shape - average) * shape_seen
        parts += [average, xp.sqrt(xp.sum(off * off, axis=0) / count)]
        moments, _ = resampled(shape, shape_seen + xp.zeros_like(shape), 4)
        parts.append(xp.reshape(moments, (-1,)))
        parts.append(xp.log(xp.astype(xp.reshape(length(path), (1,)), path.dtype)))
        return xp.concat(parts, axis=0)


def in_body_frame(sequence: Array) -> tuple[Array, Array, Array, Array]:
    """(T, 214) -> paths (T, 8), their mask (T, 8), the active hand's shape (T, 40), and where it was seen (T, 1).

    Paths are those of the active wrist and elbow, then of the other wrist and elbow; where a point is missing,
    zero. Without shoulders the frame is that of the picture, one unit its width.
    """
    xp = namespace(sequence)
    points = xp.reshape(sequence, (-1, 107, 2))
    seen = xp.astype(xp.any(points != 0, axis=2, keepdims=True), sequence.dtype)
    left, right = (points[:, k : k + 1, :] for k in _SHOULDERS)
    both = seen[:, _SHOULDERS[0] : _SHOULDERS[0] + 1, :] * seen[:, _SHOULDERS[1] : _SHOULDERS[1] + 1, :]
    count = xp.sum(both, axis=0, keepdims=True)
    known = xp.astype(count > 0, sequence.dtype)
    centre = xp.sum((left + right) / 2.0 * both, axis=0, keepdims=True) / floored(count, 1.0)
    between = xp.sqrt(xp.sum((left - right) * (left - right), axis=2, keepdims=True))
    width = xp.sum(between * both, axis=0, keepdims=True) / floored(count, 1.0)
    width = floored(width, 1e-3) * known + (1 - known)
    placed = (points - (centre * known + 0.5 * (1 - known))) / width * seen

    hand, _, swap = active_first(_limb(points, 0), _limb(points, 1))
    mirror = const([1.0, 0.0], sequence) * (1 - 2 * swap) + const([0.0, 1.0], sequence)
    ordered, masks = [], []
    for joint in (_WRISTS, _ELBOWS):
        pair = [(placed[:, k : k + 1, :] * mirror, seen[:, k : k + 1, :]) for k in joint]
        ordered.append([pair[0][0] * (1 - swap) + pair[1][0] * swap, pair[1][0] * (1 - swap) + pair[0][0] * swap])
        masks.append([pair[0][1] * (1 - swap) + pair[1][1] * swap, pair[1][1] * (1 - swap) + pair[0][1] * swap])
    path = xp.concat([ordered[0][0], ordered[1][0], ordered[0][1], ordered[1][1]], axis=1)
    mask = xp.concat([masks[0][0], masks[1][0], masks[0][1], masks[1][1]], axis=1) + xp.zeros_like(path)
    fingers = hand[:, :21, :]
    fingers_seen = xp.astype(xp.any(xp.reshape(fingers, (-1, 42)) != 0, axis=1, keepdims=True), sequence.dtype)
    return xp.reshape(path, (-1, 8)), xp.reshape(mask, (-1, 8)), shape_of(fingers) * fingers_seen, fingers_seen


def _limb(points: Array, side: int) -> Array:
    """(T, 107, 2) -> (T, 22, 2): the landmarks of one hand, then the wrist of the pose."""
    hand = points[:, _LEFT_HAND if side == 0 else _RIGHT_HAND, :]
    return namespace(points).concat([hand, points[:, _WRISTS[side] : _WRISTS[side] + 1, :]], axis=1)
