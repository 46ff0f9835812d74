"""Gesture features: the same in the graph, and blind to what must not matter."""

from collections.abc import Callable

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from gesture_trainer.preprocessing.body import BodyMotion
from gesture_trainer.preprocessing.hands import Fingertips, HandMotion, HandShape, HandsShape, OtherHand, active_first
from gesture_trainer.preprocessing.layouts import layout_of
from gesture_trainer.preprocessing.paths import PathGeometry
from shared.features.arrays import Array, Inputs
from shared.features.graph import FeatureFunction, FeatureGraph, TensorSpec
from shared.features.sequences import Resampled, Statistics, kernel_resampled

FUNCTIONS: dict[str, tuple[int, Callable[[Inputs], Array]]] = {
    "statistics": (6, Statistics(0)),
    "statistics of points": (42, Statistics(2)),
    "resampled": (6, Resampled(0, 8)),
    "resampled points": (42, Resampled(2, 8)),
    "hand": (42, HandShape(2)),
    "hand in space": (63, HandShape(3)),
    "both hands in space": (252, HandsShape()),
    "both hands in the picture": (126, HandsShape(world=False)),
    "the other hand in space": (252, OtherHand()),
    "fingertips": (42, Fingertips(2, 1, False)),
    "fingertips in the picture": (126, Fingertips(3, 2, False)),
    "fingertips in space": (252, Fingertips(3, 2, True)),
    "moving hand": (42, HandMotion(2, 1, False, 8)),
    "two moving hands": (126, HandMotion(3, 2, False, 8)),
    "two moving hands in space": (252, HandMotion(3, 2, True, 8)),
    "path": (4, PathGeometry(8)),
    "body": (214, BodyMotion(8)),
    "body with sides": (214, BodyMotion(8, sided=True)),
}
GRAPHS: dict[str, FeatureGraph] = {}


def _graph(name: str) -> FeatureGraph:
    if name not in GRAPHS:
        width, function = FUNCTIONS[name]
        GRAPHS[name] = FeatureGraph(name, (TensorSpec("sequence", "float32", ("frames", width)),), function)
    return GRAPHS[name]


def _sequence(frames: int, width: int, seed: int = 0, missing: float = 0.0) -> np.ndarray:
    rng = np.random.default_rng(seed)
    walk = 0.5 + 0.1 * rng.normal(size=(1, width)) + 0.02 * rng.normal(size=(frames, width)).cumsum(axis=0)
    points = walk.reshape(frames, -1, 2) if width % 2 == 0 else walk[:, :, None]
    kept = rng.random(points.shape[:2]) >= missing
    return np.asarray((points * kept[:, :, None]).reshape(frames, width), np.float32)


@pytest.mark.slow
@pytest.mark.parametrize("name", FUNCTIONS)
@pytest.mark.parametrize(
    "sequence_of",
    [
        lambda width: _sequence(20, width),
        lambda width: _sequence(20, width, missing=0.4),
        lambda width: _sequence(1, width),
        lambda width: _sequence(2, width),
        lambda width: np.zeros((5, width), np.float32),
        lambda width: np.full((3, width), 0.25, np.float32),
    ],
    ids=["whole", "gaps", "one frame", "two frames", "all missing", "still"],
)
def test_the_graph_says_what_numpy_says(name: str, sequence_of: Callable[[int], np.ndarray]) -> None:
    width, function = FUNCTIONS[name]
    sequence = sequence_of(width)
    (row,) = _graph(name).run([{"sequence": sequence}])
    expected = np.asarray(function({"sequence": sequence}))
    assert np.isfinite(expected).all()
    np.testing.assert_allclose(row, expected, rtol=2e-3, atol=2e-3)


def _moved(points: np.ndarray, angle: float, scale: float, shift: tuple[float, float], mirror: bool) -> np.ndarray:
    turn = np.array([[np.cos(angle), np.sin(angle)], [-np.sin(angle), np.cos(angle)]])
    moved = points.copy()
    if mirror:
        moved[..., 0] = -moved[..., 0]
    return np.asarray(moved @ turn * scale + np.array(shift), np.float32)


