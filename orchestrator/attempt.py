"""One attempt at a job, the same on every backend: train, publish, and record it in the run folder."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

from model_registry.storage.durable import FULL
from orchestrator.jobs import Commands, Job, Outcome, failed, outcome_from_log
from orchestrator.plan import with_present_data
from orchestrator.run_folder import RunFolder, read_json
from shared.fingerprint import changes

Train = Callable[[Job, tuple[str, ...], Path], tuple[Outcome, dict[str, Any] | None]]
Publish = Callable[[Job, Outcome], Outcome]


def attempt(planned: Job, folder: RunFolder, commands: Commands, train: Train, publish: Publish) -> Outcome:
    """Train a job on the data as they are now, publish its bundle and return how it ended.

    A bundle that an earlier attempt finished but could not publish is published without training again, and nothing is
    trained for a history that is damaged. If the data change during training, their fingerprint shows it and nothing is
    published. Never raises, so that one job cannot stop the others.
    """
    try:
        job = with_present_data(planned)
        place = folder.start_job(job, job.command(commands, folder.bundles))
        log = _finished_log(folder.bundles / job.bundle_name)
        if job.damage:
            outcome = failed(job, "upload", job.damage)
        elif log is not None:
            outcome = outcome_from_log(job, log, 0, 0.0)
        else:
            outcome, log = train(job, job.command(commands, folder.bundles), place / "events.jsonl")
        if outcome.succeeded:
            outcome = _publish_unless_changed(job, outcome, publish)
            if outcome.cause == "upload" and not outcome.transient:
                shutil.rmtree(outcome.bundle, ignore_errors=True)  # damaged: the next attempt trains again
        folder.finish_job(job, log, outcome)
    except Exception as error:
        transient = isinstance(error, OSError) and error.errno in FULL
        return failed(planned, "internal", f"{type(error).__name__}: {error}", transient=transient)
    return outcome


def _finished_log(bundle: Path) -> dict[str, Any] | None:
    """Return the training log entry of a finished bundle; an unfinished one is deleted."""
    if not bundle.exists():
        return None
    if (bundle / "bundle.json").is_file():
        log = read_json(bundle / "training_log.json")
        if log is not None:
            return {**log, "bundle": str(bundle)}
    shutil.rmtree(bundle)
    return None


def _publish_unless_changed(job: Job, outcome: Outcome, publish: Publish) -> Outcome:
    manifest = read_json(Path(outcome.bundle) / "bundle.json") or {}
    trained_on = (manifest.get("entry") or {}).get("job_fingerprint", job.fingerprint)
    if "data" in changes(job.fingerprint, trained_on) or with_present_data(job).fingerprint != job.fingerprint:
        shutil.rmtree(outcome.bundle, ignore_errors=True)
        reason = "the user's data changed while the model was trained; nothing was published"
        return outcome.model_copy(update={"cause": "data changed", "reason": reason, "transient": True})
    return publish(job, outcome)
