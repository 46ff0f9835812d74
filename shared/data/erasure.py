"""Removing every file of a person from a data root, and from folders in which runs, bundles, exports or copies lie.

Each function may be repeated: what is gone already is passed over. Whether a file concerns a person is decided by its
content: the `user`, `user_id` and `users` of JSON documents, in an archive too, the user in the head of a page, or the
sha256 of a model of theirs.
"""

from __future__ import annotations

import json
import os
import re
import tarfile
import tempfile
from collections.abc import Iterable, Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from model_registry.errors import MlflowError
from model_registry.mlflow_export import is_run_address, remove_run
from model_registry.storage.durable import (
    abandoned_folders,
    destroy,
    file_sha256,
    locked,
    remove_folder,
    write_file_atomically,
)
from model_registry.storage.entry import FILE_LIMIT, CopyRecord
from model_registry.storage.tombstones import add_tombstone

_TOPS = (".", "logs", "data")  # A3CP keeps users/ and transcripts/ below these
_PAGE_USER = re.compile(r'<meta name="user" content="([A-Za-z0-9._-]+)">')  # of pages of `check --html`
_TEMPORARY = re.compile(r"(registry|model-registry|restore|reproduce)-.+")  # of killed commands, until release 0.2


@dataclass(frozen=True)
class Person:
    """Whose files are to go: the user id, and the sha256 of models that were trained on them."""

    user: str
    hashes: frozenset[str] = frozenset()


@dataclass
class Places:
    """What was removed of a user, and what could not be: a line each."""

    user: str
    removed: list[str] = field(default_factory=list)
    left: list[str] = field(default_factory=list)

    def remove(self, path: Path) -> None:
        """Remove a file or folder, a link to a folder together with it."""
        target = path.resolve() if path.is_symlink() and path.is_dir() else None
        try:
            if path.is_dir() and target is None and path.name != self.user:
                remove_folder(path)  # by its name first: after a kill, the rest is known to be rubbish
            for each in (path, target):
                if each is not None and os.path.lexists(each):
                    destroy(each)
        except Exception as error:  # the other places must be reached nonetheless
            self.left.append(f"{path}: {error}")
        else:
            self.removed.append(str(path))


def erase_data_root(root: Path, person: Person, reason: str, places: Places) -> None:
    """Remove a person's sessions, features and transcripts, and leave a tombstone that the importer respects."""
    add_tombstone(root, person.user, reason)
    users = root / "users"
    if users.is_dir():
        with locked(users.resolve()):  # no importer is writing
            _erase_users(root, person, places)
    else:
        _erase_users(root, person, places)


def _erase_users(root: Path, person: Person, places: Places) -> None:
    for top in _TOPS:
        folder = root / top / "users" / person.user
        if os.path.lexists(folder):
            places.remove(folder)
        for transcript in sorted((root / top / "transcripts").glob("*.jsonl")):
            _erase_lines(transcript, person, places)


def erase_from_folder(folder: Path, person: Person, places: Places) -> None:
    """Remove what concerns a person from a folder of runs, bundles, exports or copies of a registry.

    Bundles and versions go whole, pooled ones that contain the person too; lists lose the entries that name them.
    """
    for name, _, _ in os.walk(folder):
        for rubbish in abandoned_folders(Path(name)):
            destroy(rubbish)
    for path in _concerning(folder, person):
        if path.suffix == ".jsonl":
            _erase_lines(path, person, places)
        elif path.suffix == ".json":
            _erase_entries(path, person, places)
        else:
            places.remove(path)


def erase_copy(record: CopyRecord, person: Person, places: Places) -> None:
    """Remove an export, a copied version or a page that a command recorded, or say why it cannot be reached."""
    if is_run_address(record.path):
        _erase_run(record.path, places)
        return
    path = Path(record.path)
    if not path.parent.is_dir():
        places.left.append(f"{path}: a copy was written there at {record.time}, and the folder cannot be reached now")
    elif _is_of(path, person) or (path.is_file() and _file_concerns(path, person)):
        folder = path.parent.parent  # of a copied version: users/ana, which has their pointers and histories, too
        places.remove(folder if folder.name == person.user and folder.parent.name == "users" else path)
    elif os.path.lexists(path):
        places.left.append(f"{path}: a copy was written there at {record.time}; what is there now is something else")


def _erase_run(run: str, places: Places) -> None:
    """Delete what was exported to MLflow, or say what remains to be done there."""
    try:
        if remove_run(run):
            places.removed.append(run)
        else:
            run_id = run.rpartition("/")[2]
            places.left.append(f"{run}: deleted, but the server keeps the files until `mlflow gc --run-ids {run_id}`")
    except MlflowError as error:
        places.left.append(f"{run}: a model was exported there: {error}")


def erase_temporary(person: Person, places: Places) -> None:
    """Remove what killed commands left of a person in the folder for temporary files."""
    top = Path(tempfile.gettempdir())
    abandoned = abandoned_folders(top)
    for folder in sorted(top.iterdir()):
        with suppress(OSError):
            if not folder.is_dir() or folder.stat().st_uid != os.getuid():
                continue
            killed = _TEMPORARY.fullmatch(folder.name) and next(_concerning(folder, person), None) is not None
            if killed or folder in abandoned:
                places.remove(folder)


def erase_cache(path: Path, places: Places) -> None:
    """Remove the feature cache: its rows are found by content only, and computing them again costs time alone."""
    for name in (path.name, f"{path.name}-wal", f"{path.name}-shm"):
        if path.with_name(name).exists():
            places.remove(path.with_name(name))


