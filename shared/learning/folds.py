"""How samples are cut for validation so that a session never stands on both sides.

Samples lie in cells. An outer fold is a set of cells that is held out together; its inner folds cut what
remains in the same way, so that choosing and calibrating see nothing of what is held out.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

Indices = NDArray[np.int64]


@dataclass(frozen=True)
class Folds:
    """Cells of samples (n,), the outer folds over them, and what they can honestly claim."""

    cells: Indices
    outer: tuple[frozenset[int], ...]
    scheme: str  # leave-one-session-out | grouped-k-fold | within-session
    within_session: tuple[int, ...]  # classes that occur in one session only, so stand on both sides

    def inside(self, fold: frozenset[int]) -> Indices:
        """Return the indices of the samples in a set of cells."""
        return np.flatnonzero(np.isin(self.cells, sorted(fold)))

    def outside(self, fold: frozenset[int]) -> Indices:
        """Return the indices of the samples in no cell of the set."""
        return np.flatnonzero(~np.isin(self.cells, sorted(fold)))

    def inner(self, fold: frozenset[int]) -> tuple[frozenset[int], ...]:
        """Return the folds that cut what remains when `fold` is held out: other folds, or else single cells."""
        others = tuple(other for other in self.outer if other != fold)
        if len(others) > 1:
            return others
        rest = sorted({int(cell) for other in others for cell in other})
        return tuple(frozenset([cell]) for cell in rest)


def session_folds(classes: Indices, sessions: Sequence[str], times: Sequence[Any], most: int, seed: int) -> Folds:
    """Cut samples by session: one fold a session, grouped into at most `most` folds that balance the labels.

    With two sessions each is halved by label into two cells, so that the inner folds exist. With one session,
    or for a label that only one session has, samples are cut within it into runs of neighbours in time, and named.
    """
    order = np.array(sorted(range(len(times)), key=lambda k: times[k]), np.int64)  # stable where times are equal
    names = sorted(set(sessions))
    place = np.array([names.index(s) for s in sessions], dtype=np.int64)
    single = tuple(int(k) for k in np.unique(classes) if len(set(place[classes == k])) == 1)
    if len(names) == 1 or len(single) == len(np.unique(classes)):
        parts = int(np.clip(np.bincount(classes).max(), 2, min(most, 4)))
        cells = _spread(classes, parts, order)
        return Folds(cells, tuple(frozenset([k]) for k in range(parts)), "within-session", single)
    if len(names) == 2:
        cells = place * 2
        for session in range(2):
            own = place == session
            cells[own] += _spread(classes, 2, order[own[order]])[own]
        outer: tuple[frozenset[int], ...] = (frozenset([0, 1]), frozenset([2, 3]))
        scheme = "leave-one-session-out"
    elif len(names) <= most:
        cells, scheme = place.copy(), "leave-one-session-out"
        outer = tuple(frozenset([k]) for k in range(len(names)))
    else:
        cells, scheme = _grouped(classes, place, most, seed), "grouped-k-fold"
        outer = tuple(frozenset([k]) for k in range(most))
    for k in single:
        own = order[classes[order] == k]
        cells[own] = _spread(classes, len(set(cells.tolist())), own)[own]
    return Folds(cells, outer, scheme, single)


def random_folds(classes: Indices, count: int, seed: int) -> Folds:
    """Cut samples at random, stratified by label: what a naive evaluation would do, shown beside ours."""
    cells = _spread(classes, count, np.random.default_rng(seed).permutation(len(classes)))
    return Folds(cells, tuple(frozenset([k]) for k in range(count)), "random", ())


def _grouped(classes: Indices, place: Indices, count: int, seed: int) -> Indices:
    """Deal sessions to `count` folds, the most uneven first, each to where the labels' shares stay most alike.

    The method and the result are those of scikit-learn's `StratifiedGroupKFold`, which takes a second to import.
    """
    balanced = classes if np.bincount(classes).max() >= count else np.zeros_like(classes)  # too few to balance
    member = np.unique(balanced, return_inverse=True)[1]
    table = np.zeros((int(place.max()) + 1, int(member.max()) + 1))  # samples a session and label
    np.add.at(table, (place, member), 1)
    order = np.arange(len(table))
    np.random.RandomState(seed).shuffle(order)
    order = order[np.argsort(-np.std(table[order], axis=1), kind="stable")]
    totals, dealt, fold = table.sum(axis=0), np.zeros((count, table.shape[1])), np.zeros(len(table), np.int64)
    for session in order:
        best, least, fewest = 0, np.inf, np.inf
        for k in range(count):
            dealt[k] += table[session]
            unevenness = float(np.mean(np.std(dealt / totals, axis=0)))
            dealt[k] -= table[session]
            samples = dealt[k].sum()
            if unevenness < least or (np.isclose(unevenness, least) and samples < fewest):
                best, least, fewest = k, unevenness, samples
        dealt[best] += table[session]
        fold[session] = best
    return fold[place]


def _spread(classes: Indices, parts: int, order: Indices) -> Indices:
    """Cut each class, as it stands in `order`, into `parts` even runs of neighbours, which resemble each other most."""
    cells = np.zeros(len(classes), dtype=np.int64)
    for number, k in enumerate(np.unique(classes[order])):
        own = order[classes[order] == k]
        runs = np.arange(len(own)) * parts // max(len(own), parts) if len(own) >= parts else np.arange(len(own))
        cells[own] = (runs + number) % parts
    return cells
