"""Image files -> upright RGB images, or the reason why a file is refused."""

from __future__ import annotations

import io
import os
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

os.environ.setdefault("OPENCV_IO_MAX_IMAGE_PIXELS", str(50_000_000))  # read once, when cv2 is imported

import cv2
from PIL import Image, UnidentifiedImageError

from shared.data.files import RefusedFileError, read_bounded
from shared.schema_utils import Box

MAX_PIXELS = 50_000_000
MAX_BYTES = 50_000_000
IMAGE_SUFFIXES = {"JPEG": (".jpg", ".jpeg"), "PNG": (".png",)}
_LAST_BYTES = {"JPEG": b"\xff\xd9", "PNG": b"IEND\xae\x42\x60\x82"}
_TAIL = 4096  # bytes searched for the end mark; some cameras write a little behind it
_SPARE = 1.5  # a JPEG is decoded at 1/2, 1/4 or 1/8 of its size as long as it stays this much larger than the views

Pixels = NDArray[np.uint8]  # (height, width, 3) RGB


class UnreadableImageError(ValueError):
    """An image or video that may not be used; its text is the reason."""


class BlankImageError(UnreadableImageError):
    """An image or video that can be read but is black or of one colour."""


def read_image(path: Path, side: int, box: Box | None = None) -> Pixels:
    """Return (height, width, 3) uint8 RGB: the upright image, or its region, no side shorter than needed for `side`.

    Raises UnreadableImageError for a file that is too large, damaged, cut off, or not what its name says.
    """
    try:
        data = read_bounded(path, MAX_BYTES)
    except RefusedFileError as refused:
        raise UnreadableImageError(str(refused)) from None
    width, height = _header(data, path.suffix.lower())
    shortest = min(width, height) * (min(box.width, box.height) if box else 1.0)
    scale = next((s for s in (8, 4, 2) if shortest / s >= _SPARE * side), 1)
    flag = cv2.IMREAD_COLOR if scale == 1 else getattr(cv2, f"IMREAD_REDUCED_COLOR_{scale}")
    try:
        decoded = cv2.imdecode(np.frombuffer(data, np.uint8), flag)
    except cv2.error:
        decoded = None
    if decoded is None:
        raise UnreadableImageError("cannot be decoded; record or export the picture again")
    return rgb(decoded, box)


def rgb(decoded: NDArray[Any], box: Box | None) -> Pixels:
    """Return the region (all where `box` is None) of a BGR image of OpenCV as RGB."""
    height, width = decoded.shape[:2]
    if box is not None:
        left, top = int(box.x * width), int(box.y * height)
        right, bottom = round((box.x + box.width) * width), round((box.y + box.height) * height)
        decoded = decoded[top : max(bottom, top + 1), left : max(right, left + 1)]
    return np.asarray(cv2.cvtColor(decoded, cv2.COLOR_BGR2RGB), np.uint8)


def _header(data: bytes, suffix: str) -> tuple[int, int]:
    """Return width and height in pixels from the header; refuse what should not be decoded."""
    try:
        with Image.open(io.BytesIO(data)) as image:
            kind, (width, height) = str(image.format), image.size
    except (UnidentifiedImageError, OSError, ValueError, SyntaxError, Image.DecompressionBombError):
        raise UnreadableImageError("is not a JPEG or PNG image") from None
    if kind not in IMAGE_SUFFIXES:
        raise UnreadableImageError(f"is a {kind} image; use JPEG or PNG")
    if suffix not in IMAGE_SUFFIXES[kind]:
        raise UnreadableImageError(f"is named {suffix or 'without suffix'} but holds a {kind} image")
    refuse_too_large(width, height)
    if _LAST_BYTES[kind] not in data[-_TAIL:]:
        raise UnreadableImageError("is cut off: its end is missing")
    return width, height


def refuse_too_large(width: int, height: int) -> None:
    """Raise UnreadableImageError for more pixels than are decoded."""
    if width * height > MAX_PIXELS:
        megapixels = width * height / 1e6
        raise UnreadableImageError(f"has {megapixels:.0f} megapixels; at most {MAX_PIXELS // 10**6} are read")
