"""Every classifier learns what can be learnt, computes the same in its graph, and never predicts an unseen class."""

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from pydantic import TypeAdapter
from scipy.special import softmax

from shared.features.arrays import unit_rows
from shared.features.graph import TensorSpec, build, nodes, open_session
from shared.learning import kernel_ridge
from shared.learning.calibration import best_temperature
from shared.learning.classifiers import Classifier, ClassifierConfig
from shared.learning.heads import Linear, fit_classifier, gram_factor, standardization, subset_fitter

CONFIGS: dict[str, dict[str, Any]] = {
    "lda": {"type": "lda"},
    "lda, shrunk": {"type": "lda", "shrinkage": 0.7},
    "logistic regression": {"type": "logistic_regression"},
    "logistic regression, unscaled": {"type": "logistic_regression", "C": 10.0, "scaler": "none"},
    "ridge": {"type": "ridge"},
    "ridge, by leave-one-out": {"type": "ridge", "alpha": "auto"},
    "kernel ridge": {"type": "kernel_ridge", "alpha": 0.3},
    "kernel ridge, rbf": {"type": "kernel_ridge", "kernel": "rbf", "alpha": 0.1},
    "svm": {"type": "svm", "C": 10.0},
    "svm, linear": {"type": "svm", "kernel": "linear"},
    "svm, polynomial": {"type": "svm", "kernel": "poly", "degree": 2, "coef0": 1.0},
    "nearest neighbors": {"type": "nearest_neighbors"},
    "nearest neighbors, by distance": {"type": "nearest_neighbors", "n_neighbors": 1000, "weights": "distance"},
    "nearest neighbors, cosine": {"type": "nearest_neighbors", "metric": "cosine", "n_neighbors": 3},
    "nearest centroid": {"type": "nearest_centroid"},
    "nearest centroid, shrunk": {"type": "nearest_centroid", "shrink_threshold": 0.1},
    "nearest centroid, manhattan": {"type": "nearest_centroid", "metric": "manhattan"},
    "nearest centroid, cosine": {"type": "nearest_centroid", "metric": "cosine"},
    "random forest": {"type": "random_forest", "n_estimators": 30},
    "extra trees": {"type": "extra_trees", "n_estimators": 30, "max_leaf_nodes": 32},
    "gradient boosting": {"type": "gradient_boosting", "n_estimators": 30},
    "mlp": {"type": "mlp", "hidden_layer_sizes": [32, 16], "solver": "lbfgs"},
}
Made = tuple[np.ndarray, np.ndarray]
Maker = Callable[..., Made]


def _config(name: str) -> ClassifierConfig:
    config: ClassifierConfig = TypeAdapter(Classifier).validate_python(CONFIGS[name])
    return config


@pytest.fixture(params=CONFIGS)
def config(request: pytest.FixtureRequest) -> ClassifierConfig:
    return _config(request.param)


@pytest.fixture(name="clusters")
def _clusters() -> Maker:
    def make(per_class: int = 30, classes: int = 4, width: int = 12, seed: int = 0) -> Made:
        centres = np.random.default_rng(7).normal(size=(classes, width)) * 1.5
        y = np.arange(per_class * classes) % classes
        x = centres[y] + np.random.default_rng(seed).normal(size=(len(y), width))
        return x.astype(np.float32), y

    return make


def _in_graph(head: Any, rows: np.ndarray) -> np.ndarray:
    """Return the logits (n, K) that the traced head gives, row by row."""
    features = TensorSpec("features", "float32", (1, rows.shape[1])).argument()
    model = build({"features": features}, {"logits": head(features)}, {})
    session = open_session(model)
    return np.concatenate([session.run(["logits"], {"features": row[None]})[0] for row in rows])


def test_separable_classes_are_learnt(config: ClassifierConfig, clusters: Maker) -> None:
    (x, y), (fresh, truth) = clusters(), clusters(seed=1)
    head = fit_classifier(config, x, y, 4)
    logits = np.asarray(head(fresh))
    least = 0.6 if getattr(config, "n_neighbors", 5) > len(x) else 0.8
    assert (logits.argmax(axis=1) == truth).mean() > least, "chance is 0.25"
    assert (logits.dtype, logits.shape) == (np.float32, (len(fresh), 4))
    assert np.isfinite(logits).all()


