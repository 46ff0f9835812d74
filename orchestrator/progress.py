"""What a batch is doing, read from its run folder alone; each read continues where the last one ended."""

from __future__ import annotations

import time
from collections import Counter, deque
from datetime import datetime
from typing import Any

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from model_registry.names import Modality
from orchestrator.jobs import Outcome, one_line
from orchestrator.run_folder import RunFolder, read_json, tail

_LAST_ERRORS = 5


class Running(BaseModel):
    """A job that is running, and where in it the trainer is."""

    model_config = ConfigDict(frozen=True)

    user: str
    modality: Modality
    started: str
    stage: str = "start"
    done: int = 0
    total: int = 0


class Row(BaseModel):
    """The counts of one modality."""

    model_config = ConfigDict(frozen=True)

    modality: Modality
    total: int = 0
    running: int = 0
    done: int = 0
    failed: int = 0
    without_model: int = 0  # ended because the data allow none


class Progress(BaseModel):
    """A batch at one moment."""

    model_config = ConfigDict(frozen=True)

    runs: str
    started: str = ""
    total: int = 0
    done: int = 0
    failed: int = 0
    without_model: int = 0
    finished: bool = False
    jobs_per_second: float = 0.0
    eta_seconds: float | None = None
    modalities: tuple[Row, ...] = ()
    running: tuple[Running, ...] = ()
    last_errors: tuple[str, ...] = Field(default=(), description="newest last")


class Follower:
    """Follows one run folder; `read` takes in what was appended since it was last called."""

    def __init__(self, folder: RunFolder) -> None:
        self.folder = folder
        self._reset(None)

    def _reset(self, identity: tuple[int, int] | None) -> None:
        self._identity = identity
        self._offset = 0
        self._started = ""
        self._last = ""
        self._finished = False
        self._totals: Counter[Modality] = Counter()
        self._done: Counter[Modality] = Counter()
        self._failed: Counter[Modality] = Counter()
        self._without_model: Counter[Modality] = Counter()
        self._running: dict[tuple[str, Modality], Running] = {}
        self._offsets: dict[tuple[str, Modality], int] = {}
        self._errors: deque[str] = deque(maxlen=_LAST_ERRORS)

    def read(self) -> Progress:
        """Return the batch as its files describe it now; a new batch in the same folder starts from nothing."""
        self._read_journal()
        for key in self._running:
            self._read_events(key)
        done, failed, total = sum(self._done.values()), sum(self._failed.values()), sum(self._totals.values())
        rate = self._rate(done)
        left = total - done
        return Progress(
            runs=str(self.folder.root),
            started=self._started,
            total=total,
            done=done,
            failed=failed,
            without_model=sum(self._without_model.values()),
            finished=self._finished,
            jobs_per_second=round(rate, 3),
            eta_seconds=None if self._finished or rate == 0 else round(left / rate, 1),
            modalities=tuple(self._row(modality) for modality in sorted(self._totals)),
            running=tuple(self._running.values()),
            last_errors=tuple(self._errors),
        )

    def _row(self, modality: Modality) -> Row:
        return Row(
            modality=modality,
            total=self._totals[modality],
            running=sum(1 for _, running in self._running if running == modality),
            done=self._done[modality],
            failed=self._failed[modality],
            without_model=self._without_model[modality],
        )

    def _rate(self, done: int) -> float:
        if not self._started or not done:
            return 0.0
        until = _seconds(self._last) if self._finished else time.time()
        return done / max(until - _seconds(self._started), 1e-3)

    def _read_journal(self) -> None:
        try:
            status = self.folder.journal.stat()
        except FileNotFoundError:
            return
        identity = (status.st_dev, status.st_ino)
        if identity != self._identity:
            self._reset(identity)
            plan = read_json(self.folder.plan) or {}
            self._totals.update(job["modality"] for job in plan.get("jobs", ()))
        while True:
            lines, offset = tail(self.folder.journal, self._offset)
            if offset == self._offset:
                return
            self._offset = offset
            for line in lines:
                self._apply(line)

    def _apply(self, line: dict[str, Any]) -> None:
        self._last = str(line.get("time", self._last))
        event = line.get("event")
        if event == "batch":
            self._started = self._last
        elif event == "started":
            key = (line["user"], line["modality"])
            self._running[key] = Running(user=key[0], modality=key[1], started=self._last)
            self._offsets[key] = 0
        elif event == "retry":
            self._running.pop((line["user"], line["modality"]), None)
            self._offsets.pop((line["user"], line["modality"]), None)
        elif event == "finished":
            try:
                outcome = Outcome.model_validate({k: v for k, v in line.items() if k not in ("time", "event")})
            except ValidationError:
                return
            key = (outcome.user, outcome.modality)
            self._running.pop(key, None)
            self._offsets.pop(key, None)
            self._done[outcome.modality] += 1
            if not outcome.succeeded:
                counter = self._without_model if outcome.needs_data else self._failed
                counter[outcome.modality] += 1
                self._errors.append(outcome.line)
        elif event == "end":
            self._finished = True
            self._running.clear()

    def _read_events(self, key: tuple[str, Modality]) -> None:
        lines, self._offsets[key] = tail(self.folder.events(*key), self._offsets[key])
        for line in reversed(lines):
            if line.get("event") == "stage":
                done, total = line.get("done"), line.get("total")
                self._running[key] = self._running[key].model_copy(
                    update={
                        "stage": one_line(line.get("stage"), 20),
                        "done": done if isinstance(done, int) else 0,
                        "total": total if isinstance(total, int) else 0,
                    }
                )
                return


def _seconds(moment: str) -> float:
    try:
        return datetime.fromisoformat(moment).timestamp()
    except ValueError:
        return time.time()
