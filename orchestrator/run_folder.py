"""The folder of a batch: where its plan, its journal and each job's files are, and how they are written.

run.json            the plan: options and jobs
failures.json       what ended without a version before this batch, and since when
journal.jsonl       a line when a job starts, is retried and ends, appended; what the monitor follows
jobs/<user>/<modality>/
    job.json        the job and its command
    events.jsonl    the trainer's standard error
    log.json        the trainer's standard output: its training log entry
    result.json     how the job ended
bundles/            the trainers' --out
"""

from __future__ import annotations

import contextlib
import json
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from model_registry.names import Modality
from model_registry.storage.durable import append_line, remove_abandoned, write_file_atomically
from model_registry.timestamps import utc_now
from orchestrator.jobs import Job, Outcome


def write_json(path: Path, value: object) -> None:
    """Write `value` as JSON so that a reader sees the old file or the new one.

    It is not synced: a batch is continued from the registry and the bundles, which are.
    """
    write_file_atomically(path, (json.dumps(value, ensure_ascii=False) + "\n").encode(), durable=False)


def read_json(path: Path) -> dict[str, Any] | None:
    """Return the JSON object in `path`; None if the file is missing or holds no JSON object."""
    try:
        value = json.loads(path.read_text("utf-8"))
    except (OSError, ValueError):
        return None
    return value if isinstance(value, dict) else None


class RunFolder:
    """A batch's folder on disk; all of its state is on disk."""

    def __init__(self, root: Path) -> None:
        self.root = root

    @property
    def plan(self) -> Path:
        return self.root / "run.json"

    @property
    def journal(self) -> Path:
        return self.root / "journal.jsonl"

    @property
    def lock(self) -> Path:
        return self.root / "lock.json"

    @property
    def summary(self) -> Path:
        return self.root / "summary.json"

    @property
    def failures(self) -> Path:
        return self.root / "failures.json"

    @property
    def bundles(self) -> Path:
        return self.root / "bundles"

    def job(self, user: str, modality: Modality) -> Path:
        return self.root / "jobs" / user / modality

    def log(self, user: str, modality: Modality) -> Path | None:
        """Return the training log entry of the last job, or what its trainer printed before it crashed; or None."""
        paths = self.job(user, modality) / "log.json", self.events(user, modality)
        return next((path for path in paths if path.is_file() and path.stat().st_size), None)

    def events(self, user: str, modality: Modality) -> Path:
        return self.job(user, modality) / "events.jsonl"

    def begin(self, options: Mapping[str, Any], jobs: Iterable[Job], failures: Mapping[str, Any] | None = None) -> None:
        """Write the plan of a new batch, what failed before it, and start its journal. Bundles and jobs stay."""
        self.bundles.mkdir(parents=True, exist_ok=True)
        remove_abandoned(self.bundles)  # what killed trainers left
        if failures is not None:
            write_json(self.failures, failures)  # before the journal that it takes in is replaced
        listed = [job.model_dump(mode="json") for job in jobs]
        write_json(self.plan, {"format": 1, "started": utc_now(), "options": dict(options), "jobs": listed})
        write_json(self.journal, {"time": utc_now(), "event": "batch", "total": len(listed)})

    def record(self, event: str, fields: Mapping[str, Any]) -> None:
        """Append one line to the journal, in one write so that lines never mix."""
        line = json.dumps({"time": utc_now(), "event": event, **fields}, ensure_ascii=False) + "\n"
        append_line(self.journal, line.encode())

    def start_job(self, job: Job, command: Iterable[str]) -> Path:
        """Return the job's folder, with its command written and the files of an earlier attempt removed."""
        folder = self.job(job.user, job.modality)
        folder.mkdir(parents=True, exist_ok=True)
        for name in ("result.json", "log.json", "events.jsonl"):
            with contextlib.suppress(FileNotFoundError):
                (folder / name).unlink()
        write_json(folder / "job.json", {**job.model_dump(mode="json"), "started": utc_now(), "command": list(command)})
        return folder

    def finish_job(self, job: Job, log: Mapping[str, Any] | None, outcome: Outcome) -> None:
        """Write the training log entry and how the job ended; the result last."""
        folder = self.job(job.user, job.modality)
        if log is not None:
            write_json(folder / "log.json", log)
        write_json(folder / "result.json", {"finished": utc_now(), **outcome.model_dump()})

    def refused(self, user: str, modality: Modality, fingerprint: str) -> Outcome | None:
        """Return the outcome if the quality gate refused this very job when it was last trained here, else None."""
        folder = self.job(user, modality)
        job, result = read_json(folder / "job.json"), read_json(folder / "result.json")
        if job is None or result is None or job.get("fingerprint") != fingerprint or result.get("cause") != "gate":
            return None
        try:
            return Outcome.model_validate({key: value for key, value in result.items() if key != "finished"})
        except ValidationError:
            return None


def mean_seconds(folder: RunFolder) -> dict[Modality, float]:
    """Return the mean seconds of each modality's jobs in the last batch of this folder."""
    seconds: dict[Modality, list[float]] = {}
    offset, after = -1, 0
    while offset != after:
        offset = after
        lines, after = tail(folder.journal, offset)
        for line in lines:
            if line.get("event") == "finished" and line.get("cause") == "" and line.get("seconds"):
                seconds.setdefault(line["modality"], []).append(line["seconds"])
    return {modality: sum(values) / len(values) for modality, values in seconds.items()}


def tail(path: Path, offset: int, limit: int = 1 << 20) -> tuple[list[dict[str, Any]], int]:
    """Return the JSON objects in the whole lines of `path` after byte `offset`, and the next offset.

    A last line without its newline is left for the next call; lines that hold no JSON object are skipped. At most
    `limit` bytes are read at a time.
    """
    try:
        with path.open("rb") as stream:
            stream.seek(offset)
            block = stream.read(limit)
    except FileNotFoundError:
        return [], offset
    end = block.rfind(b"\n") + 1
    if end == 0 and len(block) == limit:
        return [], offset + limit
    return list(_objects(block[:end])), offset + end


def _objects(block: bytes) -> Iterator[dict[str, Any]]:
    for line in block.splitlines():
        try:
            value = json.loads(line)
        except ValueError:
            continue
        if isinstance(value, dict):
            yield value