def test_the_graph_computes_the_same(config: ClassifierConfig, clusters: Maker) -> None:
    (x, y), (fresh, _) = clusters(), clusters(10, seed=1)
    x, fresh = x * np.linspace(0.01, 50, 12, dtype=np.float32), fresh * np.linspace(0.01, 50, 12, dtype=np.float32)
    if config.scaler == "none":
        x, fresh = unit_rows(x), unit_rows(fresh)
    head = fit_classifier(config, x, y, 5)
    both = np.concatenate([x, fresh])
    found, expected = _in_graph(head, both), np.asarray(head(both))
    np.testing.assert_allclose(softmax(found, axis=1), softmax(expected, axis=1), atol=1e-4)
    np.testing.assert_allclose(found[:, :4], expected[:, :4], rtol=1e-3, atol=2e-3)


def test_a_class_without_samples_is_never_predicted(config: ClassifierConfig, clusters: Maker) -> None:
    x, y = clusters()
    logits = np.asarray(fit_classifier(config, x[y != 2], y[y != 2], 5)(x))
    assert logits.shape == (len(x), 5)
    assert not np.isin(logits.argmax(axis=1), [2, 4]).any()
    assert (softmax(logits, axis=1)[:, [2, 4]] < 1e-6).all()


@pytest.mark.parametrize(
    "name", ["lda", "lda, shrunk", "svm, linear", "nearest centroid", "nearest centroid, manhattan"]
)
def test_a_class_without_samples_is_not_predicted_where_classes_lie_far_apart(name: str) -> None:
    """Logits of an LDA on hundreds of features reach tens of thousands; a model cannot be right about such a class."""
    rng, y = np.random.default_rng(0), np.arange(48) % 8
    x = rng.normal(size=(8, 300))[y] * 16 + rng.normal(size=(48, 300))
    x = (x + rng.normal(size=(2, 300))[np.arange(48) // 24] * 4).astype(np.float32)  # as in two sessions
    known = (y != 7) & (np.arange(48) < 24)
    logits = np.asarray(fit_classifier(_config(name), x[known], y[known], 8)(x))
    assert (logits.argmax(axis=1) != 7).all() and (softmax(logits, axis=1)[:, 7] == 0).all()
    if name == "lda":
        assert logits[:, :7].max(axis=1).min() < -10_000


@pytest.mark.parametrize("per_class", [1, 2])
def test_one_or_two_samples_a_class_can_be_fitted(config: ClassifierConfig, per_class: int, clusters: Maker) -> None:
    (x, y), (fresh, _) = clusters(per_class), clusters(seed=1)
    logits = np.asarray(fit_classifier(config, x, y, 4)(fresh))
    assert np.isfinite(logits).all()
    if getattr(config, "n_neighbors", 0) < len(x):  # where all are neighbours, all classes have the same share
        assert len(np.unique(logits.argmax(axis=1))) > 1


def test_two_classes_and_one(config: ClassifierConfig, clusters: Maker) -> None:
    (x, y), (fresh, truth) = clusters(classes=2), clusters(classes=2, seed=1)
    head = fit_classifier(config, x, y, 2)
    assert (np.asarray(head(fresh)).argmax(axis=1) == truth).mean() > 0.6
    np.testing.assert_allclose(
        softmax(_in_graph(head, fresh[:9]), axis=1), softmax(np.asarray(head(fresh[:9])), axis=1), atol=1e-4
    )
    alone = fit_classifier(config, x[y == 1], y[y == 1], 2)
    assert (np.asarray(alone(fresh)).argmax(axis=1) == 1).all()


def test_fitting_again_gives_the_same_bytes(config: ClassifierConfig, clusters: Maker) -> None:
    x, y = clusters()

    def model() -> bytes:
        features = TensorSpec("features", "float32", (1, x.shape[1])).argument()
        return build({"features": features}, {"logits": fit_classifier(config, x, y, 4, seed=3)(features)}, {})

    assert model() == model()


@pytest.mark.parametrize(
    "name",
    [
        *("lda", "logistic regression", "ridge", "kernel ridge, rbf", "svm", "random forest", "extra trees"),
        "nearest centroid, cosine",
    ],
)
def test_a_class_of_twenty_times_fewer_samples_is_still_recognised(name: str) -> None:
    rng = np.random.default_rng(3)
    y = np.repeat([0, 1], [400, 20])
    x = (rng.normal(size=(420, 4)) + 2.0 * y[:, None]).astype(np.float32)
    fresh = (rng.normal(size=(400, 4)) + 2.0).astype(np.float32)
    config = _config(name)
    if "forest" in name or "trees" in name:
        config = config.model_copy(update={"min_samples_leaf": 20})
    assert (np.asarray(fit_classifier(config, x, y, 2)(fresh)).argmax(axis=1) == 1).mean() > 0.75


@pytest.mark.parametrize(
    "name", [name for name in CONFIGS if name.split(",")[0] not in ("lda", "kernel ridge") and "cosine" not in name]
)
@pytest.mark.parametrize("classes", [2, 4])
def test_predictions_are_scikit_learns(name: str, classes: int, clusters: Maker) -> None:
    (x, y), (fresh, _) = clusters(classes=classes), clusters(200, classes=classes, seed=1)
    config = _config(name)
    estimator: Any = config.estimator(len(x), 4, 0)
    mean, scale = standardization(x) if config.scaler == "standard" else (0.0, 1.0)
    expected = estimator.fit((x - mean) / scale, y).predict((fresh - mean) / scale)
    found = np.asarray(fit_classifier(config, x, y, classes)(fresh)).argmax(axis=1)
    assert (found == expected).mean() > 0.995


def test_probabilities_of_linear_and_tree_models_are_scikit_learns(clusters: Maker) -> None:
    (x, y), (fresh, _) = clusters(), clusters(seed=1)
    for name in ("logistic regression", "random forest", "mlp", "gradient boosting"):
        config = _config(name)
        mean, scale = standardization(x)
        estimator: Any = config.estimator(len(x), 4, 0)
        expected = estimator.fit((x - mean) / scale, y).predict_proba((fresh - mean) / scale)
        found = softmax(np.asarray(fit_classifier(config, x, y, 4)(fresh)), axis=1)
        np.testing.assert_allclose(found, expected, atol=0.005)


def test_a_feature_that_only_rounding_changes_is_not_magnified() -> None:
    rng = np.random.default_rng(0)
    x = rng.normal(size=(40, 3)).astype(np.float32)
    x[:, 1] = 1.0 + 1e-7 * rng.integers(0, 2, 40)
    mean, scale = standardization(x)
    assert np.abs((x[:, 1] - mean[1]) / scale[1]).max() < 1e-3
    assert ((x[:, 0] - mean[0]) / scale[0]).std() == pytest.approx(1.0)


# --- kernel ridge regression


def _unit_rows(counts: tuple[int, ...] = (30, 30, 30), width: int = 20, seed: int = 0) -> Made:
    y = np.repeat(np.arange(len(counts)), counts)
    rng = np.random.default_rng(seed)
    mixed = rng.permutation(len(y))
    centres = np.random.default_rng(9).normal(size=(len(counts), width))
    rows = centres[y] + rng.normal(size=(len(y), width))
    return np.asarray(unit_rows(rows.astype(np.float32)))[mixed], y[mixed]


RBF: dict[str, Any] = {"type": "kernel_ridge", "kernel": "rbf", "alpha": 0.1, "scaler": "none"}
LINEAR: dict[str, Any] = {"type": "kernel_ridge", "alpha": 0.3, "scaler": "none"}


@pytest.mark.parametrize("settings", [RBF, LINEAR], ids=["rbf", "linear"])
@pytest.mark.parametrize("numbers", [900_000, 400])
def test_regression_logits_are_about_as_sure_as_they_are_right(
    settings: dict[str, Any], numbers: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(kernel_ridge, "LANDMARK_NUMBERS", numbers)
    (x, y), (fresh, truth) = _unit_rows(), _unit_rows(seed=1)
    logits = np.asarray(fit_classifier(TypeAdapter(Classifier).validate_python(settings), x, y, 3)(fresh))
    assert (logits.argmax(axis=1) == truth).mean() > 0.85
    assert 0.3 < best_temperature(logits, truth) < 3


def test_landmarks_are_bounded_and_hardly_cost_accuracy(monkeypatch: pytest.MonkeyPatch) -> None:
    (x, y), (fresh, truth) = _unit_rows((300, 300, 300)), _unit_rows(seed=1)
    accuracy = {}
    for numbers in (400, 1_000_000):
        monkeypatch.setattr(kernel_ridge, "LANDMARK_NUMBERS", numbers)
        head: Any = fit_classifier(TypeAdapter(Classifier).validate_python(RBF), x, y, 3)
        assert head.values.landmarks.size <= numbers
        accuracy[numbers] = (np.asarray(head(fresh)).argmax(axis=1) == truth).mean()
    assert accuracy[400] > accuracy[1_000_000] - 0.05


@pytest.mark.parametrize("settings", [RBF, {"type": "lda", "scaler": "none"}], ids=["kernel_ridge", "lda"])
def test_fitting_on_a_subset_is_fitting_on_these_rows(settings: dict[str, Any]) -> None:
    (x, y), (fresh, _) = _unit_rows(width=150), _unit_rows(seed=1, width=150)
    config = TypeAdapter(Classifier).validate_python(settings)
    fit_on_subset = subset_fitter(config, x)
    assert fit_on_subset is not None
    chosen_rows = (np.arange(90), np.flatnonzero(np.arange(90) % 3), np.flatnonzero(y != 1), np.flatnonzero(y == 1))
    for chosen in chosen_rows:
        one, other = fit_on_subset(chosen, y[chosen], 3), fit_classifier(config, x[chosen], y[chosen], 3)
        np.testing.assert_allclose(one(fresh), other(fresh), atol=1e-4)


def test_nothing_is_shared_where_that_saves_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    x, _ = _unit_rows(width=150)
    monkeypatch.setattr(kernel_ridge, "LANDMARK_NUMBERS", x.size - 1)
    configs = [TypeAdapter(Classifier).validate_python(settings) for settings in (RBF, {"type": "lda"})]
    assert subset_fitter(configs[0], x) is None, "not every row would be a landmark"
    assert subset_fitter(configs[1], x) is None, "each fit scales its own rows"
    unscaled = TypeAdapter(Classifier).validate_python({"type": "lda", "scaler": "none"})
    assert subset_fitter(unscaled, x[:, :80]) is None, "the covariance is smaller than the inner products"


# --- axes of the samples' span


@pytest.mark.parametrize("share", [1.0, 0.05])
def test_axes_of_the_span_keep_every_inner_product(share: float) -> None:
    rng = np.random.default_rng(0)
    rows = (rng.normal(size=(20, 300)) * (rng.random((20, 300)) < share)).astype(np.float32)
    turned = gram_factor(rows)
    assert turned.shape[1] <= 20
    np.testing.assert_allclose(turned @ turned.T, rows @ rows.T, atol=1e-3)


@pytest.mark.parametrize("settings", CONFIGS.values(), ids=CONFIGS)
def test_isotropic_classifiers_give_the_same_logits_in_any_axes(settings: dict[str, Any]) -> None:
    config = TypeAdapter(Classifier).validate_python(settings | {"scaler": "none"})
    if not config.isotropic:
        pytest.skip("looks at each feature by itself")
    rng = np.random.default_rng(0)
    rows, y = rng.normal(size=(30, 200)).astype(np.float32), np.arange(30) % 3
    turned = gram_factor(rows)
    one = fit_classifier(config, turned[:20], y[:20], 3)(turned)
    other = fit_classifier(config, rows[:20], y[:20], 3)(rows)
    assert np.corrcoef(np.ravel(one), np.ravel(other))[0, 1] > 0.998


# --- converted models


def test_converted_models_use_standard_operators_only(clusters: Maker) -> None:
    import onnx

    x, y = clusters()
    for name in ("random forest", "gradient boosting", "mlp", "svm"):
        head: Any = fit_classifier(_config(name), x, y, 4)
        found = onnx.load_from_string(head.head.model)
        assert {node.domain for node in nodes(found.graph)} <= {"", "ai.onnx.ml"}, name


def test_a_linear_model_takes_the_scaling_in(clusters: Maker) -> None:
    x, y = clusters()
    assert isinstance(fit_classifier(_config("lda"), x, y, 4), Linear)
