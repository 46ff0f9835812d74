"""The result of a batch: for people a table and one line for each failure, for programs `summary.json`."""

from __future__ import annotations

import json
from bisect import insort
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from itertools import islice
from typing import Any

from rich.console import Console
from rich.table import Table
from rich.text import Text

from model_registry.messages import and_more
from orchestrator.jobs import UP_TO_DATE, Outcome
from orchestrator.plan import Plan

NO_EXAMPLES = "no examples"
_ROWS_SHOWN = 60
_SLOWEST_SHOWN = 10
_PLAIN_WIDTH = 150  # columns where the output is no terminal


def report_console() -> Console:
    """Return standard output, wide enough for the table where it is a file or a pipe."""
    console = Console()
    return console if console.is_terminal else Console(width=_PLAIN_WIDTH)


class Tally:
    """The counts of a batch so far. Its memory grows with the failures, not with the successes."""

    def __init__(self) -> None:
        self.ended = self.published = self.promoted = self.candidates = self.attempts = 0
        self.causes: Counter[str] = Counter()
        self.failures: list[Outcome] = []
        self.without_model: list[Outcome] = []  # whose data allow none
        self.short_of_data: list[dict[str, Any]] = []
        self.shown: list[Outcome] = []  # the first of those that succeeded, by name
        self.slowest: list[Outcome] = []

    def add(self, outcome: Outcome) -> None:
        """Count one job that has ended."""
        self.ended += 1
        self.attempts += outcome.attempts
        if outcome.succeeded:
            self.published += 1
            self.promoted += outcome.status == "active"
            self.candidates += outcome.status == "candidate"
            insort(self.shown, outcome, key=_name)
            del self.shown[_ROWS_SHOWN:]
        elif outcome.needs_data:
            self.without_model.append(outcome)
        else:
            self.causes[outcome.cause] += 1
            self.failures.append(outcome)
        if outcome.needs_data or outcome.verdict == "insufficient data":
            self.short_of_data.append(_named(outcome, why=outcome.verdict if outcome.succeeded else outcome.reason))
        insort(self.slowest, outcome, key=lambda other: -other.seconds)
        del self.slowest[_SLOWEST_SHOWN:]


def _name(outcome: Outcome) -> tuple[str, str]:
    return outcome.user, outcome.modality


def _named(outcome: Outcome, **more: Any) -> dict[str, Any]:
    return {"user": outcome.user, "modality": outcome.modality, **more}


def summary(plan: Plan, tally: Tally, seconds: float, exit_code: int) -> dict[str, Any]:
    """Return the batch in numbers, and the jobs that need attention by name."""
    known = [entry for entry in plan.up_to_date if entry.verdict == "insufficient data"]
    short = tally.short_of_data + [
        {"user": entry.user_id, "modality": entry.modality, "why": entry.verdict} for entry in known
    ]
    short += [_named(refusal, why=refusal.reason) for refusal in plan.refused]
    short += [{"user": user, "modality": modality, "why": NO_EXAMPLES} for user, modality in plan.without_data]
    return {
        "format": 1,
        "exit_code": exit_code,
        "seconds": round(seconds, 3),
        "jobs": len(plan.jobs),
        "published": tally.published,
        "promoted": tally.promoted,
        "kept_as_candidate": tally.candidates,
        "up_to_date": len(plan.up_to_date),
        "refused_before": len(plan.refused),
        "without_model": len(tally.without_model),
        "failed": len(tally.failures),
        "failed_by_cause": dict(sorted(tally.causes.items())),
        "not_started": len(plan.jobs) - tally.ended,
        "without_data": len(plan.without_data),
        "attempts": tally.attempts,
        "users_needing_more_data": sorted(short, key=lambda row: (row["user"], row["modality"])),
        "failures": [_named(bad, cause=bad.cause, stage=bad.stage, reason=bad.reason) for bad in tally.failures],
        "slowest": [_named(outcome, seconds=outcome.seconds) for outcome in tally.slowest],
    }


def plan_lines(plan: Plan) -> Iterator[str]:
    """Yield the jobs as JSON lines, each a training request that `--requests` reads."""
    for job in plan.jobs:
        request = {"user_id": job.user, "modality": job.modality, "retrain_reason": " and ".join(job.reasons)}
        if job.request is not None:
            request |= json.loads(job.request.to_json())
        yield json.dumps({**request, "samples": job.samples, "estimated_seconds": job.estimated_seconds})


