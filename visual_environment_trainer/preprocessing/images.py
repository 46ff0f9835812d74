"""Image files -> upright RGB images, or the reason why a file is refused."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from shared.data.media.containers import UnreadableMediaError as UnreadableImageError
from shared.data.media.pictures import read_picture
from shared.schema_utils import Box

__all__ = ["Pixels", "UnreadableImageError", "cut_out", "read_image"]

Pixels = NDArray[np.uint8]  # (height, width, 3) RGB


class BlankImageError(UnreadableImageError):
    """An image or video that can be read but is black or of one colour."""


def read_image(path: Path, side: int, box: Box | None = None) -> Pixels:
    """Return (height, width, 3) uint8 RGB: the upright image, or its region, no side shorter than needed for `side`.

    Raises UnreadableImageError for a file that is too large, damaged, cut off, animated, or no picture.
    """
    share = min(box.width, box.height) if box else 1.0
    return cut_out(read_picture(path, side, share), box)


def cut_out(pixels: Pixels, box: Box | None) -> Pixels:
    """Return the region of an upright image, all of it where `box` is None."""
    if box is None:
        return pixels
    height, width = pixels.shape[:2]
    left, top = int(box.x * width), int(box.y * height)
    right, bottom = round((box.x + box.width) * width), round((box.y + box.height) * height)
    return pixels[top : max(bottom, top + 1), left : max(right, left + 1)]
