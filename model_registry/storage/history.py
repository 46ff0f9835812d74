"""What happened to a pair's versions, which one serves, and A3CP's journal of it.

`history.jsonl` is the truth: a version is published once its event stands there. `active.json` and
`model_registry.jsonl` follow from it. All three are written under the lock of the pair's folder and, within it, the
lock of the root, which orders the journal by time: so the journal can be rebuilt byte for byte.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Callable, Iterable
from datetime import UTC, datetime, timedelta
from functools import lru_cache
from pathlib import Path
from typing import Literal

from model_registry.errors import CorruptError, DocumentError, NotFoundError
from model_registry.storage.durable import (
    append,
    last_line,
    locked,
    read_file,
    storage_errors,
    sync_files,
    sync_folder,
    write_temporary,
    write_whole,
)
from model_registry.storage.entry import DOCUMENT_LIMIT, ActivePointer, Event, RegistryEntry, Status
from model_registry.storage.layout import ModelSlot, journal, pairs

HISTORY_LIMIT = 64 << 20  # bytes; an event is about 200


def read_events(pair: ModelSlot) -> list[Event]:
    """Return a pair's events in order, none if it has no history. Raises CorruptError naming the line.

    A last line without a newline was never finished, and is not an event.
    """
    try:
        data = read_file(pair.history, HISTORY_LIMIT)
    except NotFoundError:
        return []
    return parse_events(data, str(pair.history))


def parse_events(data: bytes, name: str) -> list[Event]:
    """Return the events in a history's content. Raises CorruptError naming the line."""
    lines = data.split(b"\n")[:-1]
    try:
        return [Event.from_json(line, f"{name}:{number}") for number, line in enumerate(lines, 1)]
    except DocumentError as error:
        raise CorruptError(f"{error}; restore the line from a backup, or move the file away and run: doctor") from None


def statuses(events: Iterable[Event]) -> dict[int, Status]:
    """Return the status of every published version that was not removed."""
    found: dict[int, Status] = {}
    active: int | None = None
    for event in events:
        if event.event == "publish":
            found[event.version] = "candidate"
        elif event.event == "archive":
            found[event.version] = "archived"
        elif event.event == "remove":
            found.pop(event.version, None)
        if active in found and active != event.active:
            found[active] = "archived"  # it has served; a rollback can bring it back
        if event.active is not None:
            found[event.active] = "active"
        active = event.active
    return found


def serving(events: list[Event]) -> int | None:
    """Return the number of the version that serves, if one does."""
    return events[-1].active if events else None


def run_version(events: Iterable[Event], run_id: str) -> Event | None:
    """Return the event that published a run, unless that version was removed since."""
    found: Event | None = None
    for event in events:
        if event.event == "publish" and event.run_id == run_id:
            found = event
        elif event.event == "remove" and found is not None and event.version == found.version:
            found = None
    return found


def published_manifest(events: Iterable[Event], version: int) -> str:
    """Return the sha256 that a version's manifest had when it was published. Raises NotFoundError if it was not."""
    found = [event.manifest_sha256 for event in events if event.event == "publish" and event.version == version]
    if not found or found[-1] is None:
        raise NotFoundError(f"v{version}: no such version")
    return found[-1]


def read_pointer(pair: ModelSlot) -> ActivePointer | None:
    """Return the pointer to the version that serves, if there is one. Raises CorruptError."""
    try:
        data = read_file(pair.active, DOCUMENT_LIMIT)
    except NotFoundError:
        return None
    try:
        return ActivePointer.from_json(data, str(pair.active))
    except DocumentError as error:
        raise CorruptError(f"{error}; run: doctor") from None


def read_entry(pair: ModelSlot, version: int) -> RegistryEntry:
    """Return a version's entry as it was published. Raises NotFoundError, or CorruptError naming the file."""
    path = pair.version_folder(version) / "registry_entry.json"
    try:
        return RegistryEntry.from_json(read_file(path, DOCUMENT_LIMIT), str(path))
    except DocumentError as error:
        raise CorruptError(str(error)) from None


def manifest_sha256(pair: ModelSlot, version: int) -> str:
    """Return the sha256 of a version's manifest as it is now."""
    data = read_file(pair.version_folder(version) / "manifest.json", DOCUMENT_LIMIT)
    return hashlib.sha256(data).hexdigest()


def record(
    pair: ModelSlot,
    events: list[Event],
    kind: Literal["publish", "promote", "rollback", "archive", "remove"],
    version: int,
    *,
    active: int | None,
    reason: str = "",
    run_id: str | None = None,
) -> list[Event]:
    """Append one event, move the pointer and continue the journal; return the events with the new one.

    The caller holds the pair's lock. If the file system refuses, nothing has changed.
    """
    with locked(pair.root):
        event = Event(
            time=_next_time(pair.root),
            event=kind,
            version=version,
            active=active,
            reason=reason,
            run_id=run_id,
            manifest_sha256=manifest_sha256(pair, version) if kind == "publish" else None,
        )
        after = [*events, event]
        moved = active is not None and active != serving(events)
        lines = b"".join(journal_lines(pair, events, event))
        written: list[tuple[Path, int]] = []
        try:
            waiting = [write_temporary(pair.active, _pointer(pair, after).to_json())] if moved else []
            for path, data in ((journal(pair.root), lines), (pair.history, event.to_line())):
                written.append((path, append(path, data)))
            sync_files([*waiting, journal(pair.root), pair.root, pair.history])
        except OSError:
            for path, size in written:
                os.truncate(path, size)
            raise
        if moved:
            waiting[0].replace(pair.active)
        elif active is None:
            pair.active.unlink(missing_ok=True)
        sync_folder(pair.folder)
    return after


