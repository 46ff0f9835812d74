"""Features from Google's speech embedding, which runs inside the model's own graph."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from shared.features.arrays import Array, Inputs, const, greatest, length, mean_and_deviation, namespace, run_model
from sound_trainer.preprocessing.spectral import RATE, contour, normalised

_SHORTEST = 3 * RATE // 2  # samples to which a shorter sound is padded on both sides


@dataclass(frozen=True)
class SpeechEmbedding:
    """Mean, maximum and deviation of the embeddings over time, and their contour at `places` evenly spaced times."""

    model: Path  # wave (N,) -> embedding (windows, 96)
    places: int = 3

    def __call__(self, inputs: Inputs) -> Array:
        """{"wave": (N,)} -> (288 + 96 places,)."""
        wave = pad_centred(normalised(inputs["wave"]))
        rows = run_model(self.model, {"wave": wave}, "embedding")
        xp = namespace(rows)
        mean, deviation = mean_and_deviation(rows)
        contours = xp.reshape(contour(rows, self.places), (-1,))
        return xp.concat([mean, greatest(rows, axis=0), deviation, contours], axis=0)


def pad_centred(wave: Array) -> Array:
    """(N,) -> (max(N, 24000),): a sound shorter than 1.5 s in the middle of silence, as librosa.util.pad_center does.

    The network was trained on windows with a word somewhere inside; it is worse with the word at a window's start.
    """
    xp = namespace(wave)
    missing = xp.zeros_like(length(wave)) + _SHORTEST - length(wave)
    missing = xp.maximum(missing, xp.zeros_like(missing))
    silence = const(np.zeros(_SHORTEST, np.float32), wave)
    return xp.concat([silence[: missing // 2], wave, silence[: missing - missing // 2]], axis=0)
