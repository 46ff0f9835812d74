"""Transcripts -> code points -> hashed n-grams, cleaned in the same way for training and prediction.

Features are traced into the model's graph, so they work on integers only: a text enters as the code points of its
NFC form, and everything after that (case, punctuation, n-grams, hashing) is arithmetic on them. Why not scikit-learn's
vectorizers: see docs/decisions/traced-features.md.
"""

from __future__ import annotations

import re
import unicodedata
from dataclasses import dataclass
from functools import cache, lru_cache

import numpy as np
from numpy.typing import NDArray

from shared.features.arrays import Array, Inputs, const, length, matmul, namespace, unit_rows
from speech_context_trainer.preprocessing.validity import invalid_reason

LONGEST_TEXT = 4000  # characters; a longer one is cut
_TABLE = 0x3000  # code points from here on are treated as letters without case
_PRIME = 2_147_483_647  # products of two numbers below it fit into int64
_SIDE = 64  # buckets are counted in a grid of 64 columns


def clean(text: str) -> str:
    """Return the text as it is trained on and classified: NFC, one blank between words, at most 4,000 characters."""
    return " ".join(unicodedata.normalize("NFC", text).split())[:LONGEST_TEXT]


CLEANING = (
    "Unicode normalisation NFC",
    "each run of white space becomes one blank; none at the beginning or end",
    f"cut after {LONGEST_TEXT} characters",
    "without a letter or digit it is unknown: do not run the model",
)


def sentences(text: str) -> list[str]:
    """Return the sentences of a text that hold a word."""
    return [part for part in re.split(r"(?<=[.!?…])\s+", text) if invalid_reason(part) is None]


def same_words(text: str) -> str:
    """Return a text without case and punctuation: equal for two texts that differ in nothing else.

    A text without any word, such as emoji, is only equal to itself.
    """
    folded = clean(text).casefold()
    if not any(map(str.isalnum, folded)):
        return folded
    return " ".join("".join(map(_letter_or_blank, folded)).split())


@lru_cache(maxsize=4096)
def _letter_or_blank(character: str) -> str:
    return character if character.isalnum() or unicodedata.category(character)[0] == "M" else " "


def code_points(text: str) -> NDArray[np.int32]:
    """Return a cleaned text as (N,) int32 code points, a single blank where it is empty.

    In JavaScript: `Int32Array.from(text.normalize("NFC"), c => c.codePointAt(0))`.
    """
    return np.array([ord(c) for c in text] or [32], dtype=np.int32)


@dataclass(frozen=True)
class HashedGrams:
    """The character 2- to 4-grams within words, the words and the pairs of words that occur, hashed into buckets.

    The vector has the length `weight`. Hashing (Weinberger et al. 2009) needs no vocabulary, so nothing is fitted.
    """

    character_buckets: int = 4096
    word_buckets: int = 2048
    weight: float = 1.0

    @property
    def width(self) -> int:
        """How many numbers the vector has."""
        return self.character_buckets + self.word_buckets

    def __call__(self, inputs: Inputs) -> Array:
        """{"points": (N,) int32} -> (character_buckets + word_buckets,) float32."""
        letters = _letters(inputs["points"])
        xp = namespace(letters)
        grams = [_grams(letters, n) for n in (2, 3, 4)]
        hashes = xp.concat([gram for gram, _ in grams], axis=0)
        inside = xp.concat([mask for _, mask in grams], axis=0)
        words = _words(letters)
        pairs = _hash(words[:-1] + 1, words[1:])
        terms = xp.concat([words, pairs], axis=0)
        counted = [
            _occurring(hashes, inside, self.character_buckets),
            _occurring(terms, xp.astype(terms >= 0, xp.float32), self.word_buckets),
        ]
        return unit_rows(xp.concat(counted, axis=0)) * self.weight


@dataclass(frozen=True)
class Sentence:
    """An embedding, scaled to the length `weight`; one of zeros stays so."""

    name: str
    weight: float = 1.0

    def __call__(self, inputs: Inputs) -> Array:
        """{name: (D,) float32} -> (D,)."""
        return unit_rows(inputs[self.name]) * self.weight


