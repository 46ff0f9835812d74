"""Landmark sequences of a simple kinematic arm and hand in front of a camera.

Body frame: origin between the shoulders, unit one shoulder width, x to the right of the picture, y down, z towards
the camera. Gestures are written for the person's right hand, which is on the left of the picture, and mirrored for the
left one.
"""

from __future__ import annotations

import zlib
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from demo.people import Person, SessionConditions

Array = NDArray[np.float64]
ENCODING = "mediapipe_tasks_video_xy_v1"
FRAMES_PER_SECOND = 15

POSE, HAND, FACE = 33, 21, 32
_PALM = 0.29  # wrist to middle knuckle
_KNUCKLES = np.array([[0.32, 0.92], [0.06, 1.0], [-0.18, 0.94], [-0.38, 0.82]])  # index … little, x towards the thumb
_PHALANGES = np.array([[0.48, 0.30, 0.22], [0.54, 0.34, 0.24], [0.50, 0.32, 0.23], [0.40, 0.23, 0.20]])
_REST = np.array([-0.42, 1.25, 0.45])
_UPPER_ARM, _FOREARM = 0.85, 0.75


@dataclass(frozen=True)
class Motion:
    """The motion of one hand over T frames."""

    wrist: Array  # (T, 3)
    fingers: Array  # (T, 5) curl of thumb … little finger, 0 straight, 1 closed
    pitch: Array  # (T,) radians; 0 = fingers up, pi = fingers down, pi/2 = fingers towards the camera
    roll: Array  # (T,) radians in the picture's plane
    turn: Array  # (T,) radians about the forearm; 0 = palm to the camera


def landmarks(label: str, person: Person, session: SessionConditions, rng: np.random.Generator) -> NDArray[np.float32]:
    """Return (T, 214) float32: 107 points x (x, y) in image coordinates 0–1; a missing point is (0, 0)."""
    seconds = 2.0 / person.tempo * float(np.exp(rng.normal(0, 0.15)))
    frames = int(np.clip(round(seconds * FRAMES_PER_SECOND), 16, 60))
    phase = np.linspace(rng.uniform(0, 0.06), rng.uniform(0.92, 1.0), frames)
    other_hand = session.last and person.changes_hand
    left = person.left_handed != other_hand
    clumsiness = 1.35 if other_hand else 1.15 if session.last else 1.0

    active, helper = _GESTURES[label](phase, person.reach, rng)
    active = _performed(active, _habit(label, person, session), person.variation * clumsiness, rng)
    wander = rng.normal(0, 0.07 * clumsiness * person.variation, 3)
    shake = _tremor(frames, person.tremor * clumsiness, rng)
    near = _envelope(phase)[:, None]
    active = Motion(active.wrist + near * wander + shake, active.fingers, active.pitch, active.roll, active.turn)

    # Breathing and shifting in the seat move the whole body a little.
    sway = 0.015 * np.sin(2 * np.pi * (0.3 * phase * seconds + rng.random()))[:, None] * np.array([1.0, 0.4, 0.0])
    right_hand, right_arm = _limb(active, rng)
    left_hand, left_arm = _limb(helper, rng)
    mirror = np.array([-1.0, 1.0, 1.0])
    left_hand, left_arm = left_hand * mirror, left_arm * mirror
    if left:
        right_hand, right_arm, left_hand, left_arm = (
            left_hand * mirror,
            left_arm * mirror,
            right_hand * mirror,
            right_arm * mirror,
        )
    head, face = _head(frames, rng)
    body = np.concatenate(
        [_pose(head, left_arm, right_arm, left_hand, right_hand), left_hand, right_hand, face], axis=1
    )
    picture = _project(body + sway[:, None], session, rng)
    picture += rng.normal(0, 0.0025 * (1 + 0.6 * (session.exposure < 0.7)), picture.shape)

    lost = np.zeros(picture.shape[:2], bool)
    lost |= (picture < 0.001).any(-1) | (picture > 0.999).any(-1)
    for start, points in ((POSE, left_hand), (POSE + HAND, right_hand)):
        lost[:, start : start + HAND] |= _lost_frames(points[:, 0], session.landmarks_lost, rng)[:, None]
    lost[:, POSE + 2 * HAND :] |= (rng.random(frames) < session.landmarks_lost / 3)[:, None]
    picture[lost] = 0.0
    return picture.reshape(frames, -1).astype(np.float32)


