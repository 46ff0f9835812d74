"""What a model predicts in long recordings: detections, recall of marked spans, and false alarms an hour."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from shared.report.intervals import poisson_rate_interval, wilson

_THRESHOLDS = 300  # at most so many are tried


@dataclass(frozen=True)
class WindowPrediction:
    """What a model predicted for one window of a recording; `label` is the best one, also where it was rejected."""

    onset: float  # seconds
    offset: float
    label: str
    score: float
    accepted: bool


@dataclass(frozen=True)
class Span:
    """A part of a recording with a label: one that a person marked, or one that the model detected."""

    onset: float  # seconds
    offset: float
    label: str

    def overlaps(self, other: Span) -> bool:
        """Return whether both have the same label and share a moment."""
        return self.label == other.label and self.onset < other.offset and other.onset < self.offset


@dataclass(frozen=True)
class Recording:
    """A recording's length, what the model predicted in it, and what a person marked."""

    seconds: float
    predictions: tuple[WindowPrediction, ...]
    spans: tuple[Span, ...] = ()

    def detections(self, threshold: float | None = None) -> list[Span]:
        """Return windows of one label that were accepted, or score at least `threshold`, joined where they touch."""
        joined: list[Span] = []
        for prediction in self.predictions:
            if not (prediction.accepted if threshold is None else prediction.score >= threshold):
                continue
            last = next((k for k in reversed(range(len(joined))) if joined[k].label == prediction.label), None)
            if last is not None and prediction.onset <= joined[last].offset:
                joined[last] = Span(joined[last].onset, max(joined[last].offset, prediction.offset), prediction.label)
            else:
                joined.append(Span(prediction.onset, prediction.offset, prediction.label))
        return joined

    def found(self, threshold: float | None = None) -> list[bool]:
        """Return for each marked span whether a detection of its label overlaps it."""
        detections = self.detections(threshold)
        return [any(one.overlaps(span) for one in detections) for span in self.spans]

    def false_alarms(self, threshold: float | None = None) -> list[Span]:
        """Return the detections that overlap no marked span of their label."""
        return [one for one in self.detections(threshold) if not any(one.overlaps(span) for span in self.spans)]


def summary(recordings: Sequence[Recording], threshold: float | None = None) -> dict[str, Any]:
    """Return detections, recall and false alarms an hour, with 95 % intervals, as the model or a threshold accepts."""
    hours = sum(one.seconds for one in recordings) / 3600
    found = [hit for one in recordings for hit in one.found(threshold)]
    alarms = sum(len(one.false_alarms(threshold)) for one in recordings)
    result: dict[str, Any] = {
        "hours": round(hours, 4),
        "detections": sum(len(one.detections(threshold)) for one in recordings),
        "false_alarms": alarms,
        "false_alarms_per_hour": alarms / hours if hours else None,
        "false_alarms_per_hour_interval": list(poisson_rate_interval(alarms, hours)) if hours else None,
        "spans": len(found),
    }
    if found:
        result |= {"recall": sum(found) / len(found), "recall_interval": list(wilson(sum(found), len(found)))}
    return result


def threshold_for(recordings: Sequence[Recording], most_per_hour: float) -> float | None:
    """Return the lowest score from which on there are at most so many false alarms an hour, None where none will do.

    It is fitted on these very recordings, so others will give some more.
    """
    hours = sum(one.seconds for one in recordings) / 3600
    scores = np.unique([prediction.score for one in recordings for prediction in one.predictions])
    if len(scores) > _THRESHOLDS:
        scores = scores[np.linspace(0, len(scores) - 1, _THRESHOLDS).round().astype(int)]
    best: float | None = None
    for score in map(float, scores[::-1]):
        if sum(len(one.false_alarms(score)) for one in recordings) > most_per_hour * hours:
            break
        best = score
    return best
