"""Linear discriminant analysis with one shrunk covariance pooled over all classes: for two samples a class and up."""

from __future__ import annotations

from typing import Literal, Self

import numpy as np
from numpy.typing import ArrayLike, NDArray

from shared.learning.decision_classifier import DecisionClassifier

Floats = NDArray[np.float64]


class PooledShrinkageLDA(DecisionClassifier):
    """Linear discriminant analysis with a covariance that is pooled over classes before it is shrunk.

    scikit-learn's `LinearDiscriminantAnalysis(shrinkage="auto")` shrinks each class's covariance by itself, which
    degenerates at two samples a class: docs/decisions/pooled-lda.md. Priors are equal: how often a carer recorded a
    label says little of how often it is meant.

    Parameters
    ----------
    shrinkage : "auto" or float in [0, 1], default="auto"
        Weight of the spherical covariance; "auto" estimates it after Ledoit and Wolf (2004).

    Attributes
    ----------
    classes_ : ndarray of shape (n_classes,)
    coef_ : ndarray of shape (n_classes, n_features)
    intercept_ : ndarray of shape (n_classes,)
    shrinkage_ : float
    """

    def __init__(self, shrinkage: Literal["auto"] | float = "auto") -> None:
        self.shrinkage = shrinkage

    def fit(self, X: ArrayLike, y: ArrayLike) -> Self:
        """Fit on rows X (n_samples, n_features) of classes y (n_samples,).

        Where features outnumber samples, the system is solved over the samples' inner products (Woodbury's identity).
        """
        rows, member = self.begin(X, y)
        samples, width = rows.shape
        means = np.stack([rows[member == k].mean(axis=0) for k in range(len(self.classes_))])
        residuals = rows - means[member]
        inner = residuals @ residuals.T if width > samples else residuals.T @ residuals
        automatic, variance = ledoit_wolf(residuals, inner)
        self.shrinkage_ = automatic if self.shrinkage == "auto" else float(self.shrinkage)
        degrees = max(samples - len(self.classes_), 1)  # each class mean costs one
        part = (1 - self.shrinkage_) / degrees
        ridge = self.shrinkage_ * variance * samples / degrees + 1e-6
        system = part * inner
        system[np.diag_indices_from(system)] += ridge
        if width > samples:
            dual = np.linalg.solve(system, residuals @ means.T)
            weights = (means.T - part * (residuals.T @ dual)) / ridge
        else:
            weights = np.linalg.solve(system, means.T)
        self.coef_ = weights.T
        self.intercept_ = -0.5 * np.sum(means * self.coef_, axis=1)
        return self

    def values(self, rows: Floats) -> Floats:
        """(n_samples, n_features) -> log posterior up to a constant (n_samples, n_classes)."""
        found: Floats = rows @ self.coef_.T + self.intercept_
        return found


def ledoit_wolf(residuals: Floats, inner: Floats | None = None) -> tuple[float, float]:
    """Return the shrinkage and the mean variance of centred rows (n, D); `inner` are their inner products, if known.

    Ledoit and Wolf 2004, "A well-conditioned estimator for large-dimensional covariance matrices". Every term is a sum
    over inner products of rows, or of columns: scikit-learn's `ledoit_wolf_shrinkage` gives the same numbers, and takes
    time and memory by the square of D where features outnumber samples.
    """
    n, width = residuals.shape
    if inner is None:
        inner = residuals @ residuals.T if width > n else residuals.T @ residuals
    squares = np.sum(residuals**2, axis=1)
    variance = float(squares.sum()) / (n * width)
    norm = float(np.sum(inner**2)) / n**2
    spread = norm - width * variance**2
    noise = min((float(np.sum(squares**2)) / n - norm) / n, spread)
    return (noise / spread if spread > 0 and noise > 0 else 0.0), variance
