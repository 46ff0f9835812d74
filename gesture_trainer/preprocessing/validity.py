"""Which sequences hold nothing to classify; checked before training and before prediction."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from gesture_trainer.preprocessing.extraction import NO_LANDMARK, without_landmark
from gesture_trainer.preprocessing.layouts import Layout


def invalid_reason(sequence: NDArray[np.float32], layout: Layout, least_frames: int = 1) -> str | None:
    """Return why a sequence (T, D) holds nothing to classify, or None where it does.

    Landmarks of a hand or body are zero where none was found. The points of a path and other channels may be zero.
    """
    if layout not in ("path_xy", "channels") and without_landmark(sequence).all():
        return NO_LANDMARK
    if len(sequence) < least_frames:
        return f"{len(sequence)} frames; at least {least_frames} are needed"
    return None
