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
from pathlib import Path

import click
import cv2
import matplotlib
import numpy as np
from rich.console import Console
from rich.table import Table

from benchmarks.real_data import ROOT

_FILMED = 30  # frames a second of the clips


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
    table = Table(title=f"{clips} clips of {seconds} s, {height} pixels high: frames a second, and of processor time")
    for name in ("cores", "extract", "bare", "ratio", "extract, CPU", "bare, CPU", "ratio, CPU"):
        table.add_column(name, justify="right")
    with tempfile.TemporaryDirectory() as folder:
        place = Path(folder)
        films = [_film(place / f"clip{number}.mp4", seconds, height, number) for number in range(clips)]
        for cores in (1, 2):
            ours, bare = [], []
            for number in range(rounds):
                ours.append(_extract(films, place / f"out{cores}-{number}", cores))
                bare.append(_bare(films, cores))
            cells = []
            for kind in (0, 1):  # elapsed seconds, processor seconds
                ratio = statistics.median(one[kind] / other[kind] for one, other in zip(ours, bare, strict=True))
                cells += [f"{statistics.median(row[kind] for row in rows):.1f}" for rows in (ours, bare)]
                cells.append(f"{ratio:.2f}")
            table.add_row(str(cores), *cells)
    Console(width=None if sys.stdout.isatty() else 120).print(table)


def _film(path: Path, seconds: int, height: int, seed: int) -> Path:
    """Write a clip of a photograph that sways, as a person before a camera does."""
    photograph = cv2.imread(str(Path(matplotlib.get_data_path()) / "sample_data" / "grace_hopper.jpg"))
    assert photograph is not None
    width, rng = height * 16 // 9, np.random.default_rng(seed)
    scale = height / photograph.shape[0]
    writer = cv2.VideoWriter(str(path), cv2.VideoWriter.fourcc(*"mp4v"), _FILMED, (width, height))
    for number in range(seconds * _FILMED):
        turn = 2 * np.pi * number / _FILMED / 3 + rng.normal(0, 0.01)
        left = (width - scale * photograph.shape[1]) / 2 + 0.1 * width * np.sin(turn)
        moved = np.array([[scale, 0, left], [0, scale, 0.03 * height * np.cos(turn)]])
        writer.write(cv2.warpAffine(photograph, moved, (width, height), borderValue=(90, 110, 120)))
    writer.release()
    return path


def _extract(films: Sequence[Path], out: Path, cores: int) -> tuple[float, float]:
    words = ["--out", str(out), "--no-cache", "--set", f"extraction.processes={cores}", *map(str, films)]
    return _rates([[sys.executable, "-m", "shared", "extract", *words]], cores)


def _bare(films: Sequence[Path], cores: int) -> tuple[float, float]:
    shares = [films[number::cores] for number in range(cores)]
    return _rates([[sys.executable, "-m", "benchmarks.bare_landmarks", *map(str, share)] for share in shares], cores)


def _rates(commands: Sequence[Sequence[str]], cores: int) -> tuple[float, float]:
    """Return frames a second, and frames a second of processor time, of commands that print {"frames": …}."""
    allowed = sorted(os.sched_getaffinity(0))[:cores]
    before, started = resource.getrusage(resource.RUSAGE_CHILDREN), time.perf_counter()
    processes = [
        subprocess.Popen(["taskset", "-c", ",".join(map(str, allowed)), *command], stdout=subprocess.PIPE, cwd=ROOT)
        for command in commands
    ]
    frames = sum(json.loads(process.communicate()[0])["frames"] for process in processes)
    elapsed, after = time.perf_counter() - started, resource.getrusage(resource.RUSAGE_CHILDREN)
    return frames / elapsed, frames / (after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime)


if __name__ == "__main__":
    main()
