"""From logits to an answer: a temperature for the probabilities, a score and a threshold for `unknown`.

Everything here is fitted on out-of-fold outputs of other sessions, never on the scores of training samples.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from shared.features.arrays import (
    END,
    Array,
    const,
    floored,
    greatest,
    half,
    halved,
    matmul,
    namespace,
    section,
    unit_rows,
)
from shared.learning.folds import Indices
from shared.learning.heads import Classes, Features, Head, Linear, ledoit_wolf

Floats = NDArray[np.float64]


REFERENCE_NUMBERS = 1_400_000  # at most so many half-precision numbers of references: 2.8 MB


@dataclass(frozen=True)
class NearestFamiliarity:
    """Likeness to the nearest training samples: features (n, D) float32 -> (n,), higher is more familiar.

    In the discriminant subspace it is minus the mean distance to the `nearest` references; among directions
    (`cosine`) it is their mean cosine. References are kept in half precision.
    """

    centre: Features  # (D,)
    projection: Features | None  # (D, d), or None to stay in feature space
    references: Features  # (M, d), halved
    cosine: bool
    nearest: int

    def __call__(self, features: Array) -> Array:
        xp = namespace(features)
        place = features - const(self.centre, features)
        if self.projection is not None:
            place = matmul(place, const(self.projection, features))
        marks = half(self.references.T, features)
        if self.cosine:
            likeness = matmul(unit_rows(place), marks)
        else:
            square = xp.sum(place * place, axis=1, keepdims=True) - 2.0 * matmul(place, marks)
            square = square + const(np.sum(self.references**2, axis=1), features)
            # One within-class variance is added: near zero the root would magnify differences in rounding.
            likeness = -xp.sqrt(floored(square, 0.0) + 1.0)
        if self.nearest == 1:
            return greatest(likeness, axis=1)
        return xp.mean(section(xp.sort(likeness, axis=1), -self.nearest, END, axis=1), axis=1)


Familiarity = Callable[[Array], Array]  # features (n, D) -> (n,), higher is more familiar
FitFamiliarity = Callable[[Head, Features, Classes], Familiarity]


def subspace_familiarity(head: Head, features: Features, classes: Classes) -> NearestFamiliarity:
    """Distance to the 3 nearest training samples in the whitened subspace of a linear discriminant head.

    With logits W'x + b and W = inv(S) M, the whitened coordinates follow from W and the class means alone:
    W' M is the Gram matrix of the means in the metric of S, and its inverse root makes the axes orthonormal.
    """
    if not isinstance(head, Linear):
        raise TypeError("the discriminant subspace needs a linear head")
    present = np.unique(classes)
    centre = features.mean(axis=0)
    means = np.stack([features[classes == k].mean(axis=0) for k in present]).astype(np.float64)
    weights = head.weights[:, present].astype(np.float64)
    weights -= weights.mean(axis=1, keepdims=True)
    gram = weights.T @ (means - means.mean(axis=0)).T
    strength, axes = np.linalg.eigh((gram + gram.T) / 2)
    kept = strength > 1e-6 * max(float(strength[-1]), 1e-12)
    projection = (weights @ (axes[:, kept] / np.sqrt(strength[kept]))).astype(np.float32)
    references = (features - centre) @ projection
    references = references[_spread_out(len(features), REFERENCE_NUMBERS // max(references.shape[1], 1))]
    return NearestFamiliarity(centre, projection, halved(references), False, min(3, len(references)))


def whitened_familiarity(head: Head, features: Features, classes: Classes, dimensions: int = 64) -> NearestFamiliarity:
    """Distance to the 3 nearest training samples in the leading principal directions, whitened within classes.

    Unlike the discriminant subspace this keeps directions in which the known classes do not differ: there an
    unknown class may. The within-class covariance is shrunk after Ledoit and Wolf.
    """
    centre = features.mean(axis=0)
    moved = (features - centre).astype(np.float64)
    scale = moved.std(axis=0)
    scale[scale < 1e-6 * max(float(scale.max(initial=0.0)), 1e-6)] = np.inf
    scaled = moved / scale
    _, strength, directions = np.linalg.svd(scaled, full_matrices=False)
    count = max(int(np.sum(strength > 1e-6 * max(float(strength[0]), 1e-12))), 1)  # one, where all samples are equal
    kept = directions[: min(count, dimensions)].T
    place = scaled @ kept
    present, member = np.unique(classes, return_inverse=True)
    residuals = place - np.stack([place[member == k].mean(axis=0) for k in range(len(present))])[member]
    shrinkage, variance = ledoit_wolf(residuals)
    covariance = (1 - shrinkage) * (residuals.T @ residuals) / max(len(residuals) - len(present), 1)
    covariance[np.diag_indices_from(covariance)] += shrinkage * variance + 1e-6
    root = np.linalg.cholesky(covariance)
    projection = ((kept / scale[:, None]) @ np.linalg.inv(root).T).astype(np.float32)
    references = (features - centre) @ projection
    references = references[_spread_out(len(features), REFERENCE_NUMBERS // references.shape[1])]
    return NearestFamiliarity(centre, projection, halved(references), False, min(3, len(references)))


def cosine_familiarity(
    head: Head, features: Features, classes: Classes, numbers: int = REFERENCE_NUMBERS
) -> NearestFamiliarity:
    """Cosine to the nearest training sample after centring; of references at most `numbers` numbers are kept."""
    centre = features.mean(axis=0)
    references = unit_rows(features - centre)[_spread_out(len(features), numbers // features.shape[1])]
    return NearestFamiliarity(centre, None, halved(references), True, 1)


def centroid_familiarity(head: Head, features: Features, classes: Classes) -> NearestFamiliarity:
    """Cosine to the nearest label's mean direction after centring: for labels whose samples lie in one place each."""
    centre = features.mean(axis=0)
    rows = unit_rows(features - centre)
    references = unit_rows(np.stack([rows[classes == k].mean(axis=0) for k in np.unique(classes)]))
    return NearestFamiliarity(centre, None, halved(references), True, 1)


