"""What the registry's commands share, and the `--registry` option of every command of the project."""

from __future__ import annotations

import functools
import json
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any, Literal, ParamSpec

import click
from rich.console import Console

from model_registry.errors import RegistryError
from model_registry.folders import (
    REGISTRY_VARIABLE,
    REQUIRE_SIGNATURE_VARIABLE,
    SIGNING_KEY_VARIABLE,
    TRUSTED_KEYS_VARIABLE,
    configured_signatures,
    default_registry,
)
from model_registry.location import is_url, open_registry, open_writable_registry
from model_registry.messages import plain
from model_registry.promotion import POLICIES
from model_registry.storage.signatures import Signatures
from model_registry.store import Registry

P = ParamSpec("P")
# What a command does with a registry. `read`: a folder, an http(s):// URL, or another URL that fsspec reads;
# `write`: a folder or an http(s):// URL; `folder`: a folder on this machine.
Kind = Literal["read", "write", "folder"]


_HELP = {
    "read": "The registry: a folder, http(s)://…, or a URL that fsspec reads, such as s3://….",
    "write": "The registry: a folder, or http(s)://….",
    "folder": "The registry's folder.",
}


def registry_settings(kind: Kind, *, help: str = "", default: bool = True) -> dict[str, Any]:
    """Return the settings of a click option that takes a registry; the parameter is the opened registry.

    Without `default` the parameter is None where the option is not given.
    """
    settings: dict[str, Any] = {
        "metavar": "FOLDER" if kind == "folder" else "FOLDER|URL",
        "callback": functools.partial(_opened, kind),
        "help": f"{help} {_HELP[kind]}".strip(),
    }
    if default:
        settings |= {
            "default": default_registry,
            "envvar": REGISTRY_VARIABLE,
            "show_envvar": True,
            "show_default": "your data folder: on Linux ~/.local/share/model-trainer/registry",
        }
    return settings


def _opened(kind: Kind, context: click.Context, parameter: click.Parameter, address: str | None) -> Any:
    """Return the registry at an address; nothing is read yet."""
    if address is None:
        return None
    if not address:
        raise click.BadParameter("is empty; give a folder or a URL")
    signatures = signatures_of(context)
    if is_url(address) and "key_file" in context.meta.get(_META, {}) and kind == "write":
        raise click.BadParameter(f"{address}: a service signs with its own key: give it to `registry serve`")
    try:
        if kind == "read":
            return open_registry(address, signatures)
        if kind == "write":
            return open_writable_registry(address, signatures)
    except RegistryError as error:
        raise click.BadParameter(str(error)) from None
    if is_url(address):
        raise click.BadParameter(f"{address}: this command needs the registry's folder on this machine, not a URL")
    return Registry(Path(address).absolute(), signatures)


_META = "model_registry.signatures"  # where a command's context keeps what its options say


def _keep(field: str) -> Callable[[click.Context, click.Parameter, Any], None]:
    """Return the callback of an option that gives a field of `Signatures`. Such options are eager: `--registry` needs
    them."""

    def keep(context: click.Context, parameter: click.Parameter, value: Any) -> None:
        if value:
            context.meta.setdefault(_META, {})[field] = value

    return keep


def signatures_of(context: click.Context) -> Signatures:
    """Return what options and environment say of signatures."""
    return replace(configured_signatures(), **context.meta.get(_META, {}))


signing_option = click.option(
    "--signing-key",
    type=click.Path(path_type=Path, dir_okay=False),
    envvar=SIGNING_KEY_VARIABLE,
    show_envvar=True,
    is_eager=True,
    expose_value=False,
    callback=_keep("key_file"),
    help="Sign with the private key in this file, which `registry key new` wrote.",
)
trusted_keys_option = click.option(
    "--trusted-keys",
    type=click.Path(path_type=Path, dir_okay=False),
    envvar=TRUSTED_KEYS_VARIABLE,
    show_envvar=True,
    show_default="your configuration folder: on Linux ~/.config/model-trainer/trusted_keys.json",
    is_eager=True,
    expose_value=False,
    callback=_keep("trusted_keys"),
    help="The file with the public keys that you trust.",
)
_required_option = click.option(
    "--require-signature",
    is_flag=True,
    envvar=REQUIRE_SIGNATURE_VARIABLE,
    show_envvar=True,
    is_eager=True,
    expose_value=False,
    callback=_keep("required"),
    help="Refuse versions that no trusted key has signed.",
)


def checking_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """Return a command with the options `--require-signature` and `--trusted-keys`."""
    return _required_option(trusted_keys_option(command))


def registry_option(kind: Kind, *, help: str = "") -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    """Return the option `--registry` of a command; see `registry_settings`."""
    return click.option("--registry", **registry_settings(kind, help=help))


def promote_settings() -> dict[str, Any]:
    """Return the settings of the click option `--promote` of every command that publishes."""
    return {
        "type": click.Choice(POLICIES),
        "default": "if-better",
        "show_default": True,
        "help": "Whether the new version becomes the active one, or stays a candidate.",
    }


json_option = click.option("--json", "as_json", is_flag=True, help="Print JSON, for scripts.")


def guarded(command: Callable[P, None]) -> Callable[P, None]:
    """End a command with message and exit code of the registry's error, without a traceback."""

    @functools.wraps(command)
    def run(*args: P.args, **kwargs: P.kwargs) -> None:
        try:
            command(*args, **kwargs)
        except RegistryError as error:
            click.echo(plain(f"error: {error}"), err=True)
            sys.exit(error.exit_code)

    return run


def number(value: float | None) -> str:
    """Return a metric as text, empty where there is none."""
    return "" if value is None else f"{value:.3f}"


def console() -> Console:
    """Return a console as wide as the terminal, or wide enough for a file."""
    return Console(width=None if sys.stdout.isatty() else 160)


def print_fields(values: dict[str, str]) -> None:
    """Print names and values in two columns."""
    width = max((len(name) for name in values), default=0)
    for name, value in values.items():
        click.echo(plain(f"  {name:<{width}}  {value}"))


def emit(value: Any) -> None:
    """Print one JSON document on one line."""
    click.echo(json_text(json.dumps(value, ensure_ascii=False)))


def json_text(text: str) -> str:
    """Return JSON in which every control character is escaped: JSON itself allows some that command a terminal."""
    return "".join(c if c.isprintable() or c == "\n" else f"\\u{ord(c):04x}" for c in text)
