"""What versions do in use, from the file that `serve --field` names: what `model-trainer field --json` printed."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Literal

from prometheus_client import CollectorRegistry, Gauge
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from model_registry.errors import DocumentError
from model_registry.names import Modality

_LOG = logging.getLogger("model_registry")
_LIMIT = 64 << 20  # bytes
Key = tuple[str, str, str]  # user, modality, version


class _Row(BaseModel):
    model_config = ConfigDict(frozen=True, extra="ignore")


class Promised(_Row):
    """What the training log promised."""

    accuracy: float | None = Field(default=None, ge=0, le=1)


class Total(_Row):
    """What became of the predictions of a version."""

    right: int = Field(ge=0)
    corrected: int = Field(ge=0)
    rejected: int = Field(ge=0)
    accuracy: float | None = Field(ge=0, le=1)
    accuracy_interval: tuple[float, float]


class DriftInUse(_Row):
    """A figure that did not keep its promise."""

    lasts: bool


class VersionInUse(_Row):
    """One line of `model-trainer field --json`."""

    user_id: str
    modality: Modality
    model_version: str
    promised: Promised
    total: Total
    drifts: tuple[DriftInUse, ...] = ()

    @property
    def kept(self) -> Literal["kept", "chance", "broken"] | None:
        """Whether the promised accuracy was kept; `chance`: less, but that may be chance. None without a promise."""
        accuracy, promised = self.total.accuracy, self.promised.accuracy
        if accuracy is None or promised is None:
            return None
        if accuracy >= promised:
            return "kept"
        return "chance" if self.total.accuracy_interval[1] >= promised else "broken"

    @property
    def drifts_now(self) -> bool:
        """Whether a drift lasts."""
        return any(drift.lasts for drift in self.drifts)


@dataclass
class FieldFile:
    """The versions in a file of `model-trainer field --json`. It is read again when it has changed.

    Where it cannot be read, what was read before stays, and the log says so.
    """

    path: Path | None

    def __post_init__(self) -> None:
        self._stamp: tuple[int, int, int] | None = None
        self._versions: Mapping[Key, VersionInUse] = {}

    def versions(self) -> Mapping[Key, VersionInUse]:
        """Return the versions by user, modality and version."""
        if self.path is None:
            return {}
        try:
            status = self.path.stat()
            stamp = (status.st_mtime_ns, status.st_size, status.st_ino)
            if stamp != self._stamp:
                self._stamp = stamp
                self._versions = read_field_file(self.path)
        except (OSError, DocumentError) as error:
            _LOG.error("what versions do in use cannot be read: %s", error)
        return self._versions

    def of(self, user: str, modality: str, version: str) -> VersionInUse | None:
        """Return what a version does in use, if the file says it."""
        return self.versions().get((user, modality, version))


def read_field_file(path: Path) -> dict[Key, VersionInUse]:
    """Read what `model-trainer field --json` printed. Raises DocumentError, naming the line, and OSError."""
    versions = {}
    with path.open("rb") as file:
        content = file.read(_LIMIT + 1)
    if len(content) > _LIMIT:
        raise DocumentError(f"{path}: is larger than {_LIMIT >> 20} MB")
    for number, line in enumerate(content.splitlines(), start=1):
        try:
            row = VersionInUse.model_validate_json(line)
        except ValidationError as error:
            first = error.errors(include_url=False)[0]
            place = ".".join(map(str, first["loc"])) or "(line)"
            raise DocumentError(f"{path}:{number}: {place}: is not what `model-trainer field --json` prints") from None
        versions[row.user_id, row.modality, row.model_version] = row
    return versions


def count_in_use(field: FieldFile, metrics: CollectorRegistry) -> None:
    """Add to `metrics` what all versions together do in use: totals, which name nobody."""
    predictions = Gauge(
        "registry_field_predictions", "Predictions in use, by what became of them.", ["result"], registry=metrics
    )
    for result in ("right", "corrected", "rejected"):
        predictions.labels(result).set_function(partial(_count, field, result))
    versions = Gauge("registry_field_versions", "Versions with predictions in use.", registry=metrics)
    versions.set_function(lambda: len(field.versions()))
    drifting = Gauge("registry_field_drifting_versions", "Versions whose drift in use lasts.", registry=metrics)
    drifting.set_function(lambda: sum(one.drifts_now for one in field.versions().values()))


def _count(field: FieldFile, result: str) -> int:
    return sum(getattr(version.total, result) for version in field.versions().values())