# --- the gestures: phase (T,), reach, rng -> the active hand's motion and the other hand's


def _hello(phase: Array, reach: float, rng: np.random.Generator) -> tuple[Motion, Motion]:
    swing = np.sin(2 * np.pi * rng.uniform(2.0, 3.6) * phase) * rng.uniform(0.6, 1.2) * reach
    wrist = _go(phase, [-0.75, -0.30 * reach, 0.45]) + _envelope(phase)[:, None] * swing[:, None] * [0.13, 0.02, 0.0]
    return _hand(phase, wrist, curl=(0.1,) * 5, pitch=0.15, roll=0.45 * swing), _resting(phase)


def _stop(phase: Array, reach: float, rng: np.random.Generator) -> tuple[Motion, Motion]:
    push = 1 / (1 + np.exp(-(phase - rng.uniform(0.3, 0.42)) * 25))
    wrist = _go(phase, [-0.55, -0.02, 0.40]) + (_envelope(phase) * push)[:, None] * [0.1, -0.12 * reach, 0.5 * reach]
    return _hand(phase, wrist, curl=(0.1, 0.04, 0.04, 0.04, 0.04), pitch=0.1), _resting(phase)


def _come(phase: Array, reach: float, rng: np.random.Generator) -> tuple[Motion, Motion]:
    beckon = 0.5 - 0.5 * np.cos(2 * np.pi * rng.uniform(2.0, 3.4) * phase)
    wrist = _go(phase, [-0.60, 0.10, 0.65]) + (_envelope(phase) * beckon)[:, None] * [0.06, -0.10 * reach, -0.2 * reach]
    curl = 0.12 + 0.75 * beckon[:, None] * np.array([0.3, 1, 1, 1, 1])
    return _hand(phase, wrist, curl=curl, pitch=0.9 - 0.5 * beckon, turn=np.pi * 0.85), _resting(phase)


def _look(phase: Array, reach: float, rng: np.random.Generator) -> tuple[Motion, Motion]:
    aim = rng.uniform(-0.35, 0.35)
    wrist = _go(phase, [-0.85 - aim * 0.5, 0.05 - 0.2 * reach * rng.random(), 0.8 * reach])
    return _hand(phase, wrist, curl=(0.6, 0.03, 0.9, 0.92, 0.95), pitch=0.75, roll=-0.6 + aim, turn=0.8), _resting(
        phase
    )


def _eat(phase: Array, reach: float, rng: np.random.Generator) -> tuple[Motion, Motion]:
    bite = 0.5 - 0.5 * np.cos(2 * np.pi * rng.uniform(1.6, 2.8) * phase)
    wrist = _go(phase, [-0.28, -0.20, 0.45]) + (_envelope(phase) * bite)[:, None] * [0.10, -0.24 * reach, -0.05]
    return _hand(phase, wrist, curl=(0.35, 0.5, 0.55, 0.6, 0.65), pitch=0.3, roll=0.5, turn=2.4), _resting(phase)


def _drink(phase: Array, reach: float, rng: np.random.Generator) -> tuple[Motion, Motion]:
    sip = np.clip(np.sin(np.pi * np.clip((phase - 0.25) / rng.uniform(0.45, 0.55), 0, 1)), 0, 1)
    wrist = _go(phase, [-0.30, -0.18, 0.45]) + (_envelope(phase) * sip)[:, None] * [0.08, -0.20 * reach, -0.03]
    motion = _hand(
        phase, wrist, curl=(0.15, 0.55, 0.55, 0.58, 0.6), pitch=0.5 - 0.3 * sip, roll=0.1 + 0.8 * sip, turn=1.5
    )
    return motion, _resting(phase)


