"""The one value for a version that can be used, wherever it came from, and when the pooled version stands in."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path

from model_registry.names import DEFAULT_USER, Modality
from model_registry.storage.entry import RegistryEntry, StoredFile

INSUFFICIENT_DATA = "insufficient data"  # the verdict at which the pooled version stands in


@dataclass(frozen=True)
class ResolvedVersion:
    """A version whose files are on this machine, every one of them checked.

    It is the same from a registry folder, where the files stay in place, from a service and from a mirror.
    """

    user: str  # the requested user; `entry.user_id` is whose version it is
    entry: RegistryEntry  # with its present status
    folder: Path
    files: Mapping[str, Path]  # role -> path
    stored: Mapping[str, StoredFile]  # role -> name, sha256 and size, as published
    encoders: Mapping[str, Path]  # encoder name -> folder

    @property
    def modality(self) -> Modality:
        """The modality."""
        return self.entry.modality

    @property
    def version(self) -> int:
        """The number of the version."""
        return self.entry.version

    @property
    def fallback(self) -> bool:
        """Whether the pooled version of `_default` stands in for the requested user's own."""
        return self.entry.user_id != self.user


def resolve_active(user: str, active: Callable[[str], ResolvedVersion | None]) -> ResolvedVersion | None:
    """Return the version to use for `user`, where `active` returns the active version of the user that it is given.

    The pooled version of `_default`, if there is one, stands in where the user has no active version, or one with the
    verdict `insufficient data`.
    """
    own = active(user)
    if own is None or own.entry.verdict == INSUFFICIENT_DATA:
        pooled = active(DEFAULT_USER)
        if pooled is not None:
            return replace(pooled, user=user)
    return own
