"""Prediction sets hold the true label as often as they promise, on sessions that their threshold was not fitted on."""

import numpy as np
import pytest

from shared.learning.prediction_sets import LEVEL, fit_set_threshold, held_out_sets, prediction_sets
from shared.prediction import label_set


def _made(sessions: int, each: int, seed: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    groups = np.repeat(np.arange(sessions), each)
    classes = rng.integers(0, 4, len(groups))
    logits = rng.normal(size=(len(groups), 4)) * 1.5
    logits[np.arange(len(groups)), classes] += 1.5 + 0.3 * rng.normal(size=sessions)[groups]
    chances = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
    return chances.astype(np.float32), classes, groups


@pytest.mark.parametrize("sessions", [3, 8])
def test_sets_cover_nine_in_ten_on_other_sessions(sessions: int) -> None:
    covered = []
    for seed in range(40):
        chances, classes, groups = _made(sessions, 30, seed)
        covered.append(held_out_sets(chances, classes, groups)[np.arange(len(classes)), classes].mean())
    assert 0.87 <= np.mean(covered) <= 0.95


def test_a_long_session_weighs_no_more_than_a_short_one() -> None:
    true = np.concatenate([np.full(1000, 0.9), np.full(10, 0.2)]).astype(np.float32)
    chances, classes = np.stack([true, 1 - true], axis=1), np.zeros(1010, np.int64)
    assert fit_set_threshold(chances, classes, np.repeat([0, 1], [1000, 10])) == pytest.approx(0.2)
    assert fit_set_threshold(chances, classes, np.zeros(1010, np.int64)) == pytest.approx(0.9)


def test_a_label_of_one_session_does_not_make_all_sets_hold_everything() -> None:
    chances, classes, groups = _made(4, 60, 0)
    alone = groups == 3
    lost = np.where(np.arange(4) == 3, 0.0, 1 / 3).astype(np.float32)  # of a model that did not know the fourth label
    rows = np.concatenate([chances[~alone], np.tile(lost, (60, 1))])
    truth = np.concatenate([classes[~alone], np.full(60, 3)])
    known = truth != 3
    whole = fit_set_threshold(rows[known | alone], truth[known | alone], groups[known | alone])
    assert whole == fit_set_threshold(rows[known], truth[known], groups[known]) > 0
    assert whole == fit_set_threshold(rows[known | alone], truth[known | alone], groups[known | alone].astype(str))
    assert fit_set_threshold(rows[alone], truth[alone], groups[alone]) == 0.0, "nothing else is known"


def test_with_too_few_samples_nothing_is_excluded() -> None:
    chances = np.array([[0.9, 0.1], [0.8, 0.2]], np.float32)
    assert fit_set_threshold(chances, np.zeros(2, np.int64), np.zeros(2, np.int64)) == 0.0
    assert prediction_sets(chances, 0.0).all()


def test_a_set_holds_the_most_probable_label_and_a_rejected_input_has_none() -> None:
    output = {"more": 0.3, "yes": 0.6, "no": 0.1, "unknown": 0.0}
    assert label_set(output, 0.25) == ["yes", "more"]
    assert label_set(output, 0.99) == ["yes"]
    assert label_set({"more": 0.0, "yes": 0.0, "unknown": 1.0}, 0.25) == []
    assert prediction_sets(np.array([[0.3, 0.6, 0.1]], np.float32), 0.99).tolist() == [[False, True, False]]
    assert LEVEL == 0.9
