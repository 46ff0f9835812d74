"""Commands for the HTTP service: starting it, and its tokens."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from model_registry.commands.options import guarded, registry_option, signing_option
from model_registry.storage import protection
from model_registry.storage.tokens import add_token, parse_scope, read_tokens, remove_token, tokens_file
from model_registry.store import Registry


@click.command()
@click.option("--host", default="127.0.0.1", show_default=True, help="Address to listen on.")
@click.option("--port", type=click.IntRange(0, 65535), default=8077, show_default=True, help="Port to listen on.")
@click.option(
    "--person-quota",
    type=click.FloatRange(min=0, min_open=True),
    default=20.0,
    show_default=True,
    metavar="GB",
    help="What one person's versions and uploads may have together.",
)
@click.option(
    "--uploads-quota",
    type=click.FloatRange(min=0, min_open=True),
    default=20.0,
    show_default=True,
    metavar="GB",
    help="What all unfinished uploads may have together.",
)
@click.option(
    "--field",
    type=click.Path(path_type=Path, exists=True, dir_okay=False, readable=True),
    help="What `model-trainer field --json` printed: shown on the pages of versions, and counted in /metrics.",
)
@registry_option("folder")
@signing_option
@guarded
def serve(
    host: str, port: int, person_quota: float, uploads_quota: float, field: Path | None, registry: Registry
) -> None:
    """Serve the registry over HTTP: an API under /v1, pages for people at /.

    Clients need a token; create one first. Put a TLS proxy in front where others can listen.

    \b
    Examples:
      model-trainer registry token add trainer --scope publish --scope read
      model-trainer registry serve --port 8077
    """
    try:
        from model_registry.service import server
        from model_registry.service.field import read_field_file
        from model_registry.service.limits import Limits
    except ModuleNotFoundError as error:
        raise click.UsageError(f"{error.name} is missing: pip install 'model-trainer[serve]'") from None
    if not read_tokens(tokens_file(registry.existing())).tokens:
        click.echo("no tokens yet, so no client gets in: model-trainer registry token add NAME --scope read", err=True)
    if field is not None:
        read_field_file(field)  # refused now, where it is something else
    limits = Limits(person_bytes=int(person_quota * 1e9), uploads_bytes=int(uploads_quota * 1e9))
    server.serve(registry, host, port, limits, field=field)


@click.command()
@click.option("--group", help="Let this group read and publish, too.  [default: the owner alone]")
@registry_option("folder")
@guarded
def protect(group: str | None, registry: Registry) -> None:
    """Let only the owner of a registry's folder read it, or also a group.

    A new registry is its owner's alone. What is published later follows the folder. Registries that releases before 0.3
    created can be read by everybody on the machine until this command has run.

    \b
    Example:
      model-trainer registry protect --group clinic --registry /srv/models
    """
    count = protection.protect(registry.existing(), group)
    click.echo(f"{count} files and folders: for {'the owner alone' if group is None else f'the owner and {group}'}")


@click.group()
def token() -> None:
    """Create, list and remove the tokens that the service accepts.

    \b
    Example:
      model-trainer registry token add trainer --scope publish
    """


@token.command()
@click.argument("name")
@click.option(
    "--scope",
    "scopes",
    metavar="[read|publish|admin|read:USER|publish:USER]",
    multiple=True,
    required=True,
    help="May be repeated.",
)
@registry_option("folder")
@guarded
def add(name: str, scopes: tuple[Any, ...], registry: Registry) -> None:
    """Create a token and print it, once: only its hash is kept.

    `read` resolves and downloads, `publish` uploads, promotes and rolls back, `admin` does everything. With a user,
    such as `publish:ana`, only the models of that user. Pooled models, which are used for everybody, are published with
    `publish:_default` or `admin` only.

    \b
    Examples:
      export MODEL_TRAINER_TOKEN=$(model-trainer registry token add trainer --scope publish --scope read)
      model-trainer registry token add anas_tablet --scope read:ana
    """
    for scope in scopes:
        parse_scope(scope)
    click.echo(add_token(tokens_file(registry.created()), name, tuple(dict.fromkeys(scopes))))


@token.command(name="list")
@registry_option("folder")
@guarded
def list_tokens(registry: Registry) -> None:
    """List the tokens' names, scopes and dates.

    \b
    Example:
      model-trainer registry token list
    """
    for known in read_tokens(tokens_file(registry.existing())).tokens:
        click.echo(f"{known.name}  {','.join(known.scopes)}  {known.created[:10]}")


@token.command()
@click.argument("name")
@registry_option("folder")
@guarded
def remove(name: str, registry: Registry) -> None:
    """Remove a token; a running service refuses it within a second.

    \b
    Example:
      model-trainer registry token remove trainer
    """
    remove_token(tokens_file(registry.existing()), name)
    click.echo(f"token {name} removed")
