"""Time and memory of `import` and `check` on many short sounds, against decoding and copying them alone.

Run: .venv/bin/python -m benchmarks.importing [--count 10000] [--rate 44100] [--seconds 1]
"""

from __future__ import annotations

import shutil
import subprocess
import sys
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import click
import numpy as np
from scipy.io import wavfile

from model_registry.storage.durable import sync_tree

_MEASURED = """
import re, sys, time
from shared.commands.main import model_trainer
try:
    model_trainer(sys.argv[1:], standalone_mode=False)
finally:
    # The peak of this program: getrusage counts that of the process which started it as well.
    peak = int(re.search(r"VmHWM:\\s+(\\d+)", open("/proc/self/status").read())[1])
    print(time.process_time(), peak // 1024, file=sys.stderr)
"""


@dataclass(frozen=True)
class Cost:
    """Seconds on the clock and of the processor, and the peak of memory (MB), 0 where no command ran."""

    seconds: float
    processor: float
    megabytes: float = 0.0

    def line(self, name: str, decoding: Cost) -> str:
        """Return a line of the table, with ratios to decoding."""
        ratios = f"{self.seconds / decoding.seconds:6.2f}{self.processor / decoding.processor:11.2f}"
        memory = f"{self.megabytes:8.0f} MB" if self.megabytes else ""
        return f"{name:<24}{self.seconds:8.1f} s{self.processor:8.1f} s of processor{ratios}{memory}"


@click.command()
@click.option("--count", type=click.IntRange(100), default=10_000, show_default=True, help="Sounds.")
@click.option("--rate", type=click.IntRange(8000), default=44_100, show_default=True, help="Of the sounds, in Hz.")
@click.option("--seconds", type=click.FloatRange(0.1), default=1.0, show_default=True, help="That each sound lasts.")
def main(count: int, rate: int, seconds: float) -> None:
    """Print what importing and checking cost, and the ratios of both seconds to decoding on two threads."""
    with tempfile.TemporaryDirectory() as folder:
        source, data = Path(folder, "source"), Path(folder, "data")
        files = write_sounds(source, count, rate, seconds)
        decoding = cost_of_decoding(files)
        click.echo(decoding.line("decoding", decoding))
        click.echo(cost_of_copying(files, Path(folder, "copies")).line("copying", decoding))
        options = ("--data", data, "--modality", "sound", "--user", "ana", "--consent", "--session-size", "10")
        for name, words in {
            "import": ("import", source, *options),
            "import, linked": ("import", source, "--link", "--data", Path(folder, "linked"), *options[2:]),
            "import again": ("import", source, *options),
            "check, nothing cached": ("check", data),
            "check again": ("check", data),
        }.items():
            cache = Path(folder, {"import, linked": "linked"}.get(name, name.split()[0].strip(",")))
            click.echo(measured([str(word) for word in words], cache).line(name, decoding))


def write_sounds(folder: Path, count: int, rate: int, seconds: float) -> list[Path]:
    """Write `count` sounds of ten labels, each another tone in another noise."""
    files = []
    for number in range(count):
        random = np.random.default_rng(number)
        path = folder / f"label{number % 10}" / f"{number:06d}.wav"
        path.parent.mkdir(parents=True, exist_ok=True)
        tone = np.sin(np.arange(round(rate * seconds)) * 2 * np.pi * random.uniform(200, 2000) / rate)
        wavfile.write(path, rate, (8000 * tone + 500 * random.normal(size=len(tone))).astype(np.int16))
        files.append(path)
    return files


def cost_of_decoding(files: list[Path]) -> Cost:
    """Return what two threads take to decode the files as the sound trainer does."""
    from sound_trainer.preprocessing.decode import Decoding, read_wave

    decoding = Decoding()
    read_wave(files[0], decoding)  # what is loaded on first use
    started, processor = time.perf_counter(), time.process_time()
    with ThreadPoolExecutor(2) as pool:
        for _ in pool.map(lambda path: read_wave(path, decoding)[0].shape, files):
            pass
    return Cost(time.perf_counter() - started, time.process_time() - processor)


def cost_of_copying(files: list[Path], folder: Path) -> Cost:
    """Return what it takes to copy the files, until the copies are on the disk."""
    folder.mkdir()
    started, processor = time.perf_counter(), time.process_time()
    for file in files:
        shutil.copyfile(file, folder / file.name)
    sync_tree(folder)
    return Cost(time.perf_counter() - started, time.process_time() - processor)


def measured(words: list[str], cache: Path) -> Cost:
    """Return what a `model-trainer` command takes that succeeds, with its own cache."""
    started = time.perf_counter()
    done = subprocess.run(
        [sys.executable, "-c", _MEASURED, *words],
        check=True,
        capture_output=True,
        text=True,
        env={"MODEL_TRAINER_CACHE": str(cache), "PATH": "/usr/bin:/bin"},
    )
    processor, megabytes = map(float, done.stderr.splitlines()[-1].split())
    return Cost(time.perf_counter() - started, processor, megabytes)


if __name__ == "__main__":
    main()
