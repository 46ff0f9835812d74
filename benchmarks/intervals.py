"""Coverage of 95 % intervals for an accuracy over sessions, ours and SciPy's: `python -m benchmarks.intervals`.

The figures of docs/decisions/intervals.md. Synthetic data: each session has an accuracy of its own, drawn around 0.9;
the true value is the expected accuracy on another session.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable

import click
import numpy as np
from numpy.typing import NDArray
from rich.console import Console
from rich.table import Table
from scipy import stats

from shared.report.intervals import Interval, clustered_interval

RATE, PER_SESSION, DATA_SETS = 0.9, 40, 1000
SESSIONS = (2, 3, 5, 10)
SPREADS = (0.01, 0.05, 0.1)  # standard deviation of the sessions' accuracies
Correct = NDArray[np.bool_]  # (sessions, samples)


def ours(correct: Correct) -> Interval:
    """Score interval with the sessions' variance and Student's t, never narrower than Wilson's of 90 %."""
    return clustered_interval(correct.ravel(), np.repeat(np.arange(len(correct)), correct.shape[1]))


def wilson(correct: Correct) -> Interval:
    """Wilson's interval of all samples, as though sessions did not differ."""
    interval = stats.binomtest(int(correct.sum()), correct.size).proportion_ci(method="wilson")
    return float(interval.low), float(interval.high)


def student(correct: Correct) -> Interval:
    """Student's t over the sessions' accuracies."""
    means = correct.mean(axis=1)
    low, high = stats.t.interval(0.95, len(means) - 1, means.mean(), stats.sem(means))
    return float(low), float(high)


def bootstrap(correct: Correct) -> Interval:
    """Percentiles of resampled sessions."""
    found = stats.bootstrap((correct.mean(axis=1),), np.mean, n_resamples=400, method="percentile", rng=0)
    return float(found.confidence_interval.low), float(found.confidence_interval.high)


METHODS: dict[str, Callable[[Correct], Interval]] = {
    "ours": ours,
    "Wilson, samples": wilson,
    "Student, sessions": student,
    "bootstrap, sessions": bootstrap,
}


@click.command()
def main() -> None:
    """Print, for each number of sessions and spread between them, coverage and mean width of each interval.

    \b
    Example:
      python -m benchmarks.intervals
    """
    table = Table("sessions", "spread", *METHODS, title="coverage (mean width) of intervals of 95 %")
    for sessions in SESSIONS:
        for spread in SPREADS:
            table.add_row(str(sessions), f"{spread}", *(_figure(each, sessions, spread) for each in METHODS.values()))
    Console(width=120).print(table)


def _figure(method: Callable[[Correct], Interval], sessions: int, spread: float) -> str:
    rng, size = np.random.default_rng(0), RATE * (1 - RATE) / spread**2 - 1
    intervals = []
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # SciPy's, of sessions that do not differ at all
        for _ in range(DATA_SETS):
            accuracies = rng.beta(RATE * size, (1 - RATE) * size, sessions)
            intervals.append(method(rng.random((sessions, PER_SESSION)) < accuracies[:, None]))
    low, high = np.array(intervals).T
    return f"{np.mean((low <= RATE) & (high >= RATE)):.2f} ({np.nanmean(high - low):.2f})"


if __name__ == "__main__":
    main()
