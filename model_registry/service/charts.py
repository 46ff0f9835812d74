"""Charts as inline SVG, with their values in words for those who cannot see them."""

from __future__ import annotations

from collections.abc import Sequence

from markupsafe import Markup, escape

from model_registry.languages import Words
from model_registry.metrics import Metric

_WIDTH, _HEIGHT, _LEFT, _RIGHT, _TOP, _BOTTOM = 640, 200, 80, 632, 12, 168
ACCURACY = "Accuracy of each version."
_NAMED = 8  # versions that have room for their names


def versions_chart(versions: Sequence[tuple[str, Metric]], active: str | None, language: Words) -> Markup:
    """Return a chart of versions and their accuracy, in order; `active` is ringed, lines are intervals."""
    described = escape("; ".join(f"{version}: {_described(accuracy, language)}" for version, accuracy in versions))
    step = (_RIGHT - _LEFT) / len(versions)
    parts = [
        Markup('<svg class="versions" role="img" viewBox="0 0 {} {}" aria-label="{} {}.">').format(
            _WIDTH, _HEIGHT, language.text(ACCURACY), described
        )
    ]
    for share in (0.0, 0.5, 1.0):
        parts.append(Markup('<path class="grid" d="M{} {:.0f}H{}"/>').format(_LEFT, _down(share), _RIGHT))
        parts.append(
            Markup('<text x="{}" y="{:.0f}" text-anchor="end">{:.0f}&#160;%</text>').format(
                _LEFT - 6, _down(share) + 5, 100 * share
            )
        )
    every = -(-len(versions) // _NAMED)
    for k, (version, accuracy) in enumerate(versions):
        across = _LEFT + step * (k + 0.5)
        if accuracy.low is not None and accuracy.high is not None:
            ends = (across, _down(accuracy.low), _down(accuracy.high))
            parts.append(Markup('<path class="interval" d="M{:.1f} {:.1f}V{:.1f}"/>').format(*ends))
        ring = Markup(' class="active"') if version == active else ""
        parts.append(Markup('<circle{} cx="{:.1f}" cy="{:.1f}" r="6"/>').format(ring, across, _down(accuracy.value)))
        if (len(versions) - 1 - k) % every == 0:
            parts.append(
                Markup('<text x="{:.1f}" y="{}" text-anchor="middle">{}</text>').format(across, _HEIGHT - 8, version)
            )
    return Markup("").join([*parts, Markup("</svg>")])


def pair_chart(before: Metric | None, after: Metric | None) -> Markup:
    """Return two shares, one below the other, each a dot with a line for its interval; the text beside it says both."""
    parts = [
        Markup('<svg class="pair" aria-hidden="true" viewBox="0 0 120 24"><path class="grid" d="M4 0V24M116 0V24"/>')
    ]
    for name, each, down in (("before", before, 7), ("after", after, 17)):
        if each is not None:
            if each.low is not None and each.high is not None:
                ends = (name, _along(each.low), down, _along(each.high))
                parts.append(Markup('<path class="interval {}" d="M{:.0f} {}H{:.0f}"/>').format(*ends))
            parts.append(
                Markup('<circle class="{}" cx="{:.0f}" cy="{}" r="4"/>').format(name, _along(each.value), down)
            )
    return Markup("").join([*parts, Markup("</svg>")])


def _described(accuracy: Metric, language: Words) -> str:
    text = language.percent(accuracy.value)
    if accuracy.low is None or accuracy.high is None:
        return text
    return f"{text} ({language.percent(accuracy.low)} – {language.percent(accuracy.high)})"


def _down(share: float) -> float:
    return _BOTTOM - (_BOTTOM - _TOP) * min(max(share, 0.0), 1.0)


def _along(share: float) -> float:
    return 4 + 112 * min(max(share, 0.0), 1.0)
