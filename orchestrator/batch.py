"""Runs a plan's jobs on a backend, keeps going when one fails, and stops when told to."""

from __future__ import annotations

import signal
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from types import FrameType

from orchestrator.backends import Backend
from orchestrator.jobs import Job, Outcome
from orchestrator.run_folder import RunFolder

_LOOK = 0.2  # seconds between looks at whether a signal came


@dataclass
class Stop:
    """Whether a signal asked the batch to stop, and which."""

    signal: int = 0

    @property
    def exit_code(self) -> int:
        return 128 + self.signal if self.signal else 0


@contextmanager
def stopped_by_signals() -> Iterator[Stop]:
    """Within the block, SIGINT and SIGTERM are noted instead of ending this process."""
    stop = Stop()

    def note(number: int, _: FrameType | None) -> None:
        stop.signal = stop.signal or number

    before = {number: signal.signal(number, note) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield stop
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def run_batch(
    jobs: Iterable[Job], backend: Backend, folder: RunFolder, stop: Stop, ended: Callable[[Outcome], None]
) -> list[Outcome]:
    """Run every job and return how each ended, in the order in which they ended.

    `ended` hears of each outcome at once. When `stop` is set no further job starts and running ones are ended.
    """
    waiting = deque(jobs)
    running = 0
    outcomes: list[Outcome] = []
    try:
        while waiting or running:
            if stop.signal:
                waiting.clear()
                backend.cancel()
            while waiting and running < backend.slots:
                backend.submit(waiting.popleft())
                running += 1
            outcome = backend.wait(_LOOK) if running else None
            if outcome is not None:
                running -= 1
                outcomes.append(outcome)
                folder.note("finished", outcome.model_dump())
                ended(outcome)
    finally:
        backend.close()
    return outcomes
