"""Linear discriminant analysis with one shrunk covariance pooled over all classes: for two samples a class and up."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Literal, Self

import numpy as np
from numpy.typing import ArrayLike, NDArray

from shared.learning.decision_classifier import DecisionClassifier, solve_symmetric

Floats = NDArray[np.float64]
Indices = NDArray[np.int64]


class PooledShrinkageLDA(DecisionClassifier):
    """Linear discriminant analysis with a covariance that is pooled over classes before it is shrunk.

    scikit-learn's `LinearDiscriminantAnalysis(shrinkage="auto")` shrinks each class's covariance by itself, which
    degenerates at two samples a class: docs/decisions/pooled-lda.md. Priors are equal: how often a carer recorded a
    label says little of how often it is meant. The mean of fewer samples is noisier, and longer for it, which would
    count against its class; what that amounts to on average is added (Moran and Murphy 1979).

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
        if rows.shape[1] > len(rows):
            self._fit_on_inner_products(rows, rows @ rows.T, member)
        else:
            self._fit_on_covariance(rows, member)
        return self

    def fit_on_subset(self, X: NDArray[np.float32]) -> Callable[[Indices, NDArray[Any]], PooledShrinkageLDA] | None:
        """Return what fits a clone on some rows of X (n_samples, n_features), by their numbers and classes.

        The inner products, which take longest, are computed once for all fits. None where features are fewer than
        samples: then a fit needs none.
        """
        if X.shape[1] <= len(X):
            return None
        rows = X.astype(np.float64)
        inner = rows @ rows.T

        def fit(chosen: Indices, y: NDArray[Any]) -> PooledShrinkageLDA:
            fitted = PooledShrinkageLDA(**self.get_params())
            setattr(fitted, "n_features_in_", X.shape[1])  # noqa: B010
            fitted.classes_, member = np.unique(y, return_inverse=True)
            fitted._fit_on_inner_products(rows[chosen], inner[np.ix_(chosen, chosen)], member)
            return fitted

        return fit

    def _fit_on_covariance(self, rows: Floats, member: Indices) -> None:
        means = _averaging(member).T @ rows
        residuals = rows - means[member]
        system, _, _ = self._regularised(residuals.T @ residuals, np.sum(residuals**2, axis=1), rows.shape[1])
        self._set(means, solve_symmetric(system, means.T).T, member)

    def _fit_on_inner_products(self, rows: Floats, inner: Floats, member: Indices) -> None:
        """Fit on rows (n, D) of which `inner` (n, n) are the inner products."""
        averaging = _averaging(member)
        with_means = inner @ averaging  # (n, P): of rows and class means
        among_means = averaging.T @ with_means
        residuals = inner - with_means[:, member] - with_means[:, member].T + among_means[np.ix_(member, member)]
        system, part, ridge = self._regularised(residuals, np.diag(residuals), rows.shape[1])
        dual = solve_symmetric(system, with_means - among_means[member])
        dual -= averaging @ (np.equal.outer(np.arange(len(self.classes_)), member) @ dual)  # of rows, not of residuals
        self._set(averaging.T @ rows, ((averaging - part * dual) / ridge).T @ rows, member)

    def _regularised(self, scatter: Floats, squares: Floats, width: int) -> tuple[Floats, float, float]:
        """Return `part` times the scatter matrix with `ridge` on its diagonal, `part` and `ridge`."""
        automatic, variance = ledoit_wolf(squares, scatter, width)
        self.shrinkage_ = automatic if self.shrinkage == "auto" else float(self.shrinkage)
        degrees = max(len(squares) - len(self.classes_), 1)  # each class mean costs one
        part = (1 - self.shrinkage_) / degrees
        ridge = self.shrinkage_ * variance * len(squares) / degrees + 1e-6
        system = part * scatter
        system[np.diag_indices_from(system)] += ridge
        return system, part, ridge

    def _set(self, means: Floats, weights: Floats, member: Indices) -> None:
        noise = weights.shape[1] / np.bincount(member)  # of each mean, in within-class variances
        self.coef_ = weights
        self.intercept_ = -0.5 * (np.sum(means * weights, axis=1) - (noise - noise.mean()))

    def values(self, rows: Floats) -> Floats:
        """(n_samples, n_features) -> log posterior up to a constant (n_samples, n_classes)."""
        found: Floats = rows @ self.coef_.T + self.intercept_
        return found


def _averaging(member: Indices) -> Floats:
    """Return (n, P) whose product with rows (n, D), transposed, are the means of the P classes."""
    indicators = np.equal.outer(member, np.arange(member.max() + 1))
    return np.asarray(indicators / indicators.sum(axis=0))


def ledoit_wolf(squares: Floats, scatter: Floats, width: int) -> tuple[float, float]:
    """Return the shrinkage and the mean variance of n centred rows (n, `width`).

    `squares` (n,) are their square lengths, and `scatter` their inner products (n, n), or those of their columns.
    Ledoit and Wolf 2004, "A well-conditioned estimator for large-dimensional covariance matrices". scikit-learn's
    `ledoit_wolf_shrinkage` gives the same numbers, and takes time and memory by the square of the width.
    """
    n = len(squares)
    variance = float(squares.sum()) / (n * width)
    norm = float(np.sum(scatter**2)) / n**2
    spread = norm - width * variance**2
    noise = min((float(np.sum(squares**2)) / n - norm) / n, spread)
    return (noise / spread if spread > 0 and noise > 0 else 0.0), variance