def traces(folder: Path, person: Person) -> Iterator[Path]:
    """Yield what still concerns a person, in a folder in which nothing should."""
    yield from _concerning(folder, person)


def _concerning(folder: Path, person: Person) -> Iterator[Path]:
    """Yield folders that are a person's as a whole, and single files that concern them. What is yielded may go.

    Bundles and versions of others are not looked into: whatever words they contain, they are not this person's.
    """
    for name, folders, files in os.walk(folder):
        here = Path(name)
        if _is_whole(here) and here != folder:
            folders.clear()
            continue
        whole = [each for each in sorted(folders) if _is_of(here / each, person)]
        folders[:] = [each for each in folders if each not in whole]
        yield from (here / each for each in whole)
        yield from (here / each for each in sorted(files) if _file_concerns(here / each, person))


def _is_whole(folder: Path) -> bool:
    """Return whether a folder is a bundle or a version."""
    return (folder / "bundle.json").is_file() or (folder / "manifest.json").is_file()


def _is_of(folder: Path, person: Person) -> bool:
    """Return whether a folder is a person's as a whole: named after them, or a bundle or version trained on them."""
    if folder.name == person.user and folder.parent.name in ("users", "jobs"):
        return True
    return _is_whole(folder) and any(_is_about(_json(path), person.user) for path in folder.glob("*.json"))


def _file_concerns(path: Path, person: Person) -> bool:
    try:
        if path.suffix == ".jsonl":
            return any(_line_concerns(line, person) for line in path.read_bytes().splitlines())
        if path.suffix == ".json":
            return concerns(_json(path), person.user)
        if path.suffix == ".tar":
            return _tar_concerns(path, person)
        if path.suffix in (".html", ".htm"):
            return _PAGE_USER.findall(path.read_text(encoding="utf-8")) == [person.user]
        if file_sha256(path) in person.hashes:
            return True
        data = path.read_bytes()  # an ONNX file with encoders names the model that it was made of
        return any(digest.encode() in data for digest in person.hashes)
    except (OSError, tarfile.TarError, ValueError):
        return False


def _tar_concerns(path: Path, person: Person) -> bool:
    """Return whether an exported version was trained on a person, alone or among others."""
    with tarfile.open(path) as tar:
        for member in tar:
            if member.name.endswith(".json") and member.size <= FILE_LIMIT:
                content = tar.extractfile(member)
                if content is not None and _is_about(json.loads(content.read()), person.user):
                    return True
    return False


def _is_about(document: Any, user: str) -> bool:
    """Return whether a JSON document says that it is about a user, alone or among others."""
    return isinstance(document, dict) and any(_has_user(key, value, user) for key, value in document.items())


def _has_user(key: str, value: Any, user: str) -> bool:
    return (key in ("user", "user_id") and value == user) or (
        key == "users" and isinstance(value, list) and user in value
    )


def _json(path: Path) -> Any:
    try:
        return json.loads(path.read_bytes())
    except (OSError, ValueError):
        return None


def concerns(value: Any, user: str) -> bool:
    """Return whether a JSON value is about a user, anywhere in it: as `user`, `user_id`, one of `users`, or in a path.

    Words that happen to be somebody's id, such as a label, are not taken for the person.
    """
    if isinstance(value, dict):
        return any(_has_user(key, item, user) or concerns(item, user) for key, item in value.items())
    if isinstance(value, list):
        return any(concerns(item, user) for item in value)
    return isinstance(value, str) and re.search(rf"(?:^|/)(?:users|jobs)/{re.escape(user)}(?:/|$)", value) is not None


def _line_concerns(line: bytes, person: Person) -> bool:
    try:
        return concerns(json.loads(line), person.user)
    except ValueError:
        return False


def _erase_lines(path: Path, person: Person, places: Places) -> None:
    """Write a file of JSON lines again without those that name a person; remove it where none is left."""
    lines = path.read_bytes().splitlines(keepends=True)
    kept = [line for line in lines if not _line_concerns(line, person)]
    if len(kept) == len(lines):
        return
    if kept:
        write_file_atomically(path, b"".join(kept), mode=0o600)
        places.removed.append(f"{path}: {len(lines) - len(kept)} lines")
    else:
        places.remove(path)


def _erase_entries(path: Path, person: Person, places: Places) -> None:
    """Write a JSON document again without the list entries about a person; remove it where that is not enough."""
    after = _without(_json(path), person.user)
    if concerns(after, person.user):
        places.remove(path)
    else:
        write_file_atomically(path, (json.dumps(after, ensure_ascii=False) + "\n").encode(), mode=0o600)
        places.removed.append(f"{path}: entries")


def _without(value: Any, user: str) -> Any:
    """Return a JSON value without those entries of its lists that are about a user."""
    if isinstance(value, list):
        return [_without(item, user) for item in value if not concerns(item, user)]
    if isinstance(value, dict):
        return {key: item if key == "users" else _without(item, user) for key, item in value.items()}
    return value


def hashes_of(folders: Iterable[Path], user: str) -> frozenset[str]:
    """Return the sha256 of every model below some folders, in a bundle or version, that was trained on a user."""
    person, hashes = Person(user), set[str]()
    for folder in folders:
        for name in ("bundle.json", "manifest.json"):
            for path in folder.rglob(name):
                if _is_of(path.parent, person):
                    with suppress(KeyError, TypeError):
                        hashes.add(str(_json(path)["files"]["model"]["sha256"]))
    return frozenset(hashes)
