"""Non-verbal sounds: a glottal source through formants, breath, clicks and claps, recorded by a microphone."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray
from scipy.signal import butter, fftconvolve, lfilter, sosfilt

from demo.people import Person, SessionConditions

Array = NDArray[np.float64]


def recording(label: str, person: Person, session: SessionConditions, rng: np.random.Generator) -> NDArray[np.int16]:
    """Return (N, channels) int16 at the session's sample rate: silence, the sound, silence, with background noise."""
    rate = session.sample_rate
    dry = _SOUNDS[label](person, rate, rng)
    dry = _muffled(dry, rng.uniform(0.0, 0.7))  # turned away from the microphone, or not
    dry = dry / (np.sqrt(np.mean(dry**2)) + 1e-9)
    wave = np.concatenate([np.zeros(int(rate * rng.uniform(0.03, 0.15))), dry, np.zeros(int(rate * 0.08))])
    wave = _echo(wave, session.echo_seconds, rate, rng)
    wave = np.asarray(sosfilt(butter(4, min(session.bandwidth_hz, 0.47 * rate), fs=rate, output="sos"), wave))
    sides = []
    for _ in range(session.channels):
        noise = _noise(len(wave), session.noise_slope, rate, rng) * 10 ** (-(session.noise_db + rng.normal(0, 2)) / 20)
        hum = 0.3 * 10 ** (-session.noise_db / 20) * np.sin(2 * np.pi * 50 * np.arange(len(wave)) / rate)
        sides.append(wave * 10 ** (rng.normal(0, 0.5) / 20) + noise + hum)
    loud = 10 ** ((session.gain_db + rng.normal(0, 3)) / 20)
    return np.asarray(np.clip(np.stack(sides, axis=1) * loud * 0.35, -1, 1) * 32767).astype(np.int16)


# --- the sounds: person, sample rate, rng -> (N,)


def _yes(person: Person, rate: int, rng: np.random.Generator) -> Array:
    """A closed hum that rises."""
    pitch = _glide(rng.uniform(0.85, 1.0), rng.uniform(1.15, 1.5))
    return _voice(person, rate, rng, rng.uniform(0.3, 0.55), pitch, (270, 1000, 2200), (290, 1100, 2250), level=0.35)


def _no(person: Person, rate: int, rng: np.random.Generator) -> Array:
    """Two short grunts, the second lower."""
    first = _voice(person, rate, rng, rng.uniform(0.09, 0.16), _glide(1.15, 1.05), (600, 1150, 2500), (620, 1250, 2500))
    second = _voice(
        person,
        rate,
        rng,
        rng.uniform(0.12, 0.26),
        _glide(0.95, rng.uniform(0.65, 0.85)),
        (560, 1100, 2450),
        (500, 1000, 2400),
    )
    return np.concatenate([first, np.zeros(int(rate * rng.uniform(0.05, 0.12))), second])


def _want(person: Person, rate: int, rng: np.random.Generator) -> Array:
    """A held open vowel."""
    pitch = _glide(rng.uniform(0.95, 1.1), rng.uniform(0.9, 1.1))
    return _voice(person, rate, rng, rng.uniform(0.35, 0.65), pitch, (760, 1250, 2600), (800, 1200, 2600))


def _pain(person: Person, rate: int, rng: np.random.Generator) -> Array:
    """A moan that falls, with a slow tremble."""
    pitch = _glide(rng.uniform(1.15, 1.45), rng.uniform(0.75, 0.95), tremble=0.04, rate_hz=rng.uniform(5, 8))
    return _voice(person, rate, rng, rng.uniform(0.45, 0.75), pitch, (480, 1000, 2350), (340, 800, 2250))


