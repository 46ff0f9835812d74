"""Files of JSON lines that only grow, in which each line carries the sha256 of every byte of the file before it.

    {"time":"2026-03-01T10:00:00.000000Z", …,"chain":"<sha256 of all that precedes `,"chain"`>"}

So a change to any line, the first as well as the last, is noticed by whoever reads the file. Lines that releases before
0.3 wrote have no `chain`; the first line that has one covers them too.
"""

from __future__ import annotations

import hashlib
import re
from pathlib import Path

from model_registry.errors import CorruptError, NotFoundError
from model_registry.storage.durable import append_after_last_line, read_file, sync_files

HISTORY_LIMIT = 64 << 20  # bytes of a file; a line has 200 to 400

_CHAIN = re.compile(rb',"chain":"([0-9a-f]{64})"\}')
_LENGTH = len(b',"chain":"') + 64 + len(b'"}')


def chain_line(before: bytes, line: bytes) -> bytes:
    """Return `line`, a JSON object and a newline, with its chain; `before` is the file's content, whole lines only."""
    content = line.removesuffix(b"}\n")
    return content + b',"chain":"%b"}\n' % hashlib.sha256(before + content).hexdigest().encode()


def whole_lines(data: bytes) -> bytes:
    """Return a file's content without a last line that a crash left unfinished."""
    return data[: data.rfind(b"\n") + 1]


def unchained_lines(data: bytes, name: str) -> list[bytes]:
    """Return the JSON object of every line without its chain, after checking each. Raises CorruptError with the line.

    A last line without a newline was not completely written and does not count.
    """
    digest, lines, chained = hashlib.sha256(), [], False
    parts = data.split(b"\n")
    for number, line in enumerate(parts[:-1], 1):
        content, found = line[:-_LENGTH], _CHAIN.fullmatch(line[-_LENGTH:])
        if found is None:
            if chained:
                raise CorruptError(f"{name}:{number}: has no chain, and the line before it has one")
            lines.append(line)
            digest.update(line + b"\n")
            continue
        chained = True
        digest.update(content)
        if digest.hexdigest().encode() != found[1]:
            raise CorruptError(f"{name}:{number}: this line or one before it is not what was written")
        digest.update(line[-_LENGTH:] + b"\n")
        lines.append(content + b"}")
    if _CHAIN.fullmatch(parts[-1][-_LENGTH - 1 : -1]):  # longer than any line that was interrupted
        raise CorruptError(f"{name}:{len(parts)}: does not end in a newline")
    return lines


def read_chained(path: Path) -> list[bytes]:
    """Return the lines of a file as `unchained_lines` does, none if it does not exist. Raises CorruptError."""
    try:
        return unchained_lines(read_file(path, HISTORY_LIMIT), str(path))
    except NotFoundError:
        return []


def append_chained(path: Path, line: bytes) -> None:
    """Append a JSON object and a newline with its chain, durably. The caller holds the lock of the file's folder."""
    before = whole_lines(read_file(path, HISTORY_LIMIT)) if path.exists() else b""
    append_after_last_line(path, chain_line(before, line))
    sync_files([path, path.parent])
