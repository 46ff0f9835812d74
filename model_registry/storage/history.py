"""What happened to the versions of a slot, which one is active, and A3CP's journal of all slots.

`history.jsonl` is authoritative: a version is published once its event is recorded there. `active.json` and
`model_registry.jsonl` are derived from it. All three are written under the lock of the slot's folder and, within it,
the lock of the root, which orders the journal by time: so the journal can be rebuilt byte for byte. Every line of the
history carries a hash of all before it (`chain`).
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import lru_cache
from pathlib import Path
from typing import Literal

from model_registry.errors import CorruptError, DocumentError, NotFoundError, RegistryError
from model_registry.names import parse_reason
from model_registry.storage.chain import HISTORY_LIMIT, chain_line, unchained_lines, whole_lines
from model_registry.storage.durable import (
    append_after_last_line,
    last_line,
    locked,
    put_in_place,
    read_file,
    storage_errors,
    sync_files,
    sync_folder,
    write_file_atomically,
    write_temporary,
)
from model_registry.storage.entry import DOCUMENT_LIMIT, ActivePointer, Event, RegistryEntry, Status
from model_registry.storage.file_cache import FileCache
from model_registry.storage.layout import ModelSlot, journal, slots
from model_registry.storage.signatures import Signatures, SigningKey, check_decision, check_not_older, signed_by
from model_registry.storage.verification import read_entry, read_version
from model_registry.timestamps import format_time

_histories: FileCache[tuple[Event, ...]] = FileCache(10_000)


@dataclass(frozen=True)
class VersionRecord:
    """A version's entry, with its present status, and the events that concern it."""

    entry: RegistryEntry
    events: tuple[Event, ...]


def read_events(slot: ModelSlot) -> list[Event]:
    """Return a slot's events in order, none if it has no history. Raises CorruptError naming the line.

    A last line without a newline was not completely written and does not count.
    """
    path = str(slot.history)
    try:
        return list(_histories.read(path, HISTORY_LIMIT, lambda data: _parsed_events(data, path)))
    except NotFoundError:
        return []


def read_trusted_events(slot: ModelSlot, signatures: Signatures, registry: str) -> list[Event]:
    """Return a slot's events where a trusted key has signed which version is active, and none of them was lost.

    `registry` is the address that they come from. Raises UntrustedError, and CorruptError naming the line.
    """
    trusted = signatures.trusted()
    data = whole_lines(_history(slot))
    events = list(_parsed_events(data, str(slot.history)))
    check_decision(slot, data, events, trusted)
    signed = (index for index in reversed(range(len(events))) if signed_by(slot, data, events, index, trusted))
    last = next(signed, None)
    check_not_older(signatures.observed_times, registry, slot, None if last is None else events[last].time)
    return events


def _history(slot: ModelSlot) -> bytes:
    try:
        return read_file(slot.history, HISTORY_LIMIT)
    except NotFoundError:
        return b""


@lru_cache(maxsize=1000)
def _parsed_events(data: bytes, name: str) -> tuple[Event, ...]:
    """Return the events in a history's content; the same bytes are parsed once. Raises CorruptError naming the line."""
    try:
        return tuple(_parsed_event(line, name, number) for number, line in enumerate(unchained_lines(data, name), 1))
    except (DocumentError, CorruptError) as error:
        raise CorruptError(f"{error}; restore the line from a backup, or move the file away and run: doctor") from None


@lru_cache(maxsize=20_000)
def _parsed_event(line: bytes, name: str, number: int) -> Event:
    """Return the event of one line, which was there before the last ones were appended."""
    return Event.from_json(line, f"{name}:{number}")


def statuses(events: Iterable[Event]) -> dict[int, Status]:
    """Return the status of every published version that was not removed."""
    status: dict[int, Status] = {}
    active: int | None = None
    for event in events:
        _change_statuses(status, active, event)
        active = event.active
    return status


def _change_statuses(status: dict[int, Status], active: int | None, event: Event) -> None:
    """Bring the statuses up to date with an event; `active` is the version that was active before it."""
    if event.event == "publish":
        status[event.version] = "candidate"
    elif event.event == "archive":
        status[event.version] = "archived"
    elif event.event == "remove":
        status.pop(event.version, None)
    if active in status and active != event.active:
        status[active] = "archived"  # it was active before; a rollback can return to it
    if event.active is not None:
        status[event.active] = "active"


def active_version(events: list[Event]) -> int | None:
    """Return the number of the active version, if there is one."""
    return events[-1].active if events else None


