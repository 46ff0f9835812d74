"""Recording what a command copies to elsewhere, so that an erasure finds it; a failure to do so is said, not raised."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import click

from model_registry.errors import RegistryError
from model_registry.folders import own_copies
from model_registry.location import ReadableRegistry
from model_registry.messages import plain
from model_registry.storage.copies import copies_file, record_copy, record_model_copy
from model_registry.storage.resolution import ResolvedVersion
from model_registry.store import Registry


def remember_model(registry: ReadableRegistry, version: ResolvedVersion, target: Path | str) -> None:
    """Record that a version is copied to a path or an address, in the registry where it is a folder."""
    file = copies_file(registry.root) if isinstance(registry, Registry) else own_copies()
    with _warning(file, target):
        record_model_copy(file, version, target)


def remember_page(user: str, target: Path) -> None:
    """Record that a page about a user's recordings is at `target`."""
    with _warning(own_copies(), target):
        record_copy(own_copies(), [user], target)


@contextmanager
def _warning(file: Path, target: Path | str) -> Iterator[None]:
    try:
        yield
    except (RegistryError, OSError) as error:
        reason = f"cannot be recorded in {file}: {error}; name it with --folder when the person is erased"
        click.echo(plain(f"warning: {target}: {reason}"), err=True)
