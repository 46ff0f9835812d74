"""Where a registry is: in a folder, or behind an address."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from model_registry.storage.entry import RegistryEntry
from model_registry.storage.publication import Published
from model_registry.store import Registry


@dataclass(frozen=True)
class Fetched:
    """A version that was copied from elsewhere into a folder here, every file of it checked."""

    user: str  # who was asked for
    version: int
    entry: RegistryEntry
    files: dict[str, Path]  # role -> path
    encoders: dict[str, Path]  # encoder name -> folder
    fallback: bool


class AnyRegistry(Protocol):
    """What both kinds of registry do for those who publish."""

    @property
    def address(self) -> str:
        """The folder's path, or the service's address."""
        ...

    def publish(self, bundle_dir: Path, *, promote: bool = True, reason: str = "") -> Published:
        """Publish a bundle, or return what its run was published as."""
        ...

    def serving_log(self, user: str, modality: str) -> bytes:
        """Return the training log of a user's own version that serves. Raises NotFoundError."""
        ...

    def entries(self, *, user: str | None = None, modality: str | None = None) -> Iterator[RegistryEntry]:
        """Yield published versions with their present status."""
        ...


def open_registry(place: str) -> AnyRegistry:
    """Return the registry at `place`: a folder, or an `http://` or `https://` address (token: MODEL_TRAINER_TOKEN)."""
    if place.startswith(("http://", "https://")):
        from model_registry.client import RemoteRegistry  # httpx is needed only here

        return RemoteRegistry(place.rstrip("/"))
    return Registry(Path(place).absolute())