@pytest.mark.slow
@given(
    seed=st.integers(0, 50),
    angle=st.floats(-3.1, 3.1),
    scale=st.floats(0.2, 5),
    shift=st.tuples(st.floats(-1, 1), st.floats(-1, 1)),
    mirror=st.booleans(),
)
def test_a_hand_has_its_shape_however_it_is_held(
    seed: int, angle: float, scale: float, shift: tuple[float, float], mirror: bool
) -> None:
    points = np.random.default_rng(seed).normal(size=(3, 21, 2)).astype(np.float32)
    moved = _moved(points, angle, scale, shift, mirror)
    shape = HandShape(2)
    np.testing.assert_allclose(
        shape({"sequence": moved.reshape(3, 42)}), shape({"sequence": points.reshape(3, 42)}), rtol=0.02, atol=0.02
    )


def test_another_shape_is_another_shape() -> None:
    open_hand, fist = (np.random.default_rng(k).normal(size=(1, 42)).astype(np.float32) for k in (0, 1))
    shape = HandShape(2)
    assert np.abs(np.asarray(shape({"sequence": open_hand})) - np.asarray(shape({"sequence": fist}))).max() > 0.5


def _person(seed: int = 0) -> np.ndarray:
    """(24, 107, 2): a person who moves the right arm more than the left, all points seen."""
    rng = np.random.default_rng(seed)
    points = np.repeat(0.5 + 0.05 * rng.normal(size=(1, 107, 2)), 24, axis=0)
    points[:, 11], points[:, 12] = (0.6, 0.4), (0.4, 0.4)
    path = 0.1 * np.stack([np.sin(np.linspace(0, 6, 24)), np.linspace(-1, 1, 24)], axis=1)
    points[:, 16] += path
    points[:, 54:75] += path[:, None]
    points[:, 15] += 0.1 * path
    points[:, 33:54] += 0.1 * path[:, None]
    return points


def _features(points: np.ndarray) -> np.ndarray:
    return np.asarray(BodyMotion(8)({"sequence": points.reshape(len(points), 214).astype(np.float32)}))


@given(scale=st.floats(0.4, 1.6), shift=st.tuples(st.floats(-0.1, 0.1), st.floats(-0.1, 0.1)))
def test_neither_place_nor_distance_of_a_person_matters(scale: float, shift: tuple[float, float]) -> None:
    person = _person()
    np.testing.assert_allclose(_features(0.5 + scale * (person - 0.5) + shift), _features(person), rtol=0.02, atol=0.02)


def test_a_gesture_made_with_the_other_hand_is_the_same_gesture() -> None:
    person = _person()
    mirrored = person.copy()
    mirrored[..., 0] = 1 - mirrored[..., 0]
    order = np.arange(107)
    for a, b in ((11, 12), (13, 14), (15, 16)):
        order[[a, b]] = b, a
    order[33:54], order[54:75] = np.arange(54, 75), np.arange(33, 54)
    np.testing.assert_allclose(_features(mirrored[:, order]), _features(person), rtol=0.02, atol=0.02)


def test_the_active_hand_is_the_one_that_moves() -> None:
    still, moving = np.full((5, 21, 2), 0.5), 0.5 + np.linspace(0, 0.2, 5)[:, None, None] * np.ones((1, 21, 2))
    for first, second, swapped in ((still, moving, 1), (moving, still, 0)):
        active, other, swap = active_first(first, second)
        np.testing.assert_array_equal(active, moving)
        np.testing.assert_array_equal(other, still)
        assert float(swap[0, 0, 0]) == swapped


def _held_hand(seed: int, height: float) -> np.ndarray:
    """(20, 21, 3): a hand that is held still at a height of the picture, and trembles."""
    rng = np.random.default_rng(seed)
    hand = [0.3, 1 - height, 0] + 0.05 * rng.normal(size=(1, 21, 3))
    return np.asarray(hand + 0.002 * rng.normal(size=(20, 21, 3)), np.float32)


@pytest.mark.parametrize("frames", [1, 20])
@pytest.mark.parametrize("seed", range(4))
def test_of_two_hands_that_are_held_still_the_higher_one_is_active(seed: int, frames: int) -> None:
    sign, resting = _held_hand(seed, 0.6)[:frames], _held_hand(seed + 100, 0.2)[:frames]
    for first, second in ((sign, resting), (resting, sign)):
        np.testing.assert_array_equal(active_first(first, second)[0], sign)


