"""Session-wise validation: the whole recipe, choosing and calibrating included, refitted without the tested session.

For every outer fold the candidates are compared, the temperature and the rejection threshold fitted on inner
folds only; then the winner, trained without the outer fold, answers it. Those answers are the headline.
The model that is shipped is chosen and calibrated in the same way on all outer folds.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray
from pydantic import Field
from scipy.special import softmax
from sklearn.metrics import roc_auc_score

from shared.learning.calibration import surely_worse
from shared.learning.candidates import Candidate, fit_head
from shared.learning.decision_rule import DecisionRule, fit_decision_rule
from shared.learning.fold_fits import Cells, FoldFits, HeldOutLogits, Step, UnknownOutputs, label_groups
from shared.learning.folds import Folds, Indices, random_folds, session_folds, within_session_folds
from shared.learning.heads import Classes, Features
from shared.schema_utils import Schema

LEARNING_SHARES = (0.25, 0.5)  # of each label's samples, that the learning curve is fitted on
Progress = Callable[[int, int], None]  # done, in all


class EvaluationConfig(Schema):
    """How a model is validated, and how often it may reject what it knows."""

    folds: int = Field(default=5, ge=2, le=20, description="most outer folds; sessions beyond are grouped")
    false_rejection: float = Field(
        default=0.05, gt=0.0, le=0.5, description="share of known samples that may be rejected as unknown"
    )
    false_acceptance: float = Field(
        default=0.05, gt=0.0, le=0.5, description="share of samples of no known label that may be accepted"
    )
    random_split: bool = Field(default=True, description="also score a random split, to show how much it flatters")
    learning_curve: bool = Field(default=True, description="also train on a quarter and half, to show what more gains")
    unknown: bool = Field(default=True, description="leave each label out in turn and see whether it is rejected")


@dataclass(frozen=True)
class FitCounts:
    """How many fits a validation makes: `compared` of each candidate, the others of those that are chosen, at most."""

    compared: int
    familiarities: int  # of heads that were fitted to compare
    left_out: int  # of head and familiarity, without some labels
    heads: int  # for the random split and the learning curve

    @property
    def of_the_chosen(self) -> int:
        """How many follow once the candidates were compared."""
        return self.familiarities + self.left_out + self.heads


@dataclass(frozen=True)
class LeftOut:
    """What became of samples (n,) of labels that the model was not trained on; all should be rejected.

    Each was in the held-out fold, too, and was judged by that fold's decision rule. `auroc` is how well a left-out
    label's samples are told from those of known labels, all held out.
    """

    indices: Indices
    accepted: NDArray[np.bool_]
    auroc: dict[int, float]  # label -> AUROC


@dataclass(frozen=True)
class Validation:
    """What session-wise validation found. Arrays are by sample (n,) in the data set's order."""

    folds: Folds
    fold: Indices  # outer fold that held the sample out
    predicted: Classes
    probabilities: Features
    calibrated: Features  # probabilities at each fold's temperature
    uncalibrated: Features  # probabilities at temperature 1
    accepted: NDArray[np.bool_]
    score: Features
    chosen_by_fold: tuple[str, ...]
    candidates: dict[str, float]  # name -> out-of-fold accuracy
    winner: Candidate
    rule: DecisionRule
    random_accuracy: float | None
    left_out: LeftOut  # samples given to models that were not trained on their label
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
    rates = (config.false_rejection, config.false_acceptance)
    groups_of_labels = label_groups(count) if config.unknown and count > 1 else ()
    excluded = {*folds.outer, *(outer | inner for outer in folds.outer for inner in folds.inner(outer))}
    inner_folds = len(folds.inner(folds.outer[0]))
    fit_counts = _fit_counts(len(excluded), len(folds.outer), inner_folds, len(groups_of_labels), config)
    total = len(candidates) * fit_counts.compared + fit_counts.of_the_chosen
    done = itertools.count(1)

    def step() -> None:
        progress(min(next(done), total - 1), total)

    fits = FoldFits(candidates, classes, count, folds, step)
    fits.run(excluded)

    def rule_for(chosen: int, units: Sequence[Cells], without: Cells, unknown: UnknownOutputs) -> DecisionRule:
        """Fit the decision rule of a candidate on what models without each of `units` give, all without `without`."""
        held, near = fits.held(chosen, units, without), fits.familiarity(chosen, units, without)
        single = len(np.unique(groups[held.indices])) == 1
        shifted = fits.simulate_session_shift(chosen, units, without) if single else ()
        truth, own, candidate = classes[held.indices], groups[held.indices], candidates[chosen]
        weights, share = candidate.score_weights, candidate.spread_share
        return fit_decision_rule(held.logits, near, truth, own, weights, rates, unknown, shifted, share)

    n = len(classes)
    place, predicted = np.full(n, -1, np.int64), np.zeros(n, np.int64)
    probabilities, uncalibrated = np.zeros((n, count), np.float32), np.zeros((n, count), np.float32)
    accepted, score = np.zeros(n, np.bool_), np.zeros(n, np.float32)
    rules, chosen_by_fold = [], []
    for number, outer in enumerate(folds.outer):
        inner = folds.inner(outer)
        chosen = choose([fits.held(c, inner, outer) for c in range(len(candidates))], classes)
        chosen_by_fold.append(candidates[chosen].name)
        rounds = max(len(inner), len(groups_of_labels)) if groups_of_labels else 0
        left_out = [(inner[k % len(inner)], groups_of_labels[k % len(groups_of_labels)]) for k in range(rounds)]
        rules.append(rule_for(chosen, inner, outer, fits.left_out(chosen, left_out, outer, in_cells=False)))
        test = fits.held(chosen, (outer,), frozenset())
        place[test.indices] = number
        results = rules[-1](test.logits, fits.familiarity(chosen, (outer,), frozenset()))
        predicted[test.indices], probabilities[test.indices], accepted[test.indices], score[test.indices] = results
        uncalibrated[test.indices] = softmax(test.logits, axis=1)

    worse = surely_worse(probabilities, uncalibrated, predicted == classes, groups)
    held = [fits.held(c, folds.outer, frozenset()) for c in range(len(candidates))]
    chosen = choose(held, classes)
    winner, prepared = candidates[chosen], fits.candidates[chosen]
    every_pair = [(outer, labels) for outer in folds.outer for labels in groups_of_labels]
    unknown = fits.left_out(chosen, every_pair, frozenset(), in_cells=True)
    rule = rule_for(chosen, folds.outer, frozenset(), unknown)
    random_accuracy = _random_accuracy(prepared, classes, config, seed, step) if config.random_split else None
    learning = _learning_curve(prepared, held[chosen], classes, folds, step) if config.learning_curve else ()
    progress(total, total)
    return Validation(
        folds=folds,
        fold=place,
        predicted=predicted,
        probabilities=uncalibrated if worse else probabilities,
        calibrated=probabilities,
        uncalibrated=uncalibrated,
        accepted=accepted,
        score=score,
        chosen_by_fold=tuple(chosen_by_fold),
        candidates={c.name: balanced(h, classes) for c, h in zip(candidates, held, strict=True)},
        winner=winner,
        rule=replace(rule, temperature=1.0) if worse else rule,
        random_accuracy=random_accuracy,
        left_out=_judge_left_out(unknown, rules, place, classes, score),
        learning=learning,
    )


