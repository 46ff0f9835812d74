"""Temperature scaling: it undoes what is too sure or too unsure, as far as there is data that says so."""

import numpy as np
import pytest
from scipy.optimize import minimize_scalar
from scipy.special import softmax
from scipy.stats import t as students_t
from scipy.stats import ttest_1samp

from shared.learning.calibration import (
    best_temperature,
    calibration_error,
    calibration_gaps,
    fit_temperature,
    reliability,
    surely_worse,
)
from shared.learning.heads import ABSENT, Classes, Features


def _honest(samples: int, spread: float = 1.5) -> tuple[Features, Classes]:
    """Return logits (n, 3) whose softmax is as sure as it is right, and classes (n,) drawn from it."""
    rng = np.random.default_rng(0)
    logits = rng.normal(size=(samples, 3)).astype(np.float32) * np.float32(spread)
    return logits, np.array([rng.choice(3, p=p / p.sum()) for p in softmax(logits, axis=1).astype(float)])


def test_temperature_undoes_overconfidence() -> None:
    honest, y = _honest(4000)
    assert fit_temperature(honest * 6, y) == pytest.approx(6, rel=0.15)


def test_the_best_temperature_is_the_one_of_least_loss() -> None:
    honest, y = _honest(600)
    logits, sure = honest * 3, 601 / 602
    targets = np.where(np.eye(3)[y] > 0, sure, (1 - sure) / 2)

    def loss(temperature: float) -> float:
        return -float(np.sum(targets * np.log(softmax(logits / temperature, axis=1))))

    least = minimize_scalar(loss, bounds=(0.5, 10), method="bounded")
    assert best_temperature(logits, y) == pytest.approx(least.x, rel=3e-3)


def test_temperature_neither_collapses_nor_explodes_on_perfect_scores() -> None:
    y = np.arange(30) % 3
    perfect = (np.eye(3)[y] * 5).astype(np.float32)
    assert 0.1 < fit_temperature(perfect, y) <= 2


@pytest.mark.parametrize("times", [1 / 8, 8])
def test_the_fewer_samples_the_closer_the_temperature_is_to_the_usual_one(times: float) -> None:
    """Logits are `times` too large, and so is the temperature that would undo that."""
    honest, y = _honest(4000)
    off = [abs(np.log(fit_temperature(honest[:n] * np.float32(times), y[:n]))) for n in (0, 9, 90, 4000)]
    assert off[0] == 0 and off[0] < off[1] < off[2] < off[3]
    assert off[1] < 0.5 * np.log(8)
    assert off[3] > 0.95 * np.log(8)


def test_where_logits_grow_with_features_the_usual_temperature_grows_with_their_spread() -> None:
    honest, y = _honest(30)
    one, *others = (fit_temperature(honest * np.float32(times), y, 0.2) for times in (1, 0.001, 1000))
    assert others == pytest.approx([0.001 * one, 1000 * one], rel=1e-3)
    assert 0.2 * honest.std() * 0.5 < one < 1.5, "between what is usual and what is right"
    assert fit_temperature(honest[:3] * 1000, y[:3], 0.2) == pytest.approx(200 * _spread(honest[:3]), rel=1e-3)


def _spread(logits: Features) -> float:
    return float(np.sqrt(np.mean((logits - logits.mean(axis=1, keepdims=True)) ** 2)))


