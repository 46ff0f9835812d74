"""One model for whole gestures and for the parts that a running camera gives: which it is, the length tells.

A classifier on a running camera cuts what it sees into parts of 16 frames, as A3CP's does. A part looks unlike the
whole: a model of whole gestures knows three in four parts and rejects up to two in three, and one that learns from both
knows whole gestures worse. So parts get a head, a familiarity and a threshold of their own, fitted on parts of the
training sequences, and an input that is as long as a part goes there. What is said of whole sequences stays as it is.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from gesture_trainer.preprocessing.sequences import Sequences, windows
from shared.evaluation import Validation
from shared.features.arrays import Array, const, namespace
from shared.features.cache import content_key
from shared.job import Job
from shared.learning.candidates import Candidate, FittedModel, PrecomputedFeatures, Rows, fit_candidate
from shared.learning.decision_rule import DecisionRule, fit_decision_rule
from shared.learning.familiarity import Background
from shared.learning.folds import Indices
from shared.learning.heads import Classes, Features, Head
from shared.recipe import featurise

MOST_PARTS = 1000  # of all sequences together: beyond, more of them cost time and teach little


@dataclass(frozen=True)
class PartsReport:
    """How parts of sequences that the model did not see were answered: shares of all of them."""

    parts: int
    recognised: float
    rejected: float

    def __str__(self) -> str:
        return (
            f"{self.recognised:.3f} of {self.parts} were recognised across sessions, and "
            f"{self.rejected:.3f} rejected as unknown"
        )


@dataclass(frozen=True)
class PartHead:
    """Logits by one head for inputs of `frames` frames, by the other for all else; features end with log length."""

    frames: int
    part: Head
    whole: Head
    scale: float  # brings the parts' logits to the temperature of the whole

    def __call__(self, features: Array) -> Array:
        xp = namespace(features)
        return xp.where(
            is_part(features, self.frames), self.part(features) * const(self.scale, features), self.whole(features)
        )


@dataclass(frozen=True)
class PartFamiliarity:
    """Familiarity of an input of `frames` frames among parts, of all else among whole sequences.

    Among parts it is what, in the answer for whole sequences, leads to the score that the parts' own answer gives,
    measured from the threshold.
    """

    frames: int
    part: FittedModel
    part_rule: DecisionRule
    whole: FittedModel
    whole_rule: DecisionRule
    scale: float

    def __call__(self, features: Array) -> Array:
        xp, ours, theirs = namespace(features), self.part_rule, self.whole_rule
        logits, near = self.part.head(features), self.part.familiarity(features)
        score = ours.score(logits, near) + const(theirs.threshold - ours.threshold, features)
        first = theirs.standardised_logit(logits * const(self.scale, features))
        score = score - first * const(theirs.weights[0], features)
        near = score * const(theirs.deviations[1] / theirs.weights[1], features) + const(theirs.means[1], features)
        return xp.where(is_part(features, self.frames)[:, 0], near, self.whole.familiarity(features))


def is_part(features: Array, frames: int) -> Array:
    """(n, D), the last number the log of the length -> (n, 1) bool: whether it is that of so many frames."""
    xp = namespace(features)
    return xp.abs(features[:, -1:] - const(float(np.log(frames)), features)) < const(0.5 / frames, features)


def parts_of(sequences: Sequence[NDArray[np.float32]], frames: int, stride: int) -> tuple[list[Features], Indices]:
    """Return parts (frames, D) of the sequences that are longer, spread evenly where there are many, and whose."""
    cut = [(part, k) for k, s in enumerate(sequences) if len(s) > frames for part in windows(s, frames, stride)]
    chosen: Indices = np.unique(np.linspace(0, max(len(cut) - 1, 0), min(len(cut), MOST_PARTS)).astype(np.int64))
    return [cut[k][0] for k in chosen], np.array([cut[k][1] for k in chosen], np.int64)


def answering_parts(
    job: Job,
    validation: Validation,
    data: Sequences,
    classes: Classes,
    sessions: Sequence[str],
    frames: int,
    stride: int,
    rates: tuple[float, float],
) -> tuple[Validation, PartsReport | None]:
    """Return the validation with a winner that answers parts, too, and how held-out parts were answered.

    The parts of a held-out sequence are answered by a model that has seen none of that fold's sequences. The validation
    stays as it is where most sequences are no longer than a part, where a class has no parts, and where all parts come
    from one fold. The features must end with the log of the length.
    """
    winner = validation.winner
    cut, owner = parts_of(data.sequences, frames, stride)
    longer = sum(len(s) > frames for s in data.sequences)
    everyone = len(set(classes[owner].tolist())) == len(set(classes.tolist()))
    held_out = len(set(validation.fold[owner].tolist())) > 1
    if (
        not everyone
        or not held_out
        or 2 * longer < len(data.sequences)
        or not isinstance(winner.source, PrecomputedFeatures)
    ):
        return validation, None
    inputs, keys = [{"sequence": part} for part in cut], [content_key(part) for part in cut]
    rows = featurise(job, winner.source.traced, inputs, keys)
    ours = replace(winner, source=PrecomputedFeatures(winner.source.traced, rows))
    with job.log.stage("validate"):
        truth, fold = classes[owner], validation.fold[owner]
        groups = np.unique([sessions[k] for k in owner], return_inverse=True)[1]
        logits, near = _held_out(ours, rows, truth, fold, len(set(classes.tolist())))
        rejected = [
            (~_calibrated(ours, logits, near, truth, groups, fold != k, rates)(logits, near)[2])[fold == k]
            for k in np.unique(fold)
        ]
        rule = _calibrated(ours, logits, near, truth, groups, np.ones(len(truth), bool), rates)
        fitted = fit_candidate(ours, truth, np.arange(len(truth)), logits.shape[1])
    report = PartsReport(
        len(cut), float((logits.argmax(axis=1) == truth).mean()), float(np.concatenate(rejected).mean())
    )
    return replace(validation, winner=_joined(winner, fitted, rule, validation.rule, frames)), report


def _joined(
    winner: Candidate, part: FittedModel, part_rule: DecisionRule, whole_rule: DecisionRule, frames: int
) -> Candidate:
    scale = whole_rule.temperature / part_rule.temperature

    def fit(features: Features, classes: Classes, count: int) -> Head:
        return PartHead(frames, part.head, winner.fit(features, classes, count), scale)

    def fit_familiarity(
        head: Head, features: Features, classes: Classes, background: Background = None, /
    ) -> PartFamiliarity:
        assert isinstance(head, PartHead)
        whole = FittedModel(head.whole, winner.fit_familiarity(head.whole, features, classes, background))
        return PartFamiliarity(frames, part, part_rule, whole, whole_rule, scale)

    return replace(winner, fit=fit, fit_familiarity=fit_familiarity, fit_on_subset=None, classifier=None)


def _held_out(candidate: Candidate, rows: Rows, truth: Classes, fold: Indices, count: int) -> tuple[Features, Features]:
    """Return logits (n, K) and familiarity (n,) of every part, by a model that saw nothing of its fold."""
    logits, near = np.zeros((len(truth), count), np.float32), np.zeros(len(truth), np.float32)
    for k in np.unique(fold):
        fitted = fit_candidate(candidate, truth, np.flatnonzero(fold != k), count)
        logits[fold == k], near[fold == k] = fitted(rows.base[fold == k])
    return logits, near


def _calibrated(
    candidate: Candidate,
    logits: Features,
    near: Features,
    truth: Classes,
    groups: Indices,
    kept: NDArray[np.bool_],
    rates: tuple[float, float],
) -> DecisionRule:
    return fit_decision_rule(
        *(logits[kept], near[kept], truth[kept], groups[kept], candidate.score_weights, rates),
        spread_share=candidate.spread_share,
    )