def run_version(events: Iterable[Event], run_id: str) -> Event | None:
    """Return the event that published a run, unless that version was removed since."""
    publication: Event | None = None
    for event in events:
        if event.event == "publish" and event.run_id == run_id:
            publication = event
        elif event.event == "remove" and publication is not None and event.version == publication.version:
            publication = None
    return publication


def published_manifest(events: Iterable[Event], version: int) -> str:
    """Return the sha256 that a version's manifest had when it was published. Raises NotFoundError if it was not."""
    sha256 = published_manifests(events).get(version)
    if sha256 is None:
        raise NotFoundError(f"v{version}: no such version")
    return sha256


def published_manifests(events: Iterable[Event]) -> dict[int, str]:
    """Return the sha256 that the manifest of each version had when it was published, the removed ones included."""
    published = (event for event in events if event.event == "publish")
    return {event.version: event.manifest_sha256 for event in published if event.manifest_sha256 is not None}


def read_pointer(slot: ModelSlot) -> ActivePointer | None:
    """Return the pointer to the active version, if there is one. Raises CorruptError."""
    try:
        data = read_file(slot.active, DOCUMENT_LIMIT)
    except NotFoundError:
        return None
    try:
        return ActivePointer.from_json(data, str(slot.active))
    except DocumentError as error:
        raise CorruptError(f"{error}; run: doctor") from None


def pointer_fault(slot: ModelSlot) -> str | None:
    """Return what is wrong with `active.json`, if it is not what the history has ever said.

    One that a crash left behind the history, or did not write, is no fault: the next writer puts it right.
    """
    data = _pointer_bytes(slot)  # before the history, which only grows
    if data is None:
        return None
    events = read_events(slot)
    ends = (number for number in range(len(events), 0, -1) if events[number - 1].active is not None)
    if any(data == _pointer(events[:end]).to_json() for end in ends):
        return None
    return f"{slot.active}: is not what the history says; run: doctor"


def manifest_sha256(slot: ModelSlot, version: int) -> str:
    """Return the sha256 of a version's manifest as it is now."""
    data = read_file(slot.version_folder(version) / "manifest.json", DOCUMENT_LIMIT)
    return hashlib.sha256(data).hexdigest()


def record(
    slot: ModelSlot,
    events: list[Event],
    kind: Literal["publish", "promote", "rollback", "archive", "remove"],
    version: int,
    *,
    active: int | None,
    reason: str = "",
    run_id: str | None = None,
    key: SigningKey | None = None,
) -> list[Event]:
    """Append one event, move the pointer and continue the journal; return the events with the new one.

    Only what a person or a trainer decides is signed with `key`: never what is recovered, which whoever can write the
    folder may have brought about. The caller holds the slot's lock. If the file system refuses, nothing has
    changed.
    """
    with locked(slot.root):
        event = Event(
            time=_next_time(slot.root),
            event=kind,
            version=version,
            active=active,
            reason=parse_reason(reason),
            run_id=run_id,
            manifest_sha256=manifest_sha256(slot, version) if kind == "publish" else None,
        )
        before = whole_lines(_history(slot))
        if key is not None:
            event = key.sign_event(slot, before, event)
        after = [*events, event]
        moved = active is not None and active != active_version(events)
        lines = b"".join(line for _, line in _journal_lines(slot, after, _intact_entry, since=len(events)))
        line = chain_line(before, event.to_line())
        appended: list[tuple[Path, int]] = []
        pointer: Path | None = None
        try:
            if moved:
                pointer = write_temporary(slot.active, _pointer(after).to_json())
            for path, data in ((journal(slot.root), lines), (slot.history, line)):
                appended.append((path, append_after_last_line(path, data)))
            sync_files([*([pointer] if pointer else []), journal(slot.root), slot.root, slot.history])
        except OSError:
            for path, size in appended:
                os.truncate(path, size)
            if pointer is not None:
                pointer.unlink(missing_ok=True)
            raise
        if pointer is not None:
            put_in_place(pointer, slot.active)
        else:
            if active is None:
                slot.active.unlink(missing_ok=True)
            sync_folder(slot.folder)
    return after


def _pointer(events: list[Event]) -> ActivePointer:
    """Return what `active.json` must hold after these events, of which the last names an active version."""
    version = active_version(events)
    if version is None:
        raise ValueError("no version is active")
    since = events[-1].time
    for event in reversed(events):
        if event.active != version:
            break
        since = event.time
    return ActivePointer(version=version, manifest_sha256=published_manifest(events, version), since=since)


