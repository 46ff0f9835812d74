"""Nearest class mean by cosine: what can be learnt from one or two samples a label."""

from __future__ import annotations

from typing import Any, Self

import numpy as np
from numpy.typing import ArrayLike
from sklearn.preprocessing import normalize

from shared.learning.decision_classifier import DecisionClassifier, Floats


class CosineCentroidClassifier(DecisionClassifier):
    """The class whose mean direction, after centring, is nearest; scikit-learn's NearestCentroid has no cosine.

    Attributes
    ----------
    classes_ : ndarray of shape (n_classes,)
    mean_ : ndarray of shape (n_features,)
    centroids_ : ndarray of shape (n_classes, n_features), of unit length
    """

    def fit(self, X: ArrayLike, y: ArrayLike) -> Self:
        """Fit on rows X (n_samples, n_features) of classes y (n_samples,)."""
        rows, member = self.begin(X, y)
        self.mean_ = rows.mean(axis=0)
        means = np.stack([rows[member == k].mean(axis=0) for k in range(len(self.classes_))])
        self.centroids_: Floats = np.asarray(normalize(means - self.mean_))
        return self

    def values(self, rows: Floats) -> Floats:
        """(n_samples, n_features) -> cosine to each class (n_samples, n_classes)."""
        directions: Any = normalize(rows - self.mean_)
        return np.asarray(directions @ self.centroids_.T)
