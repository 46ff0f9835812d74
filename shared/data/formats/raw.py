"""What a reader of a format returns: samples that are not written yet, and what was understood, doubted or refused."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from shared.errors import Fault

Content = Path | str | NDArray[np.float32]  # a media file, a text, or (T, D) numbers


@dataclass(frozen=True)
class Columns:
    """Names (or, in a table without a header, numbers from 0) of columns or JSON keys; None: the usual names."""

    label: str | None = None
    text: str | None = None
    session: str | None = None
    user: str | None = None
    path: str | None = None
    sequence: str | None = None
    ignored: tuple[str, ...] = ()

    def named(self) -> tuple[str, ...]:
        """Return the names that were given."""
        given = (self.label, self.text, self.session, self.user, self.path, self.sequence, *self.ignored)
        return tuple(name for name in given if name is not None)


@dataclass(frozen=True)
class ReadOptions:
    """How a source is to be read, as far as it does not say so itself."""

    columns: Columns = Columns()
    splits: tuple[str, ...] = ()
    frame_size: int | None = None  # numbers of one frame, where a row or list holds a whole sequence
    missing: Literal["refuse", "zero"] = "refuse"  # numbers that are empty or NaN
    label: str | None = None  # of everything that names none
    pattern: str | None = None  # parses file names
    levels: tuple[str, ...] = ()  # what each level of folders is: label, session, user, or - for nothing
    media: Path | None = None  # where the files lie that a table or annotations name
    accepts: frozenset[str] = frozenset(["audio", "image", "video", "text", "features"])  # what is wanted

    @property
    def wants_text(self) -> bool:
        return "text" in self.accepts


@dataclass(frozen=True, slots=True)
class RawSample:
    """One sample of a source. `path` and `line` say where it stands, for faults."""

    path: str
    line: int | None
    label: str
    content: Content = field(repr=False)
    user: str | None = None
    session: str | None = None
    take: str | None = None
    onset: float | None = None  # seconds from the start of the media file
    offset: float | None = None
    confidence: float | None = None  # of the speech recogniser
    language: str | None = None
    name: str = ""  # sorts takes; the file's name where there is none
    session_name: str | None = None  # as the source has it, where it cannot be an id
    session_given: bool = False  # by the source or the user, and not by splitting
    recorded: datetime | None = None  # UTC; None: when the file at `path` was last changed


@dataclass
class Findings:
    """Samples, how they were understood, what is doubtful or wrong, and what was passed over with its reason."""

    samples: list[RawSample] = field(default_factory=list)
    faults: list[Fault] = field(default_factory=list)
    doubts: list[Fault] = field(default_factory=list)  # refused unless the user confirms them
    skipped: list[tuple[str, str]] = field(default_factory=list)  # name, reason
    notes: list[str] = field(default_factory=list)  # what became what

    def merge(self, other: Findings) -> None:
        """Add what another reader found."""
        self.samples += other.samples
        self.faults += other.faults
        self.doubts += other.doubts
        self.skipped += other.skipped
        self.notes += [note for note in other.notes if note not in self.notes]


@dataclass
class RowFaults:
    """Faults of many rows: those of one kind become one fault, with their number and the first three places."""

    path: str
    _places: dict[tuple[str, str], list[int | None]] = field(default_factory=dict)

    def add(self, line: int | None, field_name: str, reason: str) -> None:
        """Note a fault; `reason` is the same for all of its kind."""
        self._places.setdefault((field_name, reason), []).append(line)

    def faults(self) -> list[Fault]:
        """Return one fault for each kind, at its first place."""
        return [
            Fault(self.path, lines[0], field_name, reason + _others(lines))
            for (field_name, reason), lines in self._places.items()
        ]


def _others(lines: Sequence[int | None]) -> str:
    if len(lines) == 1:
        return ""
    numbers = ", ".join(str(line) for line in lines[:3] if line is not None)
    return f" ({len(lines)} rows{', lines ' + numbers if numbers else ''}{', …' if len(lines) > 3 else ''})"
