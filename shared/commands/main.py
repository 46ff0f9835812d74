"""The `model-trainer` command line, and what all command lines do with errors: they are caught here, once."""

from __future__ import annotations

import importlib
import signal
import sys
import traceback
from collections.abc import Callable
from types import FrameType
from typing import Any, NoReturn

import click

from model_registry.errors import RegistryError
from shared.errors import TrainerError

_COMMANDS = {  # name -> where the command is; imported when it is used, so that --help answers at once
    "check": "shared.commands.check:check_command",
    "extract": "gesture_trainer.extracting:extract_command",
    "import": "shared.commands.import_data:import_command",
    "predict": "shared.commands.predict:predict_command",
    "registry": "model_registry.commands.main:registry",
    "reproduce": "shared.commands.reproduce:reproduce_command",
}
_SHORT = {
    "check": "Validate a data root and report every fault at once.",
    "extract": "Find the landmarks of clips and images, and write feature files.",
    "import": "Turn folders, file names, CSV or JSON into the data layout.",
    "predict": "Answer files with a published model.",
    "registry": "Publish, resolve, list, show and verify models.",
    "reproduce": "Train a published version again and compare.",
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
    """Run a command; return its exit code after printing what went wrong, if anything."""
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
        click.echo(error_text(error), err=True)
        if exit_code(error) == 5:
            click.echo(traceback.format_exc(), err=True)
        return exit_code(error)


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
    return f"internal: {type(error).__name__}: {error}"


def exit_code(error: Exception) -> int:
    """Return 2 for usage or configuration, 3 for data, 4 for the quality gate, 5 for internal errors."""
    if isinstance(error, click.ClickException):
        return 2
    return error.exit_code if isinstance(error, TrainerError | RegistryError) else 5


def _stop_on_sigterm() -> None:
    """Let SIGTERM unwind like an exception, so that staged files are removed; the exit code is 143."""

    def stop(number: int, frame: FrameType | None) -> NoReturn:
        raise SystemExit(128 + number)

    signal.signal(signal.SIGTERM, stop)
