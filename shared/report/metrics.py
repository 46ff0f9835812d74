"""What the held-out answers say, each figure with its interval, and a verdict in words."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from shared.evaluation import Validation
from shared.learning.folds import Indices
from shared.learning.heads import Classes, Features
from shared.report.intervals import (
    Floats,
    Interval,
    bootstrap_variance,
    clustered_interval,
    drawn_weights,
    spread_interval,
    wilson,
)

NAMED = 6  # pairs of labels that are told to be mixed up

Unit = Literal["session", "person"]  # what is held out whole
_ONLY: dict[Unit, tuple[str, str]] = {
    "session": ("in one session only", "how it does on another day"),
    "person": ("of one person only", "how it does with somebody else"),
}


@dataclass(frozen=True)
class LabelReport:
    """One label's precision, recall and F1 with their intervals, and its support, among held-out answers."""

    label: str
    precision: float
    recall: float
    recall_low: float
    recall_high: float
    f1: float
    support: int
    sessions: int
    within_session: bool
    precision_low: float = 0.0
    precision_high: float = 1.0
    f1_low: float = 0.0
    f1_high: float = 1.0
    unknown_auroc: float | None = None  # how well it is told from the others when it was never trained on


@dataclass(frozen=True)
class Confusion:
    """How often one label was answered when another was meant, of how many samples, with the share's interval."""

    meant: str
    answered: str
    times: int
    support: int
    low: float
    high: float


@dataclass(frozen=True)
class Report:
    """All of a validation's figures: `metrics` are floats only, as A3CP wants them."""

    metrics: dict[str, float]
    labels: tuple[LabelReport, ...]
    confusion: Indices  # (K, K), rows are the truth
    reliability: tuple[tuple[float, float, int], ...]  # mean confidence, accuracy, samples, a bin each
    scheme: str
    verdict: str
    reasons: tuple[str, ...]
    learning: tuple[tuple[int, float], ...] = ()  # samples trained on, out-of-fold accuracy
    coverage: tuple[tuple[float, float], ...] = ()  # share answered, accuracy among those
    mixed_up: tuple[Confusion, ...] = ()  # the commonest first
    unit: Unit = "session"


def report(
    validation: Validation,
    classes: Classes,
    sessions: Sequence[str],
    labels: Sequence[str],
    unit: Unit = "session",
) -> Report:
    """Return the figures of a validation of samples of `classes` (n,) recorded in `sessions` (n,), or of persons."""
    groups = np.asarray(np.unique(sessions, return_inverse=True)[1], np.int64)
    predicted, accepted = validation.predicted, validation.accepted
    correct = predicted == classes
    confusion = confusion_matrix(classes, predicted, len(labels))
    share = np.bincount(classes, minlength=len(labels)) / len(classes)
    counts = _counted(classes, predicted, groups, len(labels))
    averages, f1 = _averages(counts, groups)
    metrics = {
        **_with_interval("accuracy", correct, groups),
        **averages,
        **_with_interval("majority_baseline", classes == share.argmax(), groups),
        **_with_interval("top2_accuracy", _rank_of_truth(validation.probabilities, classes) < 2, groups),
        "ece": calibration_error(validation.probabilities, correct),
        "ece_uncalibrated": calibration_error(validation.uncalibrated, correct),
        **_with_interval("coverage", accepted, groups),
        **_with_interval("false_rejection", ~accepted, groups),
    }
    if accepted.any():
        metrics |= _with_interval("accuracy_accepted", correct[accepted], groups[accepted])
    if validation.random_accuracy is not None:
        metrics["random_split_accuracy"] = validation.random_accuracy
        metrics["optimism_gap"] = validation.random_accuracy - metrics["accuracy"]
    if validation.left_out.auroc:
        metrics["unknown_auroc"] = float(np.mean(list(validation.left_out.auroc.values())))
    single, unknown = validation.folds.within_session, validation.left_out.auroc
    rows = tuple(
        _label_report(k, label, classes, predicted, groups, f1[k], k in single, unknown.get(k))
        for k, label in enumerate(labels)
    )
    verdict, reasons = judge(metrics, rows, len(np.unique(groups)), validation.folds.scheme, unit)
    bins = reliability(validation.probabilities, correct)
    return Report(
        metrics=metrics,
        labels=rows,
        confusion=confusion,
        reliability=bins,
        scheme=validation.folds.scheme,
        verdict=verdict,
        reasons=reasons,
        learning=validation.learning,
        coverage=accuracy_by_coverage(validation.score, correct),
        mixed_up=tuple(_mixed_up(classes, predicted, groups, labels)),
        unit=unit,
    )


