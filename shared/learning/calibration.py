"""Temperature scaling: probabilities that are about as sure as they are right on sessions that were not seen."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import minimize_scalar
from scipy.special import log_softmax

from shared.learning.folds import Indices
from shared.learning.heads import Classes, Features

Floats = NDArray[np.float64]


def fit_temperature(logits: Features, classes: Classes, groups: Indices) -> float:
    """Return the temperature that minimises the out-of-fold log loss, or 1 where that does not help other sessions.

    It helps if the loss of each session falls, all taken together, at the temperature that is best for the others;
    with one session every second sample stands for another.
    """
    member = np.unique(groups, return_inverse=True)[1] if len(groups) else groups
    found, helps = best_temperature(logits, classes, member if member.any() else np.arange(len(logits)) % 2)
    return found if helps else 1.0


def best_temperature(
    logits: Features, classes: Classes, member: Indices, lowest: float = 0.02, highest: float = 1000.0
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
    clipped = np.maximum(logits.astype(np.float64), logits.max(axis=1, keepdims=True) - 1e4)

    def losses(log_temperature: float) -> Floats:
        log_chances = log_softmax(clipped / np.exp(log_temperature), axis=1)
        return -np.asarray(np.sum(targets * np.maximum(log_chances, -50.0), axis=1))

    tried = np.linspace(np.log(lowest), np.log(highest), 40)
    table = np.stack([np.bincount(member, losses(place)) for place in tried])  # (places, members)
    for_others = (table.sum(axis=1, keepdims=True) - table).argmin(axis=0)
    helps = table[for_others, np.arange(table.shape[1])].sum() < losses(0.0).sum()
    best = int(table.sum(axis=1).argmin())  # the loss has one valley
    around = (tried[max(best - 1, 0)], tried[min(best + 1, len(tried) - 1)])
    found = minimize_scalar(lambda place: losses(place).sum(), bounds=around, method="bounded", options={"xatol": 1e-4})
    return float(np.exp(found.x)), bool(helps)


def calibration_error(probabilities: Features, correct: NDArray[np.bool_], bins: int = 10) -> float:
    """Return the expected calibration error of the top probability over equal-width bins (Guo and others 2017)."""
    total = 0.0
    for confidence, accuracy, count in reliability(probabilities, correct, bins):
        total += abs(confidence - accuracy) * count
    return total / len(correct)


def reliability(
    probabilities: Features, correct: NDArray[np.bool_], bins: int = 10
) -> tuple[tuple[float, float, int], ...]:
    """Return (mean confidence, accuracy, samples) of each bin of the top probability that has samples."""
    top, place = _binned(probabilities, bins)
    return tuple(
        (float(top[place == b].mean()), float(correct[place == b].mean()), int((place == b).sum()))
        for b in np.unique(place)
    )


def calibration_gaps(probabilities: Features, correct: NDArray[np.bool_], groups: Indices, bins: int = 10) -> Floats:
    """Return (groups, bins): confidence less accuracy, summed over each group's samples in each bin."""
    top, place = _binned(probabilities, bins)
    gaps = np.zeros((int(groups.max()) + 1, bins))
    np.add.at(gaps, (groups, place), top - correct)
    return gaps


def _binned(probabilities: Features, bins: int) -> tuple[Floats, Indices]:
    """Return the top probability (n,) of each sample and its bin (n,), the same whatever the precision it came in."""
    top = probabilities.max(axis=1).astype(np.float64)
    return top, np.minimum((top * bins).astype(np.int64), bins - 1)