def validation_fits(groups: int, labels: int, largest_label: int, config: EvaluationConfig) -> FitCounts:
    """Return how many fits a validation makes, from counts alone.

    `groups` are the sessions or people of the samples, `largest_label` the samples of the label that has most.
    """
    outer = within_session_folds(largest_label, config.folds) if groups == 1 else min(groups, config.folds)
    inner = 2 if groups == 2 else outer - 1
    compared = outer + (outer * inner if groups == 2 else outer * inner // 2)
    left_out = len(label_groups(labels)) if config.unknown and labels > 1 else 0
    return _fit_counts(compared, outer, inner, left_out, config)


def _fit_counts(compared: int, outer: int, inner: int, left_out: int, config: EvaluationConfig) -> FitCounts:
    """Return how many fits there are with so many outer folds, inner folds of each, and groups of labels left out."""
    return FitCounts(
        compared=compared,
        familiarities=outer * (inner + 2),
        left_out=outer * (max(inner, left_out) + left_out) if left_out else 0,
        heads=config.folds * config.random_split + len(LEARNING_SHARES) * outer * config.learning_curve,
    )


def choose(held: Sequence[HeldOutLogits], classes: Classes) -> int:
    """Return the first candidate that is within one standard error of the best, paired by sample."""
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


def _correct(held: HeldOutLogits, classes: Classes) -> NDArray[np.float64]:
    truth = classes[held.indices]
    share = np.bincount(truth, minlength=int(classes.max()) + 1)
    weight = len(truth) / (np.count_nonzero(share) * share[truth])
    return np.asarray((held.logits.argmax(axis=1) == truth) * weight, np.float64)


def _random_accuracy(candidate: Candidate, classes: Classes, config: EvaluationConfig, seed: int, step: Step) -> float:
    folds = random_folds(classes, config.folds, seed)
    outer = [fold for fold in folds.outer if len(folds.inside(fold))]
    fits = FoldFits([candidate], classes, int(classes.max()) + 1, folds, step)
    fits.run(outer)
    held = fits.held(0, outer, frozenset())
    return float((held.logits.argmax(axis=1) == classes[held.indices]).mean())


def _learning_curve(
    candidate: Candidate, whole: HeldOutLogits, classes: Classes, folds: Folds, step: Step
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
    jobs = [(share, fold) for share in LEARNING_SHARES for fold in outer]
    tested = sum(len(folds.inside(fold)) for fold in outer)
    if not tested:
        return ()
    counts = []
    with ThreadPoolExecutor(2) as pool:
        for row in pool.map(one, jobs):
            counts.append(row)
            step()
    found = np.array(counts, np.int64).reshape(len(LEARNING_SHARES), len(outer), 2)
    points = [(round(float(row[:, 0].mean())), float(row[:, 1].sum() / tested)) for row in found]
    full = float((whole.logits.argmax(axis=1) == classes[whole.indices]).mean())
    return (*points, (round(float(np.mean([len(folds.outside(fold)) for fold in outer]))), full))


def _share(own: Indices, share: float) -> Indices:
    number = max(int(np.ceil(share * len(own))), 1)
    return own[np.arange(number) * len(own) // number]


def _judge_left_out(
    unknown: UnknownOutputs, rules: Sequence[DecisionRule], fold: Indices, classes: Classes, score: Features
) -> LeftOut:
    """Judge samples of left-out labels by the rule of the fold that they were held out in, beside known ones."""
    accepted, scores = np.zeros(len(unknown.indices), np.bool_), np.zeros(len(unknown.indices), np.float32)
    for number, rule in enumerate(rules):
        own = fold[unknown.indices] == number
        scores[own] = rule.unknown_scores(unknown.only(own))
        accepted[own] = scores[own] >= rule.threshold
        scores[own] -= rule.threshold
    known = score - np.array([rules[k].threshold for k in fold], np.float32)
    found = {}
    for k in np.unique(classes[unknown.indices]):
        ours, others = scores[classes[unknown.indices] == k], known[classes != k]
        truth = np.concatenate([np.ones(len(others)), np.zeros(len(ours))])
        found[int(k)] = float(roc_auc_score(truth, np.concatenate([others, ours])))
    return LeftOut(unknown.indices, accepted, found)
