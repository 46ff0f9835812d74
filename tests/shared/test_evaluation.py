"""Validation that cannot see what it is tested on."""

from collections.abc import Callable, Sequence
from dataclasses import replace

import numpy as np
import pytest

from shared.evaluation import EvaluationConfig, HeldOutLogits, Validation, choose, validate_by_session
from shared.features.graph import FeatureGraph, TensorSpec
from shared.learning import decision_rule
from shared.learning.calibration import calibration_error
from shared.learning.candidates import Candidate, PrecomputedFeatures, Rows, fit_candidate
from shared.learning.classifiers import LDA, LogisticRegression
from shared.learning.decision_rule import fit_decision_rule
from shared.learning.familiarity import (
    NearestFamiliarity,
    cosine_familiarity,
    subspace_familiarity,
    whitened_familiarity,
)
from shared.learning.fold_fits import SHIFTS
from shared.learning.folds import Indices
from shared.learning.heads import Classes, Features, Head, fitter

FIT_LDA = fitter(LDA())
GRAPH = FeatureGraph("x", (TensorSpec("x", "float32", (4,)),), lambda inputs: inputs["x"])


def _rows(x: np.ndarray) -> Rows:
    return Rows(x.astype(np.float32), np.zeros((0, x.shape[1]), np.float32), np.zeros(0, np.int64))


def _candidate(name: str, x: np.ndarray) -> Candidate:
    return Candidate(name, PrecomputedFeatures(GRAPH, _rows(x)), FIT_LDA, whitened_familiarity)


def _validate(candidates: Sequence[Candidate], y: Classes, sessions: Sequence[str]) -> Validation:
    return validate_by_session(candidates, y, sessions, list(range(len(y))), EvaluationConfig(), seed=0)


def _data(
    sessions: int = 3, each: int = 40, shift: float = 0.0, seed: int = 0
) -> tuple[np.ndarray, Classes, list[str]]:
    rng = np.random.default_rng(seed)
    n = sessions * each
    y, s = np.arange(n) % 4, np.arange(n) // each
    centres = np.random.default_rng(9).normal(size=(4, 6)) * 3
    offsets = rng.normal(size=(sessions, 6)) * shift
    return centres[y] + offsets[s] + rng.normal(size=(n, 6)), y, [f"s{k}" for k in s]


def test_a_feature_that_only_tells_the_session_apart_scores_no_better_than_chance() -> None:
    """Every sample has a twin in its session: a random split finds it, a split by session does not."""
    rng = np.random.default_rng(0)
    y = np.repeat(np.tile(np.arange(4), 15), 2)
    sessions = [f"s{k}" for k in np.repeat(np.arange(3), 40)]
    x = np.repeat(rng.normal(size=(60, 200)), 2, axis=0) + rng.normal(size=(120, 200)) * 0.01
    found = _validate([_candidate("twins", x)], y, sessions)
    assert found.random_accuracy is not None
    assert found.random_accuracy > 0.7
    assert (found.predicted == y).mean() < 0.5


def test_discriminants_of_many_features_and_few_samples_are_not_surer_than_they_are_right() -> None:
    """Their logits are hundreds of times too large, and a handful of samples hardly shows it."""
    rng = np.random.default_rng(0)
    y = np.tile(np.arange(4), 6)
    x = 0.25 * rng.normal(size=(4, 400))[y] + rng.normal(size=(24, 400))
    wide = replace(_candidate("wide", x), classifier=LDA())
    found = _validate([wide], y, [f"s{k}" for k in np.repeat(np.arange(3), 8)])
    correct = found.predicted == y
    assert 0.4 < correct.mean() < 0.95
    assert calibration_error(found.uncalibrated, correct) > calibration_error(found.probabilities, correct) + 0.05
    assert abs(found.probabilities.max(axis=1).mean() - correct.mean()) < 0.2


