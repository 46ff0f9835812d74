"""Temperature, familiarity and the threshold for unknown."""

import numpy as np
import pytest
from scipy.optimize import minimize_scalar

from shared.evaluation import auroc, softmax
from shared.features.graph import TensorSpec, build, open_session
from shared.learning.calibration import best_temperature, fit_temperature
from shared.learning.decision_rule import DecisionRule, fit_decision_rule, fit_threshold
from shared.learning.familiarity import cosine_familiarity, subspace_familiarity, whitened_familiarity
from shared.learning.heads import fit_lda, fit_prototypes


def _clusters(seed: int, classes: int = 4, width: int = 10, per_class: int = 40) -> tuple[np.ndarray, np.ndarray]:
    centres = np.random.default_rng(1).normal(size=(classes, width)) * 2
    y = np.arange(classes * per_class) % classes
    x = centres[y] + np.random.default_rng(seed).normal(size=(len(y), width))
    return x.astype(np.float32), y


def test_temperature_undoes_overconfidence() -> None:
    rng = np.random.default_rng(0)
    honest = rng.normal(size=(4000, 3)).astype(np.float32) * 1.5
    y = np.array([rng.choice(3, p=p / p.sum()) for p in softmax(honest).astype(float)])
    assert fit_temperature(honest * 6, y, np.arange(4000) % 3) == pytest.approx(6, rel=0.15)


def test_temperature_is_the_one_of_least_loss() -> None:
    rng = np.random.default_rng(0)
    logits = rng.normal(size=(600, 3)).astype(np.float32) * 4
    y = np.array([rng.choice(3, p=p / p.sum()) for p in softmax(logits / 3).astype(float)])
    sure = 601 / 602
    targets = np.where(np.eye(3)[y] > 0, sure, (1 - sure) / 2)

    def loss(temperature: float) -> float:
        return -float(np.sum(targets * np.log(softmax((logits / temperature).astype(np.float32)).astype(np.float64))))

    found, _ = best_temperature(logits, y, np.arange(600) % 3)
    least = minimize_scalar(loss, bounds=(0.5, 10), method="bounded")
    assert found == pytest.approx(least.x, rel=3e-3)


def test_temperature_neither_collapses_nor_explodes_on_perfect_scores() -> None:
    y = np.arange(30) % 3
    perfect = (np.eye(3)[y] * 5).astype(np.float32)
    assert 0.1 < fit_temperature(perfect, y, y * 0) <= 2


