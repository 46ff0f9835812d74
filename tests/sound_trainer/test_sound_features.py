"""Features of sounds: NumPy against the graph, what they do not depend on, and inputs at the edge."""

from __future__ import annotations

from pathlib import Path

import librosa
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from shared.features.graph import FeatureFunction, FeatureGraph, TensorSpec, joined
from shared.features.pretrained import is_complete, pretrained_folder
from sound_trainer.preprocessing import spectral
from sound_trainer.preprocessing.embedding import SpeechEmbedding, pad_centred
from sound_trainer.preprocessing.pretrained import SPEECH_EMBEDDING

Wave = NDArray[np.float32]
RATE = spectral.RATE
CONTRACT = (TensorSpec("wave", "float32", ("samples",)),)
NETWORK = pretrained_folder() / "speech_embedding" / "model.onnx"
HAS_NETWORK = is_complete(SPEECH_EMBEDDING, pretrained_folder())
WIDTHS = {"cepstra": 240, "everything": 628, "network": 576}
FUNCTIONS: dict[str, FeatureFunction] = {
    "cepstra": spectral.Cepstra(),
    "everything": spectral.FullSpectralFeatures(),
    "network": SpeechEmbedding(NETWORK),
}
NAMES = [
    pytest.param(name, marks=pytest.mark.skipif(name == "network" and not HAS_NETWORK, reason="network not made"))
    for name in FUNCTIONS
]


@pytest.fixture(scope="module")
def graphs() -> dict[str, FeatureGraph]:
    return {name: FeatureGraph(f"test-{name}", CONTRACT, function) for name, function in FUNCTIONS.items()}


