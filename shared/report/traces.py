"""Small pictures of sequences of numbers as inline SVG: paths of points where they are positions, curves otherwise."""

from __future__ import annotations

import re
from html import escape

import numpy as np
from numpy.typing import NDArray

_WIDTH, _HEIGHT = 160.0, 120.0
_FRAMES = 24  # that are drawn of a sequence
_PATHS = 12  # points whose path is drawn: those that move most
_DOTS = 120  # points that are drawn where they end
_CURVES = 6  # numbers whose curve is drawn: those that vary most
_COORDINATES = re.compile(r"(?:^|_)(xyz?)(?:_|$)")  # in an encoding's name


def trace(features: NDArray[np.float32], encoding: str, title: str) -> str:
    """Return an SVG of (T, D) float32; D are positions (x, y) or (x, y, z) where the name of the encoding says so.

    Of positions y points down, as in images, and a point at the origin is missing.
    """
    count = len(features)
    frames = features[np.unique(np.linspace(0, count - 1, min(count, _FRAMES)).round().astype(int))].astype(np.float64)
    match = _COORDINATES.search(encoding)
    coordinates = len(match.group(1)) if match else 0
    if coordinates and frames.shape[1] % coordinates == 0:
        shape = _paths(frames.reshape(len(frames), -1, coordinates)[..., :2])
    else:
        shape = _curves(frames if len(frames) > 1 else frames.T)
    name = escape(f"{title}: {count} frame{'s' * (count != 1)} of {features.shape[1]} numbers")
    return f'<svg class="trace" role="img" viewBox="0 0 {_WIDTH:.0f} {_HEIGHT:.0f}" aria-label="{name}">{shape}</svg>'


def _paths(points: NDArray[np.float64]) -> str:
    """(T, P, 2) -> the paths of the points that move most, and a dot where each point is last visible."""
    visible = np.abs(points).sum(axis=2) > 0
    if not visible.any():
        return ""
    low, high = points[visible].min(axis=0), points[visible].max(axis=0)
    scale = min((_WIDTH - 8) / max(high[0] - low[0], 1e-9), (_HEIGHT - 8) / max(high[1] - low[1], 1e-9))
    margin = (np.array([_WIDTH, _HEIGHT]) - scale * (high - low)) / 2
    placed = (points - low) * scale + margin
    spread = [float(np.ptp(placed[seen, k], axis=0).sum()) if seen.any() else 0.0 for k, seen in enumerate(visible.T)]
    moving = [k for k in np.argsort(spread)[::-1][:_PATHS] if spread[k] > 1]
    lines = [_line(placed[visible[:, k], k], "line") for k in moving]
    shown = [k for k in range(points.shape[1]) if visible[:, k].any()][:_DOTS]
    ends = [placed[np.flatnonzero(visible[:, k])[-1], k] for k in shown]
    return "".join([*lines, *(f'<circle class="mark" cx="{x:.1f}" cy="{y:.1f}" r="1.5"/>' for x, y in ends)])


def _curves(numbers: NDArray[np.float64]) -> str:
    """(T, D) -> a curve over time for each of the numbers that vary most, all on one scale."""
    spread = np.ptp(numbers, axis=0)
    chosen = numbers[:, np.argsort(spread, kind="stable")[::-1][:_CURVES]]
    low, high = float(chosen.min()), float(chosen.max())
    across = np.linspace(4, _WIDTH - 4, len(chosen))
    down = _HEIGHT - 4 - (chosen - low) / max(high - low, 1e-9) * (_HEIGHT - 8)
    return "".join(_line(np.stack([across, column], axis=1), "line") for column in down.T)


def _line(points: NDArray[np.float64], kind: str) -> str:
    placed = " ".join(f"{x:.1f},{y:.1f}" for x, y in points)
    return f'<polyline class="{kind}" points="{placed}"/>'
