"""Trains users x modalities: the command line of a batch. What it does is in `orchestrator.lifecycle`."""

from __future__ import annotations

import os
import re
import sys
import traceback
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import click

from model_registry.commands.options import promote_settings, registry_option
from model_registry.errors import InvalidNameError
from model_registry.location import WritableRegistry
from model_registry.names import Modality
from model_registry.promotion import PromotionPolicy
from orchestrator.backends import Tls
from orchestrator.batch import Control
from orchestrator.failure_report import report_command
from orchestrator.jobs import one_line, trainer_commands
from orchestrator.lifecycle import Settings, follow, launch, only_requested, plan_batch
from orchestrator.plan import BatchSpec, parse_modalities, parse_users
from orchestrator.report import plan_lines, print_plan, report_console
from orchestrator.run_folder import RunFolder
from orchestrator.trainer_process import Limits
from orchestrator.training_requests import FILE_LIMIT, Requests, parse_requests, read_requests, spool_files
from shared.errors import ConfigError, TrainerError
from shared.trainers import parse_known_modality

_FILE = click.Path(exists=True, dir_okay=False, path_type=Path)
_EXAMPLES = """\b
Examples:
  model-trainer batch --data data
  model-trainer batch --data data --users ana,ben --modalities gesture,sound --jobs 2
  model-trainer batch --data data --dry-run
  model-trainer batch --data data --requests spool --follow
  model-trainer batch --data /shared/data --runs /shared/runs --registry /shared/models --scheduler tcp://host:8786
  model-trainer batch --data data --timeout 300 --memory 2G --max-failures 20
  model-trainer batch --data data --backend docker --memory 2G --cpus 1
  model-trainer batch report runs
  model-trainer batch --data data --config sound=sound.yaml --set gesture:evaluation.folds=4
"""


