"""Temperature scaling: it undoes what is too sure or too unsure, and only where that helps other sessions."""

import numpy as np
import pytest
from scipy.optimize import minimize_scalar
from scipy.special import softmax

from shared.learning.calibration import (
    best_temperature,
    calibration_error,
    calibration_gaps,
    fit_temperature,
    reliability,
)


def test_temperature_undoes_overconfidence() -> None:
    rng = np.random.default_rng(0)
    honest = rng.normal(size=(4000, 3)).astype(np.float32) * 1.5
    y = np.array([rng.choice(3, p=p / p.sum()) for p in softmax(honest, axis=1).astype(float)])
    assert fit_temperature(honest * 6, y, np.arange(4000) % 3) == pytest.approx(6, rel=0.15)


def test_temperature_is_the_one_of_least_loss() -> None:
    rng = np.random.default_rng(0)
    logits = rng.normal(size=(600, 3)).astype(np.float32) * 4
    y = np.array([rng.choice(3, p=p / p.sum()) for p in softmax(logits / 3, axis=1).astype(float)])
    sure = 601 / 602
    targets = np.where(np.eye(3)[y] > 0, sure, (1 - sure) / 2)

    def loss(temperature: float) -> float:
        return -float(np.sum(targets * np.log(softmax(logits / temperature, axis=1))))

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
    y = np.array([rng.choice(3, p=p / p.sum()) for p in softmax(honest, axis=1).astype(float)])
    session = np.arange(2000) % 2
    logits = honest * np.where(session, 4, 0.25)[:, None].astype(np.float32)
    assert fit_temperature(logits, y, session) == 1.0
    assert fit_temperature(logits, y, np.arange(2000) // 1000) > 1.3, "both sessions mixed: there is one that helps"


@pytest.mark.parametrize(("times", "wanted"), [(1e5, 1000.0), (1e-5, 0.02)])
def test_temperature_is_bounded(times: float, wanted: float) -> None:
    rng = np.random.default_rng(0)
    honest = rng.normal(size=(500, 3)) * 1.5
    y = np.array([rng.choice(3, p=p / p.sum()) for p in softmax(honest, axis=1).astype(float)])
    found = fit_temperature((honest * times).astype(np.float32), y, np.arange(500) % 3)
    assert 0.02 <= found <= 1000 and found == pytest.approx(wanted, rel=0.1)


def test_temperature_is_one_where_nothing_is_better_or_nothing_is_known() -> None:
    assert fit_temperature(np.zeros((0, 3), np.float32), np.zeros(0, int), np.zeros(0, int)) == 1.0
    assert fit_temperature(np.zeros((9, 3), np.float32), np.arange(9) % 3, np.arange(9) % 2) == 1.0


def test_too_little_to_fit_a_temperature_leaves_the_logits_as_they_are() -> None:
    y = np.arange(8) % 2
    logits = (np.eye(2)[y] * 0.5).astype(np.float32)
    assert best_temperature(logits[:3], y[:3], y[:3]) == (1.0, False)
    assert best_temperature(logits[:, :1], y * 0, y) == (1.0, False), "one label"
    for samples in (4, 8):
        found, helps = best_temperature(logits[:samples], y[:samples], np.arange(samples) % 2)
        assert found < 0.5 and helps, "unsure logits that are always right become surer"


def test_one_session_stands_for_two() -> None:
    y = np.arange(40) % 2
    logits = (np.eye(2)[y] * 0.5).astype(np.float32)
    alone = fit_temperature(logits, y, np.full(40, 7))
    assert alone == fit_temperature(logits, y, np.arange(40) % 2) < 0.5


@pytest.mark.parametrize(("lowest", "highest"), [(0.5, 2.0), (0.02, 1000.0)])
def test_a_temperature_stays_within_its_bounds(lowest: float, highest: float) -> None:
    y = np.arange(200) % 4
    right, wrong = (np.eye(4)[k].astype(np.float32) for k in (y, (y + 1) % 4))
    assert best_temperature(right * 0.001, y, y, lowest, highest)[0] == pytest.approx(lowest, rel=0.05)
    assert best_temperature(wrong, y, y, lowest, highest)[0] == pytest.approx(highest, rel=0.05)


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
