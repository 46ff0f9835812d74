"""Temperature scaling: it undoes what is too sure or too unsure, and only where that helps other sessions."""

import numpy as np
import pytest
from scipy.optimize import minimize_scalar
from scipy.special import softmax

from shared.learning.calibration import best_temperature, fit_temperature


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