def _happy(person: Person, rate: int, rng: np.random.Generator) -> Array:
    """Laughter: breathy bursts, five or so a second."""
    bursts = []
    for number in range(int(rng.integers(3, 6))):
        height = rng.uniform(1.2, 1.5) * 0.96**number
        bursts.append(
            _voice(
                person,
                rate,
                rng,
                rng.uniform(0.06, 0.1),
                _glide(height, height * 0.9),
                (520, 1750, 2600),
                (560, 1650, 2600),
                breath=0.5,
            )
        )
        bursts.append(_breath(rate, rng, rng.uniform(0.04, 0.09), (1500, 2800)) * 0.15)
    return np.concatenate(bursts)


def _tired(person: Person, rate: int, rng: np.random.Generator) -> Array:
    """A long sigh, mostly breath."""
    seconds = rng.uniform(0.45, 0.8)
    voiced = _voice(person, rate, rng, seconds, _glide(1.0, 0.7), (600, 1200, 2500), (450, 1000, 2400), breath=0.7)
    return _mix(_breath(rate, rng, seconds, (1800, 900)), 0.3 * voiced / (np.abs(voiced).max() + 1e-9))


def _smack(person: Person, rate: int, rng: np.random.Generator) -> Array:
    """Lip smacks or tongue clicks: two or three short resonant transients."""
    return _strokes(
        rate, rng, int(rng.integers(2, 4)), (1100 / person.tract, 2600 / person.tract), decay=0.007, spread=0.1
    )


def _attention(person: Person, rate: int, rng: np.random.Generator) -> Array:
    """Hand claps or knocks: two or three noisy strokes."""
    return _strokes(rate, rng, int(rng.integers(2, 4)), (700, 1700), decay=0.022, spread=0.35)


_SOUNDS: dict[str, Callable[[Person, int, np.random.Generator], Array]] = {
    "attention": _attention,
    "happy": _happy,
    "no": _no,
    "pain": _pain,
    "smack": _smack,
    "tired": _tired,
    "want": _want,
    "yes": _yes,
}


# --- building blocks


def _glide(start: float, end: float, tremble: float = 0.0, rate_hz: float = 6.0) -> Callable[[Array], Array]:
    """Return a function from time in seconds (N,) to pitch as a multiple of the person's own."""

    def pitch(time: Array) -> Array:
        share = time / max(float(time[-1]), 1e-6)
        return np.asarray((start + (end - start) * share) * (1 + tremble * np.sin(2 * np.pi * rate_hz * time)))

    return pitch


def _voice(
    person: Person,
    rate: int,
    rng: np.random.Generator,
    seconds: float,
    pitch: Callable[[Array], Array],
    start: tuple[float, ...],
    end: tuple[float, ...],
    breath: float = 0.0,
    level: float = 1.0,
) -> Array:
    """Return (N,): a pulse train with jitter and shimmer, through three formants that glide from `start` to `end`."""
    count = int(seconds * rate)
    time = np.arange(count) / rate
    knots = np.arange(0.0, seconds + 0.025, 0.025)
    slow = np.interp(time, knots, np.cumsum(rng.normal(0, 0.012, len(knots))))
    f0 = person.pitch_hz * float(np.exp(rng.normal(0, 0.12))) * pitch(time) * (1 + slow)
    phase = np.cumsum(f0) / rate
    cycle = phase % 1.0
    open_phase = np.clip(cycle / 0.6, 0, 1)
    flow = 3 * open_phase**2 - 2 * open_phase**3
    flow = np.where(cycle < 0.6, flow, np.clip(1 - (cycle - 0.6) / 0.12, 0, 1))
    shimmer = 1 + 0.08 * rng.normal(size=int(phase[-1]) + 2)
    source = np.diff(flow * shimmer[phase.astype(int)], prepend=0.0)
    source = source / (np.abs(source).max() + 1e-9)
    source = source + rng.normal(0, 0.25 * (person.breathiness + breath), count) * (0.4 + flow)
    drift = np.exp(rng.normal(0, 0.09, 3))
    first = _formants(source, np.array(start) * drift / person.tract, rate)
    second = _formants(source, np.array(end) * drift / person.tract, rate)
    share = time / max(seconds, 1e-6)
    return np.asarray(level * _fade(first * (1 - share) + second * share, rate, 0.02))


