"""Sound files of any rate, width and number of channels -> mono waves at 16 kHz, and how well they were recorded."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import librosa  # which imports its modules when they are first used
import numpy as np
import soundfile
from numpy.typing import NDArray
from pydantic import Field

from shared.data.files import reason_of
from shared.data.media.audio import read_audio
from shared.data.media.containers import UnreadableMediaError
from shared.errors import DataError, Fault
from shared.schema_utils import Example, Schema
from sound_trainer.preprocessing.riff import WavLength, wav_length
from sound_trainer.preprocessing.spectral import HOP, RATE
from sound_trainer.preprocessing.validity import SILENT_DB, invalid_reason

_MIN_SECONDS = 0.02
_CLIPPED = 0.999  # of full scale
_MAX_CHANNELS = 32
_CANCELLED_DB = 30.0  # by which a mixture is quieter than its loudest channel where channels cancel each other out

_UNSUPPORTED = (
    "is damaged or in an unsupported audio format; use wav, flac or ogg, or what a phone records (m4a, 3gp, webm)"
)

Wave = NDArray[np.float32]


class Decoding(Schema):
    """What is read of a sound file. Whoever runs the model reads files in the same way."""

    longest_seconds: float = Field(default=60.0, gt=0.0, description="a longer sound is refused")
    largest_bytes: int = Field(default=50_000_000, gt=0, description="a larger file is refused")
    window_seconds: float = Field(
        default=10.0, ge=1.0, description="of a longer sound, the loudest window of this length is used"
    )


class UnreadableSoundError(ValueError):
    """A sound that may not be used; its text is the reason."""


class SilentSoundError(UnreadableSoundError):
    """A sound that can be read but is silent."""


@dataclass(frozen=True)
class Quality:
    """How a sound was recorded. Levels are in dB relative to full scale."""

    seconds: float
    rate: float
    channels: float
    peak_db: float  # of the mixture, apart from a constant offset
    loudest_db: float  # root mean square of the loudest frame of 10 ms
    background_db: float  # tenth percentile of these frames: the noise floor, if the sound pauses
    clipped: float  # share of samples at full scale

    def row(self) -> NDArray[np.float32]:
        """(7,) float32: the fields in their order."""
        return np.array(list(vars(self).values()), np.float32)

    def as_log(self, record_id: str) -> dict[str, Any]:
        """Return a line of the training log."""
        return {"record_id": record_id, **{name: round(float(value), 4) for name, value in vars(self).items()}}


@dataclass(frozen=True)
class _Sound:
    """(N,) or (channels, N) float32 of a region, its rate in Hz, and whether the file's header gives no length."""

    samples: NDArray[np.float32]
    rate: int
    has_no_length: bool = False


def read_wave(
    path: Path, decoding: Decoding, onset: float | None = None, offset: float | None = None
) -> tuple[Wave, Quality]:
    """Return (N,) float32, mono at 16 kHz, full scale 1, and its quality, from `onset` to `offset` (seconds).

    Of a sound longer than the window only the loudest window is returned; the quality is that of all of it.
    Raises UnreadableSoundError for a file that is too large, too long, damaged or empty, SilentSoundError for silence.
    """
    sound = _load(path, decoding, onset, offset)
    mono = _audible(sound)
    wave = librosa.resample(mono, orig_sr=sound.rate, target_sr=RATE)
    return loudest(wave, round(decoding.window_seconds * RATE)), _quality(mono, sound.samples, sound.rate)


def check_file(path: Path, example: Example) -> tuple[str, ...]:
    """Return what should be known of a recording that is used. Raises DataError for one that cannot be used."""
    try:
        sound = _load(path, Decoding(), example.onset, example.offset)
        mono = _audible(sound)
    except UnreadableSoundError as error:
        raise DataError([Fault(str(path), None, "media", str(error))]) from None
    notes = []
    if sound.has_no_length:
        notes.append("its header gives no length, as after a crash; all samples that are there are used")
    if sound.samples.ndim == 2 and not np.array_equal(mono, librosa.to_mono(sound.samples)):
        notes.append("its channels cancel each other out; the loudest alone is used")
    return tuple(notes)


def _audible(sound: _Sound) -> Wave:
    """(N,): the mixture of a sound's channels. Raises SilentSoundError."""
    mono = _mixed(sound.samples)
    if (reason := invalid_reason(mono)) is not None:
        raise SilentSoundError(reason)
    return mono


def _mixed(samples: NDArray[np.float32]) -> Wave:
    """(N,) or (channels, N) -> (N,): the mean of the channels, or the loudest one where they cancel each other out."""
    mono = librosa.to_mono(samples)
    if samples.ndim == 1:
        return mono
    levels = np.sqrt(np.mean(samples**2, axis=1))
    cancelled = _decibels(levels.max()) - _decibels(np.sqrt(np.mean(mono**2))) > _CANCELLED_DB
    return samples[int(levels.argmax())] if cancelled else mono


def preparation(decoding: Decoding) -> dict[str, Any]:
    """Return what `read_wave` does, for whoever makes the input `wave` without it."""
    return {
        "sample_rate": RATE,
        "channels": 1,
        "full_scale": 1.0,
        "steps": [
            "mix the channels down to their mean, or take the loudest where it is quieter than that by more than "
            f"{_CANCELLED_DB:g} dB",
            f"resample to {RATE} Hz with a filter against aliasing",
            f"of a sound longer than {decoding.window_seconds:g} s, take those {decoding.window_seconds:g} s that "
            "hold the most energy",
            f"silence is unknown: where the peak, without a constant offset, is below {SILENT_DB:g} dB, do not run "
            "the model",
        ],
        "shortest_seconds": _MIN_SECONDS,
        "longest_seconds": decoding.longest_seconds,
        "window_seconds": decoding.window_seconds,
        "window_step_seconds": HOP / RATE,
        "silent_below_db": SILENT_DB,
    }