def _more(phase: Array, reach: float, rng: np.random.Generator) -> tuple[Motion, Motion]:
    tap = 0.5 - 0.5 * np.cos(2 * np.pi * rng.uniform(2.2, 3.4) * phase)
    wrist = _go(phase, [-0.40, 0.50, 0.60]) + (_envelope(phase) * tap)[:, None] * [0.20 * reach, -0.02, 0.0]
    motion = _hand(phase, wrist, curl=(0.4, 0.55, 0.6, 0.6, 0.65), pitch=0.8, roll=1.0, turn=1.6)
    return motion, motion


_GESTURES: dict[str, Callable[[Array, float, np.random.Generator], tuple[Motion, Motion]]] = {
    "come": _come,
    "drink": _drink,
    "eat": _eat,
    "hello": _hello,
    "look": _look,
    "more": _more,
    "stop": _stop,
}


# --- variation between days and takes


def _habit(label: str, person: Person, session: SessionConditions) -> np.random.Generator:
    """Return the generator of a person's habits for a gesture on one day, the same for all takes of a session."""
    return np.random.default_rng(zlib.crc32(f"{person.user_id}/{session.session_id}/{label}".encode()))


def _performed(motion: Motion, habit: np.random.Generator, variation: float, rng: np.random.Generator) -> Motion:
    """Return the motion as performed: at times incomplete, shifted, or with other finger positions."""

    def off(count: int, by_day: float, by_take: float) -> Array:
        return habit.normal(0, by_day * variation, count) + rng.normal(0, by_take * variation, count)

    effort = float(np.clip(1 - abs(rng.normal(0, 0.2 * variation)), 0.3, 1.0))
    away = np.clip(np.linalg.norm(motion.wrist - _REST, axis=1, keepdims=True) / 0.8, 0, 1)
    place, turns, curl = off(3, 0.06, 0.05) * [1.0, 1.0, 0.5], off(3, 0.2, 0.12), off(5, 0.08, 0.08)
    near = effort * away[:, 0]
    return Motion(
        _REST + effort * (motion.wrist - _REST) + away * place,
        np.clip(0.35 + effort * (motion.fingers - 0.35) + away * curl, 0, 1.1),
        2.6 + effort * (motion.pitch - 2.6) + near * turns[0],
        effort * motion.roll + near * turns[1],
        1.4 + effort * (motion.turn - 1.4) + near * turns[2],
    )


# --- body


def _envelope(phase: Array) -> Array:
    """Return (T,) in 0–1: minimum-jerk rise from rest in the first fifth, fall in the last."""
    edge = np.clip(np.minimum(phase, 1 - phase) / 0.22, 0, 1)
    return np.asarray(edge**3 * (10 - 15 * edge + 6 * edge**2))


def _go(phase: Array, place: list[float]) -> Array:
    """Return (T, 3) wrist positions from rest to `place` and back."""
    near = _envelope(phase)[:, None]
    return np.asarray(near * np.array(place) + (1 - near) * _REST)


def _hand(
    phase: Array,
    wrist: Array,
    curl: Array | tuple[float, ...],
    pitch: Array | float = 0.0,
    roll: Array | float = 0.0,
    turn: float = 0.0,
) -> Motion:
    """Blend the hand from its resting shape (fingers down, half closed) into the gesture's and back."""
    near = _envelope(phase)
    fingers = near[:, None] * np.asarray(curl) + (1 - near)[:, None] * 0.35
    return Motion(wrist, fingers, near * pitch + (1 - near) * 2.6, near * roll, near * turn + (1 - near) * 1.4)


def _resting(phase: Array) -> Motion:
    still = np.zeros_like(phase)
    return Motion(still[:, None] + _REST, still[:, None] + np.full(5, 0.35), still + 2.6, still, still + 1.4)


