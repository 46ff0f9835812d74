"""Fitted classifiers as functions that compute with NumPy and are traced to ONNX alike.

A head maps features (n, D) float32 to logits (n, K) float32. `fit_classifier` fits an estimator and returns its head; a
class without a sample among the training rows gets a logit that never wins. Linear models, kernels and distances are a
few Array API lines; forests, boosting, networks and support vectors go to ONNX through skl2onnx.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from shared.features.arrays import (
    Array,
    compute_or_inline,
    const,
    floored,
    half,
    halved,
    matmul,
    namespace,
    section,
    unit_rows,
)
from shared.learning import classifiers
from shared.learning.classifiers import ClassifierConfig
from shared.learning.folds import Indices

Features = NDArray[np.float32]
Classes = NDArray[np.int64]
ABSENT = -1e9  # the logit of a class that the fold has no sample of; a float32 holds it exactly
_LEAST = 1e-3  # the least probability of a class that an estimator gives, so that logits stay finite
_NEIGHBOUR_NUMBERS = 1_400_000  # at most so many half-precision numbers of stored samples: 2.8 MB


class Head(Protocol):
    """A fitted classifier: features (n, D) float32 -> logits (n, K) float32."""

    def __call__(self, features: Array, /) -> Array: ...


Fitter = Callable[[Features, Classes, int], Head]  # features (n, D), classes (n,), K
FitOnSubset = Callable[[Indices, Classes, int], Head]  # numbers of rows (m,) that are known, their classes (m,), K


@dataclass(frozen=True)
class Linear:
    """Affine logits: features @ weights (D, K) + bias (K,)."""

    weights: Features
    bias: Features

    def __call__(self, features: Array) -> Array:
        return matmul(features, const(self.weights, features)) + const(self.bias, features)


@dataclass(frozen=True)
class Standardized:
    """Another head on (features - mean (D,)) * scale (D,)."""

    mean: Features
    scale: Features
    head: Head

    def __call__(self, features: Array) -> Array:
        return self.head((features - const(self.mean, features)) * const(self.scale, features))


@dataclass(frozen=True)
class Cosines:
    """Cosine to each class's centroid (K, D) after centring, times `sharpness`; zeros for a class without one."""

    mean: Features
    centroids: Features
    sharpness: float = 10.0

    def __call__(self, features: Array) -> Array:
        cosine = matmul(unit_rows(features - const(self.mean, features)), const(self.centroids.T, features))
        absent = np.where(np.any(self.centroids, axis=1), 0.0, ABSENT)
        return cosine * const(self.sharpness, features) + const(absent, features)


@dataclass(frozen=True)
class ManhattanDistances:
    """Minus the Manhattan distance to each class's centroid (K, D), in units of `scale`, plus `absent` (K,)."""

    centroids: Features
    scale: float
    absent: Features

    def __call__(self, features: Array) -> Array:
        xp = namespace(features)
        off = xp.expand_dims(features, axis=1) - const(self.centroids[None], features)
        return xp.sum(xp.abs(off), axis=2) * const(-1.0 / self.scale, features) + const(self.absent, features)


@dataclass(frozen=True)
class Gaussian:
    """Linear logits over an RBF kernel to landmarks (M, D), kept in half precision in the graph."""

    landmarks: Features
    gamma: float
    linear: Linear

    def __call__(self, features: Array) -> Array:
        xp = namespace(features)
        squares = const(np.sum(self.landmarks**2, axis=1), features)
        distance = xp.sum(features * features, axis=1, keepdims=True) + squares
        distance = distance - 2.0 * matmul(features, half(self.landmarks.T, features))
        return self.linear(xp.exp(floored(distance, 0.0) * const(-self.gamma, features)))


@dataclass(frozen=True)
class SoftplusLogits:
    """Logits of a regression to class indicators: the logarithm of its values, smoothly kept above zero.

    Ten times a value passes a softplus, so that classes whose value is about zero hardly count. With the factor of
    three the softmax is about as sure as it is right.
    """

    values: Linear | Gaussian

    def __call__(self, features: Array) -> Array:
        xp = namespace(features)
        raised = floored(self.values(features) * 10.0 - 1.0, -8.0)  # float32 tells 1 + exp(-8) from 1
        return xp.log(xp.log(xp.exp(raised) + 1.0)) * 3.0


