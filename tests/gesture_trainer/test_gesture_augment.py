"""Altered copies of sequences join the training rows and nothing else; trees learn from them and are exported whole."""

from __future__ import annotations

import io
from pathlib import Path

import numpy as np
import onnx
import pytest

from gesture_trainer.preprocessing.augment import Augment, Augmentation
from gesture_trainer.preprocessing.sequences import Sequences
from gesture_trainer.train import GestureConfig, gesture_candidates
from shared.config import load_config
from shared.evaluation import EvaluationConfig, validate_by_session
from shared.features.graph import nodes, open_session
from shared.job import Job
from shared.learning.candidates import Candidate, fit_candidate
from shared.logs import RunLog
from shared.packaging.export import export_model, replay
from tests.paths import ROOT


def _clip(frames: int = 30) -> np.ndarray:
    """(T, 42): a hand that goes across the picture, a point of which is missing, and all of it in one frame."""
    rng = np.random.default_rng(0)
    hand = rng.uniform(0.4, 0.6, (1, 21, 2)) + np.linspace(0, 0.3, frames)[:, None, None]
    hand[:, 7], hand[frames // 2] = 0.0, 0.0
    return hand.reshape(frames, 42).astype(np.float32)


def test_copies_differ_a_little_and_what_is_missing_stays_missing() -> None:
    clip = _clip()
    augment = Augment(Augmentation(copies=8), coordinates=2)
    copies = [c["sequence"] for c in augment({"sequence": clip}, np.random.default_rng(1))]
    assert len(copies) == 8
    assert len({len(copy) for copy in copies}) > 1
    for copy in copies:
        assert copy.dtype == np.float32 and 0.75 * len(clip) <= len(copy) <= len(clip)
        points = copy.reshape(len(copy), 21, 2)
        assert not points[:, 7].any()
        assert (~points.any(axis=(1, 2))).sum() <= 2
        seen = points[points.any(axis=(1, 2))][:, 3, 0]
        assert (np.diff(seen) > -0.05).all() and 0.15 < seen[-1] - seen[0] < 0.4
    again = augment({"sequence": clip}, np.random.default_rng(1))
    assert all(np.array_equal(a, b["sequence"]) for a, b in zip(copies, again, strict=True))


@pytest.mark.parametrize("frames", [1, 2, 3])
@pytest.mark.parametrize("coordinates", [0, 2])
def test_the_shortest_sequences_have_copies_too(frames: int, coordinates: int) -> None:
    for clip in (_clip(frames), np.zeros((frames, 42), np.float32)):
        (copy,) = Augment(Augmentation(copies=1), coordinates=coordinates)({"sequence": clip}, np.random.default_rng(0))
        assert copy["sequence"].shape[1] == 42 and 1 <= len(copy["sequence"]) <= frames
        assert np.isfinite(copy["sequence"]).all()


def _rings(count: int = 48) -> tuple[Sequences, np.ndarray, list[str]]:
    """Return channels whose size is of one class in the middle and of the other on both sides of it."""
    rng = np.random.default_rng(0)
    sequences, classes = [], []
    for k in range(count):
        classes.append(k % 2)
        size = rng.uniform(0.9, 1.1) if k % 2 else rng.choice([rng.uniform(0.1, 0.5), rng.uniform(1.5, 2.5)])
        time = np.linspace(0, 12, int(rng.integers(20, 60)))[:, None]
        sequences.append((size * np.sin(time + rng.uniform(0, 6, (1, 2)))).astype(np.float32))
    sessions = [f"s{k * 4 // count}" for k in range(count)]
    return Sequences(tuple(sequences), "accelerometer_v1", 2, "channels"), np.array(classes), sessions


TREES = {"type": "extra_trees", "n_estimators": 50, "max_leaf_nodes": 128}


def _candidates(data: Sequences, config: GestureConfig) -> list[Candidate]:
    return gesture_candidates(Job(("mia",), Path(), Path(), "r", log=RunLog(io.StringIO())), config, data)


def _config(*classifiers: dict[str, object], copies: int = 0) -> GestureConfig:
    candidates = [{"features": "motion_statistics", "classifier": classifier} for classifier in classifiers]
    return GestureConfig.model_validate({"candidates": candidates, "augmentation": {"copies": copies}})


@pytest.mark.parametrize("copies", [0, 3])
@pytest.mark.slow
def test_trees_separate_what_no_line_does_and_predict_the_same_in_the_graph(copies: int) -> None:
    data, classes, sessions = _rings()
    candidates = _candidates(data, _config({"type": "lda"}, TREES, copies=copies))
    config = EvaluationConfig(random_split=False, learning_curve=False, unknown=False)
    found = validate_by_session(candidates, classes, sessions, range(len(classes)), config, 0)
    assert found.winner.classifier is not None and found.winner.classifier.type == "extra_trees"
    assert found.candidates[found.winner.name] > 0.85
    everything = np.arange(len(classes))
    fitted, source = fit_candidate(found.winner, classes, everything, 2), found.winner.source
    base = source.rows(everything).base
    exported = export_model(source.graph(everything), base.shape[1], fitted, found.rule, "ab", {})
    samples = [{"sequence": sequence} for sequence in data.sequences]
    assert replay(exported, base, samples, range(12), fitted, found.rule).largest_difference < 1e-4
    assert len(exported.model) < 1_000_000
    assert {node.domain for node in nodes(onnx.load_from_string(exported.model).graph)} <= {"", "ai.onnx.ml"}
    assert open_session(exported.model).get_inputs()[0].name == "sequence"


@pytest.mark.slow
def test_the_file_for_trees_compares_them_with_copies_on_each_feature_set_that_suits() -> None:
    data, _, _ = _rings(8)
    config = load_config(GestureConfig, ROOT / "gesture_trainer" / "configs" / "trees.yaml", [])
    built = _candidates(data, config)
    assert {c.classifier for c in built} == {config.candidates[0].classifier}
    suitable = [("convolutions",), ("motion_statistics",), ("resampled",)]
    assert [c.features for c in built] == [*suitable, ("motion_statistics",), ("resampled",)], "convolutions: no copies"
    assert [len(c.source.rows(np.arange(8)).copies) for c in built] == [0, 0, 0, 24, 24]


@pytest.mark.slow
def test_trees_are_the_default_on_paths() -> None:
    data, _, _ = _rings(8)
    paths = Sequences(tuple(s[:16] for s in data.sequences), "fingertip_history_xy_v1", 2, "path_xy")
    found = [(c.features, c.classifier and c.classifier.type) for c in _candidates(paths, GestureConfig())]
    assert found == [(("path_geometry",), "extra_trees"), (("path_geometry",), "lda")]


@pytest.mark.slow
def test_a_path_that_was_never_taught_is_told_from_the_known_ones() -> None:
    """A line and two circles are known; a zigzag is not."""

    def path(kind: int, take: int) -> np.ndarray:
        rng = np.random.default_rng([kind, take])
        time = np.linspace(0, rng.uniform(3, 6), 16) + rng.uniform(0, 6)
        circle = np.stack([np.cos(time), np.sin(time) * (1, -1, 0, 0)[kind]], axis=1)
        shapes = (circle, circle, time[:, None] * [1, 0.3], np.stack([time, np.arange(16) % 2 * 0.5], axis=1))
        return (rng.uniform(0.05, 0.1) * shapes[kind] + rng.normal(0, 0.003, (16, 2))).astype(np.float32)

    sequences = [path(k % 3, k // 3) for k in range(90)]
    data = Sequences(tuple(sequences), "fingertip_history_xy_v1", 2, "path_xy")
    classes, sessions = np.arange(90) % 3, [f"s{k // 30}" for k in range(90)]
    config = EvaluationConfig(random_split=False, learning_curve=False)
    found = validate_by_session(_candidates(data, GestureConfig()), classes, sessions, range(90), config, 0)
    assert (found.predicted == classes).mean() > 0.95
    fitted = fit_candidate(found.winner, classes, np.arange(90), 3)
    graph = found.winner.source.graph(np.arange(90))
    zigzags = np.stack(list(graph.run([{"sequence": path(3, 900 + k)} for k in range(40)])))
    assert found.rule(*fitted(zigzags))[2].mean() < 0.1
    known = np.stack(list(graph.run([{"sequence": path(k % 3, 900 + k)} for k in range(60)])))
    assert found.rule(*fitted(known))[2].mean() > 0.85


def test_copies_of_a_held_out_session_never_train() -> None:
    data, classes, sessions = _rings()
    plain, copied = _candidates(data, _config(TREES, copies=3))
    assert copied.name == f"{plain.name}, with copies"
    train = np.flatnonzero(np.array(sessions) != "s3")
    rows, own = copied.source.rows(train).training(train, classes)
    assert len(rows) == len(own) == 4 * len(train), "each training sample with its three copies"
    np.testing.assert_array_equal(np.bincount(own), 4 * np.bincount(classes[train]))
    np.testing.assert_array_equal(copied.source.rows(train).base, plain.source.rows(train).base)
    held = {tuple(row) for k, row in enumerate(copied.source.rows(train).copies) if sessions[k // 3] == "s3"}
    assert held and not held & {tuple(row) for row in rows}
    assert len(plain.source.rows(train).copies) == 0
