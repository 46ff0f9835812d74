"""Proposals prefer samples between two labels, and samples that differ from each other."""

from __future__ import annotations

import numpy as np
import pytest

from shared.learning.proposals import margins, propose

SURE = [[0.98, 0.01, 0.01], [0.01, 0.98, 0.01], [0.01, 0.01, 0.98]]


def test_a_margin_is_the_difference_of_the_two_most_probable_labels() -> None:
    assert margins(np.array([[0.5, 0.2, 0.3], [0.1, 0.8, 0.1]])) == pytest.approx([0.2, 0.7])


def test_the_model_is_unsure_of_what_is_proposed() -> None:
    doubtful = [[0.50, 0.48, 0.02], [0.02, 0.47, 0.51], [0.48, 0.02, 0.50]]
    table = np.array([*SURE * 10, *doubtful, *SURE * 10], np.float32)
    assert sorted(propose(table, 3)) == [30, 31, 32]


def test_near_copies_are_not_proposed_together() -> None:
    copies = [[0.500 + k / 1e4, 0.495 - k / 1e4, 0.005] for k in range(8)]  # the smallest margins of all
    others = [[0.52, 0.005, 0.475], [0.005, 0.53, 0.465]]
    table = np.array([*copies, *others, *SURE * 10], np.float32)
    proposed = propose(table, 3)
    assert {8, 9} < set(proposed.tolist())
    assert np.sum(proposed < 8) == 1
    assert sorted(np.argsort(margins(table))[:3]) == [0, 1, 2]  # what the margin alone would propose


@pytest.mark.parametrize("count", [1, 2, 5, 40])
def test_no_more_than_there_are_and_each_once(count: int) -> None:
    table = np.random.default_rng(0).dirichlet(np.ones(4), 30).astype(np.float32)
    proposed = propose(table, count).tolist()
    assert len(proposed) == len(set(proposed)) == min(count, 30)
    assert propose(table, count).tolist() == proposed
    assert propose(table[:1], count).tolist() == [0]