@dataclass(frozen=True)
class Neighbors:
    """Log share of each class among the nearest stored samples (M, D) of classes `member` (M, K), one-hot.

    Distances are compared in double precision, so that graph and training agree which sample is the last one; all that
    lie equally far count.
    """

    samples: Features
    member: Features
    nearest: int
    by_distance: bool
    cosine: bool

    def __call__(self, features: Array) -> Array:
        xp = namespace(features)
        wide = xp.astype(unit_rows(features) if self.cosine else features, xp.float64)
        stored = xp.astype(half(self.samples.T, features), xp.float64)
        squares = const(np.sum(self.samples.astype(np.float64) ** 2, axis=1), wide)
        square = xp.sum(wide * wide, axis=1, keepdims=True) - 2.0 * matmul(wide, stored) + squares
        square = floored(square, 1e-12)
        last = section(xp.sort(square, axis=1), self.nearest - 1, self.nearest, axis=1)
        weight = xp.astype(square <= last * 1.000000001, xp.float64)
        if self.by_distance:
            weight = weight / xp.sqrt(square)
        votes = xp.astype(matmul(weight, const(self.member, wide)), xp.float32)
        absent = np.where(np.any(self.member, axis=0), 0.0, ABSENT)
        share = votes / xp.sum(votes, axis=1, keepdims=True)
        return xp.log(share * const(1 - _LEAST * self.member.shape[1], share) + const(_LEAST, share)) + const(
            absent, share
        )


@dataclass(frozen=True)
class Estimator:
    """A fitted estimator of scikit-learn: its own outputs (n, P) now, those of its ONNX model while tracing.

    `classes` are the places of its P outputs among K logits. Probabilities become logarithms.
    """

    fitted: Any
    width: int
    classes: Classes
    count: int
    probabilities: bool

    def __call__(self, features: Array) -> Array:
        xp = namespace(features)
        found = compute_or_inline(features, self._outputs, lambda: self.model, "probabilities")
        if self.probabilities:
            found = xp.log(found * const(1 - _LEAST * len(self.classes), found) + const(_LEAST, found))
        places, absent = np.eye(self.count)[self.classes], np.full(self.count, ABSENT)
        absent[self.classes] = 0.0
        return matmul(found, const(places, features)) + const(absent, features)

    def _outputs(self, features: Features) -> Features:
        """Return what the estimator says of features (n, D), (n, P) float32."""
        if self.probabilities:
            return np.asarray(self.fitted.predict_proba(features), np.float32)
        values = np.asarray(self.fitted.decision_function(features), np.float32)
        return np.stack([-values, values], axis=1) if values.ndim == 1 else values

    @cached_property
    def model(self) -> bytes:
        """The estimator's ONNX model: features (n, D) float32 -> probabilities (n, P) float32."""
        warnings.filterwarnings("ignore", "Attribute `prob[AB]_` was deprecated", FutureWarning)  # skl2onnx reads them
        from skl2onnx import to_onnx
        from skl2onnx.common.data_types import FloatTensorType

        options = {"zipmap": False} | ({} if self.probabilities else {"raw_scores": True})
        types: Any = [("features", FloatTensorType([None, self.width]))]
        converted: Any = to_onnx(
            self.fitted,
            initial_types=types,
            target_opset={"": 21, "ai.onnx.ml": 3},
            options={id(self.fitted): options},
        )
        return bytes(converted.SerializeToString(deterministic=True))