def _letters(points: Array) -> Array:
    """(N,) int32 -> (L,) int64: lower-case letters and digits, each run of anything else as one 0, a 0 at both ends."""
    xp = namespace(points)
    points = xp.astype(points, xp.int64)
    inside = points < _TABLE
    row = xp.where(inside, points, xp.zeros_like(points))
    lower = xp.where(inside, xp.take(const(_lower_case(), points, np.int64), row, axis=0), points)
    border = xp.zeros_like(lower[:1])
    lower = xp.concat([border, lower, border], axis=0)
    before = xp.concat([border + 1, lower[:-1]], axis=0)
    return lower[(lower > 0) | (before > 0)]


def _grams(letters: Array, size: int) -> tuple[Array, Array]:
    """(L,) -> hashes (L,) of the run of `size` letters that begins at each place, and (L,) 1 where it is in a word.

    A run may begin or end with the border of its word, but not cross one.
    """
    xp = namespace(letters)
    padded = xp.concat([letters, *([xp.zeros_like(letters[:1])] * size)], axis=0)
    hashes = xp.zeros_like(letters) + size
    crosses = hashes < 0
    for k in range(size):
        letter = padded[k : k - size]
        hashes = _hash(hashes, letter)
        if 0 < k < size - 1:
            crosses = crosses | (letter == 0)
    first, last = padded[:-size], padded[size - 1 : -1]
    return hashes, xp.astype(~crosses & (first + last > 0), xp.float32)


def _words(letters: Array) -> Array:
    """(L,) -> (W,) hashes of the words; a single one for an empty text.

    A word's hash is a sum over its letters, each hashed with its position in the word: a difference of running sums.
    """
    xp = namespace(letters)
    (borders,) = xp.nonzero(letters == 0)
    word = xp.cumulative_sum(xp.astype(letters == 0, xp.int64)) - 1
    place = xp.arange(length(letters)) - xp.take(borders, word, axis=0)
    hashes = xp.where(letters > 0, _hash(letters, place), xp.zeros_like(letters))
    total = xp.cumulative_sum(hashes)
    ends = xp.take(total, borders, axis=0)
    return xp.concat([(ends[1:] - ends[:-1]) % _PRIME, ends[:1]], axis=0)


def _hash(a: Array, b: Array) -> Array:
    """Return a hash below 2**31 - 1 of two such numbers.

    The square matters: without it the hash is linear, and a word's sum over its letters would depend on which letters
    it has, but not on where they are.
    """
    step = (a * 48_271 + b * 40_692 + 12_345) % _PRIME
    return step * step % _PRIME


def _occurring(hashes: Array, weight: Array, buckets: int) -> Array:
    """(G,) int64, (G,) float32 0 or 1 -> (buckets,) float32: 1 for each bucket that a hash of weight 1 falls into.

    The graph has no scatter of its own, so the counts are a product of two one-hot matrices.
    """
    xp = namespace(hashes)
    bucket = hashes % buckets
    ticks = const(np.arange(_SIDE)[None, :], hashes, np.int64)
    rows = const(np.arange(buckets // _SIDE)[None, :], hashes, np.int64)
    column = xp.astype(xp.reshape(bucket % _SIDE, (-1, 1)) == ticks, xp.float32) * xp.reshape(weight, (-1, 1))
    row = xp.astype(xp.reshape(bucket // _SIDE, (-1, 1)) == rows, xp.float32)
    counts = matmul(xp.matrix_transpose(row), column)
    return xp.astype(xp.reshape(counts, (-1,)) > 0, xp.float32)


@cache
def _lower_case() -> NDArray[np.int64]:
    """(_TABLE,) int64: each code point's lower case; 0 for what is no letter, digit or combining mark."""
    table = np.zeros(_TABLE, dtype=np.int64)
    for point in range(_TABLE):
        character = chr(point)
        if character.isalnum() or unicodedata.category(character)[0] == "M":
            lower = character.lower()
            table[point] = ord(lower) if len(lower) == 1 else point
    return table
