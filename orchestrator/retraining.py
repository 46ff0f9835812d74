"""Retraining requests as A3CP writes them, one JSON object a line: from a file, standard input or a spool folder."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Annotated

from pydantic import AfterValidator, AwareDatetime, BaseModel, BeforeValidator, ConfigDict, ValidationError

from model_registry.names import Modality, parse_modality, parse_user
from model_registry.storage.durable import put_in_place
from shared.errors import DataError, Fault
from shared.schema_faults import faults_of

FILE_LIMIT = 64 << 20  # bytes of one file of requests
_SUFFIXES = (".json", ".jsonl")


class RetrainingRequest(BaseModel):
    """One wish for a new model. A plan file may leave out all but `user_id` and `modality`."""

    model_config = ConfigDict(frozen=True, extra="ignore")

    user_id: Annotated[str, AfterValidator(parse_user)]
    modality: Annotated[Modality, BeforeValidator(parse_modality)]
    timestamp: AwareDatetime | None = None
    retrain_reason: str = ""
    latest_model_version: str | int | None = None
    policy_config_version: str | int | None = None


def parse_requests(text: str, name: str) -> list[RetrainingRequest]:
    """Return the requests in `text`, one a line, a user and modality once. Raises DataError with all faults."""
    found: dict[tuple[str, Modality], RetrainingRequest] = {}
    faults: list[Fault] = []
    for number, line in enumerate(text.split("\n"), 1):
        if not line.strip():
            continue
        try:
            request = RetrainingRequest.model_validate_json(line)
        except ValidationError as error:
            faults += faults_of(error, RetrainingRequest, name, number)
            continue
        found[request.user_id, request.modality] = request
    if faults:
        raise DataError(faults)
    return list(found.values())


def read_requests(path: Path) -> list[RetrainingRequest]:
    """Return the requests in a file. Raises DataError."""
    try:
        with path.open("rb") as stream:
            content = stream.read(FILE_LIMIT + 1)
        text = content.decode("utf-8-sig")
    except OSError as error:
        raise DataError([Fault(str(path), None, "(file)", (error.strerror or "cannot be read").lower())]) from error
    except UnicodeDecodeError as error:
        raise DataError([Fault(str(path), None, "(file)", "is not UTF-8")]) from error
    if len(content) > FILE_LIMIT:
        raise DataError([Fault(str(path), None, "(file)", f"is larger than {FILE_LIMIT >> 20} MiB")])
    return parse_requests(text, str(path))


def spooled(folder: Path) -> Iterator[Path]:
    """Yield the files of requests in a spool folder by name; a file is put there whole, by renaming it into place."""
    for path in sorted(folder.iterdir()):
        if path.suffix in _SUFFIXES and not path.name.startswith(".") and path.is_file() and not path.is_symlink():
            yield path


def put_away(path: Path, where: str) -> None:
    """Move a spooled file into the folder `where` beside it: `done` or `refused`."""
    folder = path.parent / where
    folder.mkdir(exist_ok=True)
    target = folder / path.name
    number = 1
    while target.exists():
        number += 1
        target = folder / f"{path.stem}-{number}{path.suffix}"
    put_in_place(path, target)
