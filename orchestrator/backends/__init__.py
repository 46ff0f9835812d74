"""Where jobs run. A backend takes jobs and hands back how each ended; the batch decides everything else."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from orchestrator.jobs import Job, Outcome


@dataclass(frozen=True)
class Tls:
    """Files in PEM format with which a cluster and its client prove themselves to one another."""

    ca: Path
    cert: Path
    key: Path


class Backend(Protocol):
    """What a batch needs of a place where jobs run."""

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
        """End running jobs now; each still comes out of `wait`, as cancelled."""
        ...

    def close(self) -> None:
        """Let go of everything; no process of the backend's is left."""
        ...
