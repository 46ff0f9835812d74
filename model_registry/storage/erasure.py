"""Removing for good: everything of one user, archived versions, encoders that no version names."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

from model_registry.errors import ConflictError, CorruptError, DocumentError, NotFoundError, RegistryError
from model_registry.storage.chain import chain_line, unchained_lines, whole_lines
from model_registry.storage.durable import (
    append_after_last_line,
    destroy,
    locked,
    put_in_place,
    read_file,
    remove_folder,
    storage_errors,
    sync_files,
    sync_folder,
    write_file_atomically,
)
from model_registry.storage.entry import DOCUMENT_LIMIT, Erasure, Tombstone
from model_registry.storage.history import (
    HISTORY_LIMIT,
    active_version,
    drop_from_journal,
    published_manifest,
    read_events,
    record,
    recover,
    statuses,
)
from model_registry.storage.layout import ModelSlot, encoders_folder, slots, tombstones, users_folder
from model_registry.storage.uploads import remove_abandoned_uploads
from model_registry.storage.verification import Damage, log_damage, read_manifest
from model_registry.timestamps import utc_now

_ERASED = ".erased-"


@dataclass(frozen=True)
class Removed:
    """What a garbage collection removed, or would remove."""

    versions: tuple[str, ...]
    encoders: tuple[str, ...]
    size: int  # bytes


@dataclass(frozen=True)
class Erased:
    """What an erasure removed; `id` is that of its tombstone."""

    id: str
    versions: int


def erase(root: Path, user: str, reason: str) -> Erased:
    """Remove all of a user's models, pointers, history and journal lines; keep a tombstone of when and why.

    The folder is renamed away in one step, so nobody sees half of it; after a crash, doctor completes the removal.
    Raises NotFoundError, and ConflictError if `reason`, which is kept, names the user.
    """
    if user.lower() in reason.lower():
        raise ConflictError("reason: is kept, so it must not name the user; say why without saying who")
    folder = users_folder(root) / user
    if not folder.is_dir():
        raise NotFoundError(f"{user}: nothing published")
    with storage_errors("erase"), ExitStack() as held:
        remove_abandoned_uploads(root, user=user)
        held.enter_context(locked(folder))
        versions = 0
        for slot in slots(root, user):
            held.enter_context(locked(slot.folder))  # publishers finish first, or fail because their folder is gone
            versions += len(slot.versions())
        tombstone = Tombstone(id=os.urandom(8).hex(), time=utc_now("microseconds"), reason=reason, versions=versions)
        write_file_atomically(folder / "erasure.json", Erasure(user_id=user, tombstone=tombstone).to_json())
        trash = users_folder(root) / f"{_ERASED}{tombstone.id}"
        put_in_place(folder, trash)
        _finish_erasure(root, trash)
    return Erased(tombstone.id, versions)


def read_tombstones(root: Path) -> list[Tombstone]:
    """Return every erasure that was recorded. Raises CorruptError naming the line."""
    path = tombstones(root)
    if not path.exists():
        return []
    try:
        lines = unchained_lines(read_file(path, HISTORY_LIMIT), str(path))
        return [Tombstone.from_json(line, f"{path}:{number}") for number, line in enumerate(lines, 1)]
    except DocumentError as error:
        raise CorruptError(str(error)) from None


def finish_erasures(root: Path) -> list[str]:
    """Complete erasures that were interrupted; return what was done."""
    done = []
    for trash in sorted(users_folder(root).glob(f"{_ERASED}*")):
        _finish_erasure(root, trash)
        done.append("completed an erasure that was interrupted")
    return done


def _finish_erasure(root: Path, trash: Path) -> None:
    """Remove the journal's lines, write the tombstone, remove the files; every step may be repeated."""
    note = trash / "erasure.json"
    try:
        erasure = Erasure.from_json(read_file(note, DOCUMENT_LIMIT), str(note))
    except (NotFoundError, DocumentError):
        return destroy(trash)  # all but the note was removed before
    again = users_folder(root) / erasure.user_id
    drop_from_journal(
        root, lambda user, modality, version: user == erasure.user_id and not (again / modality / version).is_dir()
    )
    with locked(root):
        path = tombstones(root)
        present = whole_lines(path.read_bytes()) if path.exists() else b""
        if erasure.tombstone.id.encode() not in present:
            append_after_last_line(path, chain_line(present, erasure.tombstone.to_line()))
            sync_files([path, root])
    for child in trash.glob("*"):
        if child != note:
            destroy(child)
    destroy(trash)
    sync_folder(users_folder(root))


def collect(root: Path, keep: int, *, dry_run: bool = False) -> Removed:
    """Remove archived versions beyond the newest `keep` of each slot, and encoders that no version names.

    With `dry_run` nothing is removed. Numbers of removed versions are never reused.
    """
    versions: list[tuple[ModelSlot, int]] = []
    size = 0
    with storage_errors("gc"):
        for slot in list(slots(root)):
            try:
                for version, freed in _collect_versions(slot, keep, dry_run):
                    versions.append((slot, version))
                    size += freed
            except CorruptError as error:
                log_damage(Damage(slot.user, slot.modality, None, str(error)))
        gone = {(slot.user, slot.modality, f"v{version}") for slot, version in versions}
        if gone and not dry_run:
            drop_from_journal(root, lambda user, modality, version: (user, modality, version) in gone)
        encoders, bytes_of_encoders = _collect_encoders(root, {(p, v) for p, v in versions}, dry_run)
    return Removed(tuple(f"{slot} v{version}" for slot, version in versions), encoders, size + bytes_of_encoders)


def _collect_versions(slot: ModelSlot, keep: int, dry_run: bool) -> Iterator[tuple[int, int]]:
    """Remove archived versions of a slot beyond the newest `keep`; yield the number and bytes of each."""
    with locked(slot.folder):
        events, _ = recover(slot)
        old = sorted((n for n, status in statuses(events).items() if status == "archived"), reverse=True)[keep:]
        for version in sorted(old):
            size = _size(slot.version_folder(version))
            if not dry_run:
                reason = f"gc: more than {keep} archived"
                events = record(slot, events, "remove", version, active=active_version(events), reason=reason)
                remove_folder(slot.version_folder(version))
            yield version, size


def _collect_encoders(root: Path, gone: set[tuple[ModelSlot, int]], dry_run: bool) -> tuple[tuple[str, ...], int]:
    """Remove encoders that no version names; none at all while a damaged version may name any."""
    folder = encoders_folder(root)
    if not folder.is_dir():
        return (), 0
    with locked(folder):  # no publication that needs an encoder is running
        named: set[str] = set()
        for slot in slots(root):
            try:
                events = read_events(slot)
                for version in slot.versions():
                    if (slot, version) not in gone:
                        named |= set(read_manifest(slot, version, published_manifest(events, version)).encoders)
            except RegistryError as error:
                log_damage(Damage(slot.user, slot.modality, None, f"encoders are kept: {error}"))
                return (), 0
        unused = sorted(
            item for item in folder.iterdir() if item.is_dir() and item.name[0] != "." and item.name not in named
        )
        size = sum(_size(item) for item in unused)
        if not dry_run:
            for item in unused:
                remove_folder(item)
    return tuple(item.name for item in unused), size


def _size(folder: Path) -> int:
    return sum(path.stat().st_size for path in folder.iterdir() if path.is_file())
