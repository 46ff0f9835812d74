"""Versions as lists show them, made once for as long as their files stay as they are."""

from __future__ import annotations

import threading
from dataclasses import dataclass
from functools import cached_property

from model_registry.storage.entry import RegistryEntry, Status
from model_registry.storage.layout import ModelSlot
from model_registry.storage.verification import read_entry

_MOST = 20_000  # versions that are kept


@dataclass(frozen=True)
class ListedVersion:
    """A version's entry as it was published, and with its present status."""

    published: RegistryEntry
    entry: RegistryEntry

    @cached_property
    def json(self) -> bytes:
        """The entry with its present status as JSON."""
        return self.entry.model_dump_json().encode()


_kept: dict[tuple[ModelSlot, int], ListedVersion] = {}
_lock = threading.Lock()


def listed_version(slot: ModelSlot, version: int, manifest_sha256: str, status: Status) -> ListedVersion:
    """Return a version with its present status, after checking manifest and entry as `read_entry` does.

    Raises what `read_entry` raises.
    """
    published = read_entry(slot, version, manifest_sha256)  # the same object while its files stay as they are
    known = _kept.get((slot, version))
    if known is not None and known.published is published and known.entry.status == status:
        return known
    listed = ListedVersion(published, published.model_copy(update={"status": status}))
    with _lock:
        _kept[slot, version] = listed
        while len(_kept) > _MOST:
            del _kept[next(iter(_kept))]
    return listed
