"""Warm workers: one process for many jobs, and a crash that costs its own job only."""

from __future__ import annotations

import json
import os
import threading
from pathlib import Path

import psutil
import pytest

from orchestrator.jobs import Job, trainer_commands
from orchestrator.plan import BatchSpec, make_plan
from orchestrator.trainer_process import Limits
from orchestrator.workers import WorkerPool, run_warm, start_processes
from shared.data_loader import users_with_data
from tests.orchestrator.orchestrated import Place


@pytest.fixture
def pool(place: Place) -> WorkerPool:
    return WorkerPool(start_processes(trainer_commands(place.root / "commands.json"), place.environment()), 2)


def _jobs(place: Place, *users: str) -> list[Job]:
    for user in users:
        place.add(user)
    return list(make_plan(BatchSpec(data=place.data), users_with_data(place.data), []).jobs)


def _run(place: Place, pool: WorkerPool, job: Job, limits: Limits | None = None) -> tuple[str, str]:
    events = place.root / f"{job.user}.jsonl"
    words = job.words(place.root / "bundles")
    outcome, log = run_warm(job, words, pool, events, limits or Limits(), threading.Event())
    assert (log is None) == (outcome.cause in ("crashed", "timeout", "memory", "cancelled"))
    return outcome.cause, outcome.reason


def _children() -> list[psutil.Process]:
    return psutil.Process().children()


@pytest.mark.slow
def test_one_process_trains_many_users_and_each_job_has_its_own_events(place: Place, pool: WorkerPool) -> None:
    before = set(_children())
    jobs = _jobs(place, "ana", "ben", "cleo")
    assert [_run(place, pool, job) for job in jobs] == [("", "")] * 3
    assert len(set(_children()) - before) == 1
    for job in jobs:
        events = [json.loads(line) for line in (place.root / f"{job.user}.jsonl").read_text().splitlines()]
        assert [(event["stage"], event["job"]) for event in events] == [
            (stage, job.name) for stage in ("load", "fit", "bundle")
        ]
    pool.close()
    assert set(_children()) <= before


@pytest.mark.slow
def test_a_failure_leaves_the_worker_and_a_crash_costs_one_job(place: Place, pool: WorkerPool) -> None:
    place.set_behaviours({"ana speech": "data", "ben speech": "kill", "cleo speech": "silent"})
    jobs = _jobs(place, "ana", "ben", "cleo", "dora")
    ended = [_run(place, pool, job) for job in jobs]
    assert [cause for cause, _ in ended] == ["data", "crashed", "crashed", ""]
    assert ended[0][1] == "made to fail: data"
    assert "SIGKILL" in ended[1][1]
    assert "exit code 1" in ended[2][1] and "Segmentation fault" in ended[2][1]
    pool.close()


@pytest.mark.slow
def test_a_worker_over_its_limit_is_ended_and_replaced(place: Place, pool: WorkerPool) -> None:
    place.set_behaviours({"ana speech": "hang", "ben speech": "hog"})
    jobs = _jobs(place, "ana", "ben", "cleo")
    limits = [Limits(seconds=1), Limits(memory=300 << 20), Limits(memory=300 << 20)]
    ended = [_run(place, pool, job, limit) for job, limit in zip(jobs, limits, strict=True)]
    assert [cause for cause, _ in ended] == ["timeout", "memory", ""]
    pool.close()


@pytest.mark.slow
def test_an_idle_worker_makes_room_for_another_modality(place: Place, pool: WorkerPool) -> None:
    before = set(_children())
    for modality in ("speech", "gesture", "sound", "speech"):
        worker = pool.take(modality)
        pool.give_back(worker)
        assert len(set(_children()) - before) <= 2
    pool.close()
    assert set(_children()) <= before


def test_a_trainer_that_cannot_be_started_fails_its_job(place: Place) -> None:
    (job,) = _jobs(place, "ana")
    pool = WorkerPool(start_processes({"speech": (str(Path(os.devnull)),)}, place.environment()), 1)
    outcome, _ = run_warm(job, (), pool, place.root / "events", Limits(), threading.Event())
    assert outcome.cause in ("internal", "crashed")
    pool.close()


@pytest.mark.slow
def test_warm_and_cold_batches_publish_the_same(place: Place) -> None:
    for user in ("ana", "ben", "cleo"):
        place.add(user, ["speech", "gesture"])
    assert place.launch("--warm", "--jobs", "2").returncode == 0
    warm = {entry.user_id: entry.artifact_hash for entry in place.registry.entries()}
    assert place.launch("--cold", "--jobs", "2", "--force").returncode == 0
    assert {versions[-1] for versions in place.versions().values()} == {"v2"}
    assert {entry.user_id: entry.artifact_hash for entry in place.registry.entries()} == warm
