"""Where jobs run. A backend takes jobs and returns how each ended; the batch decides everything else."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from orchestrator.jobs import Job, Outcome


@dataclass(frozen=True)
class Tls:
    """Files in PEM format with which a cluster and its client authenticate each other."""

    ca: Path
    cert: Path
    key: Path


class Backend(Protocol):
    """Somewhere to run jobs."""

    @property
    def slots(self) -> int:
        """How many jobs it runs at once."""
        ...

    def submit(self, job: Job) -> None:
        """Take a job; it starts as soon as a slot is free."""
        ...

    def wait(self, seconds: float) -> Outcome | None:
        """Return how one submitted job ended, or None when none ended within `seconds`."""
        ...

    def cancel(self) -> None:
        """End running jobs now; `wait` still returns each, as cancelled."""
        ...

    def close(self) -> None:
        """Release everything; no process of the backend is left."""
        ...
