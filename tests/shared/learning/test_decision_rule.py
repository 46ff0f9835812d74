"""The decision rule: probabilities, a score, and a threshold for unknown; the same in the graph."""

import numpy as np
import pytest

from shared.features.graph import TensorSpec, build, open_session
from shared.learning.classifiers import LDA
from shared.learning.decision_rule import DecisionRule, fit_decision_rule, fit_threshold, tail_quantile
from shared.learning.familiarity import (
    FitFamiliarity,
    centroid_familiarity,
    cosine_familiarity,
    subspace_familiarity,
    whitened_familiarity,
)
from shared.learning.heads import fitter
from tests.shared.learning.clusters import clusters

FITS = (subspace_familiarity, cosine_familiarity, whitened_familiarity, centroid_familiarity)


@pytest.mark.parametrize("fit", FITS, ids=lambda fit: fit.__name__)
def test_the_whole_prediction_is_the_same_in_a_graph(fit: FitFamiliarity) -> None:
    x, y = clusters(0)
    head = fitter(LDA())(x, y, 4)
    familiarity = fit(head, x, y)
    rule = fit_decision_rule(np.asarray(head(x)), np.asarray(familiarity(x)), y, y * 0, (1.0, 1.0), (0.2, 0.2))
    features = TensorSpec("features", "float32", (1, x.shape[1])).argument()
    label, chances, accepted, score = rule(head(features), familiarity(features))
    session = open_session(
        build({"features": features}, {"label": label, "chances": chances, "accepted": accepted, "score": score}, {})
    )
    expected = rule(np.asarray(head(x)), np.asarray(familiarity(x)))
    assert 0 < (~expected[2]).sum() < len(x)
    for k in range(0, len(x), 7):
        found = session.run(["label", "chances", "accepted", "score"], {"features": x[k : k + 1]})
        assert found[0][0] == expected[0][k]
        np.testing.assert_allclose(found[1][0], expected[1][k], atol=1e-4)
        assert bool(found[2][0]) == bool(expected[2][k])


def test_probabilities_sum_to_one_and_the_temperature_softens_them() -> None:
    logits, near = np.array([[4.0, 0.0, 0.0]], np.float32), np.zeros(1, np.float32)
    sharp = DecisionRule(1.0, (1, 1), (0, 0), (1, 1), 0.0)(logits, near)[1]
    soft = DecisionRule(4.0, (1, 1), (0, 0), (1, 1), 0.0)(logits, near)[1]
    assert sharp.sum() == pytest.approx(1) == soft.sum()
    assert soft[0, 0] < sharp[0, 0]


def test_a_logit_far_beyond_those_of_known_samples_makes_nothing_known() -> None:
    rule = DecisionRule(1.0, (1, 1), (2, 0), (1, 1), 0.5)
    logits = np.array([[3.0, 0.0], [1000.0, 0.0]], np.float32)
    unfamiliar = np.full(2, -1.0, np.float32)
    assert np.asarray(rule.score(logits, unfamiliar)).tolist() == [0.0, 0.0]
    assert not np.asarray(rule(logits, unfamiliar)[2]).any()


def test_the_threshold_rejects_the_share_that_was_asked_for() -> None:
    scores = np.random.default_rng(0).normal(size=1000)
    threshold = fit_threshold(scores, np.arange(1000) % 8, np.zeros(0), 0.05, 0.05)
    assert (scores < threshold).mean() == pytest.approx(0.05, abs=0.001)


def test_with_few_sessions_the_most_pessimistic_one_decides() -> None:
    rng = np.random.default_rng(0)
    scores = np.concatenate([rng.normal(size=300), rng.normal(size=300) - 2])
    groups = np.repeat([0, 1], 300)
    several = fit_threshold(scores, groups, np.zeros(0), 0.05, 0.05)
    assert several == pytest.approx(fit_threshold(scores[300:], groups[300:], np.zeros(0), 0.05, 0.05))


def test_with_too_few_samples_for_the_rate_none_of_them_is_rejected() -> None:
    scores = np.array([0.3, 0.5, 0.9])
    assert fit_threshold(scores, np.zeros(3, int), np.zeros(0), 0.05, 0.05) < 0.3


def test_the_threshold_lies_between_what_both_rates_ask_for() -> None:
    rng = np.random.default_rng(0)
    known, unknown = rng.normal(0, 1, 400), rng.normal(-8, 1, 400)
    threshold = fit_threshold(known, np.arange(400) % 4, unknown, 0.05, 0.05)
    assert (known < threshold).mean() < 0.05 and (unknown >= threshold).mean() < 0.05
    assert threshold == pytest.approx((np.quantile(known, 0.05) + np.quantile(unknown, 0.95)) / 2)


def test_where_both_rates_are_nearly_met_both_are_missed_alike() -> None:
    rng = np.random.default_rng(0)
    known, unknown = rng.normal(0, 1, 4000), rng.normal(-3, 1, 4000)
    threshold = fit_threshold(known, np.arange(4000) % 4, unknown, 0.05, 0.05)
    assert (known < threshold).mean() == pytest.approx((unknown >= threshold).mean(), abs=0.03)


def test_where_the_unknown_overlap_much_no_more_than_twice_the_wanted_share_of_the_known_is_rejected() -> None:
    rng = np.random.default_rng(0)
    known, unknown = rng.normal(0, 1, 4000), rng.normal(-1, 1, 4000)
    threshold = fit_threshold(known, np.arange(4000) % 4, unknown, 0.05, 0.05)
    assert (known < threshold).mean() == pytest.approx(0.1, abs=0.01)


@pytest.mark.parametrize("count", [2, 5, 9])
def test_a_quantile_of_few_scores_is_no_more_extreme_than_normal_ones_suggest(count: int) -> None:
    scores = np.linspace(-1, 1, count)
    found = tail_quantile(scores, 0.05)
    assert scores.mean() - 2 * scores.std() < found < scores.mean()
