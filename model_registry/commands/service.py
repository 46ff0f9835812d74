"""Commands around the HTTP service: starting it, and who may use it."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import click

from model_registry.commands.options import guarded, root_option
from model_registry.service.tokens import SCOPES, add_token, read_tokens, remove_token, tokens_file
from model_registry.store import Registry


@click.command()
@click.option("--host", default="127.0.0.1", show_default=True, help="Address to listen on.")
@click.option("--port", type=click.IntRange(0, 65535), default=8077, show_default=True, help="Port to listen on.")
@root_option
@guarded
def serve(host: str, port: int, root: Path) -> None:
    """Serve the registry over HTTP: an API under /v1, pages for people at /.

    Clients need a token; make one first. Put a TLS proxy in front where others can listen.

    \b
    Examples:
      model-trainer registry token add trainer --scope publish --scope read
      model-trainer registry serve --port 8077
    """
    try:
        from model_registry.service import server
    except ModuleNotFoundError as error:
        raise click.UsageError(f"{error.name} is missing: pip install 'model-trainer[serve]'") from None
    store = Registry(root.absolute())
    if not read_tokens(tokens_file(store.created())).tokens:
        click.echo("no tokens yet, so nobody gets in: model-trainer registry token add NAME --scope read", err=True)
    server.serve(store, host, port)


@click.group()
def token() -> None:
    """Make, list and remove the tokens that the service accepts.

    \b
    Example:
      model-trainer registry token add trainer --scope publish
    """


@token.command()
@click.argument("name")
@click.option("--scope", "scopes", type=click.Choice(SCOPES), multiple=True, required=True, help="May be repeated.")
@root_option
@guarded
def add(name: str, scopes: tuple[Any, ...], root: Path) -> None:
    """Make a token and print it, once: only its hash is kept.

    `read` resolves and downloads, `publish` uploads, promotes and rolls back, `admin` does everything.

    \b
    Example:
      export MODEL_TRAINER_TOKEN=$(model-trainer registry token add trainer --scope publish --scope read)
    """
    click.echo(add_token(tokens_file(Registry(root).created()), name, tuple(dict.fromkeys(scopes))))


@token.command(name="list")
@root_option
@guarded
def list_tokens(root: Path) -> None:
    """List the tokens' names, scopes and dates.

    \b
    Example:
      model-trainer registry token list
    """
    for known in read_tokens(tokens_file(root)).tokens:
        click.echo(f"{known.name}  {','.join(known.scopes)}  {known.created[:10]}")


@token.command()
@click.argument("name")
@root_option
@guarded
def remove(name: str, root: Path) -> None:
    """Remove a token; a running service refuses it within a second.

    \b
    Example:
      model-trainer registry token remove trainer
    """
    if not root.is_dir():
        click.echo(f"error: {root}: no registry here", err=True)
        sys.exit(3)
    remove_token(tokens_file(root), name)
    click.echo(f"token {name} removed")
