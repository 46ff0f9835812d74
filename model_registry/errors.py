"""Every error that the registry raises on purpose, under one root, each with the exit code of a command."""

from __future__ import annotations

from collections.abc import Iterable


class RegistryError(Exception):
    """Root of the registry's errors. The message says what is wrong and what to do next."""

    exit_code = 3


class InvalidNameError(RegistryError, ValueError):
    """A user id, session id, modality or version that must not become part of a path."""

    exit_code = 2


class NotFoundError(RegistryError):
    """No such user, modality, version or active model."""


class DocumentError(RegistryError):
    """A JSON document that is not what it should be; carries every fault found, one line each."""

    def __init__(self, faults: Iterable[str] | str) -> None:
        self.faults = (faults,) if isinstance(faults, str) else tuple(faults)
        super().__init__("\n".join(self.faults))


class RefusedBundleError(RegistryError):
    """A bundle that may not be published: a file differs, is missing, is extra, or is a link."""


class CorruptError(RegistryError):
    """Something published no longer is what was published. Names the file; nothing of it may be used."""


class ConflictError(RegistryError):
    """The request contradicts what the registry holds."""


class UnreachableError(RegistryError):
    """The registry's service gave no answer. Asking again later does no harm."""


class StorageError(RegistryError):
    """The file system refused: full, read-only, or no permission. Nothing became visible."""
