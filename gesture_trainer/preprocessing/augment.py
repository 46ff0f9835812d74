"""Altered copies of a sequence for training: slower here and faster there, shorter, larger, and a little shaken."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from shared.features.arrays import Inputs
from shared.schema_utils import Schema


class Augmentation(Schema):
    """Altered copies of training sequences; a candidate is compared without and with them."""

    copies: int = Field(default=0, ge=0, le=20, description="of each sequence, kept if they help")
    warp: float = Field(default=0.3, ge=0.0, le=1.0, description="how much the pace may change along the way")
    crop: float = Field(default=0.1, ge=0.0, le=0.4, description="at most so much is cut off at each end")
    gain: float = Field(default=0.1, ge=0.0, le=0.9, description="at most so much larger or smaller")
    noise: float = Field(default=0.02, ge=0.0, le=1.0, description="of each number's own deviation")


@dataclass(frozen=True)
class Augment:
    """Makes copies of one sequence. A point at the origin is missing, and stays so."""

    settings: Augmentation
    coordinates: int = 0  # of a landmark point; 0 for channels

    def __call__(self, inputs: Inputs, rng: np.random.Generator) -> list[Inputs]:
        """{"sequence": (T, D)} -> as many altered ones, none longer."""
        return [{"sequence": self._copy(np.asarray(inputs["sequence"]), rng)} for _ in range(self.settings.copies)]

    def _copy(self, sequence: NDArray[np.float32], rng: np.random.Generator) -> NDArray[np.float32]:
        first, last = rng.uniform(0, self.settings.crop), 1 - rng.uniform(0, self.settings.crop)
        count = max(round(len(sequence) * (last - first)), min(len(sequence), 2))
        even = np.linspace(0, 1, count)
        bend = rng.uniform(-self.settings.warp, self.settings.warp) / np.pi
        place = (first + (last - first) * (even + bend * np.sin(np.pi * even))) * (len(sequence) - 1)
        # The nearest frame, not a mixture of two: between a seen and a missing point there is none.
        moved = sequence[np.rint(np.clip(place, 0, len(sequence) - 1)).astype(int)]
        points = moved.reshape(count, -1, max(self.coordinates, 1))
        missing = ~points.any(axis=2, keepdims=True) if self.coordinates else np.zeros((count, 1, 1), bool)
        centre = points.mean(axis=(0, 1), where=~missing) if (~missing).any() else 0.0
        if self.coordinates == 0:
            centre = np.zeros(1)
        scale = 1 + rng.uniform(-self.settings.gain, self.settings.gain)
        shaken = (
            rng.normal(size=moved.shape).reshape(points.shape) * self.settings.noise * points.std(axis=0, keepdims=True)
        )
        altered = centre + (points - centre) * scale + shaken
        return np.asarray(np.where(missing, 0.0, altered).reshape(moved.shape), np.float32)
