"""Picture files -> upright RGB images, or the reason why a file is refused."""

from __future__ import annotations

import io
import os
from contextlib import suppress
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

os.environ.setdefault("OPENCV_IO_MAX_IMAGE_PIXELS", str(50_000_000))  # read once, when cv2 is imported

import av
import av.error
import cv2
from PIL import Image, ImageOps, UnidentifiedImageError

from shared.data.files import RefusedFileError, read_bounded
from shared.data.media.containers import UnreadableMediaError

MAX_PIXELS = 50_000_000
MAX_BYTES = 50_000_000
PICTURE_SUFFIXES = (
    *(".jpg", ".jpeg", ".mpo", ".png", ".webp", ".bmp", ".tif", ".tiff", ".gif", ".heic", ".heif", ".avif"),
)
_KINDS = ("JPEG", "MPO", "PNG", "WEBP", "BMP", "TIFF", "GIF", "HEIF", "AVIF")  # Pillow's names
_BY_OPENCV = frozenset(["JPEG", "MPO", "PNG"])  # of an MPO, which holds several JPEGs, it reads the first
_PNG_END = b"IEND\xae\x42\x60\x82"
_SMALLEST_SIDE = 16  # pixels: less is an icon or a counter of page views
_TAIL = 4096  # bytes searched for it; some programs write a little behind it
_SPARE = 1.5  # a picture is decoded at 1/2, 1/4 or 1/8 of its size as long as it stays this much larger than needed

Pixels = NDArray[np.uint8]  # (height, width, 3) RGB


def read_picture(path: Path, side: int | None = None, share: float = 1.0) -> Pixels:
    """Return (height, width, 3) uint8 RGB of a picture, upright, whatever its file is called.

    With `side` a large JPEG is decoded smaller, but so that its shorter side times `share` has at least `side` pixels.
    Raises UnreadableMediaError for a file that is too large, damaged, cut off, animated, or no picture.
    """
    try:
        data = read_bounded(path, MAX_BYTES)
    except RefusedFileError as refused:
        raise UnreadableMediaError(str(refused)) from None
    kind, width, height = _header(data)
    if kind not in _BY_OPENCV:
        return _by_pillow(data)
    scale = 1
    if side is not None:
        scale = next((s for s in (8, 4, 2) if min(width, height) * share / s >= _SPARE * side), 1)
    _refuse_damaged(data, kind)
    flag = cv2.IMREAD_COLOR if scale == 1 else getattr(cv2, f"IMREAD_REDUCED_COLOR_{scale}")
    try:
        decoded = cv2.imdecode(np.frombuffer(data, np.uint8), flag)
    except cv2.error:
        decoded = None
    if decoded is None:
        raise UnreadableMediaError("cannot be decoded; record or export the picture again")
    return np.asarray(cv2.cvtColor(decoded, cv2.COLOR_BGR2RGB), np.uint8)


def _header(data: bytes) -> tuple[str, int, int]:
    """Return Pillow's name of the format, width and height in pixels; refuse what should not be decoded."""
    _with_heif()
    try:
        with Image.open(io.BytesIO(data)) as image:
            kind, (width, height), frames = str(image.format), image.size, getattr(image, "n_frames", 1)
    except (UnidentifiedImageError, OSError, ValueError, SyntaxError, Image.DecompressionBombError):
        raise UnreadableMediaError("is not a picture (JPEG, PNG, HEIC, WebP, BMP, TIFF, GIF)") from None
    if kind not in _KINDS:
        raise UnreadableMediaError(f"is a {kind} file; use JPEG or PNG")
    if width * height > MAX_PIXELS:
        megapixels = width * height / 1e6
        raise UnreadableMediaError(f"has {megapixels:.0f} megapixels; at most {MAX_PIXELS // 10**6} are read")
    if min(width, height) < _SMALLEST_SIDE:
        raise UnreadableMediaError(f"has {width} x {height} pixels; at least {_SMALLEST_SIDE} each way are needed")
    if frames > 1 and kind not in ("MPO", "HEIF", "AVIF"):  # whose further pictures are other views of the first
        raise UnreadableMediaError(f"holds {frames} pictures; export one of them, or a video")
    return kind, width, height


def _refuse_damaged(data: bytes, kind: str) -> None:
    """Refuse a JPEG or PNG whose data are not whole; decoders fill what is missing with grey and say nothing."""
    if kind == "PNG":
        if _PNG_END not in data[-_TAIL:]:
            raise UnreadableMediaError("is cut off: its end is missing")
        if data[24] == 16:  # bits of a sample
            _refuse_dark(cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_UNCHANGED))
        return
    decoder = av.CodecContext.create("mjpeg", "r")
    decoder.options = {"err_detect": "explode"}
    try:
        decoder.decode(av.Packet(data))
        decoder.decode(None)
    except av.error.InvalidDataError:
        raise UnreadableMediaError(
            "is cut off or damaged: a part of the picture is missing; bring it here again"
        ) from None
    except av.error.FFmpegError:
        return  # a kind of JPEG that this decoder does not know


def _refuse_dark(samples: Any) -> None:
    """Refuse 16-bit samples that hold 8-bit values: they would be read as black."""
    if samples is not None and samples.dtype == np.uint16 and samples.max(initial=0) <= 255:
        raise UnreadableMediaError("holds 8-bit values in 16-bit samples, which look black; export it with 8 bits")


def _by_pillow(data: bytes) -> Pixels:
    try:
        with Image.open(io.BytesIO(data)) as image:
            if image.mode.startswith("I;16"):
                samples = np.asarray(image)
                _refuse_dark(samples.astype(np.uint16))
                return np.repeat((samples >> 8).astype(np.uint8)[..., np.newaxis], 3, axis=2)
            return np.asarray(ImageOps.exif_transpose(image).convert("RGB"), np.uint8)
    except (OSError, ValueError, SyntaxError, EOFError, Image.DecompressionBombError):
        raise UnreadableMediaError("is cut off or damaged; bring it here again") from None


@cache
def _with_heif() -> None:
    """Let Pillow read HEIC and HEIF, where the package for it is installed."""
    with suppress(ImportError):
        import pillow_heif

        pillow_heif.register_heif_opener()
