"""No session is on both sides of a split."""

import warnings

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from shared.learning.folds import Folds, random_folds, session_folds


def _folds(classes: list[int], sessions: list[str], most: int = 5) -> Folds:
    return session_folds(np.array(classes), sessions, list(range(len(classes))), most, seed=0)


def _across(folds: Folds, classes: np.ndarray) -> np.ndarray:
    return ~np.isin(classes, folds.within_session)


@given(st.lists(st.tuples(st.integers(0, 3), st.integers(0, 8)), min_size=8, max_size=60), st.integers(2, 5))
def test_no_session_straddles_and_every_sample_is_tested_once(rows: list[tuple[int, int]], most: int) -> None:
    classes, sessions = np.array([r[0] for r in rows]), np.array([f"s{r[1]}" for r in rows])
    folds = _folds(classes.tolist(), sessions.tolist(), most)
    tested = np.concatenate([folds.inside(fold) for fold in folds.outer])
    assert sorted(tested.tolist()) == list(range(len(rows)))
    if folds.scheme == "within-session":
        return
    across = _across(folds, classes)
    for outer in folds.outer:
        inside, outside = folds.inside(outer), folds.outside(outer)
        assert not set(sessions[inside][across[inside]]) & set(sessions[outside][across[outside]])


def test_leave_one_session_out_has_one_fold_a_session() -> None:
    folds = _folds([0, 1] * 6, ["a", "a", "a", "a", "b", "b", "b", "b", "c", "c", "c", "c"])
    assert folds.scheme == "leave-one-session-out"
    assert len(folds.outer) == 3
    assert folds.within_session == ()


