"""Which images hold nothing to classify; checked before training and before prediction."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from visual_environment_trainer.preprocessing.images import BlankImageError

BLACK = 16  # of 255: no pixel of a covered lens is brighter, but for one in a hundred
UNIFORM = 4  # of 255: pixels of a blank image differ by no more, but for two in a hundred


def require_content(views: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Return the views (V, side, side, 3). Raises BlankImageError where they hold nothing to classify."""
    reason = invalid_reason(views)
    if reason is not None:
        raise BlankImageError(reason)
    return views


def invalid_reason(views: NDArray[np.uint8]) -> str | None:
    """Return why views (V, side, side, 3) RGB hold nothing to classify, or None where they do.

    They hold nothing where all are black, as from a covered lens, or of one colour.
    """
    low, high = np.percentile(views, [1, 99], axis=(1, 2))  # (V, 3) each
    if high.max() < BLACK:
        return "is black"
    return "is of one colour" if (high - low).max() < UNIFORM else None
