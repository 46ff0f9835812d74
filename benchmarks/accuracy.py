"""Accuracy on real data, a row for each figure beside its bar: `make bench-accuracy`."""

from __future__ import annotations

import click
from rich.console import Console
from rich.table import Table
from threadpoolctl import threadpool_limits

from benchmarks import gesture_accuracy, sound_accuracy, speech_accuracy, visual_accuracy
from benchmarks.real_data import SOURCE

MODALITIES = {
    "gesture": gesture_accuracy.FIGURES,
    "sound": sound_accuracy.FIGURES,
    "speech": speech_accuracy.FIGURES,
    "visual_environment": visual_accuracy.FIGURES,
}


@click.command()
@click.option("--modality", "modalities", multiple=True, type=click.Choice(list(MODALITIES)), help="Only these.")
def main(modalities: tuple[str, ...]) -> None:
    """Print every figure with its Wilson interval and the bar it should reach.

    \b
    Example:
      python -m benchmarks.accuracy --modality sound
    """
    if not SOURCE.is_dir():
        raise click.ClickException(f"no real data at {SOURCE}; name the folder with MODEL_TRAINER_DATA")
    threadpool_limits(1)
    console = Console(width=110)
    table = Table("figure", "value", "interval", "bar", "")
    for modality in modalities or MODALITIES:
        for measure in MODALITIES[modality]:
            for name, value, low, high, bar in measure():
                told = "" if bar is None else "reached" if _reached(name, value, bar) else "missed"
                table.add_row(name, f"{value:.3f}", f"{low:.3f}–{high:.3f}", "" if bar is None else f"{bar}", told)
                console.print(f"{name}: {value:.3f} {told}", highlight=False)
    console.print(table)


def _reached(name: str, value: float, bar: float) -> bool:
    return value <= bar if "(at most)" in name else value >= bar


if __name__ == "__main__":
    main()
