"""Regression heads over rows of unit length: they learn, say the same as graphs, stay small, and weigh labels alike."""

import numpy as np
import pytest

from shared.evaluation import softmax
from shared.features.arrays import unit_rows
from shared.features.graph import TensorSpec, build, open_session
from shared.learning.calibration import fit_temperature
from shared.learning.heads import Fitter, KernelRidge, fit_linear_ridge, gram_factor

FITTERS: dict[str, Fitter] = {
    "kernel": KernelRidge(),
    "kernel, few landmarks": KernelRidge(numbers=400),
    "linear": fit_linear_ridge(),
}


def _made(counts: tuple[int, ...] = (30, 30, 30), width: int = 20, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    y = np.repeat(np.arange(len(counts)), counts)
    rng = np.random.default_rng(seed)
    mixed = rng.permutation(len(y))
    centres = np.random.default_rng(9).normal(size=(len(counts), width))
    rows = centres[y] + rng.normal(size=(len(y), width))
    return np.asarray(unit_rows(rows.astype(np.float32)))[mixed], y[mixed]


@pytest.mark.parametrize("name", FITTERS)
def test_it_learns_and_its_logits_are_about_as_sure_as_they_are_right(name: str) -> None:
    (x, y), (fresh, truth) = _made(), _made(seed=1)
    logits = np.asarray(FITTERS[name](x, y, 3)(fresh))
    assert (logits.argmax(axis=1) == truth).mean() > 0.85
    assert 0.3 < fit_temperature(logits, truth, np.zeros_like(truth)) < 3
    assert np.isfinite(softmax(logits)).all()


@pytest.mark.parametrize("name", FITTERS)
def test_the_graph_says_the_same(name: str) -> None:
    x, y = _made()
    head = FITTERS[name](x, y, 4)
    features = TensorSpec("features", "float32", (1, x.shape[1])).argument()
    session = open_session(build({"features": features}, {"logits": head(features)}, {}))
    found = np.concatenate([session.run(["logits"], {"features": row[None]})[0] for row in x])
    np.testing.assert_allclose(found[:, :3], head(x)[:, :3], atol=1e-4)
    assert not (found.argmax(axis=1) == 3).any(), "the class without samples"


@pytest.mark.parametrize("name", FITTERS)
def test_a_label_of_ten_times_fewer_samples_is_still_recognised(name: str) -> None:
    (x, y), (fresh, truth) = _made((200, 20)), _made((200, 200), seed=1)
    found = np.asarray(FITTERS[name](x, y, 2)(fresh)).argmax(axis=1)
    assert (found == truth)[truth == 1].mean() > 0.8


@pytest.mark.parametrize("name", FITTERS)
def test_one_sample_a_label_is_enough(name: str) -> None:
    (x, y), (fresh, truth) = _made((1, 1, 1)), _made(seed=1)
    assert (np.asarray(FITTERS[name](x, y, 3)(fresh)).argmax(axis=1) == truth).mean() > 0.5


def test_landmarks_are_bounded_and_hardly_cost_accuracy() -> None:
    (x, y), (fresh, truth) = _made((300, 300, 300)), _made(seed=1)
    accuracy = {}
    for numbers in (400, 1_000_000):
        head = KernelRidge(numbers=numbers)(x, y, 3)
        assert head.values.landmarks.size <= numbers  # type: ignore[attr-defined]
        accuracy[numbers] = (np.asarray(head(fresh)).argmax(axis=1) == truth).mean()
    assert accuracy[400] > accuracy[1_000_000] - 0.05


def test_fitting_some_rows_of_many_is_fitting_these_rows() -> None:
    (x, y), (fresh, _) = _made(), _made(seed=1)
    fit = KernelRidge()
    among = fit.among(x)
    assert among is not None
    for chosen in (np.arange(90), np.flatnonzero(np.arange(90) % 3), np.flatnonzero(y != 1)):
        one, other = among(chosen, y[chosen], 3), fit(x[chosen], y[chosen], 3)
        np.testing.assert_allclose(one(fresh), other(fresh), atol=1e-4)
    assert KernelRidge(numbers=x.size - 1).among(x) is None, "not every row would be a landmark"


def test_the_linear_head_answers_alike_in_any_axes() -> None:
    x, y = _made((6, 6, 6), width=40)
    turned = gram_factor(x)
    one, other = fit_linear_ridge()(turned, y, 3)(turned), fit_linear_ridge()(x, y, 3)(x)
    np.testing.assert_allclose(one, other, atol=1e-3)
