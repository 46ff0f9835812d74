"""Where copies of people's data went: what commands wrote elsewhere, so that an erasure finds it.

`copies.jsonl` is in the registry that a model was copied from. For models of registries behind a URL, and for pages
about a person's recordings, it is in the user's own data folder. Its lines are chained.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from model_registry.errors import CorruptError, DocumentError
from model_registry.storage.chain import append_chained, chain_line, read_chained
from model_registry.storage.durable import ensure_folder, locked, read_file, write_file_atomically
from model_registry.storage.entry import FILE_LIMIT, CopyRecord
from model_registry.storage.publication import trained_on
from model_registry.storage.resolution import ResolvedVersion
from model_registry.timestamps import utc_now


def copies_file(folder: Path) -> Path:
    """Return the list of copies in a registry, or in a user's data folder."""
    return folder / "copies.jsonl"


def read_copies(file: Path) -> list[CopyRecord]:
    """Return every recorded copy, oldest first. Raises CorruptError naming the line."""
    try:
        return [CopyRecord.from_json(line, f"{file}:{number}") for number, line in enumerate(read_chained(file), 1)]
    except DocumentError as error:
        raise CorruptError(str(error)) from None


def record_model_copy(file: Path, version: ResolvedVersion, target: Path | str) -> None:
    """Record that a version was copied to a file, the version's folder or an address. Raises OSError, CorruptError."""
    log = read_file(version.files["training_log"], FILE_LIMIT)
    record_copy(file, [version.entry.user_id, *trained_on(log, version.entry.user_id)], target)


def record_copy(file: Path, users: Sequence[str], target: Path | str) -> None:
    """Record that what concerns some users was written to a path, or to an address. Raises OSError, CorruptError."""
    path = str(target.absolute()) if isinstance(target, Path) else target
    record = CopyRecord(time=utc_now(), users=tuple(dict.fromkeys(users)), path=path)
    ensure_folder(file.parent)
    with locked(file.parent):
        if not any(known.path == record.path and known.users == record.users for known in read_copies(file)):
            append_chained(file, record.to_line())


def copies_of(file: Path, user: str) -> list[CopyRecord]:
    """Return the recorded copies that concern a user, alone or among others."""
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