def fit_classifier(config: ClassifierConfig, features: Features, classes: Classes, count: int, seed: int = 0) -> Head:
    """Fit the configured classifier on features (n, D) of `classes` (n,) among `count` classes; return its head."""
    present = np.unique(classes)
    if len(present) == 1:  # most estimators refuse a single class
        return Linear(np.zeros((features.shape[1], count), np.float32), _absent(present, count))
    convert = _HEADS[type(config)]
    if config.scaler == "none":
        return convert(_fitted(config, features, classes, seed), features, classes, count)
    mean, scale = standardization(features)
    scaled = (features - mean) / scale
    head = convert(_fitted(config, scaled, classes, seed), scaled, classes, count)
    if isinstance(head, Linear):
        weights = head.weights / scale[:, None]
        return Linear(weights.astype(np.float32), (head.bias - mean @ weights).astype(np.float32))
    return Standardized(mean.astype(np.float32), (1 / scale).astype(np.float32), head)


def fitter(config: ClassifierConfig, seed: int = 0) -> Fitter:
    """Return what fits the configured classifier."""

    def fit(features: Features, classes: Classes, count: int) -> Head:
        return fit_classifier(config, features, classes, count, seed)

    return fit


def subset_fitter(config: ClassifierConfig, features: Features) -> FitOnSubset | None:
    """Return what fits on some rows of features (n, D), sharing what all fits have in common; None if nothing is."""
    if not isinstance(config, classifiers.KernelRidge | classifiers.LDA) or config.scaler != "none":
        return None
    estimator: Any = config.estimator(len(features), 0, 0)
    fit_on_subset = estimator.fit_on_subset(features)
    if fit_on_subset is None:
        return None

    def fit(chosen: Indices, classes: Classes, count: int) -> Head:
        if len(np.unique(classes)) == 1:
            return fit_classifier(config, features[chosen], classes, count)
        return _HEADS[type(config)](fit_on_subset(chosen, classes), features[chosen], classes, count)

    return fit


def standardization(features: Features) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """(n, D) -> mean (D,) and scale (D,) by scikit-learn's StandardScaler, in double precision.

    A feature that varies by a millionth of the most variable one at most keeps its scale: what rounding did to it would
    be magnified.
    """
    from sklearn.preprocessing import StandardScaler

    scaler: Any = StandardScaler().fit(features.astype(np.float64))
    scale: NDArray[np.float64] = scaler.scale_.copy()
    deviation = np.sqrt(scaler.var_)
    scale[deviation < 1e-6 * max(float(deviation.max(initial=0.0)), 1e-6)] = 1.0
    return scaler.mean_, scale


def gram_factor(features: Features) -> Features:
    """Return (n, n) float32 whose rows have the inner products of rows (n, D), n < D: Cholesky's root of these.

    A ten-millionth of the mean square length is added to each square length, as rows may depend on each other.
    """
    rows = features.astype(np.float64)  # rounding must not exceed what is added
    gram = rows @ rows.T
    gram[np.diag_indices_from(gram)] += max(1e-7 * float(np.trace(gram)) / len(gram), 1e-12)
    return np.linalg.cholesky(gram).astype(np.float32)


def _fitted(config: ClassifierConfig, features: NDArray[Any], classes: Classes, seed: int) -> Any:
    warnings.filterwarnings("ignore", module=r"sklearn\.")  # the session-wise figures say what comes of it
    warnings.filterwarnings("ignore", "The number of unique classes")  # the same, where our own classifiers check
    estimator: Any = config.estimator(len(features), len(np.unique(classes)), seed)
    return estimator.fit(features, classes)


def _absent(present: Classes, count: int) -> Features:
    """Return biases (count,) that keep every class but those `present` from winning."""
    bias = np.full(count, ABSENT, np.float32)
    bias[present] = 0.0
    return bias


def _places(values: NDArray[Any], present: Classes, count: int) -> Features:
    """(…, P) -> (…, count) float32: columns at the places of the classes that are present, zeros elsewhere."""
    wide = np.zeros((*values.shape[:-1], count), np.float32)
    wide[..., present] = values
    return wide


