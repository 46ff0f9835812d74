"""Estimates of `--dry-run` against measured training runs on synthetic data: seconds of a core, and memory.

Each case is trained as a cold process with an empty cache. The ratios say how far the coefficients of
`shared/learning/cost.py` and of each trainer's `modality.py` are off; mend those if a ratio leaves 0.6 to 1.7.
"""

from __future__ import annotations

import json
import os
import resource
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import click
from rich.console import Console
from rich.table import Table

from benchmarks.real_data import ROOT
from benchmarks.synthetic import USER, Shape, write_synthetic
from shared.trainers import find_trainer

CASES = {
    "100 hand signs": Shape("gesture", 100, 4),
    "1,000 hand signs": Shape("gesture", 1000, 4),
    "900 hand signs of 40 labels": Shape("gesture", 900, 40),
    "900 hand signs of 300 labels": Shape("gesture", 900, 300),
    "500 sequences of 40 x 12": Shape("gesture", 500, 6, width=12, frames=40),
    "300 vectors of 64": Shape("gesture", 300, 5, width=64),
    "700 vectors of 768": Shape("gesture", 700, 5, width=768),
    "700 vectors of 1,536": Shape("gesture", 700, 5, width=1536),
    "900 vectors of 64, 300 labels": Shape("gesture", 900, 300, width=64),
    "100 sounds": Shape("sound", 100, 5),
    "1,000 sounds": Shape("sound", 1000, 10),
    "100 texts": Shape("speech", 100, 5),
    "1,000 texts": Shape("speech", 1000, 10),
    "900 texts of 300 labels": Shape("speech", 900, 300),
    "100 pictures": Shape("visual_environment", 100, 4),
    "1,000 pictures": Shape("visual_environment", 1000, 5),
}


@click.command()
@click.option("--case", "names", multiple=True, type=click.Choice(list(CASES)), help="Only this case; can be repeated.")
def main(names: tuple[str, ...]) -> None:
    """Train every case once and print what was estimated, what was measured, and estimate over measurement.

    \b
    Example:
      python -m benchmarks.cost --case "1,000 texts"
    """
    table = Table(title="estimated and measured, nothing cached")
    for column in ("case", "s estimated", "s measured", "ratio", "MB estimated", "MB measured", "ratio"):
        table.add_column(column, justify="left" if column == "case" else "right")
    for name in names or CASES:
        with tempfile.TemporaryDirectory() as folder:
            estimate, seconds, memory = _measure(CASES[name], Path(folder))
        expected, bytes_expected = estimate["estimated_seconds"], estimate["estimated_memory_bytes"]
        table.add_row(
            name,
            *(f"{expected:.1f}", f"{seconds:.1f}", f"{expected / seconds:.2f}"),
            *(f"{bytes_expected / 1e6:.0f}", f"{memory / 1e6:.0f}", f"{bytes_expected / memory:.2f}"),
        )
        click.echo(f"{name}: {expected:.1f} s estimated, {seconds:.1f} s measured", err=True)
    Console(width=None if sys.stdout.isatty() else 120).print(table)


def _measure(shape: Shape, folder: Path) -> tuple[dict[str, Any], float, int]:
    """Return the estimate, the processor seconds of a training, and its peak of memory in bytes."""
    data = write_synthetic(folder / "data", shape)
    estimate, _ = _run(shape, data, folder, "--dry-run")
    entry, seconds = _run(shape, data, folder)
    return estimate, seconds, entry["peak_memory_bytes"]


def _run(shape: Shape, data: Path, folder: Path, *options: str) -> tuple[dict[str, Any], float]:
    module = f"{find_trainer(shape.modality).package}.train"
    command = [sys.executable, "-m", module, "--user", USER, "--data", str(data), "--out", str(folder / "out")]
    environment = os.environ | {"MODEL_TRAINER_CACHE": str(folder / "cache"), "PYTHONPATH": str(ROOT)}
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    done = subprocess.run([*command, *options], check=False, capture_output=True, env=environment, cwd=ROOT)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    if done.returncode:
        raise click.ClickException(f"{' '.join(command)}\n{done.stderr.decode()[-2000:]}")
    entry: dict[str, Any] = json.loads(done.stdout)
    return entry, after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime


if __name__ == "__main__":
    main()
