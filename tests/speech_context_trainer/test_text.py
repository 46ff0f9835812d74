"""Texts become the same features in NumPy and in the graph, whatever people type."""

import unicodedata

import numpy as np
import onnx
import pytest
from hypothesis import given
from hypothesis import strategies as st

from shared.features.graph import FeatureGraph, TensorSpec, nodes
from speech_context_trainer.preprocessing.text import HashedGrams, clean, code_points, same_words

GRAMS = HashedGrams()
GRAPH = FeatureGraph("grams", (TensorSpec("points", "int32", ("length",)),), GRAMS)
ODD = {
    "empty": "",
    "blanks": "   \t\n ",
    "punctuation": "?!… —",
    "one letter": "a",
    "emoji": "I'm hungry 🍕👩‍👩‍👧",
    "combining": "Cafe\u0301 a\u0308",
    "cjk": "我饿了 お腹がすいた",
    "right to left": "אני רעב أنا جائع",
    "very long": "what is for lunch today " * 500,
    "beyond the plane": "\U0001f600\U00020000",
    "sharp s and dotless i": "Straße İstanbul ı",
}


def _features(text: str) -> np.ndarray:
    return np.asarray(GRAMS({"points": code_points(clean(text))}))


@pytest.mark.parametrize("text", ODD.values(), ids=ODD.keys())
def test_odd_texts_are_the_same_in_the_graph(text: str) -> None:
    points = code_points(clean(text))
    (row,) = GRAPH.run([{"points": points}])
    np.testing.assert_allclose(row, GRAMS({"points": points}), atol=1e-6)
    assert np.isfinite(row).all()


@given(st.text(max_size=60))
def test_any_text_is_the_same_in_the_graph(text: str) -> None:
    points = code_points(clean(text))
    (row,) = GRAPH.run([{"points": points}])
    np.testing.assert_allclose(row, GRAMS({"points": points}), atol=1e-6)


def test_the_graph_needs_standard_operators_only() -> None:
    assert {node.domain for node in nodes(onnx.load_from_string(GRAPH.model).graph)} == {""}


def test_case_punctuation_and_composition_do_not_matter() -> None:
    first = _features("When is LUNCH, at the café?")
    assert (first == _features("when is lunch at the cafe\u0301")).all()


def test_words_and_their_order_matter() -> None:
    first, second = _features("the dog bites the man"), _features("the man bites the dog")
    other = _features("we are going swimming")
    assert (first != second).any()
    assert first @ second > 0.7 > 0.3 > first @ other


def test_a_word_is_a_word_wherever_it_stands() -> None:
    words = slice(GRAMS.character_buckets, None)
    alone, inside, without = (_features(t)[words] for t in ("pizza", "more pizza please", "more please"))
    assert ((alone > 0) & (inside > 0) & (without == 0)).any()


def test_words_of_the_same_letters_differ() -> None:
    words = slice(GRAMS.character_buckets, None)
    assert (_features("listen")[words] != _features("silent")[words]).any()
    assert (_features("ad")[words] != _features("bc")[words]).any(), "nor does only the sum of the letters count"


def test_equal_texts_have_unit_length_and_nothing_has_none() -> None:
    assert np.linalg.norm(_features("more juice")) == pytest.approx(1)
    assert np.linalg.norm(_features("")) <= 1


def test_hashes_spread_over_the_buckets() -> None:
    rng = np.random.default_rng(0)
    text = " ".join("".join(rng.choice(list("abcdefghijklmnopqrstuvwxyz"), 6)) for _ in range(500))
    words = _features(text)[GRAMS.character_buckets :]
    assert np.count_nonzero(words) > 0.8 * GRAMS.word_buckets * (1 - np.exp(-999 / GRAMS.word_buckets))


def test_cleaning_is_stable_and_bounded() -> None:
    for text in ODD.values():
        assert clean(clean(text)) == clean(text)
        assert unicodedata.is_normalized("NFC", clean(text))
        assert len(clean(text)) <= 4000


def test_texts_that_say_the_same_have_the_same_words() -> None:
    assert same_words(" What's for  Lunch?!") == same_words("what s for lunch")
    assert same_words("lunch") != same_words("launch")


def test_emoji_are_texts_and_no_repeats_of_one_another() -> None:
    emoji = ["🍎🍎", "🚗", "🏖️", "☀️🌳", "🚶‍♀️", "?", "!"]
    assert len(set(map(same_words, emoji))) == len(emoji)
    assert same_words("🚗 ") == same_words("🚗")
