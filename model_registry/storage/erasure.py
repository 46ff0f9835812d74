"""Removing for good: everything of one user, archived versions, encoders that no version names."""

from __future__ import annotations

import logging
import os
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

from model_registry.errors import ConflictError, CorruptError, DocumentError, NotFoundError, RegistryError
from model_registry.names import DEFAULT_USER, published_name
from model_registry.storage.activation import previously_active
from model_registry.storage.copies import copies_file, copies_of, forget_copies
from model_registry.storage.durable import (
    destroy,
    ensure_folder,
    locked,
    put_in_place,
    read_file,
    remove_abandoned,
    remove_folder,
    storage_errors,
    sync_folder,
    write_file_atomically,
)
from model_registry.storage.entry import DOCUMENT_LIMIT, FILE_LIMIT, Erasure, PendingErasure
from model_registry.storage.history import (
    active_version,
    drop_from_journal,
    published_manifest,
    read_events,
    record,
    recover,
    statuses,
)
from model_registry.storage.layout import ModelSlot, encoders_folder, slots, users_folder
from model_registry.storage.publication import trained_on
from model_registry.storage.signatures import SigningKey
from model_registry.storage.tombstones import add_readmission, add_tombstone, check_reason
from model_registry.storage.uploads import remove_abandoned_uploads
from model_registry.storage.verification import Damage, log_damage, read_manifest

_LOG = logging.getLogger("model_registry")
_ERASED = ".erased-"  # a user's folder that is being removed
_ERASING = ".erasing-"  # the note of an erasure that has begun


@dataclass(frozen=True)
class Removed:
    """What a garbage collection removed, or would remove."""

    versions: tuple[str, ...]
    encoders: tuple[str, ...]
    size: int  # bytes


@dataclass(frozen=True)
class Erased:
    """What an erasure removed: `versions` of the person, and the `pooled` ones that contained them."""

    id: str  # of the tombstone
    versions: int
    pooled: tuple[str, ...] = ()
    copies: tuple[str, ...] = ()  # where models of the person were exported or copied to, on the registry's machine


def erase(root: Path, user: str, reason: str, key: SigningKey | None = None) -> Erased:
    """Remove all of a user: models, pointers, history, journal lines, uploads, and pooled models that contain them.

    Once begun, it is completed: by repeating it, by the next erasure of anybody, or by doctor. Repeating it changes
    nothing more. What remains is a tombstone with a salted hash, because of which the user's models are refused from
    then on. With `key` it is signed which pooled version is active afterwards; whoever completes an interrupted erasure
    does not sign that, because anybody who can write the folder could have made it look interrupted.

    Raises ConflictError if `reason`, which is kept, names the user, and CorruptError where a pooled model's
    files are damaged.
    """
    check_reason(user, reason)
    with storage_errors("erase"), _one_at_a_time(root):
        _finish(root)
        note = root / f"{_ERASING}{os.urandom(8).hex()}.json"
        with locked(root):
            remove_abandoned(root)
            write_file_atomically(note, PendingErasure(user_id=user, reason=reason).to_json())
        return _complete(root, user, reason, note, key)


def readmit(root: Path, user: str, reason: str) -> bool:
    """Record that an erased user's models are welcome again; return False where nobody of that id was erased.

    Raises ConflictError while their erasure is not complete: its completion would remove what is published from now on.
    """
    with storage_errors("readmit"), _one_at_a_time(root):
        _finish(root)
        for note in pending_erasures(root):
            if PendingErasure.from_json(read_file(note, DOCUMENT_LIMIT), str(note)).user_id == user:
                raise ConflictError(f"{user}: their erasure is not complete; run doctor, and mend what it names")
        return add_readmission(root, user, reason)


@contextmanager
def _one_at_a_time(root: Path) -> Iterator[None]:
    """Let nobody else erase or readmit: an erasure that two complete could remove what was published in between."""
    ensure_folder(users_folder(root))
    with locked(users_folder(root)):
        yield


def pending_erasures(root: Path) -> list[Path]:
    """Return the notes of erasures that have begun and are not complete."""
    return sorted(root.glob(f"{_ERASING}*.json"))


def finish_erasures(root: Path) -> list[str]:
    """Complete erasures that were interrupted; return what was done."""
    if not users_folder(root).is_dir() and not pending_erasures(root):
        return []
    with _one_at_a_time(root):
        return _finish(root)


