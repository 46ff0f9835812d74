"""Speed of the orchestrator: `make bench`.

Warm workers against cold processes on small real jobs, orchestration overhead per job, memory over many jobs, two Dask
workers against one, and the time of `--help`. Pairs are measured in the same run, so that their ratios are meaningful
on a busy machine, too. Results are appended to benchmarks/results/batches.jsonl.
"""

from __future__ import annotations

import json
import os
import resource
import shutil
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, contextmanager
from functools import partial
from pathlib import Path
from statistics import mean
from typing import Any

import click
import psutil

from benchmarks.real_data import ROOT
from benchmarks.speed import machine
from orchestrator.backends.dask_cluster import DaskBackend
from orchestrator.backends.dask_job import DaskSpec
from orchestrator.backends.process import ThreadedBackend
from orchestrator.batch import Control, Stop, run_batch
from orchestrator.jobs import Commands, Job, Outcome
from orchestrator.run_folder import RunFolder
from orchestrator.trainer_process import Limits, child_environment
from orchestrator.workers import WorkerPool, start_processes
from shared.trainers import modality_names

RESULTS = ROOT / "benchmarks" / "results" / "batches.jsonl"
_SAMPLES = 20  # of each small job


@click.command()
@click.option(
    "--only",
    multiple=True,
    type=click.Choice(["warm", "overhead", "memory", "dask", "help"]),
    help="Measure this only; can be repeated.",
)
@click.option("--users", default=10, show_default=True, help="Users in the comparison of warm and cold.")
@click.option("--jobs", default=10_000, show_default=True, help="Jobs over which memory is measured.")
def main(only: tuple[str, ...], users: int, jobs: int) -> None:
    """Measure the speed of batches.

    \b
    Example:
      python -m benchmarks.batches --only warm --users 3
    """
    rows: dict[str, Any] = {}
    with tempfile.TemporaryDirectory() as folder:
        place = Path(folder)
        for name in only or ("help", "overhead", "memory", "dask", "warm"):
            measure = {"warm": lambda: _warm(place, users), "memory": lambda: _memory(place, jobs)}.get(name)
            other = {"overhead": lambda: _overhead(place), "dask": lambda: _dask(place), "help": _help}
            rows[name] = (measure or other[name])()
            click.echo(f"{name}: {json.dumps(rows[name])}")
    RESULTS.parent.mkdir(parents=True, exist_ok=True)
    with RESULTS.open("a") as file:
        file.write(json.dumps({"time": time.strftime("%Y-%m-%d"), "machine": machine(), **rows}) + "\n")
    click.echo(f"appended to {RESULTS.relative_to(ROOT)}")


def _warm(place: Path, users: int) -> dict[str, Any]:
    """Train small jobs of all modalities, warm and cold, after a first batch that fills the cache of embeddings.

    `steady` leaves out the jobs for which a worker had to be started, which do not matter in a batch of thousands.
    """
    data, slots = _small_users(place / "data", users), 2
    _launch(place, data, slots, ["--warm"])
    walls, processor, seconds = {}, {}, {}
    for name in ("warm", "cold"):
        walls[name], processor[name] = _launch(place, data, slots, [f"--{name}", "--force"])
        seconds[name] = _job_seconds(place / "runs", slots if name == "warm" else 0)
    means = {name: sum(map(mean, rows.values())) / len(rows) for name, rows in seconds.items()}
    jobs = users * len(modality_names())
    return {
        "jobs": jobs,
        "samples_a_job": _SAMPLES,
        "jobs_per_second_with_start": {name: round(jobs / wall, 3) for name, wall in walls.items()},
        "jobs_per_second_steady": {name: round(slots / value, 3) for name, value in means.items()},
        "ratio_steady": round(means["cold"] / means["warm"], 2),
        "processor_seconds_a_job_with_start": {name: round(value / jobs, 3) for name, value in processor.items()},
        "seconds_a_job": {name: {m: round(mean(v), 3) for m, v in rows.items()} for name, rows in seconds.items()},
    }