def _tremor(frames: int, size: float, rng: np.random.Generator) -> Array:
    """Return (T, 3): shaking of about 4–6 Hz with a slow drift."""
    time = np.arange(frames)[:, None] / FRAMES_PER_SECOND
    return np.asarray(
        size * np.sin(2 * np.pi * (rng.uniform(4, 6, 3) * time + rng.random(3)))
        + 0.4 * size * np.cumsum(rng.normal(0, 0.5, (frames, 3)), axis=0)
    )


def _limb(motion: Motion, rng: np.random.Generator) -> tuple[Array, Array]:
    """Return (T, 21, 3) hand points and (T, 3, 3) shoulder, elbow, wrist of a right arm."""
    frames = len(motion.wrist)
    shoulder = np.broadcast_to(np.array([-0.5, 0.0, 0.0]), (frames, 3))
    reach = motion.wrist - shoulder
    length = np.linalg.norm(reach, axis=1, keepdims=True)
    reach = reach / length
    length = np.clip(length, 0.3, _UPPER_ARM + _FOREARM - 0.02)
    wrist = shoulder + reach * length
    along = (_UPPER_ARM**2 - _FOREARM**2 + length**2) / (2 * length)
    aside = np.sqrt(np.maximum(_UPPER_ARM**2 - along**2, 0))
    pole = np.array([-0.6, 0.9, -0.3])
    pole = pole - (reach @ pole)[:, None] * reach
    elbow = shoulder + along * reach + aside * pole / np.linalg.norm(pole, axis=1, keepdims=True)

    hand = _palm(motion.fingers + rng.normal(0, 0.05, 5))
    for angle, axes in ((motion.turn, (0, 2)), (motion.pitch, (1, 2)), (motion.roll, (0, 1))):
        hand = _rotate(hand, angle + rng.normal(0, 0.08), axes)
    return wrist[:, None] + hand * _PALM, np.stack([shoulder, elbow, wrist], axis=1)


def _palm(fingers: Array) -> Array:
    """Return (T, 21, 3): a right hand, fingers up, palm to the camera, palm length 1, thumb towards +x."""
    fingers = np.clip(fingers, 0, 1.1)
    points = np.zeros((len(fingers), HAND, 3))
    for finger in range(4):
        curl = fingers[:, finger + 1]
        place = np.broadcast_to(np.append(_KNUCKLES[finger] * [1, -1], 0.0), (len(fingers), 3))
        points[:, 5 + 4 * finger] = place
        bend = np.zeros(len(fingers))
        lean = 0.12 * (1.2 - finger) * (1 - curl)
        for joint, most in enumerate((1.3, 1.7, 1.1)):
            bend = bend + most * curl
            step = np.stack([np.sin(lean) * np.cos(bend), -np.cos(bend), np.sin(bend)], axis=1)
            place = place + step * _PHALANGES[finger, joint]
            points[:, 6 + 4 * finger + joint] = place
    curl = fingers[:, 0]
    place = np.zeros((len(fingers), 3))
    for joint, (size, start) in enumerate(((0.42, 0.9), (0.38, 0.75), (0.32, 0.6), (0.26, 0.5))):
        away = start * (1 - 0.8 * curl) - 0.5 * joint * curl
        step = np.stack([np.sin(away), -np.cos(away), 0.7 * curl * joint / 3], axis=1)
        place = place + step * size
        points[:, 1 + joint] = place
    return points


def _rotate(points: Array, angle: Array, axes: tuple[int, int]) -> Array:
    """Rotate (T, N, 3) by an angle (T,) from the first axis towards the second, or from -y for the pitch."""
    first, second = axes
    cos, sin = np.cos(angle)[:, None], np.sin(angle)[:, None]
    turned = points.copy()
    if axes == (1, 2):  # fingers (at -y) lean towards the camera (+z)
        sin = -sin
    turned[..., first] = cos * points[..., first] - sin * points[..., second]
    turned[..., second] = sin * points[..., first] + cos * points[..., second]
    return turned