def tone(seconds: float, pitch: float = 150.0, rise: float = 1.0, gain: float = 0.3, seed: int = 0) -> Wave:
    """A voiced sound whose pitch rises, in a quarter of a second of faint noise on both sides."""
    rng = np.random.default_rng(seed)
    time = np.arange(int(seconds * RATE)) / RATE
    phase = 2 * np.pi * pitch * np.cumsum(rise ** (time / max(seconds, 1e-3))) / RATE
    voice = sum(np.sin(k * phase) / k for k in range(1, 8)) * np.hanning(len(time))
    wave = np.concatenate([np.zeros(RATE // 4), np.asarray(voice), np.zeros(RATE // 4)])
    return np.asarray(gain * wave + 1e-4 * rng.normal(size=len(wave)), np.float32)


def burst(samples: int, seed: int = 0) -> Wave:
    return (np.random.default_rng(seed).normal(size=samples) * 0.1).astype(np.float32)


INPUTS = {
    "empty": np.zeros(0, np.float32),
    "one sample": np.full(1, 0.5, np.float32),
    "shorter than a hop": burst(100),
    "shorter than a frame": burst(300),
    "a frame": burst(400),
    "silent": np.zeros(RATE, np.float32),
    "constant": np.full(RATE // 2, 0.5, np.float32),
    "a click in silence": np.eye(1, RATE, 9000, dtype=np.float32)[0],
    "noise": burst(RATE),
    "loud": np.clip(tone(0.5, gain=30.0), -1, 1),
    "long": np.concatenate([tone(3.0), tone(2.0, 220.0, 0.5), burst(5 * RATE)]),
}


@pytest.mark.slow
@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("case", INPUTS)
def test_the_graph_computes_what_numpy_does(name: str, case: str, graphs: dict[str, FeatureGraph]) -> None:
    wave = INPUTS[case]
    (found,) = graphs[name].run([{"wave": wave}])
    expected = FUNCTIONS[name]({"wave": wave})
    assert found.shape == (WIDTHS[name],)
    assert found.dtype == expected.dtype == np.float32
    assert np.isfinite(found).all()
    np.testing.assert_allclose(found, expected, rtol=2e-3, atol=2e-3)


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("gain", [0.02, 3.0])
def test_loudness_does_not_count(name: str, gain: float) -> None:
    wave = tone(0.6)
    one, other = FUNCTIONS[name]({"wave": wave}), FUNCTIONS[name]({"wave": (wave * gain).astype(np.float32)})
    np.testing.assert_allclose(one, other, rtol=1e-2, atol=1e-2)


@pytest.mark.parametrize("name", NAMES)
def test_silence_at_the_ends_does_not_count(name: str) -> None:
    wave = tone(0.6)
    wider = np.concatenate([np.zeros(RATE // 2, np.float32), wave, np.zeros(RATE * 2, np.float32)])
    off = FUNCTIONS[name]({"wave": wider}) - FUNCTIONS[name]({"wave": wave})
    pitch = FUNCTIONS[name]({"wave": tone(0.6, 300.0)}) - FUNCTIONS[name]({"wave": wave})
    assert np.linalg.norm(off) < 0.35 * np.linalg.norm(pitch)


def test_silence_is_trimmed_at_both_ends_up_to_a_margin() -> None:
    wave = tone(0.6)
    kept = spectral.trim(wave)
    assert 0.45 * RATE < len(kept) < 0.75 * RATE, "the tone with a margin of 30 ms"
    np.testing.assert_array_equal(spectral.trim(kept), kept)


def test_a_sound_without_pauses_is_not_trimmed() -> None:
    wave = burst(RATE)
    assert len(spectral.trim(wave)) == RATE


def test_loudness_is_brought_to_one_level() -> None:
    level = np.sqrt(np.mean(spectral.normalised(tone(0.6, gain=0.01)) ** 2))
    assert level == pytest.approx(spectral.LOUDNESS, rel=0.01)


def test_power_spectra_are_those_of_librosa() -> None:
    wave = burst(4000)
    padded = np.concatenate([np.zeros(120), wave, np.zeros(560)])  # frames of 25 ms around the middle of each 10 ms
    frames = librosa.util.frame(padded, frame_length=400, hop_length=160)[:, :26].T
    expected = np.abs(np.fft.rfft(frames * librosa.filters.get_window("hann", 400), 512)) ** 2
    found = spectral.power_spectra(wave)
    assert found.shape == expected.shape
    np.testing.assert_allclose(found, expected, rtol=1e-3, atol=1e-4 * expected.max())


def test_mel_cepstra_are_those_of_librosa() -> None:
    power = spectral.power_spectra(tone(0.5))
    levels = librosa.power_to_db(librosa.feature.melspectrogram(S=power.T, sr=RATE, n_fft=512, n_mels=40))
    np.testing.assert_allclose(spectral.mel_levels(power), levels.T / 10, atol=1e-4)
    expected = librosa.feature.mfcc(S=levels / 10, n_mfcc=20).T
    np.testing.assert_allclose(spectral.mel_cepstra(spectral.mel_levels(power)), expected, atol=1e-3)


def test_trimming_is_that_of_librosa_and_a_margin() -> None:
    wave = tone(0.6)
    _, (first, last) = librosa.effects.trim(wave, top_db=40, frame_length=160, hop_length=160)
    kept = spectral.trim(wave)
    start = int(np.flatnonzero(wave == kept[0])[0])
    assert start == pytest.approx(first - 480, abs=240)
    assert start + len(kept) == pytest.approx(last + 480, abs=240)


@given(st.floats(80.0, 400.0))
def test_pitch_is_found(pitch: float) -> None:
    time = np.arange(RATE // 2) / RATE
    wave = sum(np.sin(2 * np.pi * pitch * k * time) / k for k in range(1, 6))
    voicing, octaves = spectral.pitch_track(np.asarray(wave, np.float32))
    inside = slice(5, -5)
    assert np.median(voicing[inside]) > 0.8
    assert 60 * 2 ** np.median(octaves[inside]) == pytest.approx(pitch, rel=0.04)


def test_noise_has_no_pitch() -> None:
    voicing, _ = spectral.pitch_track(burst(RATE))
    assert np.median(voicing) < 0.5


@pytest.mark.parametrize("places", [1, 6])
@pytest.mark.parametrize("frames", [1, 3, 200])
def test_places_along_a_sound_keep_a_constant_and_an_order(frames: int, places: int) -> None:
    tracks = np.stack([np.ones(frames), np.arange(frames)], axis=1).astype(np.float32)
    found = spectral.contour(tracks, places)
    assert found.shape == (places, 2)
    np.testing.assert_allclose(found[:, 0], 1.0, rtol=1e-5)
    assert (np.diff(found[:, 1]) >= -1e-3).all()
    assert found[:, 1].min() >= -1e-3
    assert found[:, 1].max() <= frames - 1 + 1e-3


@pytest.mark.parametrize(("samples", "expected"), [(0, 24_000), (8001, 24_000), (24_000, 24_000), (30_000, 30_000)])
def test_a_short_sound_stands_in_the_middle_of_a_second_and_a_half(samples: int, expected: int) -> None:
    wave = burst(samples)
    found = pad_centred(wave)
    assert len(found) == expected
    before = (expected - samples) // 2
    np.testing.assert_array_equal(found[before : before + samples], wave)
    assert not found[:before].any()


def test_a_rising_pitch_differs_from_a_falling_one() -> None:
    rise, fall = (spectral.FullSpectralFeatures()({"wave": tone(0.6, 200.0, change)}) for change in (2.0, 0.5))
    same = spectral.FullSpectralFeatures()({"wave": tone(0.6, 200.0, 2.0, seed=1)})
    assert np.linalg.norm(rise - fall) > 3 * np.linalg.norm(rise - same)


@pytest.mark.skipif(not HAS_NETWORK, reason="network not made")
def test_blocks_joined_are_the_blocks_one_after_another(graphs: dict[str, FeatureGraph], tmp_path: Path) -> None:
    samples = [{"wave": tone(0.4)}, {"wave": INPUTS["silent"]}]
    both = joined("both", [graphs["network"], graphs["cepstra"]])
    for row, network, cepstra in zip(
        both.run(samples), graphs["network"].run(samples), graphs["cepstra"].run(samples), strict=True
    ):
        np.testing.assert_allclose(row, np.concatenate([network, cepstra]), atol=1e-5)
    assert len(both.model) < 4_000_000
