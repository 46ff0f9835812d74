"""Candidates: read from a configuration, their features computed once and joined, copies compared with none."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import pytest
from pydantic import TypeAdapter, ValidationError

from shared.evaluation import EvaluationConfig, validate_by_session
from shared.features.arrays import Inputs, namespace
from shared.features.graph import FeatureGraph, TensorSpec
from shared.learning.candidates import (
    Candidate,
    CandidateConfig,
    FeatureSource,
    PrecomputedFeatures,
    Rows,
    build_candidates,
    concat_features,
    fit_head,
    prepared_for_folds,
    resolve_candidates,
)
from shared.learning.familiarity import cosine_familiarity
from shared.learning.folds import Indices

Name = Literal["sums", "squares", "centred"]
Config = CandidateConfig[Name]
SAMPLES = [{"x": np.random.default_rng(k).normal(size=(3 + k % 4, 2)).astype(np.float32)} for k in range(24)]
CONTRACT = (TensorSpec("x", "float32", ("n", 2)),)
SUITABLE = tuple(
    Config.model_validate({"features": features, "classifier": {"type": kind}})
    for features, kind in (("sums", "lda"), ("sums", "ridge"), (["sums", "squares"], "lda"))
)


def _config(features: Any, **classifier: Any) -> Config:
    return Config.model_validate({"features": features, "classifier": classifier or {"type": "lda"}})


def _sums(inputs: Inputs) -> Any:
    return namespace(inputs["x"]).sum(inputs["x"], axis=0)


def _squares(inputs: Inputs) -> Any:
    return namespace(inputs["x"]).sum(inputs["x"] * inputs["x"], axis=0)


def _computed(name: Name, copies: int = 0) -> PrecomputedFeatures:
    graph = FeatureGraph(name, CONTRACT, _sums if name == "sums" else _squares)
    base = np.stack(list(graph.run(SAMPLES)))
    return PrecomputedFeatures(graph, Rows(base, base[:copies] + 100, np.arange(copies)))


@dataclass(frozen=True)
class Centred:
    """Sums less their mean over the training samples."""

    fitted = True

    def rows(self, train: Indices) -> Rows:
        base = np.stack(list(self.graph(train).run(SAMPLES)))
        return Rows(base, base[:0], np.zeros(0, np.int64))

    def graph(self, train: Indices) -> FeatureGraph:
        mean = np.stack([_sums(SAMPLES[k]) for k in train]).mean(axis=0)
        return FeatureGraph("centred", CONTRACT, lambda inputs: _sums(inputs) - namespace(inputs["x"]).asarray(mean))


def _source(name: Name) -> FeatureSource:
    return Centred() if name == "centred" else _computed(name)


# --- what a configuration names


def test_one_feature_set_may_stand_without_a_list() -> None:
    assert _config("sums").features == ("sums",) == _config(["sums"]).features
    assert _config(None).features is None


@pytest.mark.parametrize(
    ("value", "place"),
    [
        ({"features": [], "classifier": {"type": "lda"}}, "features"),
        ({"features": "magic", "classifier": {"type": "lda"}}, "features"),
        ({"features": ["sums", "magic"], "classifier": {"type": "lda"}}, "features"),
        ({"features": "sums"}, "classifier"),
        ({"features": "sums", "classifier": {"type": "magic"}}, "classifier"),
        ({"features": "sums", "classifier": {"type": "svm", "shrinkage": 0.1}}, "classifier"),
        ({"features": "sums", "classifier": {"type": "svm", "C": 0}}, "classifier"),
        ("sums_lda", ""),
    ],
)
def test_what_a_candidate_cannot_be_is_refused_with_its_place(value: Any, place: str) -> None:
    with pytest.raises(ValidationError) as refused:
        TypeAdapter(Config).validate_python(value)
    assert {str(error["loc"][0]) if error["loc"] else "" for error in refused.value.errors()} == {place}


def test_auto_is_what_suits_and_a_list_is_taken_in_its_order() -> None:
    assert resolve_candidates("auto", SUITABLE) == list(SUITABLE)
    listed = [_config("squares"), _config("sums"), _config("squares")]
    assert resolve_candidates(listed, SUITABLE) == listed[:2], "the same candidate twice is one"


def test_a_classifier_without_features_is_compared_on_each_set_that_suits() -> None:
    found = resolve_candidates([_config(None, type="svm"), _config("squares", type="ridge")], SUITABLE)
    assert [(c.features, c.classifier.type) for c in found] == [
        (("sums",), "svm"),
        (("sums", "squares"), "svm"),
        (("squares",), "ridge"),
    ]


# --- features


def test_copies_join_training_only_beside_their_owner() -> None:
    rows = Rows(np.arange(3.0, dtype=np.float32)[:, None], np.array([[10.0], [20.0]], np.float32), np.array([1, 2]))
    features, classes = rows.training(np.array([0, 1]), np.array([0, 1, 1]))
    assert features[:, 0].tolist() == [0, 1, 10]
    assert classes.tolist() == [0, 1, 1]


@pytest.mark.parametrize("names", [("sums",), ("sums", "squares"), ("squares", "centred"), ("centred", "sums")])
def test_joined_features_stand_in_order_and_are_those_of_the_joined_graph(names: tuple[Name, ...]) -> None:
    sources = [_source(name) for name in names]
    source, train = concat_features("joined", sources), np.arange(5)
    base = source.rows(train).base
    np.testing.assert_array_equal(base, np.concatenate([own.rows(train).base for own in sources], axis=1))
    np.testing.assert_array_equal(base, np.stack(list(source.graph(train).run(SAMPLES))))


def test_what_is_fitted_in_joined_features_is_fitted_on_the_training_samples() -> None:
    source = concat_features("joined", [_source("sums"), _source("centred")])
    for train in (np.arange(5), np.arange(5, 20)):
        np.testing.assert_allclose(source.rows(train).base[train, 2:].mean(axis=0), 0, atol=1e-5)


def test_joined_copies_have_all_features_or_there_are_none() -> None:
    both = concat_features("both", [_computed("sums", 3), _computed("squares", 3)]).rows(np.arange(24))
    np.testing.assert_array_equal(both.copies, both.base[:3] + 100)
    assert both.owner.tolist() == [0, 1, 2]
    one = concat_features("one", [_computed("sums", 3), _computed("squares")]).rows(np.arange(24))
    assert one.copies.shape == (0, 4) and not len(one.owner)


# --- candidates


def _built(configs: list[Config], copies: int = 0) -> tuple[list[Candidate], list[Name]]:
    computed: list[Name] = []

    def source_of(name: Name) -> FeatureSource:
        computed.append(name)
        return _computed(name, copies)

    built = build_candidates(
        configs, source_of, lambda _: cosine_familiarity, 0, modality="toy", isotropic_familiarity=True
    )
    return built, computed


def test_each_feature_set_is_computed_once_and_candidates_are_named_by_all_that_they_are() -> None:
    built, computed = _built([_config("sums"), _config("sums", type="svm", C=10), _config(["sums", "squares"])])
    assert computed == ["sums", "squares"]
    assert [c.name for c in built] == ["sums: lda", "sums: svm(C=10.0)", "sums+squares: lda"]
    assert [c.features for c in built] == [("sums",), ("sums",), ("sums", "squares")]
    assert built[2].source.graph(np.arange(3)).spec_id.startswith("toy-sums+squares-")


def test_with_copies_every_candidate_is_compared_without_and_then_with_them() -> None:
    built, _ = _built([_config("sums"), _config("squares")], copies=4)
    assert [c.name for c in built] == [
        "sums: lda",
        "squares: lda",
        "sums: lda, with copies",
        "squares: lda, with copies",
    ]
    assert [len(c.source.rows(np.arange(24)).copies) for c in built] == [0, 0, 4, 4]


def test_copies_train_the_head() -> None:
    without, with_them = _built([_config("sums")], copies=4)[0]
    classes, train = np.arange(24) % 2, np.arange(12)
    rows = without.source.rows(train).base
    heads = [np.asarray(fit_head(c, classes, train, 2)(rows)) for c in (without, with_them)]
    assert np.abs(heads[0] - heads[1]).max() > 0.1


def test_only_what_looks_at_inner_products_alone_may_be_turned() -> None:
    names = {"lda": False, "logistic_regression": True, "kernel_ridge": True, "svm": False, "random_forest": False}
    for kind, isotropic in names.items():
        plain, scaled = _built([_config("sums", type=kind, scaler="none"), _config("sums", type=kind)])[0]
        assert (plain.isotropic, scaled.isotropic) == (isotropic, False), kind


@pytest.mark.parametrize("settings", [{"type": "kernel_ridge", "kernel": "rbf"}, {"type": "logistic_regression"}])
def test_a_candidate_prepared_for_folds_gives_the_logits_that_it_gives_unprepared(settings: dict[str, Any]) -> None:
    rng = np.random.default_rng(0)
    base, classes, train = rng.normal(size=(40, 90)).astype(np.float32), np.arange(40) % 3, np.arange(30)
    graph = FeatureGraph("wide", (TensorSpec("x", "float32", (90,)),), lambda inputs: inputs["x"])
    source = PrecomputedFeatures(graph, Rows(base, base[:0], np.zeros(0, np.int64)))
    config = CandidateConfig[Literal["wide"]].model_validate(
        {"features": "wide", "classifier": settings | {"scaler": "none"}}
    )
    (candidate,) = build_candidates(
        [config], lambda _: source, lambda _: cosine_familiarity, 0, modality="toy", isotropic_familiarity=True
    )
    prepared = prepared_for_folds(candidate, np.arange(40))
    quicker = prepared.fit_on_subset is not None or prepared.source.rows(train).base.shape[1] < 90
    assert quicker, "otherwise this compares the candidate with itself"
    again = prepared_for_folds(prepared, np.arange(40))  # as the random split does with the winner
    plain, *others = (
        np.asarray(fit_head(c, classes, train, 3)(c.source.rows(train).base)) for c in (candidate, prepared, again)
    )
    for logits in others:
        np.testing.assert_allclose(logits, plain, atol=0.02)


@pytest.mark.parametrize("names", [("centred",), ("centred", "sums")])
def test_what_folds_share_holds_no_features_that_were_fitted_on_all_samples(names: tuple[Name, ...]) -> None:
    config = _config(names, type="kernel_ridge", kernel="rbf", scaler="none")
    (candidate,) = build_candidates([config], _source, lambda _: cosine_familiarity, 0, modality="toy")
    classes, train = np.arange(24) % 2, np.arange(8)
    rows = candidate.source.rows(train).base
    one, other = (
        np.asarray(fit_head(c, classes, train, 2)(rows))
        for c in (candidate, prepared_for_folds(candidate, np.arange(24)))
    )
    np.testing.assert_allclose(one, other, atol=1e-5)


@pytest.mark.slow
def test_features_that_are_fitted_are_validated_and_a_fold_is_held_out_of_them() -> None:
    fitted_on: list[frozenset[int]] = []

    class Spy(Centred):
        def graph(self, train: Indices) -> FeatureGraph:
            fitted_on.append(frozenset(train.tolist()))
            return super().graph(train)

    (candidate,) = build_candidates(
        [_config(["centred", "sums"])],
        lambda name: Spy() if name == "centred" else _computed(name),
        lambda _: cosine_familiarity,
        0,
        modality="toy",
    )
    sessions = [f"s{k // 8}" for k in range(24)]
    config = EvaluationConfig(random_split=False, unknown=False, learning_curve=False)
    validate_by_session([candidate], np.arange(24) % 2, sessions, range(24), config, 0)
    whole = [frozenset(range(k, k + 8)) for k in (0, 8, 16)]
    # All samples come up once, where what the fits share is prepared; nothing is tested on that.
    assert {rows for rows in fitted_on if len(rows) < 24} == {frozenset(range(24)) - s for s in whole} | set(whole)
