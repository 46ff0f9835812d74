"""Figures with intervals that hold, and verdicts that promise nothing."""

import numpy as np
import pytest

from shared.metrics import (
    LabelReport,
    calibration_error,
    clustered_interval,
    confusion_matrix,
    judge,
    reliability,
    wilson,
)


def _label(name: str, support: int = 20, recall: float = 0.9, within: bool = False, sessions: int = 3) -> LabelReport:
    return LabelReport(name, 0.9, recall, 0.7, 1.0, 0.9, support, sessions, within)


GOOD = {"accuracy_low": 0.8, "majority_baseline": 0.3, "balanced_accuracy": 0.9}


def test_wilson_is_the_textbook_interval() -> None:
    low, high = wilson(8, 10)
    assert (low, high) == (pytest.approx(0.4902, abs=1e-4), pytest.approx(0.9433, abs=1e-4))
    assert wilson(0, 0) == (0.0, 1.0)
    assert wilson(10, 10)[1] == pytest.approx(1.0)


@pytest.mark.parametrize("sessions", [3, 5, 12])
def test_the_interval_of_clustered_samples_covers_the_truth(sessions: int) -> None:
    """Sessions differ in how hard they are; Wilson's interval alone would cover far too seldom."""
    rng = np.random.default_rng(0)
    covered, naive, draws = 0, 0, 300
    for _ in range(draws):
        rates = np.clip(rng.normal(0.8, 0.08, sessions), 0, 1)
        correct = np.concatenate([rng.random(30) < rate for rate in rates])
        groups = np.repeat(np.arange(sessions), 30)
        low, high = clustered_interval(correct, groups)
        covered += low <= 0.8 <= high
        low, high = wilson(correct.sum(), len(correct))
        naive += low <= 0.8 <= high
    assert covered / draws >= 0.92
    assert naive < covered


def test_sessions_that_agree_leave_a_narrower_interval_than_sessions_that_do_not() -> None:
    groups = np.repeat(np.arange(4), 25)
    agree = np.tile(np.arange(25) < 20, 4)
    differ = np.concatenate([np.ones(50, bool), np.arange(50) < 30])
    low, high = clustered_interval(agree, groups)
    low2, high2 = clustered_interval(differ, groups)
    assert agree.mean() == differ.mean()
    assert high - low < high2 - low2


def test_confusion_rows_are_the_truth() -> None:
    matrix = confusion_matrix(np.array([0, 0, 1]), np.array([0, 1, 1]), 3)
    assert matrix.tolist() == [[1, 1, 0], [0, 1, 0], [0, 0, 0]]


def test_calibration_error_of_a_known_case() -> None:
    chances = np.array([[0.9, 0.1]] * 10, np.float32)
    correct = np.array([True] * 6 + [False] * 4)
    assert calibration_error(chances, correct) == pytest.approx(0.3)
    assert reliability(chances, correct) == ((pytest.approx(0.9), 0.6, 10),)


def test_good_needs_every_condition() -> None:
    assert judge(GOOD, [_label("a"), _label("b")], 3, "leave-one-session-out") == ("good", ())


@pytest.mark.parametrize(
    ("metrics", "labels", "sessions", "verdict", "reason"),
    [
        (GOOD, [_label("a")], 1, "insufficient data", "one session"),
        (GOOD, [_label("a", support=3)], 3, "insufficient data", "fewer than 5 samples of a"),
        (GOOD | {"accuracy_low": 0.3}, [_label("a")], 3, "weak", "reaches down to"),
        (GOOD | {"balanced_accuracy": 0.6}, [_label("a")], 3, "weak", "balanced accuracy is 0.60"),
        (GOOD, [_label("a", recall=0.4)], 3, "weak", "fewer than half recognised of a"),
        (GOOD, [_label("a", within=True)], 3, "weak", "one session only: a"),
    ],
)
def test_anything_less_is_said(
    metrics: dict[str, float], labels: list[LabelReport], sessions: int, verdict: str, reason: str
) -> None:
    found, reasons = judge(metrics, labels, sessions, "leave-one-session-out")
    assert found == verdict
    assert any(reason in text for text in reasons)
