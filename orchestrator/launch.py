"""Trains users x modalities: the command line of the batch. What it does is in `orchestrator.launching`."""

from __future__ import annotations

import os
import re
import sys
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import click

from model_registry.commands.options import registry_option
from model_registry.errors import InvalidNameError
from model_registry.location import WritableRegistry
from model_registry.names import Modality, parse_modality
from orchestrator.backends import Tls
from orchestrator.batch import Control
from orchestrator.jobs import COMMANDS, one_line, read_commands
from orchestrator.launching import Settings, follow, launch, only_requested, plan_batch
from orchestrator.plan import Request, parse_modalities, parse_users
from orchestrator.report import plan_lines, print_plan, report_console
from orchestrator.retraining import FILE_LIMIT, RetrainingRequest, parse_requests, read_requests, spooled
from orchestrator.run_folder import RunFolder
from orchestrator.trainer_process import Limits
from shared.errors import ConfigError, TrainerError
from shared.packaging.promotion import POLICIES
from shared.schema_utils import PromotionPolicy

_FILE = click.Path(exists=True, dir_okay=False, path_type=Path)
_EXAMPLES = """\b
Examples:
  orchestrator/launch_all.sh --data data
  orchestrator/launch_all.sh --data data --users ana,ben --modalities gesture,sound --jobs 2
  orchestrator/launch_all.sh --data data --dry-run
  orchestrator/launch_all.sh --data data --requests spool --follow
  orchestrator/launch_all.sh --data /shared/data --runs /shared/runs --registry /shared/models --scheduler tcp://host:8786
  orchestrator/launch_all.sh --data data --timeout 300 --memory 2G --max-failures 20
  orchestrator/launch_all.sh --data data --backend docker --memory 2G --cpus 1
  orchestrator/launch_all.sh --data data --config sound=sound.yaml --set gesture:evaluation.folds=4
"""


