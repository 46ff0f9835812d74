"""How samples are split for validation so that no session is on both sides of a split.

Samples lie in cells. An outer fold is a set of cells that is held out together; its inner folds split what
remains in the same way, so that selection and calibration see nothing of what is held out.
"""

from __future__ import annotations

import warnings
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
    within_session: tuple[int, ...]  # classes that occur in one session only, so are on both sides

    def inside(self, fold: frozenset[int]) -> Indices:
        """Return the indices of the samples in a set of cells."""
        return np.flatnonzero(np.isin(self.cells, sorted(fold)))

    def outside(self, fold: frozenset[int]) -> Indices:
        """Return the indices of the samples in no cell of the set."""
        return np.flatnonzero(~np.isin(self.cells, sorted(fold)))

    def inner(self, fold: frozenset[int]) -> tuple[frozenset[int], ...]:
        """Return the folds that split what remains when `fold` is held out: its single cells."""
        rest = sorted(cell for other in self.outer if other != fold for cell in other)
        return tuple(frozenset([cell]) for cell in rest)


def session_folds(classes: Indices, sessions: Sequence[str], times: Sequence[Any], most: int, seed: int) -> Folds:
    """Split samples by session: one fold a session, grouped into at most `most` folds that balance the labels.

    With two sessions each is halved by label into two cells, so that inner folds exist. With one session, or for a
    label that only one session has, samples are split within it into runs of neighbours in time, and named.
    """
    from sklearn.model_selection import StratifiedGroupKFold  # slow to import, and prediction needs no folds

    order = np.array(sorted(range(len(times)), key=lambda k: times[k]), np.int64)  # stable where times are equal
    names, session = np.unique(sessions, return_inverse=True)
    single = tuple(int(k) for k in np.unique(classes) if len(set(session[classes == k])) == 1)
    if len(single) == len(np.unique(classes)):  # as with one session
        parts = within_session_folds(int(np.bincount(classes).max()), most)
        cells = np.empty_like(classes)
        cells[order] = _runs(classes[order], parts)
        return Folds(cells, tuple(frozenset([k]) for k in range(parts)), "within-session", single)
    if len(names) == 2:
        cells = session * 2
        for k in range(2):
            own = order[session[order] == k]
            cells[own] += _runs(classes[own], 2)
        outer: tuple[frozenset[int], ...] = (frozenset([0, 1]), frozenset([2, 3]))
        scheme = "leave-one-session-out"
    elif len(names) <= most:
        cells, scheme = session.copy(), "leave-one-session-out"
        outer = tuple(frozenset([k]) for k in range(len(names)))
    else:
        splitter = StratifiedGroupKFold(most, shuffle=True, random_state=seed)
        cells, scheme = _test_folds(splitter, classes, session), "grouped-k-fold"
        outer = tuple(frozenset([k]) for k in range(most))
    for k in single:
        own = order[classes[order] == k]
        cells[own] = _runs(classes[own], len(set(cells.tolist())))
    return Folds(cells, outer, scheme, single)


def within_session_folds(largest_label: int, most: int) -> int:
    """Return into how many folds one session is split, whose label with most samples has `largest_label`."""
    return int(np.clip(largest_label, 2, min(most, 4)))


def random_folds(classes: Indices, count: int, seed: int) -> Folds:
    """Split samples at random, stratified by label: what a naive evaluation would do, shown beside ours."""
    from sklearn.model_selection import StratifiedKFold

    cells = _test_folds(StratifiedKFold(count, shuffle=True, random_state=seed), classes)
    return Folds(cells, tuple(frozenset([k]) for k in range(count)), "random", ())


def _runs(classes: Indices, parts: int) -> Indices:
    """Split each label of samples in the order of time into `parts` runs of neighbours, which resemble each other."""
    from sklearn.model_selection import StratifiedKFold

    return _test_folds(StratifiedKFold(parts), classes)


def _test_folds(splitter: Any, classes: Indices, groups: Indices | None = None) -> Indices:
    """Return (n,): the number of the fold in which a splitter of scikit-learn tests each sample.

    What scikit-learn refuses is still split: where no label has a sample for each fold, labels are not balanced; where
    there are fewer samples than folds, each is a fold of its own.
    """
    if len(classes) < splitter.n_splits:
        return np.arange(len(classes))
    balanced = classes if np.bincount(classes).max() >= splitter.n_splits else np.zeros_like(classes)
    folds = np.empty(len(classes), np.int64)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # a label with fewer samples than folds
        for number, (_, tested) in enumerate(splitter.split(balanced, balanced, groups)):
            folds[tested] = number
    return folds