def _job_seconds(runs: Path, starts: int) -> dict[str, list[float]]:
    """Return the seconds of each modality's jobs without the `starts` longest, for which workers were started."""
    by_modality: dict[str, list[float]] = {}
    for line in (runs / "journal.jsonl").read_text().splitlines():
        event = json.loads(line)
        if event["event"] == "finished":
            by_modality.setdefault(event["modality"], []).append(event["seconds"])
    return {modality: sorted(seconds)[: len(seconds) - starts] for modality, seconds in by_modality.items()}


def _launch(place: Path, data: Path, slots: int, options: Sequence[str]) -> tuple[float, float]:
    """Run a batch; return its elapsed seconds, and the CPU seconds of the batch and all its trainers."""
    words = [
        "--data",
        str(data),
        "--runs",
        str(place / "runs"),
        "--registry",
        str(place / "registry"),
        "--jobs",
        str(slots),
    ]
    environment = os.environ | {"MODEL_TRAINER_CACHE": str(place / "cache"), "PYTHONPATH": str(ROOT)}
    started, before = time.perf_counter(), resource.getrusage(resource.RUSAGE_CHILDREN)
    command = [sys.executable, "-m", "orchestrator.launch", *words, "--demo-data", *options]
    done = subprocess.run(command, check=False, capture_output=True, text=True, env=environment, cwd=ROOT)
    if done.returncode:
        raise click.ClickException(done.stdout[-2000:] + done.stderr[-2000:])
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    processor = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    return time.perf_counter() - started, processor


def _small_users(root: Path, users: int) -> Path:
    """Return a data root of many users, each with 20 samples of each modality: two labels, two sessions."""
    subprocess.run([sys.executable, "-m", "demo.make_data", str(root.parent / "demo")], check=True, cwd=ROOT)
    source = sorted((root.parent / "demo" / "users").iterdir())[0]
    for number in range(users):
        name = f"user{number}"
        for session in sorted((source / "sessions").iterdir())[:2]:
            target = root / "users" / name / "sessions" / session.name
            shutil.copytree(session, target)
            metadata = json.loads((session / "session.json").read_text())
            (target / "session.json").write_text(json.dumps({**metadata, "user_id": name}))
            lines = [json.loads(line) for line in (session / "examples.jsonl").read_text().splitlines()]
            chosen = [{**line, "user_id": name} for line in _few(lines)]
            (target / "examples.jsonl").write_text("".join(json.dumps(line) + "\n" for line in chosen))
    return root


def _few(lines: list[dict[str, Any]]) -> Iterator[dict[str, Any]]:
    """Yield five samples of each of the first two labels of each modality."""
    labels: dict[str, list[str]] = {
        modality: sorted({line["label"] for line in lines if line["modality"] == modality})[:2]
        for modality in modality_names()
    }
    taken: Counter[tuple[str, str]] = Counter()
    for line in lines:
        key = (line["modality"], line["label"])
        if line["label"] in labels[line["modality"]] and taken[key] < _SAMPLES // 4:
            taken[key] += 1
            yield line


def _idle_commands(seconds: float) -> Commands:
    script = str(ROOT / "benchmarks" / "idle_trainer.py")
    return {modality: (sys.executable, script, str(seconds)) for modality in modality_names()}


def _idle_jobs(data: Path, count: int) -> list[Job]:
    data.mkdir(exist_ok=True)
    modalities = modality_names()
    return [
        Job(
            user=f"user{number // len(modalities)}",
            modality=modalities[number % len(modalities)],
            data=str(data),
            fingerprint="a.b.c",
        )
        for number in range(count)
    ]


@contextmanager
def _processes(folder: RunFolder, slots: int) -> Iterator[ThreadedBackend]:
    commands, environment = _idle_commands(0), child_environment(1)
    pool = WorkerPool(start_processes(commands, environment), max(slots, len(commands)))
    backend = ThreadedBackend(folder, commands, lambda job, outcome: outcome, slots, environment, Limits(), pool)
    with closing(backend):
        yield backend


