"""Changes of a person's samples that can be taken back: what an import brought, other labels, removals, moves.

    <data>/users/<user>/changes/<id>.json     one change: the examples before and after it
    <data>/users/<user>/changes/<id>/…        the files of the examples that it removed

A change is written down before it is done, as `<id>.begun.json`. Doing it twice is the same as doing it once, so one
that was interrupted is completed by whoever changes the data next; a reader sees each session before it or after it.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Collection, Iterable
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from datetime import UTC, datetime
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Literal
from uuid import uuid4

from pydantic import ValidationError

from model_registry.names import InvalidNameError, parse_name
from model_registry.storage.durable import (
    destroy,
    ensure_folder,
    put_in_place,
    remove_folder,
    staged_file,
    write_file_atomically,
)
from shared.data.files import DataRoot, RefusedFileError, read_bounded
from shared.data.own_layout import is_own, read_own, sessions_folder
from shared.data.records import Reading, Record
from shared.data.session_writer import Addition, file_of, write_session, writing
from shared.errors import ConfigError, DataError, Fault
from shared.schema_utils import Example, Schema, SessionMetadata, Timestamp

Action = Literal["import", "relabel", "remove", "move", "undo"]

_LIMIT = 512 * 1024**2
_DONE, _BEGUN = ".json", ".begun.json"
_NONE_AFTER = b'"after":[]}'  # how the JSON of a change that brought nothing ends


class Change(Schema):
    """One change of one user's samples. Records in both lists were changed, the others removed or brought in."""

    id: str
    time: Timestamp
    action: Action
    source: str = ""
    before: tuple[Example, ...] = ()
    after: tuple[Example, ...] = ()
    undoes: str | None = None


@dataclass(frozen=True)
class Choice:
    """Which of a user's records are meant; what is empty says nothing. All that is given must fit."""

    records: tuple[str, ...] = ()  # record ids, or how they begin
    files: tuple[str, ...] = ()  # names of files, or patterns with *
    labels: tuple[str, ...] = ()
    sessions: tuple[str, ...] = ()
    modality: str | None = None
    change: str | None = None  # what this change brought or altered

    def is_empty(self) -> bool:
        """Return whether every record is meant."""
        return self == Choice()


def new_change_id(action: Action) -> str:
    """Return an id that sorts by time, on which undo relies: `20260301-101500-123456-import-3f2a`."""
    return f"{datetime.now(UTC):%Y%m%d-%H%M%S-%f}-{action}-{uuid4().hex[:4]}"


def read_changes(root: Path, user: str) -> list[Change]:
    """Return the user's changes, oldest first. Raises DataError for one that cannot be read."""
    changes, faults = [], []
    for path in sorted(_folder(root, user).glob(f"*{_DONE}")):
        if path.name.endswith(_BEGUN):
            continue
        try:
            changes.append(Change.model_validate_json(read_bounded(path, _LIMIT)))
        except (ValidationError, RefusedFileError):
            faults.append(Fault(str(path), None, "(file)", "is no readable change; take it away"))
    if faults:
        raise DataError(faults)
    return changes


def chosen_records(root: Path, user: str, choice: Choice) -> list[Record]:
    """Return the user's records that are meant. Raises DataError for unreadable sessions, or where none is meant."""
    records = _reading(root, user).records
    if choice.change is not None:
        change = find_change(root, user, choice.change)
        touched = {example.record_id for example in change.after}
        records = [record for record in records if record.example.record_id in touched]
    chosen = [record for record in records if _fits(record, choice)]
    if not chosen:
        reason = "no sample is meant by these options; `model-trainer data list` shows what there is"
        raise DataError([Fault(str(sessions_folder(root, user)), None, "(samples)", reason)])
    return chosen


def find_change(root: Path, user: str, change_id: str) -> Change:
    """Return a change by its id. Raises ConfigError where there is none."""
    changes = read_changes(root, user)
    found = next((change for change in changes if change.id == change_id), None)
    if found is None:
        raise ConfigError(f"{change_id!a}: no such change; `model-trainer data log` shows them")
    return found


