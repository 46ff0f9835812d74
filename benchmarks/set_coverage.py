"""How often prediction sets hold the truth on sessions that were not trained on: `python -m benchmarks.set_coverage`.

Draws are those of `benchmarks.recipes`. The threshold of the sets is fitted as in training, on the held-out predictions
of the session-wise validation, and is meant to cover LEVEL of the samples of another session, every session weighing
the same.
"""

from __future__ import annotations

from pathlib import Path

import click
import numpy as np
from rich.console import Console
from rich.table import Table
from threadpoolctl import threadpool_limits

from benchmarks.data_sets import sets_option
from benchmarks.prepared import Prepared
from benchmarks.proposals import gain
from benchmarks.recipes import RecipeRun, Split, figures_of_sets
from shared.learning.prediction_sets import LEVEL, fit_set_threshold, prediction_sets
from shared.trainers import modality_names


def measure(prepared: Prepared, own: Split, number: int) -> tuple[float, float]:
    """Train on a draw; return coverage (every held-out session weighing the same) and mean size of the sets."""
    labels, classes = np.unique(prepared.classes[own.train], return_inverse=True)
    run = RecipeRun(prepared, own.train, own.test)
    found = run.validated(prepared.defaults(classes))
    groups = np.unique([prepared.sessions[k] for k in own.train], return_inverse=True)[1]
    held = prediction_sets(run.predictions(found)[2], fit_set_threshold(found.probabilities, classes, groups))
    truth = np.searchsorted(labels, prepared.classes[own.test])
    covered, sessions = held[np.arange(len(truth)), truth], np.array([prepared.sessions[k] for k in own.test])
    return float(np.mean([covered[sessions == name].mean() for name in np.unique(sessions)])), float(held.sum(1).mean())


@click.command()
@click.option("--modality", "modalities", multiple=True, type=click.Choice(modality_names()), help="Only these.")
@sets_option
@click.option("--k", "each", default=10, show_default=True, help="Samples a label.")
@click.option("--draws", "number", default=5, show_default=True, help="Draws for each set; each tests other sessions.")
def main(modalities: tuple[str, ...], sets: Path, each: int, number: int) -> None:
    """Print coverage and mean size of the sets for each data set, and the mean over sets with its interval."""
    threadpool_limits(1)
    table = Table("modality", "set", "draws", f"coverage (meant: {LEVEL:g})", "labels in a set")
    coverages: dict[str, list[float]] = {}
    for one, rows in figures_of_sets(modalities, sets, each, number, measure):
        coverage, size = rows.mean(axis=0)
        coverages.setdefault(one.modality, []).append(float(coverage))
        table.add_row(one.modality, one.name, str(len(rows)), f"{coverage:.3f}", f"{size:.2f}")
    Console(width=120).print(table)
    for modality, values in (*coverages.items(), ("all", [value for mine in coverages.values() for value in mine])):
        if len(values) > 1:
            mean, low, high = gain(values)
            click.echo(f"{modality}: {mean:.3f} ({low:.3f} to {high:.3f}) over {len(values)} sets")


if __name__ == "__main__":
    main()
