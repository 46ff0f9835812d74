"""One attempt at a job, the same on every backend: train, publish, leave the traces in the run folder."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

from orchestrator.jobs import Commands, Job, Outcome, failed
from orchestrator.run_folder import RunFolder

Train = Callable[[Job, tuple[str, ...], Path], tuple[Outcome, dict[str, Any] | None]]
Publish = Callable[[Job, Outcome], Outcome]


def attempt(job: Job, folder: RunFolder, commands: Commands, train: Train, publish: Publish) -> Outcome:
    """Train `job`, publish what it made and return how it ended. Never raises: one job's trouble is its own."""
    try:
        command = (*commands[job.modality], *job.arguments)
        place = folder.start_job(job, command)
        folder.note("started", {"user": job.user, "modality": job.modality})
        outcome, log = train(job, command, place / "events.jsonl")
        if outcome.succeeded:
            outcome = publish(job, outcome)
        folder.finish_job(job, log, outcome)
    except Exception as error:  # such as a full disk
        return failed(job, "internal", f"{type(error).__name__}: {error}")
    return outcome
