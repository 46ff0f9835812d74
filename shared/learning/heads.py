"""Classifier heads: fitted with NumPy and SciPy, applied as a few Array API lines that are also their ONNX graph.

A head maps features (n, D) float32 to logits (n, K) float32. A fitter returns a head from features, class
indices and the number of classes K; a class without a sample in this fold gets a logit that never wins.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from shared.features.arrays import Array, const, floored, half, halved, matmul, namespace, unit_rows
from shared.learning.folds import Indices

Features = NDArray[np.float32]
Classes = NDArray[np.int64]
ABSENT = -1e4  # the logit of a class that the fold has no sample of
LANDMARK_NUMBERS = 900_000  # at most so many half-precision numbers of landmarks: 1.8 MB


class Head(Protocol):
    """A fitted classifier: features (n, D) float32 -> logits (n, K) float32."""

    def __call__(self, features: Array, /) -> Array: ...


Fitter = Callable[[Features, Classes, int], Head]
FitOnSubset = Callable[[Indices, Classes, int], Head]  # numbers of rows (m,) that are known, their classes (m,), K


@dataclass(frozen=True)
class Linear:
    """Affine logits: features @ weights (D, K) + bias (K,)."""

    weights: Features
    bias: Features

    def __call__(self, features: Array) -> Array:
        return matmul(features, const(self.weights, features)) + const(self.bias, features)


@dataclass(frozen=True)
class Prototypes:
    """Cosine to each class's prototype (K, D), a row of zeros for a class without one."""

    centre: Features
    scale: Features
    prototypes: Features
    sharpness: float = 10.0

    def __call__(self, features: Array) -> Array:
        moved = (features - const(self.centre, features)) * const(self.scale, features)
        cosine = matmul(unit_rows(moved), const(self.prototypes.T, features))
        absent = np.where(np.any(self.prototypes, axis=1), 0.0, ABSENT)
        return cosine * const(self.sharpness, features) + const(absent, features)


@dataclass(frozen=True)
class Kernel:
    """Linear logits over an RBF kernel to landmarks (M, D), in scaled feature space (Nystroem).

    Landmarks that are `halved` are kept in half precision in the graph; others, with `half` false, as they are.
    """

    scale: Features
    landmarks: Features
    gamma: float
    linear: Linear
    half: bool = True

    def __call__(self, features: Array) -> Array:
        xp = namespace(features)
        scaled = features * const(self.scale, features)
        squares = const(np.sum(self.landmarks**2, axis=1), features)
        distance = xp.sum(scaled * scaled, axis=1, keepdims=True) + squares
        marks = (half if self.half else const)(self.landmarks.T, features)
        distance = distance - 2.0 * matmul(scaled, marks)
        return self.linear(xp.exp(floored(distance, 0.0) * const(-self.gamma, features)))


@dataclass(frozen=True)
class SoftplusLogits:
    """Logits of a regression to class indicators: the logarithm of its values, smoothly kept above zero.

    Ten times a value passes a softplus, so that classes whose value is about zero hardly count. With the factor of
    three the softmax is about as sure as it is right.
    """

    values: Linear | Kernel

    def __call__(self, features: Array) -> Array:
        xp = namespace(features)
        raised = floored(self.values(features) * 10.0 - 1.0, -8.0)  # float32 tells 1 + exp(-8) from 1
        return xp.log(xp.log(xp.exp(raised) + 1.0)) * 3.0


def fit_lda(features: Features, classes: Classes, count: int) -> Head:
    """Linear discriminant analysis with one Ledoit-Wolf covariance pooled over all classes and equal priors.

    Pooled before shrinking, unlike scikit-learn's per-class estimate, which degenerates at two samples a
    class. Equal priors: how often a carer recorded a label says little of how often it is meant. Where features
    outnumber samples, the system is solved over the samples' inner products (Woodbury's identity).
    """
    present, mean, scale, scaled = _standardised(features, classes)
    centres = np.stack([scaled[classes == k].mean(axis=0) for k in present])
    residuals = scaled - centres[np.searchsorted(present, classes)]
    samples, width = residuals.shape
    inner = residuals @ residuals.T if width > samples else residuals.T @ residuals
    shrinkage, variance = ledoit_wolf(residuals, inner)
    degrees = max(samples - len(present), 1)  # each class mean costs one
    part, ridge = (1 - shrinkage) / degrees, shrinkage * variance * samples / degrees + 1e-6
    system = part * inner
    system[np.diag_indices_from(system)] += ridge
    if width > samples:
        dual = np.linalg.solve(system, residuals @ centres.T)
        weights = (centres.T - part * (residuals.T @ dual)) / ridge
    else:
        weights = np.linalg.solve(system, centres.T)
    bias = -0.5 * np.sum(centres * weights.T, axis=1)
    return _linear(weights, bias, mean, scale, present, count)


