"""Where copies of people's models went: what commands wrote outside of the registry, so that an erasure finds them.

`copies.jsonl` is in the registry, or for registries behind a URL in the user's own data folder. Its lines are chained.
"""

from __future__ import annotations

from pathlib import Path

from model_registry.errors import CorruptError, DocumentError, NotFoundError
from model_registry.storage.chain import chain_line, unchained_lines, whole_lines
from model_registry.storage.durable import (
    append_after_last_line,
    ensure_folder,
    locked,
    read_file,
    sync_files,
    write_file_atomically,
)
from model_registry.storage.entry import FILE_LIMIT, CopyRecord
from model_registry.storage.history import HISTORY_LIMIT
from model_registry.storage.publication import trained_on
from model_registry.storage.resolution import ResolvedVersion
from model_registry.timestamps import utc_now


def copies_file(folder: Path) -> Path:
    """Return the list of copies in a registry, or in a user's data folder."""
    return folder / "copies.jsonl"


def read_copies(file: Path) -> list[CopyRecord]:
    """Return every recorded copy, oldest first. Raises CorruptError naming the line."""
    try:
        lines = unchained_lines(read_file(file, HISTORY_LIMIT), str(file))
        return [CopyRecord.from_json(line, f"{file}:{number}") for number, line in enumerate(lines, 1)]
    except NotFoundError:
        return []
    except DocumentError as error:
        raise CorruptError(str(error)) from None


def record_copy(file: Path, version: ResolvedVersion, target: Path) -> None:
    """Record that a version was copied to `target`, a file or the version's folder. Raises OSError, CorruptError."""
    log = read_file(version.files["training_log"], FILE_LIMIT)
    users = tuple(dict.fromkeys((version.entry.user_id, *trained_on(log, version.entry.user_id))))
    record = CopyRecord(time=utc_now(), users=users, path=str(target.absolute()))
    ensure_folder(file.parent)
    with locked(file.parent):
        if any(known.path == record.path and known.users == users for known in read_copies(file)):
            return
        before = whole_lines(read_file(file, HISTORY_LIMIT)) if file.exists() else b""
        append_after_last_line(file, chain_line(before, record.to_line()))
        sync_files([file, file.parent])


def copies_of(file: Path, user: str) -> list[CopyRecord]:
    """Return the recorded copies of models that were trained on a user, alone or among others."""
    return [record for record in read_copies(file) if user in record.users]


def forget_copies(file: Path, user: str) -> None:
    """Take the copies that concern a user out of the list. Nothing is changed where it has none."""
    if not file.exists():
        return
    with locked(file.parent):
        known = read_copies(file)
        kept = [record for record in known if user not in record.users]
        content = b""
        for record in kept:
            content += chain_line(content, record.to_line())
        if len(kept) < len(known):
            write_file_atomically(file, content)