def alter(
    root: Path,
    user: str,
    action: Action,
    altered: Callable[[Example], Example | None],
    choice: Choice,
    *,
    for_good: bool = False,
    dry_run: bool = False,
) -> Change:
    """Change the chosen records: each becomes what `altered` returns, or is removed where that is None.

    Records that stay as they are belong to no change. With `for_good` nothing of what was removed is kept, and the
    change cannot be undone. Raises DataError where nothing is to be changed.
    """
    with _lock(root, dry_run):
        complete_begun(root, user, dry_run=dry_run)
        before, after = [], []
        for record in chosen_records(root, user, choice):
            new = altered(record.example)
            if new != record.example:
                before.append(record.example)
                after += [] if new is None else [new]
        change = Change(
            id=new_change_id(action), time=datetime.now(UTC), action=action, before=tuple(before), after=tuple(after)
        )
        if not dry_run and before:
            _carry_out(root, user, change, keep=not for_good)
        return change


def undo(root: Path, user: str, change_id: str | None, *, dry_run: bool = False) -> Change:
    """Take a change back, the latest that is not taken back yet by default, and return the change that does so.

    Raises ConfigError where there is none, and DataError where samples were changed again since.
    """
    with _lock(root, dry_run):
        complete_begun(root, user, dry_run=dry_run)
        changes = read_changes(root, user)
        undone = {change.undoes for change in changes}
        candidates = [change for change in changes if change.action != "undo" and change.id not in undone]
        if change_id is not None:
            candidates = [change for change in candidates if change.id == change_id]
        if not candidates:
            wanted = "nothing" if change_id is None else f"no change {change_id!a}"
            raise ConfigError(f"there is {wanted} to undo; `model-trainer data log` shows the changes of {user}")
        last = candidates[-1]
        _refuse_changed_since(root, user, last)
        change = Change(
            id=new_change_id("undo"),
            time=datetime.now(UTC),
            action="undo",
            before=last.after,
            after=last.before,
            undoes=last.id,
        )
        if not dry_run:
            _carry_out(root, user, change, keep=True)
        return change


def note_import(
    root: Path, user: str, change_id: str, source: str, before: Iterable[Example], after: Iterable[Example]
) -> None:
    """Write down what an import that is done has brought to a user; the caller holds the lock.

    `after` is written one by one: there may be many thousands.
    """
    change = Change(id=change_id, time=datetime.now(UTC), action="import", source=source, before=tuple(before))
    ensure_folder(_folder(root, user))
    with staged_file(_folder(root, user) / f"{change_id}{_DONE}") as file:
        file.write(change.model_dump_json(exclude_none=True).encode().removesuffix(_NONE_AFTER) + b'"after":[')
        for number, example in enumerate(after):
            file.write(b"," * (number > 0) + example.model_dump_json(exclude_none=True).encode())
        file.write(b"]}\n")


def complete_begun(root: Path, user: str, *, dry_run: bool = False) -> None:
    """Complete the changes that were interrupted; the caller holds the lock."""
    for path in sorted(_folder(root, user).glob(f"*{_BEGUN}")):
        if not dry_run:
            _carry_out(root, user, Change.model_validate_json(read_bounded(path, _LIMIT)), keep=True)


def _lock(root: Path, dry_run: bool) -> AbstractContextManager[None]:
    return nullcontext() if dry_run else writing(root)


def _fits(record: Record, choice: Choice) -> bool:
    example = record.example
    name = "" if record.file is None else record.file.name
    return (
        (not choice.records or any(example.record_id.startswith(start) for start in choice.records))
        and (not choice.files or any(fnmatchcase(name, pattern) for pattern in choice.files))
        and (not choice.labels or example.label in choice.labels)
        and (not choice.sessions or example.session_id in choice.sessions)
        and choice.modality in (None, example.modality)
    )


def _refuse_changed_since(root: Path, user: str, change: Change) -> None:
    now = {record.example.record_id: record for record in _reading(root, user).records}
    faults = []
    for example in change.after:
        record = now.get(example.record_id)
        if record is None or record.example != example:
            place = str(sessions_folder(root, user)) if record is None else record.path
            reason = f"{example.record_id} was changed after {change.id}; undo the later change first"
            faults.append(Fault(place, None if record is None else record.line, "record_id", reason))
    if faults:
        raise DataError(faults)


