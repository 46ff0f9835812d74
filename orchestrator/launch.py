"""Trains users x modalities: plans the jobs, runs them, publishes what finished and says what came out."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import click
from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn
from rich.text import Text

from model_registry.errors import InvalidNameError
from model_registry.names import Modality, parse_modality
from orchestrator.backends.process import ProcessBackend
from orchestrator.batch import run_batch, stopped_by_signals
from orchestrator.jobs import COMMANDS, Commands, Outcome, one_line, read_commands
from orchestrator.plan import Request, parse_modalities, parse_users, plan_jobs
from orchestrator.registry_uploader import DEFAULT_REGISTRY, open_registry, publisher
from orchestrator.report import print_report, report_console
from orchestrator.run_folder import RunFolder
from orchestrator.trainer_process import Limits, child_environment
from shared.data_loader import users_with_data
from shared.errors import ConfigError, DataError, Fault, TrainerError

_EXAMPLES = """\b
Examples:
  orchestrator/launch_all.sh --data data
  orchestrator/launch_all.sh --data data --users ana,ben --modalities gesture,sound --jobs 2
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
@click.option("--demo-data/--no-demo-data", default=False, show_default=True, help="Train on demo data too.")
@click.option(
    "--trainer-commands",
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    help='JSON file with other commands, such as {"gesture": ["venv/bin/python", "-m", "gesture_trainer.train"]}.',
)
def main(trainer_commands: Path | None, jobs: int | None, registry: str, runs: Path, **wanted: Any) -> None:
    """Train every user on every modality that has data, publish what came out and print it as a table.

    A job that fails stops no other. The exit code is 0 when all succeeded, 1 when one failed, 2 for a wrong
    command line, 3 for unusable data, 130 or 143 when stopped by Ctrl-C or SIGTERM.
    """
    try:
        commands = COMMANDS if trainer_commands is None else read_commands(trainer_commands)
        request = _request(runs, **wanted)
        code = launch(request, commands, RunFolder(runs.absolute()), registry, jobs or os.cpu_count() or 1)
    except TrainerError as error:
        click.echo(str(error), err=True)
        code = error.exit_code
    sys.exit(code)


def _request(
    runs: Path,
    data: Path,
    users: str,
    modalities: str,
    configs: tuple[str, ...],
    overrides: tuple[str, ...],
    seed: int | None,
    demo_data: bool,
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
        bundles=RunFolder(runs.absolute()).bundles,
        users=named_users,
        modalities=named_modalities,
        configs=files,
        overrides=values,
        seed=seed,
        demo_data=demo_data,
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


def launch(request: Request, commands: Commands, folder: RunFolder, registry: str, slots: int) -> int:
    """Run the request to its end and return the exit code. Raises TrainerError when nothing can be started."""
    jobs = plan_jobs(request, users_with_data(request.data))
    if not jobs:
        raise DataError([Fault(str(request.data), None, "users", "no examples of the modalities asked for")])
    store = open_registry(registry)
    folder.begin({"data": str(request.data), "registry": registry, "jobs": slots}, jobs)
    threads = max(1, (os.cpu_count() or 1) // slots)
    backend = ProcessBackend(
        folder, commands, publisher(store), min(slots, len(jobs)), child_environment(threads), Limits()
    )
    with stopped_by_signals() as stop, _telling(len(jobs)) as tell:
        outcomes = run_batch(jobs, backend, folder, stop, tell)
    print_report(outcomes, report_console())
    code = stop.exit_code or (0 if all(outcome.succeeded for outcome in outcomes) else 1)
    folder.note("end", {"exit_code": code})
    return code


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
            text = (
                f"{outcome.user} {outcome.modality}: {outcome.version or 'done'}" if outcome.succeeded else outcome.line
            )
            console.print(Text(f"[{count}/{total}] {text}, {outcome.seconds:.1f} s"), soft_wrap=True)
            bar.advance(task)

        yield tell


if __name__ == "__main__":
    main()
