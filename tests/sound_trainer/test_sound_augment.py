"""Altered copies of sounds: what changes, what stays."""

from __future__ import annotations

import numpy as np
import pytest

from sound_trainer.preprocessing.augment import Augment, Augmentation
from sound_trainer.preprocessing.spectral import RATE

TONE = np.asarray(0.3 * np.sin(2 * np.pi * 440 * np.arange(RATE) / RATE), np.float32)


def test_stretching_changes_length_and_not_pitch() -> None:
    only_stretch = Augment(Augmentation(copies=8, gain_db=0, noise_db=80, shift_seconds=0, stretch=0.25))
    copies = [copy["wave"] for copy in only_stretch({"wave": TONE}, np.random.default_rng(0))]
    lengths = [len(copy) / RATE for copy in copies]
    assert 1 / 1.25 <= min(lengths) < 0.9 and 1.1 < max(lengths) <= 1 / 0.75
    for copy in copies:
        middle = copy[len(copy) // 4 : 3 * len(copy) // 4]
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


def test_added_noise_has_the_configured_ratio() -> None:
    quiet = Augmentation(copies=1, gain_db=0, noise_db=10, shift_seconds=0, stretch=0)
    (copy,) = Augment(quiet)({"wave": TONE}, np.random.default_rng(0))
    noise = copy["wave"] - TONE
    assert 10 * np.log10(np.mean(TONE**2) / np.mean(noise**2)) == pytest.approx(10, abs=0.5)


@pytest.mark.parametrize("samples", [1, 100, 511, 512, 700])
def test_short_sounds_have_copies_too(samples: int) -> None:
    (copy,) = Augment(Augmentation(copies=1))({"wave": TONE[:samples]}, np.random.default_rng(0))
    assert np.isfinite(copy["wave"]).all()
    assert len(copy["wave"]) > 0
