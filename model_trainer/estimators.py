"""Our classifiers and features as scikit-learn estimators, for pipelines and searches of one's own.

Example:
    >>> search = GridSearchCV(
    ...     make_pipeline(SequenceFeatures(), StandardScaler(), PooledShrinkageLDA()),
    ...     {"sequencefeatures__features": ["motion_statistics", "resampled"]},
    ...     cv=LeaveOneGroupOut(),
    ... )
    >>> search.fit(sequences, labels, groups=sessions)
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal, Self, get_args

import numpy as np
from numpy.typing import ArrayLike, NDArray
from sklearn.base import BaseEstimator, TransformerMixin
from sklearn.utils.validation import check_is_fitted

from model_trainer.samples import frames_of
from shared.errors import ConfigError, DataError, Fault
from shared.features.graph import FeatureFunction, FeatureGraph, TensorSpec
from shared.features.sequences import FrameMean, Resampled, Statistics
from shared.learning.cosine_centroid import CosineCentroidClassifier
from shared.learning.kernel_ridge import KernelRidgeClassifier
from shared.learning.pooled_lda import PooledShrinkageLDA

__all__ = [
    "CosineCentroidClassifier",
    "KernelRidgeClassifier",
    "PooledShrinkageLDA",
    "SequenceFeatures",
]


SequenceFeatureSet = Literal["frame_mean", "motion_statistics", "resampled"]


class SequenceFeatures(TransformerMixin, BaseEstimator):  # type: ignore[misc]  # scikit-learn has no types
    """Features of sequences of any length, which trainers have, too, computed by the same graph.

    It has no parameters to fit: `fit` notes the width of a frame.

    Parameters
    ----------
    features : {"motion_statistics", "resampled", "frame_mean"}, default="motion_statistics"
        Mean, deviation, extremes and speed of each number over time; positions and velocities at `frames` times; or
        the mean frame.
    coordinates : {0, 2, 3}, default=0
        Numbers of a landmark point. Points are centred and scaled, so that their place in the image and the distance
        make no difference, and a point at the origin is missing. 0: the numbers are no points.
    frames : int, default=16
        Times along the sequence, for "resampled".

    Attributes
    ----------
    n_features_in_ : int
        The numbers of a frame, D.
    """

    def __init__(
        self, features: SequenceFeatureSet = "motion_statistics", coordinates: int = 0, frames: int = 16
    ) -> None:
        self.features: SequenceFeatureSet = features
        self.coordinates = coordinates
        self.frames = frames

    def fit(self, X: Sequence[ArrayLike], y: Any = None) -> Self:
        """Note D of sequences X, each (T, D). Raises DataError where they differ in D or hold no numbers."""
        self._function()
        self.n_features_in_ = frames_of(X[0], "X[0]").shape[1]
        if self.coordinates and self.n_features_in_ % self.coordinates:
            raise ConfigError(f"coordinates: {self.n_features_in_} numbers a frame are no points of {self.coordinates}")
        self._sequences(X)
        return self

    def transform(self, X: Sequence[ArrayLike]) -> NDArray[np.float32]:
        """Return (n, F) float32 of n sequences, each (T, D). Raises DataError for another D."""
        check_is_fitted(self, "n_features_in_")
        contract = (TensorSpec("sequence", "float32", ("frames", self.n_features_in_)),)
        graph = FeatureGraph(self.features, contract, self._function())
        return np.stack(list(graph.run([{"sequence": sequence} for sequence in self._sequences(X)])))

    def _function(self) -> FeatureFunction:
        if self.coordinates not in (0, 2, 3):
            raise ConfigError(f"coordinates: {self.coordinates!r}: must be 0, 2 or 3")
        match self.features:
            case "frame_mean":
                return FrameMean()
            case "motion_statistics":
                return Statistics(self.coordinates)
            case "resampled":
                return Resampled(self.coordinates, self.frames)
        raise ConfigError(f"features: {self.features!r}: must be one of {', '.join(get_args(SequenceFeatureSet))}")

    def _sequences(self, X: Sequence[ArrayLike]) -> list[NDArray[np.float32]]:
        width = self.n_features_in_
        sequences = [frames_of(sequence, f"X[{k}]") for k, sequence in enumerate(X)]
        faults = [
            Fault(f"X[{k}]", None, "features", f"{one.shape[1]} numbers a frame, but it was fitted on {width}")
            for k, one in enumerate(sequences)
            if one.shape[1] != width
        ]
        if faults:
            raise DataError(faults)
        return sequences
