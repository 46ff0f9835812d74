"""What the held-out answers say, each figure with its interval, and a verdict in words."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from shared.evaluation import Validation
from shared.folds import Indices
from shared.heads import Classes, Features

CONFIDENCE = 0.95

Unit = Literal["session", "person"]  # what is held out whole
_ONLY: dict[Unit, tuple[str, str]] = {
    "session": ("in one session only", "how it does on another day"),
    "person": ("of one person only", "how it does with somebody else"),
}


@dataclass(frozen=True)
class LabelReport:
    """One label's precision, recall (with its Wilson interval), F1 and support among held-out answers."""

    label: str
    precision: float
    recall: float
    recall_low: float
    recall_high: float
    f1: float
    support: int
    sessions: int
    within_session: bool


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
    unit: Unit = "session"


def report(
    validation: Validation,
    classes: Classes,
    sessions: Sequence[str],
    labels: Sequence[str],
    unit: Unit = "session",
) -> Report:
    """Return the figures of a validation of samples of `classes` (n,) recorded in `sessions` (n,), or of persons."""
    names = sorted(set(sessions))
    groups = np.array([names.index(s) for s in sessions], np.int64)
    predicted, accepted = validation.predicted, validation.accepted
    correct = predicted == classes
    confusion = confusion_matrix(classes, predicted, len(labels))
    share = np.bincount(classes, minlength=len(labels)) / len(classes)
    low, high = clustered_interval(correct, groups)
    metrics = {
        "accuracy": float(correct.mean()),
        "accuracy_low": low,
        "accuracy_high": high,
        **_with_bootstrap("balanced_accuracy", _balanced_accuracy, classes, predicted, groups),
        **_with_bootstrap("f1_macro", _f1_macro, classes, predicted, groups),
        "majority_baseline": float(share.max()),
        "top2_accuracy": float((_rank_of_truth(validation.probabilities, classes) < 2).mean()),
        "ece": calibration_error(validation.probabilities, correct),
        "ece_uncalibrated": calibration_error(validation.uncalibrated, correct),
        "coverage": float(accepted.mean()),
        "false_rejection": float(1 - accepted.mean()),
    }
    if accepted.any():
        metrics["accuracy_accepted"] = float(correct[accepted].mean())
    if validation.random_accuracy is not None:
        metrics["random_split_accuracy"] = validation.random_accuracy
        metrics["optimism_gap"] = validation.random_accuracy - metrics["accuracy"]
    if validation.unknown_auroc:
        metrics["unknown_auroc"] = float(np.mean(list(validation.unknown_auroc.values())))
    rows = tuple(
        _label_report(k, labels, classes, predicted, groups, k in validation.folds.within_session)
        for k in range(len(labels))
    )
    verdict, reasons = judge(metrics, rows, len(names), validation.folds.scheme, unit)
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


def wilson(successes: float, trials: float, confidence: float = CONFIDENCE) -> tuple[float, float]:
    """Return Wilson's score interval (1927) of a proportion; `trials` need not be whole. (0, 1) without trials."""
    from scipy.special import ndtri

    return _score_interval(successes, trials, float(ndtri(0.5 + confidence / 2)))


def clustered_interval(
    correct: NDArray[np.bool_], groups: Indices, confidence: float = CONFIDENCE
) -> tuple[float, float]:
    """Return an interval of a proportion whose samples come in sessions.

    Wilson's interval at the effective sample size that the spread between sessions leaves, with Student's t
    on sessions - 1 degrees of freedom (after Korn and Graubard 1998). With one session it is Wilson's own,
    which says nothing of other days.
    """
    from scipy.special import ndtri, stdtrit  # quantiles of the normal and of Student's distribution

    n, sessions = len(correct), len(np.unique(groups))
    rate = float(correct.mean())
    if sessions < 2:
        return wilson(float(correct.sum()), n, confidence)
    sums = np.array([np.sum(correct[groups == g] - rate) for g in np.unique(groups)])
    variance = sessions / (sessions - 1) * float(np.sum(sums**2)) / n**2
    simple = rate * (1 - rate) / n
    effective = n * min(1.0, simple / variance) if variance > 0 else float(n)
    z, quantile = float(ndtri(0.5 + confidence / 2)), float(stdtrit(sessions - 1, 0.5 + confidence / 2))
    return _score_interval(rate * effective, effective, z if variance <= simple and sessions > 9 else quantile)


def _score_interval(successes: float, trials: float, z: float) -> tuple[float, float]:
    if trials <= 0:
        return 0.0, 1.0
    rate = successes / trials
    centre = (rate + z * z / (2 * trials)) / (1 + z * z / trials)
    half = z * np.sqrt(rate * (1 - rate) / trials + z * z / (4 * trials**2)) / (1 + z * z / trials)
    return max(0.0, float(centre - half)), min(1.0, float(centre + half))


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


Statistic = Callable[[Classes, Classes, NDArray[np.float64]], float]


def _with_bootstrap(
    name: str, statistic: Statistic, truth: Classes, predicted: Classes, groups: Indices, draws: int = 400
) -> dict[str, float]:
    """Return a statistic and its percentile interval over draws of whole sessions (of samples, if one session)."""
    rng = np.random.default_rng(0)
    units = groups if len(np.unique(groups)) > 1 else np.arange(len(truth))
    _, member = np.unique(units, return_inverse=True)
    count = int(member.max()) + 1
    drawn = rng.multinomial(count, np.full(count, 1 / count), size=draws)[:, member].astype(np.float64)
    values = [statistic(truth, predicted, weight) for weight in drawn]
    low, high = np.nanquantile(values, [(1 - CONFIDENCE) / 2, (1 + CONFIDENCE) / 2])
    whole = statistic(truth, predicted, np.ones(len(truth)))
    return {name: whole, f"{name}_low": float(min(low, whole)), f"{name}_high": float(max(high, whole))}


def _balanced_accuracy(truth: Classes, predicted: Classes, weight: NDArray[np.float64]) -> float:
    support = np.bincount(truth, weight)
    hits = np.bincount(truth, weight * (truth == predicted))
    return float(np.mean(hits[support > 0] / support[support > 0]))


def _f1_macro(truth: Classes, predicted: Classes, weight: NDArray[np.float64]) -> float:
    count = int(max(truth.max(), predicted.max())) + 1
    support, answers = np.bincount(truth, weight, count), np.bincount(predicted, weight, count)
    hits = np.bincount(truth, weight * (truth == predicted), count)
    seen = support > 0
    return float(np.mean(2 * hits[seen] / (support[seen] + answers[seen])))


def _rank_of_truth(probabilities: Features, classes: Classes) -> Indices:
    own = probabilities[np.arange(len(classes)), classes]
    return np.asarray((probabilities > own[:, None]).sum(axis=1), np.int64)


def _label_report(
    k: int, labels: Sequence[str], truth: Classes, predicted: Classes, groups: Indices, within: bool
) -> LabelReport:
    support, answers = int((truth == k).sum()), int((predicted == k).sum())
    hits = int(((truth == k) & (predicted == k)).sum())
    low, high = wilson(hits, support)
    return LabelReport(
        label=labels[k],
        precision=hits / answers if answers else 0.0,
        recall=hits / support if support else 0.0,
        recall_low=low,
        recall_high=high,
        f1=2 * hits / (support + answers) if support + answers else 0.0,
        support=support,
        sessions=len(np.unique(groups[truth == k])),
        within_session=within,
    )
