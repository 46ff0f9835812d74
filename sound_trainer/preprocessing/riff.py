"""How much of a wav file is there: the header of a recording that was cut short promises more than the file holds."""

from __future__ import annotations

import struct
from pathlib import Path

_UNKNOWN = 0x7FFF_0000  # programs that stream, and do not know the length beforehand, write a size from here on


def share_present(path: Path) -> float:
    """Return the share of the samples promised by a wav file's header that the file holds, 1 where all are there.

    Also 1 for any other kind of file, and for a header without a length. Raises OSError.
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
