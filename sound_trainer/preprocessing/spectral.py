"""Features of a recorded sound of any length: cepstra, mel bands, and the shape of energy, pitch and rhythm.

Each class is a feature function: `{"wave": (N,) float32}`, mono at 16 kHz, -> (F,) float32. All begin in the
same way: silence at both ends is trimmed and the rest is brought to one loudness, so that features depend neither on
the distance from the microphone nor on when the recording was started. Why these are array functions and no calls of
librosa.feature: see docs/decisions/traced-features.md.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from typing import Any

import librosa  # which imports its modules when they are first used
import numpy as np
import scipy
from numpy.typing import NDArray

from shared.features.arrays import (
    Array,
    Inputs,
    const,
    floored,
    greatest,
    length,
    matmul,
    mean_and_deviation,
    namespace,
    section,
)

RATE = 16_000
HOP = 160  # samples from one frame to the next: 10 ms
WINDOW = 400  # samples of a frame: 25 ms
LOUDNESS = 0.05  # root mean square that every sound is brought to
_FFT = 512
_MELS = 40
_COEFFICIENTS = 20
_END = 2**62
_QUIET = 1e-10  # lowest power of a mel band
_RANGE_DB = 80.0  # mel bands are clipped at so much below the loudest
_MARGIN = 3  # frames of silence that are kept on both sides
_BANDS = 8  # groups of mel bands whose modulation is measured
_RATES = (1.5, 3.0, 4.5, 6.0, 9.0, 13.0, 20.0)  # Hz of modulation
_PITCH_WINDOW = 200  # samples at 4 kHz: 50 ms

F32 = NDArray[np.float32]


@dataclass(frozen=True)
class Cepstra:
    """Mel cepstra with their first and second differences: mean and deviation over time, and the cepstra's contour."""

    places: int = 6  # evenly spaced times at which the contour is taken

    def __call__(self, inputs: Inputs) -> Array:
        """{"wave": (N,)} -> (120 + 20 places,)."""
        return cepstra_features(mel_levels(power_spectra(normalised(inputs["wave"]))), self.places)


@dataclass(frozen=True)
class FullSpectralFeatures:
    """The cepstral features, the levels of mel bands over time, and the shape of energy, timbre, pitch and rhythm."""

    places: int = 6

    def __call__(self, inputs: Inputs) -> Array:
        """{"wave": (N,)} -> (484 + 24 places,)."""
        wave = normalised(inputs["wave"])
        power = power_spectra(wave)
        levels = mel_levels(power)
        xp = namespace(levels)
        parts = [
            cepstra_features(levels, self.places),
            band_features(levels),
            shape_features(wave, power, levels, self.places),
        ]
        return xp.concat(parts, axis=0)


def cepstra_features(levels: Array, places: int) -> Array:
    """(T, 40) levels -> (120 + 20 places,)."""
    xp = namespace(levels)
    cepstra = mel_cepstra(levels)
    speed = slope(cepstra)
    mean, deviation = mean_and_deviation(xp.concat([cepstra, speed, slope(speed)], axis=1))
    return xp.concat([mean, deviation, xp.reshape(contour(cepstra, places), (-1,))], axis=0)


def band_features(levels: Array) -> Array:
    """(T, 40) levels -> (280,): mean, deviation, three quantiles, maximum and mean change of each band."""
    xp = namespace(levels)
    mean, deviation = mean_and_deviation(levels)
    marks = const(np.array([1, 5, 9, 10]), levels, np.int64) * (length(levels) - 1) // 10
    quantiles = xp.reshape(xp.take(xp.sort(levels, axis=0), marks, axis=0), (-1,))
    change = xp.mean(xp.abs(slope(levels)), axis=0)
    return xp.concat([mean, deviation, quantiles, change], axis=0)


def shape_features(wave: Array, power: Array, levels: Array, places: int) -> Array:
    """(N,) wave, (T, 257) power, (T, 40) levels -> (84 + 4 places,): energy, timbre, pitch, rhythm."""
    xp = namespace(power)
    energy = xp.mean(levels, axis=1, keepdims=True)
    timbre = timbre_of(power)
    voicing, pitch = pitch_track(wave)
    tracks = xp.concat([energy, timbre, voicing], axis=1)
    mean, deviation = mean_and_deviation(tracks)
    change = xp.mean(xp.abs(slope(tracks)), axis=0)
    contours = contour(xp.concat([energy - xp.mean(energy), section(timbre, 0, 1, axis=1), voicing], axis=1), places)
    duration = xp.log(xp.astype(xp.reshape(length(power), (1,)), power.dtype))
    parts = [
        mean,
        deviation,
        change,
        xp.reshape(contours, (-1,)),
        pitch_features(pitch, voicing, places),
        onset_features(energy),
        duration,
    ]
    return xp.concat([*parts, xp.reshape(modulation(levels), (-1,))], axis=0)


