"""What ended without a version, since which batch, and what changed since the batch before.

`failures.json` in the run folder has what was known before the present batch, and the journal how its jobs ended. Both
together are the report, so that it is whole while a batch runs and after one that was killed.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, TypeAdapter, ValidationError

from model_registry.names import Modality
from orchestrator.jobs import Cause, Outcome
from orchestrator.plan import BatchSpec, ModelSlot, Plan
from orchestrator.run_folder import RunFolder, read_json, tail

Change = Literal["new", "changed", "unchanged"]


class Failure(BaseModel):
    """A user and modality whose last job ended without a version.

    `since` is when the batch began that first showed this cause in this stage, and `reason_since` the one that first
    showed this reason; both are empty where no record says so.
    """

    model_config = ConfigDict(frozen=True, extra="ignore")

    user: str
    modality: Modality
    cause: Cause
    stage: str = ""
    reason: str
    since: str = ""
    reason_since: str = ""

    @property
    def slot(self) -> ModelSlot:
        return self.user, self.modality

    @property
    def of_data(self) -> bool:
        """Whether the data allow no model, so that nothing broke."""
        return self.cause in ("data", "gate")


class Mended(BaseModel):
    """A user and modality that failed before and does not any more, and since when it had failed."""

    model_config = ConfigDict(frozen=True, extra="ignore")

    user: str
    modality: Modality
    since: str = ""


class FailureReport(BaseModel):
    """All failures that are known after the present batch of a run folder, which began at `batch`."""

    model_config = ConfigDict(frozen=True)

    batch: str = ""
    finished: bool = False
    failures: tuple[Failure, ...] = ()
    mended: tuple[Mended, ...] = ()

    def change(self, failure: Failure) -> Change:
        """Return what the present batch changed about a failure."""
        if failure.since == self.batch:
            return "new"
        return "changed" if failure.reason_since == self.batch else "unchanged"

    def changed(self) -> FailureReport:
        """Return the report without the failures that were there before."""
        kept = tuple(each for each in self.failures if self.change(each) != "unchanged")
        return self.model_copy(update={"failures": kept})


def read_failures(folder: RunFolder) -> FailureReport:
    """Return the failures of a run folder as its files say now."""
    failures, mended = _known(folder)
    batch, finished = "", False
    for line in _journal(folder):
        match line.get("event"):
            case "batch":
                batch = str(line.get("time", ""))
            case "end":
                finished = True
            case "finished":
                outcome = _outcome(line)
                if outcome is not None:
                    _apply(outcome, batch, failures, mended)
    return FailureReport(
        batch=batch,
        finished=finished,
        failures=tuple(failures[slot] for slot in sorted(failures)),
        mended=tuple(mended[slot] for slot in sorted(mended)),
    )


def failures_before(folder: RunFolder, spec: BatchSpec, plan: Plan) -> dict[str, Any]:
    """Return what `failures.json` is to hold when a batch begins: what still fails, and what by its plan does not."""
    failures = {each.slot: each for each in read_failures(folder).failures}
    for outcome in plan.refused:
        failures.setdefault((outcome.user, outcome.modality), _failure(outcome, "", None))
    settled = {(entry.user_id, entry.modality) for entry in plan.up_to_date}
    if not (spec.users or spec.modalities or spec.requests):  # then nothing else has data
        planned = {(job.user, job.modality) for job in plan.jobs}
        settled |= failures.keys() - planned - {(outcome.user, outcome.modality) for outcome in plan.refused}
    mended = [failures.pop(slot) for slot in sorted(settled & failures.keys())]
    return {
        "format": 1,
        "failures": [each.model_dump() for each in failures.values()],
        "mended": [Mended(**each.model_dump()).model_dump() for each in mended],
    }


def _known(folder: RunFolder) -> tuple[dict[ModelSlot, Failure], dict[ModelSlot, Mended]]:
    """Return what was known before the present batch; nothing where the file is missing or holds something else."""
    document = read_json(folder.failures) or {}
    try:
        failures = TypeAdapter(tuple[Failure, ...]).validate_python(document.get("failures", ()))
        mended = TypeAdapter(tuple[Mended, ...]).validate_python(document.get("mended", ()))
    except ValidationError:
        return {}, {}
    return {each.slot: each for each in failures}, {(each.user, each.modality): each for each in mended}


def _apply(outcome: Outcome, batch: str, failures: dict[ModelSlot, Failure], mended: dict[ModelSlot, Mended]) -> None:
    slot = (outcome.user, outcome.modality)
    known = failures.get(slot)
    if outcome.succeeded:
        if known is not None:
            mended[slot] = Mended(**failures.pop(slot).model_dump())
    elif known is None or outcome.cause != "cancelled":  # a job that was stopped says nothing of a known failure
        failures[slot] = _failure(outcome, batch, known)
        mended.pop(slot, None)


def _failure(outcome: Outcome, batch: str, known: Failure | None) -> Failure:
    """Return the failure of an outcome, which is as old as the known one where that is the same."""
    same = known is not None and (known.cause, known.stage) == (outcome.cause, outcome.stage)
    as_said = same and known is not None and known.reason == outcome.reason
    return Failure(
        user=outcome.user,
        modality=outcome.modality,
        cause=outcome.cause,
        stage=outcome.stage,
        reason=outcome.reason,
        since=known.since if known is not None and same else batch,
        reason_since=known.reason_since if known is not None and as_said else batch,
    )


def _journal(folder: RunFolder) -> Iterator[dict[str, Any]]:
    offset, after = -1, 0
    while offset != after:
        offset = after
        lines, after = tail(folder.journal, offset)
        yield from lines


def _outcome(line: dict[str, Any]) -> Outcome | None:
    try:
        return Outcome.model_validate({key: value for key, value in line.items() if key not in ("time", "event")})
    except ValidationError:
        return None
