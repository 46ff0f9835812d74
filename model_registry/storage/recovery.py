"""Finding and mending what killed processes, full disks and manual changes leave behind (`registry doctor`)."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from model_registry.errors import CorruptError, NotFoundError, RegistryError
from model_registry.storage.activation import previously_active
from model_registry.storage.copies import copies_file, read_copies
from model_registry.storage.durable import locked, remove_abandoned, remove_folder, remove_if_empty, storage_errors
from model_registry.storage.entry import Event
from model_registry.storage.erasure import finish_erasures, pending_erasures
from model_registry.storage.history import (
    active_version,
    journal_fault,
    published_manifest,
    record,
    recover,
    reindex,
    statuses,
)
from model_registry.storage.layout import (
    ModelSlot,
    encoders_folder,
    journal,
    slots,
    tombstones,
    users,
    users_folder,
)
from model_registry.storage.migrations import read_format
from model_registry.storage.tokens import read_tokens, tokens_file
from model_registry.storage.tombstones import read_tombstones
from model_registry.storage.uploads import find as find_upload
from model_registry.storage.uploads import remove_abandoned_uploads, uploads_folder
from model_registry.storage.verification import encoder_fault, read_entry


@dataclass(frozen=True)
class Finding:
    """One thing that is not as it should be, and whether it was mended."""

    what: str
    mended: bool


def examine(root: Path, on_slot: Callable[[str], None] = lambda slot: None) -> list[Finding]:
    """Mend whatever can be mended without losing a published model, and return everything that was found.

    Publishers and readers may run meanwhile. Whether published files are unchanged is checked by `verify`.
    """
    findings: list[Finding] = []
    with storage_errors("doctor"):
        findings += [Finding(what, True) for what in finish_erasures(root)]
        findings += _remove_abandoned(encoders_folder(root))
        findings += [Finding(what, True) for what in remove_abandoned_uploads(root)]
        findings += _remove_abandoned(uploads_folder(root))
        findings += [Finding(f"{note}: its erasure is not complete", False) for note in pending_erasures(root)]
        with locked(root):
            findings += _remove_abandoned(root)
        for slot in list(slots(root)):
            on_slot(str(slot))
            try:
                findings += _examine_slot(slot)
            except NotFoundError:
                continue  # erased meanwhile
            except RegistryError as error:
                findings.append(Finding(f"{slot}: {error}", False))
        for user in list(users(root)):
            with suppress(NotFoundError):  # erased meanwhile
                findings += _examine_user(users_folder(root) / user)
        try:
            if reindex(root):
                findings.append(Finding("model_registry.jsonl: rebuilt; it had lost or damaged lines", True))
        except CorruptError as error:
            findings.append(Finding(f"model_registry.jsonl: cannot be compared: {error}", False))
    return findings


def _remove_abandoned(folder: Path) -> Iterator[Finding]:
    for path in remove_abandoned(folder):
        yield Finding(f"{path}: removed what an interrupted process left", True)


def _examine_user(folder: Path) -> Iterator[Finding]:
    with locked(folder):  # no erasure is running
        yield from _remove_abandoned(folder)
        note = folder / "erasure.json"
        if note.exists():
            note.unlink()
            yield Finding(f"{note}: removed the note of an erasure that did not begin", True)
    if remove_if_empty(folder):
        yield Finding(f"{folder}: removed an empty folder", True)


def _examine_slot(slot: ModelSlot) -> Iterator[Finding]:
    with locked(slot.folder):
        yield from _remove_abandoned(slot.folder)
        events, done = recover(slot)
        for what in done:
            yield Finding(what, True)
        for version in slot.versions():
            if version not in statuses(events):
                remove_folder(slot.version_folder(version))
                yield Finding(f"{slot} v{version}: completed its removal", True)
        for version in sorted(set(statuses(events)) - set(slot.versions()), reverse=True):
            events = _record_loss(slot, events, version)
            active = active_version(events)
            now = "no version is active now" if active is None else f"v{active} is active"
            yield Finding(f"{slot} v{version}: its folder is missing; {now}", True)
        for version in statuses(events):
            yield from _missing_encoders(slot, version, published_manifest(events, version))
    if remove_if_empty(slot.folder):
        yield Finding(f"{slot}: removed an empty folder", True)


def _record_loss(slot: ModelSlot, events: list[Event], version: int) -> list[Event]:
    """Record that a version's folder is gone; if it was the active one, the one before it becomes active again."""
    active = active_version(events)
    if active == version:
        present = set(slot.versions())
        active = next((other for other in reversed(previously_active(events)) if other in present), None)
    return record(slot, events, "remove", version, active=active, reason="doctor: the folder is missing")


def _missing_encoders(slot: ModelSlot, version: int, manifest_sha256: str) -> Iterator[Finding]:
    try:
        entry = read_entry(slot, version, manifest_sha256)
    except (NotFoundError, CorruptError) as error:
        yield Finding(f"{slot} v{version}: {error}", False)
        return
    for ref in entry.encoder_refs:
        if not (encoders_folder(slot.root) / ref.sha256).is_dir():
            yield Finding(
                f"{slot} v{version}: encoder {ref.name} ({ref.sha256}) is missing; publish a bundle that contains it",
                False,
            )


def registry_faults(root: Path) -> Iterator[tuple[str, str]]:
    """Yield name and fault of every damaged file that belongs to no version: format, journal, tombstones, tokens, list
    of copies, encoders, uploads."""
    checks: dict[Path, Callable[[], object]] = {
        root / "registry.json": lambda: read_format(root),
        journal(root): lambda: journal_fault(root),
        tombstones(root): lambda: read_tombstones(root),
        tokens_file(root): lambda: read_tokens(tokens_file(root)),
        copies_file(root): lambda: read_copies(copies_file(root)),
    }
    for folder in _folders(encoders_folder(root)):
        checks[folder] = partial(encoder_fault, folder)
    for folder in _folders(uploads_folder(root)):
        checks[folder] = partial(find_upload, root, folder.name)
    for path, check in checks.items():
        try:
            fault = check()
        except NotFoundError:
            continue  # removed meanwhile, or never written
        except (RegistryError, OSError) as error:
            fault = str(error)
        if isinstance(fault, str):
            yield path.relative_to(root).as_posix(), fault


def _folders(folder: Path) -> list[Path]:
    if not folder.is_dir():
        return []
    return sorted(item for item in folder.iterdir() if item.is_dir() and not item.name.startswith("."))
