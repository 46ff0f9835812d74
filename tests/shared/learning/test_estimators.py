"""Our own classifiers are scikit-learn estimators, and what they are said to be."""

from typing import Any

import numpy as np
import pytest
from sklearn.base import BaseEstimator
from sklearn.covariance import ledoit_wolf_shrinkage
from sklearn.discriminant_analysis import LinearDiscriminantAnalysis
from sklearn.kernel_ridge import KernelRidge
from sklearn.utils.estimator_checks import check_estimator

from shared.learning.cosine_centroid import CosineCentroidClassifier
from shared.learning.kernel_ridge import KernelRidgeClassifier
from shared.learning.pooled_lda import PooledShrinkageLDA, ledoit_wolf

OWN = (
    PooledShrinkageLDA(),
    PooledShrinkageLDA(shrinkage=0.5),
    KernelRidgeClassifier(),
    KernelRidgeClassifier(kernel="rbf"),
    CosineCentroidClassifier(),
)


@pytest.mark.filterwarnings("ignore::sklearn.exceptions.SkipTestWarning")
@pytest.mark.parametrize("estimator", OWN, ids=repr)
def test_scikit_learns_checks_pass(estimator: BaseEstimator) -> None:
    results = check_estimator(estimator, on_fail=None)
    assert len(results) > 40
    assert [r["check_name"] for r in results if r["status"] == "failed"] == []


def _blobs(per_class: int, width: int = 6, seed: int = 0, spread: float = 2.0) -> tuple[np.ndarray, np.ndarray]:
    y = np.arange(3 * per_class) % 3
    centres = np.random.default_rng(7).normal(size=(3, width)) * spread
    return centres[y] + np.random.default_rng(seed).normal(size=(len(y), width)), y


def test_pooled_lda_agrees_with_scikit_learn_where_shrinkage_hardly_matters() -> None:
    (x, y), (fresh, _) = _blobs(200), _blobs(50, seed=5)
    theirs = LinearDiscriminantAnalysis(priors=[1 / 3] * 3).fit(x, y).predict(fresh)
    assert (PooledShrinkageLDA().fit(x, y).predict(fresh) == theirs).mean() > 0.98


def test_pooled_lda_holds_where_each_class_has_two_samples() -> None:
    (x, y), (fresh, truth) = _blobs(2, width=40, spread=0.8), _blobs(50, width=40, seed=5, spread=0.8)
    ours = (PooledShrinkageLDA().fit(x, y).predict(fresh) == truth).mean()
    theirs = LinearDiscriminantAnalysis(solver="lsqr", shrinkage="auto").fit(x, y).predict(fresh)
    assert ours > (theirs == truth).mean() + 0.1
    assert ours > 0.8


@pytest.mark.parametrize(("samples", "width"), [(20, 40), (40, 20)])
@pytest.mark.parametrize("shrinkage", ["auto", 0.3])
def test_pooled_lda_is_the_rule_of_its_shrunk_covariance(samples: int, width: int, shrinkage: Any) -> None:
    x, y = np.random.default_rng(0).normal(size=(samples, width)), np.arange(samples) % 3
    centres = np.stack([x[y == k].mean(axis=0) for k in range(3)])
    residuals = x - centres[y]
    automatic, variance = ledoit_wolf(np.sum(residuals**2, axis=1), residuals.T @ residuals, width)
    weight = automatic if shrinkage == "auto" else shrinkage
    covariance = (1 - weight) * residuals.T @ residuals + weight * variance * samples * np.eye(width)
    weights = np.linalg.solve(covariance / (samples - 3), centres.T)
    noise = width / np.bincount(y)
    expected = x @ weights - 0.5 * (np.sum(centres * weights.T, axis=1) - noise + noise.mean())
    found = PooledShrinkageLDA(shrinkage).fit(x, y).decision_function(x)
    np.testing.assert_allclose(found, expected, rtol=1e-3, atol=1e-3)


def test_a_class_of_few_samples_is_recognised_like_the_others() -> None:
    (x, y), (fresh, truth) = (_blobs(n, width=200, seed=seed, spread=0.35) for n, seed in ((40, 0), (200, 5)))
    few = np.concatenate([np.flatnonzero(y == 0)[:4], np.flatnonzero(y != 0)])
    model = PooledShrinkageLDA().fit(x[few], y[few])
    correct = model.predict(fresh) == truth
    assert correct[truth == 0].mean() > 0.75
    assert correct[truth != 0].mean() > 0.95
    model.intercept_ = -0.5 * np.sum(model.coef_ * _means(x[few], y[few]), axis=1)
    uncorrected = model.predict(fresh) == truth
    assert uncorrected[truth == 0].mean() < 0.3


def _means(x: Any, y: Any) -> Any:
    return np.stack([x[y == k].mean(axis=0) for k in np.unique(y)])


@pytest.mark.parametrize("shape", [(60, 20), (20, 60)])
def test_shrinkage_is_that_of_ledoit_and_wolf(shape: tuple[int, int]) -> None:
    rows = np.random.default_rng(0).normal(size=shape) * np.linspace(1, 5, shape[1])
    expected = pytest.approx(ledoit_wolf_shrinkage(rows, assume_centered=True))
    squares = np.sum(rows**2, axis=1)
    assert ledoit_wolf(squares, rows @ rows.T, shape[1])[0] == expected
    assert ledoit_wolf(squares, rows.T @ rows, shape[1])[0] == expected


@pytest.mark.parametrize("kernel", ["linear", "rbf"])
def test_kernel_ridge_is_scikit_learns_on_centred_indicators(kernel: Any) -> None:
    (x, y), (fresh, _) = _blobs(20), _blobs(10, seed=3)
    x, fresh = x.astype(np.float16).astype(np.float64), fresh.astype(np.float16).astype(np.float64)  # as stored
    weight = len(y) / (3 * np.bincount(y)[y])
    theirs = KernelRidge(alpha=0.5, kernel=kernel, gamma=0.05)
    expected = theirs.fit(x, np.eye(3)[y] - 1 / 3, sample_weight=weight).predict(fresh)
    found = KernelRidgeClassifier(alpha=0.5, kernel=kernel, gamma=0.05).fit(x, y).decision_function(fresh)
    np.testing.assert_allclose(found, expected, atol=2e-3)


def test_cosine_centroids_look_at_directions_alone() -> None:
    x, y = _blobs(20)
    fitted = CosineCentroidClassifier().fit(x, y)
    away = fitted.mean_ + 7.0 * (x - fitted.mean_)
    np.testing.assert_allclose(fitted.decision_function(away), fitted.decision_function(x), atol=1e-9)
