"""How time and memory grow: `make bench-growth`.

Processor seconds and peak memory of a gesture trainer on synthetic vectors and sequences, one size changed at a time,
each in a process of its own and without a cache; and milliseconds of the registry by versions of one user and by users.
Prints tables in Markdown and appends them to benchmarks/results/growth.jsonl.
"""

from __future__ import annotations

import json
import multiprocessing
import resource
import tempfile
import time
from concurrent.futures import ProcessPoolExecutor
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import click
import numpy as np
from numpy.typing import NDArray

import model_trainer
from benchmarks.real_data import ROOT
from benchmarks.registry_speed import fill, make_bundle, measure_versions, milliseconds
from benchmarks.speed import machine
from model_registry.store import Registry

RESULTS = ROOT / "benchmarks" / "results" / "growth.jsonl"
REGISTRY = ("versions", "users")


@dataclass(frozen=True)
class Size:
    """What a trainer gets: vectors of `width` numbers, or sequences of `length` frames of them."""

    samples: int = 300
    labels: int = 6
    width: int = 64
    length: int = 1
    sessions: int = 5


@dataclass(frozen=True)
class Cost:
    """What a process took, with its imports."""

    processor_seconds: float
    peak_mb: float


GROWTH = {  # size -> values; the last is measured with --full only
    "samples": (100, 300, 1000, 3000, 10_000),
    "labels": (4, 12, 40, 120),
    "width": (64, 256, 768, 1536),
    "length": (1, 16, 64, 256),
    "sessions": (2, 5, 20, 60),
}
VERSIONS = (10, 300, 1000)
USERS = (100, 1000, 10_000)
START = {"labels": Size(samples=900), "length": Size(width=16)}  # the other sizes, where they are not those of `Size`


@click.command()
@click.option(
    "--only", multiple=True, type=click.Choice([*GROWTH, *REGISTRY]), help="Measure this only; can be repeated."
)
@click.option("--full", is_flag=True, help="Measure the largest of each as well.")
def main(only: tuple[str, ...], full: bool) -> None:
    """Measure how time and memory grow.

    \b
    Example:
      python -m benchmarks.growth --only width --full
    """
    rows: dict[str, Any] = {}
    for name in only or (*GROWTH, *REGISTRY):
        if name in REGISTRY:
            rows[name] = _registry(name, full)
        else:
            rows[name] = _trainer(name, full)
    RESULTS.parent.mkdir(parents=True, exist_ok=True)
    with RESULTS.open("a") as file:
        file.write(json.dumps({"time": time.strftime("%Y-%m-%d"), "machine": machine(), "rows": rows}) + "\n")
    click.echo(f"appended to {RESULTS.relative_to(ROOT)}", err=True)


def _trainer(name: str, full: bool) -> dict[int, dict[str, float]]:
    start = START.get(name, Size())
    others = ", ".join(f"{key} {value}" for key, value in asdict(start).items() if key != name)
    click.echo(f"\n| {name} ({others}) | processor s | peak MB |\n|---|---|---|")
    rows = {}
    for value in GROWTH[name] if full else GROWTH[name][:-1]:
        cost = in_a_process_of_its_own(replace(start, **{name: value}))
        rows[value] = asdict(cost)
        click.echo(f"| {value:,} | {cost.processor_seconds:.1f} | {cost.peak_mb:.0f} |")
    return rows


def in_a_process_of_its_own(size: Size) -> Cost:
    """Return what training takes in a new process."""
    with ProcessPoolExecutor(1, multiprocessing.get_context("spawn")) as pool:
        return pool.submit(train, size).result()


def train(size: Size) -> Cost:
    """Train, and return what this process has taken since it began."""
    samples, labels, sessions = synthetic(size)
    model_trainer.train("gesture", samples, labels, sessions=sessions, user_id="made", consent=True, cache=False)
    usage = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    return Cost(sum(each.ru_utime + each.ru_stime for each in usage), max(each.ru_maxrss for each in usage) / 1000)


def synthetic(size: Size) -> tuple[list[NDArray[np.float32]], list[str], list[str]]:
    """Return samples, (D,) or (T, D) float32, their labels and sessions: labels differ, and sessions a little."""
    random = np.random.default_rng(0)
    centres = random.normal(size=(size.labels, size.length, size.width))
    shifts = random.normal(0, 0.3, size=(size.sessions, 1, size.width))
    labels = [k % size.labels for k in range(size.samples)]
    sessions = [k // size.labels % size.sessions for k in range(size.samples)]
    noise = random.normal(size=(size.samples, size.length, size.width))
    samples = (centres[labels] + shifts[sessions] + noise).astype(np.float32)
    return (
        [frames[0] if size.length == 1 else frames for frames in samples],
        [f"label{label}" for label in labels],
        [f"session{session}" for session in sessions],
    )


def _registry(name: str, full: bool) -> dict[int, dict[str, float]]:
    rows = {}
    for value in VERSIONS if name == "versions" else USERS if full else USERS[:-1]:
        with tempfile.TemporaryDirectory() as folder:
            rows[value] = (measure_versions if name == "versions" else measure_users)(Path(folder), value)
        if len(rows) == 1:
            headings = [name, *(f"{key}, ms" for key in rows[value])]
            click.echo(f"\n| {' | '.join(headings)} |\n|{'---|' * len(headings)}")
        click.echo(f"| {value:,} | {' | '.join(f'{each:.1f}' for each in rows[value].values())} |")
    return rows


def measure_users(work: Path, users: int) -> dict[str, float]:
    """Return the median milliseconds of what is done with one of many users, who have four versions each."""
    store = Registry(work / "registry")
    fill(store.created(), users, 4)
    spread = [f"user{number * users // 20:06d}" for number in range(20)]
    bundles = [make_bundle(work / user, user, "new") for user in spread]
    time.sleep(2.5)  # files that changed within the last two seconds are read again each time
    return {
        "publish": milliseconds(lambda n: store.publish(bundles[n]), len(bundles)),
        "resolve": milliseconds(lambda n: store.resolve(spread[n], "gesture"), len(spread)),
        "list of the user": milliseconds(lambda n: list(store.entries(user=spread[n])), len(spread)),
    }


if __name__ == "__main__":
    main()
