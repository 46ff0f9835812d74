"""Views -> embeddings by a frozen image encoder, and from them the features of a place."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from shared.data_loader import Dataset, Sample
from shared.errors import DataError, Fault
from shared.features.arrays import Array, Inputs, namespace, unit_rows
from shared.features.cache import content_key
from shared.features.encoders import Encoder
from shared.job import Job
from visual_environment_trainer.preprocessing.images import UnreadableImageError
from visual_environment_trainer.preprocessing.near_copies import fingerprint
from visual_environment_trainer.preprocessing.views import Viewing, Views, blurred, read_views

DECODE_VERSION = "views_v2"  # of the way from a file to views; part of the cache's keys
FINGERPRINT_VERSION = "perceptual_hash_v1"
BLURRED = "_blurred"  # ends the names of what blurred views became
_AT_ONCE = 8  # images that one thread decodes and encodes together
_VIEWS_AT_ONCE = 16
_THREADS = 2

Numbers = dict[str, NDArray[Any]]  # by the names of a model's inputs


@dataclass(frozen=True)
class PlaceFeatures:
    """Square root and unit length of an encoder's mean output over views, times a weight.

    The square root evens out the long tail of average-pooled activations; see Jegou and Chum 2012 on
    power normalisation.
    """

    name: str  # of the model's input
    weight: float = 1.0

    def __call__(self, inputs: Inputs) -> Array:
        """{name: (V, D)} float32 -> (D,)."""
        rows = inputs[self.name]
        xp = namespace(rows)
        mean = xp.mean(rows, axis=0)
        return unit_rows(xp.sign(mean) * xp.sqrt(xp.abs(mean))) * self.weight


@dataclass(frozen=True)
class Encoding:
    """From views to what a model takes: the outputs of an encoder, or without one the middle view itself."""

    viewing: Viewing
    encoder: Encoder | None
    blur: float = 0.0  # sigma in pixels of a view; where it is not 0, blurred views are encoded, too

    @property
    def outputs(self) -> dict[str, str]:
        """The model's inputs, and the outputs of the encoder that they are."""
        if self.encoder is None:
            return {}
        name = self.encoder.spec.name
        first, *others = self.encoder.spec.outputs
        return {name: first, **{f"{name}_{other}": other for other in others}}

    def __call__(self, several: Sequence[Views]) -> list[Numbers]:
        """(V, side, side, 3) uint8 each -> {name: (V, dimension)} float32 each, or {image: (side, side, 3)} uint8."""
        if self.encoder is None:
            return [{"image": views[len(views) // 2]} for views in several]
        found = self._encoded(several, "")
        if self.blur:
            soft = self._encoded([blurred(views, self.blur) for views in several], BLURRED)
            found = [one | other for one, other in zip(found, soft, strict=True)]
        return found

    def _encoded(self, several: Sequence[Views], suffix: str) -> list[Numbers]:
        """Encode each sample for itself on one thread: beside other samples it would get other bytes."""
        assert self.encoder is not None
        single = replace(self.encoder, threads=1)
        found = []
        for views in several:
            parts = [single.run({"image": views[k : k + _VIEWS_AT_ONCE]}) for k in range(0, len(views), _VIEWS_AT_ONCE)]
            rows = {name: [part[output] for part in parts] for name, output in self.outputs.items()}
            found.append({name + suffix: np.concatenate(some) for name, some in rows.items()})
        return found


@dataclass(frozen=True)
class EncodedImages:
    """What the model takes of each sample, and the samples' fingerprints (n, 65)."""

    samples: list[Numbers]
    fingerprints: NDArray[np.float32]


def look(job: Job, dataset: Dataset, way: Encoding) -> EncodedImages:
    """Return what is kept of every sample, decoding only what the cache does not know.

    Raises DataError naming every file that cannot be used.
    """
    keys = [_key(way.viewing, sample) for sample in dataset.samples]
    specs = {"fingerprint": FINGERPRINT_VERSION}
    if way.encoder is not None:
        for suffix in ("", f"{BLURRED}{way.blur}") if way.blur else ("",):
            names = {name + (BLURRED if suffix else ""): output for name, output in way.outputs.items()}
            specs |= {name: f"{way.encoder.spec.sha256}/{output}{suffix}" for name, output in names.items()}
    cache = job.cache if way.encoder is not None else None  # it keeps no pictures
    known = {name: cache.get_many(spec, keys) if cache else {} for name, spec in specs.items()}
    by_key = dict(zip(keys, dataset.samples, strict=True))
    todo = {key: sample for key, sample in by_key.items() if not all(key in rows for rows in known.values())}
    faults: list[Fault] = []
    with job.log.stage("encode"):
        job.log.progress(len(keys) - len(todo), len(keys))
        for done, fresh in enumerate(_looked(way, list(todo.items()), faults), start=1):
            for name, rows in fresh.items():
                known.setdefault(name, {}).update(rows)
                if cache:
                    cache.put_many(specs[name], rows)
            job.log.progress(min(len(keys) - len(todo) + done * _AT_ONCE, len(keys)), len(keys))
    if faults:
        raise DataError(sorted(faults, key=lambda fault: (fault.path, fault.line or 0)))
    prints = known.pop("fingerprint")
    return EncodedImages(
        [{name: rows[key] for name, rows in known.items()} for key in keys], np.stack([prints[key] for key in keys])
    )


def _looked(
    way: Encoding, todo: Sequence[tuple[str, Sample]], faults: list[Fault]
) -> Iterator[dict[str, dict[str, NDArray[np.float32]]]]:
    """Yield name -> key -> array for a few samples at a time; after the first fault only more faults are looked for."""

    def some(start: int) -> dict[str, dict[str, NDArray[np.float32]]]:
        keys, several = [], []
        for key, sample in todo[start : start + _AT_ONCE]:
            try:
                several.append(_views(way.viewing, sample))
                keys.append(key)
            except UnreadableImageError as error:
                faults.append(sample.media_fault(str(error)))
        if faults or not keys:
            return {}
        rows = way(several)
        found = {name: dict(zip(keys, (row[name] for row in rows), strict=True)) for name in rows[0]}
        return found | {"fingerprint": dict(zip(keys, map(fingerprint, several), strict=True))}

    with ThreadPoolExecutor(_THREADS) as pool:
        yield from pool.map(some, range(0, len(todo), _AT_ONCE))


def _views(viewing: Viewing, sample: Sample) -> Views:
    if sample.path is None or sample.example.media is None:
        raise UnreadableImageError("is no image; visual samples need one")
    return read_views(sample.path, viewing, sample.example)


def _key(viewing: Viewing, sample: Sample) -> str:
    own = sample.example.model_dump_json(include={"box", "onset", "offset"}, exclude_none=True)
    ending = sample.path.suffix.lower() if sample.path else ""  # a file that is not what its name says is refused
    return content_key(DECODE_VERSION, viewing.model_dump_json(), sample.content_sha256, ending, own)
