"""What a model does in use beside what its training log promised: realised figures by week, and where they drift.

A promise is the end of the training log's interval that is in the model's favour least: accuracy and recall at their
lower end, rejection at its upper end. A drift is a figure of a session, or of the last `WINDOW` sessions, that keeps no
such promise by the exact binomial test. The tests of one week share that week's part of the false alarms a year that
are allowed (Bonferroni), so the rate holds however many sessions, labels and looks there are. It is that of alarms on
days that kept the promise. A day that was really different, because the camera was moved, is a drift, too; the sessions
since then say whether it lasted.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Literal

from shared.report.intervals import Interval, exact_interval
from shared.schema_utils import UNKNOWN

FALSE_ALARMS = 0.25  # a year, of one model: one in four years
WINDOW = 5  # sessions that are tested together, for a drift that no single session shows
_WEEKS = 52
# How the false alarms that are allowed are shared out; the shares of each line sum to 1.
_SESSIONS = 3  # of a week, a quarter each; each later one has half of what is left
_FIGURES = {"accuracy": 0.4, "rejection": 0.2, "recall": 0.4}
_SPANS = {1: 0.75, WINDOW: 0.25}  # sessions that are tested together

Figure = Literal["accuracy", "rejection", "recall"]


@dataclass(frozen=True)
class Decision:
    """One prediction of a version in use, and the label that the partner accepted or gave instead."""

    time: datetime
    session: str
    predicted: str  # `unknown` where the model rejected the input
    final: str

    @property
    def week(self) -> str:
        """The week of the decision, such as 2026-W09 (ISO 8601, UTC)."""
        year, week, _ = self.time.isocalendar()
        return f"{year}-W{week:02d}"


@dataclass(frozen=True)
class Promise:
    """What a training log says of held-out sessions, at the end of each interval that promises least."""

    accuracy: float | None = None  # of accepted predictions
    rejection: float | None = None  # share of known samples that are rejected
    recall: Mapping[str, float] | None = None  # by label

    @classmethod
    def of_log(cls, log: Mapping[str, Any]) -> Promise:
        """Return the promise of a training log; None for each figure that it does not have."""
        metrics, rows = log.get("training_metrics") or {}, (log.get("metrics") or {}).get("labels") or ()
        recall = {
            row["label"]: float(row["recall_low"])
            for row in rows
            if "recall_low" in row and not row.get("within_session")
        }
        return cls(metrics.get("accuracy_accepted_low"), metrics.get("false_rejection_rate_high"), recall)


@dataclass(frozen=True)
class Counts:
    """What became of predictions: accepted by the partner, corrected, or rejected by the model itself."""

    decisions: int
    right: int
    corrected: int
    rejected: int
    not_trained: int  # whose final label the model was not trained on; they are in no other count

    @property
    def accuracy(self) -> tuple[float | None, Interval]:
        """Share of predictions that were right, of those that the model did not reject, with its exact interval."""
        return _share(self.right, self.right + self.corrected)

    @property
    def rejection(self) -> tuple[float | None, Interval]:
        """Share of predictions that the model rejected, with its exact interval."""
        return _share(self.rejected, self.right + self.corrected + self.rejected)


@dataclass(frozen=True)
class Drift:
    """A figure that did not keep its promise, at the first session that showed it, and what it was since then."""

    figure: Figure
    label: str | None  # of a recall
    session: str
    week: str
    sessions: int  # that were tested together
    count: int  # right ones, or rejected ones
    trials: int
    promised: float
    p_value: float
    later_count: int = 0  # right ones, or rejected ones, in the sessions since then
    later_trials: int = 0

    @property
    def lasts(self) -> bool:
        """Whether the figure is still worse than promised in the sessions since then, if there were any."""
        if not self.later_trials:
            return True
        later = self.later_count / self.later_trials
        return later > self.promised if self.figure == "rejection" else later < self.promised


@dataclass(frozen=True)
class FieldReport:
    """One version in use."""

    total: Counts
    weeks: Mapping[str, Counts]
    labels: Mapping[str, Counts]  # by final label
    not_trained: Mapping[str, int]  # final labels that the model was not trained on
    drifts: tuple[Drift, ...]


def field_report(
    decisions: Sequence[Decision], labels: Sequence[str], promise: Promise, false_alarms: float = FALSE_ALARMS
) -> FieldReport:
    """Return what a version with these `labels` did in use; `decisions` are in the order of time."""
    weeks: dict[str, list[Decision]] = defaultdict(list)
    by_label: dict[str, list[Decision]] = defaultdict(list)
    for decision in decisions:
        weeks[decision.week].append(decision)
        by_label[decision.final].append(decision)
    return FieldReport(
        total=_counts(decisions, labels),
        weeks={week: _counts(some, labels) for week, some in sorted(weeks.items())},
        labels={label: _counts(by_label[label], labels) for label in labels},
        not_trained={label: len(by_label[label]) for label in sorted(by_label.keys() - {*labels})},
        drifts=tuple(_drifts(decisions, labels, promise, false_alarms)),
    )


def _drifts(
    decisions: Sequence[Decision], labels: Sequence[str], promise: Promise, false_alarms: float
) -> Iterator[Drift]:
    """Yield the drifts in the order of sessions; one that the next sessions show, too, is one drift."""
    sessions: dict[str, list[Decision]] = {}
    for decision in decisions:
        if decision.final in labels:
            sessions.setdefault(decision.session, []).append(decision)
    shown_before: set[tuple[Figure, str | None]] = set()
    in_week: Counter[str] = Counter()
    names = list(sessions)
    for number, name in enumerate(names):
        week = sessions[name][0].week
        in_week[week] += 1
        later = {
            (figure, label): (count, trials)
            for figure, label, count, trials, _ in _tested(_joined(sessions, names[number + 1 :]), promise)
        }
        shown: set[tuple[Figure, str | None]] = set()
        for span, share in _SPANS.items():
            allowed = false_alarms / _WEEKS * _session_share(in_week[week]) * share
            some = _joined(sessions, names[max(0, number + 1 - span) : number + 1])
            for figure, label, count, trials, promised in _tested(some, promise):
                tests = len(promise.recall or ()) if figure == "recall" else 1
                p_value = _p_value(figure, count, trials, promised)
                key = (figure, label)
                if p_value > allowed * _FIGURES[figure] / tests or key in shown:
                    continue
                shown.add(key)
                if key not in shown_before:
                    together = min(span, number + 1)
                    yield Drift(figure, label, name, week, together, count, trials, promised, p_value, *later[key])
        shown_before = shown


def _joined(sessions: Mapping[str, Sequence[Decision]], names: Sequence[str]) -> list[Decision]:
    return [one for name in names for one in sessions[name]]


def _tested(decisions: Sequence[Decision], promise: Promise) -> Iterator[tuple[Figure, str | None, int, int, float]]:
    """Yield what is tested: figure, label, count, trials and the promise."""
    accepted = [one for one in decisions if one.predicted != UNKNOWN]
    if promise.accuracy is not None:
        yield "accuracy", None, _right(accepted), len(accepted), promise.accuracy
    if promise.rejection is not None:
        yield "rejection", None, len(decisions) - len(accepted), len(decisions), promise.rejection
    for label, recall in (promise.recall or {}).items():
        own = [one for one in accepted if one.final == label]
        yield "recall", label, _right(own), len(own), recall


def _p_value(figure: Figure, count: int, trials: int, promised: float) -> float:
    """Return how probable a count at least as bad is where the promise is kept (exact binomial, one-sided)."""
    from scipy import stats

    if not trials:
        return 1.0
    if figure == "rejection":
        return float(stats.binom.sf(count - 1, trials, promised))
    return float(stats.binom.cdf(count, trials, promised))


def _session_share(number: int) -> float:
    """Return the share of a week's false alarms that its session of this number, from 1, may take; all sum to 1."""
    share = 1 / (_SESSIONS + 1)
    return share if number <= _SESSIONS else share / 2 ** (number - _SESSIONS)


def _counts(decisions: Sequence[Decision], labels: Sequence[str]) -> Counts:
    known = [one for one in decisions if one.final in labels]
    rejected = sum(one.predicted == UNKNOWN for one in known)
    right = _right(known)
    return Counts(len(decisions), right, len(known) - right - rejected, rejected, len(decisions) - len(known))


def _right(decisions: Sequence[Decision]) -> int:
    return sum(one.predicted == one.final for one in decisions)


def _share(count: int, trials: int) -> tuple[float | None, Interval]:
    return (count / trials if trials else None), exact_interval(count, trials)