def loudest(wave: Wave, size: int) -> Wave:
    """(N,) -> (min(N, size),): the window with the most energy, of those that start every 10 ms."""
    if len(wave) <= size:
        return wave
    energy = np.concatenate([[0.0], np.cumsum(wave.astype(np.float64) ** 2)])
    starts = np.arange(0, len(wave) - size + 1, HOP)
    start = int(starts[np.argmax(energy[starts + size] - energy[starts])])
    return wave[start : start + size]


def _load(path: Path, decoding: Decoding, onset: float | None, offset: float | None) -> _Sound:
    """Return the region of a sound file from onset to offset (s)."""
    try:
        size = path.stat().st_size
    except OSError as error:
        raise UnreadableSoundError(reason_of(error)) from None
    if size > decoding.largest_bytes:
        raise UnreadableSoundError(
            f"holds {size / 1e6:.1f} MB; at most {decoding.largest_bytes / 1e6:g} are read "
            "(raise decoding.largest_bytes, or cut it)"
        )
    start, most = onset or 0.0, decoding.longest_seconds + 0.01  # what is longer shows by a little more
    try:
        length = wav_length(path)
        if length is not None and length.is_missing:
            samples, rate = read_audio(path, decoding.largest_bytes, start, _wanted(start, offset, most))
            return _checked(_Sound(samples, rate, has_no_length=True), start, offset, decoding, None)
        with _opened(path) as file:
            rate, channels = int(file.samplerate), int(file.channels)
            if not 1000 <= rate <= 768_000 or channels > _MAX_CHANNELS:
                raise UnreadableSoundError(f"has {channels} channels at {rate} Hz, which is no recording of a voice")
            if start >= file.frames / rate:
                raise UnreadableSoundError(_empty(file.frames / rate, onset))
            half = 0.5 / rate  # librosa cuts fractions of a sample off
            # Of an open file librosa asks no other decoder: a path that libsndfile refuses would reach FFmpeg.
            samples, _ = librosa.load(
                file, sr=None, mono=False, offset=start + half, duration=_wanted(start, offset, most) + half
            )
    except _OtherContainerError:
        try:
            samples, rate = read_audio(path, decoding.largest_bytes, start, _wanted(start, offset, most))
        except UnreadableMediaError as refused:
            unknown = str(refused).startswith(("is not", "cannot be opened"))
            raise UnreadableSoundError(_UNSUPPORTED if unknown else str(refused)) from None
        length = None
    except UnreadableMediaError as refused:
        raise UnreadableSoundError(str(refused)) from None
    except (soundfile.SoundFileError, TypeError, OSError):
        raise UnreadableSoundError(_UNSUPPORTED) from None
    return _checked(_Sound(samples, rate), start, offset, decoding, length if offset is None else None)


class _OtherContainerError(Exception):
    """A file that libsndfile does not know."""


def _opened(path: Path) -> soundfile.SoundFile:
    try:
        return soundfile.SoundFile(path)
    except (soundfile.SoundFileError, TypeError, OSError):
        raise _OtherContainerError from None


def _wanted(start: float, offset: float | None, most: float) -> float:
    """Return how many seconds are read from `start` on."""
    return max(most if offset is None else min(most, offset - start), 0.0)


def _checked(sound: _Sound, start: float, offset: float | None, decoding: Decoding, length: WavLength | None) -> _Sound:
    """Return the sound, or raise UnreadableSoundError for one that cannot be used; `length` is what it must have."""
    seconds = sound.samples.shape[-1] / sound.rate
    if seconds > decoding.longest_seconds:
        raise UnreadableSoundError(
            f"lasts more than {decoding.longest_seconds:g} s; give onset and offset, cut it, "
            "or raise decoding.longest_seconds"
        )
    present = 1.0 if length is None else length.share_present
    if present < 1.0:
        raise UnreadableSoundError(
            f"is cut short: its header promises {(start + seconds) / max(present, 1e-3):.2f} s, "
            f"{start + seconds:.2f} s are there; bring it here again, or give an offset before its end"
        )
    if offset is not None and start + seconds < offset - 0.1:
        raise UnreadableSoundError(f"ends {start + seconds:.2f} s after its start, before its offset {offset:g} s")
    if seconds < _MIN_SECONDS:
        raise UnreadableSoundError(f"lasts {seconds * 1000:.0f} ms; at least {_MIN_SECONDS * 1000:.0f} are needed")
    if not np.isfinite(sound.samples).all():
        raise UnreadableSoundError("holds numbers that are not finite; export it again")
    return sound


def _empty(seconds: float, onset: float | None) -> str:
    if not onset:
        return "holds no sound"
    return f"ends {seconds:.2f} s after its start, before its onset {onset:g} s"


def _quality(mono: Wave, samples: NDArray[np.float32], rate: int) -> Quality:
    """Measure (N,) mono, and (N,) or (channels, N) samples, both of full scale 1."""
    frame = rate // 100
    levels = _decibels(librosa.feature.rms(y=mono, frame_length=frame, hop_length=frame, center=False))
    peaks = np.abs(samples)
    swing = mono - mono.mean() if len(mono) else mono
    return Quality(
        seconds=len(mono) / rate,
        rate=rate,
        channels=1 if samples.ndim == 1 else len(samples),
        peak_db=float(_decibels(np.abs(swing).max())),
        loudest_db=float(levels.max()),
        background_db=float(np.quantile(levels, 0.1, method="lower")),
        clipped=float(np.mean(peaks >= _CLIPPED)),
    )


def _decibels(level: Any) -> Any:
    return librosa.amplitude_to_db(level, ref=1.0, amin=1e-6, top_db=None)
