"""The faults that a user can mend, each with the exit code that a command ends with."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass


@dataclass(frozen=True, order=True)
class Fault:
    """One thing wrong in a user's input: where (`path`, `line`), in which `field`, and why (`reason`)."""

    path: str
    line: int | None
    field: str
    reason: str

    def __str__(self) -> str:
        place = self.path if self.line is None else f"{self.path}:{self.line}"
        return f"{place}: {self.field}: {self.reason}"


class TrainerError(Exception):
    """Root of every error that is raised on purpose. Anything else that escapes is internal (exit code 5).

    Carries a message, or every fault found in an input rather than only the first: the message then has a line each.
    """

    exit_code = 5

    def __init__(self, problem: str | Iterable[Fault]) -> None:
        self.faults: tuple[Fault, ...] = ()
        if not isinstance(problem, str):
            self.faults = tuple(sorted(problem, key=lambda f: (f.path, f.line or 0, f.field, f.reason)))
            problem = "\n".join(map(str, self.faults))
        super().__init__(problem)


class ConfigError(TrainerError):
    """The command line or the configuration cannot be used."""

    exit_code = 2


class DataError(TrainerError):
    """The data cannot be used."""

    exit_code = 3


class InvalidInputError(DataError):
    """An input that can be read but holds nothing to classify: silence, an empty text, a black image, no landmarks.

    `model-trainer predict` reports it as `unknown`, with the reason, and does not run the model.
    """


class QualityGateError(TrainerError):
    """The model is below the configured gate and is not published."""

    exit_code = 4


class DiskFullError(TrainerError):
    """There is no room on the disk. Trying again once there is does no harm."""


class ReplayError(TrainerError):
    """The exported graph does not answer as training did; nothing may be published."""