def _linear(fitted: Any, features: NDArray[Any], classes: Classes, count: int, sharpness: float = 1.0) -> Head:
    weights, bias = np.atleast_2d(fitted.coef_).T, np.atleast_1d(fitted.intercept_)
    if weights.shape[1] == 1:  # two classes, one decision function
        weights, bias = np.concatenate([-weights, weights], axis=1) / 2, np.concatenate([-bias, bias]) / 2
    present = fitted.classes_
    return Linear(
        _places(weights * sharpness, present, count),
        _places(bias * sharpness, present, count) + _absent(present, count),
    )


def _ridge(fitted: Any, features: NDArray[Any], classes: Classes, count: int) -> Head:
    return _linear(
        fitted, features, classes, count, 4.0 if len(fitted.classes_) > 2 else 8.0
    )  # indicators are -1 and 1


def _kernel_ridge(fitted: Any, features: NDArray[Any], classes: Classes, count: int) -> Head:
    present = fitted.classes_
    bias = _places(np.full(len(present), 1.0 / len(present)), present, count) + _absent(present, count)
    if fitted.kernel == "linear":
        return SoftplusLogits(Linear(_places(fitted.coef_, present, count), bias))
    linear = Linear(_places(fitted.dual_coef_, present, count), bias)
    return SoftplusLogits(Gaussian(fitted.landmarks_, fitted.gamma_, linear))


def _nearest_centroid(fitted: Any, features: NDArray[Any], classes: Classes, count: int) -> Head:
    present = fitted.classes_
    if not hasattr(fitted, "metric"):
        centroids = np.zeros((count, features.shape[1]), np.float32)
        centroids[present] = fitted.centroids_
        return Cosines(fitted.mean_.astype(np.float32), centroids)
    own = fitted.centroids_[np.searchsorted(present, classes)]
    if fitted.metric == "manhattan":
        centroids = np.zeros((count, features.shape[1]), np.float32)
        centroids[present] = fitted.centroids_
        scale = float(np.mean(np.sum(np.abs(features - own), axis=1)))
        return ManhattanDistances(centroids, max(scale, 1e-6), _absent(present, count))
    # Half the square distance is affine in the features, but for what all classes have in common.
    sharpness = 1.0 / max(float(np.mean(np.sum((features - own) ** 2, axis=1))), 1e-6)
    bias = -0.5 * np.sum(fitted.centroids_**2, axis=1) * sharpness
    return Linear(
        _places(fitted.centroids_.T * sharpness, present, count),
        _places(bias, present, count) + _absent(present, count),
    )


def _nearest_neighbors(fitted: Any, features: NDArray[Any], classes: Classes, count: int) -> Head:
    most = max(_NEIGHBOUR_NUMBERS // features.shape[1], fitted.n_neighbors)
    kept = np.unique(np.linspace(0, len(features) - 1, min(len(features), most)).astype(np.int64))
    samples = features[kept].astype(np.float32)
    cosine = fitted.metric == "cosine"
    member = np.eye(count, dtype=np.float32)[classes[kept]]
    stored = halved(unit_rows(samples) if cosine else samples)
    return Neighbors(stored, member, fitted.n_neighbors, fitted.weights == "distance", cosine)


def _probabilities(fitted: Any, features: NDArray[Any], classes: Classes, count: int) -> Head:
    return Estimator(fitted, features.shape[1], fitted.classes_, count, probabilities=True)


def _scores(fitted: Any, features: NDArray[Any], classes: Classes, count: int) -> Head:
    return Estimator(fitted, features.shape[1], fitted.classes_, count, probabilities=False)


_HEADS: Mapping[type[ClassifierConfig], Callable[[Any, NDArray[Any], Classes, int], Head]] = {
    classifiers.LDA: _linear,
    classifiers.LogisticRegression: _linear,
    classifiers.Ridge: _ridge,
    classifiers.KernelRidge: _kernel_ridge,
    classifiers.SVM: _scores,
    classifiers.NearestNeighbors: _nearest_neighbors,
    classifiers.NearestCentroid: _nearest_centroid,
    classifiers.RandomForest: _probabilities,
    classifiers.ExtraTrees: _probabilities,
    classifiers.GradientBoosting: _probabilities,
    classifiers.MLP: _probabilities,
}
