"""How alike a sample is to what a model was trained on: the score by which the unknown is rejected.

Familiarity is fitted on training features and computed in the graph, beside the logits. Higher is more familiar.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Protocol

import numpy as np

from shared.features.arrays import (
    END,
    Array,
    const,
    floored,
    greatest,
    half,
    halved,
    matmul,
    namespace,
    section,
    unit_rows,
)
from shared.learning.folds import Indices
from shared.learning.heads import Classes, Features, Head, Linear
from shared.learning.pooled_lda import ledoit_wolf

_AT_ONCE = 8_000_000  # likenesses of rows and references that are in memory at a time: 32 MB
REFERENCE_NUMBERS = 1_400_000  # at most so many half-precision numbers of references: 2.8 MB


@dataclass(frozen=True)
class NearestFamiliarity:
    """Likeness to the nearest training samples: features (n, D) float32 -> (n,), higher is more familiar.

    In the discriminant subspace it is minus the mean distance to the `nearest` references; among directions
    (`cosine`) it is their mean cosine. References are kept in half precision.
    """

    centre: Features  # (D,)
    projection: Features | None  # (D, d), or None to stay in feature space
    references: Features  # (M, d), halved
    cosine: bool
    nearest: int

    def __call__(self, features: Array) -> Array:
        rows = max(1, _AT_ONCE // len(self.references))
        if isinstance(features, np.ndarray) and len(features) > rows:
            return np.concatenate([self(features[start : start + rows]) for start in range(0, len(features), rows)])
        xp = namespace(features)
        place = features - const(self.centre, features)
        if self.projection is not None:
            place = matmul(place, const(self.projection, features))
        marks = half(self.references.T, features)
        if self.cosine:
            likeness = matmul(unit_rows(place), marks)
        else:
            square = xp.sum(place * place, axis=1, keepdims=True) - 2.0 * matmul(place, marks)
            square = square + const(np.sum(self.references**2, axis=1), features)
            # One within-class variance is added: near zero the root would magnify differences in rounding.
            likeness = -xp.sqrt(floored(square, 0.0) + 1.0)
        if self.nearest == 1:
            return greatest(likeness, axis=1)
        return xp.mean(section(xp.sort(likeness, axis=1), -self.nearest, END, axis=1), axis=1)


Familiarity = Callable[[Array], Array]  # features (n, D) -> (n,), higher is more familiar
Background = Features | None  # features (b, D) of inputs that no label can be


class FitFamiliarity(Protocol):
    """Fits familiarity for a head on features (n, D) of `classes` (n,), and against `background`."""

    def __call__(
        self, head: Head, features: Features, classes: Classes, background: Background = None, /
    ) -> Familiarity: ...


@dataclass(frozen=True)
class AgainstBackground:
    """Familiarity less the likeness to the nearest background."""

    known: NearestFamiliarity
    background: NearestFamiliarity

    def __call__(self, features: Array) -> Array:
        return self.known(features) - self.background(features)


def _against(known: NearestFamiliarity, background: Background) -> Familiarity:
    """Return the familiarity of cosines, normalised by likeness to `background` (b, D)."""
    if background is None or not len(background):
        return known
    references = halved(unit_rows(background - known.centre))
    return AgainstBackground(known, replace(known, references=references, nearest=1))


def subspace_familiarity(
    head: Head, features: Features, classes: Classes, background: Background = None, /
) -> Familiarity:
    """Distance to the 3 nearest training samples in the whitened subspace of a linear discriminant head.

    With logits W'x + b and W = inv(S) M, the whitened coordinates follow from W and the class means alone:
    W' M is the Gram matrix of the means in the metric of S, and its inverse root makes the axes orthonormal.
    """
    if not isinstance(head, Linear):
        raise TypeError("the discriminant subspace needs a linear head")
    present = np.unique(classes)
    centre = features.mean(axis=0)
    means = np.stack([features[classes == k].mean(axis=0) for k in present]).astype(np.float64)
    weights = head.weights[:, present].astype(np.float64)
    weights -= weights.mean(axis=1, keepdims=True)
    gram = weights.T @ (means - means.mean(axis=0)).T
    strength, axes = np.linalg.eigh((gram + gram.T) / 2)
    kept = strength > 1e-6 * max(float(strength[-1]), 1e-12)
    projection = (weights @ (axes[:, kept] / np.sqrt(strength[kept]))).astype(np.float32)
    references = (features - centre) @ projection
    references = references[_spread_out(len(features), REFERENCE_NUMBERS // max(references.shape[1], 1))]
    return NearestFamiliarity(centre, projection, halved(references), False, min(3, len(references)))


def whitened_familiarity(
    head: Head, features: Features, classes: Classes, background: Background = None, /, dimensions: int = 64
) -> Familiarity:
    """Distance to the 3 nearest training samples in the leading principal directions, whitened within classes.

    Unlike the discriminant subspace this keeps directions in which the known classes do not differ: there an
    unknown class may. The within-class covariance is shrunk after Ledoit and Wolf.
    """
    centre = features.mean(axis=0)
    moved = (features - centre).astype(np.float64)
    scale = moved.std(axis=0)
    scale[scale < 1e-6 * max(float(scale.max(initial=0.0)), 1e-6)] = np.inf
    scaled = moved / scale
    _, strength, directions = np.linalg.svd(scaled, full_matrices=False)
    count = max(int(np.sum(strength > 1e-6 * max(float(strength[0]), 1e-12))), 1)  # one, where all samples are equal
    kept = directions[: min(count, dimensions)].T
    place = scaled @ kept
    present, member = np.unique(classes, return_inverse=True)
    residuals = place - np.stack([place[member == k].mean(axis=0) for k in range(len(present))])[member]
    scatter = residuals.T @ residuals
    shrinkage, variance = ledoit_wolf(np.sum(residuals**2, axis=1), scatter, residuals.shape[1])
    covariance = (1 - shrinkage) * scatter / max(len(residuals) - len(present), 1)
    covariance[np.diag_indices_from(covariance)] += shrinkage * variance + 1e-6
    root = np.linalg.cholesky(covariance)
    projection = ((kept / scale[:, None]) @ np.linalg.inv(root).T).astype(np.float32)
    references = (features - centre) @ projection
    references = references[_spread_out(len(features), REFERENCE_NUMBERS // references.shape[1])]
    return NearestFamiliarity(centre, projection, halved(references), False, min(3, len(references)))


def cosine_familiarity(
    head: Head,
    features: Features,
    classes: Classes,
    background: Background = None,
    /,
    numbers: int = REFERENCE_NUMBERS,
) -> Familiarity:
    """Cosine to the nearest training sample after centring; of references at most `numbers` numbers are kept."""
    centre = features.mean(axis=0)
    references = unit_rows(features - centre)[_spread_out(len(features), numbers // features.shape[1])]
    return _against(NearestFamiliarity(centre, None, halved(references), True, 1), background)


def centroid_familiarity(
    head: Head, features: Features, classes: Classes, background: Background = None, /
) -> Familiarity:
    """Cosine to the nearest label's mean direction after centring: for labels whose samples lie in one place each."""
    centre = features.mean(axis=0)
    rows = unit_rows(features - centre)
    references = unit_rows(np.stack([rows[classes == k].mean(axis=0) for k in np.unique(classes)]))
    return _against(NearestFamiliarity(centre, None, halved(references), True, 1), background)


def _spread_out(count: int, most: int) -> Indices:
    return np.unique(np.linspace(0, count - 1, min(count, most)).astype(np.int64))
