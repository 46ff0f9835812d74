"""Session-wise validation: the whole recipe, choosing and calibrating included, refitted without the tested session.

For every outer fold the candidates are compared, the temperature and the rejection threshold fitted on inner
folds only; then the winner, trained without the outer fold, answers it. Those answers are the headline.
The model that is shipped is chosen and calibrated in the same way on all outer folds.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from pydantic import Field
from scipy.special import softmax

from shared.learning.candidates import Candidate, fit_candidate, fit_head, prepared_for_folds
from shared.learning.decision_rule import DecisionRule, fit_decision_rule
from shared.learning.folds import Folds, Indices, random_folds, session_folds
from shared.learning.heads import Classes, Features, Head
from shared.schema_utils import Schema

DAYS = 3  # that are made up where there is one session only
DAY_STRENGTH = 1.0  # of what one sample of a label differs from the mean of its label

Progress = Callable[[int, int], None]
_Fit = tuple[int, frozenset[int]]  # candidate, cells that its training did not see


class EvaluationConfig(Schema):
    """How a model is validated, and how often it may reject what it knows."""

    folds: int = Field(default=5, ge=2, le=20, description="most outer folds; sessions beyond are grouped")
    false_rejection: float = Field(default=0.05, ge=0.0, le=0.5, description="share of known samples it may reject")
    random_split: bool = Field(default=True, description="also score a random split, to show how much it flatters")
    learning_curve: bool = Field(default=True, description="also train on a quarter and half, to show what more gains")
    unknown: bool = Field(default=True, description="leave each label out in turn and see whether it is rejected")


@dataclass(frozen=True)
class HeldOutLogits:
    """Logits (n, K) for samples (n,) that the model did not see, and the fold (n,) that each was held out in."""

    indices: Indices
    logits: Features
    fold: Indices


@dataclass(frozen=True)
class Validation:
    """What session-wise validation found. Arrays are by sample (n,) in the data set's order."""

    folds: Folds
    fold: Indices  # outer fold that held the sample out
    predicted: Classes
    probabilities: Features
    uncalibrated: Features  # probabilities at temperature 1
    accepted: NDArray[np.bool_]
    score: Features
    chosen_by_fold: tuple[str, ...]
    candidates: dict[str, float]  # name -> out-of-fold accuracy
    winner: Candidate
    rule: DecisionRule
    random_accuracy: float | None
    unknown_auroc: dict[int, float]  # class left out -> AUROC of known against it
    learning: tuple[tuple[int, float], ...] = ()  # mean number of training samples, out-of-fold accuracy


