"""Heads learn what can be learnt, say the same as graphs, and never answer a class that they have not seen."""

from collections.abc import Callable

import numpy as np
import pytest
from sklearn.covariance import ledoit_wolf_shrinkage
from sklearn.discriminant_analysis import LinearDiscriminantAnalysis
from sklearn.linear_model import LogisticRegression

from shared.features.graph import TensorSpec, build, open_session
from shared.learning.heads import (
    Fitter,
    fit_kernel,
    fit_lda,
    fit_logistic,
    fit_prototypes,
    fit_ridge,
    gram_factor,
    ledoit_wolf,
)

FITTERS: dict[str, Fitter] = {
    "lda": fit_lda,
    "ridge": fit_ridge,
    "logistic": fit_logistic(),
    "logistic, standardised": fit_logistic(1.0, standardise=True),
    "prototypes": fit_prototypes(),
    "kernel": fit_kernel(40),
}
Made = tuple[np.ndarray, np.ndarray]
Maker = Callable[..., Made]


@pytest.fixture(name="clusters")
def _clusters() -> Maker:
    def make(per_class: int = 30, classes: int = 4, width: int = 12, seed: int = 0) -> Made:
        centres = np.random.default_rng(7).normal(size=(classes, width)) * 1.5
        y = np.arange(per_class * classes) % classes
        x = centres[y] + np.random.default_rng(seed).normal(size=(len(y), width))
        return (x * np.linspace(0.01, 50, width)).astype(np.float32), y

    return make


@pytest.mark.parametrize("name", FITTERS)
def test_it_learns_separable_classes(name: str, clusters: Maker) -> None:
    x, y = clusters()
    fresh, truth = clusters(seed=1)
    head = FITTERS[name](x, y, 4)
    assert (np.asarray(head(fresh)).argmax(axis=1) == truth).mean() > 0.9


@pytest.mark.parametrize("name", FITTERS)
def test_the_graph_says_the_same(name: str, clusters: Maker) -> None:
    x, y = clusters()
    head = FITTERS[name](x, y, 4)
    features = TensorSpec("features", "float32", (1, x.shape[1])).argument()
    session = open_session(build({"features": features}, {"logits": head(features)}, {}))
    found = np.concatenate([session.run(["logits"], {"features": row[None]})[0] for row in x])
    np.testing.assert_allclose(found, head(x), rtol=1e-3, atol=2e-3)


@pytest.mark.parametrize("name", FITTERS)
def test_a_class_without_samples_is_never_answered(name: str, clusters: Maker) -> None:
    x, y = clusters()
    head = FITTERS[name](x[y != 2], y[y != 2], 5)
    logits = np.asarray(head(x))
    assert logits.shape == (len(x), 5)
    assert not np.isin(logits.argmax(axis=1), [2, 4]).any()


@pytest.mark.parametrize("name", FITTERS)
@pytest.mark.parametrize("per_class", [1, 2])
def test_one_or_two_samples_a_class_are_enough_to_fit(name: str, per_class: int, clusters: Maker) -> None:
    x, y = clusters(per_class)
    fresh, truth = clusters(seed=1)
    accuracy = (np.asarray(FITTERS[name](x, y, 4)(fresh)).argmax(axis=1) == truth).mean()
    assert accuracy > 0.4, "chance is 0.25"


@pytest.mark.parametrize("name", ["lda", "ridge", "logistic"])
def test_a_class_of_twenty_times_fewer_samples_is_still_recognised(name: str) -> None:
    rng = np.random.default_rng(3)
    y = np.repeat([0, 1], [400, 20])
    x = (rng.normal(size=(420, 4)) + 2.0 * y[:, None]).astype(np.float32)
    fresh = (rng.normal(size=(400, 4)) + 2.0).astype(np.float32)
    assert (np.asarray(FITTERS[name](x, y, 2)(fresh)).argmax(axis=1) == 1).mean() > 0.9


def test_lda_agrees_with_scikit_learn_where_shrinkage_hardly_matters(clusters: Maker) -> None:
    x, y = clusters(200)
    fresh, _ = clusters(50, seed=5)
    ours = np.asarray(fit_lda(x, y, 4)(fresh)).argmax(axis=1)
    theirs = LinearDiscriminantAnalysis(priors=[0.25] * 4).fit(x, y).predict(fresh)
    assert (ours == theirs).mean() > 0.98


