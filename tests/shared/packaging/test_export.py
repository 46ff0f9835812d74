"""The exported graph predicts as training did, or is refused."""

import dataclasses
from pathlib import Path

import numpy as np
import pytest

from shared.errors import ReplayError
from shared.features import graph_cache
from shared.features.arrays import Array, Inputs, namespace
from shared.features.cache import FeatureCache
from shared.features.graph import FeatureGraph, TensorSpec, build, open_session
from shared.learning.candidates import FittedModel
from shared.learning.classifiers import (
    LDA,
    SVM,
    ClassifierConfig,
    ExtraTrees,
    KernelRidge,
    NearestCentroid,
    NearestNeighbors,
)
from shared.learning.decision_rule import DecisionRule, fit_decision_rule
from shared.learning.familiarity import FitFamiliarity, cosine_familiarity, whitened_familiarity
from shared.learning.heads import Linear, fitter
from shared.packaging import export
from shared.packaging.export import export_model, replay, spread
from shared.training_run import Exported


def _means(inputs: Inputs) -> Array:
    return namespace(inputs["x"]).mean(inputs["x"], axis=0)


def _made() -> tuple[FeatureGraph, np.ndarray, list[Inputs], FittedModel, DecisionRule]:
    rng = np.random.default_rng(0)
    y = np.arange(45) % 3
    samples = [{"x": (rng.normal(size=(rng.integers(1, 9), 4)) + 3 * np.eye(4)[k]).astype(np.float32)} for k in y]
    graph = FeatureGraph("means", (TensorSpec("x", "float32", ("n", 4)),), _means)
    features = np.stack(list(graph.run(samples)))
    head = fitter(LDA())(features, y, 3)
    fitted = FittedModel(head, whitened_familiarity(head, features, y))
    return graph, features, samples, fitted, fit_decision_rule(*fitted(features), y, y * 0, (1, 1), (0.2, 0.2))


def _exported() -> tuple[Exported, np.ndarray, list[Inputs], FittedModel, DecisionRule]:
    graph, features, samples, fitted, rule = _made()
    return export_model(graph, 4, fitted, rule, ["a", "b", "c"], {"k": 1, "a": 2}), features, samples, fitted, rule


@pytest.mark.parametrize("whole", [45, 10])
def test_every_sample_is_replayed_and_agrees(whole: int) -> None:
    exported, features, samples, fitted, rule = _exported()
    reported: list[tuple[int, int]] = []
    done = replay(exported, features, samples, range(whole), fitted, rule, lambda *at: reported.append(at))
    assert (done.whole, done.head_graph) == (whole, 45 - whole)
    assert reported == [(k + 1, 45) for k in range(45)]
    assert done.largest_difference < 1e-4
    assert not rule(*fitted(features))[2].all(), "some are rejected, so that acceptance was compared, too"


def test_the_same_training_gives_the_same_bytes() -> None:
    assert _exported()[0] == _exported()[0]


def test_the_model_says_what_its_labels_are() -> None:
    metadata = open_session(_exported()[0].model).get_modelmeta().custom_metadata_map
    assert metadata["labels"] == '["a", "b", "c"]'
    assert metadata["spec"] == '{"a": 2, "k": 1}', "whatever order it was written in"


def _wrong_head(fitted: FittedModel, rule: DecisionRule) -> tuple[FittedModel, DecisionRule]:
    assert isinstance(fitted.head, Linear)
    head = Linear(fitted.head.weights, fitted.head.bias + np.array([0.01, 0, 0], np.float32))
    return dataclasses.replace(fitted, head=head), rule


def _wrong_threshold(fitted: FittedModel, rule: DecisionRule) -> tuple[FittedModel, DecisionRule]:
    return fitted, dataclasses.replace(rule, threshold=rule.threshold + 1)


def _wrong_temperature(fitted: FittedModel, rule: DecisionRule) -> tuple[FittedModel, DecisionRule]:
    return fitted, dataclasses.replace(rule, temperature=rule.temperature * 1.1)


@pytest.mark.parametrize("whole", [range(45), range(0)])
@pytest.mark.parametrize("wrong", [_wrong_head, _wrong_threshold, _wrong_temperature])
def test_a_graph_that_predicts_otherwise_is_refused(wrong, whole) -> None:  # type: ignore[no-untyped-def]
    exported, features, samples, fitted, rule = _exported()
    with pytest.raises(ReplayError, match="the exported graph predicts"):
        replay(exported, features, samples, whole, *wrong(fitted, rule))


def test_a_graph_that_computes_other_features_is_refused() -> None:
    exported, features, samples, fitted, rule = _exported()
    moved = [{"x": sample["x"] + np.float32(0.05)} for sample in samples]
    with pytest.raises(ReplayError):
        replay(exported, features, moved, range(45), fitted, rule)


