"""Frames a second of `model-trainer extract` against bare MediaPipe on the same clips, on one core and on two.

Bare MediaPipe (`benchmarks.bare_landmarks`) decodes with OpenCV, passes over frames that are not needed, and runs the
same landmarkers on the others, a process for each core. The clips are synthetic: the photograph of a person that comes
with matplotlib, swaying before the camera. Both include the start of their processes; rounds alternate, and ratios are
medians of the rounds' ratios.
"""

from __future__ import annotations

import json
import os
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import click
import cv2
import matplotlib
import numpy as np
from rich.console import Console
from rich.table import Table

from benchmarks.real_data import ROOT

_FILMED = 30  # frames a second of the clips


@dataclass(frozen=True)
class Run:
    """Frames that were looked at, seconds, and seconds of processor time."""

    frames: int
    elapsed: float
    processor: float


@click.command()
@click.option("--clips", default=4, show_default=True, help="Number of clips.")
@click.option("--seconds", default=10, show_default=True, help="Length of each clip.")
@click.option("--height", default=720, show_default=True, help="Of the picture, in pixels; it is 16:9.")
@click.option("--rounds", default=3, show_default=True, help="Alternating runs of both.")
def main(clips: int, seconds: int, height: int, rounds: int) -> None:
    """Film synthetic clips, and extract their landmarks with and without this project.

    \b
    Example:
      python -m benchmarks.landmarks --height 1080
    """
    columns = ("cores", "extract", "bare", "ratio", "of processor time", "and without start")
    table = Table(title=f"{clips} clips of {seconds} s, {height} pixels high: frames a second, and ratios")
    for name in columns:
        table.add_column(name, justify="right")
    with tempfile.TemporaryDirectory() as folder:
        place = Path(folder)
        films = [_film(place / f"clip{number}.mp4", seconds, height, number) for number in range(clips)]
        short = [_film(place / f"short{number}.mp4", 0, height, number) for number in range(2)]
        for cores in (1, 2):
            rows = [[_extract(films, place / f"out{cores}-{k}", cores), _bare(films, cores)] for k in range(rounds)]
            start = [_extract(short[:cores], place / f"start{cores}", cores), _bare(short[:cores], cores)]
            rates = [statistics.median(row[kind].frames / row[kind].elapsed for row in rows) for kind in (0, 1)]
            ratios = [
                statistics.median(bare.elapsed / ours.elapsed for ours, bare in rows),
                statistics.median(bare.processor / ours.processor for ours, bare in rows),
                statistics.median(
                    (bare.processor - start[1].processor) / (ours.processor - start[0].processor) for ours, bare in rows
                ),
            ]
            table.add_row(str(cores), *(f"{rate:.1f}" for rate in rates), *(f"{ratio:.2f}" for ratio in ratios))
    Console(width=None if sys.stdout.isatty() else 120).print(table)


def _film(path: Path, seconds: int, height: int, seed: int) -> Path:
    """Write a clip of a photograph that sways, as a person before a camera does; of 0 seconds, a single frame."""
    photograph = cv2.imread(str(Path(matplotlib.get_data_path()) / "sample_data" / "grace_hopper.jpg"))
    assert photograph is not None
    width, rng = height * 16 // 9, np.random.default_rng(seed)
    scale = height / photograph.shape[0]
    writer = cv2.VideoWriter(str(path), cv2.VideoWriter.fourcc(*"mp4v"), _FILMED, (width, height))
    for number in range(max(seconds * _FILMED, 1)):
        turn = 2 * np.pi * number / _FILMED / 3 + rng.normal(0, 0.01)
        left = (width - scale * photograph.shape[1]) / 2 + 0.1 * width * np.sin(turn)
        moved = np.array([[scale, 0, left], [0, scale, 0.03 * height * np.cos(turn)]])
        writer.write(cv2.warpAffine(photograph, moved, (width, height), borderValue=(90, 110, 120)))
    writer.release()
    return path


def _extract(films: Sequence[Path], out: Path, cores: int) -> Run:
    words = ["--out", str(out), "--no-cache", "--set", f"extraction.processes={cores}"]
    words += ["--set", "extraction.seconds=3600", *map(str, films)]
    return _run([[sys.executable, "-m", "shared", "extract", *words]], cores)


def _bare(films: Sequence[Path], cores: int) -> Run:
    shares = [films[number::cores] for number in range(cores)]
    return _run([[sys.executable, "-m", "benchmarks.bare_landmarks", *map(str, share)] for share in shares], cores)


def _run(commands: Sequence[Sequence[str]], cores: int) -> Run:
    """Run commands that print {"frames": …} side by side on so many cores."""
    allowed = ",".join(map(str, sorted(os.sched_getaffinity(0))[:cores]))
    before, started = resource.getrusage(resource.RUSAGE_CHILDREN), time.perf_counter()
    processes = [
        subprocess.Popen(
            ["taskset", "-c", allowed, *command], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, cwd=ROOT
        )
        for command in commands
    ]
    frames = sum(json.loads(process.communicate()[0])["frames"] for process in processes)
    elapsed, after = time.perf_counter() - started, resource.getrusage(resource.RUSAGE_CHILDREN)
    return Run(frames, elapsed, after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime)


if __name__ == "__main__":
    main()