@pytest.mark.parametrize(("samples", "width"), [(20, 40), (40, 20)])
def test_lda_is_the_rule_of_its_shrunk_covariance(samples: int, width: int) -> None:
    rng = np.random.default_rng(0)
    x, y = rng.normal(size=(samples, width)).astype(np.float32), np.arange(samples) % 3
    scaled = (x - x.mean(axis=0)) / x.std(axis=0)
    centres = np.stack([scaled[y == k].mean(axis=0) for k in range(3)])
    residuals = (scaled - centres[y]).astype(np.float64)
    shrinkage, variance = ledoit_wolf(residuals)
    covariance = (1 - shrinkage) * residuals.T @ residuals + shrinkage * variance * samples * np.eye(width)
    weights = np.linalg.solve(covariance / (samples - 3), centres.T)
    expected = scaled @ weights - 0.5 * np.sum(centres * weights.T, axis=1)
    np.testing.assert_allclose(fit_lda(x, y, 3)(x), expected, rtol=1e-3, atol=1e-3)


@pytest.mark.parametrize("shape", [(60, 20), (20, 60)])
def test_shrinkage_is_that_of_ledoit_and_wolf(shape: tuple[int, int]) -> None:
    rows = np.random.default_rng(0).normal(size=shape) * np.linspace(1, 5, shape[1])
    assert ledoit_wolf(rows)[0] == pytest.approx(ledoit_wolf_shrinkage(rows, assume_centered=True))


@pytest.mark.parametrize("share", [1.0, 0.05])
def test_axes_of_the_span_keep_every_inner_product(share: float) -> None:
    rng = np.random.default_rng(0)
    rows = (rng.normal(size=(20, 300)) * (rng.random((20, 300)) < share)).astype(np.float32)
    turned = gram_factor(rows)
    assert turned.shape[1] <= 20
    np.testing.assert_allclose(turned @ turned.T, rows @ rows.T, atol=1e-3)


def test_heads_that_see_inner_products_only_answer_alike_in_any_axes() -> None:
    rng = np.random.default_rng(0)
    rows, y = rng.normal(size=(30, 200)).astype(np.float32), np.arange(30) % 3
    turned = gram_factor(rows)
    for fit in (fit_logistic(), fit_prototypes(standardise=False)):
        one, other = fit(turned[:20], y[:20], 3)(turned), fit(rows[:20], y[:20], 3)(rows)
        assert np.corrcoef(np.ravel(one), np.ravel(other))[0, 1] > 0.998


@pytest.mark.parametrize("classes", [2, 4])
@pytest.mark.parametrize("sparse", [False, True])
def test_logistic_regression_is_that_of_scikit_learn(classes: int, sparse: bool, clusters: Maker) -> None:
    x, y = clusters(classes=classes)
    x = (x / 10).astype(np.float32)
    if sparse:
        x = np.where(np.arange(x.shape[1]) == y[:, None], x, 0).astype(np.float32)
    kept = (y > 0) | (np.arange(len(y)) % 3 == 0)  # fewer samples of the first class
    model = LogisticRegression(C=10.0, class_weight="balanced", max_iter=300, tol=1e-3)
    expected = model.fit(x[kept].astype(np.float64), y[kept]).predict_log_proba(x)
    logits = np.asarray(fit_logistic()(x[kept], y[kept], classes)(x), np.float64)
    found = logits - np.log(np.exp(logits).sum(axis=1, keepdims=True))
    np.testing.assert_allclose(found, expected, atol=1e-4)


def test_axes_of_rows_that_depend_on_each_other_are_fewer() -> None:
    rows = np.random.default_rng(0).normal(size=(12, 50)).astype(np.float32)
    rows = np.concatenate([rows, rows[:5], rows[:1] * 0])
    turned = gram_factor(rows)
    assert turned.shape == (18, 12)
    np.testing.assert_allclose(turned @ turned.T, rows @ rows.T, atol=1e-4)
