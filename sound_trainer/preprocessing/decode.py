"""Sound files of any rate, width and number of channels -> mono waves at 16 kHz, and how well they were recorded."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, cast

import librosa  # which imports its modules when they are first used
import numpy as np
import soundfile
from joblib import Parallel, delayed
from numpy.typing import NDArray
from pydantic import Field

from shared.data.files import RefusedFileError, private_copy, reason_of
from shared.data.media.audio import read_audio
from shared.data.media.containers import UnreadableMediaError
from shared.data_loader import Dataset
from shared.errors import DataError, Fault, InvalidInputError
from shared.features.arrays import Inputs
from shared.features.cache import FeatureCache, content_key
from shared.features.encoders import Encoder
from shared.job import Job
from shared.ready_features import decode_ready_features
from shared.schema_utils import Example, Schema
from sound_trainer.preprocessing.riff import has_no_length, share_present
from sound_trainer.preprocessing.spectral import HOP, RATE
from sound_trainer.preprocessing.validity import SILENT_DB, invalid_reason

VERSION = "wave_v4"  # of the decoding; part of the cache's keys
_MIN_SECONDS = 0.02
_CLIPPED = 0.999  # of full scale
_MAX_CHANNELS = 32
_CANCELLED_DB = 30.0  # by which a mixture is quieter than its loudest channel where channels cancel each other out
_KEPT_BYTES = 512 * 1024**2  # of decoded waves; what is beyond is decoded again when it is needed
_THREADS = 2  # decoding releases the interpreter's lock

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


_Decoded = tuple[Wave, Quality] | UnreadableSoundError


def read_wave(
    path: Path, decoding: Decoding, onset: float | None = None, offset: float | None = None
) -> tuple[Wave, Quality]:
    """Return (N,) float32, mono at 16 kHz, full scale 1, and its quality, from `onset` to `offset` (seconds).

    Of a sound longer than the window only the loudest window is returned; the quality is that of all of it.
    Raises UnreadableSoundError for a file that is too large, too long, damaged or empty, SilentSoundError for silence.
    """
    samples, rate = _load(path, decoding, onset, offset)
    mono = _mixed(samples)
    reason = invalid_reason(mono)
    if reason is not None:
        raise SilentSoundError(reason)
    wave = librosa.resample(mono, orig_sr=rate, target_sr=RATE)
    return loudest(wave, round(decoding.window_seconds * RATE)), _quality(mono, samples, rate)


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


def recording_notes(path: Path) -> tuple[str, ...]:
    """Return what somebody who made a recording should know of it although it is used."""
    notes = []
    try:
        if has_no_length(path):
            notes.append("its header gives no length, as after a crash; all samples that are there are used")
        with soundfile.SoundFile(path) as file:
            if file.channels > 1:
                samples = np.asarray(file.read(min(file.frames, 60 * file.samplerate)), np.float32).T
                if not np.array_equal(_mixed(samples), librosa.to_mono(samples)):
                    notes.append("its channels cancel each other out; the loudest alone is used")
    except (soundfile.SoundFileError, OSError):
        pass  # a container that another library reads
    return tuple(notes)


def loudest(wave: Wave, size: int) -> Wave:
    """(N,) -> (min(N, size),): the window with the most energy, of those that start every 10 ms."""
    if len(wave) <= size:
        return wave
    energy = np.concatenate([[0.0], np.cumsum(wave.astype(np.float64) ** 2)])
    starts = np.arange(0, len(wave) - size + 1, HOP)
    start = int(starts[np.argmax(energy[starts + size] - energy[starts])])
    return wave[start : start + size]


def decode(path: Path, spec: Mapping[str, Any], encoders: Mapping[str, Encoder]) -> Inputs:
    """Return a sound file as the model's input `wave` (N,) float32, or a feature file where the model takes those.

    Raises DataError for a file that cannot be used, InvalidInputError for one that is silent.
    """
    if spec.get("ready_features"):
        return dict(decode_ready_features(path, spec))
    try:
        return {"wave": read_wave(path, Decoding.model_validate(spec["decoding"]))[0]}
    except UnreadableSoundError as error:
        kind = InvalidInputError if isinstance(error, SilentSoundError) else DataError
        raise kind([Fault(str(path), None, "media", str(error))]) from None


@dataclass(frozen=True)
class Recordings:
    """The waves of a data set as a model's inputs, decoded when they are asked for and kept while there is room."""

    dataset: Dataset
    decoding: Decoding
    keys: tuple[str, ...]  # hashes of what each wave is made from
    quality: list[Quality] = field(default_factory=list)
    _waves: dict[int, Wave] = field(default_factory=dict, repr=False)

    def __len__(self) -> int:
        return len(self.dataset)

    def __getitem__(self, index: int, /) -> Inputs:
        kept = self._waves.get(index)
        return {"wave": self.read(index)[0] if kept is None else kept}

    def __iter__(self) -> Iterator[Inputs]:
        return (self[index] for index in range(len(self)))

    def report(self) -> tuple[dict[str, Any], ...]:
        """Return the quality of every recording, for the training log."""
        samples = self.dataset.samples
        return tuple(q.as_log(sample.record_id) for q, sample in zip(self.quality, samples, strict=True))

    def read(self, index: int) -> tuple[Wave, Quality]:
        """Decode one sample; raises UnreadableSoundError."""
        sample = self.dataset.samples[index]
        if sample.path is None or sample.example.media is None:
            raise UnreadableSoundError("is no sound file; sound samples need one")
        try:
            with private_copy(sample.path, sample.content_sha256) as path:
                return read_wave(path, self.decoding, sample.example.onset, sample.example.offset)
        except SilentSoundError as error:
            raise SilentSoundError(f"{error}; record it again or set its label_status to rejected") from None
        except RefusedFileError as error:
            raise UnreadableSoundError(str(error)) from None

    def keep(self, index: int, wave: Wave, used: int) -> int:
        """Keep a decoded wave if there is room beside the `used` bytes; return the bytes used then."""
        if used + wave.nbytes > _KEPT_BYTES:
            return used
        self._waves[index] = wave
        return used + wave.nbytes


