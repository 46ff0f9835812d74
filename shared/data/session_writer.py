"""Writes session folders of our own layout: each appears whole, and an existing one is extended or not touched."""

from __future__ import annotations

import fcntl
import os
import secrets
import shutil
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from shared.data.own_layout import EXAMPLES, SESSION, sessions_folder
from shared.schema_utils import Example, SessionMetadata

_STAGING = ".import-"
_SYNC_ONE_BY_ONE = 16  # files


@dataclass(frozen=True)
class Addition:
    """One example to write, with where its file's content comes from: a file, bytes, or (a transcript) nothing."""

    example: Example
    content: Path | bytes | None = field(repr=False)


def file_of(example: Example) -> str | None:
    """Return where the example's file lies, relative to the session folder; None for a transcript."""
    if example.media is not None:
        return example.media.path
    return example.features.uri if example.features is not None else None


@contextmanager
def writing(root: Path) -> Iterator[None]:
    """Hold the data root for writing: a second writer waits. Left-overs of interrupted writers are removed."""
    users = root / "users"
    users.mkdir(parents=True, exist_ok=True)
    handle = os.open(users, os.O_RDONLY | os.O_DIRECTORY)
    try:
        fcntl.flock(handle, fcntl.LOCK_EX)
        for stale in users.glob(f"*/sessions/{_STAGING}*"):
            shutil.rmtree(stale, ignore_errors=True)
        yield
    finally:
        os.close(handle)


def write_session(
    root: Path, metadata: SessionMetadata, kept: Sequence[Example], additions: Sequence[Addition], *, link: bool = False
) -> Path:
    """Write one session and return its folder: the examples in `kept`, whose files exist, and the additions.

    A new session is staged and renamed into place. In an existing one the new files are put beside the old ones, and
    then `examples.jsonl` is replaced, so a reader sees the old session or the new one. With `link` files are hard
    links to their origin instead of copies. Raises OSError where the file system refuses.
    """
    sessions = sessions_folder(root, metadata.user_id)
    folder = sessions / metadata.session_id
    sessions.mkdir(parents=True, exist_ok=True)
    lines = "".join(
        example.model_dump_json(exclude_none=True) + "\n"
        for example in (*kept, *(addition.example for addition in additions))
    ).encode()
    if folder.is_dir():
        _put_files(folder, additions, link)
        if not (folder / SESSION).exists():
            _replace(folder / SESSION, _session_json(metadata))
        _replace(folder / EXAMPLES, lines)
        return folder
    staging = sessions / f"{_STAGING}{secrets.token_hex(8)}"
    staging.mkdir()
    try:
        _put_files(staging, additions, link)
        _replace(staging / SESSION, _session_json(metadata))
        _replace(staging / EXAMPLES, lines)
        staging.rename(folder)
        _sync(sessions)
    except BaseException:
        shutil.rmtree(staging, ignore_errors=True)
        raise
    return folder


def _session_json(metadata: SessionMetadata) -> bytes:
    return (metadata.model_dump_json(exclude_none=True, indent=2) + "\n").encode()


def _put_files(folder: Path, additions: Sequence[Addition], link: bool) -> None:
    folders: set[Path] = set()
    targets: set[Path] = set()
    written = []
    for addition in additions:
        place = file_of(addition.example)
        if place is None or addition.content is None:
            continue
        target = folder / place
        if target in targets:  # the same content under the same name
            continue
        targets.add(target)
        if target.parent not in folders:
            target.parent.mkdir(parents=True, exist_ok=True)
            folders.add(target.parent)
        temporary = target.with_name(f".{target.name}.part")
        temporary.unlink(missing_ok=True)
        if isinstance(addition.content, bytes):
            temporary.write_bytes(addition.content)
        elif link:
            temporary.hardlink_to(addition.content)
        else:
            shutil.copyfile(addition.content, temporary)
        written.append((temporary, target))
    if len(written) > _SYNC_ONE_BY_ONE:
        os.sync()  # one flush of everything is many times faster than one for each of thousands of small files
    else:
        for temporary, _ in written:
            _sync(temporary)
    for temporary, target in written:
        temporary.replace(target)
    for parent in folders:
        _sync(parent)


def _replace(path: Path, content: bytes) -> None:
    temporary = path.with_name(f".{path.name}.part")
    temporary.write_bytes(content)
    _sync(temporary)
    temporary.replace(path)
    _sync(path.parent)


def _sync(path: Path) -> None:
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