def _pointer(pair: ModelSlot, events: list[Event]) -> ActivePointer:
    """Return what `active.json` must hold after these events, of which the last names an active version."""
    version = serving(events)
    if version is None:
        raise ValueError("no version serves")
    since = events[-1].time
    for event in reversed(events):
        if event.active != version:
            break
        since = event.time
    return ActivePointer(version=version, manifest_sha256=published_manifest(events, version), since=since)


def settle(pair: ModelSlot) -> tuple[list[Event], list[str]]:
    """Finish what a killed publisher left: record its version, mend the pointer. Return the events and what was done.

    The caller holds the pair's lock.
    """
    events = read_events(pair)
    done: list[str] = []
    known = {event.version for event in events if event.event == "publish"}
    for version in pair.versions():
        if version not in known:
            entry = read_entry(pair, version)
            newest = entry.status == "active" and version > (serving(events) or 0)
            active = version if newest else serving(events)
            events = record(pair, events, "publish", version, active=active, run_id=entry.run_id)
            done.append(f"{pair}: recorded v{version}, whose publication was cut short")
    try:
        pointer = read_pointer(pair)
        wrong = (pointer.version if pointer else None) != serving(events)
    except CorruptError:
        wrong = True
    if wrong and serving(events) is None:
        pair.active.unlink(missing_ok=True)
        done.append(f"{pair}: removed active.json, because no version serves")
    elif wrong:
        write_whole(pair.active, _pointer(pair, events).to_json())
        done.append(f"{pair}: active.json leads to v{serving(events)} again")
    return events, done


def journal_lines(
    pair: ModelSlot, before: list[Event], event: Event, read: Callable[[ModelSlot, int], RegistryEntry] = read_entry
) -> list[bytes]:
    """Return the journal's lines for one event: each version whose status changes, the one that serves last.

    So at no line of the journal two versions of a pair are active. A version whose entry is gone has no line.
    """
    old, new = statuses(before), statuses([*before, event])
    changed = [(version, status) for version, status in new.items() if old.get(version) != status]
    lines = []
    for version, status in sorted(changed, key=lambda item: (item[1] == "active", item[0])):
        try:
            entry = read(pair, version)
        except (NotFoundError, CorruptError):
            continue
        lines.append(entry.model_copy(update={"status": status, "recorded_at": event.time}).to_line())
    return lines


def reindex(root: Path) -> bool:
    """Rebuild the journal from versions and histories; return whether that changed it.

    Publishers wait only while what changed meanwhile is read again.
    """
    known: dict[ModelSlot, tuple[object, list[tuple[str, bytes]]]] = {}
    with storage_errors("reindex"):
        _read_pairs(root, known)
        with locked(root):
            _read_pairs(root, known)
            lines = sorted((line for _, found in known.values() for line in found), key=lambda line: line[0])
            new = b"".join(line for _, line in lines)
            path = journal(root)
            if path.is_file() and path.read_bytes() == new:
                return False
            write_whole(path, new)
    return True


def _read_pairs(root: Path, known: dict[ModelSlot, tuple[object, list[tuple[str, bytes]]]]) -> None:
    """Bring `known`, the journal's lines of every pair with their times, up to date."""
    present = set()
    for pair in pairs(root):
        present.add(pair)
        state = _identity(pair.history)
        if pair not in known or known[pair][0] != state:
            read = lru_cache(None)(read_entry)  # a version has a line for every change of its status
            events = read_events(pair)
            lines = [
                (event.time, line)
                for number, event in enumerate(events)
                for line in journal_lines(pair, events[:number], event, read)
            ]
            known[pair] = (state, lines)
    for pair in set(known) - present:
        del known[pair]


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
        write_whole(path, b"".join(kept))


def _is_gone(line: bytes, gone: Callable[[str, str, str], bool]) -> bool:
    try:
        value = json.loads(line)
        return gone(value["user_id"], value["modality"], value["model_version"])
    except (ValueError, KeyError, TypeError):
        return True  # damaged; what it said stands in the histories


def _next_time(root: Path) -> str:
    """Return the time now, later than the journal's last line even if the clock went back."""
    now = datetime.now(UTC)
    try:
        fd = os.open(journal(root), os.O_RDONLY)
    except FileNotFoundError:
        return stamp(now)
    try:
        line = last_line(fd, os.fstat(fd).st_size)
    finally:
        os.close(fd)
    try:
        last = datetime.fromisoformat(json.loads(line)["recorded_at"])
        return stamp(max(now, last + timedelta(microseconds=1)))
    except (ValueError, KeyError, TypeError):
        return stamp(now)  # the last line is damaged; doctor rebuilds the journal


def stamp(time: datetime) -> str:
    """Return a UTC time as the documents write it, to the microsecond."""
    return time.strftime("%Y-%m-%dT%H:%M:%S.%fZ")
