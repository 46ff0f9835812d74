"""A batch from beginning to end: lock, plan, jobs, report; once, or for every file that comes into a spool folder."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path

import click
from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn
from rich.text import Text

from model_registry.errors import NotFoundError, RegistryError
from model_registry.folders import cache_folder
from model_registry.location import WritableRegistry
from model_registry.names import Modality
from model_registry.promotion import PromotionPolicy
from model_registry.storage.durable import check_writable
from model_registry.storage.verification import Damage, log_damage
from orchestrator.backends import Backend, Tls
from orchestrator.backends.process import ThreadedBackend
from orchestrator.batch import Control, Stop, run_batch, stopped_by_signals
from orchestrator.failures import failures_before
from orchestrator.jobs import Commands, Outcome, one_line, trainer_commands
from orchestrator.lock import batch_lock
from orchestrator.plan import BatchSpec, ModelSlot, Plan, make_plan
from orchestrator.registry_uploader import outcome_of_version, publisher
from orchestrator.report import Tally, print_report, report_console, summary
from orchestrator.run_folder import RunFolder, mean_seconds, write_json
from orchestrator.trainer_process import Limits, child_environment
from orchestrator.training_requests import Requests, move_spool_file, read_requests, spool_files
from orchestrator.workers import WorkerPool, start_processes
from shared.errors import ConfigError, DataError, Fault, TrainerError
from shared.named_files import named_files
from shared.trainers import all_trainers

_POLL_SECONDS = 1.0  # between checks of a spool folder


@dataclass(frozen=True)
class Settings:
    """Where and how jobs run."""

    folder: RunFolder
    registry: WritableRegistry
    slots: int
    limits: Limits
    control: Control
    warm: bool
    commands: Commands | None = None  # none: those of the trainers installed where a job runs
    promote: PromotionPolicy = "if-better"
    backend: str = "process"
    scheduler: str | None = None
    tls: Tls | None = None
    images: Mapping[Modality, str] = field(default_factory=dict)  # in place of those that trainers declare
    cpus: float | None = None
    pids: int | None = None


def launch(settings: Settings, spec: BatchSpec) -> int:
    """Run one batch and return the exit code. Raises TrainerError when nothing can be started."""
    _check_folders(settings)
    with _locked(settings), _backend(settings, spec) as backend, stopped_by_signals() as stop:
        return _batch(settings, spec, backend, stop)


def follow(settings: Settings, spec: BatchSpec, spool: Path) -> int:
    """Run a batch for every file of requests that comes into the folder `spool`, until a signal; return the exit code.

    A file moves to `done` when its batch has ended, so one whose batch was interrupted is read again; one that cannot
    be read moves to `refused`.
    """
    _check_folders(settings)
    with _locked(settings), _backend(settings, spec) as backend, stopped_by_signals() as stop:
        while not stop.requested:
            for path in spool_files(spool):
                if stop.requested:
                    break
                try:
                    requested = only_requested(spec, read_requests([path]))
                except DataError as error:
                    click.echo(str(error), err=True)
                    move_spool_file(path, "refused")
                    continue
                try:
                    _batch(settings, requested, backend, stop)
                except TrainerError as error:  # data or registry are out of reach; the file stays for later
                    click.echo(f"{path}: {error}", err=True)
                    break
                if not stop.requested:
                    move_spool_file(path, "done")
            until = time.monotonic() + _POLL_SECONDS
            while not stop.requested and time.monotonic() < until:
                time.sleep(0.1)
        return stop.exit_code


def only_requested(spec: BatchSpec, requests: Requests) -> BatchSpec:
    """Return `spec` limited to the models that were requested."""
    return replace(spec, users=tuple(dict.fromkeys(user for user, _ in requests)), requests=requests)


def plan_batch(settings: Settings, spec: BatchSpec) -> Plan:
    """Return the plan for what data and registry hold now. Raises TrainerError."""
    from shared.data_loader import users_with_data  # not needed for --help

    damaged: dict[ModelSlot, str] = {}

    def on_damage(damage: Damage) -> None:
        log_damage(damage)
        if damage.version is None:
            damaged[damage.user, damage.modality] = damage.reason

    try:
        published = list(settings.registry.entries(on_damage=on_damage))
    except NotFoundError:
        published = []  # no registry yet
    except RegistryError as error:
        raise ConfigError(f"--registry: {one_line(error)}") from error
    folder = settings.folder
    plan = make_plan(spec, users_with_data(spec.data), published, mean_seconds(folder), folder.refused, damaged)
    if not (plan.jobs or plan.up_to_date or plan.refused or plan.without_data):
        raise DataError([Fault(str(spec.data), None, "users", "no examples of the users and modalities asked for")])
    return plan


def _check_folders(settings: Settings) -> None:
    """Raise ConfigError where results could not be written, before anything is trained."""
    for option, check in (
        ("--runs", partial(check_writable, settings.folder.root)),
        ("--registry", settings.registry.check_writable),
    ):
        try:
            check()
        except RegistryError as error:
            raise ConfigError(f"{option}: {one_line(error)}") from None


@contextmanager
def _locked(settings: Settings) -> Iterator[None]:
    with batch_lock(settings.folder.lock) as interrupted:
        if interrupted:
            click.echo(f"continuing the interrupted batch of {interrupted}", err=True)
        yield


@contextmanager
def _backend(settings: Settings, spec: BatchSpec) -> Iterator[Backend]:
    match settings.backend:
        case "dask":
            backend = _dask(settings)
        case "docker":
            backend = _docker(settings, spec)
        case _:
            backend = _processes(settings)
    try:
        yield backend
    finally:
        backend.close()


def _processes(settings: Settings) -> Backend:
    commands = settings.commands or trainer_commands()
    environment = child_environment(max(1, (os.cpu_count() or 1) // settings.slots))
    pool = None
    if settings.warm:
        pool = WorkerPool(start_processes(commands, environment), max(settings.slots, len(commands)))
    return _threads(settings, settings.limits, environment, pool)


def _docker(settings: Settings, spec: BatchSpec) -> Backend:
    try:
        from orchestrator.backends.containers import ContainerLimits, Containers
    except ModuleNotFoundError as error:
        raise ConfigError(
            f"--backend docker: {error}; install the extra: pip install 'model-trainer[docker]'"
        ) from error
    folder, trainers = settings.folder, all_trainers()
    limits = ContainerLimits(
        memory=settings.limits.memory,
        cpus=settings.cpus or max(1.0, (os.cpu_count() or 1) / settings.slots),
        pids=settings.pids or ContainerLimits.pids,
    )
    folder.bundles.mkdir(parents=True, exist_ok=True)
    containers = Containers(
        runs=folder.root,
        trainers={name: replace(each, image=settings.images.get(name, each.image)) for name, each in trainers.items()},
        limits=limits,
        readable=(spec.data, *spec.configs.values(), *_named_files(spec)),
        writable=(folder.bundles,),
        cache=cache_folder().absolute(),
    )
    removed = containers.remove_leftovers()
    if removed:
        click.echo(f"removed {removed} containers of an interrupted batch", err=True)
    most, seconds = max(settings.slots, len(trainers)), Limits(settings.limits.seconds)
    pool = WorkerPool(containers.start, most) if settings.warm else WorkerPool(containers.start, most, jobs_each=1)
    return _threads(settings, seconds, {}, pool)


def _named_files(spec: BatchSpec) -> list[Path]:
    """Return the files and folders that configurations and `--set` name."""
    values = [word.partition("=")[2] for words in spec.overrides.values() for word in words]
    return [Path(name) for name in named_files([*(path.read_bytes() for path in spec.configs.values()), *values])]


def _threads(
    settings: Settings, limits: Limits, environment: Mapping[str, str], pool: WorkerPool | None
) -> ThreadedBackend:
    commands, publish = settings.commands or trainer_commands(), publisher(settings.registry, settings.promote)
    return ThreadedBackend(settings.folder, commands, publish, settings.slots, environment, limits, pool)


def _dask(settings: Settings) -> Backend:
    try:
        from orchestrator.backends.dask_cluster import DaskBackend
        from orchestrator.backends.dask_job import DaskSpec
    except ModuleNotFoundError as error:
        raise ConfigError(f"--backend dask: {error}; install the extra: pip install 'model-trainer[dask]'") from error
    spec = DaskSpec(
        runs=str(settings.folder.root),
        registry=settings.registry.address,
        commands=None if settings.commands is None else dict(settings.commands),
        seconds=settings.limits.seconds,
        memory=settings.limits.memory,
        warm=settings.warm,
        promote=settings.promote,
    )
    return DaskBackend(spec, settings.scheduler, settings.slots, settings.tls)


def _batch(settings: Settings, spec: BatchSpec, backend: Backend, stop: Stop) -> int:
    folder, begun = settings.folder, time.monotonic()
    plan = plan_batch(settings, spec)
    options = {"data": str(spec.data), "registry": settings.registry.address, "slots": settings.slots}
    folder.begin(options, plan.jobs, failures_before(folder, spec, plan))
    tally = Tally()
    with _progress_lines(len(plan.jobs)) as print_outcome:

        def on_end(outcome: Outcome) -> None:
            tally.add(outcome)
            print_outcome(outcome)

        run_batch(plan.jobs, backend, folder, settings.control, stop, on_end)
    complete = tally.ended == len(plan.jobs) and not tally.failures
    code = stop.exit_code or (0 if complete else 1)
    numbers = summary(plan, tally, time.monotonic() - begun, code)
    write_json(folder.summary, numbers)
    known = map(partial(outcome_of_version, settings.registry), plan.up_to_date)
    print_report(numbers, tally, known, plan.refused, report_console())
    folder.record("end", {"exit_code": code})
    return code


@contextmanager
def _progress_lines(total: int) -> Iterator[Callable[[Outcome], None]]:
    """Yield a function that prints on standard error how a job ended; on a terminal a bar stands below the lines."""
    console = Console(stderr=True)
    columns = TextColumn("{task.completed} of {task.total} jobs"), BarColumn(), TimeElapsedColumn()
    with Progress(*columns, console=console, disable=not console.is_terminal) as bar:
        task = bar.add_task("jobs", total=total)
        count = 0

        def print_outcome(outcome: Outcome) -> None:
            nonlocal count
            count += 1
            text = f"{outcome.user} {outcome.modality}: {outcome.version}" if outcome.succeeded else outcome.line
            console.print(Text(f"[{count}/{total}] {text}, {outcome.seconds:.1f} s"), soft_wrap=True)
            bar.advance(task)

        yield print_outcome
