"""Labelled samples in memory: vectors and sequences around what is each label's own."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

LABELS = ("yes", "no", "more")
WIDTH = 24


def sample(label: str, number: int, frames: int | None) -> np.ndarray:
    """(WIDTH,) or (frames, WIDTH) float32."""
    centre = np.random.default_rng(LABELS.index(label)).normal(size=WIDTH)
    noise = np.random.default_rng([number, LABELS.index(label), 9]).normal(size=(frames or 1, WIDTH))
    sequence = (centre + 0.3 * noise).astype(np.float32)
    return sequence if frames else sequence[0]


@dataclass(frozen=True)
class Labelled:
    """Samples with the label and the session of each."""

    samples: list[Any]
    labels: list[str]
    sessions: list[str]

    @property
    def columns(self) -> dict[str, Any]:
        """The arguments of `train` that these are."""
        return {"samples": self.samples, "labels": self.labels, "sessions": self.sessions}


def labelled(frames: int | None, sessions: int = 3, each: int = 4) -> Labelled:
    """Return `each` samples of each label in each session."""
    rows = [(label, day, k) for day in range(sessions) for label in LABELS for k in range(each)]
    return Labelled(
        [sample(label, 100 * day + k, frames) for label, day, k in rows],
        [label for label, _, _ in rows],
        [f"day{day}" for _, day, _ in rows],
    )
