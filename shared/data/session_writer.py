"""Writes session folders of our own layout: each appears whole, and an existing one is extended or not touched."""

from __future__ import annotations

import shutil
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from itertools import chain, islice
from pathlib import Path

from model_registry.messages import printable
from model_registry.names import InvalidNameError, parse_name
from model_registry.storage.durable import (
    ensure_folder,
    locked,
    put_files_in_place,
    remove_abandoned,
    staged_folder,
    staged_folders,
    temporary_name,
    write_file_atomically,
)
from shared.data.own_layout import EXAMPLES, SESSION, sessions_folder
from shared.schema_utils import Example, SessionMetadata

_SESSIONS_TOGETHER = 50  # that are synced at once: a sync of few files takes as long as one of many


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
    ensure_folder(users)
    with locked(users.resolve()):
        for sessions in users.glob("*/sessions"):
            remove_abandoned(sessions)
        yield


def write_session(
    root: Path, metadata: SessionMetadata, kept: Sequence[Example], additions: Sequence[Addition], *, link: bool = False
) -> Path:
    """Write one session and return its folder: the examples in `kept`, whose files exist, and the additions.

    Raises InvalidNameError for an id or a path that would lead out of the data root.

    A new session is staged and renamed into place. In an existing one the new files are put beside the old ones, and
    then `examples.jsonl` is replaced, so a reader sees the old session or the new one. With `link` files are hard
    links to their origin instead of copies. Raises OSError where the file system refuses.
    """
    sessions = sessions_folder(root, parse_name(metadata.user_id, "user id"))
    folder = sessions / parse_name(metadata.session_id, "session id")
    ensure_folder(sessions)
    if folder.is_dir():
        put_files_in_place(_write_files(folder, additions, link, staged=False))
        if not (folder / SESSION).exists():
            write_file_atomically(folder / SESSION, _session_json(metadata))
        write_file_atomically(folder / EXAMPLES, _lines((*kept, *(addition.example for addition in additions))))
        return folder
    with staged_folder(folder, replace=False) as staging:
        _write_staged(staging, metadata, kept, additions, link)
    return folder


def write_new_sessions(
    root: Path, user: str, contents: Iterable[tuple[SessionMetadata, Sequence[Addition]]], *, link: bool = False
) -> None:
    """Write sessions of a user that do not exist yet: some are staged and synced together, then each appears whole.

    Raises what `write_session` raises, and FileExistsError for a session that exists.
    """
    left = iter(contents)
    sessions = sessions_folder(root, parse_name(user, "user id"))
    while together := list(islice(left, 1)):
        with staged_folders(sessions) as staging:
            for metadata, additions in chain(together, islice(left, _SESSIONS_TOGETHER - 1)):
                folder = staging / parse_name(metadata.session_id, "session id")
                folder.mkdir()
                _write_staged(folder, metadata, (), additions, link)


def _write_staged(
    folder: Path, metadata: SessionMetadata, kept: Sequence[Example], additions: Sequence[Addition], link: bool
) -> None:
    _write_files(folder, additions, link, staged=True)
    (folder / SESSION).write_bytes(_session_json(metadata))
    (folder / EXAMPLES).write_bytes(_lines((*kept, *(addition.example for addition in additions))))


def _lines(examples: Iterable[Example]) -> bytes:
    return "".join(example.model_dump_json(exclude_none=True) + "\n" for example in examples).encode()


def _session_json(metadata: SessionMetadata) -> bytes:
    return (metadata.model_dump_json(exclude_none=True, indent=2) + "\n").encode()


def _write_files(folder: Path, additions: Sequence[Addition], link: bool, *, staged: bool) -> list[tuple[Path, Path]]:
    """Write each addition's file, where nothing is `staged` under a temporary name; return these with their targets."""
    made: set[Path] = set()
    written: dict[Path, Path] = {}
    for addition in additions:
        place = file_of(addition.example)
        if place is None or addition.content is None:
            continue
        if ".." in Path(place).parts or Path(place).is_absolute():
            raise InvalidNameError(f"{printable(place)}: leads out of the session folder")
        target = folder / place
        if target in written:  # the same content under the same name, found twice
            continue
        if target.parent not in made:
            if staged:  # and synced as a whole
                target.parent.mkdir(parents=True, exist_ok=True)
            else:
                ensure_folder(target.parent)
                remove_abandoned(target.parent)
            made.add(target.parent)
        path = written[target] = target if staged else temporary_name(target)
        if isinstance(addition.content, bytes):
            path.write_bytes(addition.content)
        elif link:
            path.hardlink_to(addition.content)
        else:
            shutil.copyfile(addition.content, path)
    return [(path, target) for target, path in written.items()]
