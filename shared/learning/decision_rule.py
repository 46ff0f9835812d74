"""From logits and familiarity to a prediction: calibrated probabilities, a score, and a threshold for `unknown`.

Everything here is fitted on out-of-fold outputs of other sessions, never on the scores of training samples.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.stats import norm

from shared.features.arrays import Array, const, floored, greatest, namespace
from shared.learning.calibration import fit_temperature
from shared.learning.fold_fits import UnknownOutputs
from shared.learning.folds import Indices
from shared.learning.heads import Classes, Features

HIGHEST = 1.0  # that a standardised largest logit counts, as of one known sample in six
MOST_REJECTED = 2.0  # times the wanted share of known samples, where those of left-out labels overlap with them


@dataclass(frozen=True)
class DecisionRule:
    """Logits (n, K) and familiarity (n,) -> class (n,), probabilities (n, K), accepted (n,), score (n,).

    The score is the sum of the largest logit and of the familiarity, each standardised by those of held-out samples of
    known labels; below `threshold` a sample is `unknown`. The largest logit counts up to HIGHEST: far from all data a
    linear classifier's grows without bound.
    """

    temperature: float
    weights: tuple[float, float]  # of the largest logit and of the familiarity
    means: tuple[float, float]
    deviations: tuple[float, float]
    threshold: float

    def __call__(self, logits: Array, familiarity: Array) -> tuple[Array, Array, Array, Array]:
        xp = namespace(logits)
        scaled = (logits - greatest(logits, axis=1, keepdims=True)) / const(self.temperature, logits)
        raised = xp.exp(scaled)
        chances = raised / xp.sum(raised, axis=1, keepdims=True)
        score = self.score(logits, familiarity)
        return xp.argmax(logits, axis=1), chances, score >= const(self.threshold, score), score

    def score(self, logits: Array, familiarity: Array) -> Array:
        """Return (n,) how well each sample fits what the model knows."""
        second = (familiarity - const(self.means[1], logits)) / const(self.deviations[1], logits)
        return self.standardised_logit(logits) * const(self.weights[0], logits) + second * const(
            self.weights[1], logits
        )

    def standardised_logit(self, logits: Array) -> Array:
        """Return (n,) the largest of the logits (n, K), standardised, and HIGHEST at most."""
        largest = (greatest(logits, axis=1) - const(self.means[0], logits)) / const(self.deviations[0], logits)
        return -floored(-largest, -HIGHEST)

    def unknown_scores(self, outputs: UnknownOutputs) -> NDArray[np.float32]:
        """Return the scores (n,) of samples whose label a model was not trained on.

        Where its logits are not informative, because it knew a single label, the largest counts as that of a typical
        known sample, and familiarity decides.
        """
        typical = np.full_like(outputs.logits, self.means[0])
        logits = np.where(outputs.informative[:, None], outputs.logits, typical)
        return np.asarray(self.score(logits, outputs.familiarity), np.float32)


def fit_decision_rule(
    logits: Features,
    familiarity: Features,
    classes: Classes,
    groups: Indices,
    weights: tuple[float, float],
    rates: tuple[float, float],
    unknown: UnknownOutputs | None = None,
    shifted: Sequence[tuple[Features, Features]] = (),
    spread_share: float | None = None,
) -> DecisionRule:
    """Fit temperature, score and threshold on held-out logits (n, K) and familiarity (n,).

    `groups` (n,) says whose session each sample is of, `rates` are the wanted false rejection and false acceptance
    rates, `unknown` is what models gave for labels that they were not trained on, and `shifted` are logits and
    familiarity of copies as in sessions that were not recorded. `spread_share` says which temperature is usual; see
    `fit_temperature`.
    """
    top, near = logits.max(axis=1).astype(np.float64), familiarity.astype(np.float64)
    means = (float(np.median(top)), float(np.median(near)))
    deviations = (max(float(top.std()), 1e-6), max(float(near.std()), 1e-6))
    rule = DecisionRule(fit_temperature(logits, classes, spread_share), weights, means, deviations, 0.0)
    known = [np.asarray(rule.score(*outputs)) for outputs in ((logits, familiarity), *shifted)]
    sessions = [groups, *(np.full(len(more), groups.max() + k) for k, more in enumerate(known[1:], start=1))]
    left_out = rule.unknown_scores(unknown) if unknown is not None else np.zeros(0, np.float32)
    threshold = fit_threshold(np.concatenate(known), np.concatenate(sessions), left_out, *rates)
    return DecisionRule(rule.temperature, weights, means, deviations, threshold)


def fit_threshold(
    known: NDArray[np.floating],
    groups: Indices,
    unknown: NDArray[np.floating],
    false_rejection: float,
    false_acceptance: float,
) -> float:
    """Return the score below which a sample is `unknown`, from held-out scores of known labels and of left-out ones.

    It lies halfway between the score below which `false_rejection` of the known are and the score above which
    `false_acceptance` of the unknown are. Where the two are apart, both rates are met with room to spare. Where they
    overlap so much that more than MOST_REJECTED times `false_rejection` of the known would be rejected, the threshold
    is lower: not being understood is worse than a false alarm. Without scores of unknown samples the known ones
    decide: with fewer than five sessions the most pessimistic session, because the next one differs again and so few
    cannot tell by how much.
    """
    if len(unknown) >= 2:
        halfway = (tail_quantile(known, false_rejection) + tail_quantile(unknown, 1 - false_acceptance)) / 2
        return min(halfway, tail_quantile(known, min(MOST_REJECTED * false_rejection, 0.5)))
    present = np.unique(groups)
    if len(present) >= 5 or len(present) == 1:
        return tail_quantile(known, false_rejection)
    return min(tail_quantile(known[groups == g], false_rejection) for g in present)


def tail_quantile(scores: NDArray[np.floating], share: float, enough: int = 5) -> float:
    """Return the quantile `share` of scores (n,): the empirical one where `enough` scores lie beyond it.

    With fewer beyond it the normal distribution's has the weight of what is missing.
    """
    wide = scores.astype(np.float64)
    weight = min(min(share, 1 - share) * len(wide) / enough, 1.0)
    normal = float(wide.mean() + norm.ppf(share) * max(float(wide.std()), 1e-6))
    return weight * float(np.quantile(wide, share)) + (1 - weight) * normal
