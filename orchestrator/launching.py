"""A launch from beginning to end: lock, plan, batch, report; once, or again and again for a spool folder."""

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
from model_registry.storage.durable import check_writable
from orchestrator.backends import Backend, Tls
from orchestrator.backends.process import ThreadedBackend
from orchestrator.batch import Control, Stop, run_batch, stopped_by_signals
from orchestrator.jobs import COMMANDS, Commands, Outcome, one_line
from orchestrator.lock import batch_lock
from orchestrator.plan import Plan, Request, make_plan
from orchestrator.registry_uploader import outcome_of_version, publisher
from orchestrator.report import Tally, print_report, report_console, summary
from orchestrator.retraining import RetrainingRequest, put_away, read_requests, spooled
from orchestrator.run_folder import RunFolder, mean_seconds, write_json
from orchestrator.trainer_process import Limits, child_environment
from orchestrator.workers import WorkerPool, processes
from shared.data_loader import users_with_data
from shared.errors import ConfigError, DataError, Fault, TrainerError
from shared.named_files import named_files
from shared.schema_utils import PromotionPolicy

_LOOK = 1.0  # seconds between looks into a spool folder


@dataclass(frozen=True)
class Settings:
    """Where and how jobs run."""

    folder: RunFolder
    registry: WritableRegistry
    commands: Commands
    slots: int
    limits: Limits
    control: Control
    warm: bool
    promote: PromotionPolicy = "if-better"
    backend: str = "process"
    scheduler: str | None = None
    tls: Tls | None = None
    images: Mapping[Modality, str] = field(default_factory=dict)
    cpus: float | None = None
    pids: int | None = None


def launch(settings: Settings, request: Request) -> int:
    """Run one batch and return the exit code. Raises TrainerError when nothing can be started."""
    _check_folders(settings)
    with _locked(settings), _backend(settings, request) as backend, stopped_by_signals() as stop:
        return _batch(settings, request, backend, stop)


def follow(settings: Settings, request: Request, spool: Path) -> int:
    """Run a batch for every file of requests that comes into the folder `spool`, until a signal; return the exit code.

    A file is put into `done` when its batch has ended, so one whose batch was cut short is taken up again; what
    cannot be read goes to `refused`.
    """
    _check_folders(settings)
    with _locked(settings), _backend(settings, request) as backend, stopped_by_signals() as stop:
        while not stop.asked:
            for path in spooled(spool):
                if stop.asked:
                    break
                try:
                    asked = only_requested(request, read_requests(path))
                except DataError as error:
                    click.echo(str(error), err=True)
                    put_away(path, "refused")
                    continue
                try:
                    _batch(settings, asked, backend, stop)
                except TrainerError as error:  # the data or the registry are away; the file stays for another time
                    click.echo(f"{path}: {error}", err=True)
                    break
                if not stop.asked:
                    put_away(path, "done")
            until = time.monotonic() + _LOOK
            while not stop.asked and time.monotonic() < until:
                time.sleep(0.1)
        return stop.exit_code


def only_requested(request: Request, wanted: list[RetrainingRequest]) -> Request:
    """Return `request` for the users and modalities that were asked for."""
    pairs = frozenset((each.user_id, each.modality) for each in wanted)
    return replace(request, users=tuple(dict.fromkeys(each.user_id for each in wanted)), only=pairs)


def plan_batch(settings: Settings, request: Request) -> Plan:
    """Return the plan for what data and registry hold now. Raises TrainerError."""
    try:
        published = list(settings.registry.entries())
    except NotFoundError:
        published = []  # no registry yet
    except RegistryError as error:
        raise ConfigError(f"--registry: {one_line(error)}") from error
    folder = settings.folder
    plan = make_plan(request, users_with_data(request.data), published, mean_seconds(folder), folder.refused)
    if not (plan.jobs or plan.up_to_date or plan.refused or plan.without_data):
        raise DataError([Fault(str(request.data), None, "users", "no examples of what was asked for")])
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
    with batch_lock(settings.folder.lock) as cut_short:
        if cut_short:
            click.echo(f"continuing the batch of {cut_short}, which was cut short", err=True)
        yield


@contextmanager
def _backend(settings: Settings, request: Request) -> Iterator[Backend]:
    match settings.backend:
        case "dask":
            backend = _dask(settings)
        case "docker":
            backend = _docker(settings, request)
        case _:
            backend = _processes(settings)
    try:
        yield backend
    finally:
        backend.close()