def validate_by_session(
    candidates: Sequence[Candidate],
    classes: Classes,
    sessions: Sequence[str],
    times: Sequence[Any],
    config: EvaluationConfig,
    seed: int,
    progress: Progress = lambda done, total: None,
) -> Validation:
    """Validate `candidates` on samples of `classes` (n,) recorded in `sessions` (n,) at `times` (n,)."""
    folds = session_folds(classes, sessions, times, config.folds, seed)
    groups = np.unique(sessions, return_inverse=True)[1]
    count = int(classes.max()) + 1
    fits = _Fits(candidates, classes, count, folds)
    pairs = {outer | inner for outer in folds.outer for inner in folds.inner(outer)}
    fits.run({*folds.outer, *pairs}, progress)

    n = len(classes)
    place, predicted = np.full(n, -1, np.int64), np.zeros(n, np.int64)
    chances, plain = np.zeros((n, count), np.float32), np.zeros((n, count), np.float32)
    accepted, score = np.zeros(n, np.bool_), np.zeros(n, np.float32)
    chosen_by_fold = []
    for number, outer in enumerate(folds.outer):
        held = [fits.held(c, folds.inner(outer), outer) for c in range(len(candidates))]
        chosen = choose(held, classes)
        chosen_by_fold.append(candidates[chosen].name)
        familiarity = fits.familiarity(chosen, folds.inner(outer), outer)
        single = len(np.unique(groups[held[chosen].indices])) == 1
        days = fits.simulate_session_shift(chosen, folds.inner(outer), outer) if single else ()
        rule = _decision_rule(held[chosen], familiarity, candidates[chosen], classes, groups, config, days)
        test = fits.held(chosen, (outer,), frozenset())
        place[test.indices] = number
        results = rule(test.logits, fits.familiarity(chosen, (outer,), frozenset()))
        predicted[test.indices], chances[test.indices], accepted[test.indices], score[test.indices] = results
        plain[test.indices] = softmax(test.logits, axis=1)

    held = [fits.held(c, folds.outer, frozenset()) for c in range(len(candidates))]
    chosen = choose(held, classes)
    winner, prepared = candidates[chosen], fits.candidates[chosen]
    familiarity = fits.familiarity(chosen, folds.outer, frozenset())
    days = () if groups.max() else fits.simulate_session_shift(chosen, folds.outer, frozenset())
    rule = _decision_rule(held[chosen], familiarity, winner, classes, groups, config, days)
    return Validation(
        folds=folds,
        fold=place,
        predicted=predicted,
        probabilities=chances,
        uncalibrated=plain,
        accepted=accepted,
        score=score,
        chosen_by_fold=tuple(chosen_by_fold),
        candidates={c.name: balanced(h, classes) for c, h in zip(candidates, held, strict=True)},
        winner=winner,
        rule=rule,
        random_accuracy=_random_accuracy(prepared, classes, config, seed) if config.random_split else None,
        unknown_auroc=_unknown(prepared, rule, classes, folds) if config.unknown and count > 2 else {},
        learning=_learning_curve(prepared, held[chosen], classes, folds) if config.learning_curve else (),
    )


def choose(held: Sequence[HeldOutLogits], classes: Classes) -> int:
    """Return the simplest candidate that is within one standard error of the best, paired by sample."""
    correct = [_correct(h, classes) for h in held]
    best = int(np.argmax([c.mean() for c in correct]))
    for number, mine in enumerate(correct[:best]):
        lost = correct[best] - mine
        if lost.mean() <= lost.std(ddof=1) / np.sqrt(len(lost)) + 1e-12:
            return number
    return best


def balanced(held: HeldOutLogits, classes: Classes) -> float:
    """Return the accuracy with every label weighing the same."""
    return float(_correct(held, classes).mean())


def auroc(known: NDArray[np.floating], unknown: NDArray[np.floating]) -> float:
    """Return the probability that a known sample scores above an unknown one."""
    ranked = np.sort(unknown)
    below, reached = (np.searchsorted(ranked, known, side) for side in ("left", "right"))
    return float(np.mean(below + reached) / (2 * len(unknown)))


