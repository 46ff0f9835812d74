"""Advice on made data whose right advice is known."""

import numpy as np
import pytest

from shared.evaluation import EvaluationConfig, validate_by_session
from shared.features.graph import FeatureGraph, TensorSpec
from shared.learning.candidates import Candidate, PrecomputedFeatures, Rows
from shared.learning.classifiers import LDA
from shared.learning.familiarity import whitened_familiarity
from shared.learning.heads import fitter
from shared.report.advice import advise
from shared.report.metrics import report
from shared.training_run import Report

GRAPH = FeatureGraph("x", (TensorSpec("x", "float32", (6,)),), lambda inputs: inputs["x"])
LABELS = ("drink", "hungry", "thirsty", "yes")


def _report(centres: np.ndarray, classes: np.ndarray, sessions: list[str], noise: float = 1.0) -> Report:
    rng = np.random.default_rng(0)
    x = (centres[classes] + noise * rng.normal(size=(len(classes), centres.shape[1]))).astype(np.float32)
    rows = Rows(x, np.zeros((0, x.shape[1]), np.float32), np.zeros(0, np.int64))
    candidate = Candidate("lda", PrecomputedFeatures(GRAPH, rows), fitter(LDA()), whitened_familiarity)
    found = validate_by_session([candidate], classes, sessions, list(range(len(x))), EvaluationConfig(), 0)
    return report(found, classes, sessions, LABELS)


def _apart() -> np.ndarray:
    return np.eye(4, 6) * 12


def _recorded(each: int, sessions: int) -> tuple[np.ndarray, list[str]]:
    classes = np.tile(np.arange(4), each * sessions)
    return classes, [f"s{k}" for k in np.repeat(np.arange(sessions), 4 * each)]


def test_nothing_is_asked_where_every_label_does_well() -> None:
    assert advise(_report(_apart(), *_recorded(8, 3))) == ()


def test_two_labels_that_look_alike_are_named_together_once() -> None:
    centres = _apart()
    centres[2] = centres[1] + 0.2
    lines = advise(_report(centres, *_recorded(12, 3)))
    asked = [line for line in lines if line.startswith("Record ")]
    assert len(asked) == 1
    assert "`hungry`" in asked[0] and "`thirsty`" in asked[0] and "is confused with" in asked[0]
    assert "`drink`" not in "".join(lines) and "`yes`" not in "".join(lines)


def test_more_of_the_same_is_not_asked_where_the_second_half_gained_nothing() -> None:
    centres = _apart()
    centres[2] = centres[1]
    lines = advise(_report(centres, *_recorded(40, 3)))
    assert lines[-1].startswith("More of the same helps little")
    centres[2] = centres[1] + 0.2
    assert not any("More of the same" in line for line in advise(_report(_apart(), *_recorded(8, 3))))


def test_a_label_with_few_samples_of_one_session_is_told_how_many_in_how_many_sessions() -> None:
    classes, sessions = _recorded(8, 3)
    kept = [k for k, (c, s) in enumerate(zip(classes, sessions, strict=True)) if c != 1 or (s == "s0" and k < 16)]
    lines = advise(_report(_apart(), classes[kept], [sessions[k] for k in kept]))
    assert lines == ("Record 6 more of `hungry` in 2 new sessions: it has 4 samples from 1 session.",)


@pytest.mark.parametrize(("each", "sessions", "wanted"), [(3, 1, 7), (4, 1, 6), (3, 2, 4), (9, 1, 4)])
def test_tiny_data_names_every_label(each: int, sessions: int, wanted: int) -> None:
    lines = advise(_report(_apart(), *_recorded(each, sessions)))
    assert len(lines) == 4
    for label, line in zip(LABELS, lines, strict=True):
        new = {1: "2 new sessions", 2: "1 new session"}[sessions]
        assert line.startswith(f"Record {wanted} more of `{label}` in {new}: ")
