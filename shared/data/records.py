"""What reading a user's sessions gives, whatever the layout: records, and what was wrong or left out, with places."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

from model_registry.names import Modality
from shared.errors import Fault
from shared.schema_utils import Example, SessionMetadata
from shared.trainers import modality_names


@dataclass(frozen=True, slots=True)
class Dropped:
    """One example that is not used, why, and the file and line that describe it."""

    record_id: str
    reason: str
    path: str
    line: int


@dataclass(frozen=True, slots=True)
class Record:
    """One example as it was read from `path` at `line`, and the file that it refers to, not yet opened."""

    example: Example
    path: str
    line: int
    file: Path | None

    def fault(self, field: str, reason: str) -> Fault:
        """Return a fault at the line that describes this example."""
        return Fault(self.path, self.line, field, reason)

    def dropped(self, reason: str) -> Dropped:
        """Return this example's row in the ledger."""
        return Dropped(self.example.record_id, reason, self.path, self.line)


@dataclass
class Reading:
    """What a user's folder holds. `session_ids` names every session, also those that were not chosen."""

    records: list[Record] = field(default_factory=list)
    ledger: list[Dropped] = field(default_factory=list)
    sessions: dict[str, SessionMetadata] = field(default_factory=dict)
    session_ids: list[str] = field(default_factory=list)
    faults: list[Fault] = field(default_factory=list)
    warnings: list[Fault] = field(default_factory=list)


def foreign_modality(path: str, line: int, modality: Modality) -> Fault:
    """Return the warning that lines of a modality are skipped and that nothing here trains it."""
    known = ", ".join(modality_names())
    return Fault(path, line, "modality", f"{modality!a} has no trainer here, so it is skipped; there are {known}")