class _Fits:
    """Heads of every candidate for every set of held-out cells, each fitted once; familiarity where it is asked for."""

    def __init__(self, candidates: Sequence[Candidate], classes: Classes, count: int, folds: Folds) -> None:
        self.candidates, self._classes, self._count, self._folds = list(candidates), classes, count, folds
        self._heads: dict[_Fit, Head] = {}
        self._logits: dict[_Fit, Features] = {}
        self._familiarity: dict[_Fit, Features] = {}

    def run(self, excluded: Iterable[frozenset[int]], progress: Progress) -> None:
        """Fit every candidate once for each set of excluded cells; last those that take longest to prepare."""
        order = sorted(range(len(self.candidates)), key=lambda c: self.candidates[c].isotropic)
        jobs = [(c, cells) for c in order for cells in sorted(excluded, key=sorted)]
        everything = np.arange(len(self._classes))
        with ThreadPoolExecutor(2) as pool:
            ready = [pool.submit(prepared_for_folds, candidate, everything) for candidate in self.candidates]
            found = pool.map(lambda job: self._fit(ready[job[0]].result(), job), jobs)
            for done, (job, (head, logits)) in enumerate(zip(jobs, found, strict=True), start=1):
                self._heads[job], self._logits[job] = head, logits
                progress(done, len(jobs))
        self.candidates = [future.result() for future in ready]

    def held(self, candidate: int, units: Sequence[frozenset[int]], without: frozenset[int]) -> HeldOutLogits:
        """Return the logits for each of `units`, by the model that saw neither it nor `without`."""
        parts: list[tuple[Indices, Features, Indices]] = []
        for number, unit in enumerate(units):
            indices, own = self._own(unit, without)
            logits = self._logits[candidate, unit | without][own]
            parts.append((indices[own], logits, np.full(len(logits), number, np.int64)))
        joined = [np.concatenate(column) for column in zip(*parts, strict=True)]
        return HeldOutLogits(joined[0], joined[1], joined[2])

    def familiarity(self, candidate: int, units: Sequence[frozenset[int]], without: frozenset[int]) -> Features:
        """Return the familiarity (n,) of the same samples in the same order."""
        missing = [job for u in units if (job := (candidate, u | without)) not in self._familiarity]
        with ThreadPoolExecutor(2) as pool:
            self._familiarity.update(zip(missing, pool.map(self._see, missing), strict=True))
        return np.concatenate([self._familiarity[candidate, u | without][self._own(u, without)[1]] for u in units])

    def simulate_session_shift(
        self, number: int, units: Sequence[frozenset[int]], without: frozenset[int]
    ) -> list[tuple[Features, Features]]:
        """Return logits and familiarity of copies of the same samples, those of a fold moved alike, as on other days.

        A day moves features as one sample of a label differs from the label's mean: in directions, and, times
        DAY_STRENGTH, by amounts in which this person's samples differ anyway.
        """
        candidate = self.candidates[number]
        random = np.random.default_rng(0)
        found = []
        for _ in range(DAYS):
            parts = []
            for unit in units:
                job, own = (number, unit | without), self._own(unit, without)[1]
                train, rows = self._folds.outside(job[1]), self._test_rows(candidate, job)[own]
                if not len(train):
                    continue
                base = candidate.source.rows(train).base[train]
                one = int(random.integers(len(train)))
                mean = base[self._classes[train] == self._classes[train[one]]].mean(axis=0)
                moved = rows + np.float32(DAY_STRENGTH) * (base[one] - mean)
                familiarity = candidate.fit_familiarity(self._heads[job], base, self._classes[train])
                parts.append((np.asarray(self._heads[job](moved)), np.asarray(familiarity(moved))))
            if parts:
                logits, near = zip(*parts, strict=True)
                found.append((np.concatenate(logits), np.concatenate(near)))
        return found

    def _own(self, unit: frozenset[int], without: frozenset[int]) -> tuple[Indices, NDArray[np.bool_]]:
        indices = self._folds.inside(unit | without)
        return indices, np.isin(self._folds.cells[indices], sorted(unit))

    def _fit(self, candidate: Candidate, job: _Fit) -> tuple[Head, Features]:
        head = fit_head(candidate, self._classes, self._folds.outside(job[1]), self._count)
        return head, np.asarray(head(self._test_rows(candidate, job)))

    def _test_rows(self, candidate: Candidate, job: _Fit) -> Features:
        return candidate.source.rows(self._folds.outside(job[1])).base[self._folds.inside(job[1])]

    def _see(self, job: _Fit) -> Features:
        candidate, train = self.candidates[job[0]], self._folds.outside(job[1])
        if not len(train):
            return np.zeros(len(self._folds.inside(job[1])), np.float32)
        base = candidate.source.rows(train).base[train]
        familiarity = candidate.fit_familiarity(self._heads[job], base, self._classes[train])
        return np.asarray(familiarity(self._test_rows(candidate, job)))


def _correct(held: HeldOutLogits, classes: Classes) -> NDArray[np.float64]:
    truth = classes[held.indices]
    share = np.bincount(truth, minlength=int(classes.max()) + 1)
    weight = len(truth) / (np.count_nonzero(share) * share[truth])
    return np.asarray((held.logits.argmax(axis=1) == truth) * weight, np.float64)


