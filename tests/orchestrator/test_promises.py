"""Whatever is killed in the middle: once the same command has run again there is one whole version per job.

`MODEL_TRAINER_PROMISE_USERS` sets the number of users (four jobs each); the promise is given for 1,000.
"""

from __future__ import annotations

import os
import signal
import subprocess
import time

import psutil
import pytest

from shared.trainers import modality_names
from tests.orchestrator.orchestrated import Place

USERS = int(os.environ.get("MODEL_TRAINER_PROMISE_USERS", "40"))
PATIENCE = 60 + USERS  # seconds


def _fill(place: Place) -> list[str]:
    names = [f"user{number:04}" for number in range(USERS)]
    for name in names:
        place.add(name, modality_names())
    return names


def _published(place: Place) -> int:
    return sum(1 for _ in place.registry.root.glob("users/*/*/v1"))


def _wait_until_published(place: Place, batch: subprocess.Popen[str], count: int) -> None:
    until = time.monotonic() + PATIENCE
    while _published(place) < count:
        assert batch.poll() is None
        assert time.monotonic() < until
        time.sleep(0.02)


def _kept(place: Place, jobs: int) -> None:
    assert place.versions() and set(map(tuple, place.versions().values())) == {("v1",)}
    assert len(place.versions()) == jobs
    assert [finding for finding in place.registry.doctor() if not finding.mended] == []
    assert place.registry.doctor() == []  # the first call repaired what was killed in the middle
    assert [name for name, fault in place.registry.verify_all() if fault] == []


@pytest.mark.slow
def test_killing_workers_and_the_orchestrator_costs_no_version_and_makes_none_twice(place: Place) -> None:
    _fill(place)
    jobs = USERS * len(modality_names())
    for part in (1, 2, 3):
        batch = place.start("--jobs", "2", quiet=True)
        _wait_until_published(place, batch, jobs * part // 5)
        for worker in psutil.Process(batch.pid).children()[:2]:
            worker.send_signal(signal.SIGKILL)
        _wait_until_published(place, batch, jobs * (part + 1) // 5)
        batch.send_signal(signal.SIGKILL)
        batch.wait(30)
    done = place.launch("--jobs", "2", timeout=PATIENCE)
    assert done.returncode == 0, done.stdout
    summary = place.summary()
    assert summary["jobs"] + summary["up_to_date"] == jobs and summary["jobs"] < jobs
    _kept(place, jobs)


@pytest.mark.slow
def test_one_poisoned_user_never_stops_the_others(place: Place) -> None:
    names = _fill(place)
    place.set_behaviours({f"{names[3]} {modality}": "kill" for modality in modality_names()})
    done = place.launch("--jobs", "2", "--backoff", "0", timeout=PATIENCE)
    assert done.returncode == 1
    assert place.summary()["failed_by_cause"] == {"crashed": 4}
    _kept(place, (USERS - 1) * len(modality_names()))
