"""Warm workers: trainers that keep running, so that libraries and encoders are loaded once for many jobs.

A worker is the trainer's command with `--worker`. It reads one JSON object a line, `{"args": [...], "job": name}`, and
responds to each with one line: the training log entry, and the `exit_code` that the command would have had. It trains
one job at a time; if it crashes, that job is lost and nothing else.
"""

from __future__ import annotations

import contextlib
import json
import subprocess
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any, Protocol

from model_registry.names import Modality
from orchestrator.jobs import Cause, Commands, Job, Outcome, failed, outcome_from_log
from orchestrator.trainer_process import (
    Limits,
    RunningTrainer,
    collect_output,
    crash_reason,
    last_object,
    start,
    stop,
)
from shared.errors import TrainerError

_JOBS_PER_WORKER = 500  # then it is replaced, which frees whatever its libraries have kept
_CLOSE_SECONDS = 2.0  # that an idle worker has to end by itself


@dataclass(frozen=True)
class ExitReason:
    """How a trainer ended that did not respond."""

    cause: Cause
    reason: str
    exit_code: int
    transient: bool


class WorkerHandle(RunningTrainer, Protocol):
    """A trainer that was started with `--worker`, wherever it runs."""

    def send(self, line: bytes) -> None:
        """Write to its standard input. Raises OSError when it has ended."""
        ...

    def close_stdin(self) -> None:
        """Close its standard input, after which it ends by itself."""
        ...

    def wait(self, seconds: float) -> None:
        """Wait until it has ended by itself, at most `seconds`."""
        ...

    def stop(self) -> None:
        """End it and everything that it started, and release its pipes."""
        ...

    def exit_reason(self, events: Path) -> ExitReason:
        """Return how it ended, after it has closed its outputs."""
        ...


Start = Callable[[Modality], WorkerHandle]  # raises OSError or TrainerError


class WorkerProcess:
    """A worker that is a child process."""

    def __init__(self, process: subprocess.Popen[bytes]) -> None:
        self._process = process

    @property
    def pid(self) -> int:
        return self._process.pid

    @property
    def stdout(self) -> IO[bytes] | None:
        return self._process.stdout

    @property
    def stderr(self) -> IO[bytes] | None:
        return self._process.stderr

    def poll(self) -> int | None:
        return self._process.poll()

    def send(self, line: bytes) -> None:
        assert self._process.stdin is not None
        self._process.stdin.write(line)
        self._process.stdin.flush()

    def close_stdin(self) -> None:
        if self._process.stdin is not None:
            with contextlib.suppress(OSError):
                self._process.stdin.close()

    def wait(self, seconds: float) -> None:
        with contextlib.suppress(subprocess.TimeoutExpired):
            self._process.wait(seconds)

    def stop(self) -> None:
        stop(self._process)

    def exit_reason(self, events: Path) -> ExitReason:
        code = self._process.wait()
        return ExitReason("crashed", crash_reason(code, events), code, transient=code < 0)


def start_processes(commands: Commands, environment: Mapping[str, str]) -> Start:
    """Return a function that starts workers as child processes."""

    def start_worker(modality: Modality) -> WorkerHandle:
        return WorkerProcess(start((*commands[modality], "--worker"), environment, stdin=True))

    return start_worker


@dataclass
class Worker:
    """One warm trainer; `usable` says whether it can take another job."""

    modality: Modality
    handle: WorkerHandle
    jobs: int = 0
    usable: bool = True


class WorkerPool:
    """Workers by modality, started when needed, at most `most` at a time; safe for use from several threads."""

    def __init__(self, start: Start, most: int, jobs_each: int = _JOBS_PER_WORKER) -> None:
        self._start = start
        self._most = most
        self._jobs_each = jobs_each
        self._lock = threading.Lock()
        self._idle: list[Worker] = []  # least recently used first
        self._alive = 0

    def take(self, modality: Modality) -> Worker:
        """Return an idle worker of `modality`, or a new one, for which the least recently used one ends if need be.

        Raises OSError or TrainerError when none can be started.
        """
        with self._lock:
            for worker in reversed(self._idle):
                if worker.modality == modality:
                    self._idle.remove(worker)
                    return worker
            evicted = self._idle.pop(0) if self._alive >= self._most and self._idle else None
            self._alive += evicted is None
        if evicted is not None:
            _end(evicted)
        try:
            handle = self._start(modality)
        except (OSError, TrainerError):
            with self._lock:
                self._alive -= 1
            raise
        return Worker(modality, handle)

    def give_back(self, worker: Worker) -> None:
        """Keep the worker for the next job, unless it is unusable or has done its number of jobs."""
        keep = worker.usable and worker.jobs < self._jobs_each
        with self._lock:
            if keep:
                self._idle.append(worker)
            else:
                self._alive -= 1
        if not keep:
            _end(worker)

    def close(self) -> None:
        """End all idle workers."""
        with self._lock:
            idle, self._idle = self._idle, []
            self._alive -= len(idle)
        for worker in idle:
            worker.handle.close_stdin()
        for worker in idle:
            _end(worker)


def run_warm(
    job: Job,
    words: Sequence[str],
    pool: WorkerPool,
    events: Path,
    limits: Limits,
    cancelled: threading.Event,
) -> tuple[Outcome, dict[str, Any] | None]:
    """Run one job in a warm worker; return the outcome and the training log entry."""
    try:
        worker = pool.take(job.modality)
    except OSError as error:
        return failed(job, "internal", f"the trainer cannot be started: {error}"), None
    except TrainerError as error:
        return failed(job, "engine", str(error)), None
    worker.usable = False
    try:
        outcome, log = _run(job, words, worker.handle, events, limits, cancelled)
        worker.usable = log is not None
        worker.jobs += 1
        return outcome, log
    finally:
        pool.give_back(worker)


def _run(
    job: Job, words: Sequence[str], handle: WorkerHandle, events: Path, limits: Limits, cancelled: threading.Event
) -> tuple[Outcome, dict[str, Any] | None]:
    begun = time.monotonic()
    line = json.dumps({"args": list(words), "job": job.name}) + "\n"
    with contextlib.suppress(OSError):  # it ended while it was idle, which shows below
        handle.send(line.encode())
    violation, output = collect_output(handle, events, limits, cancelled, lambda output: _response(output) is not None)
    seconds = time.monotonic() - begun
    if violation is not None:
        handle.stop()
        return failed(job, *violation, seconds=seconds), None
    log = _response(output)
    if log is None:
        end = handle.exit_reason(events)
        return failed(job, end.cause, end.reason, end.exit_code, seconds, transient=end.transient), None
    exit_code = log.pop("exit_code")
    return outcome_from_log(job, log, exit_code, seconds), log


def _response(output: bytes) -> dict[str, Any] | None:
    """Return the training log entry on the last line; libraries may have printed other lines before it."""
    value = last_object(output)
    return value if value is not None and isinstance(value.get("exit_code"), int) and "status" in value else None


def _end(worker: Worker) -> None:
    worker.handle.close_stdin()
    if worker.usable:
        worker.handle.wait(_CLOSE_SECONDS)
    worker.handle.stop()
