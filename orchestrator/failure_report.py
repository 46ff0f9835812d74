"""`model-trainer batch report`: what ended without a version, why, since when, and where its log is."""

from __future__ import annotations

import json
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, get_args

import click

from orchestrator.failures import Failure, FailureReport, Mended, read_failures
from orchestrator.jobs import Cause
from orchestrator.run_folder import RunFolder

_CAUSES = [cause for cause in get_args(Cause) if cause]
_EXAMPLES = """\b
Examples:
  model-trainer batch report runs                    # what the last batch changed
  model-trainer batch report runs --all --cause internal
  model-trainer batch report runs --quiet            # in cron: a mail only where something changed
  model-trainer batch report runs --all --json
"""


@click.command("report", epilog=_EXAMPLES, context_settings={"help_option_names": ["-h", "--help"]})
@click.argument("runs", type=click.Path(path_type=Path))
@click.option("--all", "everything", is_flag=True, help="List what failed before the last batch in the same way, too.")
@click.option("--user", default="", help="Only this user.")
@click.option("--modality", default="", help="Only this modality.")
@click.option("--cause", default="", type=click.Choice(["", *_CAUSES]), show_choices=False, metavar="CAUSE",
              help=f"Only this cause: {', '.join(_CAUSES)}.")  # fmt: skip
@click.option("--json", "as_json", is_flag=True, help="Print JSON, for scripts.")
@click.option("--quiet", is_flag=True, help="Print nothing where there is nothing to list.")
def report_command(
    runs: Path, everything: bool, user: str, modality: str, cause: str, as_json: bool, quiet: bool
) -> None:
    """List what ended without a version in the batches of the folder RUNS: why, since when, and where its log is.

    Listed is what the last batch changed: failures that are new or have another reason, and what is mended. A batch
    that still runs, or was interrupted, is reported as far as it came.

    The exit code is 0 when no listed job failed, 1 when one did, and 2 when RUNS holds no batch. That a person's data
    allow no model is listed and is no failure.
    """
    folder = RunFolder(runs)
    if not folder.journal.is_file():
        raise click.UsageError(f"{runs}: no batch was started in this folder; name the one of `batch --runs`")
    report = read_failures(folder)

    def selected(each: Failure | Mended) -> bool:
        return user in ("", each.user) and modality in ("", each.modality)

    shown = report if everything else report.changed()
    listed = tuple(each for each in shown.failures if selected(each) and cause in ("", each.cause))
    mended = [each for each in report.mended if selected(each) and not cause]
    if as_json:
        document = {
            "batch": report.batch,
            "finished": report.finished,
            "failures": [_described(folder, report, each) for each in listed],
            "mended": [each.model_dump() for each in mended],
        }
        click.echo(json.dumps(document, ensure_ascii=False))
    elif listed or mended or not quiet:
        for line in _lines(folder, report, listed, everything):
            click.echo(line)
        for each in mended:
            click.echo(f"mended: {each.user} {each.modality}, which had no version since {_when(each.since)}")
    raise click.exceptions.Exit(1 if any(not each.of_data for each in listed) else 0)


def _lines(folder: RunFolder, report: FailureReport, listed: tuple[Failure, ...], everything: bool) -> Iterator[str]:
    state = "ended" if report.finished else "has not ended"
    new = sum(report.change(each) == "new" for each in report.failures)
    changed = sum(report.change(each) == "changed" for each in report.failures)
    count = f"{len(report.failures)} without a version: {new} new, {changed} with another reason than before"
    yield f"batch of {_when(report.batch)}, {state}; {count}, {len(report.failures) - new - changed} as before"
    for each in listed:
        stage = f" in {each.stage}" if each.stage else ""
        kind = "no model" if each.of_data else "failed"
        yield f"{report.change(each)}: {each.user} {each.modality} {kind}: {each.cause}{stage}: {each.reason}"
        log = folder.log(each.user, each.modality)
        yield f"    since {_when(each.since)}; " + (f"log: {log}" if log else "it left no log")
    left_out = len(report.failures) - len(report.changed().failures)
    if left_out and not everything:
        yield f"{left_out} as before are not listed; --all lists them"


def _described(folder: RunFolder, report: FailureReport, failure: Failure) -> dict[str, Any]:
    log = folder.log(failure.user, failure.modality)
    return failure.model_dump() | {"change": report.change(failure), "log": None if log is None else str(log)}


def _when(moment: str) -> str:
    """Return a time in ISO 8601 as people read it; none is known of what an earlier release recorded."""
    try:
        return datetime.fromisoformat(moment).astimezone(UTC).strftime("%-d %B %Y, %H:%M UTC")
    except ValueError:
        return "an earlier batch"