def recover(slot: ModelSlot) -> tuple[list[Event], list[str]]:
    """Complete what a killed process left: record its version, restore the pointer. Return events and what was done.

    Where the whole history is lost, the pointer says which version is active; without it none is. The caller holds the
    slot's lock. Raises CorruptError: nothing is recorded that was not checked.
    """
    events = read_events(slot)
    done: list[str] = []
    versions = slot.versions()
    if not events and len(versions) > 1:
        chosen = _intact_pointer(slot)
        versions.sort(key=lambda version: (version != chosen, -version))  # a kill leaves nothing that looks newer
    else:
        chosen = None
    known = {event.version for event in events if event.event == "publish"}
    for version in versions:
        if version not in known:
            found = read_version(slot, version, manifest_sha256(slot, version), with_encoders=False)
            interrupted = len(versions) == 1 or (bool(known) and version > max(known))
            activate = version == chosen or (interrupted and found.entry.status == "active")
            active = version if activate else active_version(events)
            events = record(slot, events, "publish", version, active=active, run_id=found.entry.run_id)
            done.append(f"{slot}: recorded v{version}, whose publication was interrupted or whose event was lost")
    expected = None if active_version(events) is None else _pointer(events).to_json()
    if expected is None and slot.active.exists():
        slot.active.unlink(missing_ok=True)
        done.append(f"{slot}: removed active.json, because no version is active")
    elif expected is not None and _pointer_bytes(slot) != expected:
        write_file_atomically(slot.active, expected)
        done.append(f"{slot}: active.json points to v{active_version(events)} again")
    return events, done


def _pointer_bytes(slot: ModelSlot) -> bytes | None:
    try:
        return read_file(slot.active, DOCUMENT_LIMIT)
    except NotFoundError:
        return None


def _intact_pointer(slot: ModelSlot) -> int | None:
    """Return the version that the pointer names, if the manifest there is the one that it names."""
    try:
        pointer = read_pointer(slot)
        intact = pointer is not None and manifest_sha256(slot, pointer.version) == pointer.manifest_sha256
    except (CorruptError, NotFoundError):
        return None
    return pointer.version if pointer is not None and intact else None


_Read = Callable[[ModelSlot, int, str], RegistryEntry]


def _journal_lines(
    slot: ModelSlot, events: list[Event], read: _Read = read_entry, *, since: int = 0
) -> Iterator[tuple[str, bytes]]:
    """Yield the journal's lines, with their times, for the events from number `since` on.

    An event has a line for each version whose status it changes, the active one last: so at no line of the journal are
    two versions of a slot active. A version whose entry is gone has no line. Raises what `read` raises.
    """
    status, active = statuses(events[:since]), active_version(events[:since])
    manifests = published_manifests(events)
    for event in events[since:]:
        concerned = {version for version in (event.version, active, event.active) if version is not None}
        before = {version: status.get(version) for version in concerned}
        _change_statuses(status, active, event)
        active = event.active
        changed = [version for version in concerned & status.keys() if status[version] != before[version]]
        for version in sorted(changed, key=lambda version: (status[version] == "active", version)):
            try:
                entry = read(slot, version, manifests[version])
            except (KeyError, NotFoundError):
                continue
            line = entry.model_copy(update={"status": status[version], "recorded_at": event.time}).to_line()
            yield event.time, line


def _intact_entry(slot: ModelSlot, version: int, manifest: str) -> RegistryEntry:
    """Return a version's entry. Raises NotFoundError for a damaged one: a rollback from it must stay possible."""
    try:
        return read_entry(slot, version, manifest)
    except CorruptError as error:
        raise NotFoundError(str(error)) from None


def reindex(root: Path) -> bool:
    """Rebuild the journal from versions and histories; return whether that changed it.

    Publishers wait only while what changed meanwhile is read again. Lines of a slot that is damaged stay as they are.
    """
    with storage_errors("reindex"), _rebuilt_journal(root) as (present, rebuilt):
        if present is not None and b"".join(map(_renewed, present.splitlines(keepends=True))) == rebuilt:
            return False
        write_file_atomically(journal(root), rebuilt)
    return True


def journal_fault(root: Path) -> str | None:
    """Return what is wrong with the journal, if a line that the histories imply is missing or cannot be read.

    Lines too many, which a killed process leaves, are no fault: doctor removes them.
    """
    with _rebuilt_journal(root) as (present, rebuilt):
        if present is None or present == rebuilt:
            return None
    lines = [_renewed(line) for line in whole_lines(present).splitlines(keepends=True)]
    expected = set(rebuilt.splitlines(keepends=True))
    for number, line in enumerate(lines, 1):
        if line not in expected:
            try:
                RegistryEntry.from_json(line, "line")
            except DocumentError:
                return f"{journal(root)}:{number}: is damaged; run: doctor"
    if expected - set(lines):
        return f"{journal(root)}: a line is missing or not what was written; run: doctor"
    return None