def test_temperature_is_kept_only_if_it_helps_other_sessions() -> None:
    """One session is three times too sure and the other three times too unsure: what helps one harms the other."""
    rng = np.random.default_rng(0)
    honest = rng.normal(size=(2000, 3)).astype(np.float32) * 1.5
    y = np.array([rng.choice(3, p=p / p.sum()) for p in softmax(honest).astype(float)])
    session = np.arange(2000) % 2
    logits = honest * np.where(session, 4, 0.25)[:, None].astype(np.float32)
    assert fit_temperature(logits, y, session) == 1.0
    assert fit_temperature(logits, y, np.arange(2000) // 1000) > 1.3, "both sessions mixed: there is one that helps"


@pytest.mark.parametrize(("times", "wanted"), [(1e5, 20.0), (1e-5, 0.02)])
def test_temperature_is_bounded(times: float, wanted: float) -> None:
    rng = np.random.default_rng(0)
    honest = rng.normal(size=(500, 3)) * 1.5
    y = np.array([rng.choice(3, p=p / p.sum()) for p in softmax(honest).astype(float)])
    found = fit_temperature((honest * times).astype(np.float32), y, np.arange(500) % 3)
    assert 0.02 <= found <= 20 and found == pytest.approx(wanted, rel=0.1)


def test_temperature_is_one_where_nothing_is_better_or_nothing_is_known() -> None:
    assert fit_temperature(np.zeros((0, 3), np.float32), np.zeros(0, int), np.zeros(0, int)) == 1.0
    assert fit_temperature(np.zeros((9, 3), np.float32), np.arange(9) % 3, np.arange(9) % 2) == 1.0


@pytest.mark.parametrize("kind", [subspace_familiarity, cosine_familiarity, whitened_familiarity])
def test_familiarity_tells_a_new_class_from_new_samples_of_known_ones(kind) -> None:  # type: ignore[no-untyped-def]
    x, y = _clusters(0)
    known = y != 3
    head = fit_lda(x[known], y[known], 3)
    novelty = kind(head, x[known], y[known])
    fresh, truth = _clusters(5)
    assert auroc(novelty(fresh[truth != 3]), novelty(fresh[truth == 3])) > 0.9


def test_the_discriminant_subspace_is_whitened() -> None:
    x, y = _clusters(0, per_class=400)
    novelty = subspace_familiarity(fit_lda(x, y, 4), x, y)
    assert novelty.projection is not None
    place = (x - novelty.centre) @ novelty.projection
    within = np.concatenate([place[y == k] - place[y == k].mean(axis=0) for k in range(4)])
    np.testing.assert_allclose(np.cov(within.T), np.eye(3), atol=0.15)


@pytest.mark.parametrize("kind", [subspace_familiarity, cosine_familiarity, whitened_familiarity])
def test_the_whole_answer_is_the_same_in_a_graph(kind) -> None:  # type: ignore[no-untyped-def]
    x, y = _clusters(0)
    head = fit_lda(x, y, 4)
    novelty = kind(head, x, y)
    answer = fit_decision_rule(np.asarray(head(x)), np.asarray(novelty(x)), y, y * 0, (1.0, 1.0), 0.2)
    features = TensorSpec("features", "float32", (1, x.shape[1])).argument()
    label, chances, accepted, score = answer(head(features), novelty(features))
    session = open_session(
        build({"features": features}, {"label": label, "chances": chances, "accepted": accepted, "score": score}, {})
    )
    expected = answer(np.asarray(head(x)), np.asarray(novelty(x)))
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


def test_the_threshold_rejects_the_share_that_was_asked_for() -> None:
    scores = np.random.default_rng(0).normal(size=1000)
    threshold = fit_threshold(scores, np.arange(1000) % 8, 0.05)
    assert (scores < threshold).mean() == pytest.approx(0.05, abs=0.001)


def test_with_few_sessions_the_most_pessimistic_one_decides() -> None:
    rng = np.random.default_rng(0)
    scores = np.concatenate([rng.normal(size=300), rng.normal(size=300) - 2])
    groups = np.repeat([0, 1], 300)
    assert fit_threshold(scores, groups, 0.05) == pytest.approx(fit_threshold(scores[300:], groups[300:], 0.05))


def test_with_too_few_samples_for_the_rate_none_of_them_is_rejected() -> None:
    scores = np.array([0.3, 0.5, 0.9])
    assert fit_threshold(scores, np.zeros(3, int), 0.05) < 0.3


@pytest.mark.parametrize("classes", [[0], [0, 0], [0, 1], [0, 0, 1]])
@pytest.mark.parametrize("equal", [True, False])
def test_one_sample_or_equal_ones_make_a_familiarity_too(classes: list[int], equal: bool) -> None:
    """Inner folds of few samples leave as little to fit on."""
    features = np.random.default_rng(0).normal(size=(len(classes), 7)).astype(np.float32)
    if equal:
        features[:] = features[0]
    truth = np.array(classes)
    for fit in (fit_lda, fit_prototypes()):
        head = fit(features, truth, 3)
        assert np.isfinite(np.asarray(head(features))).all()
        for novelty in (whitened_familiarity, cosine_familiarity):
            seen = np.asarray(novelty(head, features, truth)(features))
            assert seen.shape == (len(classes),) and np.isfinite(seen).all()
