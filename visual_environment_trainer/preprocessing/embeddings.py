"""Views -> embeddings by a frozen image encoder, and from them the features of a place."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any, cast

import numpy as np
from joblib import Parallel, delayed
from numpy.typing import NDArray

from shared.data.files import RefusedFileError, private_copy
from shared.data_loader import Dataset, Sample
from shared.errors import DataError, Fault
from shared.features.arrays import Array, Inputs, namespace, unit_rows
from shared.features.cache import content_key
from shared.features.encoders import Encoder
from shared.job import Job
from visual_environment_trainer.preprocessing.images import UnreadableImageError
from visual_environment_trainer.preprocessing.near_duplicates import fingerprint
from visual_environment_trainer.preprocessing.validity import require_content
from visual_environment_trainer.preprocessing.views import Viewing, Views, blurred, read_views

DECODE_VERSION = "views_v3"  # of the decoding of a file to views; part of the cache's keys
FINGERPRINT_VERSION = "perceptual_hash_v1"
BLURRED = "_blurred"  # suffix of the names of what blurred views became
_BATCH = 8  # images that one thread decodes and encodes together
_VIEW_BATCH = 16
_THREADS = 2

Numbers = dict[str, NDArray[Any]]  # by the names of a model's inputs
_Batch = dict[str, dict[str, NDArray[np.float32]]]  # by the names of a model's inputs, and the samples' keys


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
    """From views to a model's inputs: the outputs of an encoder, or without one the middle view itself."""

    viewing: Viewing
    encoder: Encoder | None
    blur: float = 0.0  # sigma in pixels of a view; where it is not 0, blurred views are encoded as well

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
        encoded = self._encoded(several, "")
        if self.blur:
            soft = self._encoded([blurred(views, self.blur) for views in several], BLURRED)
            encoded = [one | other for one, other in zip(encoded, soft, strict=True)]
        return encoded

    def _encoded(self, several: Sequence[Views], suffix: str) -> list[Numbers]:
        """Encode each sample by itself on one thread: in a batch with others its last bits would differ."""
        assert self.encoder is not None
        single = replace(self.encoder, threads=1)
        encoded = []
        for views in several:
            parts = [single.run({"image": views[k : k + _VIEW_BATCH]}) for k in range(0, len(views), _VIEW_BATCH)]
            rows = {name: [part[output] for part in parts] for name, output in self.outputs.items()}
            encoded.append({name + suffix: np.concatenate(some) for name, some in rows.items()})
        return encoded


@dataclass(frozen=True)
class EncodedImages:
    """What the model takes of each sample, and the samples' perceptual hashes (n, 65)."""

    samples: list[Numbers]
    fingerprints: NDArray[np.float32]


def encode_images(job: Job, dataset: Dataset, encoding: Encoding) -> EncodedImages:
    """Return what the model takes of every sample, decoding only what the cache does not know.

    Raises DataError naming every file that cannot be used.
    """
    keys = [_key(encoding.viewing, sample) for sample in dataset.samples]
    specs = {"fingerprint": FINGERPRINT_VERSION}
    if encoding.encoder is not None:
        for suffix in ("", f"{BLURRED}{encoding.blur}") if encoding.blur else ("",):
            names = {name + (BLURRED if suffix else ""): output for name, output in encoding.outputs.items()}
            specs |= {name: f"{encoding.encoder.spec.sha256}/{output}{suffix}" for name, output in names.items()}
    cache = job.cache if encoding.encoder is not None else None  # it keeps no pictures
    known = {name: cache.get_many(spec, keys) if cache else {} for name, spec in specs.items()}
    by_key = dict(zip(keys, dataset.samples, strict=True))
    missing = [item for item in by_key.items() if not all(item[0] in rows for rows in known.values())]
    faults: list[Fault] = []
    with job.log.stage("encode"):
        job.log.progress(len(keys) - len(missing), len(keys))
        for done, batch in enumerate(_encoded_batches(encoding, missing, faults), start=1):
            for name, rows in batch.items():
                known.setdefault(name, {}).update(rows)
                if cache:
                    cache.put_many(specs[name], rows)
            job.log.progress(min(len(keys) - len(missing) + done * _BATCH, len(keys)), len(keys))
    if faults:
        raise DataError(sorted(faults, key=lambda fault: (fault.path, fault.line or 0)))
    fingerprints = known.pop("fingerprint")
    return EncodedImages(
        [{name: rows[key] for name, rows in known.items()} for key in keys],
        np.stack([fingerprints[key] for key in keys]),
    )


def _encoded_batches(
    encoding: Encoding, missing: Sequence[tuple[str, Sample]], faults: list[Fault]
) -> Iterator[_Batch]:
    """Yield name -> key -> array for a few samples at a time; after the first fault only more faults are looked for."""

    def encode(start: int) -> _Batch:
        keys, views = [], []
        for key, sample in missing[start : start + _BATCH]:
            try:
                views.append(_views(encoding.viewing, sample))
                keys.append(key)
            except UnreadableImageError as error:
                faults.append(sample.media_fault(str(error)))
        if faults or not keys:
            return {}
        rows = encoding(views)
        batch = {name: dict(zip(keys, (row[name] for row in rows), strict=True)) for name in rows[0]}
        return batch | {"fingerprint": dict(zip(keys, map(fingerprint, views), strict=True))}

    parallel = Parallel(_THREADS, prefer="threads", return_as="generator")
    yield from cast(Iterator[_Batch], parallel(delayed(encode)(start) for start in range(0, len(missing), _BATCH)))


def _views(viewing: Viewing, sample: Sample) -> Views:
    if sample.path is None or sample.example.media is None:
        raise UnreadableImageError("has no image; visual samples need one")
    try:
        with private_copy(sample.path, sample.content_sha256) as path:
            return require_content(read_views(path, viewing, sample.example))
    except RefusedFileError as error:
        raise UnreadableImageError(str(error)) from None


def _key(viewing: Viewing, sample: Sample) -> str:
    own = sample.example.model_dump_json(include={"box", "onset", "offset"}, exclude_none=True)
    suffix = sample.path.suffix.lower() if sample.path else ""  # a file that is not what its name says is refused
    return content_key(DECODE_VERSION, viewing.model_dump_json(), sample.content_sha256, suffix, own)
