"""What in the data can bias metrics: duplicates on both sides of a split, features that reveal the session, labels that
are likely wrong. Nothing is removed; everything is named by record id."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
from numpy.typing import NDArray
from scipy.special import softmax
from sklearn.metrics import confusion_matrix

from shared.data_loader import Dataset
from shared.evaluation import Validation
from shared.learning.calibration import best_temperature
from shared.learning.classifiers import LDA
from shared.learning.folds import Indices, random_folds
from shared.learning.heads import Classes, Features, fit_classifier
from shared.training_run import Audit, RecordPair, Report

FALSE_ALARMS = 0.01  # near duplicates expected by chance in a whole data set that has none
CLOSE = 0.25  # of the distance to the fifth neighbour: nothing farther is a duplicate, however improbable
SURE = 0.9  # least probability of another label at which a disagreement is suspicious
DENIED = 0.05  # greatest probability of its own label at which it is
TRUSTED = 0.7  # least recall and precision of both labels at which the model is believed more than the label
SYSTEMATIC = 0.1  # share of a label's samples predicted as one other, at which it is a confusion of the model's
OPTIMISM = 0.1  # accuracy of a random split minus that across sessions, at which it is a warning


def audit(report: Report, validation: Validation, dataset: Dataset, features: Features) -> Audit:
    """Audit the samples (n,) of a data set, with their `features` (n, D) float32, after their validation."""
    classes, labels = dataset.label_index, dataset.labels
    hashes = [sample.content_sha256 for sample in dataset.samples]
    session = np.unique(dataset.session_ids, return_inverse=True)[1]
    same = identical(hashes, session)
    near = near_identical(features, session, hashes)
    across = sum(int(validation.fold[a] != validation.fold[b]) for a, b in [*same, *near])
    skills = session_fingerprint(features, classes, session)
    probabilities = _softened(validation, classes)
    suspects: tuple[dict[str, str | float], ...] = tuple(
        {
            "record_id": dataset.samples[k].record_id,
            "label": labels[classes[k]],
            "predicted": labels[validation.predicted[k]],
            "probability": round(float(probabilities[k].max()), 4),
        }
        for k in suspected_label_errors(probabilities, classes)
    )

    def ids(pairs: Sequence[tuple[int, int]]) -> tuple[RecordPair, ...]:
        return tuple((dataset.samples[a].record_id, dataset.samples[b].record_id) for a, b in pairs)

    warnings = tuple(_warnings(report, across, skills, len(suspects)))
    of_sessions, of_labels = skills or (None, None)
    return Audit(ids(same), ids(near), across, of_sessions, of_labels, suspects, warnings)


def _softened(validation: Validation, classes: Classes) -> Features:
    """Return the held-out probabilities (n, K) at the temperature that is best for all of them, but at least 1.

    Doubting a label takes more care than predicting one: predictions trust what is usual where samples are few, and
    this does not.
    """
    logits = np.log(np.maximum(validation.uncalibrated, np.float32(1e-30)))
    temperature = max(best_temperature(logits, classes), 1.0)
    return np.asarray(softmax(logits / temperature, axis=1), np.float32)


def identical(hashes: Sequence[str], session: Indices) -> list[tuple[int, int]]:
    """Return (first, duplicate) for samples of equal content hash in another session than the first of them."""
    first: dict[str, int] = {}
    pairs = []
    for k, key in enumerate(hashes):
        original = first.setdefault(key, k)
        if session[original] != session[k]:
            pairs.append((original, k))
    return pairs


def near_identical(features: Features, session: Indices, hashes: Sequence[str]) -> list[tuple[int, int]]:
    """Return pairs of samples, of different content and session, too close in features (n, D) to be two recordings.

    The distance to the nearest sample of other sessions is compared with that to the fifth. Where density is even,
    the ratio to the power of the intrinsic dimension is the smallest of four uniform numbers; the dimension is
    estimated from nearest and second distances after Facco and others (2017). A pair is named where fewer than
    FALSE_ALARMS such ratios would be expected among all samples.
    """
    if len(np.unique(session)) < 2 or len(features) < 12:
        return []
    nearest, distances = _neighbours(features, session, hashes)
    usable = np.isfinite(distances[:, 4]) & (distances[:, 4] > 0)
    if usable.sum() < 12:
        return []
    growth = np.median(distances[usable, 1] / np.maximum(distances[usable, 0], 1e-12))
    dimension = float(np.clip(np.log(2) / max(np.log(growth), 1e-6), 1, 200))
    ratio = np.where(usable, distances[:, 0] / np.where(usable, distances[:, 4], 1), 1.0)
    limit = min(CLOSE, float((FALSE_ALARMS / (4 * len(features))) ** (1 / dimension)))
    pairs = ((int(k), int(nearest[k])) for k in np.flatnonzero(ratio < limit))
    return sorted({(a, b) if a < b else (b, a) for a, b in pairs})


def _neighbours(features: Features, session: Indices, hashes: Sequence[str]) -> tuple[Indices, NDArray[np.float64]]:
    """Return the nearest (n,) and the five smallest distances (n, 5) to samples of other sessions and content."""
    scale = features.std(axis=0)
    scaled = (features - features.mean(axis=0)) / np.where(scale > 1e-6 * max(float(scale.max()), 1e-6), scale, np.inf)
    content = np.unique(hashes, return_inverse=True)[1]
    norms = np.einsum("nd,nd->n", scaled, scaled)
    nearest, distances = [], []
    for part in _parts(len(scaled)):
        square = norms[part, None] + norms - 2 * scaled[part] @ scaled.T
        square[(session[part, None] == session) | (content[part, None] == content)] = np.inf
        order = np.argpartition(square, 4, axis=1)[:, :5]
        smallest = np.take_along_axis(square, order, axis=1)
        ascending = np.argsort(smallest, axis=1)
        nearest.append(np.take_along_axis(order, ascending, axis=1)[:, 0])
        distances.append(np.sqrt(np.maximum(np.take_along_axis(smallest, ascending, axis=1), 0)))
    return np.concatenate(nearest), np.concatenate(distances).astype(np.float64)


def _parts(count: int, size: int = 1024) -> Iterator[slice]:
    for start in range(0, count, size):
        yield slice(start, min(start + size, count))


def session_fingerprint(features: Features, classes: Classes, session: Indices) -> tuple[float, float] | None:
    """Return how well a linear discriminant predicts the session, and the label, each fitted on random halves.

    Each is (accuracy - majority) / (1 - majority). None with one session, or where one has a single sample.
    """
    if len(np.unique(session)) < 2 or np.bincount(session).min() < 2 or np.bincount(classes).min() < 2:
        return None
    return _skill(features, session), _skill(features, classes)


def _skill(features: Features, truth: Classes) -> float:
    folds, count = random_folds(truth, 2, 0), int(truth.max()) + 1
    hits = 0
    for fold in folds.outer:
        train, test = folds.outside(fold), folds.inside(fold)
        head = fit_classifier(LDA(), features[train], truth[train], count)
        hits += int((np.asarray(head(features[test])).argmax(axis=1) == truth[test]).sum())
    majority = float(np.bincount(truth).max()) / len(truth)
    return float((hits / len(truth) - majority) / max(1 - majority, 1e-9))


def suspected_label_errors(probabilities: Features, classes: Classes) -> Indices:
    """Return samples whose held-out probabilities (n, K) are confident of another label, the most confident first.

    Nothing is suspected of a label that the model itself seldom gets right, nor of two labels that it often confuses:
    there the model is more likely to be wrong.
    """
    predicted = probabilities.argmax(axis=1)
    table = confusion_matrix(classes, predicted, labels=np.arange(probabilities.shape[1]))
    true, answered = table.sum(axis=1), table.sum(axis=0)
    trusted = np.diag(table) >= TRUSTED * np.maximum(np.maximum(true, answered), 1)
    rare = table <= np.maximum(1, SYSTEMATIC * true)[:, None]
    own, top = probabilities[np.arange(len(classes)), classes], probabilities.max(axis=1)
    suspected = (predicted != classes) & (top >= SURE) & (own <= DENIED) & trusted[predicted] & trusted[classes]
    suspected &= rare[classes, predicted]
    suspects = np.flatnonzero(suspected)
    return suspects[np.argsort(-top[suspects], kind="stable")]


def _warnings(report: Report, duplicates: int, skills: tuple[float, float] | None, suspects: int) -> Iterator[str]:
    gap = report.metrics.get("optimism_gap", 0.0)
    if gap >= OPTIMISM:
        yield (
            f"a random split reports an accuracy of {report.metrics['random_split_accuracy']:.0%}, unseen sessions "
            f"{report.metrics['accuracy']:.0%}: expect the lower one on another day"
        )
    if duplicates:
        samples = "1 sample is" if duplicates == 1 else f"{duplicates} samples are"
        yield (
            f"{samples} in two sessions, which inflates the metrics; "
            "the log lists them under metrics.audit: remove one of each pair"
        )
    if skills and skills[0] > skills[1] and skills[0] > 0.5:
        yield (
            "the features separate sessions better than labels: what differs between recordings "
            "(place, light, device) outweighs what should be learned"
        )
    if suspects:
        labels = "1 label" if suspects == 1 else f"{suspects} labels"
        yield f"{labels} may be wrong; the log lists them under metrics.audit: check these recordings"
