"""What was read of files, kept as long as a file's inode, size and times are those of then.

A file that another process replaces, appends to or writes over has another identity, so nothing old is returned.
"""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Generic, TypeVar

from model_registry.storage.durable import read_file

_SETTLED_SECONDS = 2.0  # a file younger than the clock's tick may change without its time changing
_Value = TypeVar("_Value")
Identity = tuple[int, int, int, int, int]


def file_identity(status: os.stat_result) -> Identity:
    """Return what tells a file's content from any other: device, inode, size, and when content and inode changed."""
    return status.st_dev, status.st_ino, status.st_size, status.st_mtime_ns, status.st_ctime_ns


def has_settled(identity: Identity) -> bool:
    """Return whether a file is so old that any further change gives it another identity."""
    return time.time() - identity[4] / 1e9 > _SETTLED_SECONDS


class FileCache(Generic[_Value]):
    """One value for each of at most `most` files; of more, those that were added first are dropped."""

    def __init__(self, most: int) -> None:
        self._most = most
        self._values: dict[str, tuple[Identity, _Value]] = {}
        self._lock = threading.Lock()

    def get(self, path: str, identity: Identity | None) -> _Value | None:
        """Return the value of a file that has this identity now, if it is known."""
        known = self._values.get(path)
        return known[1] if known is not None and known[0] == identity else None

    def remember(self, path: str, identity: Identity, value: _Value) -> None:
        """Keep a value, if the file has settled."""
        if not has_settled(identity):
            return
        with self._lock:
            self._values[path] = (identity, value)
            while len(self._values) > self._most:
                del self._values[next(iter(self._values))]

    def read(self, path: str, limit: int, parse: Callable[[bytes], _Value]) -> _Value:
        """Return what `parse` makes of a file's content, at most `limit` + 1 bytes.

        Raises what `read_file` and `parse` raise.
        """
        before = identity_of(path)
        known = self.get(path, before)
        if known is not None:
            return known
        value = parse(read_file(path, limit))
        if before is not None and identity_of(path) == before:
            self.remember(path, before, value)
        return value


def identity_of(path: str) -> Identity | None:
    """Return the identity of what is at a path, a link not being followed; None where nothing can be found out."""
    with suppress(OSError):
        return file_identity(os.lstat(path))
    return None


_names: FileCache[tuple[str, ...]] = FileCache(100_000)  # folders


def folder_names(folder: Path) -> tuple[str, ...]:
    """Return the names in a folder, sorted; none where there is no such folder.

    A folder has another identity once something in it was added, removed or renamed.
    """
    path = str(folder)
    before = identity_of(path)
    names = _names.get(path, before)
    if names is None:
        try:
            names = tuple(sorted(item.name for item in os.scandir(path)))
        except (FileNotFoundError, NotADirectoryError):
            return ()
        if before is not None and identity_of(path) == before:
            _names.remember(path, before, names)
    return names
