"""What the shell completes in the registry's commands: users, modalities and versions of a registry in a folder.

A registry behind a URL is not asked: a key press must not wait for a network. Errors are no completions.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterable

import click

from model_registry.errors import RegistryError
from model_registry.store import Registry

Complete = Callable[[click.Context, click.Parameter, str], list[str]]


def completion(candidates: Callable[[click.Context], Iterable[str]]) -> Complete:
    """Return a `shell_complete` of click that gives the candidates which begin like the word."""

    @functools.wraps(candidates)
    def complete(context: click.Context, parameter: click.Parameter, incomplete: str) -> list[str]:
        try:
            return sorted({text for text in candidates(context) if text.startswith(incomplete)})
        except (RegistryError, OSError):
            return []

    return complete


def users_of(context: click.Context) -> list[str]:
    """Return the users of the registry that the command line names."""
    registry = context.params.get("registry")
    return list(registry.users()) if isinstance(registry, Registry) else []


@completion
def published_users(context: click.Context) -> list[str]:
    """Complete users that have versions."""
    return users_of(context)


@completion
def published_modalities(context: click.Context) -> list[str]:
    """Complete the modalities of the named user."""
    registry, user = context.params.get("registry"), context.params.get("user")
    return [entry.modality for entry in registry.entries(user=user)] if isinstance(registry, Registry) else []


@completion
def published_versions(context: click.Context) -> list[str]:
    """Complete the versions of the named user and modality."""
    registry, user, modality = (context.params.get(name) for name in ("registry", "user", "modality"))
    if not isinstance(registry, Registry) or not user or not modality:
        return []
    return [entry.model_version for entry in registry.entries(user=user, modality=modality)]
