"""What the benchmark of recipes measures: held-out sessions, the trainer's own choice, and sets left out in turn."""

from __future__ import annotations

from dataclasses import replace
from functools import partial
from typing import Any

import numpy as np
import pytest

from benchmarks.data_sets import DataSet
from benchmarks.prepared import Prepared, subset
from benchmarks.recipes import ALL, UNEVEN, RecipeRun, balanced, left_out_in_turn, measure, split, summary
from shared.features.graph import FeatureGraph, TensorSpec
from shared.learning.candidates import Candidate, PrecomputedFeatures, Rows
from shared.learning.classifiers import LDA
from shared.learning.familiarity import cosine_familiarity
from shared.learning.heads import fit_classifier
from speech_context_trainer.preprocessing.label_names import WithLabelNames

LABELS, SESSIONS, TAKES = 4, 6, 5
CLASSES = np.tile(np.arange(LABELS), SESSIONS * TAKES)
GROUPS = tuple(f"s{k}" for k in np.repeat(np.arange(SESSIONS), LABELS * TAKES))


def _features(noise: float) -> PrecomputedFeatures:
    random = np.random.default_rng(0)
    base = np.eye(LABELS, 6, dtype=np.float32)[CLASSES] + random.normal(0, noise, (len(CLASSES), 6)).astype(np.float32)
    graph = FeatureGraph("made", (TensorSpec("wave", "float32", ("samples",)),), lambda inputs: inputs["wave"])
    return PrecomputedFeatures(graph, Rows(base, base[:2] + 1, np.array([0, 7])))


def _candidate(name: str, noise: float) -> Candidate:
    classifier = LDA()
    return Candidate(name, _features(noise), partial(fit_classifier, classifier, seed=0), cosine_familiarity)


@pytest.fixture
def prepared() -> Prepared:
    candidates = {"good": _candidate("good", 0.05), "bad": _candidate("bad", 20.0)}
    return Prepared(CLASSES, GROUPS, tuple(range(len(CLASSES))), candidates, lambda _: ["bad", "good"])


@pytest.mark.parametrize("k", ["3", ALL, UNEVEN])
def test_no_session_stands_on_both_sides(prepared: Prepared, k: str) -> None:
    for number in range(5):
        own = split(prepared, k, number, number)
        assert own is not None
        train, test = ({GROUPS[k] for k in side} for side in (own.train, own.test))
        assert train and test and not train & test
        fewest, fewer, more, most = np.sort(np.bincount(CLASSES[own.train]))
        assert {"3": fewest == most == 3, UNEVEN: fewest == fewer == 3 < 4 * TAKES <= more, ALL: fewest >= 4 * TAKES}[k]


def test_more_samples_than_most_labels_have_are_not_drawn(prepared: Prepared) -> None:
    assert split(prepared, str(SESSIONS * TAKES), 0, 0) is None


def test_a_draw_shows_what_training_chooses_and_what_it_accepts(prepared: Prepared) -> None:
    own = split(prepared, "10", 0, 0)
    assert own is not None
    draw = measure(prepared, own, 0)
    assert draw.chosen == "good" and draw.accuracy["good"] == 1.0 and draw.accuracy["bad"] < 0.7
    assert draw.correct.all() and draw.probabilities.shape == (len(own.test), LABELS)
    assert len(draw.unknown_accepted) == np.count_nonzero(CLASSES[own.test] == 0)
    assert draw.unknown_auroc is not None and draw.unknown_auroc > 0.95
    one = DataSet(name="made", modality="sound", licence="none", about="made here")
    row = summary(one, "10", [draw, draw])
    assert row["chosen"] == {"good": 2} and row["regret"] == 0.0 and row["best"] == "good"
    assert row["accuracy"][0] == 1.0 and row["false_acceptance"] == draw.unknown_accepted.mean()
    assert row["covered"] == [True, True]


def test_the_interval_from_training_holds_the_accuracy_or_not_and_one_session_gives_none(prepared: Prepared) -> None:
    own = split(prepared, "10", 0, 0)
    assert own is not None
    run = RecipeRun(prepared, own.train, own.test)
    found = run.validated(["good"])
    assert run.covered(found, 1.0) and not run.covered(found, 0.5)
    once = RecipeRun(replace(prepared, sessions=("s0",) * len(CLASSES)), own.train, own.test)
    assert once.covered(once.validated(["good"]), 1.0) is None


def test_accuracy_weighs_every_label_the_same() -> None:
    assert balanced(np.array([0, 0, 0, 0]), np.array([0, 0, 0, 1])) == 0.5


def test_a_subset_numbers_samples_copies_and_label_names_anew() -> None:
    source = _features(0.1)
    chosen = np.array([9, 7, 3])
    rows = subset(Candidate("x", source, partial(fit_classifier, LDA(), seed=0), cosine_familiarity), chosen).source
    taken = rows.rows(np.arange(3))
    np.testing.assert_array_equal(taken.base, source.computed.base[chosen])
    np.testing.assert_array_equal(taken.copies, source.computed.copies[1:])
    assert taken.owner.tolist() == [1]
    named = WithLabelNames(source, np.eye(LABELS, 6, dtype=np.float32), CLASSES)
    few = subset(Candidate("x", named, partial(fit_classifier, LDA(), seed=0), cosine_familiarity), chosen).source
    assert isinstance(few, WithLabelNames) and few.classes.tolist() == CLASSES[chosen].tolist()


def test_the_candidate_for_a_set_is_chosen_on_the_other_sets() -> None:
    def row(name: str, **accuracy: float) -> dict[str, Any]:
        return {"set": name, "accuracy": (0.5, 0.4, 0.6), "candidates": {k: (v, v, v) for k, v in accuracy.items()}}

    rows = [row("one", a=0.95, b=0.5), row("two", a=0.5, b=0.6), row("three", a=0.5, b=0.6, c=1.0)]
    assert left_out_in_turn(rows) == [("one", 0.5, "b", 0.5), ("two", 0.5, "a", 0.5), ("three", 0.5, "a", 0.5)]
