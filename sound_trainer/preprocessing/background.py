"""Background recordings, cut into pieces as long as the person's sounds."""

from __future__ import annotations

import numpy as np

from shared.data_loader import Dataset
from shared.errors import DataError, Fault
from shared.features.arrays import Inputs
from sound_trainer.preprocessing.decode import Decoding, Recordings, SilentSoundError, UnreadableSoundError, read_wave
from sound_trainer.preprocessing.spectral import RATE
from sound_trainer.preprocessing.validity import invalid_reason

_LONGEST = 3600.0  # seconds of a background recording


def background_pieces(dataset: Dataset, decoding: Decoding, recordings: Recordings) -> list[list[Inputs]]:
    """Return the pieces, `wave` (N,) each, of every background recording that is not silent.

    Raises DataError naming every recording that cannot be read.
    """
    long = decoding.model_copy(update={"longest_seconds": _LONGEST, "window_seconds": _LONGEST})
    typical = float(np.median([quality.seconds for quality in recordings.quality]))
    size = round(min(typical, decoding.window_seconds) * RATE)
    pieces: list[list[Inputs]] = []
    faults: list[Fault] = []
    for sample in dataset.background:
        if sample.path is None:
            faults.append(sample.media_fault("is no sound file; sound samples need one"))
            continue
        try:
            wave, _ = read_wave(sample.path, long, sample.example.onset, sample.example.offset)
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