def check_file(path: Path, example: Example) -> tuple[str, ...]:
    """Return what should be known of a recording that is used. Raises DataError for one that cannot be used."""
    decoding = Decoding()
    try:
        samples, _ = _load(path, decoding, example.onset, example.offset)
        if (reason := invalid_reason(_mixed(samples))) is not None:
            raise SilentSoundError(reason)
    except UnreadableSoundError as error:
        raise DataError([Fault(str(path), None, "media", str(error))]) from None
    return recording_notes(path)


def open_recordings(job: Job, dataset: Dataset, decoding: Decoding) -> Recordings:
    """Decode all sounds whose quality is not known from an earlier run, two at a time.

    Raises DataError naming every sound that cannot be used.
    """
    settings = f"{VERSION} {decoding.model_dump_json()}"
    regions = [f"{sample.example.onset} {sample.example.offset}" for sample in dataset.samples]
    keys = [
        content_key(settings, sample.content_sha256, region)
        for sample, region in zip(dataset.samples, regions, strict=True)
    ]
    recordings = Recordings(dataset, decoding, tuple(keys))
    known = _known_quality(job.cache, keys)
    missing = [index for index, key in enumerate(keys) if key not in known]
    faults: list[Fault] = []
    used = 0
    parallel = Parallel(_THREADS, prefer="threads", return_as="generator")
    decoded = cast(Iterator[_Decoded], parallel(delayed(_try_read)(recordings, index) for index in missing))
    for done, (index, result) in enumerate(zip(missing, decoded, strict=True), 1):
        if isinstance(result, UnreadableSoundError):
            faults.append(dataset.samples[index].media_fault(str(result)))
        else:
            wave, known[keys[index]] = result
            used = recordings.keep(index, wave, used)
        job.log.progress(done, len(missing))
    if faults:
        raise DataError(faults)
    if job.cache:
        job.cache.put_many(VERSION, {keys[index]: known[keys[index]].row() for index in missing})
    recordings.quality.extend(known[key] for key in keys)
    return recordings


def _try_read(recordings: Recordings, index: int) -> _Decoded:
    try:
        return recordings.read(index)
    except UnreadableSoundError as error:
        return error


def _known_quality(cache: FeatureCache | None, keys: list[str]) -> dict[str, Quality]:
    rows = cache.get_many(VERSION, keys) if cache else {}
    return {key: Quality(*map(float, row)) for key, row in rows.items() if row.shape == (len(Quality.__annotations__),)}


def _load(path: Path, decoding: Decoding, onset: float | None, offset: float | None) -> tuple[NDArray[np.float32], int]:
    """Return (N,) or (channels, N) float32 of the region from onset to offset (s), and its rate in Hz."""
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
        if has_no_length(path):
            samples, rate = read_audio(path, decoding.largest_bytes, start, _wanted(start, offset, most))
            return _checked(samples, rate, start, offset, decoding, 1.0)
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
        present = share_present(path) if offset is None else 1.0
    except _OtherContainerError:
        try:
            samples, rate = read_audio(path, decoding.largest_bytes, start, _wanted(start, offset, most))
        except UnreadableMediaError as refused:
            unknown = str(refused).startswith(("is not", "cannot be opened"))
            raise UnreadableSoundError(_UNSUPPORTED if unknown else str(refused)) from None
        present = 1.0
    except UnreadableMediaError as refused:
        raise UnreadableSoundError(str(refused)) from None
    except (soundfile.SoundFileError, TypeError, OSError):
        raise UnreadableSoundError(_UNSUPPORTED) from None
    return _checked(samples, rate, start, offset, decoding, present)


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


def _checked(
    samples: NDArray[np.float32], rate: int, start: float, offset: float | None, decoding: Decoding, present: float
) -> tuple[NDArray[np.float32], int]:
    """Return (N,) or (channels, N) samples and their rate, or raise UnreadableSoundError for what cannot be used."""
    seconds = samples.shape[-1] / rate
    if seconds > decoding.longest_seconds:
        raise UnreadableSoundError(
            f"lasts more than {decoding.longest_seconds:g} s; give onset and offset, cut it, "
            "or raise decoding.longest_seconds"
        )
    if present < 1.0:
        raise UnreadableSoundError(
            f"is cut short: its header promises {(start + seconds) / max(present, 1e-3):.2f} s, "
            f"{start + seconds:.2f} s are there; bring it here again, or give an offset before its end"
        )
    if offset is not None and start + seconds < offset - 0.1:
        raise UnreadableSoundError(f"ends {start + seconds:.2f} s after its start, before its offset {offset:g} s")
    if seconds < _MIN_SECONDS:
        raise UnreadableSoundError(f"lasts {seconds * 1000:.0f} ms; at least {_MIN_SECONDS * 1000:.0f} are needed")
    if not np.isfinite(samples).all():
        raise UnreadableSoundError("holds numbers that are not finite; export it again")
    return np.asarray(samples, np.float32), rate


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