@pytest.mark.parametrize("share", [None, 0.2])
@pytest.mark.parametrize(("samples", "count"), [(4, 2), (9, 2), (9, 3), (46, 3), (600, 3)])
def test_the_temperature_is_the_most_probable_one(samples: int, count: int, share: float | None) -> None:
    """Its prior is log-normal; the samples count in full once there are five times the square of the labels."""
    honest, y = _honest(samples)
    logits, classes = honest[:, :count] * 3, np.minimum(y, count - 1)
    usual = 1.0 if share is None else share * _spread(logits)
    sure = (samples + 1) / (samples + 2)
    targets = np.where(np.eye(count)[classes] > 0, sure, (1 - sure) / (count - 1))

    def improbability(off: float) -> float:
        loss = -float(np.sum(targets * np.log(softmax(logits / (usual * np.exp(off)), axis=1))))
        return min(samples / (5 * count**2), 1) * loss + (off / 0.5) ** 2 / 2

    off = minimize_scalar(improbability, bounds=(-3, 3), method="bounded").x
    assert fit_temperature(logits, classes, share) == pytest.approx(usual * np.exp(off), rel=1e-3)


@pytest.mark.parametrize("times", [1, 100, 1000, 100_000])
def test_a_sample_of_a_class_that_its_fold_lacked_says_nothing_of_the_temperature(times: int) -> None:
    """What a class that cannot win costs is the same at every temperature, however large logits are."""
    honest, y = _honest(100)
    logits, lacking = honest * np.float32(times), (np.arange(100) < 20) & (y == 2)
    logits[:20, 2] = ABSENT
    assert lacking.sum() > 3
    for fit in (lambda *at: fit_temperature(*at, 0.2), lambda *at: best_temperature(*at, 0.01, 1e7)):
        assert fit(logits, y) == pytest.approx(fit(logits[~lacking], y[~lacking]), rel=0.05)
        assert fit(logits, y) == pytest.approx(fit(honest * np.float32(times), y), rel=0.1)


def test_a_class_that_a_fold_lacked_does_not_count_in_the_spread() -> None:
    honest, y = _honest(3)
    with_absent = np.concatenate([honest, np.full((3, 1), ABSENT, np.float32)], axis=1)
    assert fit_temperature(with_absent, y, 0.2) == pytest.approx(fit_temperature(honest, y, 0.2))


def test_temperature_is_one_where_nothing_is_better_or_nothing_is_known() -> None:
    for share in (None, 0.2):
        assert fit_temperature(np.zeros((0, 3), np.float32), np.zeros(0, int), share) == 1.0
        assert fit_temperature(np.zeros((3, 3), np.float32), np.arange(3), share) == 1.0, "nothing was trained"
    assert fit_temperature(np.zeros((9, 3), np.float32), np.arange(9) % 3) == pytest.approx(1.0, abs=1e-3)


def test_too_little_to_fit_a_temperature_leaves_the_logits_as_they_are() -> None:
    y = np.arange(8) % 2
    logits = (np.eye(2)[y] * 0.5).astype(np.float32)
    for fit in (best_temperature, fit_temperature):
        assert fit(logits[:3], y[:3]) == 1.0
        assert fit(logits[:, :1], y * 0) == 1.0, "one label"
    for samples in (4, 8):
        assert best_temperature(logits[:samples], y[:samples]) < 0.5, "unsure logits that are always right"


@pytest.mark.parametrize(("lowest", "highest"), [(0.5, 2.0), (0.02, 1000.0)])
def test_a_temperature_stays_within_its_bounds(lowest: float, highest: float) -> None:
    y = np.arange(200) % 4
    right, wrong = (np.eye(4)[k].astype(np.float32) for k in (y, (y + 1) % 4))
    assert best_temperature(right * 0.001, y, lowest, highest) == pytest.approx(lowest, rel=0.05)
    assert best_temperature(wrong, y, lowest, highest) == pytest.approx(highest, rel=0.05)


PROBABILITIES = np.array([[0.92, 0.08], [0.08, 0.92], [0.62, 0.38], [1.0, 0.0], [0.0, 1.0]], np.float32)
CORRECT = np.array([True, False, True, True, False])


