"""Runs a plan's jobs on a backend: retries what may go well, keeps going when one fails, and stops when told to."""

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

_LOOK = 0.2  # seconds between looks at whether a signal came
_LONGEST_BACKOFF = 60.0  # seconds


@dataclass(frozen=True)
class Control:
    """How a batch deals with failures and with being told to stop."""

    retries: int = 2  # further attempts, after transient failures only
    backoff: float = 1.0  # seconds before the first further attempt; doubled each time
    max_failures: int | None = None  # so many failed jobs, and no further one starts
    fail_fast: bool = False  # the first failure ends the batch, running jobs too
    drain_seconds: float = 60.0  # after SIGTERM running jobs have so long to finish


@dataclass(frozen=True, order=True)
class _Again:
    """A job that failed and is tried again, and when."""

    when: float
    job: Job = field(compare=False)
    outcome: Outcome = field(compare=False)


@dataclass
class Stop:
    """Signals that asked the batch to stop: the first SIGTERM lets running jobs finish, anything more does not."""

    signals: list[int] = field(default_factory=list)
    since: float = 0.0

    @property
    def asked(self) -> bool:
        return bool(self.signals)

    @property
    def exit_code(self) -> int:
        return 128 + self.signals[0] if self.signals else 0

    def at_once(self, drain_seconds: float) -> bool:
        """Say whether running jobs are to be ended now."""
        if not self.signals:
            return False
        drained = time.monotonic() - self.since > drain_seconds
        return self.signals[0] == signal.SIGINT or len(self.signals) > 1 or drained


@contextmanager
def stopped_by_signals() -> Iterator[Stop]:
    """Within the block, SIGINT and SIGTERM are noted instead of ending this process."""
    stop = Stop()

    def note(number: int, _: FrameType | None) -> None:
        stop.since = stop.since or time.monotonic()
        stop.signals.append(number)

    before = {number: signal.signal(number, note) for number in (signal.SIGINT, signal.SIGTERM)}
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
    ended: Callable[[Outcome], None],
) -> None:
    """Run the jobs; `ended` hears how each ended, at once.

    Jobs that were never started, because the batch was stopped or too many failed, have no outcome.
    """
    waiting = deque(jobs)
    later: list[_Again] = []
    attempts: dict[tuple[str, str], int] = {}
    running: dict[tuple[str, str], Job] = {}
    failures = 0

    def note_end(outcome: Outcome) -> None:
        folder.note("finished", outcome.model_dump())
        ended(outcome)

    while waiting or later or running:
        closing = stop.asked or _too_many(control, failures)
        if closing:
            waiting.clear()
            while later:
                note_end(later.pop().outcome)
        if stop.at_once(control.drain_seconds) or (control.fail_fast and failures):
            backend.cancel()
        while later and later[0].when <= time.monotonic():
            waiting.appendleft(heapq.heappop(later).job)
        while waiting and len(running) < backend.slots:
            job = waiting.popleft()
            running[job.user, job.modality] = job
            backend.submit(job)
        if not running:
            time.sleep(_LOOK / 4)  # all that is left is waiting for its next attempt
            continue
        outcome = backend.wait(_LOOK)
        if outcome is None:
            continue
        key = (outcome.user, outcome.modality)
        job = running.pop(key)
        attempts[key] = attempts.get(key, 0) + 1
        outcome = outcome.model_copy(update={"attempts": attempts[key]})
        if outcome.transient and attempts[key] <= control.retries and not closing:
            pause = min(control.backoff * 2 ** (attempts[key] - 1), _LONGEST_BACKOFF)
            heapq.heappush(later, _Again(time.monotonic() + pause, job, outcome))
            folder.note("again", {"user": job.user, "modality": job.modality, "reason": outcome.line})
            continue
        failures += not outcome.succeeded
        note_end(outcome)


def _too_many(control: Control, failures: int) -> bool:
    most = 1 if control.fail_fast else control.max_failures
    return most is not None and failures >= most
