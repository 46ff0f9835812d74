"""Sounds that no label can be: noise, hum, tones, clicks, and babble mixed from the person's own recordings."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray

from shared.features.graph import Samples
from shared.features.probes import Probe
from sound_trainer.preprocessing.spectral import RATE

_LENGTHS = (0.4, 1.5)  # seconds
_LEVELS = (0.002, 0.2)  # root mean square
_SLOPES = {"white noise": 0.0, "pink noise": 1.0, "brown noise": 2.0}  # power falls with so many powers of frequency
_TONES = (120.0, 400.0, 1000.0, 2500.0)  # Hz; each varies by a third
_VOICES = 4  # recordings that are mixed to babble
_EACH = 3

_Sound = NDArray[Any]


def sound_probes(recordings: Samples, seed: int) -> list[Probe]:
    """Return probes as a model's inputs, `wave` (N,) float32; the same recordings and seed give the same probes."""
    random = np.random.default_rng([seed, RATE])
    sounds = [*_noises(random), *_regular(random), *_babble(recordings, random)]
    levels = _LEVELS[0] * (_LEVELS[1] / _LEVELS[0]) ** random.uniform(size=len(sounds))
    return [
        Probe(kind, {"wave": np.asarray(level * sound / np.sqrt(np.mean(sound**2)), np.float32)})
        for level, (kind, sound) in zip(levels, sounds, strict=True)
    ]


def _time(random: np.random.Generator) -> _Sound:
    return np.arange(int(random.uniform(*_LENGTHS) * RATE)) / RATE


def _noises(random: np.random.Generator) -> Iterator[tuple[str, _Sound]]:
    for kind, slope in _SLOPES.items():
        for _ in range(_EACH):
            size = len(_time(random))
            spectrum = np.fft.rfft(random.normal(size=size))
            yield kind, np.fft.irfft(spectrum / np.maximum(np.arange(len(spectrum)), 20) ** (slope / 2), size)


def _regular(random: np.random.Generator) -> Iterator[tuple[str, _Sound]]:
    """Yield tones, hum of the mains and clicks."""
    for pitch in _TONES:
        yield "tone", np.sin(2 * np.pi * pitch * random.uniform(0.75, 1.33) * _time(random))
    for pitch in (50.0, 60.0):
        time, parts = _time(random), range(1, int(random.integers(4, 12)))
        yield "hum", np.asarray(sum(np.sin(2 * np.pi * pitch * k * time) / k for k in parts))
    for _ in range(_EACH):
        clicks = np.zeros(len(_time(random)))
        clicks[int(random.integers(100, 2000)) :: int(RATE / random.uniform(1, 15))] = 1.0
        yield "clicks", clicks


def _babble(recordings: Samples, random: np.random.Generator) -> Iterator[tuple[str, _Sound]]:
    """Yield mixtures of several recordings, played backwards and as loud as each other."""
    for _ in range(_EACH):
        chosen = random.choice(len(recordings), min(_VOICES, len(recordings)), replace=False)
        waves = [recordings[int(k)]["wave"][::-1].astype(np.float64) for k in chosen]
        mixed = np.zeros(max(map(len, waves)))
        for wave in waves:
            mixed[: len(wave)] += wave / (np.sqrt(np.mean(wave**2)) + 1e-6)
        yield "babble", mixed