@pytest.mark.parametrize(("count", "most", "expected"), [(5, None, 5), (5, 9, 5), (1000, 128, 128)])
def test_what_is_replayed_whole_is_spread_over_all(count: int, most: int | None, expected: int) -> None:
    rows = spread(count, most)
    assert len(rows) == expected
    assert (rows[0], rows[-1]) == (0, count - 1)


TRACED: dict[str, ClassifierConfig] = {  # a few Array API lines, whose graph learnt numbers enter as inputs
    "lda": LDA(),
    "kernel ridge": KernelRidge(alpha=0.3, scaler="none"),
    "kernel ridge, rbf": KernelRidge(kernel="rbf"),
    "nearest neighbors": NearestNeighbors(weights="distance"),
    "nearest centroid": NearestCentroid(),
    "nearest centroid, manhattan": NearestCentroid(metric="manhattan"),
    "nearest centroid, cosine": NearestCentroid(metric="cosine"),
}
CONVERTED: dict[str, ClassifierConfig] = {  # by skl2onnx, with the numbers in the graph
    "extra trees": ExtraTrees(n_estimators=10),
    "svm": SVM(),
}


@pytest.mark.parametrize("fit_familiarity", [whitened_familiarity, cosine_familiarity], ids=lambda f: f.__name__)
@pytest.mark.parametrize("name", [*TRACED, *CONVERTED])
def test_head_graphs_of_one_kind_are_traced_once_and_each_predicts_with_its_own_numbers(
    name: str, fit_familiarity: FitFamiliarity, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    cache, traced = FeatureCache(tmp_path / "f.sqlite"), []
    monkeypatch.setattr(export, "build", lambda *a: traced.append(a) or build(*a))
    monkeypatch.setattr(graph_cache, "_LOADED", float("inf"))
    graph, features, samples, _, rule = _made()
    y = np.arange(45) % 3
    models = set()
    for k, threshold in enumerate((-2.0, 0.3)):
        graph_cache._HEAD_GRAPHS.clear()  # as another process would have none
        own = features * np.float32(1 + k) + np.float32(k)
        head = fitter((TRACED | CONVERTED)[name])(own, y, 3)
        fitted = FittedModel(head, fit_familiarity(head, own, y))
        fresh = dataclasses.replace(rule, threshold=threshold, temperature=0.5 + k)
        exported = export_model(graph, 4, fitted, fresh, ["a", "b", "c"], {}, cache)
        assert replay(exported, own, samples, (), fitted, fresh).largest_difference < 1e-4
        models.add(exported.head_graph)
    assert (len(models), len(traced)) == (2, 1 if name in TRACED else 2)


@pytest.mark.slow
def test_head_graphs_of_other_kinds_or_sizes_are_not_mistaken(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(graph_cache, "_LOADED", float("inf"))
    cache, y = FeatureCache(tmp_path / "f.sqlite"), np.arange(45) % 3
    _, features, samples, _, rule = _made()
    for config in (*TRACED.values(), *CONVERTED.values(), NearestNeighbors(n_neighbors=3, metric="cosine")):
        for rows in (features, features[:, :3]):
            graph = FeatureGraph("means", (TensorSpec("x", "float32", ("n", rows.shape[1])),), _means)
            for count in (3, 4):
                head = fitter(config)(rows, y, count)
                for fit_familiarity in (whitened_familiarity, cosine_familiarity):
                    fitted = FittedModel(head, fit_familiarity(head, rows, y))
                    exported = export_model(graph, rows.shape[1], fitted, rule, ["a"] * count, {}, cache)
                    replay(exported, rows, samples, (), fitted, rule)


def _biased(by: float) -> tuple[FittedModel, DecisionRule, tuple[Exported, np.ndarray, list[Inputs]]]:
    """A model whose first logit is greater by so much than in the graph that was exported of it."""
    exported, features, samples, fitted, rule = _exported()
    assert isinstance(fitted.head, Linear)
    head = Linear(fitted.head.weights, fitted.head.bias + np.array([by, 0, 0], np.float32))
    return dataclasses.replace(fitted, head=head), rule, (exported, features, samples)


@pytest.mark.parametrize("whole", [45, 0])
def test_the_largest_difference_is_reported(whole: int) -> None:
    fitted, rule, (exported, features, samples) = _biased(0.1)
    graph = np.asarray(rule(*_exported()[3](features))[1])
    training = np.asarray(rule(*fitted(features))[1])
    expected = float(np.abs(graph - training).max())
    done = replay(exported, features, samples, range(whole), fitted, rule, tolerance=0.01)
    assert expected > 1e-4 and done.largest_difference == pytest.approx(expected, rel=0.01)
    with pytest.raises(ReplayError):
        replay(exported, features, samples, range(whole), fitted, rule, tolerance=expected * 0.9)


def test_one_sample_that_differs_is_enough_and_is_named() -> None:
    exported, features, samples, fitted, rule = _exported()
    moved = [*samples[:37], {"x": samples[37]["x"] + np.float32(1)}, *samples[38:]]
    with pytest.raises(ReplayError, match=r"^sample 37: "):
        replay(exported, features, moved, range(45), fitted, rule)
    assert replay(exported, features, moved, [k for k in range(45) if k != 37], fitted, rule).head_graph == 1


def test_only_the_score_may_be_wrong() -> None:
    exported, features, samples, fitted, rule = _exported()
    shifted = dataclasses.replace(rule, means=(rule.means[0], rule.means[1] + 0.5), threshold=rule.threshold - 100)
    never = export_model(_made()[0], 4, fitted, dataclasses.replace(rule, threshold=rule.threshold - 100), "abc", {})
    with pytest.raises(ReplayError):
        replay(never, features, samples, range(45), fitted, shifted)
    assert exported.head_graph != never.head_graph


ROW = [np.array([0]), np.array([[0.6, 0.3, 0.1]], np.float32), np.array([True]), np.array([0.5], np.float32)]
RULE = DecisionRule(1.0, (1.0, 1.0), (0.0, 0.0), (1.0, 1.0), 0.2)


@pytest.mark.parametrize(
    ("label", "chances", "accepted", "score", "differs"),
    [
        (0, [0.6, 0.3, 0.1], True, 0.5, False),
        (0, [0.60005, 0.29995, 0.1], True, 0.5, False),
        (0, [0.6002, 0.2998, 0.1], True, 0.5, True),  # a probability
        (1, [0.6, 0.3, 0.1], True, 0.5, True),  # the label, though probabilities agree
        (0, [0.6, 0.3, 0.1], False, 0.5, True),  # acceptance, far from the threshold
        (0, [0.6, 0.3, 0.1], True, 0.50095, False),
        (0, [0.6, 0.3, 0.1], True, 0.50105, True),  # the score
        (0, [np.nan, 0.3, 0.1], True, 0.5, True),
        (0, [0.6, 0.3, 0.1], True, np.nan, True),
    ],
)
def test_label_probabilities_acceptance_and_score_must_each_agree(
    label: int, chances: list[float], accepted: bool, score: float, differs: bool
) -> None:
    outputs = [np.array(label), np.array(chances, np.float32), np.array(accepted), np.array(score, np.float32)]
    if differs:
        with pytest.raises(ReplayError, match="sample 0"):
            export._difference(outputs, ROW, 0, RULE, 1e-4)
    else:
        expected = pytest.approx(np.abs(outputs[1] - ROW[1][0]).max(), abs=1e-7)
        assert export._difference(outputs, ROW, 0, RULE, 1e-4) == expected


@pytest.mark.parametrize(
    ("gap", "threshold", "score", "differs"),
    [
        (1.9e-4, 0.2, 0.5, False),  # two labels that are as likely as each other within rounding
        (2.1e-4, 0.2, 0.5, True),
        (1e-4, 0.49905, 0.5, False),  # a score at the threshold within rounding
        (1e-4, 0.49895, 0.5, True),
        (1e-4, 49.96, 50.0, False),  # rounding is relative to a large score
        (1e-4, 49.9475, 50.0, True),
    ],
)
def test_what_rounding_decides_may_differ(gap: float, threshold: float, score: float, differs: bool) -> None:
    near = [0.5 + gap / 2, 0.5 - gap / 2]
    expected = [np.array([0]), np.array([near]), np.array([True]), np.array([score])]
    accepted = threshold == 0.2  # else it is acceptance that differs
    outputs = [np.array(1 if accepted else 0), np.array(near), np.array(accepted), np.array(score)]
    rule = dataclasses.replace(RULE, threshold=threshold)
    if differs:
        with pytest.raises(ReplayError):
            export._difference(outputs, expected, 0, rule, 1e-4)
    else:
        assert export._difference(outputs, expected, 0, rule, 1e-4) == 0


def test_with_a_single_label_any_other_is_wrong() -> None:
    expected = [np.array([0]), np.ones((1, 1), np.float32), np.array([True]), np.array([3.5], np.float32)]
    outputs = [np.array(0), np.ones(1, np.float32), np.array(True), np.array(3.5, np.float32)]
    assert export._difference(outputs, expected, 0, RULE, 1e-4) == 0
    with pytest.raises(ReplayError, match=r"predicts 1 with 1\.0+, training 0 with 1\.0+;"):
        export._difference([np.array(1), *outputs[1:]], expected, 0, RULE, 1e-4)


@pytest.mark.parametrize(
    ("count", "most", "rows"), [(0, None, []), (0, 3, []), (4, 4, [0, 1, 2, 3]), (9, 3, [0, 4, 8]), (5, 1, [0])]
)
def test_samples_are_spread_evenly(count: int, most: int | None, rows: list[int]) -> None:
    assert spread(count, most) == rows
