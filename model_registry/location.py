"""Where a registry is: in a folder, or behind an address."""

from __future__ import annotations

from pathlib import Path
from typing import Protocol

from model_registry.publication import Published
from model_registry.store import Registry


class Publisher(Protocol):
    """What takes bundles: a registry in a folder, or one behind an address."""

    def publish(self, bundle_dir: Path, *, promote: bool = True) -> Published:
        """Publish a bundle, or return what its run was published as."""
        ...


def open_publisher(place: str) -> Publisher:
    """Return the registry at `place`: a folder, or an `http://` or `https://` address (token: MODEL_TRAINER_TOKEN)."""
    if place.startswith(("http://", "https://")):
        from model_registry.client import RemoteRegistry  # httpx is needed only here

        return RemoteRegistry(place.rstrip("/"))
    return Registry(Path(place).absolute())
