"""What held-out predictions say: metrics, each with its interval, and a verdict in words.

Values are scikit-learn's. Ours are what it lacks: intervals over sessions, the expected calibration error, accuracy by
coverage, and whether a sample's label is among its two most probable, which the interval needs sample by sample.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray
from sklearn.metrics import confusion_matrix, precision_recall_fscore_support

from shared.evaluation import Validation
from shared.features.probes import Probe
from shared.learning.calibration import calibration_error, calibration_gaps, reliability
from shared.learning.folds import Indices
from shared.learning.heads import Classes, Features
from shared.learning.prediction_sets import held_out_sets
from shared.report.intervals import (
    Floats,
    Interval,
    bootstrap_variance,
    clustered_interval,
    drawn_weights,
    poisson_rate_interval,
    spread_interval,
    wilson,
)
from shared.schema_utils import BACKGROUND
from shared.training_run import Confusion, LabelReport, ProbeReport, Report, Unit

NAMED = 6  # confusions that are listed
PROBES_ACCEPTED = 0.05  # share of probes that no good model accepts

_ONLY: dict[Unit, tuple[str, str]] = {
    "session": ("in one session only", "how it does on another day"),
    "person": ("of one person only", "how it does with somebody else"),
}


def report(
    validation: Validation,
    classes: Classes,
    sessions: Sequence[str],
    labels: Sequence[str],
    unit: Unit = "session",
) -> Report:
    """Return the metrics of a validation of samples of `classes` (n,) that come from `sessions` (n,), or persons."""
    groups = np.asarray(np.unique(sessions, return_inverse=True)[1], np.int64)
    predicted, accepted = validation.predicted, validation.accepted
    correct, known = predicted == classes, np.arange(len(labels))
    majority = np.bincount(classes, minlength=len(labels)).argmax()
    scores = _scores(classes, predicted, groups, known)
    metrics = {
        **_share("accuracy", correct, groups),
        **_averages(scores),
        **_share("majority_baseline", classes == majority, groups),
        **_share("top2_accuracy", _rank_of_truth(validation.probabilities, classes) < 2, groups),
        **_calibration(validation, correct, groups),
        **_share("coverage", accepted, groups),
        **_share("false_rejection_rate", ~accepted, groups),
    }
    sets = held_out_sets(validation.probabilities, classes, groups)
    metrics |= _share("set_coverage", sets[np.arange(len(classes)), classes], groups)
    metrics["set_size"] = float(sets.sum(axis=1).mean())
    if accepted.any():
        metrics |= _share("accuracy_accepted", correct[accepted], groups[accepted])
    if validation.random_accuracy is not None:
        metrics["random_split_accuracy"] = validation.random_accuracy
        metrics["optimism_gap"] = validation.random_accuracy - metrics["accuracy"]
    if validation.left_out.auroc:
        metrics["open_set_auroc"] = float(np.mean(list(validation.left_out.auroc.values())))
    if len(validation.left_out.indices):
        metrics |= _share("false_acceptance_rate", validation.left_out.accepted, groups[validation.left_out.indices])
    rows = tuple(_label_reports(validation, classes, groups, labels, scores))
    verdict, reasons = judge(metrics, rows, len(np.unique(groups)), validation.folds.scheme, unit)
    return Report(
        metrics=metrics,
        labels=rows,
        confusion_matrix=confusion_matrix(classes, predicted, labels=known),
        reliability=reliability(validation.probabilities, correct),
        scheme=validation.folds.scheme,
        verdict=verdict,
        reasons=reasons,
        learning_curve=validation.learning,
        accuracy_by_coverage=accuracy_by_coverage(validation.score, correct),
        confusions=tuple(_confusions(classes, predicted, groups, labels)),
        unit=unit,
    )


def judge(
    metrics: dict[str, float], labels: Sequence[LabelReport], sessions: int, scheme: str, unit: Unit = "session"
) -> tuple[str, tuple[str, ...]]:
    """Return good, weak or insufficient data, and why. A model not clearly above the baseline is never good."""
    reasons = []
    only, elsewhere = _ONLY[unit]
    if sessions < 2:
        reasons.append(f"all samples come from one {unit}, so nothing shows {elsewhere}")
    elif scheme == "within-session":
        reasons.append(f"every label was recorded {only}, so nothing shows {elsewhere}")
    few = [row.label for row in labels if row.support < 5]
    if few:
        reasons.append(f"fewer than 5 samples of {_quoted(few)}")
    if reasons:
        return "insufficient data", tuple(reasons)
    single = [row.label for row in labels if row.within_session]
    if single:
        reasons.append(f"recorded {only}: {_quoted(single)}")
    if metrics["accuracy_low"] <= metrics["majority_baseline"]:
        reasons.append("the interval of its accuracy includes that of always predicting the most frequent label")
    if metrics["balanced_accuracy"] < 0.8:
        reasons.append(f"balanced accuracy is {metrics['balanced_accuracy']:.2f}, under 0.80")
    if metrics["coverage"] < 0.8:
        reasons.append(f"its false rejection rate is {1 - metrics['coverage']:.0%}, above 20%")
    accepted = metrics.get("false_acceptance_rate")
    if accepted is None:
        reasons.append("it was not measured how often it accepts samples of labels that it was not trained on")
    elif accepted >= 0.2:
        reasons.append(
            f"it accepts {accepted:.0%} of samples of labels that it was not trained on, 20% or more "
            f"(perhaps {metrics['false_acceptance_rate_high']:.0%})"
        )
    poor = [row.label for row in labels if row.recall <= 0.5]
    if poor:
        reasons.append(f"not more than half recognised of {_quoted(poor)}")
    return ("weak", tuple(reasons)) if reasons else ("good", ())


def _quoted(labels: Sequence[str]) -> str:
    """Return labels as text that pages show as code, each in its own direction."""
    return ", ".join(f"`{label}`" for label in labels)


def with_probes(result: Report, probes: Sequence[Probe], accepted: NDArray[np.bool_]) -> Report:
    """Return the report with the share of probes (n,) that the model accepted, and its verdict.

    Probes are of no session, so the interval is Wilson's. Each accepted piece of background counts as one false alarm.
    """
    kinds = [probe.kind for probe in probes]
    of_kind = {kind: accepted[[k == kind for k in kinds]] for kind in dict.fromkeys(kinds)}
    rows = tuple(ProbeReport(kind, len(hits), int(hits.sum())) for kind, hits in of_kind.items())
    metrics, verdict, reasons = dict(result.metrics), result.verdict, result.reasons
    for name, what, mine in (
        ("probe_acceptance", "inputs that no label can be", [row for row in rows if row.kind != BACKGROUND]),
        ("background_acceptance", "recordings of the background", [row for row in rows if row.kind == BACKGROUND]),
    ):
        count, hits = sum(row.count for row in mine), sum(row.accepted for row in mine)
        if not count:
            continue
        low, high = wilson(hits, count)
        metrics |= {name: hits / count, f"{name}_low": low, f"{name}_high": high}
        if hits / count >= PROBES_ACCEPTED:
            named = ", ".join(row.kind for row in mine if row.accepted)
            reasons = (*reasons, f"it accepts {hits / count:.0%} of {what}, perhaps {high:.0%} ({named})")
            verdict = "weak" if verdict == "good" else verdict
    hours = sum(probe.seconds for probe in probes if probe.kind == BACKGROUND) / 3600
    if hours:
        alarms = sum(row.accepted for row in rows if row.kind == BACKGROUND)
        low, high = poisson_rate_interval(alarms, hours)
        name = "false_alarms_per_hour"
        metrics |= {name: alarms / hours, f"{name}_low": low, f"{name}_high": high}
    return replace(result, metrics=metrics, probes=rows, verdict=verdict, reasons=reasons)


def accuracy_by_coverage(
    score: Features, correct: NDArray[np.bool_], shares: Sequence[float] = (0.5, 0.6, 0.7, 0.8, 0.9, 1.0)
) -> tuple[tuple[float, float], ...]:
    """Return (coverage, accuracy among those) where only the samples of highest score (n,) are accepted."""
    right = correct[np.argsort(-score, kind="stable")]
    counts = sorted({max(1, round(share * len(right))) for share in shares})
    return tuple((count / len(right), float(right[:count].mean())) for count in counts)


def _calibration(validation: Validation, correct: NDArray[np.bool_], groups: Indices) -> dict[str, float]:
    """Return the expected calibration error of the probabilities in use, with its interval, and of both kinds."""
    errors = {
        "ece": calibration_error(validation.probabilities, correct),
        "ece_calibrated": calibration_error(validation.calibrated, correct),
        "ece_uncalibrated": calibration_error(validation.uncalibrated, correct),
    }
    sessions = len(np.unique(groups))
    if sessions < 2:
        return errors
    gaps = calibration_gaps(validation.probabilities, correct, groups)  # (sessions, bins)
    weights = drawn_weights(groups)
    draws = np.abs(weights @ gaps).sum(axis=1) / (weights @ np.bincount(groups))
    variance = float(bootstrap_variance(draws, sessions))
    low, high = spread_interval(errors["ece"], len(correct), variance, sessions)
    return {**errors, "ece_low": low, "ece_high": high}


def _share(name: str, hit: NDArray[np.bool_], groups: Indices) -> dict[str, float]:
    """Return the share of samples (n,) that `hit`, with its interval; the accuracy where those are correct."""
    low, high = clustered_interval(hit, groups)
    return {name: float(hit.mean()), f"{name}_low": low, f"{name}_high": high}


def _rank_of_truth(probabilities: Features, classes: Classes) -> Indices:
    """Return how many labels (n,) are more probable than the true one, sample by sample, which intervals need."""
    own = probabilities[np.arange(len(classes)), classes]
    return np.asarray((probabilities > own[:, None]).sum(axis=1), np.int64)


@dataclass(frozen=True)
class _Scores:
    """Precision, recall, F1 and support of each label (K,), and recall and F1 in draws of sessions (draws, K)."""

    precision: Floats
    recall: Floats
    f1: Floats
    support: Indices
    predicted: Indices  # how often each label was predicted (K,)
    recall_draws: Floats  # NaN where a draw of sessions has no sample of the label
    f1_draws: Floats
    sessions: int

    def interval(self, value: float, trials: float, draws: Floats) -> Interval:
        """Return the interval of a value whose `draws` (draws,) spread as sessions do."""
        if self.sessions < 2:
            return wilson(value * trials, trials)
        return spread_interval(value, trials, float(bootstrap_variance(draws, self.sessions)), self.sessions)


def _scores(classes: Classes, predicted: Classes, groups: Indices, known: Indices) -> _Scores:
    score: Any = precision_recall_fscore_support  # its inferred types lack that zero_division may be a number
    precision, recall, f1, support = score(classes, predicted, labels=known, zero_division=0.0)
    tables = [
        confusion_matrix(classes[groups == session], predicted[groups == session], labels=known)
        for session in np.unique(groups)
    ]
    drawn = np.tensordot(drawn_weights(groups), np.stack(tables), axes=1)  # (draws, K, K)
    true, answered, correct = drawn.sum(axis=2), drawn.sum(axis=1), np.diagonal(drawn, axis1=1, axis2=2)
    with np.errstate(invalid="ignore"):
        recall_draws = correct / true
        f1_draws = np.where(true > 0, 2 * correct / (true + answered), np.nan)
    counts = np.bincount(predicted, minlength=len(known))
    return _Scores(precision, recall, f1, support, counts, recall_draws, f1_draws, len(tables))


def _averages(scores: _Scores) -> dict[str, float]:
    """Return balanced accuracy and macro-F1 with their intervals."""
    # Wilson's part: the variance of a mean of shares is that of one share of so many samples.
    trials = len(scores.support) ** 2 / float(np.sum(1 / scores.support))
    averages: dict[str, float] = {}
    for name, by_label, draws in (
        ("balanced_accuracy", scores.recall, scores.recall_draws),
        ("f1_macro", scores.f1, scores.f1_draws),
    ):
        value = float(by_label.mean())
        low, high = scores.interval(value, trials, np.nanmean(draws, axis=1))
        averages |= {name: value, f"{name}_low": low, f"{name}_high": high}
    return averages


def _label_reports(
    validation: Validation, classes: Classes, groups: Indices, labels: Sequence[str], scores: _Scores
) -> Iterator[LabelReport]:
    for k, label in enumerate(labels):
        true, predicted = classes == k, validation.predicted == k
        f1, trials = float(scores.f1[k]), float(scores.support[k] + scores.predicted[k]) / 2
        recall_low, recall_high = clustered_interval(predicted[true], groups[true])
        precision_low, precision_high = clustered_interval(true[predicted], groups[predicted])
        f1_low, f1_high = scores.interval(f1, trials, scores.f1_draws[:, k])
        yield LabelReport(
            label=label,
            precision=float(scores.precision[k]),
            recall=float(scores.recall[k]),
            recall_low=recall_low,
            recall_high=recall_high,
            f1=f1,
            support=int(scores.support[k]),
            sessions=len(np.unique(groups[true])),
            within_session=k in validation.folds.within_session,
            precision_low=precision_low,
            precision_high=precision_high,
            f1_low=f1_low,
            f1_high=f1_high,
            open_set_auroc=validation.left_out.auroc.get(k),
        )


def _confusions(classes: Classes, predicted: Classes, groups: Indices, labels: Sequence[str]) -> Iterator[Confusion]:
    """Yield the most frequent confusions, at most NAMED."""
    table = confusion_matrix(classes, predicted, labels=np.arange(len(labels)))
    wrong = table - np.diag(np.diag(table))
    for place in np.argsort(-wrong, axis=None, kind="stable")[:NAMED]:
        row, column = divmod(int(place), len(wrong))
        if wrong[row, column]:
            own = classes == row
            low, high = clustered_interval(predicted[own] == column, groups[own])
            yield Confusion(labels[row], labels[column], int(wrong[row, column]), int(table[row].sum()), low, high)
