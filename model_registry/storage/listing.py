"""Versions as lists show them, made once for as long as their files stay as they are."""

from __future__ import annotations

import threading
from dataclasses import dataclass
from functools import cached_property

from model_registry.storage.entry import RegistryEntry, Status
from model_registry.storage.file_cache import Identity, has_settled, identity_of
from model_registry.storage.layout import ModelSlot
from model_registry.storage.verification import read_entry

_MOST = 20_000  # versions that are kept


@dataclass(frozen=True)
class ListedVersion:
    """A version's entry with its present status, and the files that it was read from."""

    entry: RegistryEntry
    manifest_sha256: str
    files: tuple[tuple[str, Identity | None], ...]  # path, and identity just before the file was read

    @cached_property
    def json(self) -> bytes:
        """The entry as JSON."""
        return self.entry.model_dump_json().encode()


_kept: dict[str, ListedVersion] = {}
_lock = threading.Lock()


def listed_version(slot: ModelSlot, version: int, manifest_sha256: str, status: Status) -> ListedVersion:
    """Return a version with its present status, after checking manifest and entry as `read_entry` does.

    Raises what `read_entry` raises.
    """
    folder = f"{slot.folder}/v{version}"
    known = _kept.get(folder)
    if (
        known is not None
        and known.manifest_sha256 == manifest_sha256
        and known.entry.status == status
        and all(identity_of(path) == identity for path, identity in known.files)
    ):
        return known
    paths = (f"{folder}/manifest.json", f"{folder}/registry_entry.json")
    files = tuple((path, identity_of(path)) for path in paths)
    entry = read_entry(slot, version, manifest_sha256).model_copy(update={"status": status})
    listed = ListedVersion(entry, manifest_sha256, files)
    if all(identity is not None and has_settled(identity) for _, identity in files):
        with _lock:
            _kept[folder] = listed
            while len(_kept) > _MOST:
                del _kept[next(iter(_kept))]
    return listed
