"""Arrays kept by what they were computed from, so that a second training run computes only what is new.

One SQLite file serves all processes. It is a convenience: a file that is damaged, locked, read-only or not to be
made is reported once and then done without.
"""

from __future__ import annotations

import hashlib
import logging
import math
import os
import sqlite3
import threading
import time
from collections.abc import Iterable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from model_registry.folders import cache_folder

_LOG = logging.getLogger(__name__)
_DTYPES = ("<f4", "<f2", "|u1")
_TABLE = """
CREATE TABLE IF NOT EXISTS features (
    spec TEXT NOT NULL, key TEXT NOT NULL, dtype TEXT NOT NULL, shape TEXT NOT NULL, data BLOB NOT NULL,
    UNIQUE (spec, key)
)"""
_AT_ONCE = 500  # keys in one query
_BUSY_SECONDS = 10.0


class _Connections(threading.local):
    """This thread's open files. A connection crosses neither threads nor a fork, so the process is noted too."""

    def __init__(self) -> None:
        self.open: dict[tuple[int, Path], sqlite3.Connection] = {}
        self.given_up: set[tuple[int, Path]] = set()


_CONNECTIONS = _Connections()


def default_cache_path() -> Path:
    """Return `features.sqlite` in `$MODEL_TRAINER_CACHE`, or in the user's cache folder."""
    return cache_folder() / "features.sqlite"


def content_key(*parts: bytes | str | NDArray[Any]) -> str:
    """Return the sha256 of what features are computed from; arrays count with dtype and shape."""
    digest = hashlib.sha256()
    for part in parts:
        if isinstance(part, np.ndarray):
            head, body = f"{part.dtype.str}{part.shape}", np.ascontiguousarray(part).tobytes()
        else:
            head, body = type(part).__name__, part.encode() if isinstance(part, str) else part
        digest.update(f"{head} {len(body)};".encode())
        digest.update(body)
    return digest.hexdigest()


@dataclass(frozen=True)
class FeatureCache:
    """A cache file; may be pickled, copied to other processes and used from several at once."""

    path: Path = field(default_factory=default_cache_path)
    limit: int = 2 * 1024**3  # bytes; beyond it the oldest entries go
    refresh: bool = False  # know nothing, so that everything is computed anew and replaces what is kept

    def get_many(self, spec_id: str, keys: Iterable[str]) -> dict[str, NDArray[Any]]:
        """Return those of `keys` that are known, as read-only arrays of the dtype and shape put in."""
        wanted = list(dict.fromkeys(keys))
        connection = self._connection()
        found: dict[str, NDArray[Any]] = {}
        if connection is None or self.refresh:
            return found
        try:
            for start in range(0, len(wanted), _AT_ONCE):
                some = wanted[start : start + _AT_ONCE]
                marks = ",".join("?" * len(some))
                rows = connection.execute(
                    f"SELECT key, dtype, shape, data FROM features WHERE spec = ? AND key IN ({marks})",
                    [spec_id, *some],
                )
                for key, dtype, shape, data in rows:
                    array = _array(dtype, shape, data)
                    if array is not None:
                        found[key] = array
        except sqlite3.Error as error:
            self._give_up(error)
        return found

    def put_many(self, spec_id: str, arrays: Mapping[str, NDArray[Any]]) -> None:
        """Keep float32, float16 or uint8 arrays, replacing known keys. Raises ValueError for other dtypes."""
        rows = []
        for key, array in arrays.items():
            stored = np.ascontiguousarray(array, dtype=array.dtype.newbyteorder("<"))
            if stored.dtype.str not in _DTYPES:
                raise ValueError(f"the cache keeps float32, float16 and uint8, not {array.dtype}")
            shape = ",".join(map(str, array.shape))
            rows.append((spec_id, key, stored.dtype.str, shape, stored.tobytes()))
        connection = self._connection()
        if connection is None or not rows:
            return
        try:
            with connection:
                connection.executemany("INSERT OR REPLACE INTO features VALUES (?, ?, ?, ?, ?)", rows)
                self._evict(connection)
        except sqlite3.Error as error:
            self._give_up(error)

    def _evict(self, connection: sqlite3.Connection) -> None:
        """Delete the oldest quarter while the entries fill more than the limit; freed pages are used again."""
        (page,), (total,), (free,) = (
            connection.execute(f"PRAGMA {name}").fetchone() for name in ("page_size", "page_count", "freelist_count")
        )
        if (total - free) * page <= self.limit:
            return
        (count,) = connection.execute("SELECT COUNT(*) FROM features").fetchone()
        connection.execute(
            "DELETE FROM features WHERE rowid IN (SELECT rowid FROM features ORDER BY rowid LIMIT ?)", [count // 4 + 1]
        )

    def _connection(self) -> sqlite3.Connection | None:
        place = (os.getpid(), self.path)
        if place in _CONNECTIONS.given_up:
            return None
        connection = _CONNECTIONS.open.get(place)
        if connection is None:
            try:
                connection = _CONNECTIONS.open[place] = _opened(self.path)
            except (sqlite3.Error, OSError) as error:
                self._give_up(error)
        return connection

    def _give_up(self, error: Exception) -> None:
        place = (os.getpid(), self.path)
        _CONNECTIONS.given_up.add(place)
        connection = _CONNECTIONS.open.pop(place, None)
        if connection is not None:
            with suppress(sqlite3.Error):
                connection.close()
        _LOG.warning("going on without the feature cache %s (%s); if it is damaged, delete it", self.path, error)


def _opened(path: Path) -> sqlite3.Connection:
    """Open or make the file. Raises sqlite3.Error or OSError if it cannot be used."""
    path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    for name in (path, path.with_name(f"{path.name}-wal"), path.with_name(f"{path.name}-shm")):
        with suppress(FileNotFoundError):
            name.chmod(0o600)  # a person's features are personal data; releases before 0.3 left these readable
    with suppress(FileExistsError):
        os.close(os.open(path, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o600))  # SQLite gives the others this mode, too
    deadline = time.monotonic() + _BUSY_SECONDS
    while True:
        connection = sqlite3.connect(path, timeout=_BUSY_SECONDS)
        try:
            connection.execute("PRAGMA journal_mode = WAL")
            connection.execute("PRAGMA synchronous = NORMAL")
            connection.execute(_TABLE)
            return connection
        except (sqlite3.Error, OSError) as error:
            connection.close()
            busy = isinstance(error, sqlite3.OperationalError) and error.sqlite_errorcode & 0xFF == sqlite3.SQLITE_BUSY
            if not busy or time.monotonic() > deadline:
                raise
            time.sleep(0.01)  # SQLite itself does not wait while another process makes the same file


def _array(dtype: object, shape: object, data: object) -> NDArray[Any] | None:
    """Return the stored array, None if the row is not one."""
    if dtype not in _DTYPES or not isinstance(shape, str) or not isinstance(data, bytes):
        return None
    try:
        sides = tuple(int(side) for side in shape.split(",") if side)
    except ValueError:
        return None
    kind = np.dtype(str(dtype))
    if min(sides, default=0) < 0 or math.prod(sides) * kind.itemsize != len(data):
        return None
    return np.frombuffer(data, kind).reshape(sides)
