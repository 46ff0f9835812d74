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
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any, Protocol

from model_registry.names import Modality
from orchestrator.jobs import Cause, Commands, Job, Outcome, failed, outcome_from_log
from orchestrator.trainer_process import Limits, Talker, how_it_died, last_object, listen, start, stop
from shared.errors import TrainerError

_JOBS_PER_WORKER = 500  # then it is replaced, whatever its libraries may have kept
_FAREWELL = 2.0  # seconds that an idle worker has to end by itself


@dataclass(frozen=True)
class ExitReason:
    """How a trainer ended that gave no answer."""

    cause: Cause
    reason: str
    exit_code: int
    transient: bool


class Trainer(Talker, Protocol):
    """A trainer that was started with `--worker`, wherever it runs."""

    def say(self, line: bytes) -> None:
        """Write to its standard input. Raises OSError when it is gone."""
        ...

    def close_stdin(self) -> None:
        """Close its standard input, after which it ends by itself."""
        ...

    def ended_within(self, seconds: float) -> bool:
        """Wait for it to end by itself."""
        ...

    def stop(self) -> None:
        """End it and all that it started, and let go of it."""
        ...

    def death(self, events: Path) -> ExitReason:
        """Say how it ended; it has closed its outputs."""
        ...


Start = Callable[[Modality], Trainer]  # raises OSError or TrainerError


class ProcessTrainer:
    """A trainer that is a child process."""

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

    def say(self, line: bytes) -> None:
        assert self._process.stdin is not None
        self._process.stdin.write(line)
        self._process.stdin.flush()

    def close_stdin(self) -> None:
        if self._process.stdin is not None:
            with contextlib.suppress(OSError):
                self._process.stdin.close()

    def ended_within(self, seconds: float) -> bool:
        with contextlib.suppress(subprocess.TimeoutExpired):
            self._process.wait(seconds)
        return self._process.poll() is not None

    def stop(self) -> None:
        stop(self._process)

    def death(self, events: Path) -> ExitReason:
        code = self._process.wait()
        return ExitReason("crashed", how_it_died(code, events), code, transient=code < 0)


def processes(commands: Commands, environment: Mapping[str, str]) -> Start:
    """Return what starts trainers as child processes."""

    def begin(modality: Modality) -> Trainer:
        return ProcessTrainer(start((*commands[modality], "--worker"), environment, talks=True))

    return begin


@dataclass
class Worker:
    """One warm trainer. `clean` tells whether it can take another job."""

    modality: Modality
    trainer: Trainer
    jobs: int = 0
    clean: bool = True


class WorkerPool:
    """Workers by modality, started when needed, at most `most` at a time; safe to use from several threads."""

    def __init__(self, start: Start, most: int, jobs_each: int = _JOBS_PER_WORKER) -> None:
        self._start = start
        self._most = most
        self._jobs_each = jobs_each
        self._lock = threading.Lock()
        self._idle: list[Worker] = []  # the one used longest ago first
        self._alive = 0

    def take(self, modality: Modality) -> Worker:
        """Return an idle worker of `modality`, or a new one, for which another idle one makes room.

        Raises OSError or TrainerError when none can be started.
        """
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
            trainer = self._start(modality)
        except (OSError, TrainerError):
            with self._lock:
                self._alive -= 1
            raise
        return Worker(modality, trainer)

    def give_back(self, worker: Worker) -> None:
        """Keep the worker for the next job, unless it is broken or has done enough."""
        keep = worker.clean and worker.jobs < self._jobs_each
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
            worker.trainer.close_stdin()
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
    except TrainerError as error:
        return failed(job, "engine", str(error)), None
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
    with contextlib.suppress(OSError):  # it died while idle: told below
        worker.trainer.say(request.encode())
    broken, output = listen(worker.trainer, events, limits, cancelled, lambda output: _reply(output) is not None)
    seconds = time.monotonic() - begun
    if broken is not None:
        worker.trainer.stop()
        return failed(job, *broken, seconds=seconds), None
    log = _reply(output)
    if log is None:
        death = worker.trainer.death(events)
        return failed(job, death.cause, death.reason, death.exit_code, seconds, transient=death.transient), None
    exit_code = log.pop("exit_code")
    return outcome_from_log(job, log, exit_code, seconds), log


def _reply(output: bytes) -> dict[str, Any] | None:
    """Return the training log entry, which is the last line; other output of a library's is no answer."""
    value = last_object(output)
    return value if value is not None and isinstance(value.get("exit_code"), int) and "status" in value else None


def _dismiss(worker: Worker) -> None:
    worker.trainer.close_stdin()
    if worker.clean:
        worker.trainer.ended_within(_FAREWELL)
    worker.trainer.stop()
