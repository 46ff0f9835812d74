"""Texts that no label can be: keys struck at random, words of no language, repetitions, numbers, shuffled letters."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np

_EACH = 5
_CONSONANTS, _VOWELS = "bcdfghjklmnpqrstvwxz", "aeiou"
_KEYS = "asdfghjklqwertyuiopzxcvbnm"
_FOREIGN = (  # Latin: nobody talks to the user in it
    "arma virumque cano troiae qui primus ab oris",
    "gallia est omnis divisa in partes tres",
    "quousque tandem abutere catilina patientia nostra",
    "lorem ipsum dolor sit amet consectetur",
    "odi et amo quare id faciam fortasse requiris",
    "sed ut perspiciatis unde omnis iste natus error",
    "vivamus mea lesbia atque amemus",
    "nemo enim ipsam voluptatem quia voluptas sit",
    "eheu fugaces postume labuntur anni",
    "at vero eos et accusamus et iusto odio",
)


def speech_probes(texts: Sequence[str], seed: int) -> list[tuple[str, str]]:
    """Return kinds and texts, some made from `texts`; the same texts and seed give the same probes."""
    random = np.random.default_rng([seed, 26])
    return [*_nonsense(random, seed), *_shuffled(texts, random)]


def _nonsense(random: np.random.Generator, seed: int) -> Iterator[tuple[str, str]]:
    for k in range(_EACH):
        lengths = random.integers(3, 9, int(random.integers(2, 7)))
        yield "random keys", " ".join("".join(random.choice(list(_KEYS), n)) for n in lengths)
        yield "invented words", " ".join(_invented(int(n) // 2 + 1, random) for n in lengths)
        yield "a word repeated", " ".join([_invented(2, random)] * int(random.integers(3, 9)))
        yield "numbers", " ".join(map(str, random.integers(0, 1000, len(lengths))))
        yield "Latin", _FOREIGN[(2 * k + seed) % len(_FOREIGN)]


def _invented(syllables: int, random: np.random.Generator) -> str:
    return "".join(
        _CONSONANTS[int(random.integers(len(_CONSONANTS)))] + _VOWELS[int(random.integers(len(_VOWELS)))]
        for _ in range(syllables)
    )


def _shuffled(texts: Sequence[str], random: np.random.Generator) -> Iterator[tuple[str, str]]:
    """Yield texts whose letters are in another order. With its words in another order a text keeps its subject."""
    for _ in range(_EACH):
        text = texts[int(random.integers(len(texts)))]
        yield "shuffled letters", "".join(random.permutation(list(text)))
