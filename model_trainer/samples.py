"""Samples as a program has them, arrays, paths and texts -> what an import writes and what a model reads."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
from numpy.typing import ArrayLike, NDArray

from model_registry.storage.durable import temporary_folder
from shared.data.feature_files import (
    FEATURE_SUFFIXES,
    SIZE_LIMIT,
    FeatureFileError,
    as_frames,
    features_bytes,
    parse_features,
)
from shared.data.files import RefusedFileError, read_bounded
from shared.data.formats.raw import Content
from shared.data.formats.text_files import read_text
from shared.errors import DataError, Fault
from shared.trainers import Trainer

Sample = str | os.PathLike[str] | ArrayLike


def place_of(sample: Sample, name: str, trainer: Trainer) -> str:
    """Return how messages call a sample: `samples[3]`, or `samples[3] (hum.wav)` where it is a file."""
    path = _file_of(sample, trainer)
    return name if path is None else f"{name} ({path})"


def _file_of(sample: Sample, trainer: Trainer) -> Path | None:
    if isinstance(sample, os.PathLike) or (isinstance(sample, str) and "text" not in trainer.accepts):
        return Path(sample)
    return None


def content_of(sample: Sample, place: str, trainer: Trainer) -> Content:
    """Return a sample as an import takes it: a media file, a text, or (T, D) float32.

    A `str` is a text where the modality takes texts, and the path of a file where it does not. Raises DataError, naming
    `place`, for numbers that are none and for a file that cannot be read.
    """
    path = _file_of(sample, trainer)
    if path is None:
        return _text_of(sample, place) if isinstance(sample, str) else frames_of(sample, place)
    try:
        if path.suffix.lower() in FEATURE_SUFFIXES:
            return parse_features(read_bounded(path, SIZE_LIMIT), path.suffix.lower().lstrip("."))
        if "text" in trainer.accepts:
            return read_text(path).text
    except (FeatureFileError, RefusedFileError) as refused:
        raise DataError([Fault(place, None, "(file)", str(refused))]) from None
    return path


def _text_of(sample: str, place: str) -> str:
    """Return a text as it is. Raises DataError for one that UTF-8 cannot hold."""
    try:
        sample.encode()
    except UnicodeEncodeError:
        raise DataError([Fault(place, None, "transcript", "holds half a character")]) from None
    return str(sample)


def frames_of(sample: Sample, place: str) -> NDArray[np.float32]:
    """Return (T, D) float32 of a vector (D,), of frames (T, D), or of frames of points (T, points, axes).

    Raises DataError, naming `place`, for any other shape, for what is no numbers, and for NaN or infinite values.
    """
    try:
        array = np.asarray(sample)
    except ValueError:
        array = np.asarray(None)
    if array.dtype.kind not in "fiu":
        reason = f"must be numbers, a text or a path, not {type(sample).__name__}"
        raise DataError([Fault(place, None, "features", reason)])
    try:
        return as_frames(array.astype(np.float64))
    except FeatureFileError as refused:
        raise DataError([Fault(place, None, "features", str(refused))]) from None


@contextmanager
def as_file(sample: Sample, place: str, trainer: Trainer) -> Iterator[Path]:
    """Yield a file with the sample, for a model to read: its own file, or a private one that is gone afterwards.

    Raises DataError as `content_of` does.
    """
    path = _file_of(sample, trainer)
    if path is not None:
        yield path
        return
    with temporary_folder() as folder:
        if isinstance(sample, str):
            path = folder / "sample.txt"
            path.write_text(_text_of(sample, place), encoding="utf-8")
        else:
            path = folder / "sample.npz"
            path.write_bytes(features_bytes(frames_of(sample, place)))
        yield path
