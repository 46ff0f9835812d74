"""Warm workers: trainers that stay, so that libraries and encoders are loaded once for many jobs.

A worker is the trainer's command with `--worker`. It reads one JSON object a line, `{"args": [...], "job": name}`, and
answers each with one line, the training log entry, with the `exit_code` that the command would have had. It trains
one job at a time; when it crashes, that job is lost and nothing else.
"""

from __future__ import annotations

import contextlib
import json
import subprocess
import threading
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from model_registry.names import Modality
from orchestrator.jobs import Commands, Job, Outcome, failed, outcome_from_log
from orchestrator.trainer_process import Limits, how_it_died, last_object, listen, start, stop

_JOBS_PER_WORKER = 500  # then it is replaced, whatever its libraries may have kept
_FAREWELL = 2.0  # seconds that an idle worker has to end by itself


@dataclass
class Worker:
    """One warm trainer. `clean` tells whether it can take another job."""

    modality: Modality
    process: subprocess.Popen[bytes]
    jobs: int = 0
    clean: bool = True


class WorkerPool:
    """Workers by modality, started when needed, at most `most` at a time; safe to use from several threads."""

    def __init__(self, commands: Commands, environment: Mapping[str, str], most: int) -> None:
        self._commands = commands
        self._environment = environment
        self._most = most
        self._lock = threading.Lock()
        self._idle: list[Worker] = []  # the one used longest ago first
        self._alive = 0

    def take(self, modality: Modality) -> Worker:
        """Return an idle worker of `modality`, or a new one, for which another idle one makes room. Raises OSError."""
        with self._lock:
            for worker in reversed(self._idle):
                if worker.modality == modality:
                    self._idle.remove(worker)
                    return worker
            spare = self._idle.pop(0) if self._alive >= self._most and self._idle else None
            self._alive += spare is None
        if spare is not None:
            _dismiss(spare)
        try:
            process = start((*self._commands[modality], "--worker"), self._environment, talks=True)
        except OSError:
            with self._lock:
                self._alive -= 1
            raise
        return Worker(modality, process)

    def give_back(self, worker: Worker) -> None:
        """Keep the worker for the next job, unless it is broken or has done enough."""
        keep = worker.clean and worker.jobs < _JOBS_PER_WORKER
        with self._lock:
            if keep:
                self._idle.append(worker)
            else:
                self._alive -= 1
        if not keep:
            _dismiss(worker)

    def close(self) -> None:
        """End all idle workers."""
        with self._lock:
            idle, self._idle = self._idle, []
            self._alive -= len(idle)
        for worker in idle:
            _hang_up(worker)
        for worker in idle:
            _dismiss(worker)


def run_warm(
    job: Job,
    words: Sequence[str],
    pool: WorkerPool,
    events: Path,
    limits: Limits,
    cancelled: threading.Event,
) -> tuple[Outcome, dict[str, Any] | None]:
    """Run one job in a warm worker; return the outcome and its training log entry."""
    try:
        worker = pool.take(job.modality)
    except OSError as error:
        return failed(job, "internal", f"the trainer cannot be started: {error}"), None
    worker.clean = False
    try:
        outcome, log = _ask(job, words, worker, events, limits, cancelled)
        worker.clean = log is not None
        worker.jobs += 1
        return outcome, log
    finally:
        pool.give_back(worker)


def _ask(
    job: Job, words: Sequence[str], worker: Worker, events: Path, limits: Limits, cancelled: threading.Event
) -> tuple[Outcome, dict[str, Any] | None]:
    begun = time.monotonic()
    request = json.dumps({"args": list(words), "job": job.name}) + "\n"
    assert worker.process.stdin is not None
    with contextlib.suppress(BrokenPipeError):  # it died while idle: told below
        worker.process.stdin.write(request.encode())
        worker.process.stdin.flush()
    broken, output = listen(worker.process, events, limits, cancelled, lambda output: _reply(output) is not None)
    seconds = time.monotonic() - begun
    if broken is not None:
        stop(worker.process)
        return failed(job, *broken, seconds=seconds), None
    log = _reply(output)
    if log is None:
        exit_code = worker.process.wait()
        reason = how_it_died(exit_code, events)
        return failed(job, "crashed", reason, exit_code, seconds, transient=exit_code < 0), None
    exit_code = log.pop("exit_code")
    return outcome_from_log(job, log, exit_code, seconds), log


def _reply(output: bytes) -> dict[str, Any] | None:
    """Return the training log entry, which is the last line; other output of a library's is no answer."""
    value = last_object(output)
    return value if value is not None and isinstance(value.get("exit_code"), int) and "status" in value else None


def _hang_up(worker: Worker) -> None:
    if worker.process.stdin is not None:
        with contextlib.suppress(OSError):
            worker.process.stdin.close()


def _dismiss(worker: Worker) -> None:
    _hang_up(worker)
    if worker.clean:
        with contextlib.suppress(subprocess.TimeoutExpired):
            worker.process.wait(_FAREWELL)
    stop(worker.process)