def judge(
    metrics: dict[str, float], labels: Sequence[LabelReport], sessions: int, scheme: str, unit: Unit = "session"
) -> tuple[str, tuple[str, ...]]:
    """Return good, weak or insufficient data, and why. A model not clearly above the baseline is never good."""
    reasons = []
    only, untold = _ONLY[unit]
    if sessions < 2:
        reasons.append(f"all samples come from one {unit}, so nothing shows {untold}")
    elif scheme == "within-session":
        reasons.append(f"every label was recorded {only}, so nothing shows {untold}")
    few = [row.label for row in labels if row.support < 5]
    if few:
        reasons.append(f"fewer than 5 samples of {', '.join(few)}")
    if reasons:
        return "insufficient data", tuple(reasons)
    single = [row.label for row in labels if row.within_session]
    if single:
        reasons.append(f"recorded {only}: {', '.join(single)}")
    if metrics["accuracy_low"] <= metrics["majority_baseline"]:
        reasons.append("the interval of its accuracy reaches down to always answering the commonest label")
    if metrics["balanced_accuracy"] < 0.8:
        reasons.append(f"balanced accuracy is {metrics['balanced_accuracy']:.2f}, under 0.80")
    if metrics["coverage"] < 0.8:
        reasons.append(f"it says unknown to {1 - metrics['coverage']:.0%} of what it knows")
    poor = [row.label for row in labels if row.recall < 0.5]
    if poor:
        reasons.append(f"fewer than half recognised of {', '.join(poor)}")
    return ("weak", tuple(reasons)) if reasons else ("good", ())


def accuracy_by_coverage(
    score: Features, correct: NDArray[np.bool_], shares: Sequence[float] = (0.5, 0.6, 0.7, 0.8, 0.9, 1.0)
) -> tuple[tuple[float, float], ...]:
    """Return (share answered, accuracy among those) when only the samples of highest score (n,) are answered."""
    right = correct[np.argsort(-score, kind="stable")]
    counts = sorted({max(1, round(share * len(right))) for share in shares})
    return tuple((count / len(right), float(right[:count].mean())) for count in counts)


def confusion_matrix(truth: Classes, predicted: Classes, count: int) -> Indices:
    """Return (K, K) counts: rows are the truth, columns the answers."""
    return np.bincount(truth * count + predicted, minlength=count * count).reshape(count, count)


def calibration_error(probabilities: Features, correct: NDArray[np.bool_], bins: int = 10) -> float:
    """Return the expected calibration error of the top probability over equal-width bins."""
    total = 0.0
    for confidence, accuracy, count in reliability(probabilities, correct, bins):
        total += abs(confidence - accuracy) * count
    return total / len(correct)


def reliability(
    probabilities: Features, correct: NDArray[np.bool_], bins: int = 10
) -> tuple[tuple[float, float, int], ...]:
    """Return (mean confidence, accuracy, samples) of each bin of the top probability that has samples."""
    top = probabilities.max(axis=1)
    place = np.minimum((top * bins).astype(int), bins - 1)
    return tuple(
        (float(top[place == b].mean()), float(correct[place == b].mean()), int((place == b).sum()))
        for b in np.unique(place)
    )


def _with_interval(name: str, correct: NDArray[np.bool_], groups: Indices) -> dict[str, float]:
    low, high = clustered_interval(correct, groups)
    return {name: float(correct.mean()), f"{name}_low": low, f"{name}_high": high}


def _rank_of_truth(probabilities: Features, classes: Classes) -> Indices:
    own = probabilities[np.arange(len(classes)), classes]
    return np.asarray((probabilities > own[:, None]).sum(axis=1), np.int64)


