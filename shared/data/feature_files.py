"""Feature files: npz with one array `features`, npy, or a JSON list of frames; parsed as hostile."""

from __future__ import annotations

import io
import zipfile
from functools import lru_cache

import numpy as np
from numpy.lib import format as npy
from numpy.typing import NDArray

from model_registry.messages import list_names, printable
from shared.data.files import parse_json

SIZE_LIMIT = 64 * 1024**2  # bytes, of the file and of what it unpacks to
RATIO_LIMIT = 200  # unpacked to packed, for what unpacks to more than a megabyte
FEATURE_SUFFIXES = frozenset([".npz", ".npy"])
_MEMBER = "features.npy"
_UNNAMED = "arr_0.npy"


class FeatureFileError(ValueError):
    """A feature file that cannot be used. Its text is the reason."""


def parse_features(content: bytes, file_format: str) -> NDArray[np.float32]:
    """Return (T, D) float32 from the bytes of a feature file; one vector becomes (1, D).

    Raises FeatureFileError where the file is damaged, too large, packed to unpack without end, holds no real
    numbers, no frame, or a NaN or infinite value. Nothing is unpickled.
    """
    return as_frames(read_array(content, file_format))


def as_frames(array: NDArray[np.floating]) -> NDArray[np.float32]:
    """Return (T, D) float32, read-only, of a vector (D,), of frames (T, D), or of frames of points (T, points, axes).

    Raises FeatureFileError for any other shape, and for a NaN or infinite value.
    """
    if array.ndim == 1:
        array = array.reshape(1, -1)
    if array.ndim == 3:  # frames of points of coordinates
        array = array.reshape(array.shape[0], -1)
    if array.ndim != 2 or 0 in array.shape:
        raise FeatureFileError(f"must be frames of numbers, (T, D), but its shape is {array.shape}")
    with np.errstate(over="ignore"):
        features = np.ascontiguousarray(array, dtype=np.float32)
    if not np.isfinite(features).all():
        bad = np.flatnonzero(~np.isfinite(features).all(axis=1))
        raise FeatureFileError(f"holds NaN or infinite values in {len(bad)} of {len(features)} frames, first {bad[0]}")
    features.setflags(write=False)
    return features


def read_array(content: bytes, file_format: str) -> NDArray[np.floating]:
    """Return the array in the bytes of a feature file (`npz`, `npy` or `json`), of any shape; it may hold NaN.

    Raises FeatureFileError.
    """
    if file_format == "json":
        return _from_json(content)
    return _array(content) if file_format == "npy" else _from_npz(content)


def features_bytes(features: NDArray[np.float32]) -> bytes:
    """Return the npz file of a (T, D) float32 array; the same array gives the same bytes."""
    buffer = io.BytesIO()
    np.savez(buffer, features=np.ascontiguousarray(features, dtype=np.float32))
    return buffer.getvalue()


def _from_json(content: bytes) -> NDArray[np.float64]:
    try:
        frames = parse_json(content)
    except ValueError as error:
        raise FeatureFileError(f"is not readable JSON: {error}") from None
    try:
        array = np.asarray(frames)
    except ValueError:
        raise FeatureFileError("its frames do not all hold the same number of values") from None
    if array.dtype.kind not in "fiu" or not isinstance(frames, list):
        raise FeatureFileError("must be a list of frames, each a list of numbers")
    return array.astype(np.float64)


def _from_npz(content: bytes) -> NDArray[np.floating]:
    try:
        with zipfile.ZipFile(io.BytesIO(content)) as archive:
            member = _member(archive)
            if member.file_size > SIZE_LIMIT:
                raise FeatureFileError(f"unpacks to more than {SIZE_LIMIT // 1024**2} MiB")
            if member.file_size > 1024**2 and member.file_size > RATIO_LIMIT * member.compress_size:
                raise FeatureFileError(f"unpacks to more than {RATIO_LIMIT} times its size")
            raw = archive.read(member)  # reads no more than the size that was just checked
    except FeatureFileError:
        raise
    except Exception:  # hostile archives raise zlib.error, struct.error and others beside BadZipFile
        raise FeatureFileError("is not a readable npz file; save it again") from None
    return _array(raw)


def _member(archive: zipfile.ZipFile) -> zipfile.ZipInfo:
    """Return the array `features` of an archive, or `arr_0`, as numpy calls one without a name, where it is alone."""
    arrays = {member.filename: member for member in archive.infolist()}
    if _MEMBER in arrays:
        return arrays[_MEMBER]
    if arrays.keys() == {_UNNAMED}:
        return arrays[_UNNAMED]
    held = list_names([printable(name.removesuffix(".npy")) for name in arrays], 4)
    raise FeatureFileError(
        f"holds no array named 'features', but {held or 'none'}; a feature file is one sample: write a file for each, "
        "in a folder of its label"
    )


def _array(raw: bytes) -> NDArray[np.floating]:
    """Return the array in the bytes of an npy file; raises FeatureFileError."""
    start = (
        10 + int.from_bytes(raw[8:10], "little") if raw[6:7] == b"\x01" else 12 + int.from_bytes(raw[8:12], "little")
    )
    shape, fortran, dtype = _header(raw[:start])
    count = int(np.prod(shape, dtype=object))
    if count * dtype.itemsize != len(raw) - start:
        raise FeatureFileError("is shorter or longer than its shape says")
    return np.frombuffer(raw, dtype=dtype, offset=start).reshape(shape, order="F" if fortran else "C")


@lru_cache(maxsize=512)
def _header(header: bytes) -> tuple[tuple[int, ...], bool, np.dtype[np.floating]]:
    """Return (shape, Fortran order, dtype) of an array file's header. Sessions repeat a few headers many times."""
    try:
        stream = io.BytesIO(header)
        read = npy.read_array_header_1_0 if npy.read_magic(stream) == (1, 0) else npy.read_array_header_2_0
        shape, fortran, dtype = read(stream)
    except (ValueError, SyntaxError, RecursionError, MemoryError):
        raise FeatureFileError("is not a readable array; save it again with numpy") from None
    if any(type(side) is not int or side < 0 for side in shape):
        raise FeatureFileError(f"is not a readable array: its shape is {shape}")
    if dtype.kind != "f" or dtype.itemsize > 8:
        raise FeatureFileError(f"must hold float32 numbers, not {dtype}")
    return shape, fortran, dtype
