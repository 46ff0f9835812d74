"""Kernel ridge regression to class indicators, whose inner products are computed once for all folds."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Literal, Self

import numpy as np
from numpy.typing import ArrayLike, NDArray

from shared.features.arrays import halved
from shared.learning.decision_classifier import DecisionClassifier, solve_symmetric

Floats = NDArray[np.float64]
Indices = NDArray[np.int64]
LANDMARK_NUMBERS = 900_000  # at most so many half-precision numbers of landmarks: 1.8 MB of a model


class KernelRidgeClassifier(DecisionClassifier):
    """Ridge regression to class indicators over a kernel, classes weighted equally.

    scikit-learn's `KernelRidge` has no classifier, and fits each fold from nothing: docs/decisions/kernel-ridge.md.
    With the RBF kernel every sample is a landmark while these are at most LANDMARK_NUMBERS numbers; of more samples an
    even choice is (Nystroem's method: Williams and Seeger 2001).

    Parameters
    ----------
    alpha : float, default=1.0
        Strength of the penalty.
    kernel : {"linear", "rbf"}, default="linear"
    gamma : float or None, default=None
        Of the RBF kernel; None is one over the mean square length of the rows.

    Attributes
    ----------
    classes_ : ndarray of shape (n_classes,)
    coef_ : ndarray of shape (n_features, n_classes), of the linear kernel
    landmarks_ : ndarray of shape (n_landmarks, n_features), of the RBF kernel
    dual_coef_ : ndarray of shape (n_landmarks, n_classes), of the RBF kernel
    gamma_ : float, of the RBF kernel
    """

    def __init__(
        self, alpha: float = 1.0, kernel: Literal["linear", "rbf"] = "linear", gamma: float | None = None
    ) -> None:
        self.alpha = alpha
        self.kernel = kernel
        self.gamma = gamma

    def fit(self, X: ArrayLike, y: ArrayLike) -> Self:
        """Fit on rows X (n_samples, n_features) of classes y (n_samples,)."""
        rows, member = self.begin(X, y)
        if self.kernel == "linear":
            indicators, weight = self._indicators(member)
            narrow = rows.astype(np.float32)
            system = (narrow @ narrow.T).astype(np.float64)
            system[np.diag_indices_from(system)] += self.alpha / weight
            self.coef_ = rows.T @ solve_symmetric(system, indicators)
        elif rows.size <= LANDMARK_NUMBERS:
            marks = halved(rows.astype(np.float32))
            inner = marks @ marks.T
            self._fit_on_kernel(marks, inner, np.diag(inner), member)
        else:
            self._fit_on_landmarks(rows.astype(np.float32), member)
        return self

    def fit_on_subset(self, X: NDArray[np.float32]) -> Callable[[Indices, NDArray[Any]], KernelRidgeClassifier] | None:
        """Return what fits a clone on some rows of X (n_samples, n_features), by their numbers and classes.

        The inner products, which take longest, are computed once for all fits. None where that saves nothing: with the
        linear kernel, or where there are more rows than landmarks.
        """
        if self.kernel == "linear" or X.size > LANDMARK_NUMBERS:
            return None
        marks = halved(X)
        inner = marks @ marks.T
        squares = np.diag(inner)

        def fit(chosen: Indices, y: NDArray[Any]) -> KernelRidgeClassifier:
            fitted = KernelRidgeClassifier(**self.get_params())
            setattr(fitted, "n_features_in_", X.shape[1])  # noqa: B010
            fitted.classes_, member = np.unique(y, return_inverse=True)
            fitted._fit_on_kernel(marks[chosen], inner[np.ix_(chosen, chosen)], squares[chosen], member)
            return fitted

        return fit

    def values(self, rows: Floats) -> Floats:
        """(n_samples, n_features) -> estimated class indicators (n_samples, n_classes)."""
        found: Floats
        if self.kernel == "linear":
            found = rows @ self.coef_
        else:
            marks = self.landmarks_.astype(np.float64)
            squares = np.sum(rows**2, axis=1)
            found = _gaussian(rows @ marks.T, squares, np.sum(marks**2, axis=1), self.gamma_) @ self.dual_coef_
        return found

    def _indicators(self, member: Indices) -> tuple[Floats, Floats]:
        """Return centred class indicators (n, P), and weights (n,) that make classes equal."""
        count = len(self.classes_)
        weight = len(member) / (count * np.bincount(member)[member])
        return (member[:, None] == np.arange(count)) - 1.0 / count, weight

    def _fit_on_kernel(
        self, marks: NDArray[np.float32], inner: NDArray[np.float32], squares: NDArray[np.float32], member: Indices
    ) -> None:
        indicators, weight = self._indicators(member)
        self.landmarks_, self.gamma_ = marks, self._width(squares)
        system = _gaussian(inner, squares, squares, self.gamma_)
        system[np.diag_indices_from(system)] += self.alpha / weight
        self.dual_coef_ = solve_symmetric(system, indicators)

    def _fit_on_landmarks(self, rows: NDArray[np.float32], member: Indices) -> None:
        indicators, weight = self._indicators(member)
        most = max(LANDMARK_NUMBERS // rows.shape[1], len(self.classes_))
        chosen = np.unique(np.linspace(0, len(rows) - 1, min(len(rows), most)).astype(np.int64))
        self.landmarks_ = marks = halved(rows[chosen])
        squares = np.einsum("nd,nd->n", marks, marks)
        self.gamma_ = self._width(squares)
        kernel = _gaussian(rows @ marks.T, np.einsum("nd,nd->n", rows, rows), squares, self.gamma_)
        system = kernel.T @ (kernel * weight[:, None]) + self.alpha * kernel[chosen]
        system[np.diag_indices_from(system)] += 1e-6 * len(rows)
        self.dual_coef_ = solve_symmetric(system, kernel.T @ (indicators * weight[:, None]))

    def _width(self, squares: NDArray[np.float32]) -> float:
        return 1.0 / max(float(np.mean(squares)), 1e-6) if self.gamma is None else float(self.gamma)


def _gaussian(inner: NDArray[Any], a: NDArray[Any], b: NDArray[Any], gamma: float) -> Floats:
    """Return exp(-gamma times the square distance) (n, m) of rows with `inner` products and squares (n,) and (m,)."""
    near = inner * (2.0 * gamma) - gamma * a[:, None] - gamma * b
    return np.asarray(np.exp(np.minimum(near, 0.0, out=near), out=near), np.float64)
