"""What our own scikit-learn classifiers have in common: checked input, one decision value a class, prediction."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.linalg import LinAlgError, cho_factor, cho_solve
from sklearn.base import BaseEstimator, ClassifierMixin
from sklearn.utils import validation
from sklearn.utils.multiclass import check_classification_targets

Floats = NDArray[np.float64]
_validate: Any = validation.validate_data  # scikit-learn has no types


class DecisionClassifier(ClassifierMixin, BaseEstimator):  # type: ignore[misc]  # scikit-learn has no types
    """A classifier that predicts the class of the greatest decision value; `values` of subclasses gives these."""

    classes_: NDArray[Any]

    def begin(self, X: ArrayLike, y: ArrayLike) -> tuple[Floats, NDArray[np.int64]]:
        """Check training data, set `classes_`; return rows (n_samples, n_features) and class indices (n_samples,)."""
        rows, targets = _validate(self, X, y, dtype=np.float64)
        check_classification_targets(targets)
        self.classes_, member = np.unique(targets, return_inverse=True)
        return rows, member

    def values(self, rows: Floats) -> Floats:
        """(n_samples, n_features) -> a decision value for each class (n_samples, n_classes)."""
        raise NotImplementedError

    def decision_function(self, X: ArrayLike) -> Floats:
        """(n_samples, n_features) -> decision values (n_samples, n_classes); for two classes their difference."""
        values = self._checked_values(X)
        return values[:, 1] - values[:, 0] if len(self.classes_) == 2 else values

    def predict(self, X: ArrayLike) -> NDArray[Any]:
        """(n_samples, n_features) -> the class of the greatest decision value (n_samples,)."""
        chosen = self._checked_values(X).argmax(axis=1)
        labels: NDArray[Any] = self.classes_[chosen]
        return labels

    def _checked_values(self, X: ArrayLike) -> Floats:
        validation.check_is_fitted(self)
        return self.values(_validate(self, X, dtype=np.float64, reset=False))


def solve_symmetric(system: Floats, right: Floats) -> Floats:
    """Solve `system` (n, n), symmetric, for `right` (n, k): by Cholesky's root where it is positive definite."""
    try:
        root = cho_factor(system.T, check_finite=False)  # of the transpose, which LAPACK takes without a copy
        return np.asarray(cho_solve(root, right, check_finite=False))
    except LinAlgError:
        return np.asarray(np.linalg.solve(system, right), np.float64)
