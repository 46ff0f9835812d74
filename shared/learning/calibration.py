"""Temperature scaling: probabilities that are about as sure as they are right on sessions that were not seen."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import minimize_scalar
from scipy.special import log_softmax, stdtrit

from shared.learning.folds import Indices
from shared.learning.heads import ABSENT, Classes, Features

Floats = NDArray[np.float64]
PRIOR_DEVIATION = 0.5  # of the logarithm of a temperature from the usual one


def fit_temperature(logits: Features, classes: Classes, spread_share: float | None = None) -> float:
    """Return the temperature that out-of-fold logits (n, K) speak for, drawn to the usual one where they are few.

    It has the greatest posterior probability. The prior is log-normal around the usual temperature: the share of the
    logits' spread that `spread_share` says, or 1 for None. The loss of each sample counts n / (5 K^2): with few
    samples a label, models without a fold are far less accurate than the model that is fitted on all of them. What
    decided the constants: docs/results.md. Source of temperature scaling: Guo et al. 2017, "On calibration of modern
    neural networks".
    """
    samples, count = logits.shape
    spread = _spread(logits) if samples else 0.0
    usual = spread_share * spread if spread_share is not None and spread > 0 else 1.0
    if count < 2 or samples < 4:
        return usual
    losses, centre = _smoothed_losses(logits, classes), float(np.log(usual))
    weight = float(min(samples / (5 * count**2), 1.0))

    def cost(log_temperature: float) -> float:
        off = (log_temperature - centre) / PRIOR_DEVIATION
        return weight * losses(log_temperature) + off * off / 2

    return _least(cost, centre - float(np.log(100.0)), centre + float(np.log(100.0)))


def best_temperature(logits: Features, classes: Classes, lowest: float = 0.02, highest: float = 1000.0) -> float:
    """Return the temperature of least log loss, between `lowest` and `highest`; 1 where nothing can be fitted."""
    if logits.shape[1] < 2 or len(logits) < 4:
        return 1.0
    return _least(_smoothed_losses(logits, classes), float(np.log(lowest)), float(np.log(highest)))


def _smoothed_losses(logits: Features, classes: Classes) -> Callable[[float], float]:
    """Return the log loss, summed over samples, as a function of the logarithm of the temperature.

    Targets are smoothed as Platt (1999) does, so that near-perfect scores cannot drive the temperature to an extreme.
    A class that a fold lacked is impossible at every temperature: a sample of it costs the same at each.
    """
    samples, count = logits.shape
    sure = (samples + 1) / (samples + 2)
    targets = np.full(logits.shape, (1 - sure) / (count - 1))
    targets[np.arange(samples), classes] = sure
    known = np.where(logits == ABSENT, -np.inf, logits.astype(np.float64))

    def losses(log_temperature: float) -> float:
        log_chances = log_softmax(known / np.exp(log_temperature), axis=1)
        return -float(np.sum(targets * np.maximum(log_chances, -50.0)))

    return losses


def _least(cost: Callable[[float], float], lowest: float, highest: float) -> float:
    """Return the temperature at which a cost of its logarithm, which has one valley, is least."""
    tried = np.linspace(lowest, highest, 40)
    best = int(np.argmin([cost(float(place)) for place in tried]))
    around = (tried[max(best - 1, 0)], tried[min(best + 1, len(tried) - 1)])
    least: Any = minimize_scalar(cost, bounds=around, method="bounded", options={"xatol": 1e-4})
    return float(np.exp(least.x))


def _spread(logits: Features) -> float:
    """Return the root mean square of logits (n, K) around each sample's mean, without classes that a fold lacked."""
    known = np.where(logits == ABSENT, np.nan, logits.astype(np.float64))
    return float(np.sqrt(np.nanmean((known - np.nanmean(known, axis=1, keepdims=True)) ** 2)))


def calibration_error(probabilities: Features, correct: NDArray[np.bool_], bins: int = 10) -> float:
    """Return the expected calibration error of the top probability over equal-width bins (Guo and others 2017)."""
    total = 0.0
    for confidence, accuracy, count in reliability(probabilities, correct, bins):
        total += abs(confidence - accuracy) * count
    return total / len(correct)


def surely_worse(calibrated: Features, uncalibrated: Features, correct: NDArray[np.bool_], groups: Indices) -> bool:
    """Return whether calibration surely raises the expected calibration error: its 95 % interval is above 0.

    The interval is the jackknife's (Tukey 1958) over `groups` (n,), which are left out in turn; with one group over at
    most 20 parts of the samples. Where samples are few an error says little, and what is usual is the better guess.
    """
    member = np.unique(groups, return_inverse=True)[1]
    if not member.any():
        member = np.arange(len(correct)) % min(len(correct), 20)

    def raised(kept: NDArray[np.bool_]) -> float:
        return calibration_error(calibrated[kept], correct[kept]) - calibration_error(uncalibrated[kept], correct[kept])

    count = int(member.max()) + 1
    if count < 2:
        return False
    without = np.array([raised(member != k) for k in range(count)])
    error = float(np.sqrt((count - 1) / count * np.sum((without - without.mean()) ** 2)))
    return raised(np.ones(len(correct), np.bool_)) > float(stdtrit(count - 1, 0.975)) * error


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
