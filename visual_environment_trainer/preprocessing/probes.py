"""Images that no label can be: noise, patterns, blur beyond recognition, and mosaics of the person's own images."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from shared.data_loader import Dataset
from shared.features.probes import Probe
from visual_environment_trainer.preprocessing.embeddings import Encoding
from visual_environment_trainer.preprocessing.views import Views, read_views

_EACH = 2
_SOURCES = 8  # images that mosaics and blurred images are made from
_TILES = 8  # of a mosaic, in each direction

_Picture = NDArray[Any]  # (side, side, 3), 0 to 255


def visual_probes(dataset: Dataset, encoding: Encoding, seed: int) -> list[Probe]:
    """Return probes as a model's inputs, some made from the data set's images. The same arguments give the same."""
    side = encoding.viewing.side
    random = np.random.default_rng([seed, side])
    chosen = random.choice(len(dataset), min(_SOURCES, len(dataset)), replace=False)
    samples = [dataset.samples[int(k)] for k in chosen]
    pictures = [read_views(sample.path, encoding.viewing, sample.example)[0] for sample in samples if sample.path]
    made = image_probes(pictures, side, seed)
    inputs = replace(encoding, blur=0.0)([views for _, views in made])
    return [Probe(kind, row) for (kind, _), row in zip(made, inputs, strict=True)]


def image_probes(pictures: Sequence[NDArray[np.uint8]], side: int, seed: int) -> list[tuple[str, Views]]:
    """Return kinds and views (1, side, side, 3) uint8 RGB, some made from pictures (side, side, 3)."""
    random = np.random.default_rng([seed, side, 1])
    made = [*_patterns(side, random), *_altered(pictures, side, random)]
    return [(kind, np.clip(picture, 0, 255).astype(np.uint8)[None]) for kind, picture in made]


def _patterns(side: int, random: np.random.Generator) -> Iterator[tuple[str, _Picture]]:
    rows, columns = np.mgrid[:side, :side]
    for _ in range(_EACH):
        colours = random.uniform(0, 255, (2, 3))
        yield "noise", random.integers(0, 256, (side, side, 3)).astype(np.float64)
        coarse = random.uniform(0, 255, (8, 8, 3)).astype(np.float32)
        yield "clouds", cv2.resize(coarse, (side, side), interpolation=cv2.INTER_CUBIC)
        size = int(random.integers(side // 32 + 1, max(side // 6, side // 32 + 2)))
        yield "checker", colours[((rows // size + columns // size) % 2)]
        angle = random.uniform(0, np.pi)
        stripes = np.sin(
            (rows * np.sin(angle) + columns * np.cos(angle)) * 2 * np.pi / (side * random.uniform(0.03, 0.25))
        )
        yield "stripes", colours[0] + (colours[1] - colours[0]) * (stripes[..., None] + 1) / 2
        fade = (columns / side)[..., None]
        yield "grey", np.full((side, side, 3), 1.0) * random.uniform(60, 200) + 20 * fade
        yield "nearly black", random.uniform(0, 40, (side, side, 1)) * np.ones(3)


def _altered(
    pictures: Sequence[NDArray[np.uint8]], side: int, random: np.random.Generator
) -> Iterator[tuple[str, _Picture]]:
    """Yield images blurred beyond recognition, and mosaics of pieces of many images."""
    tile = -(-side // _TILES)
    for _ in range(_EACH):
        picture = pictures[int(random.integers(len(pictures)))]
        yield "blurred", cv2.GaussianBlur(picture, (0, 0), side / random.uniform(5, 10))
        mosaic = np.zeros((tile * _TILES, tile * _TILES, 3))
        for row in range(_TILES):
            for column in range(_TILES):
                piece = pictures[int(random.integers(len(pictures)))]
                top, left = random.integers(0, side - tile + 1, 2)
                place = (slice(row * tile, (row + 1) * tile), slice(column * tile, (column + 1) * tile))
                mosaic[place] = np.rot90(piece[top : top + tile, left : left + tile], int(random.integers(4)))
        yield "mosaic", mosaic[:side, :side]
