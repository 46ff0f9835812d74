"""Features from Google's speech embedding, which runs inside the model's own graph."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from shared.features.arrays import Array, Inputs, const, greatest, length, mean_and_deviation, namespace, run_model
from sound_trainer.preprocessing.spectral import RATE, along, prepared

_SHORTEST = 3 * RATE // 2  # samples that a sound is filled up to, itself in the middle


@dataclass(frozen=True)
class SpeechEmbedding:
    """Mean, greatest value and deviation of the embeddings over time, and their course over `places`."""

    model: Path  # wave (N,) -> embedding (windows, 96)
    places: int = 3

    def __call__(self, inputs: Inputs) -> Array:
        """{"wave": (N,)} -> (288 + 96 places,)."""
        wave = centred(prepared(inputs["wave"]))
        rows = run_model(self.model, {"wave": wave}, "embedding")
        xp = namespace(rows)
        mean, deviation = mean_and_deviation(rows)
        course = xp.reshape(along(rows, self.places), (-1,))
        return xp.concat([mean, greatest(rows, axis=0), deviation, course], axis=0)


def centred(wave: Array) -> Array:
    """(N,) -> (max(N, 24000),): with silence on both sides of what lasts less than 1.5 s.

    The network was trained on windows that hold a word somewhere; with the word at the very start of a window
    it answers worse.
    """
    xp = namespace(wave)
    missing = xp.zeros_like(length(wave)) + _SHORTEST - length(wave)
    missing = xp.maximum(missing, xp.zeros_like(missing))
    silence = const(np.zeros(_SHORTEST, np.float32), wave)
    return xp.concat([silence[: missing // 2], wave, silence[: missing - missing // 2]], axis=0)
