"""Pictures of a validation, drawn without a display."""

from __future__ import annotations

import io
from collections.abc import Sequence
from importlib.resources import files
from typing import Any

import numpy as np

from shared.learning.folds import Indices

_SIDE, _CELL, _MARGIN, _TITLE, _TEXT = 1400, 44, 12, 15, 13  # most pixels; the last two are heights of letters
_PALE, _DARK = np.array([247, 251, 255]), np.array([8, 48, 107])  # of a share of 0 and 1
_INK = (26, 26, 26)


def confusion_picture(confusion: Indices, labels: Sequence[str], title: str) -> bytes:
    """Return a PNG of a confusion matrix (K, K): counts in the cells, shaded by the share of the true label."""
    from PIL import Image, ImageDraw

    names, count = [_short(label) for label in labels], len(labels)
    cell = max(min(_CELL, _SIDE // count), 6)
    text, large = _font(min(_TEXT, cell)), _font(_TITLE)
    beside = round(max(text.getlength(name) for name in names)) + 3 * _MARGIN + _TEXT
    below = round(0.71 * (beside - _MARGIN))
    side, top = count * cell, 2 * _MARGIN + _TITLE
    width = max(beside + side + _MARGIN, round(large.getlength(title)) + 2 * _MARGIN)
    picture = Image.new("RGB", (width, top + side + below + _TEXT + _MARGIN), "white")
    draw = ImageDraw.Draw(picture)
    draw.text((width / 2, _MARGIN), title, _INK, large, "ma")
    draw.text((beside + side / 2, picture.height - _MARGIN), "predicted", _INK, text, "ms")
    _turned(picture, "true label", 90, (_MARGIN, top + side / 2), "lm", text)
    shares = confusion / np.maximum(confusion.sum(axis=1, keepdims=True), 1)
    for row in range(count):
        middle = top + (row + 0.5) * cell
        draw.text((beside - _MARGIN / 2, middle), names[row], _INK, text, "rm")
        _turned(picture, names[row], 45, (beside + (row + 0.5) * cell, top + side + 4), "rt", text)
        for column in range(count):
            left, share = beside + column * cell, float(shares[row, column])
            colour = tuple(int(c) for c in _PALE + (_DARK - _PALE) * share)
            draw.rectangle((left, top + row * cell, left + cell - 1, top + (row + 1) * cell - 1), colour)
            if confusion[row, column] and count <= 25:
                ink = "white" if share > 0.5 else "black"
                draw.text((left + cell / 2, middle), str(confusion[row, column]), ink, text, "mm")
    draw.rectangle((beside - 1, top - 1, beside + side, top + side), outline=_INK)
    data = io.BytesIO()
    picture.save(data, format="png")
    return data.getvalue()


def _font(size: int) -> Any:
    from PIL import ImageFont

    with (files("shared.report") / "fonts" / "DejaVuSans.ttf").open("rb") as file:
        return ImageFont.truetype(io.BytesIO(file.read()), size, layout_engine=ImageFont.Layout.BASIC)


def _turned(picture: Any, words: str, degrees: int, place: tuple[float, float], anchor: str, font: Any) -> None:
    """Draw rotated words with their top right (anchor "rt") or left middle ("lm") at `place`."""
    from PIL import Image, ImageDraw

    _, top, right, bottom = font.getbbox(words)
    stamp = Image.new("L", (round(right) + 2, round(bottom) + 2), 0)
    ImageDraw.Draw(stamp).text((0, 0), words, 255, font)
    stamp = stamp.rotate(degrees, Image.Resampling.BICUBIC, expand=True)
    across = -stamp.width + (bottom - top) / 2 if anchor == "rt" else 0
    down = 0 if anchor == "rt" else -stamp.height / 2
    picture.paste(_INK, (round(place[0] + across), round(place[1] + down)), stamp)


def _short(label: str) -> str:
    return label if len(label) <= 16 else label[:15] + "…"
