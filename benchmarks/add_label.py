"""What `--add-label` costs the labels that were there before, on many data sets: `python -m benchmarks.add_label`.

Of each draw of `benchmarks.recipes` the candidates are compared without one label, and what wins is fitted with all
labels, as `--add-label` does it. That is compared on held-out sessions with a model whose candidates were compared with
all labels.
"""

from __future__ import annotations

import time
from pathlib import Path

import click
import numpy as np
from rich.console import Console
from rich.table import Table
from threadpoolctl import threadpool_limits

from benchmarks.data_sets import sets_option
from benchmarks.prepared import Prepared
from benchmarks.proposals import gain
from benchmarks.recipes import RecipeRun, Split, balanced, figures_of_sets
from shared.trainers import modality_names

Row = tuple[float, float, float, float]  # old labels' accuracy: all compared, kept; seconds: all compared, kept


def measure(prepared: Prepared, own: Split, number: int) -> Row:
    """Train with all labels, and with what is best without one of them."""
    labels = np.unique(prepared.classes[own.train])
    new = labels[number % len(labels)]
    before = own.train[prepared.classes[own.train] != new]
    kept = RecipeRun(prepared, before, own.test).by_default(_defaults(prepared, before))[0]
    accuracies, seconds = [], []
    for names in (_defaults(prepared, own.train), [kept]):
        start = time.perf_counter()
        predicted = RecipeRun(prepared, own.train, own.test).by_default(names)[1]
        seconds.append(time.perf_counter() - start)
        old = prepared.classes[own.test] != new
        accuracies.append(balanced(predicted[old], prepared.classes[own.test][old]))
    return accuracies[0], accuracies[1], seconds[0], seconds[1]


def _defaults(prepared: Prepared, train: np.ndarray) -> list[str]:
    present = np.unique(prepared.classes[train])
    return list(prepared.defaults(np.searchsorted(present, prepared.classes[train])))


@click.command()
@click.option("--modality", "modalities", multiple=True, type=click.Choice(modality_names()), help="Only these.")
@sets_option
@click.option("--k", "each", default=10, show_default=True, help="Samples a label.")
@click.option("--draws", "number", default=4, show_default=True, help="Draws for each set.")
def main(modalities: tuple[str, ...], sets: Path, each: int, number: int) -> None:
    """Print the old labels' accuracy after full training and after `--add-label`, and the difference over sets."""
    threadpool_limits(1)
    table = Table("modality", "set", "draws", "all compared", "kept", "difference", "seconds", "kept")
    differences: dict[str, list[float]] = {}
    for one, rows in figures_of_sets(modalities, sets, each, number, measure):
        full, kept, slow, fast = rows.mean(axis=0)
        differences.setdefault(one.modality, []).append(kept - full)
        cells = [f"{full:.3f}", f"{kept:.3f}", f"{kept - full:+.3f}", f"{slow:.2f}", f"{fast:.2f}"]
        table.add_row(one.modality, one.name, str(len(rows)), *cells)
    Console(width=120).print(table)
    for modality, values in differences.items():
        if len(values) > 1:
            mean, low, high = gain(values)
            click.echo(f"{modality}: {mean:+.4f} ({low:+.4f} to {high:+.4f}) over {len(values)} sets")


if __name__ == "__main__":
    main()
