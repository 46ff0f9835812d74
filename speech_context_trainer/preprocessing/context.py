"""The context of a transcript: where it was said, what the partner said, its language, the recogniser's confidence."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Protocol

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, Field

from shared.data.files import read_bounded
from shared.features.arrays import Array, Inputs, floored, namespace
from shared.features.cache import FeatureCache
from shared.features.encoders import Encoder
from speech_context_trainer.preprocessing.text import clean
from speech_context_trainer.preprocessing.tokens import embed_texts


class HasSurroundings(Protocol):
    """An example, or anything else with its fields on location, partner's speech and language."""

    @property
    def location(self) -> str | None: ...

    @property
    def partner_speech(self) -> str | None: ...

    @property
    def language(self) -> str | None: ...


class Utterance(BaseModel):
    """One transcript to classify, as read from a JSON file; other fields are ignored."""

    model_config = ConfigDict(frozen=True, extra="ignore")

    transcript: str
    location: str | None = None
    partner_speech: str | None = None
    language: str | None = None
    confidence: Annotated[float, Field(ge=0.0, le=1.0)] | None = None


@dataclass(frozen=True)
class Confidence:
    """The speech recogniser's confidence as a direction of the length `weight`; zeros where it is not known."""

    weight: float

    def __call__(self, inputs: Inputs) -> Array:
        """{"confidence": (1,) float32 from 0 to 1, below 0 where unknown} -> (2,)."""
        share = inputs["confidence"]
        xp = namespace(share)
        known = xp.astype(share >= 0.0, share.dtype) * self.weight
        share = -floored(-floored(share, 0.0), -1.0)
        return xp.concat([xp.sqrt(share) * known, xp.sqrt(1.0 - share) * known], axis=0)


def confidence_input(confidence: float | None) -> NDArray[np.float32]:
    """Return (1,) float32, the model's input `confidence`: the recogniser's confidence, or -1 where it is not known."""
    return np.array([-1.0 if confidence is None else confidence], np.float32)


def surroundings(example: HasSurroundings) -> str:
    """Return location, partner's speech and language as one text, empty where nothing is known."""
    return clean(". ".join(filter(None, (example.location, example.partner_speech, example.language))))


def read_utterance(path: Path) -> Utterance:
    """Return the utterance in a `.json` file; of any other file, the whole text is the transcript.

    Raises RefusedFileError or ValueError for a file that cannot be read, is not UTF-8 or has no transcript.
    """
    content = read_bounded(path, 1 << 20).decode("utf-8")
    if path.suffix.lower() != ".json":
        return Utterance(transcript=content)
    value = json.loads(content)
    if not isinstance(value, dict) or not isinstance(value.get("transcript"), str):
        raise ValueError("a JSON file must be an object with a transcript")
    return Utterance.model_validate(value)


def embed_surroundings(encoder: Encoder, around: list[str], cache: FeatureCache | None = None) -> NDArray[Any]:
    """Return (n, D) float32: each text's embedding, zeros where the text is empty."""
    rows = np.zeros((len(around), encoder.spec.outputs["embedding"]), np.float32)
    known = [k for k, text in enumerate(around) if text]
    if known:
        rows[known] = embed_texts(encoder, [around[k] for k in known], cache)
    return rows
