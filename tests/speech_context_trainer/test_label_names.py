"""A label's name stands among its texts where these are few and names say something."""

import numpy as np

from shared.features.arrays import unit_rows
from shared.features.graph import FeatureGraph, TensorSpec
from shared.learning.candidates import PrecomputedFeatures, Rows
from speech_context_trainer.preprocessing.label_names import FEW, WithLabelNames, label_to_text
from speech_context_trainer.preprocessing.text import Sentence

GRAPH = FeatureGraph("use", (TensorSpec("use", "float32", (8,)),), Sentence("use"))


def _named(per_class: tuple[int, ...], informative: bool = True) -> WithLabelNames:
    rng = np.random.default_rng(0)
    classes = np.repeat(np.arange(len(per_class)), per_class)
    meanings = np.eye(8, dtype=np.float32)[: len(per_class)]
    rows = unit_rows(meanings[classes] + 0.1 * rng.normal(size=(len(classes), 8)).astype(np.float32))
    names = meanings if informative else np.eye(8, dtype=np.float32)[-len(per_class) :]
    return WithLabelNames(PrecomputedFeatures(GRAPH, Rows(rows, rows[:0], classes[:0])), names, classes)


def test_names_join_the_training_rows_of_labels_with_few_texts() -> None:
    named = _named((3, FEW, FEW + 1))
    everything = np.arange(len(named.classes))
    rows, classes = named.rows(everything).training(everything, named.classes)
    assert classes[len(everything) :].tolist() == [0, 1]
    np.testing.assert_array_equal(rows[len(everything) :], named.names[:2])


def test_a_label_without_a_training_text_has_no_name_either() -> None:
    named = _named((3, 3, 3))
    train = np.flatnonzero(named.classes != 1)
    _, classes = named.rows(train).training(train, named.classes)
    assert sorted(classes[len(train) :].tolist()) == [0, 2]


def test_names_that_say_nothing_are_left_out() -> None:
    named = _named((3, 3, 3), informative=False)
    everything = np.arange(9)
    assert len(named.rows(everything).copies) == 0


def test_a_label_becomes_text() -> None:
    assert label_to_text("credit_cards") == "credit cards"
    assert label_to_text("more-juice") == "more juice"
