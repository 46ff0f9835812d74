"""Runs a plan's jobs on a backend: retries transient failures, carries on after others, and stops on signals."""

from __future__ import annotations

import heapq
import signal
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from types import FrameType

from orchestrator.backends import Backend
from orchestrator.jobs import Job, Outcome
from orchestrator.run_folder import RunFolder

_POLL_SECONDS = 0.2  # between checks for signals
_MAX_BACKOFF = 60.0  # seconds


@dataclass(frozen=True)
class Control:
    """How a batch handles failures and signals."""

    retries: int = 2  # further attempts, after transient failures only
    backoff: float = 1.0  # seconds before the first retry; doubled each time
    max_failures: int | None = None  # after so many failed jobs no further one starts
    fail_fast: bool = False  # the first failure ends the batch, running jobs included
    drain_seconds: float = 60.0  # that running jobs have to finish after SIGTERM


@dataclass(frozen=True, order=True)
class _Retry:
    """A failed job that will be retried, and when."""

    when: float
    job: Job = field(compare=False)
    outcome: Outcome = field(compare=False)


@dataclass
class Stop:
    """The signals received: after one SIGTERM running jobs may finish, after anything more they are ended."""

    signals: list[int] = field(default_factory=list)
    since: float = 0.0

    @property
    def requested(self) -> bool:
        return bool(self.signals)

    @property
    def exit_code(self) -> int:
        return 128 + self.signals[0] if self.signals else 0

    def ends_running_jobs(self, drain_seconds: float) -> bool:
        """Return whether running jobs must end now."""
        if not self.signals:
            return False
        drained = time.monotonic() - self.since > drain_seconds
        return self.signals[0] == signal.SIGINT or len(self.signals) > 1 or drained


@contextmanager
def stopped_by_signals() -> Iterator[Stop]:
    """Within the block, SIGINT and SIGTERM are recorded instead of ending this process."""
    stop = Stop()

    def record(number: int, _: FrameType | None) -> None:
        stop.since = stop.since or time.monotonic()
        stop.signals.append(number)

    before = {number: signal.signal(number, record) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield stop
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def run_batch(
    jobs: Iterable[Job],
    backend: Backend,
    folder: RunFolder,
    control: Control,
    stop: Stop,
    on_end: Callable[[Outcome], None],
) -> None:
    """Run the jobs; `on_end` is called with the outcome of each as soon as it has ended for good.

    Jobs that never started, because the batch was stopped or too many failed, have no outcome.
    """
    waiting = deque(jobs)
    retries: list[_Retry] = []
    attempts: dict[tuple[str, str], int] = {}
    running: dict[tuple[str, str], Job] = {}
    failures = 0

    def record_end(outcome: Outcome) -> None:
        folder.record("finished", outcome.model_dump())
        on_end(outcome)

    while waiting or retries or running:
        closing = stop.requested or _too_many(control, failures)
        if closing:
            waiting.clear()
            while retries:
                record_end(retries.pop().outcome)
        if stop.ends_running_jobs(control.drain_seconds) or (control.fail_fast and failures):
            backend.cancel()
        while retries and retries[0].when <= time.monotonic():
            waiting.appendleft(heapq.heappop(retries).job)
        while waiting and len(running) < backend.slots:
            job = waiting.popleft()
            running[job.user, job.modality] = job
            backend.submit(job)
        if not running:
            time.sleep(_POLL_SECONDS / 4)  # only retries are left
            continue
        outcome = backend.wait(_POLL_SECONDS)
        if outcome is None:
            continue
        key = (outcome.user, outcome.modality)
        job = running.pop(key)
        attempts[key] = attempts.get(key, 0) + 1
        outcome = outcome.model_copy(update={"attempts": attempts[key]})
        if outcome.transient and attempts[key] <= control.retries and not closing:
            pause = min(control.backoff * 2 ** (attempts[key] - 1), _MAX_BACKOFF)
            heapq.heappush(retries, _Retry(time.monotonic() + pause, job, outcome))
            folder.record("retry", {"user": job.user, "modality": job.modality, "reason": outcome.line})
            continue
        failures += not outcome.succeeded
        record_end(outcome)


def _too_many(control: Control, failures: int) -> bool:
    most = 1 if control.fail_fast else control.max_failures
    return most is not None and failures >= most