@click.command(epilog=_EXAMPLES)
@click.option(
    "--data", required=True, type=click.Path(exists=True, file_okay=False, path_type=Path), help="The data root."
)
@click.option("--users", default="all", show_default=True, help="Comma-separated user ids, or all that have data.")
@click.option("--modalities", default="all", show_default=True, help="Comma-separated modalities, or all.")
@registry_option("write")
@click.option(
    "--runs",
    default="runs",
    show_default=True,
    type=click.Path(file_okay=False, path_type=Path),
    help="The run folder.",
)
@click.option(
    "--promote",
    type=click.Choice(POLICIES),
    default="if-better",
    show_default=True,
    help="Whether what is published becomes the active version, or stays a candidate.",
)
@click.option("--jobs", type=click.IntRange(1, 1024), help="Jobs at once.  [default: the number of cores]")
@click.option("--config", "configs", multiple=True, metavar="MODALITY=FILE", help="A modality's configuration file.")
@click.option("--set", "overrides", multiple=True, metavar="MODALITY:KEY=VALUE", help="One value of a configuration.")
@click.option("--seed", type=click.IntRange(0), help="The trainers' seed.")
@click.option("--demo-data/--no-demo-data", default=None, help="Whether examples marked is_demo are used.")
@click.option("--data-format", type=click.Choice(["auto", "own", "a3cp"]), default="auto", show_default=True)
@click.option("--force", is_flag=True, help="Train what is up to date, too.")
@click.option("--dry-run", is_flag=True, help="Print the plan with the reason for each job, and do nothing.")
@click.option("--json", "as_json", is_flag=True, help="With --dry-run: one JSON line a job; --requests reads them.")
@click.option(
    "--requests", metavar="FILE|-|DIR", help="Train only what these retraining requests (JSON lines) ask for."
)
@click.option(
    "--follow", "follow_spool", is_flag=True, help="With --requests DIR: run a batch for each file that comes."
)
@click.option("--backend", type=click.Choice(["process", "docker", "dask"]), default="process", show_default=True)
@click.option(
    "--image", "images", multiple=True, metavar="MODALITY=IMAGE", help="With --backend docker: another image."
)
@click.option(
    "--cpus", type=click.FloatRange(0, min_open=True), help="With --backend docker: processors of each container."
)
@click.option(
    "--pids", type=click.IntRange(1), help="With --backend docker: processes and threads of each.  [default: 256]"
)
@click.option("--scheduler", metavar="ADDRESS", help="With --backend dask: a running one, such as tcp://host:8786.")
@click.option(
    "--tls", nargs=3, type=_FILE, metavar="CA CERT KEY", help="With --scheduler tls://…: files in PEM format."
)
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
    type=_FILE,
    help='JSON file with other commands, such as {"gesture": ["venv/bin/python", "-m", "gesture_trainer.train"]}.',
)
def main(
    trainer_commands: Path | None,
    jobs: int | None,
    registry: WritableRegistry,
    runs: Path,
    dry_run: bool,
    as_json: bool,
    requests: str | None,
    follow_spool: bool,
    backend: str,
    images: tuple[str, ...],
    cpus: float | None,
    pids: int | None,
    scheduler: str | None,
    tls: tuple[Path, Path, Path] | None,
    warm: bool,
    promote: PromotionPolicy,
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
        request = _request(**wanted)
        settings = Settings(
            folder=RunFolder(runs.absolute()),
            registry=registry,
            commands=COMMANDS if trainer_commands is None else read_commands(trainer_commands),
            slots=jobs or os.cpu_count() or 1,
            limits=Limits(timeout, None if memory is None else parse_size(memory)),
            control=Control(retries, backoff, max_failures, fail_fast, drain),
            warm=warm,
            promote=promote,
            backend=backend if scheduler is None else "dask",
            scheduler=scheduler,
            tls=None if tls is None else Tls(*tls),
            images=_images(images),
            cpus=cpus,
            pids=pids,
        )
        code = _run(settings, request, requests, follow_spool, dry_run, as_json)
    except TrainerError as error:
        click.echo(str(error), err=True)
        code = error.exit_code
    sys.exit(code)


def _run(
    settings: Settings, request: Request, requests: str | None, follow_spool: bool, dry_run: bool, as_json: bool
) -> int:
    if follow_spool and (requests is None or not Path(requests).is_dir()):
        raise ConfigError("--follow: give the spool folder with --requests")
    if follow_spool and not dry_run:
        return follow(settings, request, Path(str(requests)))
    if requests is not None:
        request = only_requested(request, _read(requests))
    if not dry_run:
        return launch(settings, request)
    plan = plan_batch(settings, request)
    if as_json:
        for line in plan_lines(plan):
            click.echo(line)
    else:
        print_plan(plan, settings.slots, report_console())
    return 0


def _read(requests: str) -> list[RetrainingRequest]:
    """Return the requests of a file, of standard input for `-`, or of all files in a spool folder. Raises DataError."""
    if requests == "-":
        return parse_requests(sys.stdin.read(FILE_LIMIT), "standard input")
    if not Path(requests).is_dir():
        return read_requests(Path(requests))
    return [request for path in spooled(Path(requests)) for request in read_requests(path)]


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


def _images(words: tuple[str, ...]) -> dict[Modality, str]:
    """Return the images that the command line names. Raises ConfigError."""
    faults: list[str] = []
    found = dict(_by_modality("--image", words, "=", faults))
    if faults:
        raise ConfigError("\n".join(faults))
    return found


def _by_modality(option: str, words: Iterable[str], mark: str, faults: list[str]) -> Iterator[tuple[Modality, str]]:
    for word in words:
        name, found, value = word.partition(mark)
        try:
            if not found:
                raise InvalidNameError(f"{one_line(word)}: write MODALITY{mark}…")
            yield parse_modality(name), value
        except InvalidNameError as error:
            faults.append(f"{option}: {error}")


if __name__ == "__main__":
    main()
