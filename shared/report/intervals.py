"""Confidence intervals that hold on another day, for figures whose samples come in sessions.

They estimate the expected figure of this recipe, trained on as many sessions as there are, on an unseen session of the
same person. Samples of a session resemble each other, so the random unit is the session and not the sample; with few
sessions the spread between them is itself hardly known, which Student's t accounts for. Every interval is the wider of
two: one as though sessions did not differ, and the one that their spread allows. See docs/decisions/intervals.md.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from shared.learning.folds import Indices

CONFIDENCE = 0.95
DRAWS = 400  # of sessions, for figures that are not a share of samples

Interval = tuple[float, float]
Floats = NDArray[np.float64]


def wilson(successes: float, trials: float, confidence: float = CONFIDENCE) -> Interval:
    """Return Wilson's score interval (1927) of a proportion; `trials` need not be whole. (0, 1) without trials."""
    from scipy import stats  # slow to import, and prediction needs no intervals

    return _score_interval(successes, trials, float(stats.norm.ppf(0.5 + confidence / 2)))


def exact_interval(successes: int, trials: int, confidence: float = CONFIDENCE) -> Interval:
    """Return the exact interval of a proportion (Clopper and Pearson 1934); (0, 1) without trials."""
    from scipy import stats

    if not trials:
        return 0.0, 1.0
    low, high = stats.binomtest(successes, trials).proportion_ci(confidence, method="exact")
    return float(low), float(high)


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


def poisson_rate_interval(count: int, time: float, confidence: float = CONFIDENCE) -> Interval:
    """Return the exact interval of a rate (Garwood 1936) at which `count` events were seen in `time`."""
    from scipy.stats import chi2

    tail = (1 - confidence) / 2
    low = float(chi2.ppf(tail, 2 * count)) / 2 if count else 0.0
    return low / time, float(chi2.ppf(1 - tail, 2 * count + 2)) / 2 / time


def spread_interval(
    value: float, trials: float, variance: float, sessions: int, confidence: float = CONFIDENCE
) -> Interval:
    """Return an interval of a `value` in 0..1 whose `variance` was estimated from the spread between `sessions`.

    It is the score interval at the number of trials that would have that variance, with Student's t on sessions - 1
    degrees of freedom (after Korn and Graubard 1998), but never narrower than Wilson's of 90 % at `trials`: sessions
    that agree by chance promise nothing. Wilson's of 95 % as the lower bound would be too wide: where sessions hardly
    differ, the two together would cover the true value in 99 of 100 data sets.
    """
    from scipy import stats

    if not 0 < value < 1:
        return wilson(value * trials, trials, confidence)
    low, high = wilson(value * trials, trials, 2 * confidence - 1)
    if variance <= 0:
        return low, high
    effective = value * (1 - value) / variance
    wide = _score_interval(value * effective, effective, float(stats.t.ppf(0.5 + confidence / 2, sessions - 1)))
    return min(low, wide[0]), max(high, wide[1])


def drawn_weights(groups: Indices, draws: int = DRAWS) -> Floats:
    """Return (draws, sessions): how often each session (sorted) is in each draw of as many, with replacement."""
    count = len(np.unique(groups))
    drawn = np.random.default_rng(0).multinomial(count, np.full(count, 1 / count), size=draws)
    return drawn.astype(np.float64)


def bootstrap_variance(values: Floats, sessions: int) -> Floats:
    """Return the variance over draws (draws, …) of sessions, corrected for their small number; NaN draws are left out.

    Percentiles of the same draws would be far too narrow: with three sessions they cover the true value three times in
    four.
    """
    return np.asarray(np.nan_to_num(np.nanvar(values, axis=0)) * sessions / (sessions - 1), np.float64)


def _score_interval(successes: float, trials: float, z: float) -> Interval:
    if trials <= 0:
        return 0.0, 1.0
    rate = successes / trials
    if rate in (0, 1):  # one end is the rate itself, which rounding must not leave out
        bound = trials / (trials + z * z)
        return (bound, 1.0) if rate else (0.0, 1 - bound)
    centre = (rate + z * z / (2 * trials)) / (1 + z * z / trials)
    half = z * np.sqrt(rate * (1 - rate) / trials + z * z / (4 * trials**2)) / (1 + z * z / trials)
    return max(0.0, float(centre - half)), min(1.0, float(centre + half))