# --- steps: each takes (frames, …) and returns (frames, …) unless it says otherwise


def normalised(wave: Array) -> Array:
    """(N,) -> (M,): without silence at both ends, at an RMS of 0.05; an empty or silent wave becomes zeros."""
    xp = namespace(wave)
    wave = xp.concat([wave, const(np.zeros(1, np.float32), wave)], axis=0)
    wave = trim(wave)
    level = xp.sqrt(xp.mean(wave * wave))
    return wave * (LOUDNESS / floored(level, 1e-5))


def trim(wave: Array) -> Array:
    """(N,) -> (M,): from 30 ms before the first to 30 ms after the last frame of 10 ms that is not silence.

    As librosa.effects.trim with top_db=40 does, but a noisy room raises the threshold: silence is all below 6 dB over
    the background (the tenth percentile of the frames), where that is at least 20 dB below the loudest frame.
    """
    xp = namespace(wave)
    count = length(wave) // HOP + 1
    padded = xp.concat([wave, const(np.zeros(HOP, np.float32), wave)], axis=0)
    rows = xp.reshape(section(padded, 0, count * HOP), (-1, HOP))
    level = xp.log(floored(xp.mean(rows * rows, axis=1), _QUIET)) * float(10 / np.log(10))
    loudest = greatest(level)
    background = xp.take(xp.sort(level), xp.reshape((count - 1) // 10, (1,)), axis=0)[0]
    threshold = xp.maximum(loudest - 40.0, xp.minimum(background + 6.0, loudest - 20.0))
    active = level >= threshold
    place = xp.cumulative_sum(xp.ones_like(xp.astype(level, xp.int64))) - 1
    first = -greatest(xp.where(active, -place, xp.zeros_like(place) - count)) - _MARGIN
    last = greatest(xp.where(active, place, xp.zeros_like(place))) + _MARGIN + 1
    first = xp.maximum(first, xp.zeros_like(first))
    last = xp.minimum(last * HOP, xp.zeros_like(last) + length(wave))
    return section(wave, first * HOP, last)


def power_spectra(wave: Array) -> Array:
    """(N,) -> (N // 160 + 1, 257): power of Hann-windowed frames of 25 ms every 10 ms."""
    xp = namespace(wave)
    count = length(wave) // HOP + 1
    side = (WINDOW - HOP) // 2
    edge = const(np.zeros(side, np.float32), wave)
    padded = section(xp.concat([edge, wave, edge, edge, edge], axis=0), 0, (count + 2) * HOP)
    rows = xp.reshape(padded, (-1, HOP))
    third = section(section(rows, 2, count + 2), 0, WINDOW - 2 * HOP, axis=1)
    frames = xp.concat([section(rows, 0, count), section(rows, 1, count + 1), third], axis=1)
    half = WINDOW // 2  # around the middle an even and an odd half, so that cosines and sines need half the products
    after, before = section(frames, half + 1, _END, axis=1), frames[:, half - 1 : 0 : -1]
    even = xp.concat([section(frames, half, half + 1, axis=1), after + before], axis=1)
    cosines, sines = (const(basis, wave) for basis in _fourier())
    return matmul(even, cosines) ** 2 + matmul(after - before, sines) ** 2


def mel_levels(power: Array) -> Array:
    """(T, 257) -> (T, 40): level of mel bands in units of 10 dB, at most 80 dB under the greatest."""
    xp = namespace(power)
    levels = xp.log(floored(matmul(power, const(_mel_bands(), power)), _QUIET)) * float(1 / np.log(10))
    return xp.maximum(levels, greatest(levels) - _RANGE_DB / 10)


def mel_cepstra(levels: Array) -> Array:
    """(T, 40) -> (T, 20): orthonormal cosine transform over the bands."""
    return matmul(levels, const(_cosines(), levels))


def slope(tracks: Array) -> Array:
    """(T, D) -> (T, D): mean change per frame from the frame before to the frame after."""
    xp = namespace(tracks)
    after = xp.concat([section(tracks, 1, _END), section(tracks, -1, _END)], axis=0)
    before = xp.concat([section(tracks, 0, 1), section(tracks, 0, -1)], axis=0)
    return (after - before) * 0.5


def contour(tracks: Array, places: int) -> Array:
    """(T, D) -> (places, D): means around evenly spaced times, weighted by triangles that reach to the next."""
    xp = namespace(tracks)
    time = _time(tracks)
    frames = xp.astype(length(tracks), tracks.dtype)
    step = floored(frames / places, 1.0)
    centres = (const(np.arange(places) + 0.5, tracks) / places) * frames - 0.5
    distance = xp.abs(xp.reshape(centres, (-1, 1)) - xp.reshape(time, (1, -1)))
    weight = floored(1.0 - distance / step, 1e-6)
    return matmul(weight, tracks) / xp.sum(weight, axis=1, keepdims=True)


def timbre_of(power: Array) -> Array:
    """(T, 257) -> (T, 4): centre, spread and 85 % point of the spectrum as fractions of 8 kHz, and its flatness."""
    xp = namespace(power)
    total = floored(xp.sum(power, axis=1, keepdims=True), _QUIET)
    share = power / total
    pitch = const(np.linspace(0, 1, _FFT // 2 + 1), power)
    centre = xp.sum(share * pitch, axis=1, keepdims=True)
    spread = xp.sqrt(floored(xp.sum(share * (pitch - centre) ** 2, axis=1, keepdims=True), 0.0))
    below = xp.cumulative_sum(share, axis=1)
    rolloff = xp.mean(xp.astype(below < 0.85, power.dtype), axis=1, keepdims=True)
    logs = xp.mean(xp.log(floored(power, _QUIET)), axis=1, keepdims=True)
    flatness = (logs - xp.log(floored(xp.mean(power, axis=1, keepdims=True), _QUIET))) * 0.1
    return xp.concat([centre, spread, rolloff, flatness], axis=1)


def pitch_track(wave: Array) -> tuple[Array, Array]:
    """(N,) -> voicing (N // 160 + 1, 1) from 0 to 1, and pitch (N // 160 + 1, 1) in octaves over 60 Hz.

    Frames of 50 ms every 10 ms, below 1 kHz; their autocorrelation is divided by that of the window, and a higher pitch
    is preferred to its octaves below (Boersma 1993). The pitch is a mean over candidates, weighted so that the highest
    peak decides without a jump.
    """
    xp = namespace(wave)
    count = length(wave) // HOP + 1
    quarters = xp.reshape(section(wave, 0, length(wave) // 4 * 4), (-1, 4))
    step = HOP // 4
    edge = const(np.zeros(_PITCH_WINDOW), wave)
    side = section(edge, 0, (_PITCH_WINDOW - step) // 2)
    padded = section(xp.concat([side, xp.mean(quarters, axis=1), edge], axis=0), 0, (count + 4) * step)
    rows = xp.reshape(padded, (-1, step))
    frames = xp.concat([section(rows, k, count + k) for k in range(_PITCH_WINDOW // step)], axis=1)
    cosines, sines = (const(basis, wave) for basis in _low_fourier())
    power = matmul(frames, cosines) ** 2 + matmul(frames, sines) ** 2
    curve = matmul(power, const(_autocorrelation(), wave)) / floored(matmul(power, const(_total(), wave)), _QUIET)
    octave = const(_octaves(), wave)
    biased = curve + octave * 0.03
    weight = xp.exp((biased - greatest(biased, axis=1, keepdims=True)) * 200.0)
    pitch = xp.sum(weight * octave, axis=1, keepdims=True) / xp.sum(weight, axis=1, keepdims=True)
    return xp.clip(greatest(curve, axis=1, keepdims=True), 0.0, 1.0), pitch


def pitch_features(pitch: Array, voicing: Array, places: int) -> Array:
    """(T, 1), (T, 1) -> (4 + places,): voiced share; mean, deviation, slope and contour of the pitch."""
    xp = namespace(pitch)
    weight = floored(voicing - 0.4, 1e-4) ** 2
    total = xp.sum(weight)
    mean = xp.sum(weight * pitch) / total
    time = xp.reshape(_time(pitch), (-1, 1)) / floored(xp.astype(length(pitch), pitch.dtype), 1.0)
    middle = xp.sum(weight * time) / total
    off, moment = pitch - mean, time - middle
    deviation = xp.sqrt(floored(xp.sum(weight * off * off) / total, 0.0))
    rise = xp.sum(weight * off * moment) / (xp.sum(weight * moment * moment) + 0.01 * total)
    voiced = xp.mean(xp.astype(voicing > 0.6, pitch.dtype))
    contours = contour(weight * off, places) / (contour(weight, places) + 0.01)
    single = [xp.reshape(value, (1,)) for value in (voiced, mean, deviation, rise)]
    return xp.concat([*single, xp.reshape(contours, (-1,))], axis=0)


def onset_features(energy: Array) -> Array:
    """(T, 1) -> (5,): rises of energy per second and in total, steepest rise and fall, number of active runs."""
    xp = namespace(energy)
    change = slope(energy)
    seconds = xp.astype(length(energy), energy.dtype) / 100.0
    rises = xp.sum(floored(change, 0.0))
    top = greatest(energy)
    active = xp.astype(energy > top - 1.5, energy.dtype)
    runs = xp.sum(floored(section(active, 1, _END) - section(active, 0, -1), 0.0))
    values = [rises / seconds * 0.1, rises, greatest(change), -greatest(-change), runs]
    return xp.concat([xp.reshape(value, (1,)) for value in values], axis=0)


def modulation(levels: Array) -> Array:
    """(T, 40) -> (7, 8): log magnitude of each modulation rate in each of 8 groups of mel bands."""
    xp = namespace(levels)
    groups = xp.mean(xp.reshape(levels, (-1, _BANDS, _MELS // _BANDS)), axis=2)
    groups = groups - xp.mean(groups, axis=0)
    rates = const(np.array(_RATES) * 2 * np.pi / 100, levels)
    phase = xp.reshape(rates, (-1, 1)) * xp.reshape(_time(levels), (1, -1))
    real, imaginary = matmul(xp.cos(phase), groups), matmul(xp.sin(phase), groups)
    frames = floored(xp.astype(length(levels), levels.dtype), 1.0)
    return xp.log(xp.sqrt(real * real + imaginary * imaginary) / frames + 1e-3)


def _time(tracks: Array) -> Array:
    """(T, …) -> (T,) float32: 0, 1, 2, …"""
    xp = namespace(tracks)
    return xp.reshape(xp.cumulative_sum(xp.ones_like(section(tracks, 0, 1, axis=1)), axis=0), (-1,)) - 1.0


# --- constants


@cache
def _fourier() -> tuple[F32, F32]:
    """(200, 257), (199, 257): Hann window times cosines and sines of a 512-point transform, from the middle on."""
    basis = librosa.filters.get_window("hann", WINDOW)[WINDOW // 2 :, None] * _transform()[: WINDOW // 2]
    return np.asarray(basis.real, np.float32), np.asarray(basis.imag[1:], np.float32)


@cache
def _mel_bands() -> F32:
    """(257, 40): librosa's filter bank, triangles of equal area on Slaney's mel scale from 0 to 8 kHz."""
    return np.asarray(librosa.filters.mel(sr=RATE, n_fft=_FFT, n_mels=_MELS).T, np.float32)


@cache
def _cosines() -> F32:
    """(40, 20): the first rows of the orthonormal cosine transform II, which makes librosa's mel cepstra."""
    basis = np.asarray(scipy.fft.dct(np.eye(_MELS), norm="ortho", axis=0), np.float32)
    return basis[:_COEFFICIENTS].T


@cache
def _low_fourier() -> tuple[F32, F32]:
    """(200, 129) twice: Hann window times cosines and sines of a 512-point transform at 4 kHz, up to 1 kHz."""
    basis = librosa.filters.get_window("hann", _PITCH_WINDOW)[:, None] * _transform()[:_PITCH_WINDOW, : _FFT // 4 + 1]
    return np.asarray(basis.real, np.float32), np.asarray(basis.imag, np.float32)


def _transform() -> NDArray[np.complex128]:
    """(512, 257): the basis of a discrete Fourier transform of real numbers."""
    return np.asarray(np.fft.rfft(np.eye(_FFT)))


@cache
def _octaves() -> F32:
    """(74,): candidates for the pitch, from 60 to 500 Hz, in octaves over 60 Hz."""
    return np.linspace(0, np.log2(500 / 60), 74, dtype=np.float32)


@cache
def _autocorrelation() -> F32:
    """(129, 74): power spectrum -> autocorrelation at the candidates' periods, over that of the window."""
    lags = RATE / 4 / (60 * 2.0 ** _octaves())
    own = np.abs(np.fft.rfft(librosa.filters.get_window("hann", _PITCH_WINDOW), _FFT)) ** 2
    window = own @ _inverse(lags, _FFT // 2 + 1) / (own @ _inverse(np.zeros(1), _FFT // 2 + 1))
    return np.asarray(_inverse(lags, _FFT // 4 + 1) / window, np.float32)


@cache
def _total() -> F32:
    """(129, 1): power spectrum -> autocorrelation at lag 0."""
    return np.asarray(_inverse(np.zeros(1), _FFT // 4 + 1), np.float32)


def _inverse(lags: NDArray[Any], bins: int) -> NDArray[np.float64]:
    """(bins, lags): inverse of a 512-point transform of real numbers, at lags that need not be whole."""
    number = np.arange(bins)
    twice = np.where((number == 0) | (number == _FFT // 2), 1.0, 2.0)
    return np.asarray(twice[:, None] * np.cos(2 * np.pi * np.outer(number, lags) / _FFT) / _FFT)