def _finish(root: Path) -> list[str]:
    done = []
    for note in pending_erasures(root):
        try:
            pending = PendingErasure.from_json(read_file(note, DOCUMENT_LIMIT), str(note))
            _complete(root, pending.user_id, pending.reason, note)
        except RegistryError as error:  # one person's damage delays nobody else's erasure
            _LOG.warning("an erasure is not complete: %s", error)
        else:
            done.append("completed an erasure that was interrupted")
    for trash in sorted(users_folder(root).glob(f"{_ERASED}*")):
        with suppress(NotFoundError, DocumentError):  # without a note only the files are left to remove
            old = Erasure.from_json(read_file(trash / "erasure.json", DOCUMENT_LIMIT), "erasure.json")
            _complete(root, old.user_id, old.tombstone.reason, None)
        destroy(trash)
        sync_folder(users_folder(root))
        done.append("completed an erasure that was interrupted")
    return done


def _complete(root: Path, user: str, reason: str, note: Path | None, key: SigningKey | None = None) -> Erased:
    """Do what an erasure does; every step may be repeated. The tombstone comes first: it keeps publishers out."""
    tombstone = add_tombstone(root, user, reason)
    remove_abandoned_uploads(root, user=user)
    copies = tuple(record.path for record in copies_of(copies_file(root), user))
    versions = _remove_user(root, user)
    try:
        pooled = _remove_pooled(root, user, key)
    finally:
        folder = users_folder(root)
        drop_from_journal(root, lambda *version: version[0] == user or not folder.joinpath(*version).is_dir())
    forget_copies(copies_file(root), user)
    if note is not None:
        note.unlink(missing_ok=True)
        sync_folder(root)
    return Erased(tombstone.id, versions, pooled, copies)


def _remove_user(root: Path, user: str) -> int:
    """Remove a user's folder, whose name goes in one step, so that nobody sees half of it; return its versions."""
    folder = users_folder(root) / user
    for link in (folder, *(folder.iterdir() if folder.is_dir() else ())):
        if link.is_symlink():  # of earlier releases: publications refuse them
            target = link.resolve()
            link.unlink()
            destroy(target)
    if not folder.is_dir():
        return 0
    trash = users_folder(root) / f"{_ERASED}{os.urandom(8).hex()}"
    try:
        with ExitStack() as held:
            held.enter_context(locked(folder))
            versions = 0
            for slot in slots(root, user):
                held.enter_context(locked(slot.folder))  # publishers finish first, or fail because their folder is gone
                versions += len(slot.versions())
            put_in_place(folder, trash)
    except (NotFoundError, FileNotFoundError):  # it was empty, and a publisher or doctor has removed it meanwhile
        return _remove_user(root, user)
    destroy(trash)
    sync_folder(users_folder(root))
    return versions


def _remove_pooled(root: Path, user: str, key: SigningKey | None) -> tuple[str, ...]:
    """Remove the pooled versions that were trained on a user; an earlier one without them becomes active again.

    Raises the error of the first slot that is damaged, after the others are done.
    """
    removed: list[str] = []
    errors: list[RegistryError] = []
    for slot in slots(root, DEFAULT_USER) if user != DEFAULT_USER else ():
        try:
            with locked(slot.folder):
                removed += _remove_trained_on(slot, user, key)
        except RegistryError as error:
            errors.append(error)
    if errors:
        raise errors[0]
    return tuple(removed)


def _remove_trained_on(slot: ModelSlot, user: str, key: SigningKey | None) -> Iterator[str]:
    """Remove the versions of a slot that were trained on a user and yield their names. The caller holds the lock."""
    remove_abandoned(slot.folder)  # what killed publishers left may hold the user's data, too
    events, _ = recover(slot)
    affected = [version for version in slot.versions() if user in _trained_on(slot, version)]
    for version in affected:
        active = active_version(events)
        if active == version:
            left = set(slot.versions()) - set(affected)
            active = next((other for other in reversed(previously_active(events)) if other in left), None)
        if version in statuses(events):
            reason = "erase: it was trained on a person who was erased"
            decides = key if active_version(events) == version else None
            events = record(slot, events, "remove", version, active=active, reason=reason, key=decides)
        remove_folder(slot.version_folder(version))
        yield f"{slot} v{version}"


def _trained_on(slot: ModelSlot, version: int) -> list[str]:
    """Return the users that a version was trained on, as its training log says."""
    log = slot.version_folder(version) / published_name("training_log", slot.user, slot.modality, version)
    return trained_on(read_file(log, FILE_LIMIT), slot.user)


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
