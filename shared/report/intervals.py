"""Intervals that hold on another day: of figures whose samples come in sessions.

What they are of: the expected figure of this recipe, trained on as many sessions as there are, on a session of the
same person that it has not seen. Samples of a session resemble each other, so sessions and not samples are what is
drawn at random; with few sessions the spread between them is itself hardly known, which Student's t accounts for.
Every interval is the wider of two: one as though sessions did not differ, and the one that their spread allows.
"""

from __future__ import annotations

from functools import lru_cache
from statistics import NormalDist

import numpy as np
from numpy.typing import NDArray

from shared.learning.folds import Indices

CONFIDENCE = 0.95
DRAWS = 400  # of sessions, for figures that are not a share of samples

Interval = tuple[float, float]
Floats = NDArray[np.float64]


def wilson(successes: float, trials: float, confidence: float = CONFIDENCE) -> Interval:
    """Return Wilson's score interval (1927) of a proportion; `trials` need not be whole. (0, 1) without trials."""
    return _score_interval(successes, trials, NormalDist().inv_cdf(0.5 + confidence / 2))


def clustered_interval(correct: NDArray[np.bool_], groups: Indices, confidence: float = CONFIDENCE) -> Interval:
    """Return an interval of the share of `correct` (n,) samples that come in sessions `groups` (n,).

    The variance is that of the sessions' sums (Cochran 1977, ratio estimator). With one session the interval is
    Wilson's, which says nothing of other days.
    """
    sessions = len(np.unique(groups))
    if sessions < 2:
        return wilson(float(correct.sum()), len(correct), confidence)
    rate = float(correct.mean())
    sums = np.bincount(np.unique(groups, return_inverse=True)[1], correct - rate)
    variance = sessions / (sessions - 1) * float(np.sum(sums**2)) / len(correct) ** 2
    return spread_interval(rate, len(correct), variance, sessions, confidence)


def spread_interval(
    value: float, trials: float, variance: float, sessions: int, confidence: float = CONFIDENCE
) -> Interval:
    """Return an interval of a `value` in 0..1 whose `variance` was found from the spread between `sessions`.

    It is the score interval at the number of trials that would have that variance, with Student's t on sessions - 1
    degrees of freedom (after Korn and Graubard 1998), but never narrower than Wilson's of 90 % at `trials`: sessions
    that agree by chance promise nothing, and with a full Wilson interval as the least, the two together would hold the
    truth in 99 of 100 data sets where sessions hardly differ.
    """
    if not 0 < value < 1:
        return wilson(value * trials, trials, confidence)
    low, high = wilson(value * trials, trials, 2 * confidence - 1)
    if variance <= 0:
        return low, high
    effective = value * (1 - value) / variance
    wide = _score_interval(value * effective, effective, student_quantile(sessions - 1, 0.5 + confidence / 2))
    return min(low, wide[0]), max(high, wide[1])


@lru_cache(maxsize=256)
def student_quantile(degrees: int, probability: float) -> float:
    """Return the quantile of Student's t for whole `degrees` of freedom and a `probability` of at least a half.

    The distribution is a finite sum (Abramowitz and Stegun 1964, 26.7.3 and 26.7.4), halved into; importing SciPy for
    it takes longer than training a small model.
    """
    low, high = 0.0, np.pi / 2  # arctan(t / sqrt(degrees))
    for _ in range(60):
        middle = (low + high) / 2
        low, high = (middle, high) if _student_share(middle, degrees) < 2 * probability - 1 else (low, middle)
    return float(np.tan(low) * np.sqrt(degrees))


def _student_share(angle: float, degrees: int) -> float:
    """Return the probability that |t| is below tan(angle) sqrt(degrees)."""
    odd = degrees % 2
    steps = np.arange(1 + odd, degrees - 1, 2)
    terms = np.cumprod(np.concatenate([[1.0], steps / (steps + 1) * np.cos(angle) ** 2]))
    total = float(np.sin(angle) * np.sum(terms))
    if not odd:
        return total
    return 2 / np.pi * (angle + (total * float(np.cos(angle)) if degrees > 1 else 0.0))


def drawn_weights(groups: Indices, draws: int = DRAWS) -> Floats:
    """Return (draws, sessions): how often each session (sorted) is in each draw of as many, with replacement."""
    count = len(np.unique(groups))
    drawn = np.random.default_rng(0).multinomial(count, np.full(count, 1 / count), size=draws)
    return drawn.astype(np.float64)


def bootstrap_variance(values: Floats, sessions: int) -> Floats:
    """Return the variance over draws (draws, …) of sessions, corrected for their small number; NaN draws are left out.

    Percentiles of the same draws would be far too narrow: of three sessions they hold the truth three times in four.
    """
    return np.asarray(np.nan_to_num(np.nanvar(values, axis=0)) * sessions / (sessions - 1), np.float64)


def _score_interval(successes: float, trials: float, z: float) -> Interval:
    if trials <= 0:
        return 0.0, 1.0
    rate = successes / trials
    centre = (rate + z * z / (2 * trials)) / (1 + z * z / trials)
    half = z * np.sqrt(rate * (1 - rate) / trials + z * z / (4 * trials**2)) / (1 + z * z / trials)
    return max(0.0, float(centre - half)), min(1.0, float(centre + half))
