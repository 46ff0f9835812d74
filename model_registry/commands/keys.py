"""Commands for the keys that sign versions, and for those that a reader trusts."""

from __future__ import annotations

from pathlib import Path

import click

from model_registry.commands.options import guarded, registry_option, signatures_of, signing_option, trusted_keys_option
from model_registry.errors import NoRegistryError
from model_registry.location import ReadableRegistry
from model_registry.names import parse_modality, parse_user
from model_registry.storage.signatures import (
    distrust_key,
    forget_observed,
    new_signing_key,
    read_trusted_keys,
    trust_key,
)
from model_registry.store import Registry


@click.group()
def key() -> None:
    """Make, trust and list the keys that sign versions.

    Whoever can write a registry's folder, but has no private key, can then make no version that readers accept which
    run with --require-signature. docs/registry.md says what is checked, and what signatures do not prevent.

    \b
    Example:
      model-trainer registry key new ~/.config/model-trainer/signing.pem
      model-trainer registry key trust clinic 3b6a27bcceb6a42d62a3a8d02a6f0d73653215771de243a63ac048a18b59da29
    """


@key.command()
@click.argument("file", type=click.Path(path_type=Path, dir_okay=False))
@guarded
def new(file: Path) -> None:
    """Write a new private key to FILE, which only you may read, and print its public key.

    Keep the file where publications are made, outside of the registry and of its backups.

    \b
    Example:
      model-trainer registry key new ~/.config/model-trainer/signing.pem
    """
    click.echo(new_signing_key(file))


@key.command()
@click.argument("name")
@click.argument("public_key")
@trusted_keys_option
@guarded
def trust(name: str, public_key: str) -> None:
    """Trust versions that the owner of PUBLIC_KEY has signed; NAME is yours to choose.

    Compare the public key with its owner, by telephone for example, and not with what lies in the registry.

    \b
    Example:
      model-trainer registry key trust clinic 3b6a27bcceb6a42d62a3a8d02a6f0d73653215771de243a63ac048a18b59da29
    """
    trust_key(signatures_of(click.get_current_context()).trusted_keys, name, public_key)
    click.echo(f"{name} is trusted")


@key.command()
@click.argument("name")
@trusted_keys_option
@guarded
def distrust(name: str) -> None:
    """Trust a key no more, for example because somebody else has got it.

    \b
    Example:
      model-trainer registry key distrust clinic
    """
    distrust_key(signatures_of(click.get_current_context()).trusted_keys, name)
    click.echo(f"{name} is no longer trusted")


@key.command(name="list")
@trusted_keys_option
@guarded
def list_keys() -> None:
    """List the keys that you trust: name, public key and date.

    \b
    Example:
      model-trainer registry key list
    """
    for known in read_trusted_keys(signatures_of(click.get_current_context()).trusted_keys).keys:
        click.echo(f"{known.name}  {known.public_key}  {known.added[:10]}")


@key.command()
@click.argument("user")
@click.argument("modality")
@click.argument("version")
@registry_option("folder")
@signing_option
@guarded
def sign(user: str, modality: str, version: str, registry: Registry) -> None:
    """Sign a version that was published without a signature, after checking its files.

    You vouch for what is in the folder now: compare it with a copy that nobody else could change.

    \b
    Example:
      model-trainer registry key sign user123 gesture v3 --signing-key ~/.config/model-trainer/signing.pem
    """
    own = registry.signatures.signing_key(registry.existing())
    if own is None:
        raise click.UsageError("name the private key with --signing-key")
    registry.sign(user, modality, version, own)
    click.echo(f"{user}/{modality} {version}: signed with {own.public}")


@key.command()
@click.argument("user")
@click.argument("modality")
@registry_option("read")
@trusted_keys_option
@guarded
def forget(user: str, modality: str, registry: ReadableRegistry) -> None:
    """Forget how new the history of USER's models was when it was read last: after they were erased, or restored.

    \b
    Example:
      model-trainer registry key forget user123 gesture
    """
    slot = f"{parse_user(user)}/{parse_modality(modality)}"
    if not forget_observed(signatures_of(click.get_current_context()).observed_times, registry.address, slot):
        raise NoRegistryError(f"{registry.address}: nothing is remembered of {slot} from this address")
    click.echo(f"{slot}: forgotten")