def ledoit_wolf(residuals: NDArray[np.float64], inner: NDArray[np.float64] | None = None) -> tuple[float, float]:
    """Return the shrinkage and the mean variance of centred rows (n, D); `inner` are their inner products, if known.

    Ledoit and Wolf 2004, "A well-conditioned estimator for large-dimensional covariance matrices": every term
    is a sum over inner products of rows, or of columns.
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


def gram_factor(features: Features) -> Features:
    """Return (n, r) float32, r at most n, whose rows have the inner products of rows (n, D), n < D.

    That is Cholesky's root of these, or, where rows depend on each other, one in orthonormal axes of their span.
    """
    gram = (features @ features.T).astype(np.float64)
    try:
        return np.linalg.cholesky(gram).astype(np.float32)
    except np.linalg.LinAlgError:
        values, vectors = np.linalg.eigh(gram)
        kept = values > 1e-7 * max(float(values[-1]), 1e-12)
        return np.asarray(vectors[:, kept] * np.sqrt(values[kept]), np.float32)


def fit_ridge(features: Features, classes: Classes, count: int) -> Head:
    """Ridge regression to class indicators, classes weighted equally; its strength chosen by leave-one-out error.

    Solved in the dual when there are more features than samples. Leave-one-out residuals of ridge come in
    closed form (Golub, Heath and Wahba 1979).
    """
    present, mean, scale, scaled = _standardised(features, classes)
    targets = (classes[:, None] == present[None, :]).astype(np.float64) * 2 - 1
    weight = 1 / np.sqrt(np.bincount(classes, minlength=count)[classes] * len(present) / len(classes))
    rows, goal = scaled * weight[:, None], targets * weight[:, None]
    columns = np.concatenate([rows, weight[:, None]], axis=1)  # the last column is the intercept
    values, vectors = np.linalg.eigh(columns @ columns.T)
    values = np.maximum(values, 0.0)
    rotated = vectors.T @ goal
    best, chosen = np.inf, np.zeros_like(goal)
    for alpha in np.geomspace(1e-3, 10, 9) * max(values.mean(), 1e-12) * 10:
        shrunk = 1 / (values + alpha)
        dual = vectors @ (shrunk[:, None] * rotated)
        left_out = dual / np.einsum("ij,j,ij->i", vectors, shrunk, vectors)[:, None]
        error = float(np.sum(left_out**2))
        if error < best:
            best, chosen = error, dual
    solution = columns.T @ chosen
    return _linear(solution[:-1] * 4, solution[-1] * 4, mean, scale, present, count)


def fit_logistic(c: float = 10.0, standardise: bool = False) -> Fitter:
    """Multinomial logistic regression, classes weighted equally; `c` is the inverse strength of its penalty."""

    def fit(features: Features, classes: Classes, count: int) -> Head:
        if standardise:
            present, mean, scale, rows = _standardised(features, classes)
        else:
            present, mean, scale = np.unique(classes), np.zeros(features.shape[1]), np.ones(features.shape[1])
            rows = features
        if len(present) == 1:
            return _linear(np.zeros((features.shape[1], 1)), np.zeros(1), mean, scale, present, count)
        weights, bias = _multinomial(rows, np.searchsorted(present, classes), c)
        return _linear(weights, bias, mean, scale, present, count)

    return fit


def _multinomial(rows: Any, member: Classes, c: float) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return weights (D, P) and bias (P,) of a logistic regression of rows (n, D) on classes 0..P-1, all present.

    The objective, the weights and the end of the search are those of scikit-learn's `LogisticRegression` with
    `class_weight="balanced"` (of two classes one column is searched for), and so is the solution; importing that takes
    longer than training a small model.
    """
    from scipy.optimize import minimize

    samples, width = rows.shape
    share = np.bincount(member)
    weight = 1.0 / (len(share) * share[member])
    penalty, columns = 1.0 / (c * samples), len(share) if len(share) > 2 else 1
    wide, place = rows.astype(np.float64), np.arange(samples)

    def loss(flat: NDArray[np.float64]) -> tuple[float, NDArray[np.float64]]:
        weights, bias = np.split(flat.reshape(width + 1, columns), [width])
        logits = np.asarray(wide @ weights) + bias
        if columns == 1:
            logits = np.concatenate([np.zeros_like(logits), logits], axis=1)
        logits -= logits.max(axis=1, keepdims=True)
        own, chances = logits[place, member], np.exp(logits)
        total = chances.sum(axis=1)
        chances /= total[:, None]
        chances[place, member] -= 1.0
        slope = chances[:, -columns:] * weight[:, None]
        value = float(weight @ (np.log(total) - own)) + 0.5 * penalty * float(np.sum(weights**2))
        down = np.asarray(wide.T @ slope) + penalty * weights
        return value, np.concatenate([down, slope.sum(axis=0, keepdims=True)]).ravel()

    options = {"maxiter": 300, "maxls": 50, "gtol": 1e-3, "ftol": 64 * np.finfo(np.float64).eps}
    found = minimize(loss, np.zeros((width + 1) * columns), jac=True, method="L-BFGS-B", options=options)
    solution = found.x.reshape(width + 1, columns)
    if columns == 1:
        solution = np.concatenate([-solution, solution], axis=1) / 2
    return solution[:-1], solution[-1]


