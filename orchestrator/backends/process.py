"""Jobs on this machine, with a thread for each: in warm workers, or in a new process for every job."""

from __future__ import annotations

import queue
import threading
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from orchestrator.attempt import Publish, attempt
from orchestrator.jobs import Commands, Job, Outcome, failed
from orchestrator.run_folder import RunFolder
from orchestrator.trainer_process import Limits, run_once
from orchestrator.workers import WorkerPool, run_warm


class ThreadedBackend:
    """Runs `slots` jobs at a time, with their files in the run folder; without a pool each job is a new process."""

    def __init__(
        self,
        folder: RunFolder,
        commands: Commands,
        publish: Publish,
        slots: int,
        environment: Mapping[str, str],
        limits: Limits,
        pool: WorkerPool | None,
    ) -> None:
        self.slots = slots
        self._folder = folder
        self._commands = commands
        self._publish = publish
        self._environment = environment
        self._limits = limits
        self._pool = pool
        self._cancelled = threading.Event()
        self._ended: queue.SimpleQueue[Outcome] = queue.SimpleQueue()
        self._threads = ThreadPoolExecutor(slots, thread_name_prefix="job")

    def submit(self, job: Job) -> None:
        self._threads.submit(self._run, job)

    def wait(self, seconds: float) -> Outcome | None:
        try:
            return self._ended.get(timeout=seconds)
        except queue.Empty:
            return None

    def cancel(self) -> None:
        self._cancelled.set()

    def close(self) -> None:
        self._cancelled.set()
        self._threads.shutdown(wait=True)
        if self._pool is not None:
            self._pool.close()

    def _run(self, job: Job) -> None:
        if self._cancelled.is_set():
            self._ended.put(failed(job, "cancelled", "the batch was stopped"))
        else:
            self._folder.record("started", {"user": job.user, "modality": job.modality})
            self._ended.put(attempt(job, self._folder, self._commands, self._train, self._publish))

    def _train(self, job: Job, command: tuple[str, ...], events: Path) -> tuple[Outcome, dict[str, Any] | None]:
        if self._pool is not None:
            words = job.words(self._folder.bundles)
            return run_warm(job, words, self._pool, events, self._limits, self._cancelled)
        return run_once(job, command, events, self._environment, self._limits, self._cancelled)
