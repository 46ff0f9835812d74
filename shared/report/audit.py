"""What in the data can make figures lie: copies on both sides of a split, sessions that give themselves away, labels
that are likely wrong. Nothing is removed; everything is named by record id."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.special import softmax

from shared.evaluation import Validation
from shared.learning.calibration import best_temperature
from shared.learning.classifiers import LDA
from shared.learning.folds import Indices, random_folds
from shared.learning.heads import Classes, Features, fit_classifier
from shared.report.metrics import Report, confusion_matrix

ModelSlot = tuple[str, str]  # record ids

FALSE_ALARMS = 0.01  # near copies expected by chance in a whole data set that has none
CLOSE = 0.25  # of the distance to the fifth neighbour: nothing farther is a copy, however surprising
SURE = 0.9  # probability of another label from which on a disagreement is suspicious
DENIED = 0.05  # probability of the own label up to which it is
TRUSTED = 0.7  # recall and precision of both labels, under which the model is believed less than the label
SYSTEMATIC = 0.1  # share of a label's samples answered with one other from which on it is the model's confusion
OPTIMISM = 0.1  # random split minus sessions, from which on it is a warning


@dataclass(frozen=True)
class Audit:
    """What was found. `leaking` counts copies that validation had on both sides of a split."""

    identical: tuple[ModelSlot, ...]
    near_identical: tuple[ModelSlot, ...]
    leaking: int
    session_skill: float | None  # how well the features tell sessions apart: 0 chance, 1 always; None with one session
    label_skill: float | None
    suspected_labels: tuple[dict[str, str | float], ...]
    warnings: tuple[str, ...]


def audit(
    result: Report,
    validation: Validation,
    features: Features,
    classes: Classes,
    sessions: Sequence[str],
    record_ids: Sequence[str],
    hashes: Sequence[str],
    labels: Sequence[str],
) -> Audit:
    """Audit samples (n,) with `features` (n, D) float32 and content `hashes` (n,) after their validation."""
    place = np.unique(sessions, return_inverse=True)[1]
    same = identical(hashes, place)
    near = near_identical(features, place, hashes)
    leaking = sum(validation.fold[a] != validation.fold[b] for a, b in [*same, *near])
    skills = session_fingerprint(features, classes, place)
    chances = _softened(validation, classes)
    wrong = [int(k) for k in suspected_label_errors(chances, classes)]
    suspects: tuple[dict[str, str | float], ...] = tuple(
        {
            "record_id": record_ids[k],
            "label": labels[classes[k]],
            "rather": labels[validation.predicted[k]],
            "probability": round(float(chances[k].max()), 4),
        }
        for k in wrong
    )

    def ids(pairs: Sequence[tuple[int, int]]) -> tuple[ModelSlot, ...]:
        return tuple((record_ids[a], record_ids[b]) for a, b in pairs)

    warnings = tuple(_warnings(result, int(leaking), skills, len(suspects)))
    of_sessions, of_labels = skills or (None, None)
    return Audit(ids(same), ids(near), int(leaking), of_sessions, of_labels, suspects, warnings)


def _softened(validation: Validation, classes: Classes) -> Features:
    """Return the held-out probabilities (n, K) at the temperature that is best for all of them, and no sharper.

    To accuse a label takes more care than to answer: where too few samples show that a temperature helps other
    sessions, an answer goes without, and this does not.
    """
    logits = np.log(np.maximum(validation.uncalibrated, np.float32(1e-30)))
    member = np.zeros(len(classes), np.int64)
    temperature = max(best_temperature(logits, classes, member)[0], 1.0)
    return np.asarray(softmax(logits / temperature, axis=1), np.float32)


def identical(hashes: Sequence[str], place: Indices) -> list[tuple[int, int]]:
    """Return (first, copy) for samples of equal content hash in another session than the first of them."""
    first: dict[str, int] = {}
    pairs = []
    for k, key in enumerate(hashes):
        origin = first.setdefault(key, k)
        if place[origin] != place[k]:
            pairs.append((origin, k))
    return pairs


def near_identical(features: Features, place: Indices, hashes: Sequence[str]) -> list[tuple[int, int]]:
    """Return pairs of samples, of different content and session, too close in features (n, D) to be two recordings.

    The distance to the nearest sample of other sessions is compared with that to the fifth. Where density is even,
    the ratio to the power of the intrinsic dimension is the smallest of four uniform numbers; the dimension is
    estimated from nearest and second distances after Facco and others (2017). A pair is named where fewer than
    FALSE_ALARMS such ratios would be expected among all samples.
    """
    if len(np.unique(place)) < 2 or len(features) < 12:
        return []
    nearest, distances = _neighbours(features, place, hashes)
    usable = np.isfinite(distances[:, 4]) & (distances[:, 4] > 0)
    if usable.sum() < 12:
        return []
    growth = np.median(distances[usable, 1] / np.maximum(distances[usable, 0], 1e-12))
    dimension = float(np.clip(np.log(2) / max(np.log(growth), 1e-6), 1, 200))
    ratio = np.where(usable, distances[:, 0] / np.where(usable, distances[:, 4], 1), 1.0)
    limit = min(CLOSE, float((FALSE_ALARMS / (4 * len(features))) ** (1 / dimension)))
    pairs = ((int(k), int(nearest[k])) for k in np.flatnonzero(ratio < limit))
    return sorted({(a, b) if a < b else (b, a) for a, b in pairs})


def _neighbours(features: Features, place: Indices, hashes: Sequence[str]) -> tuple[Indices, NDArray[np.float64]]:
    """Return the nearest (n,) and the five smallest distances (n, 5) to samples of other sessions and content."""
    scale = features.std(axis=0)
    scaled = (features - features.mean(axis=0)) / np.where(scale > 1e-6 * max(float(scale.max()), 1e-6), scale, np.inf)
    content = np.unique(hashes, return_inverse=True)[1]
    norms = np.einsum("nd,nd->n", scaled, scaled)
    nearest, distances = [], []
    for part in _parts(len(scaled)):
        square = norms[part, None] + norms - 2 * scaled[part] @ scaled.T
        square[(place[part, None] == place) | (content[part, None] == content)] = np.inf
        order = np.argpartition(square, 4, axis=1)[:, :5]
        found = np.take_along_axis(square, order, axis=1)
        inner = np.argsort(found, axis=1)
        order = np.take_along_axis(order, inner, axis=1)
        nearest.append(order[:, 0])
        distances.append(np.sqrt(np.maximum(np.take_along_axis(found, inner, axis=1), 0)))
    return np.concatenate(nearest), np.concatenate(distances).astype(np.float64)


def _parts(count: int, size: int = 1024) -> Iterator[slice]:
    for start in range(0, count, size):
        yield slice(start, min(start + size, count))


def session_fingerprint(features: Features, classes: Classes, place: Indices) -> tuple[float, float] | None:
    """Return how well a linear discriminant tells sessions apart, and labels, both on random halves.

    Each is (accuracy - commonest) / (1 - commonest). None with one session, or where one has a single sample.
    """
    if len(np.unique(place)) < 2 or np.bincount(place).min() < 2 or np.bincount(classes).min() < 2:
        return None
    return _skill(features, place), _skill(features, classes)


def _skill(features: Features, truth: Classes) -> float:
    folds, count = random_folds(truth, 2, 0), int(truth.max()) + 1
    hits = 0
    for fold in folds.outer:
        train, test = folds.outside(fold), folds.inside(fold)
        head = fit_classifier(LDA(), features[train], truth[train], count)
        hits += int((np.asarray(head(features[test])).argmax(axis=1) == truth[test]).sum())
    common = float(np.bincount(truth).max()) / len(truth)
    return float((hits / len(truth) - common) / max(1 - common, 1e-9))


def suspected_label_errors(probabilities: Features, classes: Classes) -> Indices:
    """Return samples whose held-out answer (n, K) is surely another label, most surely first.

    Nothing is suspected of a label that the model itself seldom gets right, nor of two labels that it often mixes up:
    there the model is the likelier culprit.
    """
    predicted = probabilities.argmax(axis=1)
    count = probabilities.shape[1]
    table = confusion_matrix(classes, predicted, count)
    meant, answered = table.sum(axis=1), table.sum(axis=0)
    trusted = np.diag(table) >= TRUSTED * np.maximum(np.maximum(meant, answered), 1)
    rare = table <= np.maximum(1, SYSTEMATIC * meant)[:, None]
    own, top = probabilities[np.arange(len(classes)), classes], probabilities.max(axis=1)
    found = (predicted != classes) & (top >= SURE) & (own <= DENIED) & trusted[predicted] & trusted[classes]
    found &= rare[classes, predicted]
    suspects = np.flatnonzero(found)
    return suspects[np.argsort(-top[suspects], kind="stable")]


def _warnings(result: Report, leaking: int, skills: tuple[float, float] | None, suspects: int) -> Iterator[str]:
    gap = result.metrics.get("optimism_gap", 0.0)
    if gap >= OPTIMISM:
        yield (
            f"a random split would claim {result.metrics['random_split_accuracy']:.0%}, sessions show "
            f"{result.metrics['accuracy']:.0%}: the difference would not be there on another day"
        )
    if leaking:
        copies = "1 copy of a sample stands" if leaking == 1 else f"{leaking} copies of samples stand"
        yield (
            f"{copies} in two sessions, which flatters the figures; "
            "the log lists them under metrics.audit: remove one of each"
        )
    if skills and skills[0] > skills[1] and skills[0] > 0.5:
        yield (
            "the features tell sessions apart better than labels: what differs between recordings "
            "(place, light, device) is stronger than what should be learned"
        )
    if suspects:
        labels = "1 label" if suspects == 1 else f"{suspects} labels"
        yield f"{labels} may be wrong; the log lists them under metrics.audit: look at these recordings again"