def _carry_out(root: Path, user: str, change: Change, *, keep: bool) -> None:
    """Do a change, however much of it is done already, and note that it is done."""
    if keep:
        _write(root, user, change, _BEGUN)
    reading = _reading(root, user)
    ids = {example.record_id for example in (*change.before, *change.after)}
    places = {record.example.record_id: record.file for record in reading.records}
    kept: dict[str, list[Example]] = defaultdict(list)
    for record in reading.records:
        if record.example.record_id not in ids:
            kept[record.example.session_id].append(record.example)
    new: dict[str, list[Addition]] = defaultdict(list)
    for example in change.after:
        present = [sessions_folder(root, user) / old.session_id / str(file_of(old)) for old in change.before
                   if old.record_id == example.record_id]  # fmt: skip
        now = places.get(example.record_id)
        content = _content(root, user, example, [*([now] if now else []), *present])
        new[example.session_id].append(Addition(example, content))
    sessions = {example.session_id for example in (*change.before, *change.after)}
    for session in sorted(sessions, key=lambda session: (session in new, session)):  # first those that only lose
        metadata = reading.sessions.get(session) or SessionMetadata(user_id=user, session_id=session)
        write_session(root, metadata, kept[session], new[session])
    for example in change.before:
        used = {file_of(other) for other in (*kept[example.session_id], *(a.example for a in new[example.session_id]))}
        place = file_of(example)
        file = None if place is None else sessions_folder(root, user) / example.session_id / place
        if file is None or place in used or not file.exists():
            continue
        if keep:
            target = _folder(root, user) / change.id / example.session_id / str(place)
            ensure_folder(target.parent)
            put_in_place(file, target)
        else:
            file.unlink()
    if not keep:
        for session in sessions:
            if not kept[session] and not new[session]:
                remove_folder(sessions_folder(root, user) / session)
        _forget(root, user, {example.record_id for example in change.before} - {e.record_id for e in change.after})
    else:
        _write(root, user, change, _DONE)
        (_folder(root, user) / f"{change.id}{_BEGUN}").unlink(missing_ok=True)


def _forget(root: Path, user: str, record_ids: Collection[str]) -> None:
    """Take records out of all changes that were written down, and their files."""
    for change in read_changes(root, user):
        gone = [example for example in (*change.before, *change.after) if example.record_id in record_ids]
        if not gone:
            continue
        for example in gone:
            for file in _folder(root, user).glob(f"*/{example.session_id}/{file_of(example)}"):
                destroy(file)
        rest = {
            name: tuple(example for example in getattr(change, name) if example.record_id not in record_ids)
            for name in ("before", "after")
        }
        _write(root, user, change.model_copy(update=rest), _DONE)


def _content(root: Path, user: str, example: Example, present: Iterable[Path]) -> Path | None:
    """Return the file to copy for an example, None where it lies in its place already or needs none."""
    place = file_of(example)
    if place is None or (sessions_folder(root, user) / example.session_id / place).exists():
        return None
    removed = sorted(_folder(root, user).glob(f"*/{example.session_id}/{place}"))
    for file in (*present, *removed):
        if file.is_file():
            return file
    reason = f"its file {place} is no longer there"
    raise DataError([Fault(str(_folder(root, user)), None, "media", reason)])


def _reading(root: Path, user: str) -> Reading:
    """Return the user's records. Raises DataError where they cannot be read, or there are none."""
    try:
        parse_name(user, "user id")
        data_root = DataRoot.at(root)
    except (InvalidNameError, RefusedFileError) as refused:
        raise DataError([Fault(str(root), None, "data", str(refused))]) from None
    if not is_own(root, user):
        reason = "holds no sessions of our own layout; `model-trainer import` brings some in"
        raise DataError([Fault(str(sessions_folder(root, user)), None, "sessions", reason)])
    reading = read_own(data_root, user, None)
    if reading.faults:
        raise DataError(reading.faults)
    return reading


def _folder(root: Path, user: str) -> Path:
    return root / "users" / user / "changes"


def _write(root: Path, user: str, change: Change, suffix: str) -> None:
    ensure_folder(_folder(root, user))
    content = change.model_dump_json(exclude_none=True).encode() + b"\n"
    write_file_atomically(_folder(root, user) / f"{change.id}{suffix}", content)