def _decision_rule(
    held: HeldOutLogits,
    familiarity: Features,
    candidate: Candidate,
    classes: Classes,
    groups: Indices,
    config: EvaluationConfig,
    days: Sequence[tuple[Features, Features]],
) -> DecisionRule:
    truth, own, weights = classes[held.indices], groups[held.indices], candidate.score_weights
    return fit_decision_rule(held.logits, familiarity, truth, own, weights, config.false_rejection, days)


def _random_accuracy(candidate: Candidate, classes: Classes, config: EvaluationConfig, seed: int) -> float:
    folds = random_folds(classes, config.folds, seed)
    outer = [fold for fold in folds.outer if len(folds.inside(fold))]
    fits = _Fits([candidate], classes, int(classes.max()) + 1, folds)
    fits.run(outer, lambda done, total: None)
    held = fits.held(0, outer, frozenset())
    return float((held.logits.argmax(axis=1) == classes[held.indices]).mean())


def _learning_curve(
    candidate: Candidate, whole: HeldOutLogits, classes: Classes, folds: Folds, shares: Sequence[float] = (0.25, 0.5)
) -> tuple[tuple[int, float], ...]:
    """Return (training samples, out-of-fold accuracy) for shares of every label, spread evenly, and for all."""
    count = int(classes.max()) + 1

    def one(job: tuple[float, frozenset[int]]) -> tuple[int, int]:
        train, test = folds.outside(job[1]), folds.inside(job[1])
        kept = np.concatenate([_share(train[classes[train] == k], job[0]) for k in np.unique(classes[train])])
        head = fit_head(candidate, classes, np.sort(kept), count)
        rows = candidate.source.rows(np.sort(kept)).base[test]
        return len(kept), int((np.asarray(head(rows)).argmax(axis=1) == classes[test]).sum())

    outer = [f for f in folds.outer if len(folds.inside(f)) and len(np.unique(classes[folds.outside(f)])) > 1]
    jobs = [(share, fold) for share in shares for fold in outer]
    tested = sum(len(folds.inside(fold)) for fold in outer)
    if not tested:
        return ()
    with ThreadPoolExecutor(2) as pool:
        found = np.array(list(pool.map(one, jobs)), np.int64).reshape(len(shares), len(outer), 2)
    points = [(round(float(row[:, 0].mean())), float(row[:, 1].sum() / tested)) for row in found]
    full = float((whole.logits.argmax(axis=1) == classes[whole.indices]).mean())
    return (*points, (round(float(np.mean([len(folds.outside(fold)) for fold in outer]))), full))


def _share(own: Indices, share: float) -> Indices:
    number = max(int(np.ceil(share * len(own))), 1)
    return own[np.arange(number) * len(own) // number]


def _unknown(candidate: Candidate, rule: DecisionRule, classes: Classes, folds: Folds) -> dict[int, float]:
    """Leave each class out of training in turn; return how well its samples are told from held-out known ones.

    One outer fold is held out a class, in turn, so that known and unknown samples are equally new.
    """
    count = int(classes.max()) + 1

    def one(k: int) -> float | None:
        fold = folds.outer[k % len(folds.outer)]
        train = folds.outside(fold)
        train = train[classes[train] != k]
        test = folds.inside(fold)
        known, unknown = test[classes[test] != k], np.flatnonzero(classes == k)
        if not len(known) or len(np.unique(classes[train])) < 2:
            return None
        fitted, base = fit_candidate(candidate, classes, train, count), candidate.source.rows(train).base
        return auroc(rule.score(*fitted(base[known])), rule.score(*fitted(base[unknown])))

    with ThreadPoolExecutor(2) as pool:
        found = list(pool.map(one, range(count)))
    return {k: value for k, value in enumerate(found) if value is not None}
