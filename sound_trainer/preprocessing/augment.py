"""Copies of training sounds that differ as recordings of the same sound do: louder, noisier, later, slower."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from shared.features.arrays import Inputs
from shared.schema_utils import Schema
from sound_trainer.preprocessing.spectral import RATE

_FFT, _STEP = 512, 128
Wave = NDArray[np.float32]


class Augmentation(Schema):
    """Copies that join the training rows of each fold and of the model if they help; what is tested is no copy."""

    copies: int = Field(
        default=0, ge=0, le=10, description="of each sound; none by default, as they did not help across sessions"
    )
    gain_db: float = Field(default=6.0, ge=0.0, le=40.0, description="at most so much louder or softer")
    noise_db: float = Field(default=20.0, ge=0.0, le=80.0, description="the sound stands so much over added noise")
    shift_seconds: float = Field(default=0.1, ge=0.0, le=1.0, description="at most so much silence before and after")
    stretch: float = Field(default=0.12, ge=0.0, le=0.5, description="at most so much faster or slower, pitch kept")


@dataclass(frozen=True)
class Augment:
    """Makes the copies of one sound."""

    settings: Augmentation

    def __call__(self, inputs: Inputs, rng: np.random.Generator) -> list[Inputs]:
        """{"wave": (N,)} -> as many altered ones as are configured."""
        return [{"wave": self._copy(inputs["wave"], rng)} for _ in range(self.settings.copies)]

    def _copy(self, wave: Wave, rng: np.random.Generator) -> Wave:
        part = self.settings
        wave = stretched(wave, 1 + rng.uniform(-part.stretch, part.stretch))
        before, after = (np.zeros(int(s * RATE), np.float32) for s in rng.uniform(0, part.shift_seconds, 2))
        wave = np.concatenate([before, wave, after])
        wave = wave + _pink(len(wave), rng) * np.sqrt(np.mean(wave**2)) * 10 ** (-part.noise_db / 20)
        return np.asarray(wave * 10 ** (rng.uniform(-part.gain_db, part.gain_db) / 20), np.float32)


def stretched(wave: Wave, rate: float) -> Wave:
    """(N,) -> (about N / rate,): faster by `rate` at the same pitch, by a phase vocoder (Flanagan and Golden 1966)."""
    if len(wave) < _FFT or rate == 1:
        return wave
    window = np.hanning(_FFT + 1)[:-1]
    padded = np.pad(wave, _FFT // 2)
    frames = np.lib.stride_tricks.sliding_window_view(padded, _FFT)[::_STEP]
    spectra = np.fft.rfft(frames * window)
    places = np.arange(0, len(spectra) - 1, rate)
    low = places.astype(int)
    part = (places - low)[:, None]
    size = (1 - part) * np.abs(spectra[low]) + part * np.abs(spectra[low + 1])
    turn = 2 * np.pi * _STEP * np.arange(_FFT // 2 + 1) / _FFT
    change = np.angle(spectra[low + 1]) - np.angle(spectra[low]) - turn
    change = turn + change - 2 * np.pi * np.round(change / (2 * np.pi))
    phase = np.angle(spectra[0]) + np.concatenate([np.zeros((1, change.shape[1])), np.cumsum(change[:-1], axis=0)])
    pieces = np.fft.irfft(size * np.exp(1j * phase)) * window
    total = np.zeros(_STEP * (len(pieces) - 1) + _FFT)
    weight = np.full_like(total, 1e-3)
    for k, piece in enumerate(pieces):
        total[k * _STEP : k * _STEP + _FFT] += piece
        weight[k * _STEP : k * _STEP + _FFT] += window**2
    return np.asarray((total / weight)[_FFT // 2 : -_FFT // 2], np.float32)


def _pink(size: int, rng: np.random.Generator) -> NDArray[Any]:
    """(size,) noise of root mean square 1 with as much power in each octave, as rooms have."""
    spectrum = np.fft.rfft(rng.normal(size=max(size, 2)))
    spectrum /= np.sqrt(np.arange(1, len(spectrum) + 1))
    noise = np.fft.irfft(spectrum, max(size, 2))[:size]
    return np.asarray(noise / np.sqrt(np.mean(noise**2) + 1e-12))
