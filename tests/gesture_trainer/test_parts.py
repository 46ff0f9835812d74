"""The model of whole gestures classifies the parts that a running camera gives, and loses nothing by it."""

from __future__ import annotations

import io
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from demo.gestures import ENCODING, landmarks
from demo.people import PEOPLE, SESSIONS
from gesture_trainer.parts import MOST_PARTS, PartFamiliarity, PartHead, answering_parts, parts_of
from gesture_trainer.preprocessing.sequences import Sequences, windows
from gesture_trainer.train import GestureConfig, gesture_candidates
from shared.evaluation import EvaluationConfig, Validation, validate_by_session
from shared.features import graph_cache
from shared.features.cache import FeatureCache
from shared.features.graph import FeatureGraph, TensorSpec, open_session
from shared.job import Job
from shared.learning.candidates import Candidate, FittedModel, fit_candidate
from shared.learning.classifiers import LDA
from shared.learning.decision_rule import fit_decision_rule
from shared.learning.familiarity import whitened_familiarity
from shared.learning.heads import fitter
from shared.logs import RunLog
from shared.packaging.export import export_model, replay

ANA = PEOPLE[0]
TAKES = 8
CONFIG = EvaluationConfig(random_split=False, learning_curve=False, unknown=False)
Made = tuple[Sequences, np.ndarray, list[str], Job, Candidate, Validation]


@pytest.fixture(scope="module")
def made() -> Iterator[Made]:
    """Return two sessions' gestures of a made-up person, and what validation says of them."""
    sequences, labels, sessions = [], [], []
    for number, session in enumerate(SESSIONS[:2]):
        for take in range(TAKES):
            for label, name in enumerate(ANA.gestures):
                sequences.append(landmarks(name, ANA, session, np.random.default_rng([number, take, label])))
                labels.append(label)
                sessions.append(session.session_id)
    data, classes = Sequences(tuple(sequences), ENCODING, 214, "body_xy"), np.array(labels)
    job = Job((ANA.user_id,), Path(), Path(), "parts", log=RunLog(io.StringIO()))
    candidate = gesture_candidates(job, GestureConfig(), data)[0]
    yield (
        data,
        classes,
        sessions,
        job,
        candidate,
        validate_by_session([candidate], classes, sessions, range(len(classes)), CONFIG, 0),
    )


def _new_day() -> tuple[list[np.ndarray], np.ndarray]:
    """Return parts of gestures of a session that nothing was fitted on."""
    parts, truth = [], []
    for take in range(4):
        for label, name in enumerate(ANA.gestures):
            sequence = landmarks(
                name, ANA, replace(SESSIONS[0], session_id="new"), np.random.default_rng([9, take, label])
            )
            own = windows(sequence)
            parts += own
            truth += [label] * len(own)
    return parts, np.array(truth)


@pytest.mark.slow
def test_parts_of_a_new_session_are_better_recognised_while_the_whole_is_answered_as_before(
    made: Made,
) -> None:
    data, classes, sessions, job, candidate, validation = made
    changed, report = answering_parts(job, validation, data, classes, sessions, 16, 5, (0.05, 0.05))
    assert report is not None
    everything = np.arange(len(classes))
    before = fit_candidate(validation.winner, classes, everything, len(ANA.gestures))
    after = fit_candidate(changed.winner, classes, everything, len(ANA.gestures))
    base = candidate.source.rows(everything).base
    for one, other in zip(before(base), after(base), strict=True):
        np.testing.assert_array_equal(one, other)

    parts, truth = _new_day()
    features = np.stack(list(candidate.source.graph(everything).run([{"sequence": part} for part in parts])))
    old, _, _, _ = validation.rule(*before(features))
    new, chances, accepted, score = validation.rule(*after(features))
    assert (new == truth).mean() >= max((old == truth).mean() + 0.05, 0.75)
    assert accepted.mean() > 0.85
    assert report.parts == len(parts_of(data.sequences, 16, 5)[0]) > 2 * len(classes)
    assert report.recognised == pytest.approx((new == truth).mean(), abs=0.15)
    assert report.rejected < 0.3  # by a threshold from one session; the model has one from both

    exported = export_model(candidate.source.graph(everything), base.shape[1], after, validation.rule, "abcde", {})
    samples = [{"sequence": sequence} for sequence in data.sequences]
    assert replay(exported, base, samples, range(0, len(samples), 9), after, validation.rule).largest_difference < 1e-4
    session = open_session(exported.model)
    for k in range(0, len(parts), 7):
        found = session.run(["label", "probabilities", "accepted", "score"], {"sequence": parts[k]})
        assert int(found[0]) == new[k]
        np.testing.assert_allclose(found[1], np.asarray(chances)[k], atol=1e-3)
        assert float(found[3]) == pytest.approx(float(np.asarray(score)[k]), abs=0.01)
        assert bool(found[2]) == bool(np.asarray(accepted)[k])


@pytest.mark.slow
def test_sequences_that_are_no_longer_than_a_part_need_no_model_of_parts(made: Made) -> None:
    data, classes, sessions, job, _, validation = made
    short = replace(data, sequences=tuple(sequence[:16] for sequence in data.sequences))
    same, report = answering_parts(job, validation, short, classes, sessions, 16, 5, (0.05, 0.05))
    assert report is None and same is validation


@pytest.mark.slow
def test_parts_of_one_session_alone_cannot_be_held_out(made: Made) -> None:
    data, classes, sessions, job, _, validation = made
    half = tuple(s if day == sessions[0] else s[:12] for s, day in zip(data.sequences, sessions, strict=True))
    same, report = answering_parts(
        job, validation, replace(data, sequences=half), classes, sessions, 16, 5, (0.05, 0.05)
    )
    assert report is None and same is validation


def test_a_graph_that_is_kept_from_another_model_takes_this_ones_scale(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Parts have a temperature of their own, which whole sequences do not show: replay could not tell."""
    monkeypatch.setattr(graph_cache, "_LOADED", float("inf"))
    cache, rng = FeatureCache(tmp_path / "f.sqlite"), np.random.default_rng(0)
    features, classes = rng.normal(size=(40, 5)).astype(np.float32), np.arange(40) % 2
    features[:, :2] += classes[:, None]
    features[:, -1] = np.log(16)
    graph = FeatureGraph("x", (TensorSpec("x", "float32", (5,)),), lambda inputs: inputs["x"])
    head = fitter(LDA())(features, classes, 2)
    model = FittedModel(head, whitened_familiarity(head, features, classes))
    rule = fit_decision_rule(*model(features), classes, classes * 0, (1.0, 1.0), (0.2, 0.2))
    for scale in (0.25, 4.0):
        part = PartFamiliarity(16, model, rule, model, rule, scale)
        fitted = FittedModel(PartHead(16, head, head, scale), part)
        exported = export_model(graph, 5, fitted, rule, "ab", {}, cache)
        samples = [{"x": row} for row in features]
        assert replay(exported, features, samples, (), fitted, rule).largest_difference < 1e-4


def test_there_are_never_more_parts_than_are_worth_their_time() -> None:
    sequences = [np.full((400, 2), k, np.float32) for k in range(40)]
    parts, owner = parts_of(sequences, 16, 5)
    assert len(parts) == len(owner) == MOST_PARTS
    assert all((part == k).all() for part, k in zip(parts, owner, strict=True))
    assert np.bincount(owner, minlength=40).min() >= MOST_PARTS // 40 - 1
    assert parts_of([sequences[0][:16]], 16, 5)[0] == []