@click.group(invoke_without_command=True, epilog=_EXAMPLES, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(package_name="model-trainer")
@click.option(
    "--data", type=click.Path(exists=True, file_okay=False, path_type=Path), help="The data root.  [required]"
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
@click.option("--promote", **promote_settings())
@click.option("--jobs", type=click.IntRange(1, 1024), help="Jobs at once.  [default: the number of cores]")
@click.option("--config", "configs", multiple=True, metavar="MODALITY=FILE", help="A modality's configuration file.")
@click.option("--set", "overrides", multiple=True, metavar="MODALITY:KEY=VALUE", help="One value of a configuration.")
@click.option("--seed", type=click.IntRange(0), help="The trainers' seed.")
@click.option("--demo-data/--no-demo-data", default=None, help="Whether examples marked is_demo are used.")
@click.option("--data-format", type=click.Choice(["auto", "own", "a3cp"]), default="auto", show_default=True)
@click.option("--force", is_flag=True, help="Train what is up to date as well.")
@click.option("--dry-run", is_flag=True, help="Print the plan with the reason for each job, and do nothing.")
@click.option("--json", "as_json", is_flag=True, help="With --dry-run: one JSON line a job; --requests reads them.")
@click.option("--requests", metavar="FILE|-|DIR", help="Train only what A3CP's training requests (JSON lines) ask for.")
@click.option(
    "--follow", "follow_spool", is_flag=True, help="With --requests DIR: run a batch for each file that arrives."
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
    "--warm/--cold",
    default=True,
    show_default=True,
    help="Keep trainers running for further jobs, or start one for each.",
)
@click.option("--timeout", type=click.FloatRange(0, min_open=True), help="Seconds that one job may take.")
@click.option("--memory", metavar="SIZE", help="Memory that one job may take, such as 900M or 4G.")
@click.option(
    "--retries", type=click.IntRange(0), default=2, show_default=True, help="Further attempts after transient failures."
)
@click.option("--backoff", type=click.FloatRange(0), default=1.0, show_default=True, help="Seconds before a retry.")
@click.option("--fail-fast", is_flag=True, help="End the batch at the first failed job.")
@click.option("--max-failures", type=click.IntRange(1), help="Start no further job after this many failures.")
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
    help='JSON file with other commands of trainers, such as {"sound": ["venv/bin/python", "-m", "my_sound.train"]}.',
)
@click.pass_context
def main(context: click.Context, /, **options: Any) -> None:
    """Train every user on every modality that has data, publish the models and print a table of them.

    What is published already and has not changed is left alone, so the same command continues an interrupted batch. A
    failed job does not stop the others. The first SIGTERM lets running jobs finish; Ctrl-C ends them.

    The exit code is 0 when no job failed. That a person's data allow no model, for want of consent, of samples or of
    accuracy, is reported and is no failure. It is 1 when a job failed or was not started, 2 for a wrong command line or
    a run folder in use, 3 for a data root that cannot be used, 5 for an internal error or a lost cluster, 130 or 143
    when stopped by Ctrl-C or SIGTERM.
    """
    if context.invoked_subcommand is not None:
        return
    if options["data"] is None:
        raise click.MissingParameter(ctx=context, param_hint="'--data'", param_type="option")
    os.umask(0o077)  # whatever is written may be a person's data; trainers inherit it
    try:
        code = run(CommandLine(**options))
    except TrainerError as error:
        click.echo(str(error), err=True)
        code = error.exit_code
    except Exception:  # the one place of a batch that catches everything
        click.echo(f"error: internal:\n{traceback.format_exc()}", err=True)
        code = TrainerError.exit_code
    sys.exit(code)


main.add_command(report_command)


@dataclass(frozen=True)
class CommandLine:
    """The options as click parsed them; each field is the parameter of the same name."""

    data: Path
    users: str
    modalities: str
    registry: WritableRegistry
    runs: Path
    promote: PromotionPolicy
    jobs: int | None
    configs: tuple[str, ...]
    overrides: tuple[str, ...]
    seed: int | None
    demo_data: bool | None
    data_format: str
    force: bool
    dry_run: bool
    as_json: bool
    requests: str | None
    follow_spool: bool
    backend: str
    images: tuple[str, ...]
    cpus: float | None
    pids: int | None
    scheduler: str | None
    tls: tuple[Path, Path, Path] | None
    warm: bool
    timeout: float | None
    memory: str | None
    retries: int
    backoff: float
    fail_fast: bool
    max_failures: int | None
    drain: float
    trainer_commands: Path | None


def run(line: CommandLine) -> int:
    """Do what a command line asks for and return the exit code. Raises TrainerError."""
    spec, settings = _batch_spec(line), _settings(line)
    if line.follow_spool and (line.requests is None or not Path(line.requests).is_dir()):
        raise ConfigError("--follow: name the spool folder with --requests")
    if line.follow_spool and not line.dry_run:
        return follow(settings, spec, Path(str(line.requests)))
    if line.requests is not None:
        spec = only_requested(spec, _read_requests(line.requests))
    if not line.dry_run:
        return launch(settings, spec)
    plan = plan_batch(settings, spec)
    if line.as_json:
        for text in plan_lines(plan):
            click.echo(text)
    else:
        print_plan(plan, settings.slots, report_console())
    return 0


def _read_requests(place: str) -> Requests:
    """Return the requests in a file, on standard input for `-`, or in all files of a spool folder. Raises DataError."""
    if place == "-":
        return parse_requests(sys.stdin.read(FILE_LIMIT), "standard input")
    return read_requests(spool_files(Path(place)) if Path(place).is_dir() else [Path(place)])


def _settings(line: CommandLine) -> Settings:
    """Return where and how jobs run. Raises ConfigError."""
    faults: list[str] = []
    images = dict(_by_modality("--image", line.images, "=", faults))
    if faults:
        raise ConfigError("\n".join(faults))
    return Settings(
        folder=RunFolder(line.runs.absolute()),
        registry=line.registry,
        commands=None if line.trainer_commands is None else trainer_commands(line.trainer_commands),
        slots=line.jobs or os.cpu_count() or 1,
        limits=Limits(line.timeout, None if line.memory is None else parse_size(line.memory)),
        control=Control(line.retries, line.backoff, line.max_failures, line.fail_fast, line.drain),
        warm=line.warm,
        promote=line.promote,
        backend=line.backend if line.scheduler is None else "dask",
        scheduler=line.scheduler,
        tls=None if line.tls is None else Tls(*line.tls),
        images=images,
        cpus=line.cpus,
        pids=line.pids,
    )


def _batch_spec(line: CommandLine) -> BatchSpec:
    """Return what is to be trained. Raises ConfigError with everything that is wrong in it."""
    faults: list[str] = []
    users: tuple[str, ...] = ()
    modalities: tuple[Modality, ...] = ()
    try:
        users = parse_users(line.users)
    except ConfigError as error:
        faults += [f"--users: {text}" for text in str(error).splitlines()]
    try:
        modalities = parse_modalities(line.modalities)
    except ConfigError as error:
        faults += [f"--modalities: {text}" for text in str(error).splitlines()]
    configs: dict[Modality, Path] = {}
    for modality, value in _by_modality("--config", line.configs, "=", faults):
        configs[modality] = Path(value).absolute()
        if not configs[modality].is_file():
            faults.append(f"--config: {value}: no such file")
    overrides: dict[Modality, tuple[str, ...]] = {}
    for modality, value in _by_modality("--set", line.overrides, ":", faults):
        overrides[modality] = (*overrides.get(modality, ()), value)
    if faults:
        raise ConfigError("\n".join(faults))
    return BatchSpec(
        data=line.data.absolute(),
        users=users,
        modalities=modalities,
        configs=configs,
        overrides=overrides,
        seed=line.seed,
        demo_data=line.demo_data,
        data_format=line.data_format,
        force=line.force,
    )


def _by_modality(option: str, words: Iterable[str], mark: str, faults: list[str]) -> Iterator[tuple[Modality, str]]:
    for word in words:
        name, separator, value = word.partition(mark)
        if not separator:
            faults.append(f"{option}: {one_line(word)}: write MODALITY{mark}…")
            continue
        try:
            yield parse_known_modality(name), value
        except InvalidNameError as error:
            faults.append(f"{option}: {error}")


def parse_size(text: str) -> int:
    """Return the bytes that a text such as 900M or 4G means. Raises ConfigError."""
    match = re.fullmatch(r"(\d{1,12})([KMGT]?)(?:i?B)?", text.strip(), re.IGNORECASE)
    if match is None or int(match[1]) == 0:
        raise ConfigError(f"--memory: {one_line(text, 40)}: write a size such as 900M or 4G")
    return int(match[1]) << {"": 0, "K": 10, "M": 20, "G": 30, "T": 40}[match[2].upper()]


if __name__ == "__main__":
    main()
