"""Long recordings, cut into windows: background in training, anything when a model is evaluated."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from shared.data_loader import Dataset
from shared.errors import DataError, Fault
from shared.features.arrays import Inputs
from shared.features.encoders import Encoder
from shared.recipe import Cutting, Window
from sound_trainer.preprocessing.decode import Decoding, SilentSoundError, UnreadableSoundError, read_wave
from sound_trainer.preprocessing.recordings import Recordings
from sound_trainer.preprocessing.spectral import RATE
from sound_trainer.preprocessing.validity import invalid_reason

_LONGEST = 3600.0  # seconds of a long recording
_LARGEST = 2 * _LONGEST * 48_000 * 4  # bytes: two channels of 32 bits
_TYPICAL = 1.5  # seconds, where a model of an earlier version does not say how long its sounds are


def background_pieces(dataset: Dataset, decoding: Decoding, recordings: Recordings) -> list[list[Inputs]]:
    """Return the pieces, `wave` (N,) each, of every background recording that is not silent.

    Raises DataError naming every recording that cannot be read.
    """
    size = round(min(typical_seconds(recordings), decoding.window_seconds) * RATE)
    pieces: list[list[Inputs]] = []
    faults: list[Fault] = []
    for sample in dataset.background:
        if sample.path is None:
            faults.append(sample.media_fault("is no sound file; sound samples need one"))
            continue
        try:
            wave, _ = read_wave(sample.path, _long(decoding), sample.example.onset, sample.example.offset)
        except SilentSoundError:
            continue  # refused before any model runs
        except UnreadableSoundError as error:
            faults.append(sample.media_fault(str(error)))
            continue
        cut = [wave[start : start + size] for start in range(0, max(len(wave) - size, 0) + 1, size)]
        pieces.append([{"wave": piece} for piece in cut if invalid_reason(piece) is None])
    if faults:
        raise DataError(faults)
    return [own for own in pieces if own]


def piece_seconds(piece: Inputs) -> float:
    """Return how long a piece, `wave` (N,), lasts."""
    return float(np.asarray(piece["wave"]).size / RATE)


def typical_seconds(recordings: Recordings) -> float:
    """Return the median length of the person's sounds."""
    return float(np.median([quality.seconds for quality in recordings.quality]))


def _long(decoding: Decoding) -> Decoding:
    return decoding.model_copy(
        update={"longest_seconds": _LONGEST, "window_seconds": _LONGEST, "largest_bytes": int(_LARGEST)}
    )


def sound_windows(
    path: Path, spec: Mapping[str, Any], encoders: Mapping[str, Encoder], cutting: Cutting
) -> Iterator[Window]:
    """Yield windows as long as a typical sound of the person, half a window apart, of a recording of up to an hour.

    Raises DataError for a file that cannot be used.
    """
    decoding = Decoding.model_validate(spec["decode"]["decoding"])
    seconds = cutting.window or min(spec["decode"].get("typical_seconds", _TYPICAL), decoding.window_seconds)
    try:
        wave, _ = read_wave(path, _long(decoding))
    except UnreadableSoundError as error:
        raise DataError([Fault(str(path), None, "media", str(error))]) from None
    size = max(round(seconds * RATE), 1)
    stride = max(round((cutting.stride or seconds / 2) * RATE), 1)
    for start in range(0, max(len(wave) - size, 0) + 1, stride):
        piece = wave[start : start + size]
        inputs = {"wave": piece} if invalid_reason(piece) is None else None
        yield Window(start / RATE, (start + len(piece)) / RATE, inputs)
