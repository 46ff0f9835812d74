"""How often a series answers each of many fixed little convolutions: features of the course of any channels.

After Dempster, Schmidt and Webb 2021, "MiniRocket": 84 kernels of nine taps, two of whose values exist, at several
dilations, over a few channels each; a feature is the share of places at which the answer is above a bias. Biases are
quantiles of the answers of training samples, so they are fitted anew for each fold.
"""

from __future__ import annotations

import threading
from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import combinations

import numpy as np
from numpy.typing import NDArray

from shared.features.arrays import Array, Inputs, const, matmul, namespace
from shared.features.graph import FeatureGraph, TensorSpec
from shared.features.sequences import resampled
from shared.learning.candidates import Rows
from shared.learning.folds import Indices

PLACES = 64  # that a series is resampled to
_TAPS, _HIGH = 9, 3
DILATIONS = (1, 2, 4)
_QUANTILES = 4  # biases of a kernel at a dilation
_FITTED_ON = 64  # samples at most whose answers biases are taken from
_AT_ONCE = 128  # samples whose answers are in memory together

WIDTH = len(DILATIONS) * 84 * _QUANTILES  # of the features
Floats = NDArray[np.float32]

KERNELS = np.full((84, _TAPS), -1.0, np.float32)
for _row, _places in enumerate(combinations(range(_TAPS), _HIGH)):
    KERNELS[_row, list(_places)] = 2.0


@dataclass(frozen=True)
class Convolutions:
    """The kernels over channels, with what was fitted: a scale for each channel and biases for each kernel."""

    scale: Floats  # (C,)
    weights: tuple[Floats, ...]  # for each dilation (9 C, 84), taps first
    biases: tuple[Floats, ...] = ()  # for each dilation (84, quantiles)

    def __call__(self, inputs: Inputs) -> Array:
        """{"sequence": (T, C)} -> (dilations * 84 * quantiles,): shares between 0 and 1."""
        series = inputs["sequence"]
        xp = namespace(series)
        places, _ = resampled(series, xp.ones_like(series), PLACES)
        parts = []
        for dilation, weights, biases in zip(DILATIONS, self.weights, self.biases, strict=True):
            answers = _answers(places * const(self.scale, series), weights, dilation)
            above = xp.expand_dims(answers, axis=2) > const(biases[None, :, :], series)
            parts.append(xp.reshape(xp.mean(xp.astype(above, series.dtype), axis=0), (-1,)))
        return xp.concat(parts, axis=0)


def _answers(places: Array, weights: Floats, dilation: int) -> Array:
    """(64, C) -> (64, 84): each kernel's answer around each place, zeros beyond the ends."""
    xp = namespace(places)
    channels = len(weights) // _TAPS  # tracing may not know the shape of `places`
    edge = xp.zeros((4 * dilation, channels), dtype=places.dtype)
    padded = xp.concat([edge, places, edge], axis=0)
    windows = xp.concat([padded[k * dilation : k * dilation + PLACES, :] for k in range(_TAPS)], axis=1)
    return matmul(windows, const(weights, places))