def _overhead(place: Path, count: int = 1000) -> dict[str, Any]:
    """Run jobs that do nothing, one at a time: the time that remains is the orchestrator's overhead."""
    folder, jobs = RunFolder(place / "overhead"), _idle_jobs(place / "none", count)
    folder.begin({}, jobs)
    with _processes(folder, 1) as backend:
        run_batch(jobs[:8], backend, folder, Control(), Stop(), lambda _: None)  # starts the workers
        started = time.perf_counter()
        outcomes: list[Outcome] = []
        run_batch(jobs, backend, folder, Control(), Stop(), outcomes.append)
        seconds = time.perf_counter() - started
    assert all(outcome.succeeded for outcome in outcomes)
    return {"jobs": count, "ms_a_job": round(1000 * seconds / count, 3)}


def _memory(place: Path, count: int) -> dict[str, Any]:
    """Return the resident memory of this process after a tenth and after all of many jobs that do nothing."""
    folder, jobs = RunFolder(place / "memory"), _idle_jobs(place / "none", count)
    folder.begin({}, jobs)
    resident: list[int] = []
    process = psutil.Process()
    with _processes(folder, 2) as backend:
        run_batch(jobs, backend, folder, Control(), Stop(), lambda _: resident.append(process.memory_info().rss))
    tenth, end = resident[count // 10], resident[-1]
    return {"jobs": count, "mb_after_a_tenth": tenth >> 20, "mb_at_the_end": end >> 20, "ratio": round(end / tenth, 3)}


def _dask(place: Path, count: int = 60, seconds: float = 0.2) -> dict[str, Any]:
    """Return jobs per second of one and of two Dask workers; each job computes for a fifth of a second.

    As many bare processes, measured in the same run, show the most that the machine allows.
    """
    jobs = _idle_jobs(place / "none", count)
    rates: dict[str, dict[int, float]] = {"dask": {}, "bare": {}}
    for workers in (1, 2):
        rates["bare"][workers] = count / _bare(workers, count, seconds)
        folder = RunFolder(place / f"dask{workers}")
        folder.begin({}, jobs)
        spec = DaskSpec(runs=str(folder.root), commands=dict(_idle_commands(seconds)))
        with closing(DaskBackend(spec, None, workers, None)) as backend:
            run_batch(jobs[:8], backend, folder, Control(), Stop(), lambda _: None)
            started = time.perf_counter()
            outcomes: list[Outcome] = []
            run_batch(jobs, backend, folder, Control(), Stop(), outcomes.append)
            rates["dask"][workers] = count / (time.perf_counter() - started)
        assert all(outcome.succeeded for outcome in outcomes), outcomes[0].line
    return {
        "jobs": count,
        "jobs_per_second": {name: {k: round(v, 2) for k, v in row.items()} for name, row in rates.items()},
        **{f"ratio_{name}": round(row[2] / row[1], 2) for name, row in rates.items()},
    }


def _bare(workers: int, count: int, seconds: float) -> float:
    """Return the seconds that `workers` processes take for `count` jobs of `seconds` each, without an orchestrator."""
    command, lines = _idle_commands(seconds)["gesture"], "{}\n" * (count // workers)
    started = time.perf_counter()
    with ThreadPoolExecutor(workers) as pool:
        run = partial(subprocess.run, command, input=lines, check=True, capture_output=True, text=True)
        for done in [pool.submit(run) for _ in range(workers)]:
            done.result()
    return time.perf_counter() - started


def _help(runs: int = 5) -> dict[str, Any]:
    """Return the shortest time of `model-trainer --help` and of starting Python, in seconds."""
    commands = {
        "help": [str(Path(sys.executable).with_name("model-trainer")), "--help"],
        "python": [sys.executable, "-c", ""],
    }
    best = {}
    for name, command in commands.items():
        walls = []
        for _ in range(runs):
            started = time.perf_counter()
            subprocess.run(command, check=True, capture_output=True)
            walls.append(time.perf_counter() - started)
        best[name] = round(min(walls), 3)
    return best


if __name__ == "__main__":
    main()
