"""The `model-trainer` command line, and what all command lines do with errors: they are caught here, once."""

from __future__ import annotations

import importlib
import os
import signal
import sys
import threading
import traceback
from collections.abc import Callable, Mapping
from importlib.metadata import entry_points
from multiprocessing.dummy import DummyProcess
from pathlib import Path
from types import FrameType
from typing import TYPE_CHECKING, Any, NoReturn, TypeGuard

import click

from model_registry.errors import RegistryError
from model_registry.platforms import check_platform
from shared.errors import TrainerError

if TYPE_CHECKING:
    from shared.trainers import Command

_COMMANDS = {  # name -> where the command is and what it does; imported when it runs, so that --help answers at once
    "check": ("shared.commands.check:check_command", "Validate a data root and report every fault at once."),
    "data": ("shared.commands.data:data_group", "List, relabel, move and remove samples, and undo changes."),
    "erase": ("shared.commands.erase:erase_command", "Remove everything of one person for good."),
    "evaluate": ("shared.commands.evaluate:evaluate_command", "Run a published model over long recordings."),
    "field": ("shared.commands.field:field_command", "Compare models in use with what their training promised."),
    "import": (
        "shared.commands.import_data:import_command",
        "Turn folders, file names, CSV or JSON into the data layout.",
    ),
    "predict": ("shared.commands.predict:predict_command", "Classify files with a published model."),
    "readmit": ("shared.commands.erase:readmit_command", "Allow an erased person's data again."),
    "registry": ("model_registry.commands.main:registry", "Publish, resolve, list, show and verify models."),
    "reproduce": ("shared.commands.reproduce:reproduce_command", "Train a published version again and compare."),
    "train": ("shared.commands.train:train_group", "Train one user's model of a modality."),
}
_ADDED = "model_trainer.commands"  # entry points such as orchestrator = "orchestrator.commands:COMMANDS"
_TERMINATED = 128 + signal.SIGTERM  # the exit code after SIGTERM
_EVERYTHING = "model-trainer[gesture,sound,speech,visual,serve]"
_LAST_SECONDS = 30.0  # that one item of joblib may take to end


class _LazyGroup(click.Group):
    """A group that imports a command when it runs: its own, and those that other packages and trainers declare."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return sorted(_commands())

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        place = (_COMMANDS if cmd_name in _COMMANDS else _commands()).get(cmd_name)
        if place is None:
            return None
        module, name = place[0].split(":")
        command: click.Command = getattr(importlib.import_module(module), name)
        return command

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        from shared.trainers import all_trainers

        with formatter.section("Commands"):
            formatter.write_dl([(name, summary) for name, (_, summary) in sorted(_commands().items())])
        training = [
            (each.console_script, f"Train one user's {each.modality} model.") for each in all_trainers().values()
        ]
        if training:
            with formatter.section("Commands that train, one for each modality"):
                formatter.write_dl(training)


def _commands() -> dict[str, tuple[str, str]]:
    """Return every command of `model-trainer`; nobody can take the name of one of ours."""
    from shared.trainers import all_trainers  # an image that only makes networks has this file without that one

    declared = [trainer.commands for trainer in all_trainers().values()] + _added_commands()
    return {name: (command.place, command.summary) for each in declared for name, command in each.items()} | _COMMANDS


def _added_commands() -> list[Mapping[str, Command]]:
    """Return what packages add under `model_trainer.commands`; a package that is not here adds nothing."""
    added = []
    for point in sorted(entry_points(group=_ADDED), key=lambda point: point.name):
        try:
            added.append(point.load())
        except ModuleNotFoundError as error:
            if error.name is None or not point.module.startswith(error.name):
                raise
    return added


@click.group(cls=_LazyGroup, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(package_name="model-trainer")
def model_trainer() -> None:
    """Bring data in, train models for one person, and use what was published.

    \b
    Examples:
      model-trainer check data
      model-trainer train sound --user ana --data data --out bundles --registry models
      model-trainer batch --data data --registry models
      model-trainer registry list --registry models
      model-trainer predict --user ana --modality sound --registry models hum.wav
    """


def main() -> NoReturn:
    """Run `model-trainer`; an error is one line a fault on standard error and the right exit code."""
    os.umask(0o077)  # whatever is written may be a person's data
    sys.exit(run(lambda: model_trainer(standalone_mode=False)))


def run(command: Callable[[], Any]) -> int:
    """Run a command; return its exit code after printing what went wrong, if anything."""
    _stop_on_sigterm()
    try:
        check_platform()
        result = command()
        return result if isinstance(result, int) else 0
    except click.exceptions.Exit as stop:
        return stop.exit_code
    except (click.Abort, KeyboardInterrupt):
        click.echo("interrupted", err=True)
        return 130
    except SystemExit as stop:
        if stop.code != _TERMINATED:
            raise
        return _TERMINATED
    except Exception as error:  # the one place that catches everything
        click.echo(error_text(error), err=True)
        if exit_code(error) == 5:
            click.echo(traceback.format_exc(), err=True)
        return exit_code(error)
    finally:
        _wait_for_joblib()


def _wait_for_joblib() -> None:
    """Wait for what joblib's threads are at: after an error or a signal nobody else does, and native code that still
    runs when the interpreter ends aborts the process, so that its exit code would be lost."""
    for thread in threading.enumerate():
        if isinstance(thread, DummyProcess):
            thread.join(_LAST_SECONDS)


def error_text(error: Exception) -> str:
    """Return what standard error says of an error, with the command's usage where that was wrong."""
    usage = error.ctx.get_usage() if isinstance(error, click.UsageError) and error.ctx else ""
    hint = f"\n{usage}\nTry --help for examples." if usage else ""
    return f"error: {error_message(error)}{hint}"


def error_message(error: Exception) -> str:
    """Return what was wrong, a line for each fault."""
    if isinstance(error, click.ClickException):
        return error.format_message()
    if isinstance(error, TrainerError | RegistryError):
        return str(error)
    if _of_an_extra(error):
        return f"the package {error.name} is missing; install it with: pip install '{_EVERYTHING}'"
    return f"internal: {type(error).__name__}: {error}"


def exit_code(error: Exception) -> int:
    """Return 2 for usage or configuration, 3 for data, 4 for the quality gate, 5 for internal errors."""
    if isinstance(error, click.ClickException) or _of_an_extra(error):
        return 2
    return error.exit_code if isinstance(error, TrainerError | RegistryError) else 5


def _of_an_extra(error: Exception) -> TypeGuard[ModuleNotFoundError]:
    """Return whether a package is not installed that an extra brings, and not a module of ours."""
    if not isinstance(error, ModuleNotFoundError) or error.name is None:
        return False
    return not Path(__file__).parents[2].joinpath(error.name.split(".")[0]).is_dir()


def _stop_on_sigterm() -> None:
    """Let SIGTERM unwind like an exception, so that staged files are removed; the exit code is 143."""

    def stop(number: int, frame: FrameType | None) -> NoReturn:
        raise SystemExit(128 + number)

    signal.signal(signal.SIGTERM, stop)
