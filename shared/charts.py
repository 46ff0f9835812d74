"""Line charts as inline SVG: scalable, printable, and told in words to whoever cannot see them."""

from __future__ import annotations

from collections.abc import Sequence
from html import escape

Point = tuple[float, float]

_WIDTH, _HEIGHT, _LEFT, _TOP = 320, 200, 48, 12
_ACROSS, _DOWN = _WIDTH - _LEFT - 16, _HEIGHT - _TOP - 44


def line_chart(
    points: Sequence[Point], across: str, down: str, title: str, most: float = 1.0, diagonal: bool = False
) -> str:
    """Return an SVG of points (x in 0..most, y in 0..1); its description holds every point in words."""
    told = "; ".join(f"{_number(x, most)}: {y:.0%}" for x, y in points)
    marks = [(_LEFT + _ACROSS * x / most, _TOP + _DOWN * (1 - y)) for x, y in points]
    path = " ".join(f"{x:.1f},{y:.1f}" for x, y in marks)
    bottom, right = _TOP + _DOWN, _LEFT + _ACROSS
    name = escape(f"{title}. {across}: {down}. {told}.")
    parts = [
        f'<svg role="img" viewBox="0 0 {_WIDTH} {_HEIGHT}" aria-label="{name}">',
        f'<path d="M{_LEFT} {_TOP}V{bottom}H{right}" fill="none" stroke="#1a1a1a"/>',
    ]
    for share in (0.0, 0.5, 1.0):
        y, x = _TOP + _DOWN * (1 - share), _LEFT + _ACROSS * share
        parts.append(f'<text x="{_LEFT - 6}" y="{y + 4:.0f}" text-anchor="end">{share:.0%}</text>')
        parts.append(f'<text x="{x:.0f}" y="{bottom + 16}" text-anchor="middle">{_number(share * most, most)}</text>')
    parts.append(f'<text x="{_LEFT + _ACROSS / 2:.0f}" y="{_HEIGHT - 6}" text-anchor="middle">{escape(across)}</text>')
    if diagonal:
        parts.append(f'<path d="M{_LEFT} {bottom}L{right} {_TOP}" stroke="#595959" stroke-dasharray="4 4"/>')
    parts.append(f'<polyline points="{path}" fill="none" stroke="#0b4f9c" stroke-width="2"/>')
    parts.extend(f'<circle cx="{x:.1f}" cy="{y:.1f}" r="3.5" fill="#0b4f9c"/>' for x, y in marks)
    return "".join([*parts, "</svg>"])


def _number(value: float, most: float) -> str:
    return f"{value:.0%}" if most <= 1 else f"{value:.0f}"
