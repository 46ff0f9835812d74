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
    """No such user, modality, version or active version."""


class NoRegistryError(NotFoundError):
    """The folder or address that was given holds no registry."""

    exit_code = 2


class DocumentError(RegistryError):
    """An invalid JSON document; carries every fault found, one line each."""

    def __init__(self, faults: Iterable[str] | str) -> None:
        self.faults = (faults,) if isinstance(faults, str) else tuple(faults)
        super().__init__("\n".join(self.faults))


class RefusedBundleError(RegistryError):
    """A bundle that may not be published: a file differs, is missing, is extra, or is a link."""


class CorruptError(RegistryError):
    """A published file is no longer what was published. Names the file; nothing of the version may be used."""


class UntrustedError(CorruptError):
    """A version, or what says that it is active, is not signed by a trusted key; nothing of the version may be used."""


class ConflictError(RegistryError):
    """The request contradicts what the registry holds."""


class QuotaError(ConflictError):
    """A person's models would take more bytes than the service allows."""


class ErasedError(ConflictError):
    """The data of a person who was erased must not come back."""


class UnreachableError(RegistryError):
    """The registry's service did not respond. Trying again later does no harm."""


class MlflowError(RegistryError):
    """MLflow refused, or did not respond. Trying again later does no harm."""


class MlflowMissingError(MlflowError):
    """A package that exports to MLflow is not installed."""

    exit_code = 2


class UnsupportedPlatformError(RegistryError):
    """The operating system lacks what this needs."""

    exit_code = 2


class StorageError(RegistryError):
    """The file system refused: full, read-only, or no permission. Nothing became visible."""


class LockedError(StorageError):
    """Another process holds a lock for too long. Trying again later does no harm."""


class UnusablePathError(StorageError):
    """A path given on the command line cannot be used: a file instead of a folder, or a folder without permission."""

    exit_code = 2