def _processes(settings: Settings) -> Backend:
    environment = child_environment(max(1, (os.cpu_count() or 1) // settings.slots))
    pool = None
    if settings.warm:
        most = max(settings.slots, len(settings.commands))
        pool = WorkerPool(processes(settings.commands, environment), most)
    return _threads(settings, settings.limits, environment, pool)


def _docker(settings: Settings, request: Request) -> Backend:
    try:
        from orchestrator.backends.containers import IMAGES, ContainerLimits, Containers
    except ModuleNotFoundError as error:
        raise ConfigError(
            f"--backend docker: {error}; install the extra: pip install 'model-trainer[docker]'"
        ) from error
    limits, folder = ContainerLimits(), settings.folder
    limits = ContainerLimits(
        memory=settings.limits.memory or limits.memory,
        cpus=settings.cpus or max(1.0, (os.cpu_count() or 1) / settings.slots),
        pids=settings.pids or limits.pids,
    )
    folder.bundles.mkdir(parents=True, exist_ok=True)
    containers = Containers(
        runs=folder.root,
        images={**IMAGES, **settings.images},
        limits=limits,
        readable=(request.data, *request.configs.values(), *_named(request)),
        writable=(folder.bundles,),
        cache=cache_folder().absolute(),
    )
    removed = containers.remove_leftovers()
    if removed:
        click.echo(f"removed {removed} containers of the batch that was cut short", err=True)
    most, seconds = max(settings.slots, len(IMAGES)), Limits(settings.limits.seconds)
    pool = WorkerPool(containers.start, most) if settings.warm else WorkerPool(containers.start, most, jobs_each=1)
    return _threads(settings, seconds, {}, pool)


def _named(request: Request) -> list[Path]:
    """Return the files and folders that configurations and `--set` name."""
    given = [word.partition("=")[2] for words in request.overrides.values() for word in words]
    return [Path(name) for name in named_files([*(path.read_bytes() for path in request.configs.values()), *given])]


def _threads(
    settings: Settings, limits: Limits, environment: Mapping[str, str], pool: WorkerPool | None
) -> ThreadedBackend:
    publish = publisher(settings.registry, settings.promote)
    return ThreadedBackend(settings.folder, settings.commands, publish, settings.slots, environment, limits, pool)


def _dask(settings: Settings) -> Backend:
    try:
        from orchestrator.backends.dask_cluster import DaskBackend
        from orchestrator.backends.dask_job import DaskSpec
    except ModuleNotFoundError as error:
        raise ConfigError(f"--backend dask: {error}; install the extra: pip install 'model-trainer[dask]'") from error
    spec = DaskSpec(
        runs=str(settings.folder.root),
        registry=settings.registry.address,
        commands=None if settings.commands is COMMANDS else dict(settings.commands),
        seconds=settings.limits.seconds,
        memory=settings.limits.memory,
        warm=settings.warm,
        promote=settings.promote,
    )
    return DaskBackend(spec, settings.scheduler, settings.slots, settings.tls)


def _batch(settings: Settings, request: Request, backend: Backend, stop: Stop) -> int:
    folder, begun = settings.folder, time.monotonic()
    plan = plan_batch(settings, request)
    options = {"data": str(request.data), "registry": settings.registry.address, "slots": settings.slots}
    folder.begin(options, plan.jobs)
    tally = Tally()
    with _telling(len(plan.jobs)) as tell:

        def ended(outcome: Outcome) -> None:
            tally.add(outcome)
            tell(outcome)

        run_batch(plan.jobs, backend, folder, settings.control, stop, ended)
    complete = tally.published == len(plan.jobs) and not plan.without_data and not plan.refused
    code = stop.exit_code or (0 if complete else 1)
    numbers = summary(plan, tally, time.monotonic() - begun, code)
    write_json(folder.summary, numbers)
    known = map(partial(outcome_of_version, settings.registry), plan.up_to_date)
    print_report(numbers, tally, known, plan.refused, report_console())
    folder.note("end", {"exit_code": code})
    return code


@contextmanager
def _telling(total: int) -> Iterator[Callable[[Outcome], None]]:
    """Give a function that says on standard error how each job ended: under a bar on a terminal, plain elsewhere."""
    console = Console(stderr=True)
    columns = TextColumn("{task.completed} of {task.total} jobs"), BarColumn(), TimeElapsedColumn()
    with Progress(*columns, console=console, disable=not console.is_terminal) as bar:
        task = bar.add_task("jobs", total=total)
        count = 0

        def tell(outcome: Outcome) -> None:
            nonlocal count
            count += 1
            told = f"{outcome.user} {outcome.modality}: {outcome.version}" if outcome.succeeded else outcome.line
            console.print(Text(f"[{count}/{total}] {told}, {outcome.seconds:.1f} s"), soft_wrap=True)
            bar.advance(task)

        yield tell
