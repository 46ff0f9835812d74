"""Altered copies of a sequence for training: slower here and faster there, shorter, larger, and a little shaken."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from shared.features.arrays import Inputs


@dataclass(frozen=True)
class Augment:
    """Makes copies of one sequence. A point at the origin is missing, and stays so."""

    copies: int = 3
    coordinates: int = 0  # of a landmark point; 0 for channels
    warp: float = 0.3  # how much the pace may change along the way
    crop: float = 0.1  # at most so much is cut off at each end
    gain: float = 0.1  # at most so much larger or smaller
    noise: float = 0.02  # of each number's own deviation

    def __call__(self, inputs: Inputs, rng: np.random.Generator) -> list[Inputs]:
        """{"sequence": (T, D)} -> as many altered ones, none longer."""
        return [{"sequence": self._copy(np.asarray(inputs["sequence"]), rng)} for _ in range(self.copies)]

    def _copy(self, sequence: NDArray[np.float32], rng: np.random.Generator) -> NDArray[np.float32]:
        first, last = rng.uniform(0, self.crop), 1 - rng.uniform(0, self.crop)
        count = max(round(len(sequence) * (last - first)), min(len(sequence), 2))
        even = np.linspace(0, 1, count)
        bend = rng.uniform(-self.warp, self.warp) / np.pi
        place = (first + (last - first) * (even + bend * np.sin(np.pi * even))) * (len(sequence) - 1)
        # The nearest frame, not a mixture of two: between a seen and a missing point there is none.
        moved = sequence[np.rint(np.clip(place, 0, len(sequence) - 1)).astype(int)]
        points = moved.reshape(count, -1, max(self.coordinates, 1))
        missing = ~points.any(axis=2, keepdims=True) if self.coordinates else np.zeros((count, 1, 1), bool)
        centre = points.mean(axis=(0, 1), where=~missing) if (~missing).any() else 0.0
        if self.coordinates == 0:
            centre = np.zeros(1)
        scale = 1 + rng.uniform(-self.gain, self.gain)
        shaken = rng.normal(size=moved.shape).reshape(points.shape) * self.noise * points.std(axis=0, keepdims=True)
        altered = centre + (points - centre) * scale + shaken
        return np.asarray(np.where(missing, 0.0, altered).reshape(moved.shape), np.float32)