def test_inner_folds_never_touch_what_is_held_out() -> None:
    for sessions in (["a", "b", "c"], ["a", "b"], ["a"]):
        names = [s for s in sessions for _ in range(8)]
        folds = _folds([0, 1] * (len(names) // 2), names)
        for outer in folds.outer:
            inner = folds.inner(outer)
            assert len(inner) >= 2
            for unit in inner:
                assert not unit & outer
                assert len(folds.outside(outer | unit)), "something is left to train on"


def test_many_sessions_are_grouped_and_keep_every_label_in_training() -> None:
    classes = np.tile([0, 1, 2], 40)
    sessions = [f"s{k // 6:02d}" for k in range(120)]
    folds = session_folds(classes, sessions, list(range(120)), 5, seed=0)
    assert folds.scheme == "grouped-k-fold"
    assert len(folds.outer) == 5
    for outer in folds.outer:
        assert set(classes[folds.outside(outer)]) == {0, 1, 2}


def test_a_label_of_one_session_is_named_and_still_trained_on() -> None:
    classes = [0, 0, 1, 1, 0, 0, 1, 1, 2, 2, 2, 2, 0, 1]
    sessions = ["a"] * 4 + ["b"] * 4 + ["a"] * 4 + ["c"] * 2
    folds = _folds(classes, sessions)
    assert folds.within_session == (2,)
    for outer in folds.outer:
        assert 2 in np.array(classes)[folds.outside(outer)]


def test_one_label_a_session_is_no_estimate_across_sessions() -> None:
    folds = _folds([0] * 6 + [1] * 6, ["a"] * 6 + ["b"] * 6)
    assert folds.scheme == "within-session"
    assert folds.within_session == (0, 1)


def test_within_a_session_neighbours_in_time_stay_together() -> None:
    times = [5, 4, 3, 2, 1, 0]
    folds = session_folds(np.zeros(6, int), ["a"] * 6, times, 3, seed=0)
    assert folds.cells.tolist() == [2, 2, 1, 1, 0, 0]


@pytest.mark.parametrize("seed", [0, 1])
def test_random_folds_are_stratified_and_follow_the_seed(seed: int) -> None:
    classes = np.repeat([0, 1], [20, 10])
    folds = random_folds(classes, 5, seed)
    for fold in folds.outer:
        assert np.bincount(classes[folds.inside(fold)]).tolist() == [4, 2]
    assert (random_folds(classes, 5, seed).cells == folds.cells).all()
    assert (random_folds(classes, 5, seed + 1).cells != folds.cells).any()


@pytest.mark.parametrize("counts", [[1, 1], [1, 1, 1], [2, 1], [3, 2, 2], [9, 1, 1]])
def test_labels_with_fewer_samples_than_folds_are_still_split(counts: list[int]) -> None:
    classes = np.repeat(np.arange(len(counts)), counts)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        random = random_folds(classes, 5, seed=0)
        within = session_folds(classes, ["a"] * len(classes), list(range(len(classes))), 5, seed=0)
        grouped = session_folds(classes, [f"s{k}" for k in range(len(classes))], list(range(len(classes))), 2, seed=0)
    for folds in (random, within, grouped):
        tested = np.concatenate([folds.inside(fold) for fold in folds.outer])
        assert sorted(tested.tolist()) == list(range(len(classes)))
        assert sum(len(folds.inside(fold)) > 0 for fold in folds.outer) >= 2


def test_random_folds_balance_every_label() -> None:
    classes = np.random.default_rng(0).permutation(np.repeat([0, 1, 2], [7, 11, 13]))
    folds = random_folds(classes, 5, seed=0)
    for fold in folds.outer:
        shares = np.bincount(classes[folds.inside(fold)], minlength=3)
        assert (shares >= [1, 2, 2]).all() and (shares <= [2, 3, 3]).all()


def test_two_sessions_are_halved_by_label_in_the_order_of_time() -> None:
    classes, sessions = np.array([0, 0, 1, 1] * 2), ["a"] * 4 + ["b"] * 4
    folds = session_folds(classes, sessions, [0, 1, 2, 3, 3, 2, 1, 0], 5, seed=0)
    assert folds.cells.tolist() == [0, 1, 0, 1, 3, 2, 3, 2]
    assert folds.outer == (frozenset([0, 1]), frozenset([2, 3])) and folds.scheme == "leave-one-session-out"
    assert folds.inner(frozenset([0, 1])) == (frozenset([2]), frozenset([3]))
    assert folds.inside(frozenset([0, 1])).tolist() == folds.outside(frozenset([2, 3])).tolist() == [0, 1, 2, 3]


@pytest.mark.parametrize(
    ("each", "most", "parts"), [(10, 5, 4), (10, 4, 4), (10, 3, 3), (3, 5, 3), (2, 5, 2), (1, 5, 2)]
)
def test_one_session_is_split_into_as_many_parts_as_a_label_has_samples_at_most_four(
    each: int, most: int, parts: int
) -> None:
    folds = _folds([0, 1] * each, ["a"] * 2 * each, most)
    assert folds.outer == tuple(frozenset([k]) for k in range(parts))
    assert sorted(set(folds.cells.tolist())) == list(range(parts))


@pytest.mark.parametrize(
    ("sessions", "most", "scheme"),
    [(3, 3, "leave-one-session-out"), (5, 5, "leave-one-session-out"), (6, 5, "grouped-k-fold")],
)
def test_each_session_is_a_fold_up_to_the_most_that_are_wanted(sessions: int, most: int, scheme: str) -> None:
    names = [f"s{k}" for k in range(sessions) for _ in range(4)]
    folds = _folds([0, 1] * (2 * sessions), names, most)
    assert (folds.scheme, len(folds.outer)) == (scheme, most)
    assert folds.inner(folds.outer[0]) == folds.outer[1:]
    assert set(folds.cells.tolist()) == set(range(most)) and folds.within_session == ()


def test_a_label_of_one_session_is_spread_over_all_folds_in_the_order_of_time() -> None:
    classes = np.array([0, 1] * 6 + [2] * 6)
    sessions = [s for s in "abc" for _ in range(4)] + ["a"] * 6
    folds = session_folds(classes, sessions, [*range(12), 17, 16, 15, 14, 13, 12], 5, seed=0)
    assert folds.cells.tolist() == [0] * 4 + [1] * 4 + [2] * 4 + [2, 2, 1, 1, 0, 0]
    assert folds.within_session == (2,) and folds.scheme == "leave-one-session-out"


def test_grouped_folds_follow_the_seed() -> None:
    classes, sessions = np.tile([0, 1, 2], 40), [f"s{k // 6:02d}" for k in range(120)]
    cells = [session_folds(classes, sessions, list(range(120)), 5, seed).cells.tolist() for seed in (0, 0, 1)]
    assert cells[0] == cells[1] != cells[2]


def test_samples_that_are_fewer_than_folds_are_each_a_fold() -> None:
    assert random_folds(np.array([0, 0, 1]), 5, seed=0).cells.tolist() == [0, 1, 2]
    assert sorted(random_folds(np.array([0, 1, 2, 3, 4]), 5, seed=0).cells.tolist()) == [0, 1, 2, 3, 4]
    assert random_folds(np.array([0, 0, 1]), 2, seed=0).scheme == "random"
