"""What a batch is made of: jobs, how each ended, and the commands that train a modality."""

from __future__ import annotations

import hashlib
import json
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, TypeAdapter, ValidationError

from model_registry.names import Modality
from shared.errors import ConfigError
from shared.schema_utils import TrainingRequest
from shared.trainers import all_trainers

Commands = Mapping[Modality, tuple[str, ...]]

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
        *("DiskFullError", "MemoryError", "OperationalError", "OSError", "StorageError", "TimeoutError"),
    }
)


class Job(BaseModel):
    """One training run to be done: what a backend needs and nothing else, so that it travels as JSON.

    `fingerprint` identifies data, options and code (`shared.fingerprint`). The run id follows from it, so a job that
    is repeated after an interruption is the same run, and the registry takes a run once. `forced` is a random mark
    that makes it another run nonetheless.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    user: str
    modality: Modality
    data: str
    fingerprint: str
    arguments: tuple[str, ...] = ()
    request: TrainingRequest | None = None
    samples: int = Field(default=0, ge=0)
    reasons: tuple[Reason, ...] = ()
    estimated_seconds: float = 0.0
    forced: str = ""
    damage: str = ""  # what is wrong with the history of this user and modality, so that nothing could be published

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
        """Return the command line that runs the job's trainer."""
        return (*commands[self.modality], *self.words(bundles))

    def words(self, bundles: Path) -> tuple[str, ...]:
        """Return the trainer's options."""
        names = ("--user", self.user, "--data", self.data, "--out", str(bundles), "--run-id", self.run_id)
        request = () if self.request is None else ("--request", self.request.to_json())
        return (*names, *self.arguments, *request)


class Outcome(BaseModel):
    """How a job ended, in the few values that the table, the journal and the summary need."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    user: str
    modality: Modality
    run_id: str
    cause: Cause = ""
    reason: str = ""
    transient: bool = False  # a retry may succeed although nothing changed
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
    def needs_data(self) -> bool:
        """Whether the data allow no model as they are: nothing broke, and trying again changes nothing."""
        return self.cause in ("data", "gate")

    @property
    def line(self) -> str:
        """One line that says which job ended without a version, and why."""
        stage = f" in {self.stage}" if self.stage else ""
        return f"{self.user} {self.modality}: {self.cause}{stage}: {self.reason}"


def outcome_from_log(job: Job, log: Mapping[str, Any] | None, exit_code: int, seconds: float) -> Outcome:
    """Return the outcome of a trainer's log entry and exit code; a missing log entry counts as a crash."""
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
    """Return the outcome of a job that ended for `cause` without a training log entry."""
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


def trainer_commands(overrides: Path | None = None) -> Commands:
    """Return the command of every installed trainer, with those that the JSON file `overrides` names instead.

    The file maps modality -> list of words, for trainers that live in environments of their own. Raises ConfigError.
    """
    commands: dict[Modality, tuple[str, ...]] = {
        modality: (sys.executable, "-m", f"{trainer.package}.train") for modality, trainer in all_trainers().items()
    }
    return commands if overrides is None else {**commands, **_read_commands(overrides, commands)}


def _read_commands(path: Path, known: Commands) -> Commands:
    try:
        table = TypeAdapter(dict[str, tuple[str, ...]]).validate_python(json.loads(path.read_text("utf-8")))
    except (OSError, ValueError, ValidationError) as error:
        raise ConfigError(f"{path}: trainer commands: {one_line(error)}") from error
    faults = [
        f"{path}: trainer commands: {one_line(modality)}: "
        + ("no command is given" if modality in known else f"must be one of {', '.join(known)}")
        for modality, words in table.items()
        if modality not in known or not words
    ]
    if faults:
        raise ConfigError("\n".join(faults))
    return table