def print_plan(plan: Plan, slots: int, console: Console) -> None:
    """Print every job with its reasons and estimated seconds."""
    table = Table(title="plan")
    for heading in ("user", "modality", "reason"):
        table.add_column(heading, no_wrap=True)
    for heading in ("samples", "estimated seconds"):
        table.add_column(heading, justify="right")
    for job in plan.jobs:
        row = (job.modality, " and ".join(job.reasons), str(job.samples), f"{job.estimated_seconds:.1f}")
        table.add_row(Text(job.user), *row)
    if plan.jobs:
        console.print(table)
    minutes = plan.estimated_seconds / max(1, min(slots, len(plan.jobs))) / 60
    jobs = f"{len(plan.jobs)} jobs, about {minutes:.1f} minutes with {slots} at once"
    refused = f", {len(plan.refused)} refused before" if plan.refused else ""
    console.print(f"{jobs}; {len(plan.up_to_date)} up to date{refused}")


def print_report(
    numbers: dict[str, Any],
    tally: Tally,
    up_to_date: Iterable[Outcome],
    refused: Iterable[Outcome],
    console: Console,
) -> None:
    """Print the table of published versions, the paths of their model cards, why jobs failed, and the totals."""
    rows = sorted([*tally.shown, *islice(up_to_date, _ROWS_SHOWN)], key=_name)[:_ROWS_SHOWN]
    if rows:
        console.print(_table(rows))
    more = numbers["published"] + numbers["up_to_date"] - len(rows)
    if more:
        console.print(and_more(more))
    cards = [outcome.model_card for outcome in rows if outcome.model_card]
    if cards:
        console.print("model cards:")
        for card in cards:
            console.print(Text(f"  {card}"), soft_wrap=True)
    for outcome in rows:
        if outcome.status == "candidate":
            text = f"stays a candidate: {outcome.user} {outcome.modality} {outcome.version}: {outcome.reason}"
            console.print(Text(text), soft_wrap=True)
    for outcome in sorted(tally.without_model, key=_name):
        console.print(Text(f"no model: {outcome.line}", style="yellow"), soft_wrap=True)
    for outcome in sorted(tally.failures, key=_name):
        console.print(Text(f"failed: {outcome.line}", style="red"), soft_wrap=True)
    for outcome in sorted(refused, key=_name):
        text = f"refused before, and nothing changed since: {outcome.user} {outcome.modality}: {outcome.reason}"
        console.print(Text(f"{text} (--force trains it again)", style="red"), soft_wrap=True)
    needing = numbers["users_needing_more_data"]
    if needing:
        console.print(Text("more data needed: " + ", ".join(f"{row['user']} {row['modality']}" for row in needing)))
    console.print(_totals(numbers), soft_wrap=True)


def _totals(numbers: dict[str, Any]) -> str:
    text = f"{numbers['published']} published ({numbers['promoted']} active, {numbers['kept_as_candidate']} candidates)"
    causes = ", ".join(f"{count} {cause}" for cause, count in numbers["failed_by_cause"].items())
    text += f", {numbers['up_to_date']} up to date, {numbers['failed']} failed" + (f" ({causes})" if causes else "")
    if numbers["without_model"]:
        text += f", {numbers['without_model']} without a model"
    if numbers["refused_before"]:
        text += f", {numbers['refused_before']} refused before"
    if numbers["not_started"]:
        text += f", {numbers['not_started']} not started"
    return f"{text}, {numbers['seconds']:.1f} s"


def _table(outcomes: Sequence[Outcome]) -> Table:
    table = Table(title="published")
    for heading in ("user", "modality", "version"):
        table.add_column(heading, no_wrap=True)
    for heading in ("samples", "sessions", "session-wise accuracy"):
        table.add_column(heading, justify="right")
    table.add_column("verdict")
    table.add_column("seconds", justify="right")
    for outcome in outcomes:
        table.add_row(
            Text(outcome.user),
            outcome.modality,
            outcome.version or "-",
            str(outcome.samples),
            str(outcome.sessions),
            _accuracy(outcome.accuracy, outcome.accuracy_low, outcome.accuracy_high),
            Text(outcome.verdict),
            outcome.status if outcome.status == UP_TO_DATE else f"{outcome.seconds:.1f}",
        )
    return table


def _accuracy(value: float | None, low: float | None, high: float | None) -> str:
    if value is None:
        return "-"
    return f"{value:.3f}" if low is None or high is None else f"{value:.3f} ({low:.3f}–{high:.3f})"
