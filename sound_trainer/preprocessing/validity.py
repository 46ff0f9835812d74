"""Which sounds hold nothing to classify; checked before training and before prediction."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

SILENT_DB = -75.0  # of the peak, without a constant offset, relative to full scale


def invalid_reason(mono: NDArray[np.float32]) -> str | None:
    """Return why a sound, mixed down to (N,) float32 of full scale 1, holds nothing to classify, or None where it does.

    A constant offset is no sound.
    """
    peak = float(np.max(np.abs(mono - np.mean(mono, dtype=np.float64))))
    level = 20 * np.log10(max(peak, 1e-6))
    return f"is silent: its peak is {level:.0f} dB" if level < SILENT_DB else None
