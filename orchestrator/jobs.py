"""What a batch is made of: jobs, how each one ended, and the commands that train a modality."""

from __future__ import annotations

import hashlib
import json
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, TypeAdapter, ValidationError

from model_registry.names import MODALITIES, Modality
from shared.errors import ConfigError

Commands = Mapping[Modality, tuple[str, ...]]

TRAINER_PACKAGES: Mapping[Modality, str] = {
    "gesture": "gesture_trainer",
    "sound": "sound_trainer",
    "speech": "speech_context_trainer",
    "visual_environment": "visual_environment_trainer",
}
COMMANDS: Commands = {
    modality: (sys.executable, "-m", f"{package}.train") for modality, package in TRAINER_PACKAGES.items()
}

Cause = Literal[
    "",
    "usage",
    "data",
    "gate",
    "internal",
    "crashed",
    "timeout",
    "memory",
    "data changed",
    "upload",
    "engine",
    "cancelled",
]
_CAUSES: Mapping[int, Cause] = {0: "", 2: "usage", 3: "data", 4: "gate", 5: "internal"}


UP_TO_DATE = "up to date"  # the status of a version that needed no training
Reason = Literal["first model", "new data", "changed config", "changed code", "forced"]

# Errors of the machine and the network rather than of the data or the code.
_TRANSIENT = frozenset(
    {
        *("BlockingIOError", "BrokenPipeError", "ConnectionError", "ConnectionResetError", "InterruptedError"),
        *("MemoryError", "OperationalError", "OSError", "StorageError", "TimeoutError"),
    }
)


class Job(BaseModel):
    """One training run to be done: what a backend needs and nothing else, so that it travels as JSON.

    `fingerprint` tells data, options and code (`shared.fingerprint`). The run id follows from it, so a job that is
    done again after an interruption is the same run, and the registry takes a run once. `forced` is a mark that
    makes it another run all the same.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    user: str
    modality: Modality
    data: str
    fingerprint: str
    arguments: tuple[str, ...] = ()
    samples: int = Field(0, ge=0)
    reasons: tuple[Reason, ...] = ()
    estimated_seconds: float = 0.0
    forced: str = ""

    @property
    def name(self) -> str:
        return f"{self.user} {self.modality}"

    @property
    def run_id(self) -> str:
        return "job-" + hashlib.sha256(f"{self.fingerprint}\0{self.forced}".encode()).hexdigest()[:20]

    @property
    def bundle_name(self) -> str:
        """The name of the folder that the trainer writes."""
        return f"{self.modality}_{self.user}_{self.run_id}"

    def command(self, commands: Commands, bundles: Path) -> tuple[str, ...]:
        """Return the words that start the job's trainer."""
        return (*commands[self.modality], *self.words(bundles))

    def words(self, bundles: Path) -> tuple[str, ...]:
        """Return the trainer's options."""
        names = ("--user", self.user, "--data", self.data, "--out", str(bundles), "--run-id", self.run_id)
        return (*names, *self.arguments)


class Outcome(BaseModel):
    """How a job ended, in the few values that the table, the journal and the summary need."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    user: str
    modality: Modality
    run_id: str
    cause: Cause = ""
    reason: str = ""
    transient: bool = False  # it may go well another time, with nothing changed
    attempts: int = 1
    stage: str = ""
    exit_code: int = 0
    seconds: float = 0.0
    bundle: str = ""
    version: str = ""
    status: str = ""
    model_card: str = ""
    samples: int = 0
    sessions: int = 0
    accuracy: float | None = None
    accuracy_low: float | None = None
    accuracy_high: float | None = None
    verdict: str = ""

    @property
    def succeeded(self) -> bool:
        return self.cause == ""

    @property
    def line(self) -> str:
        """Say in one line which job failed and why."""
        stage = f" in {self.stage}" if self.stage else ""
        return f"{self.user} {self.modality}: {self.cause}{stage}: {self.reason}"


def outcome_from_log(job: Job, log: Mapping[str, Any] | None, exit_code: int, seconds: float) -> Outcome:
    """Return the outcome that a trainer's log entry and exit code tell; a missing log entry counts as a crash."""
    if log is None:
        reason = "ended without a training log entry"
        return _outcome(job, exit_code, seconds, cause="crashed", reason=reason)
    cause = _CAUSES.get(exit_code, "crashed")
    if cause:
        reason = one_line(log.get("error_message")) or f"exit code {exit_code}"
        error_type = one_line(log.get("error_type"))
        reason = f"{error_type}: {reason}" if cause == "internal" and error_type else reason
        stage, transient = one_line(log.get("stage")), cause == "internal" and error_type in _TRANSIENT
        return _outcome(job, exit_code, seconds, cause=cause, reason=reason, stage=stage, transient=transient)
    metrics = log.get("training_metrics") or {}
    return _outcome(
        job,
        exit_code,
        seconds,
        bundle=str(log.get("bundle") or ""),
        samples=int(log.get("sample_count") or 0),
        sessions=int(log.get("session_count") or 0),
        accuracy=metrics.get("accuracy"),
        accuracy_low=metrics.get("accuracy_low"),
        accuracy_high=metrics.get("accuracy_high"),
        verdict=one_line(log.get("verdict")),
    )


def failed(
    job: Job, cause: Cause, reason: str, exit_code: int = -1, seconds: float = 0.0, transient: bool = False
) -> Outcome:
    """Return the outcome of a job that ended for `cause` without a word from its trainer."""
    return _outcome(job, exit_code, seconds, cause=cause, reason=one_line(reason), transient=transient)


def _outcome(job: Job, exit_code: int, seconds: float, **fields: Any) -> Outcome:
    return Outcome(
        user=job.user,
        modality=job.modality,
        run_id=job.run_id,
        exit_code=exit_code,
        seconds=round(seconds, 3),
        **fields,
    )


def one_line(text: object, width: int = 300) -> str:
    """Return `text` on one line, printable, at most `width` characters: it may come from a hostile file."""
    flat = " ".join("".join(c if c.isprintable() else " " for c in str(text or "")).split())
    return flat if len(flat) <= width else flat[: width - 1] + "…"


def read_commands(path: Path) -> Commands:
    """Return the trainers' commands with those that a JSON file (modality -> list of words) names instead.

    For trainers that live in environments of their own. Raises ConfigError.
    """
    try:
        table = TypeAdapter(dict[Modality, tuple[str, ...]]).validate_python(json.loads(path.read_text("utf-8")))
    except (OSError, ValueError, ValidationError) as error:
        raise ConfigError(f"{path}: trainer commands: {one_line(error)}") from error
    empty = [modality for modality, words in table.items() if not words]
    if empty:
        raise ConfigError(f"{path}: trainer commands: no command given for {', '.join(empty)}")
    return {modality: table.get(modality, COMMANDS[modality]) for modality in MODALITIES}
