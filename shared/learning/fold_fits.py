"""Every fit that validation needs, each made once: candidates without the cells of a fold, and without labels."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from shared.learning.candidates import (
    Candidate,
    FittedModel,
    fit_candidate,
    fit_familiarity,
    fit_head,
    prepared_for_folds,
)
from shared.learning.folds import Folds, Indices
from shared.learning.heads import Classes, Features, Head

SHIFTS = 3  # that are simulated where there is one session only
SHIFT_STRENGTH = 1.0  # of what one sample of a label differs from the mean of its label
MOST_GROUPS = 5  # of labels that are left out together

Cells = frozenset[int]
Step = Callable[[], None]  # called when another fit is done, on the thread that asked for it
_Fit = tuple[int, Cells]  # candidate, cells that its training did not see


@dataclass(frozen=True)
class HeldOutLogits:
    """Logits (n, K) for samples (n,) that the model did not see, and the fold (n,) that each was held out in."""

    indices: Indices
    logits: Features
    fold: Indices


@dataclass(frozen=True)
class UnknownOutputs:
    """What models give for samples (n,) of labels that they were not trained on: logits (n, K), familiarity (n,).

    `informative` (n,) is False where the model was trained on a single label, so that its logits say nothing.
    """

    indices: Indices
    logits: Features
    familiarity: Features
    informative: NDArray[np.bool_]

    def only(self, chosen: NDArray[np.bool_]) -> UnknownOutputs:
        """Return the outputs of the samples that are `chosen` (n,)."""
        return UnknownOutputs(
            self.indices[chosen], self.logits[chosen], self.familiarity[chosen], self.informative[chosen]
        )


def label_groups(count: int, most: int = MOST_GROUPS) -> tuple[frozenset[int], ...]:
    """Return the labels 0..count-1 in at most `most` groups, distributed round-robin."""
    return tuple(frozenset(range(k, count, most)) for k in range(min(count, most)))


class FoldFits:
    """Heads of every candidate for every set of held-out cells, each fitted once; familiarity where it is asked for."""

    def __init__(
        self,
        candidates: Sequence[Candidate],
        classes: Classes,
        count: int,
        folds: Folds,
        step: Step = lambda: None,
    ) -> None:
        self.candidates, self._classes, self._count, self._folds = list(candidates), classes, count, folds
        self._step = step
        self._heads: dict[_Fit, Head] = {}
        self._logits: dict[_Fit, Features] = {}
        self._familiarity: dict[_Fit, Features] = {}

    def run(self, excluded: Iterable[Cells]) -> None:
        """Fit every candidate once for each set of excluded cells; last those that take longest to prepare."""
        order = sorted(range(len(self.candidates)), key=lambda c: self.candidates[c].isotropic)
        jobs = [(c, cells) for c in order for cells in sorted(excluded, key=sorted)]
        everything = np.arange(len(self._classes))
        with ThreadPoolExecutor(2) as pool:
            ready = [pool.submit(prepared_for_folds, candidate, everything) for candidate in self.candidates]
            found = pool.map(lambda job: self._fit(ready[job[0]].result(), job), jobs)
            for job, (head, logits) in zip(jobs, found, strict=True):
                self._heads[job], self._logits[job] = head, logits
                self._step()
        self.candidates = [future.result() for future in ready]

    def held(self, candidate: int, units: Sequence[Cells], without: Cells) -> HeldOutLogits:
        """Return the logits for each of `units`, by the model that saw neither it nor `without`."""
        parts: list[tuple[Indices, Features, Indices]] = []
        for number, unit in enumerate(units):
            indices, own = self._own(unit, without)
            logits = self._logits[candidate, unit | without][own]
            parts.append((indices[own], logits, np.full(len(logits), number, np.int64)))
        joined = [np.concatenate(column) for column in zip(*parts, strict=True)]
        return HeldOutLogits(joined[0], joined[1], joined[2])

    def familiarity(self, candidate: int, units: Sequence[Cells], without: Cells) -> Features:
        """Return the familiarity (n,) of the same samples in the same order."""
        missing = [job for u in units if (job := (candidate, u | without)) not in self._familiarity]
        with ThreadPoolExecutor(2) as pool:
            for job, familiarity in zip(missing, pool.map(self._familiarity_of, missing), strict=True):
                self._familiarity[job] = familiarity
                self._step()
        return np.concatenate([self._familiarity[candidate, u | without][self._own(u, without)[1]] for u in units])

    def simulate_session_shift(
        self, number: int, units: Sequence[Cells], without: Cells
    ) -> list[tuple[Features, Features]]:
        """Return logits and familiarity of shifted copies of the same samples, those of a fold shifted alike.

        A shift moves features as one sample of a label differs from the label's mean: in directions, and, times
        SHIFT_STRENGTH, by amounts in which this person's samples differ anyway.
        """
        candidate = self.candidates[number]
        random = np.random.default_rng(0)
        found = []
        for _ in range(SHIFTS):
            parts = []
            for unit in units:
                job, own = (number, unit | without), self._own(unit, without)[1]
                train, rows = self._folds.outside(job[1]), self._test_rows(candidate, job)[own]
                if not len(train):
                    continue
                base = candidate.source.rows(train).base[train]
                one = int(random.integers(len(train)))
                mean = base[self._classes[train] == self._classes[train[one]]].mean(axis=0)
                moved = rows + np.float32(SHIFT_STRENGTH) * (base[one] - mean)
                familiarity = fit_familiarity(candidate, self._heads[job], self._classes, train)
                parts.append((np.asarray(self._heads[job](moved)), np.asarray(familiarity(moved))))
            if parts:
                logits, near = zip(*parts, strict=True)
                found.append((np.concatenate(logits), np.concatenate(near)))
        return found

    def _own(self, unit: Cells, without: Cells) -> tuple[Indices, NDArray[np.bool_]]:
        indices = self._folds.inside(unit | without)
        return indices, np.isin(self._folds.cells[indices], sorted(unit))

    def _fit(self, candidate: Candidate, job: _Fit) -> tuple[Head, Features]:
        head = fit_head(candidate, self._classes, self._folds.outside(job[1]), self._count)
        return head, np.asarray(head(self._test_rows(candidate, job)))

    def _test_rows(self, candidate: Candidate, job: _Fit) -> Features:
        return candidate.source.rows(self._folds.outside(job[1])).base[self._folds.inside(job[1])]

    def _familiarity_of(self, job: _Fit) -> Features:
        candidate, train = self.candidates[job[0]], self._folds.outside(job[1])
        if not len(train):
            return np.zeros(len(self._folds.inside(job[1])), np.float32)
        familiarity = fit_familiarity(candidate, self._heads[job], self._classes, train)
        return np.asarray(familiarity(self._test_rows(candidate, job)))

    def left_out(
        self, number: int, pairs: Sequence[tuple[Cells, frozenset[int]]], without: Cells, *, in_cells: bool
    ) -> UnknownOutputs:
        """Return what models give for the labels of each pair, trained without them, the pair's cells and `without`.

        Samples are those in the pair's cells (`in_cells`), or all that are not in `without`.
        """
        candidate = self.candidates[number]
        usable = np.setdiff1d(np.arange(len(self._classes)), self._folds.inside(without))

        def one(pair: tuple[Cells, frozenset[int]]) -> UnknownOutputs | None:
            cells, labels = pair
            outside = self._folds.outside(cells | without)
            train = outside[~np.isin(self._classes[outside], sorted(labels))]
            tested = np.intersect1d(self._folds.inside(cells), usable) if in_cells else usable
            tested = tested[np.isin(self._classes[tested], sorted(labels))]
            if not len(train) or not len(tested):
                return None
            fitted: FittedModel = fit_candidate(candidate, self._classes, train, self._count)
            logits, near = fitted(candidate.source.rows(train).base[tested])
            several = len(np.unique(self._classes[train])) > 1
            return UnknownOutputs(tested, logits, near, np.full(len(tested), several))

        with ThreadPoolExecutor(2) as pool:
            found = []
            for outputs in pool.map(one, pairs):
                self._step()
                if outputs is not None:
                    found.append(outputs)
        if not found:
            empty = np.zeros((0, self._count), np.float32)
            return UnknownOutputs(np.zeros(0, np.int64), empty, np.zeros(0, np.float32), np.zeros(0, np.bool_))
        return UnknownOutputs(
            np.concatenate([f.indices for f in found]),
            np.concatenate([f.logits for f in found]),
            np.concatenate([f.familiarity for f in found]),
            np.concatenate([f.informative for f in found]),
        )
