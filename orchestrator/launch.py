"""Trains users x modalities: plans the jobs, runs them, publishes what finished and says what came out."""

from __future__ import annotations

import os
import re
import sys
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

import click
from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn
from rich.text import Text

from model_registry.errors import InvalidNameError, NotFoundError, RegistryError
from model_registry.names import Modality, parse_modality
from model_registry.store import Registry
from orchestrator.backends.process import ProcessBackend
from orchestrator.batch import Control, run_batch, stopped_by_signals
from orchestrator.jobs import COMMANDS, Commands, Outcome, one_line, read_commands
from orchestrator.lock import batch_lock
from orchestrator.plan import Plan, Request, make_plan, parse_modalities, parse_users
from orchestrator.registry_uploader import DEFAULT_REGISTRY, open_registry, outcome_of_version, publisher
from orchestrator.report import print_plan, print_report, report_console, summary
from orchestrator.run_folder import RunFolder, mean_seconds, write_whole
from orchestrator.trainer_process import Limits, child_environment
from shared.data_loader import users_with_data
from shared.errors import ConfigError, DataError, Fault, TrainerError

_EXAMPLES = """\b
Examples:
  orchestrator/launch_all.sh --data data
  orchestrator/launch_all.sh --data data --users ana,ben --modalities gesture,sound --jobs 2
  orchestrator/launch_all.sh --data data --dry-run
  orchestrator/launch_all.sh --data data --timeout 300 --memory 2G --max-failures 20
  orchestrator/launch_all.sh --data data --config sound=sound.yaml --set gesture:evaluation.folds=4
"""


@click.command(epilog=_EXAMPLES)
@click.option(
    "--data", required=True, type=click.Path(exists=True, file_okay=False, path_type=Path), help="The data root."
)
@click.option("--users", default="all", show_default=True, help="Comma-separated user ids, or all that have data.")
@click.option("--modalities", default="all", show_default=True, help="Comma-separated modalities, or all.")
@click.option(
    "--registry", default=str(DEFAULT_REGISTRY), show_default=True, help="The folder in which models are published."
)
@click.option(
    "--runs",
    default="runs",
    show_default=True,
    type=click.Path(file_okay=False, path_type=Path),
    help="The run folder.",
)
@click.option("--jobs", type=click.IntRange(1, 1024), help="Jobs at once.  [default: the number of cores]")
@click.option("--config", "configs", multiple=True, metavar="MODALITY=FILE", help="A modality's configuration file.")
@click.option("--set", "overrides", multiple=True, metavar="MODALITY:KEY=VALUE", help="One value of a configuration.")
@click.option("--seed", type=click.IntRange(0), help="The trainers' seed.")
@click.option("--demo-data/--no-demo-data", default=None, help="Whether examples marked is_demo are used.")
@click.option("--data-format", type=click.Choice(["auto", "own", "a3cp"]), default="auto", show_default=True)
@click.option("--force", is_flag=True, help="Train what is up to date, too.")
@click.option("--dry-run", is_flag=True, help="Print the plan with the reason for each job, and do nothing.")
@click.option(
    "--warm/--cold", default=True, show_default=True, help="Keep trainers for further jobs, or start one each."
)
@click.option("--timeout", type=click.FloatRange(0, min_open=True), help="Seconds that one job may take.")
@click.option("--memory", metavar="SIZE", help="Memory that one job may take, such as 900M or 4G.")
@click.option("--retries", type=click.IntRange(0), default=2, show_default=True, help="After transient failures.")
@click.option("--backoff", type=click.FloatRange(0), default=1.0, show_default=True, help="Seconds before a retry.")
@click.option("--fail-fast", is_flag=True, help="End the batch at the first failed job.")
@click.option("--max-failures", type=click.IntRange(1), help="Start no further job after so many failed.")
@click.option(
    "--drain",
    type=click.FloatRange(0),
    default=60.0,
    show_default=True,
    help="Seconds that running jobs have after SIGTERM.",
)
@click.option(
    "--trainer-commands",
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    help='JSON file with other commands, such as {"gesture": ["venv/bin/python", "-m", "gesture_trainer.train"]}.',
)
def main(
    trainer_commands: Path | None,
    jobs: int | None,
    registry: str,
    runs: Path,
    dry_run: bool,
    warm: bool,
    timeout: float | None,
    memory: str | None,
    retries: int,
    backoff: float,
    fail_fast: bool,
    max_failures: int | None,
    drain: float,
    **wanted: Any,
) -> None:
    """Train every user on every modality that has data, publish what came out and print it as a table.

    What is published already and has not changed is left alone, so the same command continues a batch that was cut
    short. A job that fails stops no other. The first SIGTERM lets running jobs finish; Ctrl-C ends them.

    The exit code is 0 when everything asked for is published, 1 when a job failed or was not started, 2 for a wrong
    command line or a run folder in use, 3 for unusable data, 130 or 143 when stopped by Ctrl-C or SIGTERM.
    """
    try:
        commands = COMMANDS if trainer_commands is None else read_commands(trainer_commands)
        limits = Limits(timeout, None if memory is None else parse_size(memory))
        request = _request(**wanted)
        folder, store, slots = RunFolder(runs.absolute()), open_registry(registry), jobs or os.cpu_count() or 1
        control = Control(retries, backoff, max_failures, fail_fast, drain)
        if dry_run:
            print_plan(plan_batch(request, folder, store), slots, report_console())
            sys.exit(0)
        code = launch(request, commands, folder, store, slots, limits, control, warm)
    except TrainerError as error:
        click.echo(str(error), err=True)
        code = error.exit_code
    sys.exit(code)