def test_a_hand_that_moves_is_active_below_one_that_is_held_still() -> None:
    waving = _held_hand(0, 0.3)
    waving[..., 0] += 0.1 * np.sin(np.linspace(0, 12, 20))[:, None]
    np.testing.assert_array_equal(active_first(_held_hand(1, 0.6), waving)[0], waving)


def _both(left: np.ndarray, right: np.ndarray) -> Inputs:
    return {"sequence": np.stack([left, right], axis=1).reshape(len(left), 126).astype(np.float32)}


@pytest.mark.parametrize(
    ("function", "changed"),
    [(HandsShape(world=False), 1), (HandMotion(3, 2, False, 8), 1), (Fingertips(3, 2, False), 0)],
    ids=["shape", "motion", "fingertips"],
)
def test_a_resting_hand_changes_nothing_but_whether_there_is_one(function: FeatureFunction, changed: int) -> None:
    """It is in view on one day and not on the next."""
    sign, resting = _held_hand(0, 0.6), _held_hand(1, 0.2)
    alone, beside = (np.asarray(function(_both(other, sign))) for other in (np.zeros_like(sign), resting))
    assert np.flatnonzero(np.abs(alone - beside) > 1e-5).size == changed


def test_the_shape_of_the_other_hand_is_that_of_the_resting_one() -> None:
    sign, resting = _held_hand(0, 0.6), _held_hand(1, 0.2)
    expected = np.asarray(HandShape(3)({"sequence": resting.reshape(20, 63)}))[:40]
    for hands in ((sign, resting), (resting, sign)):
        np.testing.assert_allclose(np.asarray(OtherHand(world=False)(_both(*hands))), expected, rtol=1e-4, atol=1e-4)


def test_the_left_hand_points_where_the_right_one_does_in_the_mirror() -> None:
    sign, none, tips = _held_hand(0, 0.6), np.zeros((20, 21, 3), np.float32), Fingertips(3, 2, False)
    mirrored = np.concatenate([1 - sign[..., :1], sign[..., 1:]], axis=2)
    left, right = np.asarray(tips(_both(sign, none))), np.asarray(tips(_both(none, mirrored)))
    np.testing.assert_allclose(left, right, rtol=1e-3, atol=1e-4)
    overhead = np.concatenate([sign[..., :1], 1 - sign[..., 1:2], sign[..., 2:]], axis=2)
    assert np.abs(np.asarray(tips(_both(overhead, none))) - left).max() > 0.5, "thumbs up is not thumbs down"


@pytest.mark.slow
@given(shift=st.tuples(st.floats(-0.5, 0.5), st.floats(-0.5, 0.5)), angle=st.floats(-3, 3))
def test_a_path_is_the_same_anywhere_and_at_any_angle(shift: tuple[float, float], angle: float) -> None:
    path = _sequence(12, 2, seed=3)
    moved = _moved(path.reshape(-1, 1, 2), angle, 1.0, shift, mirror=False).reshape(-1, 2)
    geometry = PathGeometry(8)
    np.testing.assert_allclose(geometry({"sequence": moved}), geometry({"sequence": path}), rtol=0.05, atol=0.05)


def test_clockwise_is_not_counter_clockwise() -> None:
    angle = np.linspace(0, 6, 16)
    circle = np.stack([np.cos(angle), np.sin(angle)], axis=1).astype(np.float32) * np.float32(0.1)
    geometry = PathGeometry(16)
    one, other = geometry({"sequence": circle}), geometry({"sequence": circle[::-1].copy()})
    assert np.abs(np.asarray(one) - np.asarray(other)).max() > 0.5


@pytest.mark.parametrize(
    ("encoding", "width", "layout"),
    [
        ("mediapipe_tasks_video_xy_v1", 214, "body_xy"),
        ("hand_landmarks_xy_v1", 42, "hand_xy"),
        ("hand_landmarks_xy_v1", 40, "channels"),
        ("fingertip_history_xy_v1", 2, "path_xy"),
        ("fingertip_history_xy_v1", 10, "channels"),
        ("accelerometer_v1", 6, "channels"),
        ("accelerometer_v1", 42, "channels"),
        ("vector_42_v1", 42, "hand_xy"),
        ("vector_63_v1", 63, "hand_xyz"),
        ("vector_126_v1", 126, "hands_xyz"),
        ("mediapipe_tasks_hands_xyz_v1", 252, "hands_xyz"),
    ],
)
def test_a_layout_follows_from_encoding_and_width(encoding: str, width: int, layout: str) -> None:
    assert layout_of(encoding, width) == layout


