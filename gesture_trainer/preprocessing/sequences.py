"""Feature files -> sequences: what a gesture sample is before any feature is computed."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from gesture_trainer.preprocessing.layouts import Layout, layout_of
from shared.data_files import RefusedFileError, read_bounded
from shared.data_loader import Dataset, load_features
from shared.encoders import Encoder
from shared.errors import DataError, Fault
from shared.feature_files import SIZE_LIMIT, FeatureFileError, parse_features


@dataclass(frozen=True)
class Sequences:
    """A user's sequences, each (T, D) float32 of its own length T, and what their D numbers are."""

    sequences: tuple[NDArray[np.float32], ...]
    encoding: str
    width: int
    layout: Layout


def landmark_sequences(dataset: Dataset) -> Sequences:
    """Return the (T, D) float32 sequences of a data set, which are of one encoding.

    Raises DataError naming every sample that refers to no feature file.
    """
    faults = [
        Fault(
            *_place(s.origin), "features", "gesture samples need a feature file; make one with `model-trainer extract`"
        )
        for s in dataset.samples
        if s.example.features is None
    ]
    if faults:
        raise DataError(faults)
    sequences = tuple(load_features(sample) for sample in dataset.samples)
    reference = dataset.samples[0].example.features
    encoding = reference.encoding if reference else ""
    width = sequences[0].shape[1]
    return Sequences(sequences, encoding, width, layout_of(encoding, width))


def decode(path: Path, spec: Mapping[str, Any], encoders: Mapping[str, Encoder]) -> dict[str, NDArray[np.float32]]:
    """Return a feature file as the model's input `sequence` (T, D) float32.

    Raises DataError for a file that cannot be used, or whose D is not the model's.
    """
    try:
        sequence = parse_features(read_bounded(path, SIZE_LIMIT), "json" if path.suffix == ".json" else "npz")
    except (FeatureFileError, RefusedFileError) as refused:
        raise DataError([Fault(str(path), None, "features", str(refused))]) from None
    if sequence.shape[1] != spec["width"]:
        reason = f"{sequence.shape[1]} numbers a frame, but the model takes {spec['width']}"
        raise DataError([Fault(str(path), None, "features", reason)])
    return {"sequence": sequence}


def _place(origin: str) -> tuple[str, int | None]:
    path, _, line = origin.rpartition(":")
    return (path, int(line)) if path and line.isdigit() else (origin, None)
