"""What surrounds a transcript: where it was said, what the partner said, in which language."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict

from shared.data_files import read_bounded
from shared.encoders import Encoder
from shared.feature_cache import FeatureCache
from speech_context_trainer.preprocessing.text import clean
from speech_context_trainer.preprocessing.tokens import embed_texts


class Surrounded(Protocol):
    """Whatever has an example's fields on its surroundings."""

    @property
    def location(self) -> str | None: ...

    @property
    def partner_speech(self) -> str | None: ...

    @property
    def language(self) -> str | None: ...


class Utterance(BaseModel):
    """One transcript to be answered, as a JSON file gives it; other fields are passed over."""

    model_config = ConfigDict(frozen=True, extra="ignore")

    transcript: str
    location: str | None = None
    partner_speech: str | None = None
    language: str | None = None


def surroundings(said: Surrounded) -> str:
    """Return location, partner speech and language as one text, empty where nothing is known."""
    return clean(". ".join(filter(None, (said.location, said.partner_speech, said.language))))


def read_utterance(path: Path) -> Utterance:
    """Return the utterance in a `.json` file, or that of a text file's whole content.

    Raises RefusedFileError or ValueError for a file that cannot be read, is no UTF-8 or has no transcript.
    """
    content = read_bounded(path, 1 << 20).decode("utf-8")
    if path.suffix.lower() != ".json":
        return Utterance(transcript=content)
    value = json.loads(content)
    if not isinstance(value, dict) or not isinstance(value.get("transcript"), str):
        raise ValueError("a JSON file must be an object with a transcript")
    return Utterance.model_validate(value)


def embed_surroundings(encoder: Encoder, around: list[str], cache: FeatureCache | None = None) -> NDArray[Any]:
    """Return (n, D) float32: each text's embedding, zeros where it is empty."""
    rows = np.zeros((len(around), encoder.spec.outputs["embedding"]), np.float32)
    known = [k for k, text in enumerate(around) if text]
    if known:
        rows[known] = embed_texts(encoder, [around[k] for k in known], cache)
    return rows