def fit_prototypes(standardise: bool = True) -> Fitter:
    """Cosine to the mean of each class after centring: what can be learnt from one or two samples a label."""

    def fit(features: Features, classes: Classes, count: int) -> Head:
        present, mean, scale, scaled = _standardised(features, classes)
        if not standardise:
            scale, scaled = np.ones_like(scale), features - mean
        prototypes = np.zeros((count, scaled.shape[1]), np.float32)
        prototypes[present] = unit_rows(np.stack([scaled[classes == k].mean(axis=0) for k in present]))
        return Prototypes(mean.astype(np.float32), (1 / scale).astype(np.float32), prototypes)

    return fit


def fit_kernel(landmarks: int = 200, c: float = 10.0, seed: int = 0) -> Fitter:
    """Logistic regression over an RBF kernel to landmarks; its width is the median distance between samples."""

    def fit(features: Features, classes: Classes, count: int) -> Head:
        rng = np.random.default_rng(seed)
        _, _, scale, _ = _standardised(features, classes)
        inverse = (1 / scale).astype(np.float32)
        chosen = np.sort(rng.permutation(len(features))[:landmarks])
        marks = (features[chosen] * inverse).astype(np.float32)
        distance = np.sum((marks[:, None, :] - marks[None, :64, :]) ** 2, axis=2)
        gamma = 1.0 / max(float(np.median(distance[distance > 0])) if (distance > 0).any() else 1.0, 1e-6)
        empty = Linear(np.eye(len(marks), dtype=np.float32), np.zeros(len(marks), np.float32))
        kernel = Kernel(inverse, marks, gamma, empty, half=False)
        linear = fit_logistic(c)(np.asarray(kernel(features), np.float32), classes, count)
        assert isinstance(linear, Linear)
        return Kernel(inverse, marks, gamma, linear, half=False)

    return fit


