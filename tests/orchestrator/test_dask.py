"""Batches on a Dask cluster: the same models, and nothing lost when a worker or the scheduler is killed."""

from __future__ import annotations

import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager

import psutil
import pytest

from shared.trainers import modality_names
from tests.orchestrator.orchestrated import Place

pytest.importorskip("distributed", reason="the dask extra is not installed")
pytestmark = pytest.mark.slow


def free_port() -> int:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        return int(taken.getsockname()[1])


@contextmanager
def _process(place: Place, *words: str) -> Iterator[subprocess.Popen[bytes]]:
    log = (place.root / f"{words[0]}.log").open("ab")
    process = subprocess.Popen(
        [sys.executable, "-m", "distributed.cli." + words[0], *words[1:]],
        env=place.environment(),
        stdout=log,
        stderr=log,
    )
    try:
        yield process
    finally:
        log.close()
        for child in [*psutil.Process(process.pid).children(recursive=True)] if process.poll() is None else []:
            child.kill()
        process.kill()
        process.wait(30)


def _scheduler(place: Place, port: int) -> list[str]:
    return ["dask_scheduler", "--host", "127.0.0.1", "--port", str(port), "--no-dashboard", "--no-show"]


def _worker(address: str) -> list[str]:
    return ["dask_worker", address, "--nworkers", "2", "--nthreads", "1", "--no-dashboard", "--death-timeout", "20"]


def test_a_cluster_started_for_the_batch_makes_the_same_models_as_processes(place: Place) -> None:
    for user in ("ana", "ben"):
        place.add(user, ["speech", "gesture"])
    place.set_behaviours({"ben gesture": "data"})
    done = place.launch("--backend", "dask", "--jobs", "2")
    assert done.returncode == 0, done.stderr
    assert "no model: ben gesture: data in fit: made to fail: data" in done.stdout
    assert set(place.versions()) == {"ana speech", "ana gesture", "ben speech"}
    dask = {(entry.user_id, entry.modality): entry.artifact_hash for entry in place.registry.entries()}
    assert place.launch("--force", "--jobs", "2").returncode == 0
    assert {(entry.user_id, entry.modality): entry.artifact_hash for entry in place.registry.entries()} == dask
    assert place.launch("--backend", "dask", "--users", "ana").returncode == 0
    assert place.summary()["jobs"] == 0 and place.summary()["up_to_date"] == 2


def test_killing_workers_and_the_scheduler_costs_no_version_and_makes_none_twice(place: Place) -> None:
    users = [f"user{number}" for number in range(10)]
    for user in users:
        place.add(user, modality_names())
    port = free_port()
    address = f"tcp://127.0.0.1:{port}"
    with _process(place, *_scheduler(place, port)) as scheduler, _process(place, *_worker(address)) as workers:
        batch = place.start("--scheduler", address, quiet=True)
        _wait_until_published(place, batch, 8)
        victim = next(child for child in psutil.Process(workers.pid).children() if "spawn" in " ".join(child.cmdline()))
        victim.send_signal(signal.SIGKILL)
        _wait_until_published(place, batch, 16)
        scheduler.send_signal(signal.SIGKILL)
        batch.wait(120)
        said = place.output.read_text()
        assert batch.returncode == 5, said
        assert "is gone; start it, then give the same command again" in said and "Traceback" not in said
    with _process(place, *_scheduler(place, port)), _process(place, *_worker(address)):
        done = place.launch("--scheduler", address, timeout=200)
        assert done.returncode == 0, done.stdout + done.stderr
    assert place.versions() == {f"{user} {modality}": ["v1"] for user in users for modality in modality_names()}
    assert [finding for finding in place.registry.doctor() if not finding.mended] == []
    assert [name for name, fault in place.registry.verify_all() if fault] == []


def _wait_until_published(place: Place, batch: subprocess.Popen[str], count: int) -> None:
    until = time.monotonic() + 120
    while sum(1 for _ in place.registry.root.glob("users/*/*/v1")) < count:
        assert batch.poll() is None
        assert time.monotonic() < until
        time.sleep(0.02)


def test_a_scheduler_that_is_not_there_is_a_usage_error(place: Place) -> None:
    place.add("ana")
    done = place.launch("--scheduler", f"tcp://127.0.0.1:{free_port()}", timeout=200)
    assert done.returncode == 2
    assert "--scheduler tcp://127.0.0.1" in done.stderr and "Traceback" not in done.stderr


def test_a_signal_ends_jobs_on_the_cluster(place: Place) -> None:
    place.add("ana")
    place.set_behaviours({"*": "hang"})
    batch = place.start("--backend", "dask", "--jobs", "1")
    children = psutil.Process(place.wait_for_trainer(batch)).children(recursive=True)
    batch.send_signal(signal.SIGINT)
    output, _ = batch.communicate(timeout=60)
    assert batch.returncode == 130
    assert "cancelled" in output
    assert psutil.wait_procs(children, timeout=15)[1] == []