def _formants(source: Array, centres: Array, rate: int) -> Array:
    """Return (N,) of the source through resonators in parallel."""
    total = np.zeros_like(source)
    for centre, width, gain in zip(centres, (80, 110, 160), (1.0, 0.55, 0.3), strict=True):
        radius = np.exp(-np.pi * width / rate)
        turn = 2 * np.pi * min(centre, 0.45 * rate) / rate
        total += gain * np.asarray(lfilter([1 - radius], [1, -2 * radius * np.cos(turn), radius**2], source))
    return total


def _breath(rate: int, rng: np.random.Generator, seconds: float, centres: tuple[float, float]) -> Array:
    """Return (N,): noise whose band glides from the first centre to the second, peak 1."""
    noise = rng.normal(size=int(seconds * rate))
    share = np.linspace(0, 1, len(noise))
    bands = [sosfilt(butter(2, (c * 0.6, c * 1.5), "bandpass", fs=rate, output="sos"), noise) for c in centres]
    wave = _fade(bands[0] * (1 - share) + bands[1] * share, rate, 0.06)
    return np.asarray(wave / (np.abs(wave).max() + 1e-9))


def _strokes(
    rate: int, rng: np.random.Generator, count: int, centres: tuple[float, float], decay: float, spread: float
) -> Array:
    """Return (N,): `count` decaying bursts with resonances at `centres`, evenly spaced with some slack."""
    gap = rng.uniform(0.16, 0.26)
    wave = np.zeros(int(rate * (gap * count + 0.1)))
    for number in range(count):
        at = int(rate * (gap * number + rng.uniform(0, 0.03)))
        length = int(rate * decay * 8)
        time = np.arange(length) / rate
        burst = rng.normal(0, spread, length)
        for centre in centres:
            burst += np.sin(2 * np.pi * centre * float(np.exp(rng.normal(0, 0.2))) * time + rng.uniform(0, 6))
        burst *= np.exp(-time / (decay * rng.uniform(0.8, 1.3))) * rng.uniform(0.6, 1.0)
        end = min(at + length, len(wave))
        wave[at:end] += burst[: end - at]
    return wave


def _muffled(wave: Array, amount: float) -> Array:
    """Return (N,) low-pass filtered: `amount` 0 leaves the sound unchanged, 1 removes everything."""
    return np.asarray(lfilter([1 - amount], [1, -amount], wave))


def _fade(wave: Array, rate: int, seconds: float) -> Array:
    edge = min(int(rate * seconds), len(wave) // 3)
    ramp = 0.5 - 0.5 * np.cos(np.pi * np.arange(edge) / max(edge, 1))
    shaped = wave.copy()
    shaped[:edge] *= ramp
    shaped[len(wave) - edge :] *= ramp[::-1]
    return shaped


def _mix(one: Array, other: Array) -> Array:
    count = min(len(one), len(other))
    return one[:count] + other[:count]


def _echo(wave: Array, seconds: float, rate: int, rng: np.random.Generator) -> Array:
    """Return (N,) with a room's exponentially decaying reverberation, 60 dB down after about `seconds`."""
    time = np.arange(int(rate * seconds)) / rate
    tail = rng.normal(size=len(time)) * np.exp(-6.9 * time / seconds) * 0.05 * np.sqrt(16000 / rate)
    tail[0] = 1.0
    return np.asarray(fftconvolve(wave, tail)[: len(wave)])


def _noise(count: int, slope: float, rate: int, rng: np.random.Generator) -> Array:
    """Return (N,): noise of RMS 1 whose power falls by `slope` x 3 dB an octave above 40 Hz."""
    bins = rng.normal(size=(2, count // 2 + 1))
    frequency = np.maximum(np.fft.rfftfreq(count, 1 / rate), 40.0)
    wave = np.fft.irfft((bins[0] + 1j * bins[1]) * frequency ** (-slope / 2), count)
    return np.asarray(wave / (np.sqrt(np.mean(wave**2)) + 1e-12))