@dataclass(frozen=True)
class ConvolutionSource:
    """A candidate's features from convolutions whose scales and biases are fitted on the training samples alone."""

    sequences: Sequence[Floats]
    contract: tuple[TensorSpec, ...]
    name: str
    seed: int
    background: Sequence[Inputs] = ()
    _kept: dict[bytes, tuple[Convolutions, NDArray[np.uint8]]] = field(default_factory=dict, repr=False)
    _series: list[Floats] = field(default_factory=list, repr=False)
    _lock: threading.Lock = field(default_factory=threading.Lock, repr=False)

    @property
    def fitted(self) -> bool:
        """Return that features depend on the training samples."""
        return True

    def rows(self, train: Indices) -> Rows:
        """Return the features of all samples, with what is fitted fitted on `train`."""
        if len(train) == len(self.sequences):  # the model that is shipped: what its graph says, to the last bit
            base = np.stack(list(self.graph(train).run([{"sequence": s} for s in self.sequences])))
        else:
            base = self._fitted(train)[1][: len(self.sequences)].astype(np.float32) / PLACES
        background = np.asarray(self._fitted(train)[1][len(self.sequences) :] / PLACES, np.float32)
        empty = np.zeros((0, base.shape[1]), np.float32)
        return Rows(np.asarray(base, np.float32), empty, np.zeros(0, np.int64), background)

    def graph(self, train: Indices) -> FeatureGraph:
        """Return the traced features, fitted on `train`."""
        return FeatureGraph(self.name, self.contract, self._fitted(train)[0])

    def _fitted(self, train: Indices) -> tuple[Convolutions, NDArray[np.uint8]]:
        key = np.sort(train).tobytes()
        kept = self._kept.get(key)
        if kept is None:
            series = self._all_series()
            fitted = fit_convolutions(series[np.sort(train)], self.seed)
            kept = self._kept[key] = (fitted, _counts(series, fitted))
        return kept

    def _all_series(self) -> Floats:
        with self._lock:
            if not self._series:
                every = [*self.sequences, *(inputs["sequence"] for inputs in self.background)]
                made = [resampled(s, np.ones_like(s), PLACES)[0] for s in every]
                self._series.append(np.stack(made).astype(np.float32))
            return self._series[0]


def seconds_per_sample(channels: int) -> float:
    """Return what fitting and computing the features takes for each sample, estimated, in seconds of a core."""
    return len(DILATIONS) * 84 * PLACES * (_TAPS * channels * 0.07e-9 + 2e-9)


def fit_convolutions(series: Floats, seed: int) -> Convolutions:
    """Return the kernels for series (n, 64, C): scales that make a channel's deviation 1, biases at even quantiles."""
    rng = np.random.default_rng(seed)
    channels = series.shape[2]
    deviation = series.std(axis=(0, 1), dtype=np.float64)
    scale = (1.0 / np.maximum(deviation, 1e-6 * max(float(deviation.max(initial=0.0)), 1e-6))).astype(np.float32)
    scale[deviation < 1e-12] = 0.0
    most = np.log2(min(channels, _TAPS) + 1)
    weights = []
    for _ in DILATIONS:
        mixing = np.zeros((len(KERNELS), channels), np.float32)
        for row in mixing:
            row[rng.choice(channels, size=min(channels, int(2 ** rng.uniform(0, most))), replace=False)] = 1.0
        weights.append((KERNELS[:, :, None] * mixing[:, None, :]).reshape(len(KERNELS), -1).T.copy())
    some = series[np.unique(np.linspace(0, len(series) - 1, min(len(series), _FITTED_ON)).astype(np.int64))] * scale
    shares = (np.arange(_QUANTILES) + 0.5) / _QUANTILES
    biases = [
        np.quantile(_all_answers(some, w, d).reshape(-1, len(KERNELS)), shares, axis=0).T.astype(np.float32)
        for d, w in zip(DILATIONS, weights, strict=True)
    ]
    return Convolutions(scale, tuple(weights), tuple(biases))


def _counts(series: Floats, fitted: Convolutions) -> NDArray[np.uint8]:
    """(n, 64, C) -> (n, F) uint8: at how many places each answer is above its bias."""
    parts = []
    for start in range(0, len(series), _AT_ONCE):
        some = series[start : start + _AT_ONCE] * fitted.scale
        columns = []
        for dilation, weights, biases in zip(DILATIONS, fitted.weights, fitted.biases, strict=True):
            answers = _all_answers(some, weights, dilation)
            above = [np.count_nonzero(answers > bias, axis=1).astype(np.uint8) for bias in biases.T]
            columns.append(np.stack(above, axis=2).reshape(len(some), -1))
        parts.append(np.concatenate(columns, axis=1))
    return np.concatenate(parts)


def _all_answers(series: Floats, weights: Floats, dilation: int) -> Floats:
    """(n, 64, C) -> (n, 64, 84)."""
    padded = np.pad(series, ((0, 0), (4 * dilation, 4 * dilation), (0, 0)))
    windows = np.concatenate([padded[:, k * dilation : k * dilation + PLACES] for k in range(_TAPS)], axis=2)
    return np.asarray(windows @ weights, np.float32)