def test_calibration_is_judged_bin_by_bin() -> None:
    bins = reliability(PROBABILITIES, CORRECT)
    assert [count for _, _, count in bins] == [1, 4]
    assert [confidence for confidence, _, _ in bins] == pytest.approx([0.62, 0.96])
    assert [accuracy for _, accuracy, _ in bins] == [1.0, 0.5]
    assert calibration_error(PROBABILITIES, CORRECT) == pytest.approx((0.38 * 1 + 0.46 * 4) / 5)
    assert calibration_error(PROBABILITIES, CORRECT, bins=1) == pytest.approx(abs(4.46 - 3) / 5)


def test_gaps_of_groups_add_up_to_the_error_of_all() -> None:
    gaps = calibration_gaps(PROBABILITIES, CORRECT, np.array([0, 2, 2, 0, 2]))
    assert gaps.shape == (3, 10) and not gaps[1].any()
    assert gaps[[0, 2, 2], [9, 9, 6]] == pytest.approx([-0.08, 1.92, -0.38])
    assert np.abs(gaps.sum(axis=0)).sum() / 5 == pytest.approx(calibration_error(PROBABILITIES, CORRECT))


def test_there_are_ten_bins_unless_more_are_wanted() -> None:
    top = np.linspace(0.5, 1, 500, endpoint=False)
    probabilities, correct = np.stack([top, 1 - top], axis=1), np.arange(500) % 3 > 0
    for judge in (reliability, calibration_error):
        assert judge(probabilities, correct) == judge(probabilities, correct, 10)
        assert judge(probabilities, correct) not in [judge(probabilities, correct, bins) for bins in (9, 11)]
    assert calibration_gaps(probabilities, correct, np.zeros(500, np.int64)).shape == (1, 10)


def test_gaps_and_reliability_use_the_same_bins_at_their_edges() -> None:
    """0.9 as a float32 is a little less than 0.9, and ten times as much rounds to nine."""
    top = np.linspace(0.5, 1, 51).astype(np.float32)
    probabilities, correct = np.stack([top, 1 - top], axis=1), np.arange(51) % 3 > 0
    gaps = calibration_gaps(probabilities, correct, np.zeros(51, np.int64))
    assert np.abs(gaps).sum() / 51 == pytest.approx(calibration_error(probabilities, correct), rel=1e-9)


def test_calibration_is_surely_worse_only_where_sessions_agree() -> None:
    rng = np.random.default_rng(0)
    correct = rng.random(200) < 0.95
    right, wrong = (np.tile(np.array([share, 1 - share], np.float32), (200, 1)) for share in (0.95, 0.6))
    groups = np.repeat(np.arange(4), 50)
    assert surely_worse(wrong, right, correct, groups)
    assert not surely_worse(right, wrong, correct, groups)
    assert not surely_worse(right, right, correct, groups)
    assert surely_worse(wrong, right, correct, np.zeros(200, np.int64)), "one session"
    mixed = np.where(groups[:, None] == 0, wrong, right)
    assert not surely_worse(mixed, right, correct, groups), "one session of four is no agreement"
    assert not surely_worse(wrong[:1], right[:1], correct[:1], groups[:1])


@pytest.mark.parametrize("sessions", [2, 3, 12])
def test_how_far_sessions_must_agree_is_what_students_t_says(sessions: int) -> None:
    """Where every sample is right, the error is the mean of what confidence lacks, whose jackknife is Student's."""
    one_differs = (np.eye(sessions)[0] - 1 / sessions) * np.sqrt(sessions)
    for factor, worse in ((1.01, True), (0.99, False)):
        lacking = 0.02 * (one_differs + factor * students_t.ppf(0.975, sessions - 1) / np.sqrt(sessions))
        assert lacking.min() > 0 and (ttest_1samp(lacking, 0).pvalue < 0.05) == worse
        top = np.tile(1 - lacking, 4)
        sure, unsure = (np.stack([chances, 1 - chances], axis=1) for chances in (np.ones_like(top), top))
        groups = np.tile(np.arange(sessions), 4)
        assert surely_worse(unsure, sure, np.ones(len(top), np.bool_), groups) == worse
