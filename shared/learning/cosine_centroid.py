"""Nearest class mean by cosine: what can be learnt from one or two samples a label."""

from __future__ import annotations

from typing import Any, Self

import numpy as np
from numpy.typing import ArrayLike, NDArray
from sklearn.base import BaseEstimator, ClassifierMixin
from sklearn.preprocessing import normalize
from sklearn.utils.multiclass import check_classification_targets
from sklearn.utils.validation import check_is_fitted, validate_data


class CosineCentroidClassifier(ClassifierMixin, BaseEstimator):  # type: ignore[misc]  # scikit-learn has no types
    """The class whose mean direction, after centring, is nearest; scikit-learn's NearestCentroid has no cosine.

    Attributes
    ----------
    classes_ : ndarray of shape (n_classes,)
    mean_ : ndarray of shape (n_features,)
    centroids_ : ndarray of shape (n_classes, n_features), of unit length
    """

    def fit(self, X: ArrayLike, y: ArrayLike) -> Self:
        """Fit on rows X (n_samples, n_features) of classes y (n_samples,)."""
        rows, targets = validate_data(self, X, y, dtype=np.float64)
        check_classification_targets(targets)
        self.classes_, member = np.unique(targets, return_inverse=True)
        self.mean_ = rows.mean(axis=0)
        means = np.stack([rows[member == k].mean(axis=0) for k in range(len(self.classes_))])
        self.centroids_ = normalize(means - self.mean_)
        return self

    def decision_function(self, X: ArrayLike) -> NDArray[np.float64]:
        """(n_samples, n_features) -> cosine to each class (n_samples, n_classes); for two, the difference."""
        check_is_fitted(self)
        rows = validate_data(self, X, dtype=np.float64, reset=False)
        values: NDArray[np.float64] = normalize(rows - self.mean_) @ self.centroids_.T
        return values[:, 1] - values[:, 0] if len(self.classes_) == 2 else values

    def predict(self, X: ArrayLike) -> NDArray[Any]:
        """(n_samples, n_features) -> the class of the nearest direction (n_samples,)."""
        values = self.decision_function(X)
        chosen = (values > 0).astype(np.int64) if values.ndim == 1 else values.argmax(axis=1)
        labels: NDArray[Any] = self.classes_[chosen]
        return labels
