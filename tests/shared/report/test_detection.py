"""Detections in long recordings: what joins, what counts as found, and how often a model cries wolf."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.stats import poisson

from shared.report.detection import Recording, Span, WindowPrediction, summary, threshold_for
from shared.report.intervals import poisson_rate_interval


def predictions(text: str, score: float = 1.0) -> tuple[WindowPrediction, ...]:
    """Return predictions for windows of two seconds, one second apart: a letter is a label, a dot a rejection."""
    return tuple(
        WindowPrediction(k, k + 2.0, "x" if letter == "." else letter, 0.0 if letter == "." else score, letter != ".")
        for k, letter in enumerate(text)
    )


def test_windows_of_one_label_that_touch_are_one_detection() -> None:
    recording = Recording(20.0, predictions("aa.a...b.aab"))
    assert recording.detections() == [Span(0, 5, "a"), Span(7, 9, "b"), Span(9, 12, "a"), Span(11, 13, "b")]


def test_a_span_is_found_by_a_detection_of_its_own_label_and_everything_else_is_a_false_alarm() -> None:
    spans = (Span(1.0, 3.0, "a"), Span(7.0, 8.0, "a"), Span(12.0, 13.0, "b"))
    recording = Recording(3600.0, predictions("aa.....b.aab"), spans)
    assert recording.found() == [True, False, True]
    assert recording.false_alarms() == [Span(7, 9, "b"), Span(9, 12, "a")]
    result = summary([recording, Recording(3600.0, ())])
    assert (result["hours"], result["false_alarms"], result["false_alarms_per_hour"]) == (2.0, 2, 1.0)
    assert result["recall"] == pytest.approx(2 / 3) and result["recall_interval"][0] < 2 / 3


def test_nothing_is_said_of_recall_where_nothing_is_marked() -> None:
    assert "recall" not in summary([Recording(60.0, predictions("a"))])


def test_the_interval_of_a_rate_is_the_exact_one() -> None:
    low, high = poisson_rate_interval(3, 2.0)
    assert poisson.sf(2, 2 * low) == pytest.approx(0.025) and poisson.cdf(3, 2 * high) == pytest.approx(0.025)
    assert poisson_rate_interval(0, 1.0) == (0.0, pytest.approx(-np.log(0.025)))


def test_the_threshold_is_the_lowest_score_that_keeps_to_the_wanted_rate() -> None:
    scores = [0.9, 0.1, 0.5, 0.1, 0.7, 0.1]
    noise = tuple(WindowPrediction(10.0 * k, 10.0 * k + 1, "a", score, True) for k, score in enumerate(scores))
    recordings = [Recording(3600.0, noise)]
    assert threshold_for(recordings, 2.0) == 0.7 and threshold_for(recordings, 0.5) is None
    assert threshold_for(recordings, 100.0) == 0.1
    assert summary(recordings, 0.7)["false_alarms"] == 2