@pytest.mark.parametrize(("temperature", "kept"), [(50.0, False), (0.5, True)])
def test_calibration_is_given_up_where_it_surely_raises_the_error_of_held_out_sessions(
    temperature: float, kept: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    x, y, sessions = _data(shift=1.0)
    monkeypatch.setattr(decision_rule, "fit_temperature", lambda *_: temperature)
    found = _validate([_candidate("a", x)], y, sessions)
    correct = found.predicted == y
    errors = [calibration_error(chances, correct) for chances in (found.calibrated, found.uncalibrated)]
    assert kept or errors[0] > errors[1] + 0.1
    assert found.rule.temperature == (temperature if kept else 1.0)
    assert found.probabilities is (found.calibrated if kept else found.uncalibrated)


def test_everything_fitted_for_a_fold_is_fitted_without_it() -> None:
    x, y, sessions = _data()
    fitted_on: list[frozenset[int]] = []

    def spy(features: Features, classes: Classes, count: int) -> Head:
        fitted_on.append(frozenset(features[:, 0].astype(int).tolist()))
        return FIT_LDA(
            features + np.random.default_rng(0).normal(size=features.shape).astype(np.float32), classes, count
        )

    numbered = np.concatenate([np.arange(len(y))[:, None], x], axis=1)
    candidate = Candidate("spy", PrecomputedFeatures(GRAPH, _rows(numbered)), spy, cosine_familiarity)
    validate_by_session(
        [candidate],
        y,
        sessions,
        list(range(len(y))),
        EvaluationConfig(random_split=False, unknown=False, learning_curve=False),
        0,
    )
    whole = {name: frozenset(k for k, s in enumerate(sessions) if s == name) for name in set(sessions)}
    assert len(fitted_on) == 3 + 3, "one model a fold, one a pair of folds"
    for rows in fitted_on:
        for members in whole.values():
            assert rows >= members or not rows & members, "a session is in training whole, or not at all"


def test_the_headline_is_answered_by_models_that_did_not_choose_on_it() -> None:
    """With 30 candidates of pure noise the best looks good on the data that chose it; the headline does not."""
    rng = np.random.default_rng(1)
    y, sessions = np.arange(48) % 2, [f"s{k // 16}" for k in range(48)]
    noise = [_candidate(f"noise{k}", rng.normal(size=(48, 3))) for k in range(30)]
    found = _validate(noise, y, sessions)
    assert max(found.candidates.values()) > 0.6
    assert (found.predicted == y).mean() < 0.6


def test_the_better_candidate_wins_in_every_fold() -> None:
    x, y, sessions = _data()
    found = _validate(
        [_candidate("noise", x * 0 + np.random.default_rng(0).normal(size=x.shape)), _candidate("signal", x)],
        y,
        sessions,
    )
    assert found.winner.name == "signal"
    assert set(found.chosen_by_fold) == {"signal"}
    assert (found.predicted == y).mean() > 0.85


def test_of_equals_the_first_wins() -> None:
    x, y, sessions = _data()
    assert _validate([_candidate("first", x), _candidate("second", x)], y, sessions).winner.name == "first"


def test_choose_pairs_candidates_sample_by_sample() -> None:
    y = np.arange(200) % 2

    def held(wrong: Indices) -> HeldOutLogits:
        logits = np.eye(2, dtype=np.float32)[np.where(np.isin(np.arange(200), wrong), 1 - y, y)]
        return HeldOutLogits(np.arange(200), logits, np.zeros(200, np.int64))

    best, nearly, worse = held(np.arange(10)), held(np.arange(11)), held(np.arange(20))
    assert choose([nearly, best], y) == 0, "one sample in two hundred is within one standard error"
    assert choose([worse, best], y) == 1, "ten samples that only the better one gets right are not"


def test_unknown_is_told_from_known_where_labels_are_far_apart() -> None:
    x, y, sessions = _data(shift=0.2)
    found = _validate([_candidate("signal", x)], y, sessions)
    assert sorted(found.left_out.auroc) == [0, 1, 2, 3]
    assert np.mean(list(found.left_out.auroc.values())) > 0.85


def test_about_as_many_known_samples_are_rejected_as_was_allowed() -> None:
    x, y, sessions = _data(sessions=8, each=60)
    config = EvaluationConfig(false_rejection=0.1, unknown=False)
    found = validate_by_session([_candidate("signal", x)], y, sessions, list(range(len(y))), config, seed=0)
    assert 0.05 < 1 - found.accepted.mean() < 0.16


def test_labels_that_were_left_out_are_rejected_where_the_score_can_tell_them_apart() -> None:
    x, y, sessions = _data(shift=0.2)
    found = _validate([_candidate("signal", x)], y, sessions)
    assert sorted(set(y[found.left_out.indices])) == [0, 1, 2, 3]
    assert found.left_out.accepted.mean() < 0.25
    assert 1 - found.accepted.mean() < 0.15


def test_two_labels_leave_one_to_reject() -> None:
    x, y, sessions = _data(shift=0.2)
    two = y < 2
    found = _validate([_candidate("signal", x[two])], y[two], [s for s, k in zip(sessions, two, strict=True) if k])
    assert sorted(set(y[two][found.left_out.indices])) == [0, 1]
    assert np.isfinite(found.rule.threshold)


Kind = Callable[[Head, Features, Classes], NearestFamiliarity]
KINDS = [subspace_familiarity, whitened_familiarity, cosine_familiarity]


def _drifting(seed: int, steps: Sequence[float]) -> tuple[np.ndarray, Classes, np.ndarray]:
    """Sessions of 60 samples of four labels, each moved by a step, times the spread of a feature, in one direction."""
    rng = np.random.default_rng(seed)
    y, session = np.arange(60 * len(steps)) % 4, np.arange(60 * len(steps)) // 60
    direction = rng.normal(size=8) / np.sqrt(8)
    x = rng.normal(size=(4, 8))[y] * 3 + np.array(steps)[session][:, None] * direction + rng.normal(size=(len(y), 8))
    return x.astype(np.float32), y, session


def _quick(x: np.ndarray, y: Classes, session: np.ndarray, kind: Kind) -> tuple[Candidate, Validation]:
    candidate = Candidate("lda", PrecomputedFeatures(GRAPH, _rows(x)), FIT_LDA, kind)
    config = EvaluationConfig(false_rejection=0.05, random_split=False, unknown=False, learning_curve=False)
    names = [f"s{k}" for k in session]
    return candidate, validate_by_session([candidate], y, names, list(range(len(y))), config, 0)


@pytest.mark.slow
@pytest.mark.parametrize("kind", KINDS)
def test_asked_for_one_in_twenty_it_rejects_at_most_one_in_ten_of_a_day_that_drifted_further(kind: Kind) -> None:
    realised, naive = [], []
    for seed in range(10):
        x, y, session = _drifting(seed, (0.0, 1.5, 3.0))
        third = session == 2
        candidate, found = _quick(x, y, session, kind)
        realised.append(1 - found.accepted[third].mean())
        rule = _quick(x[~third], y[~third], session[~third], kind)[1].rule  # as it would be published that day
        fitted = fit_candidate(candidate, y, np.flatnonzero(~third), 4)
        realised.append(1 - rule(*fitted(x[third]))[2].mean())
        own = fit_decision_rule(*fitted(x[~third]), y[~third], y[~third] * 0, (1.0, 1.0), (0.05, 0.05))
        naive.append(1 - own(*fitted(x[third]))[2].mean())
    assert np.mean(realised) <= 0.1
    assert np.mean(naive) > 0.1, "with the scores of samples that were trained on it would reject far more"


@pytest.mark.slow
@pytest.mark.parametrize("kind", KINDS)
def test_with_one_session_simulated_session_shifts_keep_the_next_day_from_being_rejected(
    kind: Kind, monkeypatch: pytest.MonkeyPatch
) -> None:
    realised: dict[int, list[float]] = {0: [], SHIFTS: []}
    for seed in range(10):
        x, y, session = _drifting(seed, (0.0, 1.5))
        first = session == 0
        for shifts in realised:
            monkeypatch.setattr("shared.learning.fold_fits.SHIFTS", shifts)
            candidate, found = _quick(x[first], y[first], session[first], kind)
            accepted = found.rule(*fit_candidate(candidate, y, np.flatnonzero(first), 4)(x[~first]))[2]
            realised[shifts].append(float(1 - accepted.mean()))
    assert np.mean(realised[SHIFTS]) <= 0.06 and np.mean(realised[SHIFTS]) < 0.75 * np.mean(realised[0])


@pytest.mark.slow
def test_the_same_seed_gives_the_same_validation() -> None:
    x, y, sessions = _data(sessions=9, each=16)
    candidates = [
        _candidate("lda", x),
        Candidate("logistic", PrecomputedFeatures(GRAPH, _rows(x)), fitter(LogisticRegression()), cosine_familiarity),
    ]
    first, second = (_validate(candidates, y, sessions) for _ in range(2))
    np.testing.assert_array_equal(first.probabilities, second.probabilities)
    np.testing.assert_array_equal(first.score, second.score)
    assert first.rule == second.rule


def test_every_fit_of_a_validation_is_a_step_of_its_progress() -> None:
    x, y, sessions = _data()
    fits: list[int] = []

    def fit(features: Features, classes: Classes, count: int) -> Head:
        fits.append(len(classes))
        return FIT_LDA(features, classes, count)

    reported: list[tuple[int, int]] = []
    candidate = replace(_candidate("counted", x), fit=fit)
    times = list(range(len(y)))
    validate_by_session([candidate], y, sessions, times, EvaluationConfig(), 0, lambda *step: reported.append(step))
    total = reported[-1][1]
    assert reported == sorted(reported)
    assert {total for _, total in reported} == {total}
    assert reported[-1] == (total, total)
    assert len(fits) < len(reported) <= total + 1
