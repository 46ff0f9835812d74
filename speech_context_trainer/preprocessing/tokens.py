"""Transcripts to token ids to sentence embeddings, with the encoder's own `tokenizer.json`."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from functools import lru_cache
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from tokenizers import Tokenizer

from shared.features.cache import FeatureCache, content_key
from shared.features.encoders import Encoder, encode_cached
from speech_context_trainer.preprocessing.pretrained import LONGEST, TOKENIZER_FILE
from speech_context_trainer.preprocessing.text import CLEANING, LONGEST_TEXT

Ids = NDArray[np.int64]


def tokenise(encoder: Encoder, texts: Sequence[str]) -> list[Ids]:
    """Return each text's (t,) int64 ids, start and end included; long texts are cut as `tokenizer.json` says."""
    tokenizer = _tokenizer(os.getpid(), encoder.folder / TOKENIZER_FILE)
    return [np.asarray(encoding.ids, dtype=np.int64) for encoding in tokenizer.encode_batch_fast(list(texts))]


def preparation(encoders: Sequence[Encoder], with_surroundings: bool) -> dict[str, Any]:
    """Return how a text becomes a model's inputs, for whoever makes them without `decode`."""
    tokenizers = {
        encoder.spec.name: {
            "file": TOKENIZER_FILE,
            "sha256": encoder.spec.files[TOKENIZER_FILE],
            "longest_tokens": LONGEST,  # start and end included
        }
        for encoder in encoders
    }
    return {
        "steps": list(CLEANING),
        "longest_characters": LONGEST_TEXT,
        "surroundings": with_surroundings,
        "tokenizers": tokenizers,
    }


def unpadded(rows: Sequence[Ids]) -> list[dict[str, Ids]]:
    """Return each row's ids and mask (1, t) int64."""
    return [{"ids": row[None], "mask": np.ones((1, len(row)), np.int64)} for row in rows]


def embed_texts(
    encoder: Encoder,
    texts: Sequence[str],
    cache: FeatureCache | None = None,
    on_done: Callable[[int], None] = lambda done: None,
) -> NDArray[Any]:
    """Return (len(texts), dimension) float32: each text's sentence embedding, of unit length.

    `on_done` is called with how many are finished. What the cache holds is not tokenised again.
    """

    def prepare(some: Sequence[str]) -> list[dict[str, Ids]]:
        return unpadded(tokenise(encoder, some))

    method = f"in company, tokenizers {version('tokenizers')} {encoder.spec.files[TOKENIZER_FILE]}"
    keys = [content_key(method, text) for text in texts]
    return encode_cached(encoder, texts, keys, prepare, cache, on_done=on_done)["embedding"]


@lru_cache(maxsize=8)
def _tokenizer(process: int, path: Path) -> Tokenizer:
    return Tokenizer.from_file(str(path))
