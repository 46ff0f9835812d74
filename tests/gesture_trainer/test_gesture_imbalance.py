"""A gesture that was recorded twenty times less often than the others is recognised all the same."""

from __future__ import annotations

import io
from pathlib import Path

import numpy as np
import pytest

from gesture_trainer.preprocessing.layouts import layout_of
from gesture_trainer.preprocessing.sequences import Sequences
from gesture_trainer.train import GestureConfig, gesture_candidates
from shared.evaluation import EvaluationConfig, validate_by_session
from shared.job import Job
from shared.learning.candidates import fit_candidate
from shared.logs import RunLog

COUNTS = (100, 100, 5)


def _sign(label: int, take: int) -> np.ndarray:
    """(1, 42): one of three signs that differ by how far one finger is bent, little beside what varies within each."""
    rng = np.random.default_rng([label, take])
    straight = np.stack([np.tile(np.linspace(0.1, 0.5, 4), 5), np.repeat(np.linspace(-0.3, 0.3, 5), 4)], axis=1)
    hand = np.concatenate([np.zeros((1, 2)), straight])
    for finger in range(label):
        hand[6 + 4 * finger : 9 + 4 * finger, 0] *= 0.8
    hand = 0.5 + rng.uniform(0.5, 1.5) * (hand + rng.normal(0, 0.025, hand.shape))
    return hand.reshape(1, 42).astype(np.float32)


@pytest.mark.slow
@pytest.mark.parametrize("encoding", ["hand_landmarks_xy_v1", "glove_v1"])
def test_a_gesture_with_a_twentieth_of_the_samples_is_recognised(encoding: str) -> None:
    rows = [(label, take) for label, count in enumerate(COUNTS) for take in range(count)]
    classes, sessions = np.array([label for label, _ in rows]), [f"s{take % 5}" for _, take in rows]
    data = Sequences(tuple(_sign(*row) for row in rows), encoding, 42, layout_of(encoding, 42))
    job = Job(("mia",), Path(), Path(), "r", log=RunLog(io.StringIO()))
    candidates = gesture_candidates(job, GestureConfig(), data)
    config = EvaluationConfig(random_split=False, learning_curve=False, unknown=False)
    winner = validate_by_session(candidates, classes, sessions, range(len(classes)), config, 0).winner
    everything = np.arange(len(classes))
    fitted = fit_candidate(winner, classes, everything, 3)
    fresh, truth = [{"sequence": _sign(k, 1000 + n)} for k in range(3) for n in range(60)], np.repeat(range(3), 60)
    predicted = fitted(np.stack(list(winner.source.graph(everything).run(fresh))))[0].argmax(axis=1)
    recall = [float((predicted == k)[truth == k].mean()) for k in range(3)]
    assert min(recall) >= 0.7
