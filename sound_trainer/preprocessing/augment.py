"""Copies of training sounds that differ as recordings of the same sound do: louder, noisier, later, slower."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import librosa  # which imports its modules when they are first used
import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from shared.features.arrays import Inputs
from shared.schema_utils import Schema
from sound_trainer.preprocessing.spectral import RATE

_FFT = 512  # samples of a frame when stretching; a shorter sound keeps its pace
Wave = NDArray[np.float32]


class Augmentation(Schema):
    """Altered copies that join the training rows, of each fold and of the model, if they help; none is ever tested."""

    copies: int = Field(
        default=0, ge=0, le=10, description="of each sound; none by default, as they did not help across sessions"
    )
    gain_db: float = Field(default=6.0, ge=0.0, le=40.0, description="largest change of loudness, up or down")
    noise_db: float = Field(default=20.0, ge=0.0, le=80.0, description="signal-to-noise ratio of the added noise")
    shift_seconds: float = Field(default=0.1, ge=0.0, le=1.0, description="longest silence added before and after")
    stretch: float = Field(
        default=0.12, ge=0.0, le=0.5, description="largest change of pace, faster or slower, at the same pitch"
    )


@dataclass(frozen=True)
class Augment:
    """Makes the copies of one sound."""

    settings: Augmentation

    def __call__(self, inputs: Inputs, rng: np.random.Generator) -> list[Inputs]:
        """{"wave": (N,)} -> as many altered ones as are configured."""
        return [{"wave": self._copy(inputs["wave"], rng)} for _ in range(self.settings.copies)]

    def _copy(self, wave: Wave, rng: np.random.Generator) -> Wave:
        settings = self.settings
        rate = 1 + rng.uniform(-settings.stretch, settings.stretch)
        if rate != 1 and len(wave) >= _FFT:
            wave = librosa.effects.time_stretch(wave, rate=rate, n_fft=_FFT)
        before, after = (np.zeros(int(s * RATE), np.float32) for s in rng.uniform(0, settings.shift_seconds, 2))
        wave = np.concatenate([before, wave, after])
        wave = wave + _pink(len(wave), rng) * np.sqrt(np.mean(wave**2)) * 10 ** (-settings.noise_db / 20)
        return np.asarray(wave * 10 ** (rng.uniform(-settings.gain_db, settings.gain_db) / 20), np.float32)


def _pink(size: int, rng: np.random.Generator) -> NDArray[Any]:
    """(size,) noise of root mean square 1 with as much power in each octave, as rooms have."""
    spectrum = np.fft.rfft(rng.normal(size=max(size, 2)))
    spectrum /= np.sqrt(np.arange(1, len(spectrum) + 1))
    noise = np.fft.irfft(spectrum, max(size, 2))[:size]
    return np.asarray(noise / np.sqrt(np.mean(noise**2) + 1e-12))
