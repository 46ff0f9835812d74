"""Charts as inline SVG: scalable, printable, and described in words for those who cannot see them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from html import escape

Point = tuple[float, float]
Percent = Callable[[float], str]  # how a share is written

_WIDTH, _HEIGHT, _LEFT, _TOP = 320, 200, 48, 12
_APART = 150  # between bars, from which on their dates have room on a phone, too
_ACROSS, _DOWN = _WIDTH - _LEFT - 16, _HEIGHT - _TOP - 44


def line_chart(
    points: Sequence[Point],
    across: str,
    down: str,
    title: str,
    percent: Percent,
    most: float = 1.0,
    diagonal: bool = False,
) -> str:
    """Return an SVG of points (x in 0..most, y in 0..1); its description holds every point in words."""

    def number(value: float) -> str:
        return percent(value) if most <= 1 else f"{value:.0f}"

    described = "; ".join(f"{number(x)}: {percent(y)}" for x, y in points)
    marks = [(_LEFT + _ACROSS * x / most, _TOP + _DOWN * (1 - y)) for x, y in points]
    path = " ".join(f"{x:.1f},{y:.1f}" for x, y in marks)
    bottom, right = _TOP + _DOWN, _LEFT + _ACROSS
    name = escape(f"{title}. {across}: {down}. {described}.")
    parts = [f'<svg class="chart" role="img" viewBox="0 0 {_WIDTH} {_HEIGHT}" aria-label="{name}">']
    for share in (0.0, 0.25, 0.5, 0.75, 1.0):
        y, x = _TOP + _DOWN * (1 - share), _LEFT + _ACROSS * share
        parts.append(f'<path class="grid" d="M{_LEFT} {y:.0f}H{right}"/>')
        if share != 0.25 and share != 0.75:
            parts.append(f'<text x="{_LEFT - 6}" y="{y + 4:.0f}" text-anchor="end">{percent(share)}</text>')
            tick = number(share * most)
            parts.append(f'<text x="{x:.0f}" y="{bottom + 16}" text-anchor="middle">{tick}</text>')
    parts.append(f'<text x="{_LEFT + _ACROSS / 2:.0f}" y="{_HEIGHT - 6}" text-anchor="middle">{escape(across)}</text>')
    if diagonal:
        parts.append(f'<path class="ideal" d="M{_LEFT} {bottom}L{right} {_TOP}"/>')
    parts.append(f'<polyline class="line" points="{path}"/>')
    parts.extend(f'<circle class="mark" cx="{x:.1f}" cy="{y:.1f}" r="3.5"/>' for x, y in marks)
    return "".join([*parts, "</svg>"])


def interval_chart(
    value: float, low: float, high: float, beside: Sequence[tuple[str, float]], title: str, percent: Percent
) -> str:
    """Return an SVG of one share in 0..1 with its interval, and of others to compare it with, each a line down."""
    width, left, right = 640.0, 8.0, 632.0

    def at(share: float) -> float:
        return left + (right - left) * share

    interval = f"{percent(value)} ({percent(low)} – {percent(high)})"
    described = "; ".join([interval, *(f"{name}: {percent(x)}" for name, x in beside)])
    name = escape(f"{title}: {described}.")
    parts = [
        f'<svg class="interval" role="img" viewBox="0 0 {width:.0f} 56" aria-label="{name}">',
        f'<rect class="track" x="{left}" y="12" width="{right - left}" height="16" rx="8"/>',
        f'<rect class="range" x="{at(low):.1f}" y="12" width="{at(high) - at(low):.1f}" height="16" rx="8"/>',
        f'<circle class="mark" cx="{at(value):.1f}" cy="20" r="11"/>',
    ]
    for other, share in beside:
        x = at(share)
        parts.append(f'<path class="beside" d="M{x:.1f} 6V34"/>')
        side = "start" if share < 0.3 else "end" if share > 0.7 else "middle"
        parts.append(f'<text x="{x:.1f}" y="50" text-anchor="{side}">{escape(other)} {percent(share)}</text>')
    return "".join([*parts, "</svg>"])


def timeline_chart(rows: Sequence[tuple[str, int, float]], described: str) -> str:
    """Return an SVG with one bar a session, in order: (time in ISO 8601, samples, share recognised)."""
    most, bottom, tall, step = max(count for _, count, _ in rows), 84.0, 64.0, min(624 / len(rows), 208.0)
    parts = [
        f'<svg class="timeline" role="img" viewBox="0 0 640 112" aria-label="{escape(described)}">',
        f'<path class="grid" d="M8 {bottom}H632"/>',
    ]
    named = {0, len(rows) - 1} if step < _APART else set(range(len(rows)))
    for k, (start, count, share) in enumerate(rows):
        x, wide, height = 8 + step * (k + 0.5), min(step * 0.6, 62.0), tall * count / most
        for kind, part in (("track", height), ("mark", height * share)):
            place = f'x="{x - wide / 2:.1f}" y="{bottom - part:.1f}" width="{wide:.1f}" height="{part:.1f}"'
            parts.append(f'<rect class="{kind}" {place}/>')
        if k in named:
            parts.append(f'<text x="{x:.1f}" y="104" text-anchor="{_anchor(k, len(rows), step)}">{start[:10]}</text>')
    return "".join([*parts, "</svg>"])


def _anchor(k: int, count: int, step: float) -> str:
    """Return how a label stands under its bar, so that the outermost stay inside where bars are narrow."""
    if step >= _APART or 0 < k < count - 1:
        return "middle"
    return "start" if k == 0 else "end"