def test_length_is_not_padded_with_zeros() -> None:
    short = _sequence(9, 6)
    slow = np.repeat(short, 3, axis=0)
    resampled = Resampled(0, 5)
    np.testing.assert_allclose(
        np.asarray(resampled({"sequence": slow}))[:6], np.asarray(resampled({"sequence": short}))[:6], atol=1e-6
    )


def _two_hands(seed: int, frames: int) -> np.ndarray:
    """(T, 2, 21, 3): one hand goes round, the other hardly moves."""
    rng = np.random.default_rng(seed)
    hands = np.repeat(0.4 + 0.05 * rng.normal(size=(1, 2, 21, 3)), frames, axis=0)
    angle = np.linspace(0, 5, frames)
    hands[:, 0] += 0.1 * np.stack([np.cos(angle), np.sin(angle), 0 * angle], axis=1)[:, None]
    return hands


@given(seed=st.integers(0, 30), frames=st.sampled_from([1, 12]), scale=st.floats(0.5, 2))
def test_two_hands_in_a_mirror_or_further_away_are_the_same_gesture(seed: int, frames: int, scale: float) -> None:
    hands = _two_hands(seed, frames)
    mirrored = hands[:, ::-1] * scale
    mirrored = np.concatenate([1 - mirrored[..., :1], mirrored[..., 1:]], axis=3)
    function = HandMotion(3, 2, False, 8)
    one, other = (
        np.asarray(function({"sequence": h.reshape(frames, 126).astype(np.float32)})) for h in (hands, mirrored)
    )
    np.testing.assert_allclose(other, one, rtol=0.02, atol=0.02)


@given(angle=st.floats(-0.4, 0.4))
def test_a_tilted_camera_does_not_matter(angle: float) -> None:
    person = _person()
    tilted = _moved(person - 0.5, angle, 1.0, (0.5, 0.5), mirror=False)
    np.testing.assert_allclose(_features(tilted), _features(person), rtol=0.02, atol=0.02)


def test_with_sides_the_other_hand_makes_another_gesture() -> None:
    person = _person()
    mirrored = person.copy()
    mirrored[..., 0] = 1 - mirrored[..., 0]
    order = np.arange(107)
    for a, b in ((11, 12), (13, 14), (15, 16)):
        order[[a, b]] = b, a
    order[33:54], order[54:75] = np.arange(54, 75), np.arange(33, 54)
    sided = BodyMotion(8, sided=True)
    one, other = (sided({"sequence": p.reshape(24, 214).astype(np.float32)}) for p in (person, mirrored[:, order]))
    assert np.abs(np.asarray(one) - np.asarray(other)).max() > 0.3


def test_frames_in_which_a_hand_is_lost_change_little() -> None:
    person = _person()
    lost = person.copy()
    lost[5:9, 54:75] = 0.0
    lost[14, 60] = 0.0  # one point of a hand makes no shape of it
    assert np.abs(_features(lost) - _features(person)).max() < 0.1


def test_gaps_are_filled_from_what_is_nearest() -> None:
    line = np.linspace(0, 1, 21, dtype=np.float32)[:, None]
    seen = np.ones_like(line)
    seen[8:13] = 0.0
    whole, gap = (np.asarray(kernel_resampled(line * mask, mask, 6)) for mask in (np.ones_like(line), seen))
    np.testing.assert_allclose(whole[:, 0], np.linspace(0, 1, 6), atol=0.08)
    np.testing.assert_allclose(gap, whole, atol=0.1)


def test_hands_that_are_called_by_the_wrong_side_are_put_right() -> None:
    person = _person()
    person[:, 33:54] += person[:, 15:16] - person[:, 33:34]
    person[:, 54:75] += person[:, 16:17] - person[:, 54:55]
    confused = person.copy()
    confused[:, 33:54], confused[:, 54:75] = person[:, 54:75], person[:, 33:54]
    np.testing.assert_allclose(_features(confused), _features(person), rtol=1e-3, atol=1e-3)
