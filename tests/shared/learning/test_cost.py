"""What is left out for a budget follows from counts and configuration, in order, and never is everything."""

from __future__ import annotations

from typing import Any, get_args

import numpy as np
import pytest

from shared.evaluation import EvaluationConfig, validate_by_session, validation_fits
from shared.features.graph import FeatureGraph, TensorSpec
from shared.learning.candidates import Candidate, CandidateConfig, PrecomputedFeatures, Rows
from shared.learning.classifiers import LDA, MLP, SVM, Classifier, ClassifierConfig, RandomForest
from shared.learning.cost import PlannedCandidate, SampleCounts, TrainingPlan, fit_seconds, plan_training
from shared.learning.familiarity import whitened_familiarity
from shared.learning.heads import Classes, Features, Head, fitter
from shared.trainers import Cost

COUNTS = SampleCounts(samples=400, labels=5, groups=4, largest_label=80)
COST = Cost(start_seconds=2.0, seconds_per_sample=0.0, start_memory_bytes=100)
CHEAP, DEAR, DEARER = LDA(), RandomForest(), MLP(hidden_layer_sizes=(2048, 2048))


def _planned(*classifiers: ClassifierConfig, **more: Any) -> list[PlannedCandidate]:
    configs = [CandidateConfig[str].model_validate({"features": "x", "classifier": c}) for c in classifiers]
    return [PlannedCandidate(config, 64, **more) for config in configs]


def _plan(budget: Any, *classifiers: ClassifierConfig, counts: SampleCounts = COUNTS, **more: Any) -> TrainingPlan:
    return plan_training(_planned(*classifiers, **more), counts, EvaluationConfig(), budget, COST)


def _names(plan: TrainingPlan) -> tuple[list[str], list[str]]:
    compared, left_out = ([one.candidate.name.split(": ")[1] for one in row] for row in (plan.compared, plan.left_out))
    return [name.split("(")[0] for name in compared], [name.split("(")[0] for name in left_out]


def test_candidates_are_kept_in_their_order_as_long_as_the_budget_lasts() -> None:
    enough = _plan(None, CHEAP, DEAR).seconds
    assert _names(_plan(enough, CHEAP, DEAR, DEARER)) == (["lda", "random_forest"], ["mlp"])
    assert _names(_plan(enough * 0.9, CHEAP, DEAR, DEARER)) == (["lda"], ["random_forest", "mlp"])
    assert _names(_plan(enough, DEARER, CHEAP, DEAR)) == (["lda", "random_forest"], ["mlp"])


def test_the_cheapest_is_kept_where_each_breaks_the_budget() -> None:
    assert _names(_plan(0.001, DEARER, CHEAP, DEAR)) == (["lda"], ["mlp", "random_forest"])
    assert _names(_plan(0.001, DEARER)) == (["mlp"], [])


def test_the_budget_is_thirty_seconds_for_few_samples_and_none_for_many() -> None:
    many = SampleCounts(samples=1000, labels=5, groups=4, largest_label=200)
    fewer = SampleCounts(samples=999, labels=5, groups=4, largest_label=200)
    assert _plan("auto", CHEAP, DEARER, counts=fewer).budget_seconds == 30.0
    assert _names(_plan("auto", CHEAP, DEARER, counts=fewer)) == (["lda"], ["mlp"])
    assert _plan("auto", CHEAP, DEARER, counts=many).budget_seconds is None
    assert _names(_plan("auto", CHEAP, DEARER, counts=many)) == (["lda", "mlp"], [])
    assert _names(_plan(None, CHEAP, DEARER, counts=fewer)) == (["lda", "mlp"], [])


def test_an_estimate_begins_with_what_every_run_takes_and_grows_with_copies_and_fitted_features() -> None:
    assert _plan(None).seconds == pytest.approx(2.0, abs=0.1)
    plain = _plan(None, CHEAP)
    assert plain.memory_bytes > 100
    assert _plan(None, CHEAP, copies=3).seconds > plain.seconds
    assert _plan(None, CHEAP, copies=3).memory_bytes > plain.memory_bytes
    assert _plan(None, CHEAP, whitened=True).seconds > plain.seconds
    assert _plan(None, CHEAP, refitting=0.01).seconds > plain.seconds + 100


@pytest.mark.parametrize("classifier", get_args(get_args(Classifier)[0]))
def test_every_classifier_has_an_estimate_that_grows_with_samples(classifier: type[ClassifierConfig]) -> None:
    config = classifier()
    seconds = [fit_seconds(config, samples, 64, 5) for samples in (50, 500, 5000)]
    assert 0 < seconds[0] < seconds[1] < seconds[2]


def test_more_labels_make_a_machine_for_each_pair_dearer() -> None:
    assert fit_seconds(SVM(), 600, 64, 300) > 10 * fit_seconds(SVM(), 600, 64, 5)


@pytest.mark.parametrize("sessions", [1, 2, 3, 5, 8])
@pytest.mark.parametrize("left_out", [True, False])
def test_the_fits_that_are_expected_are_those_that_a_validation_makes(sessions: int, left_out: bool) -> None:
    rng = np.random.default_rng(0)
    classes = np.arange(96) % 4
    groups = [f"s{k}" for k in np.arange(96) // 4 % sessions]
    features = (rng.normal(size=(4, 6))[classes] * 3 + rng.normal(size=(96, 6))).astype(np.float32)
    fits: list[int] = []
    fit_lda = fitter(LDA())

    def fit(rows: Features, own: Classes, count: int) -> Head:
        fits.append(len(rows))
        return fit_lda(rows, own, count)

    graph = FeatureGraph("x", (TensorSpec("x", "float32", (6,)),), lambda inputs: inputs["x"])
    source = PrecomputedFeatures(graph, Rows(features, features[:0], np.zeros(0, np.int64)))
    config = EvaluationConfig(unknown=left_out)
    candidate = Candidate("counted", source, fit, whitened_familiarity)
    validate_by_session([candidate], classes, groups, list(range(96)), config, 0)
    expected = validation_fits(sessions, 4, 24, config)
    assert len(fits) == expected.compared + expected.left_out + expected.heads
