"""Files of a data root, opened safely: nothing outside the root, only regular files, bounded lines, known hash."""

from __future__ import annotations

import json
import os
import re
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from pydantic_core import from_json

from model_registry.errors import NotFoundError
from model_registry.storage.durable import copy_file, file_sha256, temporary_folder
from shared.errors import Fault

_PLACE = re.compile(r"line (\d+) column (\d+)")
LINE_LIMIT = 512 * 1024  # bytes; A3CP's own limit for a line of a session log


class RefusedFileError(ValueError):
    """A file that is missing, is no regular file, or lies outside the data root. Its text is the reason."""


@dataclass(frozen=True)
class DataRoot:
    """A data root as the user wrote it (`path`, for messages) and as it is (`real`, without symbolic links)."""

    path: Path
    real: str
    _folders: dict[str, str] = field(default_factory=dict, repr=False, compare=False)

    @classmethod
    def at(cls, path: Path) -> DataRoot:
        """Return the data root at `path`; raises RefusedFileError where there is no folder."""
        if not path.is_dir():
            raise RefusedFileError("is not a folder; name the folder that holds users/")
        return cls(path, os.path.realpath(path))

    def locate(self, path: Path) -> Path:
        """Return the real place of the regular file at `path`; raises RefusedFileError with the reason."""
        folder = os.fspath(path.parent)
        real = self._folders.get(folder)
        if real is None:
            real = self._folders[folder] = self._inside(folder)
        place = f"{real}/{path.name}"
        try:
            mode = os.lstat(place).st_mode
            if stat.S_ISLNK(mode):
                place = self._inside(place)
                mode = os.lstat(place).st_mode
        except OSError as error:
            raise RefusedFileError(reason_of(error)) from None
        if not stat.S_ISREG(mode):
            raise RefusedFileError("is not a regular file")
        return Path(place)

    def folders(self, path: Path) -> list[Path]:
        """Return the folders in `path` by name, hidden ones aside; raises RefusedFileError for one that leads out."""
        try:
            self._inside(os.fspath(path))
            with os.scandir(path) as entries:
                return sorted(path / entry.name for entry in entries if entry.is_dir() and entry.name[0] != ".")
        except OSError as error:
            raise RefusedFileError(reason_of(error)) from None

    def _inside(self, path: str) -> str:
        try:
            real = os.path.realpath(path, strict=True)
        except OSError as error:
            raise RefusedFileError(reason_of(error)) from None
        if real != self.real and not real.startswith(self.real.rstrip("/") + "/"):
            raise RefusedFileError("leads out of the data root; copy the files into it")
        return real


def reason_of(error: OSError) -> str:
    """Return why a file cannot be read, in one short phrase."""
    return "file not found" if isinstance(error, FileNotFoundError) else (error.strerror or "cannot be read").lower()


def read_bounded(place: Path, limit: int) -> bytes:
    """Return the whole file; raises RefusedFileError where it holds more than `limit` bytes or cannot be read."""
    try:
        with place.open("rb") as file:
            content = file.read(limit + 1)
    except OSError as error:
        raise RefusedFileError(reason_of(error)) from None
    if len(content) > limit:
        raise RefusedFileError(f"is larger than {limit // 1024**2} MiB")
    return content


@contextmanager
def private_copy(place: Path, sha256: str) -> Iterator[Path]:
    """Yield a copy of a file, of the same name, that nobody else can change, after checking that its SHA-256 is this.

    So the bytes that are decoded are the bytes that were hashed, whoever exchanges the file meanwhile. Raises
    RefusedFileError where it cannot be read, or is another one by now.
    """
    try:
        with temporary_folder() as folder:
            copy = folder / place.name
            actual, _ = copy_file(place, copy, place.stat().st_size)
            if actual != sha256:
                raise RefusedFileError("was exchanged during the run; run again once nothing writes to the data root")
            yield copy
    except NotFoundError:
        raise RefusedFileError("file not found") from None
    except OSError as error:
        raise RefusedFileError(reason_of(error)) from None


def sha256_of(place: Path) -> str:
    """Return the SHA-256 of a file of any size; raises RefusedFileError where it cannot be read."""
    try:
        return file_sha256(place)
    except OSError as error:
        raise RefusedFileError(reason_of(error)) from None


def json_lines(
    place: Path, name: str, faults: list[Fault], warnings: list[Fault] | None = None
) -> Iterator[tuple[int, dict[str, Any]]]:
    """Yield (line number, object) of a JSON lines file and add a fault for each line that holds none.

    A last line without its newline that cannot be read is one that is still being written; where `warnings` is
    given it goes there, because a log may still be growing.
    """
    try:
        file = place.open("rb")
    except OSError as error:
        faults.append(Fault(name, None, "(file)", reason_of(error)))
        return
    with file:
        number = 0
        while line := file.readline(LINE_LIMIT + 1):
            number += 1
            if len(line) > LINE_LIMIT:
                faults.append(Fault(name, number, "(line)", f"is longer than {LINE_LIMIT // 1024} KiB"))
                while line and not line.endswith(b"\n"):
                    line = file.readline(LINE_LIMIT)
                continue
            if number == 1:
                line = line.removeprefix(b"\xef\xbb\xbf")
            if not line.strip():
                continue
            try:
                value = parse_json(line)
            except ValueError as error:
                if warnings is not None and not line.endswith(b"\n"):
                    warnings.append(Fault(name, number, "(line)", "is incomplete, and was left out"))
                else:
                    faults.append(Fault(name, number, "(line)", f"is not readable JSON: {error}"))
                continue
            if isinstance(value, dict):
                yield number, value
            else:
                faults.append(Fault(name, number, "(line)", "must hold one JSON object"))


def parse_json(text: bytes) -> Any:
    """Return the JSON value in `text`.

    Raises ValueError for bad syntax, bad UTF-8, NaN, deep nesting, and an object that has a key twice; its text says
    where, such as `see line 3, column 7`.
    """
    try:
        value = from_json(text, allow_inf_nan=False)
    except ValueError as error:
        place = _PLACE.search(str(error))
        where = f"see line {place.group(1)}, column {place.group(2)}" if place else "it cannot be parsed"
        raise ValueError(where) from None
    json.loads(text, object_pairs_hook=_refuse_doubles)
    return value


def _refuse_doubles(items: list[tuple[str, Any]]) -> None:
    if len({key for key, _ in items}) != len(items):
        raise ValueError("a key appears twice in an object")
