"""Altered copies of sequences join the training rows and nothing else; trees learn from them and are exported whole."""

from __future__ import annotations

import io
from pathlib import Path

import numpy as np
import pytest

from gesture_trainer.preprocessing.augment import Augment
from gesture_trainer.preprocessing.sequences import Sequences
from gesture_trainer.train import GestureConfig, build_candidates
from shared.evaluation import EvaluationConfig, validate_by_session
from shared.features.graph import open_session
from shared.job import Job
from shared.learning.candidates import Candidate, fit_candidate
from shared.logs import RunLog
from shared.packaging.export import export_model, replay


def _clip(frames: int = 30) -> np.ndarray:
    """(T, 42): a hand that goes across the picture, a point of which is missing, and all of it in one frame."""
    rng = np.random.default_rng(0)
    hand = rng.uniform(0.4, 0.6, (1, 21, 2)) + np.linspace(0, 0.3, frames)[:, None, None]
    hand[:, 7], hand[frames // 2] = 0.0, 0.0
    return hand.reshape(frames, 42).astype(np.float32)


def test_copies_differ_a_little_and_what_is_missing_stays_missing() -> None:
    clip = _clip()
    copies = [c["sequence"] for c in Augment(8, coordinates=2)({"sequence": clip}, np.random.default_rng(1))]
    assert len(copies) == 8
    assert len({len(copy) for copy in copies}) > 1
    for copy in copies:
        assert copy.dtype == np.float32 and 0.75 * len(clip) <= len(copy) <= len(clip)
        points = copy.reshape(len(copy), 21, 2)
        assert not points[:, 7].any()
        assert (~points.any(axis=(1, 2))).sum() <= 2
        seen = points[points.any(axis=(1, 2))][:, 3, 0]
        assert (np.diff(seen) > -0.05).all() and 0.15 < seen[-1] - seen[0] < 0.4
    again = Augment(8, coordinates=2)({"sequence": clip}, np.random.default_rng(1))
    assert all(np.array_equal(a, b["sequence"]) for a, b in zip(copies, again, strict=True))


@pytest.mark.parametrize("frames", [1, 2, 3])
@pytest.mark.parametrize("coordinates", [0, 2])
def test_the_shortest_sequences_have_copies_too(frames: int, coordinates: int) -> None:
    for clip in (_clip(frames), np.zeros((frames, 42), np.float32)):
        (copy,) = Augment(1, coordinates=coordinates)({"sequence": clip}, np.random.default_rng(0))
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


def _candidates(data: Sequences, *names: str) -> list[Candidate]:
    config = GestureConfig.model_validate({"candidates": names})
    return build_candidates(Job(("mia",), Path(), Path(), "r", log=RunLog(io.StringIO())), config, data, few=False)


def test_trees_tell_apart_what_no_line_does_and_answer_the_same_in_the_graph() -> None:
    data, classes, sessions = _rings()
    candidates = _candidates(data, "statistics_lda", "statistics_trees")
    config = EvaluationConfig(random_split=False, learning_curve=False, unknown=False)
    found = validate_by_session(candidates, classes, sessions, range(len(classes)), config, 0)
    assert found.winner.name == "statistics_trees"
    assert found.candidates["statistics_trees"] > 0.85
    everything = np.arange(len(classes))
    fitted, source = fit_candidate(found.winner, classes, everything, 2), found.winner.source
    base = source.rows(everything).base
    exported = export_model(source.graph(everything), base.shape[1], fitted, found.answer, "ab", {})
    samples = [{"sequence": sequence} for sequence in data.sequences]
    assert replay(exported, base, samples, range(12), fitted, found.answer).largest_difference < 1e-4
    assert len(exported.model) < 1_000_000
    domains = {opset.domain for opset in _operators(exported.model)}
    assert domains <= {"", "ai.onnx", "ai.onnx.ml"}
    assert open_session(exported.model).get_inputs()[0].name == "sequence"


def test_trees_compete_where_they_are_asked_and_on_paths_anyway() -> None:
    data, _, _ = _rings(8)
    job = Job(("mia",), Path(), Path(), "r", log=RunLog(io.StringIO()))
    names = [
        [c.name for c in build_candidates(job, GestureConfig(trees=asked), data, few=False)] for asked in (False, True)
    ]
    assert names[1] == [*names[0], "statistics_trees"]
    paths = Sequences(tuple(s[:16] for s in data.sequences), "fingertip_history_xy_v1", 2, "path_xy")
    assert [c.name for c in build_candidates(job, GestureConfig(), paths, few=False)] == [
        "geometry_trees",
        "geometry_lda",
    ]
    assert [c.name for c in build_candidates(job, GestureConfig(trees=True), data, few=True)] == ["prototypes"]


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
    job = Job(("mia",), Path(), Path(), "r", log=RunLog(io.StringIO()))
    config = EvaluationConfig(random_split=False, learning_curve=False)
    found = validate_by_session(
        build_candidates(job, GestureConfig(), data, few=False), classes, sessions, range(90), config, 0
    )
    assert (found.predicted == classes).mean() > 0.95
    fitted = fit_candidate(found.winner, classes, np.arange(90), 3)
    graph = found.winner.source.graph(np.arange(90))
    zigzags = np.stack(list(graph.run([{"sequence": path(3, 900 + k)} for k in range(40)])))
    assert found.answer(*fitted(zigzags))[2].mean() < 0.1
    known = np.stack(list(graph.run([{"sequence": path(k % 3, 900 + k)} for k in range(60)])))
    assert found.answer(*fitted(known))[2].mean() > 0.85


def _operators(model: bytes) -> list[object]:
    import onnx

    return list(onnx.load_from_string(model).opset_import)


def test_copies_of_a_held_out_session_never_train() -> None:
    data, classes, sessions = _rings()
    (trees,) = _candidates(data, "statistics_trees")
    (plain,) = _candidates(data, "statistics_lda")
    train = np.flatnonzero(np.array(sessions) != "s3")
    rows, seen = trees.source.rows(train).training(train, classes)
    assert len(rows) == len(seen) == 4 * len(train), "each training sample with its three copies"
    np.testing.assert_array_equal(np.bincount(seen), 4 * np.bincount(classes[train]))
    np.testing.assert_array_equal(trees.source.rows(train).base, plain.source.rows(train).base)
    held = {tuple(row) for k, row in enumerate(trees.source.rows(train).copies) if sessions[k // 3] == "s3"}
    assert held and not held & {tuple(row) for row in rows}
    assert len(plain.source.rows(train).copies) == 0
