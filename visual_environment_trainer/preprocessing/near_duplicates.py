"""Near-duplicate pictures, found by a perceptual hash, so that none is on both sides of a split."""

from __future__ import annotations

from collections.abc import Sequence

import cv2
import numpy as np
from numpy.typing import NDArray

from visual_environment_trainer.preprocessing.views import Views

BITS = 64
MAX_BITS = 8  # that differ between two near duplicates; between different pictures it is 15 and more
MAX_BRIGHTNESS = 0.1  # difference between two near duplicates, of the whole range
_PICTURE = 32
_FLAT = 1.0  # grey levels; a weaker wave is noise

Fingerprint = NDArray[np.float32]  # (65,)


def fingerprint(views: Views) -> Fingerprint:
    """(n, side, side, 3) uint8 -> (65,) float32: signs of the mean grey image's 64 slowest waves, and its brightness.

    C. Zauner, Implementation and benchmarking of perceptual image hash functions, 2010.
    """
    small = [cv2.resize(view, (_PICTURE, _PICTURE), interpolation=cv2.INTER_AREA) for view in views]
    grey = cv2.cvtColor(np.mean(small, axis=0).astype(np.float32), cv2.COLOR_RGB2GRAY)
    waves = cv2.dct(grey)[:8, :9].ravel()[1 : BITS + 1]
    signs = np.where(np.abs(waves) < _FLAT, 0.0, np.sign(waves - np.median(waves)))
    return np.concatenate([signs, [grey.mean() / 255]]).astype(np.float32)


def near_duplicate_groups(fingerprints: NDArray[np.float32], sessions: Sequence[str]) -> list[str]:
    """(n, 65) -> a key for each picture, the same for near duplicates of one another in different sessions."""
    from scipy.sparse import coo_array
    from scipy.sparse.csgraph import connected_components

    session = np.unique(sessions, return_inverse=True)[1]
    signs, light = fingerprints[:, :BITS], fingerprints[:, BITS]
    lengths = np.sum(signs * signs, axis=1)
    first: list[NDArray[np.int64]] = []
    second: list[NDArray[np.int64]] = []
    for start in range(0, len(signs), 1024):
        part = slice(start, start + 1024)
        bits = (lengths[part, None] + lengths - 2 * signs[part] @ signs.T) / 4
        near = (bits <= MAX_BITS) & (np.abs(light[part, None] - light) <= MAX_BRIGHTNESS)
        rows, columns = np.nonzero(near & (session[part, None] != session))
        first.append(rows + start)
        second.append(columns)
    rows, columns = np.concatenate(first), np.concatenate(second)
    graph = coo_array((np.ones(len(rows), np.int8), (rows, columns)), shape=(len(signs), len(signs)))
    return [str(group) for group in connected_components(graph, directed=False)[1]]
