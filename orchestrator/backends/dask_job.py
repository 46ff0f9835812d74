"""What runs on a Dask worker: one fixed function, which takes and returns JSON."""

from __future__ import annotations

import os
import threading
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict

from model_registry.location import open_writable_registry
from model_registry.names import Modality
from model_registry.promotion import PromotionPolicy
from orchestrator.attempt import attempt
from orchestrator.jobs import Commands, Job, Outcome, trainer_commands
from orchestrator.registry_uploader import publisher
from orchestrator.run_folder import RunFolder
from orchestrator.trainer_process import Limits, child_environment, run_once
from orchestrator.workers import WorkerPool, run_warm, start_processes

_lock = threading.Lock()
_pools: dict[str, WorkerPool] = {}  # by the trainers' commands
_stopped: dict[str, threading.Event] = {}  # by batch


class DaskSpec(BaseModel):
    """Everything that a worker needs for a job, with the paths of its machine."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    runs: str
    registry: str | None = None  # none: bundles stay in the run folder, for the uploader
    commands: dict[Modality, tuple[str, ...]] | None = None  # none: those of the trainers installed there
    seconds: float | None = None
    memory: int | None = None
    warm: bool = True
    promote: PromotionPolicy = "if-better"
    batch: str = ""
    job: Job | None = None


def train_job(spec_json: str) -> str:
    """Train and publish the job of a spec; return its outcome. Both are JSON."""
    spec = DaskSpec.model_validate_json(spec_json)
    if spec.job is None:
        raise ValueError("a spec without a job")
    folder = RunFolder(Path(spec.runs))
    folder.bundles.mkdir(parents=True, exist_ok=True)
    commands = spec.commands or trainer_commands()
    limits, stopped = Limits(spec.seconds, spec.memory), _stop_event(spec.batch)

    def train(job: Job, command: tuple[str, ...], events: Path) -> tuple[Outcome, dict[str, Any] | None]:
        if spec.warm:
            return run_warm(job, job.words(folder.bundles), _pool(commands), events, limits, stopped)
        return run_once(job, command, events, child_environment(1), limits, stopped)

    publish = _keep if spec.registry is None else publisher(open_writable_registry(spec.registry), spec.promote)
    return attempt(spec.job, folder, commands, train, publish).model_dump_json()


def _keep(job: Job, outcome: Outcome) -> Outcome:
    return outcome


def stop_batch(batch: str) -> None:
    """End this worker's jobs of a batch."""
    _stop_event(batch).set()


def close_idle() -> None:
    """End the idle warm trainers."""
    for pool in list(_pools.values()):
        pool.close()


def _stop_event(batch: str) -> threading.Event:
    with _lock:
        return _stopped.setdefault(batch, threading.Event())


def _pool(commands: Commands) -> WorkerPool:
    key = repr(sorted(commands.items()))
    with _lock:
        if key not in _pools:
            most = max(len(commands), os.cpu_count() or 1)
            _pools[key] = WorkerPool(start_processes(commands, child_environment(1)), most)
        return _pools[key]
