"""What the registry's commands share: options, error reporting, printing."""

from __future__ import annotations

import functools
import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any, ParamSpec

import click
from rich.console import Console

from model_registry.errors import RegistryError
from model_registry.store import DEFAULT_ROOT

P = ParamSpec("P")

root_option = click.option(
    "--registry",
    "root",
    type=click.Path(path_type=Path, file_okay=False),
    default=DEFAULT_ROOT,
    envvar="MODEL_TRAINER_REGISTRY",
    show_envvar=True,
    help="The registry's folder.  [default: model_registry/store]",
    show_default=False,
)
json_option = click.option("--json", "as_json", is_flag=True, help="Answer in JSON, for scripts.")


def guarded(command: Callable[P, None]) -> Callable[P, None]:
    """End a command that the registry refuses with its message and exit code, without a traceback."""

    @functools.wraps(command)
    def run(*args: P.args, **kwargs: P.kwargs) -> None:
        try:
            command(*args, **kwargs)
        except RegistryError as error:
            click.echo(f"error: {error}", err=True)
            sys.exit(error.exit_code)

    return run


def number(value: float | None) -> str:
    """Return a metric as text, empty where there is none."""
    return "" if value is None else f"{value:.3f}"


def console() -> Console:
    """Return a console as wide as the terminal, or wide enough for a file."""
    return Console(width=None if sys.stdout.isatty() else 160)


def print_pairs(values: dict[str, str]) -> None:
    """Print names and values in two columns."""
    width = max((len(name) for name in values), default=0)
    for name, value in values.items():
        click.echo(f"  {name:<{width}}  {value}")


def emit(value: Any) -> None:
    """Print one JSON document on one line."""
    click.echo(json.dumps(value, ensure_ascii=False))
