"""The sounds of a data set as a model's inputs: decoded in parallel, and measured once."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, cast

from joblib import Parallel, delayed

from shared.data.files import RefusedFileError, private_copy
from shared.data_loader import Dataset
from shared.errors import DataError, Fault, InvalidInputError
from shared.features.arrays import Inputs
from shared.features.cache import FeatureCache, content_key
from shared.features.encoders import Encoder
from shared.job import Job
from shared.ready_features import decode_ready_features
from sound_trainer.preprocessing.decode import (
    Decoding,
    Quality,
    SilentSoundError,
    UnreadableSoundError,
    Wave,
    read_wave,
)

VERSION = "wave_v4"  # of the decoding; part of the cache's keys
_KEPT_BYTES = 512 * 1024**2  # of decoded waves; what is beyond is decoded again when it is needed
_THREADS = 2  # decoding releases the interpreter's lock

_Decoded = tuple[Wave, Quality] | UnreadableSoundError


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
    """The waves of a data set as a model's inputs, decoded on demand and kept up to _KEPT_BYTES."""

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
        """Keep a decoded wave if it fits in addition to the `used` bytes; return the bytes used then."""
        if used + wave.nbytes > _KEPT_BYTES:
            return used
        self._waves[index] = wave
        return used + wave.nbytes


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
