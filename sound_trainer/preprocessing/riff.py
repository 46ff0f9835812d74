"""How much of a wav file is there: the header of a recording that was cut short promises more than the file holds."""

from __future__ import annotations

import struct
from pathlib import Path

_UNKNOWN = 0x7FFF_0000  # programs that stream, and do not know the length beforehand, write a size from here on


_SPARE = 128  # bytes that may be missing: some programs count the header among the samples


def has_no_length(path: Path) -> bool:
    """Return whether a wav file's header promises no samples although more follows, as recorders that crash leave it.

    Raises OSError.
    """
    size, place, promised = _data_chunk(path)
    return promised == 0 and size > place


def share_present(path: Path) -> float:
    """Return the share of the samples promised by a wav file's header that the file holds, 1 where all are there.

    Also 1 for any other kind of file, and for a header without a length. Raises OSError.
    """
    size, place, promised = _data_chunk(path)
    if promised is None or promised == 0 or promised >= _UNKNOWN or promised - (size - place) <= _SPARE:
        return 1.0
    return (size - place) / promised


def _data_chunk(path: Path) -> tuple[int, int, int | None]:
    """Return a file's size, where its samples begin, and how many bytes of them its header promises; None: no wav."""
    with path.open("rb") as file:
        size = file.seek(0, 2)
        file.seek(0)
        riff, _, wave = struct.unpack("<4sI4s", file.read(12).ljust(12, b"\0"))
        if riff == b"RIFF" and wave == b"WAVE":
            while len(header := file.read(8)) == 8:
                name, promised = struct.unpack("<4sI", header)
                if name == b"data":
                    return size, file.tell(), promised
                file.seek(promised + promised % 2, 1)
    return size, size, None
