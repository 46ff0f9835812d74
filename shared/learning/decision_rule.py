"""From logits and familiarity to a prediction: calibrated probabilities, a score, and a threshold for `unknown`.

Everything here is fitted on out-of-fold outputs of other sessions, never on the scores of training samples.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from shared.features.arrays import Array, const, greatest, namespace
from shared.learning.calibration import fit_temperature
from shared.learning.folds import Indices
from shared.learning.heads import Classes, Features


@dataclass(frozen=True)
class DecisionRule:
    """Logits (n, K) and familiarity (n,) -> class (n,), probabilities (n, K), accepted (n,), score (n,).

    The score is the sum of the largest logit and of the familiarity, each standardised by what held-out
    samples of known labels showed; below `threshold` the answer is `unknown`.
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
        first = (greatest(logits, axis=1) - const(self.means[0], logits)) / const(self.deviations[0], logits)
        second = (familiarity - const(self.means[1], logits)) / const(self.deviations[1], logits)
        return first * const(self.weights[0], logits) + second * const(self.weights[1], logits)


def fit_decision_rule(
    logits: Features,
    familiarity: Features,
    classes: Classes,
    groups: Indices,
    weights: tuple[float, float],
    false_rejection: float,
    elsewhere: Sequence[tuple[Features, Features]] = (),
) -> DecisionRule:
    """Fit temperature, score and threshold on out-of-fold outputs; `groups` (n,) says whose session each is.

    `elsewhere` are logits and familiarity of copies as on other days, each a session more to the threshold.
    """
    top = logits.max(axis=1).astype(np.float64)
    near = familiarity.astype(np.float64)
    means = (float(np.median(top)), float(np.median(near)))
    deviations = (max(float(top.std()), 1e-6), max(float(near.std()), 1e-6))
    answer = DecisionRule(fit_temperature(logits, classes, groups), weights, means, deviations, 0.0)
    scores = [np.asarray(answer.score(*outputs)) for outputs in ((logits, familiarity), *elsewhere)]
    days = [groups, *(np.full(len(more), groups.max() + k) for k, more in enumerate(scores[1:], start=1))]
    threshold = fit_threshold(np.concatenate(scores), np.concatenate(days), false_rejection)
    return DecisionRule(answer.temperature, weights, means, deviations, threshold)


def fit_threshold(scores: NDArray[np.floating], groups: Indices, false_rejection: float) -> float:
    """Return the score below which a sample is `unknown`, rejecting about `false_rejection` of known ones.

    With fewer than five sessions the most pessimistic session decides, because the next one differs again
    and so few cannot tell by how much; with more, all scores are pooled.
    """
    present = np.unique(groups)
    if len(present) >= 5 or len(present) == 1:
        return _low_quantile(scores, false_rejection)
    return min(_low_quantile(scores[groups == g], false_rejection) for g in present)


def _low_quantile(scores: NDArray[np.floating], rate: float) -> float:
    """Return a value just under the sample that is the `rate` quantile from below, halfway to its neighbour."""
    ranked = np.sort(scores.astype(np.float64))
    allowed = int(np.floor(rate * len(ranked)))
    if allowed == 0:
        gap = ranked[min(1, len(ranked) - 1)] - ranked[0]
        return float(ranked[0] - max(gap, 0.1))
    return float((ranked[allowed - 1] + ranked[allowed]) / 2)
