"""Numbers of one sample, as tables and JSON hold them -> (T, D) float32."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from numpy.typing import NDArray

from shared.data.formats.raw import ReadOptions

# Points of one hand, a pose, a face (without and with irises) and all of them, as MediaPipe gives them.
POINTS = frozenset([21, 33, 42, 468, 478, 543, 553])
_MISSING = frozenset(["", "nan", "na", "n/a", "null", "none", "-"])
_AXES = ("x", "y", "z")


class MissingNumbersError(ValueError):
    """Numbers that are empty or NaN; its text is the reason."""

    def __init__(self) -> None:
        super().__init__(
            "numbers are missing (empty or NaN); leave these samples out, or use --missing zero to read them as 0"
        )


def parse_number(cell: str, decimal_comma: bool) -> float:
    """Return the number in a cell, NaN where it is missing. Raises ValueError for anything else."""
    text = cell.strip().replace("\u2212", "-")  # a minus sign of its own, as spreadsheets show it
    if text.lower() in _MISSING:
        return math.nan
    if decimal_comma and text.count(",") == 1 and "." not in text:
        text = text.replace(",", ".")
    try:
        return float(text)
    except ValueError:
        raise ValueError(f"{text[:40]!a} is not a number") from None


def is_number(cell: str, decimal_comma: bool = True) -> bool:
    """Return whether a cell holds a number; an empty one does not."""
    try:
        return not math.isnan(parse_number(cell, decimal_comma))
    except ValueError:
        return False


def plain_points(value: Any) -> Any:
    """Return a JSON value with every point `{x, y, z, visibility}` as the list of its coordinates."""
    if isinstance(value, dict):
        axes = {str(key).lower(): number for key, number in value.items()}
        if "x" in axes and "y" in axes:
            return [axes[name] for name in _AXES if name in axes]
        inner = [axes[name] for name in ("landmark", "landmarks", "points", "keypoints") if name in axes]
        if len(inner) == 1:
            return plain_points(inner[0])
        raise ValueError("holds objects that are no points with x and y")
    return [plain_points(item) for item in value] if isinstance(value, list) else value


def frames(values: Any, options: ReadOptions) -> NDArray[np.float32]:
    """Return (T, D) float32 from numbers, frames, or frames of points; frames that are all missing at the end are cut.

    `options.frame_size` cuts a flat list into frames. 21 points of 2 or 3 numbers (a hand), 33 (a pose) and so on are
    one frame, unless a frame's size was given. Raises ValueError with the reason, MissingNumbersError among them.
    """
    try:
        array = np.asarray(values if isinstance(values, np.ndarray) else _without_none(plain_points(values)))
    except ValueError as error:
        if "inhomogeneous" not in str(error):
            raise
        raise ValueError("its frames do not all hold equally many numbers") from None
    if array.dtype.kind not in "fiu" or array.ndim not in (1, 2, 3, 4) or array.size == 0:
        raise ValueError("must hold numbers, or frames of equally many numbers")
    array = array.astype(np.float64)
    if np.isinf(array).any():
        raise ValueError("holds infinite values")
    size = options.frame_size
    if array.ndim == 1 and size is not None:
        if array.size % size:
            raise ValueError(f"{array.size} numbers cannot be split into frames of {size}")
        array = array.reshape(-1, size)
    elif array.ndim == 2 and size is None and is_one_frame(array.shape):
        array = array.reshape(1, -1)
    rows = 1 if array.ndim == 1 else array.shape[0]
    if array.ndim == 4 and array.shape[0] == 1:  # a batch of one
        rows = array.shape[1]
    array = array.reshape(rows, -1)
    return complete(array, options)


def is_one_frame(shape: tuple[int, ...]) -> bool:
    """Return whether (n, d) are n points of one frame, such as the 21 of a hand, rather than n frames."""
    return len(shape) == 2 and shape[0] in POINTS and shape[1] in (2, 3, 4)


def complete(array: NDArray[np.float64], options: ReadOptions) -> NDArray[np.float32]:
    """(T, D) -> (T', D) float32 without missing numbers: padding at the end is cut, the rest refused or set to 0."""
    present = ~np.isnan(array).all(axis=1)
    if len(array) > 1 and present.any():
        array = array[: int(np.flatnonzero(present)[-1]) + 1]
    if np.isnan(array).any():
        if options.missing == "refuse":
            raise MissingNumbersError
        array = np.nan_to_num(array, nan=0.0)
    return array.astype(np.float32)


def _without_none(value: Any) -> Any:
    if isinstance(value, list):
        return [_without_none(item) for item in value]
    return math.nan if value is None else value
