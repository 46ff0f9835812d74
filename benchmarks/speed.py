"""Seconds from process start to published version for 1,000 samples of each modality: `make bench`.

Each trainer runs as a cold process, without and with cached features, and in turn with it the floor: imports, decoders
and networks (`benchmarks.floor`). Prints medians of elapsed seconds, of CPU seconds, which are more reliable on a busy
machine, and of these over the floor's, and appends them with a description of the machine to
benchmarks/results/speed.jsonl.
"""

from __future__ import annotations

import json
import os
import platform
import resource
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

import click
from rich.console import Console
from rich.table import Table

from benchmarks.real_data import ROOT, SOURCE, cropped_houses, data_root

RESULTS = ROOT / "benchmarks" / "results" / "speed.jsonl"


@dataclass(frozen=True)
class Case:
    """One trainer on one data root, with the target in seconds."""

    package: str
    user: str
    data: Callable[[], Path]
    target: float
    target_cached: float


CASES = {
    "gesture": Case("gesture_trainer", "signer", lambda: data_root("signs-1000"), 5, 5),
    "sound": Case("sound_trainer", "two", lambda: data_root("digits-1000"), 10, 4),
    "speech": Case("speech_context_trainer", "talker", lambda: data_root("contexts"), 8, 4),
    "visual_environment": Case("visual_environment_trainer", "home", cropped_houses, 15, 4),
}


@click.command()
@click.option(
    "--runs", default=3, show_default=True, help="Measured runs of each, after one that fills the disk cache."
)
@click.option(
    "--modality",
    "modalities",
    multiple=True,
    type=click.Choice(list(CASES)),
    help="Measure this modality only; can be repeated.",
)
def main(runs: int, modalities: tuple[str, ...]) -> None:
    """Time the trainers on real data.

    \b
    Example:
      python -m benchmarks.speed --runs 5 --modality sound
    """
    if not SOURCE.is_dir():
        raise click.ClickException(f"no real data at {SOURCE}; set MODEL_TRAINER_DATA to the folder that holds it")
    rows = []
    for modality in modalities or CASES:
        case = CASES[modality]
        root = case.data()
        for cached in (False, True):
            rows.append(_measure(modality, case, root, cached, runs))
    Console().print(_table(rows))
    for row in rows:
        click.echo(_stages(row))
    RESULTS.parent.mkdir(parents=True, exist_ok=True)
    with RESULTS.open("a") as file:
        file.write(json.dumps({"time": time.strftime("%Y-%m-%d"), "machine": machine(), "rows": rows}) + "\n")
    click.echo(f"appended to {RESULTS.relative_to(ROOT)}")


def _measure(modality: str, case: Case, root: Path, cached: bool, runs: int) -> dict[str, Any]:
    walls, processor, entries, floors = [], [], [], []
    with tempfile.TemporaryDirectory() as folder:
        place = Path(folder)
        for number in range(runs + 1):
            if not cached:
                shutil.rmtree(place / "cache", ignore_errors=True)
            before = _processor_seconds()
            wall, entry = _once(case, root, place, number)
            trained = _processor_seconds()
            _floor(modality, case, root, cached)
            if number:
                walls.append(wall)
                processor.append(trained - before)
                floors.append(_processor_seconds() - trained)
                entries.append(entry)
    stages = {name: statistics.median(e["seconds"].get(name, 0.0) for e in entries) for name in entries[0]["seconds"]}
    return {
        "modality": modality,
        "cached": cached,
        "samples": entries[0]["sample_count"],
        "accuracy": entries[0]["training_metrics"]["accuracy"],
        "wall": statistics.median(walls),
        "walls": walls,
        "processor": statistics.median(processor),
        "floor": statistics.median(floors),
        "floor_ratio": statistics.median(taken / floor for taken, floor in zip(processor, floors, strict=True)),
        "target": case.target_cached if cached else case.target,
        "stages": stages,
        "peak_memory": max(e["peak_memory_bytes"] for e in entries),
    }


def _processor_seconds() -> float:
    """Return the user and system seconds of all child processes that have ended."""
    usage = resource.getrusage(resource.RUSAGE_CHILDREN)
    return usage.ru_utime + usage.ru_stime


def _floor(modality: str, case: Case, root: Path, cached: bool) -> None:
    """Run what no training can do without: imports, decoders and networks."""
    command = [sys.executable, "-m", "benchmarks.floor", modality, str(root), case.user]
    subprocess.run([*command, "--cached"] if cached else command, check=True, capture_output=True, cwd=ROOT)


def _once(case: Case, root: Path, place: Path, number: int) -> tuple[float, dict[str, Any]]:
    environment = os.environ | {"MODEL_TRAINER_CACHE": str(place / "cache"), "PYTHONPATH": str(ROOT)}
    command = [sys.executable, "-m", f"{case.package}.train", "--user", case.user, "--data", str(root)]
    command += ["--out", str(place / f"out{number}"), "--registry", str(place / "registry")]
    started = time.perf_counter()
    done = subprocess.run(command, check=False, capture_output=True, env=environment, cwd=ROOT)
    wall = time.perf_counter() - started
    if done.returncode:
        raise click.ClickException(f"{' '.join(command)}\n{done.stderr.decode()[-2000:]}")
    entry: dict[str, Any] = json.loads(done.stdout)
    return wall, entry


def _table(rows: list[dict[str, Any]]) -> Table:
    table = Table(title="from cold process to published version, median seconds")
    columns = ("modality", "cache", "samples", "seconds", "target", "CPU seconds", "of floor", "samples/s", "peak MB")
    for name in columns:
        table.add_column(name, justify="left" if name in ("modality", "cache") else "right")
    for row in rows:
        rate, peak = row["samples"] / row["wall"], row["peak_memory"] / 1e6
        cells = [row["modality"], "filled" if row["cached"] else "empty", str(row["samples"]), f"{row['wall']:.2f}"]
        table.add_row(
            *cells,
            f"{row['target']:.0f}",
            f"{row['processor']:.2f}",
            f"{row['floor_ratio']:.2f}",
            f"{rate:.0f}",
            f"{peak:.0f}",
        )
    return table


def _stages(row: dict[str, Any]) -> str:
    stages = ", ".join(f"{k} {v:.2f}" for k, v in row["stages"].items() if k != "total" and v >= 0.01)
    return f"{row['modality']}, cache {'filled' if row['cached'] else 'empty'}: {stages}"


def machine() -> dict[str, Any]:
    """Return processor, memory, load and library versions."""
    names = [line.split(":")[1].strip() for line in _cpuinfo() if line.startswith("model name")]
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    packages = ("numpy", "scikit-learn", "onnxruntime", "ndonnx")
    return {
        "cpu": names[0] if names else platform.machine(),
        "cores": os.cpu_count(),
        "memory_gb": round(memory / 1e9),
        "load": os.getloadavg()[0],
        "python": platform.python_version(),
        **{name: version(name) for name in packages},
    }


def _cpuinfo() -> list[str]:
    path = Path("/proc/cpuinfo")
    return path.read_text().splitlines() if path.exists() else []


if __name__ == "__main__":
    main()