def _head(frames: int, rng: np.random.Generator) -> tuple[Array, Array]:
    """Return (T, 11, 3) pose head points and (T, 32, 3) face points."""
    nod = np.cumsum(rng.normal(0, 0.004, (frames, 2)), axis=0)
    centre = np.array([0.0, -0.62, 0.15]) + np.column_stack([nod, np.zeros(frames)])
    pose = np.array([
        [0, 0.02], [0.06, -0.07], [0.09, -0.07], [0.12, -0.07], [-0.06, -0.07], [-0.09, -0.07], [-0.12, -0.07],
        [0.2, -0.03], [-0.2, -0.03], [0.06, 0.13], [-0.06, 0.13],
    ])  # fmt: skip
    around = np.linspace(0, 2 * np.pi, 12, endpoint=False)
    eye = np.linspace(0, 2 * np.pi, 4, endpoint=False)
    lips = np.linspace(0, 2 * np.pi, 8, endpoint=False)
    ellipse = np.column_stack
    mesh = np.concatenate(
        [
            ellipse([0.19 * np.cos(around), 0.27 * np.sin(around)]),
            ellipse([0.09 + 0.035 * np.cos(eye), -0.07 + 0.015 * np.sin(eye)]),
            ellipse([-0.09 + 0.035 * np.cos(eye), -0.07 + 0.015 * np.sin(eye)]),
            ellipse([0.07 * np.cos(lips), 0.13 + 0.025 * np.sin(lips)]),
            [[0.0, 0.02], [0.0, 0.06], [0.09, -0.07], [-0.09, -0.07]],
        ]
    )
    return centre[:, None] + _flat(pose), centre[:, None] + _flat(mesh)


def _flat(points: Array) -> Array:
    return np.column_stack([points, np.zeros(len(points))])


def _pose(head: Array, left_arm: Array, right_arm: Array, left_hand: Array, right_hand: Array) -> Array:
    """Return (T, 33, 3) in MediaPipe's order: left and right alternate from the shoulders down."""
    pairs = [part for joint in range(3) for part in (left_arm[:, joint], right_arm[:, joint])]
    pairs += [hand[:, point] for point in (17, 5, 2) for hand in (left_hand, right_hand)]
    legs = [[0.32, 1.45], [-0.32, 1.45], [0.36, 2.3], [-0.36, 2.3], [0.36, 3.2], [-0.36, 3.2]]
    legs += [[0.34, 3.3], [-0.34, 3.3], [0.42, 3.35], [-0.42, 3.35]]
    below = np.broadcast_to(_flat(np.array(legs)), (len(head), len(legs), 3))
    return np.concatenate([head, np.stack(pairs, axis=1), below], axis=1)


def _project(body: Array, session: SessionConditions, rng: np.random.Generator) -> Array:
    """Return (T, N, 2) image coordinates of body points in the session's camera."""
    distance = session.camera_distance * float(np.exp(rng.normal(0, 0.04)))
    scale = 1.25 / (distance - body[..., 2])
    tilt = np.radians(session.camera_tilt + rng.normal(0, 2.0))
    x = body[..., 0] * np.cos(tilt) - body[..., 1] * np.sin(tilt)
    y = body[..., 0] * np.sin(tilt) + body[..., 1] * np.cos(tilt)
    shift = np.array(session.camera_shift) + rng.normal(0, 0.012, 2)
    return np.stack([0.5 + shift[0] + 0.75 * scale * x, 0.42 + shift[1] + scale * y], axis=-1)


def _lost_frames(wrist: Array, share: float, rng: np.random.Generator) -> NDArray[np.bool_]:
    """Return (T,): frames in which the hand is not detected, in short runs, more often while it moves fast."""
    speed = np.linalg.norm(np.diff(wrist, axis=0, prepend=wrist[:1]), axis=1)
    chance = share * (0.5 + 6 * speed)
    lost = rng.random(len(wrist)) < chance
    return np.asarray(lost | (np.roll(lost, 1) & (rng.random(len(wrist)) < 0.5)))
