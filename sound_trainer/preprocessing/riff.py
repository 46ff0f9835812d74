"""How much of a wav file is there: the header of a recording that was cut short promises more than the file holds."""

from __future__ import annotations

import struct
from dataclasses import dataclass
from pathlib import Path

_UNKNOWN = 0x7FFF_0000  # programs that stream, and do not know the length beforehand, write a size from here on


_SPARE = 128  # bytes that may be missing: some programs count the header among the samples


@dataclass(frozen=True)
class WavLength:
    """A wav file's size, where its samples begin, and how many bytes of them its header promises."""

    size: int
    start: int
    promised: int

    @property
    def is_missing(self) -> bool:
        """Whether the header promises no samples although more follows, as recorders that crash leave it."""
        return self.promised == 0 and self.size > self.start

    @property
    def share_present(self) -> float:
        """The share of the promised samples that the file holds, 1 where all are there or nothing is promised."""
        present = self.size - self.start
        if self.promised == 0 or self.promised >= _UNKNOWN or self.promised - present <= _SPARE:
            return 1.0
        return present / self.promised


def wav_length(path: Path) -> WavLength | None:
    """Return what a wav file's header promises and what is there; None for any other kind of file. Raises OSError."""
    with path.open("rb") as file:
        riff, _, wave = struct.unpack("<4sI4s", file.read(12).ljust(12, b"\0"))
        if riff != b"RIFF" or wave != b"WAVE":
            return None
        while len(header := file.read(8)) == 8:
            name, promised = struct.unpack("<4sI", header)
            if name == b"data":
                start = file.tell()
                return WavLength(file.seek(0, 2), start, promised)
            file.seek(promised + promised % 2, 1)
    return None
