"""Image files -> upright RGB views of the size that an encoder takes."""

from __future__ import annotations

import io
import os
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

os.environ.setdefault("OPENCV_IO_MAX_IMAGE_PIXELS", str(50_000_000))  # read once, when cv2 is imported

import cv2
from PIL import Image, UnidentifiedImageError

from shared.data_files import RefusedFileError, read_bounded
from shared.data_loader import Dataset, Sample
from shared.errors import DataError, Fault
from shared.schema_utils import Box

MOST_PIXELS = 50_000_000
MOST_BYTES = 50_000_000
VIEWS = ("squashed", "centre", "mirrored")
_ENDINGS = {"JPEG": (".jpg", ".jpeg"), "PNG": (".png",)}
_LAST_BYTES = {"JPEG": b"\xff\xd9", "PNG": b"IEND\xae\x42\x60\x82"}
_TAIL = 4096  # bytes searched for the end mark; some cameras write a little behind it

Views = NDArray[np.uint8]  # (views, side, side, 3) RGB


class UnreadableImageError(ValueError):
    """An image that may not be used; its text is the reason."""


def read_views(path: Path, side: int, box: Box | None = None) -> Views:
    """Return (3, side, side, 3) uint8 RGB: the region squashed to a square, its centre square, and its mirror image.

    Raises UnreadableImageError for a file that is too large, damaged, cut off, or not what its name says.
    """
    try:
        data = read_bounded(path, MOST_BYTES)
    except RefusedFileError as refused:
        raise UnreadableImageError(str(refused)) from None
    width, height = _header(data, path.suffix.lower())
    scale = next((s for s in (8, 4, 2) if min(width, height) / s >= 2 * side), 1)
    flag = cv2.IMREAD_COLOR if box or scale == 1 else getattr(cv2, f"IMREAD_REDUCED_COLOR_{scale}")
    try:
        decoded = cv2.imdecode(np.frombuffer(data, np.uint8), flag)
    except cv2.error:
        decoded = None
    if decoded is None:
        raise UnreadableImageError("cannot be decoded; record or export the picture again")
    image = cv2.cvtColor(decoded if box is None else _region(decoded, box), cv2.COLOR_BGR2RGB)
    height, width = image.shape[:2]
    short = min(height, width)
    top, left = (height - short) // 2, (width - short) // 2
    squashed = _resized(image, side)
    centre = _resized(image[top : top + short, left : left + short], side)
    return np.stack([squashed, centre, squashed[:, ::-1]])


def decode_all(dataset: Dataset, wanted: Sequence[int], side: int) -> dict[int, Views]:
    """Return the views of the samples `wanted`, decoded on two threads.

    Raises DataError; once one image cannot be used all of the data set are tried, so that every one is named.
    """

    def one(index: int) -> Views | Fault:
        sample = dataset.samples[index]
        if sample.path is None or sample.example.media is None:
            return _fault(sample, "is no image; visual samples need one")
        try:
            return read_views(sample.path, side, sample.example.box)
        except UnreadableImageError as error:
            return _fault(sample, str(error))

    with ThreadPoolExecutor(2) as pool:
        decoded = dict(zip(wanted, pool.map(one, wanted), strict=True))
        if any(isinstance(views, Fault) for views in decoded.values()):
            raise DataError([found for found in pool.map(one, range(len(dataset))) if isinstance(found, Fault)])
    return {index: views for index, views in decoded.items() if not isinstance(views, Fault)}


def _header(data: bytes, suffix: str) -> tuple[int, int]:
    """Return width and height in pixels as the header tells, having refused what should not be decoded."""
    try:
        with Image.open(io.BytesIO(data)) as image:
            kind, (width, height) = str(image.format), image.size
    except (UnidentifiedImageError, OSError, ValueError, SyntaxError, Image.DecompressionBombError):
        raise UnreadableImageError("is no JPEG or PNG image") from None
    if kind not in _ENDINGS:
        raise UnreadableImageError(f"is a {kind} image; use JPEG or PNG")
    if suffix not in _ENDINGS[kind]:
        raise UnreadableImageError(f"is named {suffix or 'without ending'} but holds a {kind} image")
    if width * height > MOST_PIXELS:
        megapixels = width * height / 1e6
        raise UnreadableImageError(f"has {megapixels:.0f} megapixels; at most {MOST_PIXELS // 10**6} are read")
    if _LAST_BYTES[kind] not in data[-_TAIL:]:
        raise UnreadableImageError("is cut off: its end is missing")
    return width, height


def _region(image: NDArray[Any], box: Box) -> NDArray[Any]:
    height, width = image.shape[:2]
    left, top = int(box.x * width), int(box.y * height)
    right, bottom = round((box.x + box.width) * width), round((box.y + box.height) * height)
    return image[top : max(bottom, top + 1), left : max(right, left + 1)]


def _resized(image: NDArray[Any], side: int) -> NDArray[Any]:
    shrinking = min(image.shape[:2]) > side
    return cv2.resize(image, (side, side), interpolation=cv2.INTER_AREA if shrinking else cv2.INTER_LINEAR)


def _fault(sample: Sample, reason: str) -> Fault:
    path, _, line = sample.origin.rpartition(":")
    name = sample.path.name if sample.path else ""
    return Fault(path, int(line) if line.isdigit() else None, "media", f"{name} {reason}")
