"""What a wav file's header promises, beside what the file holds: a recording that was cut short says too much."""

from __future__ import annotations

import struct
from pathlib import Path

_UNKNOWN = 0x7FFF_0000  # a size from here on is what programs write that stream and do not know the length beforehand


def share_there(path: Path) -> float:
    """Return how much of the samples that a wav file's header promises is in the file: 1 where all are.

    It is 1, too, for another kind of file and for a header that does not know the length. Raises OSError.
    """
    with path.open("rb") as file:
        size = file.seek(0, 2)
        file.seek(0)
        riff, _, wave = struct.unpack("<4sI4s", file.read(12).ljust(12, b"\0"))
        if riff != b"RIFF" or wave != b"WAVE":
            return 1.0
        while len(header := file.read(8)) == 8:
            name, promised = struct.unpack("<4sI", header)
            if name == b"data":
                return 1.0 if promised >= _UNKNOWN or promised == 0 else min(1.0, (size - file.tell()) / promised)
            file.seek(promised + promised % 2, 1)
    return 1.0
