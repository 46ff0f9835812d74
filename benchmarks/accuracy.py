"""Accuracy on real data, one row per figure with its target: `make bench-accuracy`."""

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
@click.option(
    "--modality",
    "modalities",
    multiple=True,
    type=click.Choice(list(MODALITIES)),
    help="Measure this modality only; can be repeated.",
)
def main(modalities: tuple[str, ...]) -> None:
    """Print every figure with its interval and its target.

    \b
    Example:
      python -m benchmarks.accuracy --modality sound
    """
    if not SOURCE.is_dir():
        raise click.ClickException(f"no real data at {SOURCE}; set MODEL_TRAINER_DATA to the folder that holds it")
    threadpool_limits(1)
    console = Console(width=110)
    table = Table("figure", "value", "interval", "target", "")
    for modality in modalities or MODALITIES:
        for measure in MODALITIES[modality]:
            for name, value, low, high, target in measure():
                outcome = "" if target is None else "reached" if _reached(name, value, target) else "missed"
                table.add_row(
                    name, f"{value:.3f}", f"{low:.3f}–{high:.3f}", "" if target is None else f"{target}", outcome
                )
                console.print(f"{name}: {value:.3f} {outcome}", highlight=False)
    console.print(table)


def _reached(name: str, value: float, target: float) -> bool:
    return value <= target if "(at most)" in name else value >= target


if __name__ == "__main__":
    main()