@dataclass(frozen=True)
class KernelRidge:
    """Ridge regression to class indicators over an RBF kernel as wide as the rows are long, classes weighted equally.

    For rows of one length, such as joined sentence embeddings: directions are compared, and nothing has to be searched
    for. Every sample is a landmark while these are at most `numbers` numbers; of more samples an even choice is
    (Nystroem's method: Williams and Seeger 2001).
    """

    penalty: float = 0.1
    numbers: int = LANDMARK_NUMBERS

    def __call__(self, features: Features, classes: Classes, count: int) -> Head:
        """Fit on features (n, D) of `classes` (n,)."""
        everything = np.arange(len(features))
        if (fit := self.among(features)) is not None:
            return fit(everything, classes, count)
        present, targets, weight = _indicators(classes, count)
        most = max(self.numbers // features.shape[1], len(present))
        chosen = np.unique(np.linspace(0, len(features) - 1, min(len(features), most)).astype(np.int64))
        marks = halved(features[chosen])
        squares = np.einsum("nd,nd->n", marks, marks)
        gamma = _width(squares)
        kernel = _gaussian(features @ marks.T, np.einsum("nd,nd->n", features, features), squares, gamma)
        system = kernel.T @ (kernel * weight[:, None]) + self.penalty * kernel[chosen]
        system[np.diag_indices_from(system)] += 1e-6 * len(features)
        solution = np.linalg.solve(system, kernel.T @ (targets * weight[:, None]))
        return _kernel_head(marks, gamma, _shares(solution, present, count))

    def among(self, features: Features) -> FitOnSubset | None:
        """Return what fits on some of the rows (n, D), by their numbers; None if they are too many landmarks.

        The inner products, which take longest, are computed once for all fits.
        """
        if features.size > self.numbers:
            return None
        marks = halved(features)
        inner = marks @ marks.T
        squares = np.diag(inner)

        def fit(chosen: Indices, classes: Classes, count: int) -> Head:
            present, targets, weight = _indicators(classes, count)
            own = squares[chosen]
            gamma = _width(own)
            system = _gaussian(inner[np.ix_(chosen, chosen)], own, own, gamma)
            system[np.diag_indices_from(system)] += self.penalty / weight
            solution = np.linalg.solve(system, targets)
            return _kernel_head(marks[chosen], gamma, _shares(solution, present, count))

        return fit


def _width(squares: Features) -> float:
    return 1.0 / max(float(np.mean(squares)), 1e-6)


def _gaussian(inner: Features, a: Features, b: Features, gamma: float) -> NDArray[np.float64]:
    """Return exp(-gamma times the square distance) (n, m) of rows with `inner` products and squares (n,) and (m,)."""
    near = inner * (2.0 * gamma) - gamma * a[:, None] - gamma * b
    return np.asarray(np.exp(np.minimum(near, 0.0, out=near), out=near), np.float64)


def _kernel_head(marks: Features, gamma: float, linear: Linear) -> Head:
    return SoftplusLogits(Kernel(np.ones(marks.shape[1], np.float32), marks, gamma, linear))


def fit_linear_ridge(penalty: float = 0.3) -> Fitter:
    """Ridge regression to class indicators, classes weighted equally, for rows that are wide, sparse and of one length.

    It is solved over the samples' inner products.
    """

    def fit(features: Features, classes: Classes, count: int) -> Head:
        present, targets, weight = _indicators(classes, count)
        system = (features @ features.T).astype(np.float64)
        system[np.diag_indices_from(system)] += penalty / weight
        solution = np.linalg.solve(system, targets)
        return SoftplusLogits(_shares(np.asarray(features.T @ solution.astype(np.float32)), present, count))

    return fit


def _indicators(classes: Classes, count: int) -> tuple[Classes, NDArray[np.float64], NDArray[np.float64]]:
    """Return the classes present (P,), centred indicators (n, P), and weights (n,) that make classes equal."""
    present = np.unique(classes)
    weight = len(classes) / (len(present) * np.bincount(classes, minlength=count)[classes])
    return present, (classes[:, None] == present[None, :]) - 1.0 / len(present), weight


def _shares(solution: NDArray[Any], present: Classes, count: int) -> Linear:
    """Return the linear map (M, P) to centred indicators as one to the shares of all `count` classes."""
    weights, bias = np.zeros((len(solution), count), np.float32), np.full(count, ABSENT, np.float32)
    weights[:, present], bias[present] = solution, 1.0 / len(present)
    return Linear(weights, bias)


def _standardised(features: Features, classes: Classes) -> tuple[Classes, NDArray, NDArray, NDArray]:  # type: ignore[type-arg]
    """Return the classes present, mean (D,), scale (D,) and the standardised features (n, D), all in float64."""
    wide = features.astype(np.float64)
    mean = wide.mean(axis=0)
    scale = wide.std(axis=0)
    scale[scale < 1e-6 * max(float(scale.max(initial=0.0)), 1e-6)] = 1.0
    return np.unique(classes), mean, scale, (wide - mean) / scale


def _linear(
    weights: NDArray[Any],
    bias: NDArray[Any],
    mean: NDArray[np.float64],
    scale: NDArray[np.float64],
    present: Classes,
    count: int,
) -> Linear:
    """Fold the standardisation into one product, and give the classes of `present` their places among `count`."""
    all_weights, all_bias = np.zeros((len(mean), count)), np.full(count, ABSENT)
    all_weights[:, present] = weights / scale[:, None]
    all_bias[present] = bias - mean @ all_weights[:, present]
    return Linear(all_weights.astype(np.float32), all_bias.astype(np.float32))