@dataclass(frozen=True)
class _Counts:
    """How many samples of each session were meant, answered and hit, by label: (sessions, K) each."""

    meant: Floats
    answered: Floats
    hits: Floats

    def drawn(self, weights: Floats) -> _Counts:
        """Return the counts of draws (draws, sessions) of sessions: (draws, K) each."""
        return _Counts(weights @ self.meant, weights @ self.answered, weights @ self.hits)

    def recall(self) -> Floats:
        """Return (…, K); NaN where nothing was meant."""
        with np.errstate(invalid="ignore"):
            return self.hits / self.meant

    def f1(self) -> Floats:
        """Return (…, K); NaN where nothing was meant."""
        with np.errstate(invalid="ignore"):
            return np.where(self.meant > 0, 2 * self.hits / (self.meant + self.answered), np.nan)


def _counted(truth: Classes, predicted: Classes, groups: Indices, count: int) -> _Counts:
    place = np.unique(groups, return_inverse=True)[1]
    shape = (int(place.max()) + 1, count)

    def table(classes: Classes, which: NDArray[np.bool_]) -> Floats:
        cells = (place * count + classes)[which]
        return np.bincount(cells, minlength=shape[0] * count).reshape(shape).astype(np.float64)

    everything = np.ones(len(truth), np.bool_)
    return _Counts(table(truth, everything), table(predicted, everything), table(truth, truth == predicted))


def _averages(counts: _Counts, groups: Indices) -> tuple[dict[str, float], list[Interval]]:
    """Return balanced accuracy and macro-F1 with their intervals, and the interval of each label's F1."""
    sessions = len(counts.meant)
    whole, drawn = counts.drawn(np.ones((1, sessions))), counts.drawn(drawn_weights(groups))
    meant, answered = whole.meant[0], whole.answered[0]
    # Wilson's part: the variance of a mean of shares is that of one share of so many samples.
    alike = np.count_nonzero(meant) ** 2 / float(np.sum(1 / meant[meant > 0]))

    def interval(value: float, trials: float, values: Floats) -> Interval:
        if sessions < 2:
            return wilson(value * trials, trials)
        return spread_interval(value, trials, float(bootstrap_variance(values, sessions)), sessions)

    metrics: dict[str, float] = {}
    for name, one, many in (
        ("balanced_accuracy", whole.recall(), drawn.recall()),
        ("f1_macro", whole.f1(), drawn.f1()),
    ):
        value = float(np.nanmean(one))
        low, high = interval(value, alike, np.nanmean(many, axis=1))
        metrics |= {name: value, f"{name}_low": low, f"{name}_high": high}
    each = [
        interval(float(np.nan_to_num(value)), float(meant[k] + answered[k]) / 2, drawn.f1()[:, k])
        for k, value in enumerate(whole.f1()[0])
    ]
    return metrics, each


def _label_report(
    k: int,
    label: str,
    truth: Classes,
    predicted: Classes,
    groups: Indices,
    f1: Interval,
    within: bool,
    unknown_auroc: float | None,
) -> LabelReport:
    meant, answered = truth == k, predicted == k
    support, answers, hits = int(meant.sum()), int(answered.sum()), int((meant & answered).sum())
    low, high = clustered_interval(answered[meant], groups[meant])
    precision_low, precision_high = clustered_interval(meant[answered], groups[answered])
    return LabelReport(
        label=label,
        precision=hits / answers if answers else 0.0,
        recall=hits / support if support else 0.0,
        recall_low=low,
        recall_high=high,
        f1=2 * hits / (support + answers) if support + answers else 0.0,
        support=support,
        sessions=len(np.unique(groups[meant])),
        within_session=within,
        precision_low=precision_low,
        precision_high=precision_high,
        f1_low=f1[0],
        f1_high=f1[1],
        unknown_auroc=unknown_auroc,
    )


def _mixed_up(truth: Classes, predicted: Classes, groups: Indices, labels: Sequence[str]) -> Iterator[Confusion]:
    table = confusion_matrix(truth, predicted, len(labels))
    wrong = table - np.diag(np.diag(table))
    for place in np.argsort(-wrong, axis=None, kind="stable")[:NAMED]:
        row, column = divmod(int(place), len(wrong))
        if wrong[row, column]:
            own = truth == row
            low, high = clustered_interval(predicted[own] == column, groups[own])
            yield Confusion(labels[row], labels[column], int(wrong[row, column]), int(table[row].sum()), low, high)
