"""Altered copies of sounds: what changes, what stays."""

from __future__ import annotations

import numpy as np
import pytest

from sound_trainer.preprocessing.augment import Augment, Augmentation, stretched
from sound_trainer.preprocessing.spectral import RATE

TONE = np.asarray(0.3 * np.sin(2 * np.pi * 440 * np.arange(RATE) / RATE), np.float32)


@pytest.mark.parametrize("rate", [0.8, 1.0, 1.25])
def test_stretching_changes_length_and_not_pitch(rate: float) -> None:
    found = stretched(TONE, rate)
    assert len(found) == pytest.approx(RATE / rate, abs=600)
    middle = found[len(found) // 4 : 3 * len(found) // 4]
    strongest = np.argmax(np.abs(np.fft.rfft(middle * np.hanning(len(middle)))))
    assert strongest * RATE / len(middle) == pytest.approx(440, abs=4)
    assert np.sqrt(np.mean(middle**2)) == pytest.approx(0.3 / np.sqrt(2), rel=0.1)


def test_copies_are_as_many_as_configured_and_repeat_with_their_seed() -> None:
    augment = Augment(Augmentation(copies=3))
    one, other = (augment({"wave": TONE}, np.random.default_rng(1)) for _ in range(2))
    assert len(one) == 3
    assert all(np.array_equal(a["wave"], b["wave"]) for a, b in zip(one, other, strict=True))
    assert all(copy["wave"].dtype == np.float32 for copy in one)
    assert not np.array_equal(one[0]["wave"][:100], one[1]["wave"][:100])


def test_noise_stands_where_it_was_asked() -> None:
    quiet = Augmentation(copies=1, gain_db=0, noise_db=10, shift_seconds=0, stretch=0)
    (copy,) = Augment(quiet)({"wave": TONE}, np.random.default_rng(0))
    noise = copy["wave"] - TONE
    assert 10 * np.log10(np.mean(TONE**2) / np.mean(noise**2)) == pytest.approx(10, abs=0.5)


@pytest.mark.parametrize("samples", [1, 100, 511, 512, 700])
def test_short_sounds_have_copies_too(samples: int) -> None:
    (copy,) = Augment(Augmentation(copies=1))({"wave": TONE[:samples]}, np.random.default_rng(0))
    assert np.isfinite(copy["wave"]).all()
    assert len(copy["wave"]) > 0
