"""Intervals of 95 % cover the true value in 95 of 100 data sets, where sessions differ too.

The true value is the expected figure on an unseen session: what it is over very many sessions.
"""

from collections import Counter

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy.stats import binom, binomtest, poisson

from shared.evaluation import EvaluationConfig, LeftOut, Validation, validate_by_session
from shared.features.graph import FeatureGraph, TensorSpec
from shared.learning.candidates import Candidate, PrecomputedFeatures, Rows
from shared.learning.classifiers import LDA
from shared.learning.decision_rule import DecisionRule
from shared.learning.familiarity import cosine_familiarity
from shared.learning.folds import Folds
from shared.learning.heads import fitter
from shared.report.intervals import (
    DRAWS,
    bootstrap_variance,
    clustered_interval,
    drawn_weights,
    exact_interval,
    poisson_rate_interval,
    spread_interval,
    wilson,
)
from shared.report.metrics import report
from shared.training_run import Report

DATA_SETS = 200
LABELS = ("come", "drink", "hello", "stop")
GRAPH = FeatureGraph("x", (TensorSpec("x", "float32", (4,)),), lambda inputs: inputs["x"])
Answers = tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.int64]]  # meant, answered, session


def _answers(rng: np.random.Generator, sessions: int, each: int, rate: float, spread: float) -> Answers:
    """Sessions differ in how many of their samples are recognised: `rate` on average, give or take `spread`."""
    meant = np.tile(np.arange(4), sessions * each // 4)
    session = np.repeat(np.arange(sessions), each)
    size = rate * (1 - rate) / spread**2 - 1
    easy = rng.beta(rate * size, (1 - rate) * size, sessions) - 0.05 * (meant.reshape(sessions, each) == 3).T
    right = rng.random(len(meant)) < easy.T.ravel()
    return meant, np.where(right, meant, (meant + rng.integers(1, 4, len(meant))) % 4), session


def _report(meant: NDArray[np.int64], answered: NDArray[np.int64], session: NDArray[np.int64]) -> Report:
    """What a validation that gave these answers says of them."""
    chances = np.full((len(meant), 4), 0.1, np.float32)
    chances[np.arange(len(meant)), answered] = 0.7
    rows = Rows(chances, np.zeros((0, 4), np.float32), np.zeros(0, np.int64))
    found = Validation(
        folds=Folds(session, tuple(frozenset([int(k)]) for k in np.unique(session)), "leave-one-session-out", ()),
        fold=session,
        predicted=answered,
        probabilities=chances,
        calibrated=chances,
        uncalibrated=chances,
        accepted=np.ones(len(meant), np.bool_),
        score=chances.max(axis=1),
        chosen_by_fold=(),
        candidates={},
        winner=Candidate("given", PrecomputedFeatures(GRAPH, rows), fitter(LDA()), cosine_familiarity),
        rule=DecisionRule(1.0, (1.0, 1.0), (0.0, 0.0), (1.0, 1.0), 0.0),
        random_accuracy=None,
        left_out=LeftOut(np.zeros(0, np.int64), np.zeros(0, np.bool_), {}),
    )
    return report(found, meant, [f"s{k:05d}" for k in session], LABELS)


def _figures(found: Report) -> dict[str, tuple[float, float, float]]:
    """Every figure that has an interval: value, low, high."""
    every = dict(found.metrics)
    for row in found.labels:
        for name in ("precision", "recall", "f1"):
            for end in ("", "_low", "_high"):
                every[f"{row.label} {name}{end}"] = getattr(row, name + end)
    return {
        name: (x, every[f"{name}_low"], every[f"{name}_high"]) for name, x in every.items() if f"{name}_low" in every
    }


def _within(share: float) -> bool:
    return 0.92 <= share <= 0.98


@pytest.mark.parametrize(
    ("sessions", "each", "rate", "spread"), [(3, 40, 0.8, 0.1), (4, 80, 0.9, 0.05), (12, 40, 0.8, 0.08)]
)
@pytest.mark.slow
def test_every_interval_of_a_report_holds_the_truth_as_often_as_it_says(
    sessions: int, each: int, rate: float, spread: float
) -> None:
    truth = _figures(_report(*_answers(np.random.default_rng(1), 2_000, each, rate, spread)))
    rng, covered = np.random.default_rng(0), Counter[str]()
    for _ in range(DATA_SETS):
        found = _figures(_report(*_answers(rng, sessions, each, rate, spread)))
        covered.update(name for name, (_, low, high) in found.items() if low <= truth[name][0] <= high)
    for name in ("accuracy", "balanced_accuracy", "f1_macro", "accuracy_accepted"):
        assert _within(covered[name] / DATA_SETS), name
    for name in ("precision", "recall", "f1"):  # of ten samples a session: rather too wide than too narrow
        assert 0.92 <= sum(covered[f"{label} {name}"] for label in LABELS) / (4 * DATA_SETS) <= 0.99, name


@pytest.mark.slow
def test_the_interval_of_a_whole_validation_holds_the_accuracy_that_validations_have() -> None:
    """Fitting and predicting, not answers drawn at random: sessions shift all samples of theirs."""
    rng, centres = np.random.default_rng(0), np.eye(4) * 2.2
    config = EvaluationConfig(random_split=False, unknown=False, learning_curve=False)
    meant, session = np.tile(np.arange(4), 18), np.repeat(np.arange(3), 24)
    names, intervals, accuracies = [f"s{k}" for k in session], [], []
    for _ in range(DATA_SETS):
        shifts = rng.normal(size=(3, 4)) * 0.7
        x = (centres[meant] + shifts[session] + rng.normal(size=(72, 4))).astype(np.float32)
        rows = Rows(x, np.zeros((0, 4), np.float32), np.zeros(0, np.int64))
        candidate = Candidate("lda", PrecomputedFeatures(GRAPH, rows), fitter(LDA()), cosine_familiarity)
        found = report(
            validate_by_session([candidate], meant, names, list(range(72)), config, 0), meant, names, LABELS
        ).metrics
        accuracies.append(found["accuracy"])
        intervals.append((found["accuracy_low"], found["accuracy_high"]))
    truth = float(np.mean(accuracies))
    assert 0.7 < truth < 0.9
    assert _within(float(np.mean([low <= truth <= high for low, high in intervals])))


def test_wilson_alone_holds_the_truth_of_a_single_session_and_far_too_seldom_that_of_other_days() -> None:
    rng, alone, across = np.random.default_rng(0), 0, 0
    for _ in range(DATA_SETS):
        correct = rng.random(60) < 0.8
        low, high = clustered_interval(correct, np.zeros(60, np.int64))
        assert (low, high) == wilson(correct.sum(), 60)
        alone += low <= 0.8 <= high
        meant, answered, _ = _answers(rng, 3, 40, 0.8, 0.1)
        low, high = wilson((meant == answered).sum(), 120)
        across += low <= 0.7875 <= high
    assert _within(alone / DATA_SETS)
    assert across / DATA_SETS < 0.8


def test_wilson_is_the_textbook_interval() -> None:
    low, high = wilson(8, 10)
    assert (low, high) == (pytest.approx(0.4902, abs=1e-4), pytest.approx(0.9433, abs=1e-4))
    assert wilson(0, 0) == (0.0, 1.0)
    assert wilson(10, 10)[1] == pytest.approx(1.0)


@pytest.mark.parametrize("trials", range(1, 50))
def test_an_interval_holds_what_was_found(trials: int) -> None:
    assert wilson(trials, trials)[1] == 1.0
    assert wilson(0, trials)[0] == 0.0


def test_no_interval_leaves_the_proportions_there_are() -> None:
    for trials in range(1, 300):
        for successes in (0, trials):
            low, high = wilson(successes, trials)
            assert 0.0 <= low < high <= 1.0


def test_sessions_that_agree_leave_a_narrower_interval_than_sessions_that_do_not() -> None:
    groups = np.repeat(np.arange(4), 25)
    agree = np.tile(np.arange(25) < 20, 4)
    differ = np.concatenate([np.ones(50, bool), np.arange(50) < 30])
    low, high = clustered_interval(agree, groups)
    low2, high2 = clustered_interval(differ, groups)
    assert agree.mean() == differ.mean()
    assert high - low < high2 - low2


def test_sessions_that_agree_by_chance_promise_no_more_than_their_samples_do() -> None:
    low, high = spread_interval(0.8, 100, 1e-9, 3)
    assert (low, high) == (pytest.approx(wilson(80, 100, 0.9)[0]), pytest.approx(wilson(80, 100, 0.9)[1]))
    assert clustered_interval(np.ones(30, np.bool_), np.repeat(np.arange(3), 10)) == wilson(30, 30)


@pytest.mark.parametrize(("sessions", "quantile"), [(2, 12.7062), (3, 4.3027), (11, 2.2281)])
def test_few_sessions_widen_an_interval_by_students_t(sessions: int, quantile: float) -> None:
    trials = 1e7  # so many that the score interval is the plain one, and Wilson's at as many trials is a point
    low, high = spread_interval(0.5, trials, 1e-6, sessions)
    assert (high - low) / 2 == pytest.approx(quantile * 1e-3, rel=1e-3)


@pytest.mark.parametrize("confidence", [0.8, 0.95, 0.99])
@pytest.mark.parametrize(("successes", "trials"), [(0, 5), (1, 5), (8, 10), (399, 400), (3, 3), (0, 1), (1, 1)])
def test_wilson_agrees_with_scipy(successes: int, trials: int, confidence: float) -> None:
    expected = binomtest(successes, trials).proportion_ci(confidence, "wilson")
    assert wilson(successes, trials, confidence) == (pytest.approx(expected.low), pytest.approx(expected.high))


@pytest.mark.parametrize("confidence", [0.9, 0.95])
def test_the_variance_is_that_of_the_sessions_sums(confidence: float) -> None:
    """Cochran 1977: the sums of what each session has above or below the common rate, sessions of unequal size."""
    sessions = {7: [1, 1, 1, 0], 3: [1, 0], 12: [0, 1, 1, 1, 1, 0]}
    correct = np.array([c for session in sessions.values() for c in session], np.bool_)
    groups = np.array([name for name, session in sessions.items() for _ in session])
    rate = 8 / 12
    variance = 3 / 2 * sum((sum(session) - rate * len(session)) ** 2 for session in sessions.values()) / 12**2
    low, high = clustered_interval(correct, groups, confidence)
    expected = spread_interval(rate, 12, variance, 3, confidence)
    assert (low, high) == (pytest.approx(expected[0]), pytest.approx(expected[1]))
    order = np.random.default_rng(0).permutation(12)
    assert clustered_interval(correct[order], groups[order], confidence) == (pytest.approx(low), pytest.approx(high))


def test_an_interval_reaches_from_the_lower_of_both_to_the_higher() -> None:
    """With many sessions Student's t is nearly normal, so the wider is a score interval at the effective trials."""
    value, trials, variance = 0.3, 200, 0.3 * 0.7 / 50  # as though there were 50 samples instead of 200
    low, high = spread_interval(value, trials, variance, 10_000)
    assert (low, high) == (pytest.approx(wilson(15, 50)[0], abs=1e-4), pytest.approx(wilson(15, 50)[1], abs=1e-4))
    for confidence in (0.8, 0.95):
        assert spread_interval(value, trials, 0.0, 3, confidence) == wilson(60, trials, 2 * confidence - 1)
        assert spread_interval(1.0, trials, variance, 3, confidence) == wilson(200, trials, confidence)
        assert spread_interval(0.0, trials, variance, 3, confidence) == wilson(0, trials, confidence)


def test_draws_of_sessions_estimate_the_variance_of_their_mean() -> None:
    values = np.array([0.9, 0.5, 0.7, 1.0])
    weights = drawn_weights(np.array([5, 5, 2, 9, 9, 9, 4]))
    assert weights.shape == (DRAWS, 4) and (weights.sum(axis=1) == 4).all() and len(np.unique(weights, axis=0)) > 20
    assert (drawn_weights(np.arange(4)) == weights).all(), "the same each time"
    assert drawn_weights(np.arange(3), 7).shape == (7, 3)
    means = weights @ values / 4
    means[0] = np.nan  # a figure that a draw does not have
    assert bootstrap_variance(means, 4) == pytest.approx(values.var(ddof=1) / 4, rel=0.15)
    assert bootstrap_variance(np.array([1.0, 3.0]), 3) == pytest.approx(1.5)
    assert bootstrap_variance(np.array([[1.0, 2.0], [3.0, 2.0]]), 2).tolist() == [2.0, 0.0]


def test_two_sessions_that_differ_widen_the_interval_already() -> None:
    correct = np.concatenate([np.ones(20, np.bool_), np.arange(20) < 10])
    low, high = clustered_interval(correct, np.repeat([0, 1], 20))
    assert (low, high) == spread_interval(0.75, 40, 2 * (5.0**2 + 5.0**2) / 40**2, 2)
    assert high - low > 0.8 > 2 * (wilson(30, 40)[1] - wilson(30, 40)[0])


@pytest.mark.parametrize("confidence", [0.9, 0.95])
@pytest.mark.parametrize(("successes", "trials"), [(0, 1), (1, 1), (1, 9), (5, 9), (9, 9)])
def test_outside_an_exact_interval_what_was_seen_would_be_too_rare(
    successes: int, trials: int, confidence: float
) -> None:
    low, high = exact_interval(successes, trials, confidence)
    tail = (1 - confidence) / 2
    assert binom.sf(successes - 1, trials, low) == pytest.approx(tail if successes else 1)
    assert binom.cdf(successes, trials, high) == pytest.approx(tail if successes < trials else 1)
    assert exact_interval(successes, trials) == exact_interval(successes, trials, 0.95)
    assert exact_interval(0, 0, confidence) == (0.0, 1.0)


@pytest.mark.parametrize("confidence", [0.9, 0.95])
@pytest.mark.parametrize("count", [0, 1, 2, 50])
def test_outside_the_interval_of_a_rate_as_many_events_would_be_too_rare(count: int, confidence: float) -> None:
    hours = 2.5
    low, high = poisson_rate_interval(count, hours, confidence)
    tail = (1 - confidence) / 2
    assert poisson.sf(count - 1, low * hours) == pytest.approx(tail if count else 1)
    assert (low > 0) == (count > 0)
    assert poisson.cdf(count, high * hours) == pytest.approx(tail)
    assert poisson_rate_interval(count, hours) == poisson_rate_interval(count, hours, 0.95)