def parse_size(text: str) -> int:
    """Return the bytes that a text such as 900M or 4G means. Raises ConfigError."""
    match = re.fullmatch(r"(\d{1,12})([KMGT]?)(?:i?B)?", text.strip(), re.IGNORECASE)
    if match is None or int(match[1]) == 0:
        raise ConfigError(f"--memory: {one_line(text, 40)}: write a size such as 900M or 4G")
    return int(match[1]) << {"": 0, "K": 10, "M": 20, "G": 30, "T": 40}[match[2].upper()]


def _request(
    data: Path,
    users: str,
    modalities: str,
    configs: tuple[str, ...],
    overrides: tuple[str, ...],
    **others: Any,
) -> Request:
    """Return the request that the command line makes. Raises ConfigError with all that is wrong in it."""
    faults: list[str] = []
    named_users: tuple[str, ...] = ()
    named_modalities: tuple[Modality, ...] = ()
    try:
        named_users = parse_users(users)
    except ConfigError as error:
        faults += [f"--users: {line}" for line in str(error).splitlines()]
    try:
        named_modalities = parse_modalities(modalities)
    except ConfigError as error:
        faults += [f"--modalities: {line}" for line in str(error).splitlines()]
    files: dict[Modality, Path] = {}
    for modality, value in _by_modality("--config", configs, "=", faults):
        files[modality] = Path(value).absolute()
        if not files[modality].is_file():
            faults.append(f"--config: {value}: no such file")
    values: dict[Modality, tuple[str, ...]] = {}
    for modality, value in _by_modality("--set", overrides, ":", faults):
        values[modality] = (*values.get(modality, ()), value)
    if faults:
        raise ConfigError("\n".join(faults))
    return Request(
        data=data.absolute(),
        users=named_users,
        modalities=named_modalities,
        configs=files,
        overrides=values,
        **others,
    )


def _by_modality(option: str, words: Iterable[str], mark: str, faults: list[str]) -> Iterator[tuple[Modality, str]]:
    for word in words:
        name, found, value = word.partition(mark)
        try:
            if not found:
                raise InvalidNameError(f"{one_line(word)}: write MODALITY{mark}…")
            yield parse_modality(name), value
        except InvalidNameError as error:
            faults.append(f"{option}: {error}")


def launch(
    request: Request,
    commands: Commands,
    folder: RunFolder,
    store: Registry,
    slots: int,
    limits: Limits,
    control: Control,
    warm: bool,
) -> int:
    """Run the request to its end and return the exit code. Raises TrainerError when nothing can be started."""
    with batch_lock(folder.lock) as cut_short:
        if cut_short:
            click.echo(f"continuing the batch of {cut_short}, which was cut short", err=True)
        plan = plan_batch(request, folder, store)
        begun = time.monotonic()
        folder.begin({"data": str(request.data), "registry": str(store.root), "slots": slots}, plan.jobs)
        outcomes: list[Outcome] = []
        with stopped_by_signals() as stop:
            if plan.jobs:
                threads = max(1, (os.cpu_count() or 1) // slots)
                most = min(slots, len(plan.jobs))
                environment = child_environment(threads)
                backend = ProcessBackend(folder, commands, publisher(store), most, environment, limits, warm)
                with _telling(len(plan.jobs)) as tell:
                    outcomes = run_batch(plan.jobs, backend, folder, control, stop, tell)
            complete = len(outcomes) == len(plan.jobs) and all(outcome.succeeded for outcome in outcomes)
            code = stop.exit_code or (0 if complete else 1)
        numbers = summary(plan, outcomes, time.monotonic() - begun, code)
        write_whole(folder.root / "summary.json", numbers)
        print_report(numbers, [*outcomes, *map(partial(outcome_of_version, store), plan.up_to_date)], report_console())
        folder.note("end", {"exit_code": code})
    return code


def plan_batch(request: Request, folder: RunFolder, store: Registry) -> Plan:
    """Return the plan for what data and registry hold now. Raises TrainerError."""
    try:
        published = list(store.entries())
    except NotFoundError:
        published = []  # no registry yet
    except RegistryError as error:
        raise ConfigError(f"--registry: {one_line(error)}") from error
    counts = users_with_data(request.data)
    plan = make_plan(request, counts, published, mean_seconds(folder))
    if not plan.jobs and not plan.up_to_date:
        raise DataError([Fault(str(request.data), None, "users", "no examples of the modalities asked for")])
    return plan


@contextmanager
def _telling(total: int) -> Iterator[Callable[[Outcome], None]]:
    """Give a function that says on standard error how each job ended: under a bar on a terminal, plain elsewhere."""
    console = Console(stderr=True)
    with Progress(
        TextColumn("{task.completed} of {task.total} jobs"),
        BarColumn(),
        TimeElapsedColumn(),
        console=console,
        disable=not console.is_terminal,
    ) as bar:
        task = bar.add_task("jobs", total=total)
        count = 0

        def tell(outcome: Outcome) -> None:
            nonlocal count
            count += 1
            told = (
                f"{outcome.user} {outcome.modality}: {outcome.version or 'done'}" if outcome.succeeded else outcome.line
            )
            console.print(Text(f"[{count}/{total}] {told}, {outcome.seconds:.1f} s"), soft_wrap=True)
            bar.advance(task)

        yield tell


if __name__ == "__main__":
    main()