def _renewed(line: bytes) -> bytes:
    """Return a line of the journal as this release writes it, where an earlier one wrote it that had fewer fields."""
    try:
        entry = RegistryEntry.from_json(line, "line")
    except DocumentError:
        return line
    return line if entry.model_fields_set == set(RegistryEntry.model_fields) else entry.to_line()


@contextmanager
def _rebuilt_journal(root: Path) -> Iterator[tuple[bytes | None, bytes]]:
    """Yield the journal's whole lines, None without a file, and what they should be, while no publisher can write."""
    known: _SlotLines = {}
    _read_slots(root, known)
    path = journal(root)
    with locked(root, shared=True):
        _read_slots(root, known)
        present = path.read_bytes() if path.is_file() else None
        lines = sorted((line for _, lines in known.values() for line in lines or ()), key=lambda line: line[0])
        damaged = {(slot.user, slot.modality) for slot, (_, lines) in known.items() if lines is None}
        if damaged:
            lines = sorted([*lines, *_lines_of(present or b"", damaged)], key=lambda line: line[0])
        yield present, b"".join(line for _, line in lines)


def _lines_of(data: bytes, wanted: set[tuple[str, str]]) -> Iterator[tuple[str, bytes]]:
    """Yield the journal's lines of some slots, each with its time."""
    for line in data.splitlines(keepends=True):
        with suppress(DocumentError):
            entry = RegistryEntry.from_json(line, "journal")
            if (entry.user_id, entry.modality) in wanted:
                yield entry.recorded_at or "", line


# slot -> state of its history, (time, line); no lines where the slot is damaged
_SlotLines = dict[ModelSlot, tuple[object, list[tuple[str, bytes]] | None]]


def _read_slots(root: Path, known: _SlotLines) -> None:
    """Bring `known`, the journal's lines of every slot with their times, up to date."""
    present = set()
    for slot in slots(root):
        present.add(slot)
        state = _identity(slot.history)
        if slot not in known or known[slot][0] != state:
            known[slot] = (state, _slot_lines(slot))
    for slot in set(known) - present:
        del known[slot]


def _slot_lines(slot: ModelSlot) -> list[tuple[str, bytes]] | None:
    read = lru_cache(None)(read_entry)  # a version has a line for every change of its status
    try:
        return list(_journal_lines(slot, read_events(slot), read))
    except RegistryError:
        return None  # what is wrong, `verify` says


def _identity(path: Path) -> object:
    try:
        at = path.stat()
    except FileNotFoundError:
        return None
    return at.st_ino, at.st_size, at.st_mtime_ns


def drop_from_journal(root: Path, gone: Callable[[str, str, str], bool]) -> None:
    """Rewrite the journal without the lines of versions that are `gone(user, modality, version)`."""
    with locked(root):
        path = journal(root)
        if not path.is_file():
            return
        kept = [line for line in path.read_bytes().splitlines(keepends=True) if not _is_gone(line, gone)]
        write_file_atomically(path, b"".join(kept))


def _is_gone(line: bytes, gone: Callable[[str, str, str], bool]) -> bool:
    try:
        value = json.loads(line)
        return gone(value["user_id"], value["modality"], value["model_version"])
    except (ValueError, KeyError, TypeError):
        return True  # damaged; the histories hold what it said


def _next_time(root: Path) -> str:
    """Return the time now, later than the journal's last line even if the clock went back."""
    now = datetime.now(UTC)
    try:
        fd = os.open(journal(root), os.O_RDONLY | os.O_NOFOLLOW)
    except FileNotFoundError:
        return format_time(now, "microseconds")
    try:
        line = last_line(fd, os.fstat(fd).st_size)
    finally:
        os.close(fd)
    try:
        last = datetime.fromisoformat(json.loads(line)["recorded_at"])
        return format_time(max(now, last + timedelta(microseconds=1)), "microseconds")
    except OverflowError:
        return format_time(datetime.max.replace(tzinfo=UTC), "microseconds")  # a clock was at the end of time
    except (ValueError, KeyError, TypeError):
        return format_time(now, "microseconds")  # the last line is damaged; doctor rebuilds the journal
