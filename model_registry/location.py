"""Opening a registry by its address: a folder, a service, or a mirror that can only be read."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import Protocol

from model_registry.errors import NoRegistryError
from model_registry.folders import configured_signatures
from model_registry.storage.comparison import Difference
from model_registry.storage.entry import ExportForm, RegistryEntry, Status
from model_registry.storage.erasure import Erased, Removed
from model_registry.storage.history import VersionRecord
from model_registry.storage.publication import Publication
from model_registry.storage.recovery import Finding
from model_registry.storage.resolution import ResolvedVersion
from model_registry.storage.signatures import Signatures
from model_registry.storage.verification import OnDamage, log_damage
from model_registry.store import Registry


class ReadableRegistry(Protocol):
    """What every registry offers to readers; see `Registry` for what each operation does and raises."""

    @property
    def address(self) -> str:
        """The folder's path, or the URL."""
        ...

    def open_version(
        self, user: str, modality: str, version: str | int | None = None
    ) -> AbstractContextManager[ResolvedVersion]:
        """Yield the version to use, with its files on this machine for the time of the `with` block."""
        ...

    def fetch(self, user: str, modality: str, into: Path, version: str | int | None = None) -> ResolvedVersion:
        """Copy the version to use into a folder and return it."""
        ...

    def training_log(self, user: str, modality: str, version: str | int | None = None) -> bytes:
        """Return the training log of a user's own active version, or of `version`."""
        ...

    def entries(
        self,
        *,
        user: str | None = None,
        modality: str | None = None,
        status: Status | None = None,
        verdict: str | None = None,
        on_damage: OnDamage = log_damage,
    ) -> Iterator[RegistryEntry]:
        """Yield published versions with their present status; what is damaged is given to `on_damage` instead."""
        ...

    def show(self, user: str, modality: str, version: str | int) -> VersionRecord:
        """Return a version's entry and its events."""
        ...

    def verify_all(
        self, *, user: str | None = None, modality: str | None = None, version: str | int | None = None
    ) -> Iterator[tuple[str, str | None]]:
        """Check every version, or those named; yield each one's name and what is wrong with it, or None."""
        ...

    def diff(self, user: str, modality: str, before: str | int, after: str | int) -> Difference:
        """Compare two versions."""
        ...

    def export(
        self, user: str, modality: str, target: Path, *, version: str | int | None = None, form: ExportForm
    ) -> None:
        """Write the active version, or `version`, to one file."""
        ...


class WritableRegistry(ReadableRegistry, Protocol):
    """What a registry in a folder or behind a service offers besides."""

    def check_writable(self) -> None:
        """Raise UnusablePathError where it is known beforehand that nothing can be published here."""
        ...

    def publish(self, bundle_dir: Path, *, promote: bool = True, reason: str = "") -> Publication:
        """Publish a bundle, or return what its run was published as."""
        ...

    def restore(self, archive: Path, *, promote: bool = False) -> Publication:
        """Publish the version in a tar of `export`."""
        ...

    def promote(self, user: str, modality: str, version: str | int, reason: str = "") -> int | None:
        """Make a version the active one; return the one that was."""
        ...

    def rollback(self, user: str, modality: str, reason: str) -> tuple[int | None, int | None]:
        """Return to the version that was active before; return both numbers."""
        ...

    def archive(
        self, user: str, modality: str, version: str | int, reason: str = "", *, withdraw: bool = False
    ) -> None:
        """Take a version out of use."""
        ...

    def erase(self, user: str, reason: str) -> Erased:
        """Remove all of a user's models."""
        ...

    def gc(self, keep: int, *, dry_run: bool = False) -> Removed:
        """Remove archived versions beyond the newest `keep`, and unused encoders."""
        ...

    def doctor(self, on_slot: Callable[[str], None] = ...) -> list[Finding]:
        """Find and mend what crashes left."""
        ...

    def reindex(self) -> bool:
        """Rebuild `model_registry.jsonl`; return whether that changed it."""
        ...


def open_registry(address: str, signatures: Signatures | None = None) -> ReadableRegistry:
    """Return the registry at a folder's path, an `http(s)://` URL, or a URL that fsspec reads, such as `s3://…`.

    Nothing is read yet. The token of a service is that in MODEL_TRAINER_TOKEN. Without `signatures` the environment
    says what to sign with and whom to trust. Raises NoRegistryError for an address that cannot be one, or that needs a
    package which is not installed.
    """
    if not is_url(address) or _is_service(address):
        return open_writable_registry(address, signatures)
    with _packages(address):
        from model_registry.mirror import MirrorRegistry
    return MirrorRegistry(address, signatures or configured_signatures())


def open_writable_registry(address: str, signatures: Signatures | None = None) -> WritableRegistry:
    """Return the registry at a folder's path or an `http(s)://` URL. Raises NoRegistryError for any other URL."""
    if not is_url(address):
        return Registry(Path(address).absolute(), signatures or configured_signatures())
    if not _is_service(address):
        raise NoRegistryError(f"{address}: can only be read; give a folder or an http(s):// URL")
    with _packages(address):
        from model_registry.client import RemoteRegistry
    return RemoteRegistry(address, signatures=signatures or configured_signatures())


def is_url(address: str) -> bool:
    """Return whether an address is a URL rather than a folder's path."""
    return "://" in address


def _is_service(address: str) -> bool:
    return address.startswith(("http://", "https://"))


@contextmanager
def _packages(address: str) -> Iterator[None]:
    """Say which extra to install where a package is missing."""
    try:
        yield
    except ModuleNotFoundError as error:
        reason = f"needs the package {error.name}; install it with: pip install 'model-trainer[serve]'"
        raise NoRegistryError(f"{address}: {reason}") from None
