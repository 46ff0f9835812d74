"""Views -> embeddings by a frozen image encoder, and from them the features of a place."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from shared.arrays import Array, Inputs, namespace, unit_rows
from shared.data_loader import Dataset
from shared.encoders import Encoder, encode_cached
from shared.feature_cache import content_key
from shared.recipe import Job
from visual_environment_trainer.preprocessing.images import VIEWS, decode_all

DECODE_VERSION = "views_v1"  # of the way from a file to views; part of the cache's keys


@dataclass(frozen=True)
class PlaceFeatures:
    """Square root and unit length of the mean embedding over views, with the middle stage's beside it.

    The square root evens out the long tail of average-pooled activations; see Jegou and Chum 2012 on
    power normalisation.
    """

    name: str  # of the encoder, which is that of its inputs
    views: int
    middle_weight: float

    def __call__(self, inputs: Inputs) -> Array:
        """{name: (V, 1280), name_mid: (V, M)} float32 -> (1280 + M,), or (1280,) where the middle weighs nothing."""
        embedding = self._pooled(inputs[self.name])
        if not self.middle_weight:
            return embedding
        middle = self._pooled(inputs[f"{self.name}_mid"]) * self.middle_weight
        return namespace(embedding).concat([embedding, middle], axis=0)

    def _pooled(self, rows: Array) -> Array:
        xp = namespace(rows)
        mean = xp.mean(rows[: self.views, :], axis=0)
        return unit_rows(xp.sign(mean) * xp.sqrt(xp.abs(mean)))


def embed(job: Job, dataset: Dataset, encoder: Encoder, views: int) -> list[dict[str, NDArray[np.float32]]]:
    """Return each sample's `{name: (views, 1280), name_mid: (views, M)}`, decoding only what the cache does not know.

    Raises DataError naming every image that cannot be used.
    """
    side = int(encoder.spec.inputs["image"].shape[1])
    rows = [(k, view) for k in range(len(dataset)) for view in range(views)]
    regions = [s.example.box.model_dump_json() if s.example.box else "" for s in dataset.samples]
    images = [content_key(DECODE_VERSION, s.content_sha256, r) for s, r in zip(dataset.samples, regions, strict=True)]
    keys = [f"{images[k]}/{VIEWS[view]}" for k, view in rows]

    def prepare(some: Sequence[tuple[int, int]]) -> list[dict[str, NDArray[np.uint8]]]:
        decoded = decode_all(dataset, sorted({k for k, _ in some}), side)
        return [{"image": decoded[k][view][None]} for k, view in some]

    with job.log.stage("encode"):
        found = encode_cached(
            encoder, rows, keys, prepare, job.cache, 24, lambda done: job.log.progress(done, len(rows))
        )
    embedding = found["embedding"].reshape(len(dataset), views, -1)
    middle = found["mid"].reshape(len(dataset), views, -1)
    name = encoder.spec.name
    return [{name: embedding[k], f"{name}_mid": middle[k]} for k in range(len(dataset))]
