"""Removing things for good: one user's everything, archived versions, encoders that nothing names."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from model_registry.errors import ConflictError, DocumentError, NotFoundError, StorageError
from model_registry.storage.durable import (
    abandoned,
    append,
    locked,
    read_file,
    storage_errors,
    sync_files,
    sync_folder,
    write_whole,
)
from model_registry.storage.entry import DOCUMENT_LIMIT, Erasure, Tombstone
from model_registry.storage.history import drop_from_journal, read_entry, record, serving, settle, stamp, statuses
from model_registry.storage.layout import ModelSlot, encoders_folder, pairs, tombstones, users_folder
from model_registry.storage.uploads import sweep_uploads

_ERASED, _REMOVED, _STAGING = ".erased-", ".removed-", ".staging-"


@dataclass(frozen=True)
class Removed:
    """What a clean-up removed, or would remove."""

    versions: tuple[str, ...]
    encoders: tuple[str, ...]
    size: int  # bytes


def erase(root: Path, user: str, reason: str) -> Tombstone:
    """Remove all of a user's models, pointers, history and journal lines; keep a tombstone of when and why.

    The folder leaves its name in one step, so nobody sees half of it; a crash afterwards is finished by doctor.
    Raises NotFoundError, and ConflictError if `reason` names the user, which would stay.
    """
    if user.lower() in reason.lower():
        raise ConflictError("reason: names the user, and would be kept; say why without saying who")
    folder = users_folder(root) / user
    if not folder.is_dir():
        raise NotFoundError(f"{user}: nothing published")
    with storage_errors("erase"), ExitStack() as held:
        for _ in sweep_uploads(root, user=user):
            pass
        held.enter_context(locked(folder))
        versions = 0
        for pair in pairs(root, user):
            held.enter_context(locked(pair.folder))  # publishers finish first, or find their folder gone
            versions += len(pair.versions())
        tombstone = Tombstone(id=os.urandom(8).hex(), time=stamp(datetime.now(UTC)), reason=reason, versions=versions)
        write_whole(folder / "erasure.json", Erasure(user_id=user, tombstone=tombstone).to_json())
        trash = users_folder(root) / f"{_ERASED}{tombstone.id}"
        folder.rename(trash)
        sync_folder(users_folder(root))
        _finish_erasure(root, trash)
    return tombstone


def finish_erasures(root: Path) -> list[str]:
    """Finish what a killed erasure left; return what was done."""
    done = []
    for trash in sorted(users_folder(root).glob(f"{_ERASED}*")):
        _finish_erasure(root, trash)
        done.append("finished an erasure that was cut short")
    return done


def _finish_erasure(root: Path, trash: Path) -> None:
    """Drop the journal's lines, write the tombstone, remove the files; every step may be done twice."""
    note = trash / "erasure.json"
    try:
        erasure = Erasure.from_json(read_file(note, DOCUMENT_LIMIT), str(note))
    except (NotFoundError, DocumentError):
        return _destroy(trash)  # only its note was left to remove
    again = users_folder(root) / erasure.user_id
    drop_from_journal(
        root, lambda user, modality, version: user == erasure.user_id and not (again / modality / version).is_dir()
    )
    with locked(root):
        path = tombstones(root)
        whole = path.read_bytes().split(b"\n")[:-1] if path.exists() else []
        if not any(erasure.tombstone.id.encode() in line for line in whole):
            append(path, erasure.tombstone.to_line())
            sync_files([path, root])
    for child in trash.glob("*"):
        if child != note:
            _destroy(child)
    _destroy(trash)
    sync_folder(users_folder(root))


def collect(root: Path, keep: int, *, dry_run: bool = False) -> Removed:
    """Remove archived versions beyond the newest `keep` of each pair, and encoders that no version names.

    With `dry_run` nothing is removed. Numbers of removed versions are never given again.
    """
    versions: list[tuple[ModelSlot, int]] = []
    size = 0
    with storage_errors("gc"):
        for pair in list(pairs(root)):
            with locked(pair.folder):
                events, _ = settle(pair)
                old = sorted((n for n, status in statuses(events).items() if status == "archived"), reverse=True)[keep:]
                for version in sorted(old):
                    size += _size(pair.version_folder(version))
                    versions.append((pair, version))
                    if not dry_run:
                        reason = f"gc: more than {keep} archived"
                        events = record(pair, events, "remove", version, active=serving(events), reason=reason)
                        _remove(pair.version_folder(version))
        gone = {(pair.user, pair.modality, f"v{version}") for pair, version in versions}
        if gone and not dry_run:
            drop_from_journal(root, lambda user, modality, version: (user, modality, version) in gone)
        encoders, bytes_of_encoders = _collect_encoders(root, {(p, v) for p, v in versions}, dry_run)
    return Removed(tuple(f"{pair} v{version}" for pair, version in versions), encoders, size + bytes_of_encoders)


def _collect_encoders(root: Path, gone: set[tuple[ModelSlot, int]], dry_run: bool) -> tuple[tuple[str, ...], int]:
    folder = encoders_folder(root)
    if not folder.is_dir():
        return (), 0
    with locked(folder):  # no publication that needs an encoder is under way
        named = set()
        for pair in pairs(root):
            for version in pair.versions():
                if (pair, version) not in gone:
                    named |= {ref.sha256 for ref in read_entry(pair, version).encoder_refs}
        unused = sorted(
            item for item in folder.iterdir() if item.is_dir() and item.name[0] != "." and item.name not in named
        )
        size = sum(_size(item) for item in unused)
        if not dry_run:
            for item in unused:
                _remove(item)
    return tuple(item.name for item in unused), size


def sweep(folder: Path) -> Iterator[str]:
    """Remove what killed processes left in a folder; yield what. The caller holds the folder's lock, if it has one."""
    if not folder.is_dir():
        return
    for item in sorted(folder.iterdir()):
        if item.name.startswith(_REMOVED) or (item.name.startswith(_STAGING) and abandoned(item)):
            _destroy(item)
            yield f"{item}: removed an abandoned folder"
        elif item.name.startswith(".") and item.name.endswith(".tmp") and item.is_file():
            item.unlink()
            yield f"{item}: removed an unfinished file"


def _remove(folder: Path) -> None:
    """Take a folder's name away in one step, then its content."""
    trash = folder.with_name(f"{_REMOVED}{os.urandom(8).hex()}")
    folder.rename(trash)
    sync_folder(folder.parent)
    _destroy(trash)


def _destroy(path: Path) -> None:
    """Remove a file or folder that another process may be removing too. Raises StorageError if something stays."""
    if path.is_dir():
        shutil.rmtree(path, ignore_errors=True)
    else:
        path.unlink(missing_ok=True)
    if path.exists():
        raise StorageError(f"{path}: could not be removed; check permissions, then run: doctor")


def _size(folder: Path) -> int:
    return sum(path.stat().st_size for path in folder.iterdir() if path.is_file())