def _spread_out(count: int, most: int) -> Indices:
    return np.unique(np.linspace(0, count - 1, min(count, most)).astype(np.int64))


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


def fit_temperature(logits: Features, classes: Classes, groups: Indices) -> float:
    """Return the temperature that minimises the out-of-fold log loss, or 1 where that does not help other sessions.

    It helps if the loss of each session falls, all taken together, at the temperature that is best for the others;
    with one session every second sample stands for another.
    """
    member = np.unique(groups, return_inverse=True)[1] if len(groups) else groups
    found, helps = best_temperature(logits, classes, member if member.any() else np.arange(len(logits)) % 2)
    return found if helps else 1.0


def best_temperature(
    logits: Features, classes: Classes, member: Indices, lowest: float = 0.02, highest: float = 20.0
) -> tuple[float, bool]:
    """Return the temperature of least log loss, and whether that of the others helps each `member` (n,), in all.

    Targets are smoothed as Platt (1999) does, so that near-perfect scores cannot drive it to an extreme, and it stays
    within `lowest` and `highest`. Source of the method: Guo et al. 2017, "On calibration of modern neural networks".
    """
    count = logits.shape[1]
    if count < 2 or len(logits) < 4:
        return 1.0, False
    sure = (len(logits) + 1) / (len(logits) + 2)
    targets = np.full(logits.shape, (1 - sure) / (count - 1))
    targets[np.arange(len(logits)), classes] = sure
    clipped = np.maximum(logits.astype(np.float64), logits.max(axis=1, keepdims=True) - 1e3)

    def losses(log_temperature: float) -> Floats:
        scaled = clipped / np.exp(log_temperature)
        scaled = scaled - scaled.max(axis=1, keepdims=True)
        log_chances = scaled - np.log(np.exp(scaled).sum(axis=1, keepdims=True))
        return -np.asarray(np.sum(targets * np.maximum(log_chances, -50.0), axis=1))

    tried = np.linspace(np.log(lowest), np.log(highest), 25)
    table = np.stack([np.bincount(member, losses(place)) for place in tried])  # (25, members)
    for_others = (table.sum(axis=1, keepdims=True) - table).argmin(axis=0)
    helps = table[for_others, np.arange(table.shape[1])].sum() < losses(0.0).sum()
    total = table.sum(axis=1)
    for _ in range(3):  # the loss has one valley: look closer at both sides of the lowest place, to 1 in 1,000
        best = int(total.argmin())
        tried = np.linspace(tried[max(best - 1, 0)], tried[min(best + 1, len(tried) - 1)], 11)
        total = np.array([losses(place).sum() for place in tried])
    return float(np.exp(tried[total.argmin()])), bool(helps)


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
