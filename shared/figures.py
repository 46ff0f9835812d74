"""Pictures of a validation, drawn without a display."""

from __future__ import annotations

import io
from collections.abc import Sequence

import numpy as np

from shared.folds import Indices


def confusion_picture(confusion: Indices, labels: Sequence[str], title: str) -> bytes:
    """Return a PNG of a confusion matrix (K, K): counts in the cells, shaded by the share of the true label."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    count = len(labels)
    side = float(np.clip(1.6 + 0.55 * count, 3.2, 14))
    figure = Figure(figsize=(side, side), dpi=100, layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.subplots()
    shares = confusion / np.maximum(confusion.sum(axis=1, keepdims=True), 1)
    axes.imshow(shares, cmap="Blues", vmin=0, vmax=1)
    axes.set_xticks(range(count), [_short(label) for label in labels], rotation=45, ha="right")
    axes.set_yticks(range(count), [_short(label) for label in labels])
    axes.set_xlabel("answered")
    axes.set_ylabel("meant")
    axes.set_title(title, fontsize="medium")
    if count <= 25:
        for row, column in np.argwhere(confusion > 0):
            dark = shares[row, column] > 0.5
            number = str(confusion[row, column])
            axes.text(column, row, number, ha="center", va="center", color="white" if dark else "black")
    data = io.BytesIO()
    figure.savefig(data, format="png", metadata={"Software": None})
    return data.getvalue()


def _short(label: str) -> str:
    return (label if len(label) <= 16 else label[:15] + "…").replace("$", r"\$")
