"""Session-wise accuracy on real data, through the trainers' own commands: `make bench-sessions`."""

from __future__ import annotations

import json
import os
import statistics
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from typing import Any

import click
from rich.console import Console
from rich.table import Table

from benchmarks.real_data import ROOT, SOURCE, data_root

SPEAKERS = ("george", "jackson", "lucas", "nicolas", "theo", "yweweler")


@dataclass(frozen=True)
class Case:
    """Training runs whose figures are averaged, and the target accuracy."""

    title: str
    package: str
    users: tuple[str, ...]
    data: str
    target: float
    settings: tuple[str, ...] = ()


CASES = (
    Case("spoken digits, one model per speaker, 5 sessions of 10 takes", "sound_trainer", SPEAKERS, "digits", 0.95),
    Case("rooms of 60 houses, grouped by house", "visual_environment_trainer", ("home",), "houses", 0.95),
    Case(
        "10 contexts, 1,000 texts distributed over 5 sessions", "speech_context_trainer", ("talker",), "contexts", 0.85
    ),
    Case("4 hand signs, 10 blocks held out in turn", "gesture_trainer", ("signer",), "signs", 0.95, ("folds=10",)),
    Case(
        "4 fingertip paths, 10 blocks held out in turn", "gesture_trainer", ("mover",), "fingertip", 0.95, ("folds=10",)
    ),
)


@click.command()
def main() -> None:
    """Train on every real data set and print accuracy across sessions and on a random split.

    \b
    Example:
      python -m benchmarks.sessions
    """
    if not SOURCE.is_dir():
        raise click.ClickException(f"no real data at {SOURCE}; set MODEL_TRAINER_DATA to the folder that holds it")
    names = (
        "data",
        "models",
        "samples",
        "accuracy",
        "interval",
        "random split",
        "open-set AUROC",
        "false rejection",
        "ECE",
    )
    table = Table(*names, "target", title="accuracy across sessions")
    for case in CASES:
        entries = [_train(case, user) for user in case.users]
        metrics = [entry["training_metrics"] for entry in entries]

        def mean(key: str, of: list[dict[str, float]] = metrics) -> str:
            return f"{statistics.mean(m[key] for m in of if key in m):.3f}"

        interval = f"{mean('accuracy_low')}–{mean('accuracy_high')}"
        samples = str(entries[0]["sample_count"])
        cells = [case.title, str(len(entries)), samples, mean("accuracy"), interval, mean("random_split_accuracy")]
        table.add_row(*cells, mean("open_set_auroc"), mean("false_rejection_rate"), mean("ece"), f"{case.target:.2f}")
        if len(entries) > 1:
            worst = min(metrics, key=lambda m: m["accuracy"])
            click.echo(f"{case.title}: lowest {worst['accuracy']:.3f}")
    Console(width=160).print(table)


def _train(case: Case, user: str) -> dict[str, Any]:
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    with tempfile.TemporaryDirectory() as out:
        command = [sys.executable, "-m", f"{case.package}.train", "--user", user, "--data", str(data_root(case.data))]
        command += ["--out", out, *(f"--set=evaluation.{setting}" for setting in case.settings)]
        done = subprocess.run(command, check=False, capture_output=True, env=environment, cwd=ROOT)
    if done.returncode:
        raise click.ClickException(done.stderr.decode()[-2000:])
    entry: dict[str, Any] = json.loads(done.stdout)
    return entry


if __name__ == "__main__":
    main()
