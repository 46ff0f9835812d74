"""Follows a batch live in the terminal, or prints it once. Reads the run folder; never writes."""

from __future__ import annotations

import contextlib
import time
from pathlib import Path
from typing import NoReturn

import click
from rich.console import Console, Group
from rich.live import Live
from rich.table import Table
from rich.text import Text

from model_registry.messages import and_more
from orchestrator.lock import is_locked
from orchestrator.monitor_page import page_server
from orchestrator.progress import Follower, Progress
from orchestrator.run_folder import RunFolder

_POLL_SECONDS = 0.5  # between reads of the run folder
_RUNNING_ROWS = 20

_EXAMPLES = """\b
Examples:
  model-trainer monitor runs                 # follow until the batch ends
  model-trainer monitor runs --once --json   # the state now, for a script
  model-trainer monitor runs --json          # one JSON line for each change, until the end
  model-trainer monitor runs --serve 8080    # http://127.0.0.1:8080/, /state.json and /metrics
"""


@click.command(epilog=_EXAMPLES, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(package_name="model-trainer")
@click.argument("runs", type=click.Path(path_type=Path))
@click.option("--once", is_flag=True, help="Show the present state and exit.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON lines instead of a table.")
@click.option(
    "--serve",
    "address",
    metavar="[HOST:]PORT",
    help="Serve a page, /state.json, /failures.json, logs and /metrics until stopped; it asks for no password.",
)
def main(runs: Path, once: bool, as_json: bool, address: str | None) -> None:
    """Show what the batch in the folder RUNS is doing: totals, rate, time left, running jobs, last errors.

    For cron: the exit code is 0 when no job failed, 1 when one did, 2 when RUNS holds no batch, and with --once 4
    when the batch has not ended and no process runs it.
    """
    folder = RunFolder(runs)
    if not folder.journal.is_file():
        raise click.UsageError(f"{runs}: no batch was started in this folder; name the one of launch_all.sh --runs")
    follower = Follower(folder)
    if address is not None:
        _serve(follower, address)
    progress = _follow_as_json(follower, once) if as_json else _follow_in_terminal(follower, once)
    if not progress.finished and not is_locked(folder.lock):
        click.echo("the batch was interrupted; the command that started it continues it", err=True)
        raise SystemExit(4)
    raise SystemExit(1 if progress.failed else 0)


def _serve(follower: Follower, address: str) -> NoReturn:
    host, _, port = address.rpartition(":")
    try:
        server = page_server(follower, host or "127.0.0.1", int(port))
    except (OSError, ValueError, OverflowError) as error:
        raise click.UsageError(f"--serve {address}: {error}") from error
    click.echo(f"http://{host or '127.0.0.1'}:{server.server_port}/", err=True)
    with contextlib.suppress(KeyboardInterrupt), server:
        server.serve_forever()
    raise click.exceptions.Exit(0)


def _follow_as_json(follower: Follower, once: bool) -> Progress:
    printed = ""
    while True:
        progress = follower.read()
        line = progress.model_dump_json()
        if line != printed:
            click.echo(line)
            printed = line
        if once or progress.finished:
            return progress
        time.sleep(_POLL_SECONDS)


def _follow_in_terminal(follower: Follower, once: bool) -> Progress:
    progress = follower.read()
    if once:
        Console().print(tables(progress))
        return progress
    with Live(tables(progress), refresh_per_second=4) as live:
        while not progress.finished:
            time.sleep(_POLL_SECONDS)
            progress = follower.read()
            live.update(tables(progress))
    return progress


def tables(progress: Progress) -> Group:
    """Return the batch as tables for a terminal."""
    head = Text(f"{progress.done} of {progress.total} jobs ended, {progress.failed} failed")
    head.append(f", {progress.without_model} without a model")
    head.append(f", {progress.jobs_per_second:.2f} jobs/s")
    if progress.finished:
        head.append(", finished")
    elif progress.eta_seconds is not None:
        head.append(f", about {_span(progress.eta_seconds)} left")
    totals = Table("modality", "jobs", "running", "ended", "failed", "without a model")
    for row in progress.modalities:
        counts = (row.total, row.running, row.done, row.failed, row.without_model)
        totals.add_row(row.modality, *map(str, counts))
    parts: list[Text | Table] = [head, totals]
    if progress.running:
        running = Table("running", "modality", "stage", "progress")
        for job in progress.running[:_RUNNING_ROWS]:
            part = f"{job.done}/{job.total}" if job.total else ""
            running.add_row(Text(job.user), job.modality, Text(job.stage), part)
        if len(progress.running) > _RUNNING_ROWS:
            running.add_row(and_more(len(progress.running) - _RUNNING_ROWS), "", "", "")
        parts.append(running)
    parts.extend(Text(f"no version: {line}", style="red") for line in progress.last_errors)
    return Group(*parts)


def _span(seconds: float) -> str:
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    if hours:
        return f"{hours} h {minutes} min"
    return f"{minutes} min {rest} s" if minutes else f"{rest} s"


if __name__ == "__main__":
    main()
