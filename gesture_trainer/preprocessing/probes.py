"""Sequences that no label can be: a body that keeps still, jumps about, or drifts at random."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
from numpy.typing import NDArray

from shared.features.probes import Probe

_EACH = 4
_STILL = 0.1  # of the movement of most sequences: a label that moves less may be one of keeping still

_Frames = NDArray[np.floating]


def gesture_probes(sequences: Sequence[_Frames], classes: NDArray[np.int64], seed: int) -> list[Probe]:
    """Return probes as a model's inputs, `sequence` (T, D), made from sequences (T, D) of labels `classes` (n,).

    They are of the sequences' lengths and lie where their numbers do. The same arguments give the same probes.
    """
    random = np.random.default_rng([seed, 214])
    made = [*_moving(sequences, random)]
    movement = np.array([float(np.mean(np.std(sequence, axis=0))) for sequence in sequences])
    typical = [float(np.median(movement[classes == k])) for k in np.unique(classes)]
    if min(typical) > _STILL * max(typical):
        made += _still(sequences, random)
    return [Probe(kind, {"sequence": np.asarray(sequence, np.float32)}) for kind, sequence in made]


def _moving(sequences: Sequence[_Frames], random: np.random.Generator) -> Iterator[tuple[str, _Frames]]:
    frames = np.concatenate(sequences)
    low, high = np.quantile(frames, [0.05, 0.95], axis=0)
    spread = frames.std(axis=0)
    for _ in range(_EACH):
        length, width = len(sequences[int(random.integers(len(sequences)))]), frames.shape[1]
        yield "random points", random.uniform(low, high, (length, width))
        start = frames[int(random.integers(len(frames)))]
        noise = random.normal(size=(length, width)) * spread
        yield "jitter", start + random.uniform(0.2, 1.0) * noise
        yield "random walk", start + np.cumsum(noise, axis=0) * random.uniform(0.5, 1.5) / np.sqrt(length)


def _still(sequences: Sequence[_Frames], random: np.random.Generator) -> Iterator[tuple[str, _Frames]]:
    for _ in range(_EACH):
        sequence = sequences[int(random.integers(len(sequences)))]
        noise = random.normal(size=sequence.shape) * 0.01 * sequence.std(axis=0)  # as landmarks of a still body have
        yield "still", sequence[:1] + noise
