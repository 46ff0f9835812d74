"""Requests for training as A3CP writes them, one JSON object a line: from a file, standard input or a spool folder."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from pathlib import Path

from pydantic import ValidationError

from model_registry.names import Modality
from model_registry.storage.durable import put_in_place
from shared.errors import DataError, Fault
from shared.schema_faults import faults_of
from shared.schema_utils import TrainingRequest

FILE_LIMIT = 64 << 20  # bytes of one file of requests
_SUFFIXES = (".json", ".jsonl")

Requests = dict[tuple[str, Modality], TrainingRequest]


def parse_requests(text: str, name: str) -> Requests:
    """Return the requests in `text`, one a line, by user and modality; of several for one model the last counts.

    Raises DataError with all faults.
    """
    requests: Requests = {}
    faults: list[Fault] = []
    for number, line in enumerate(text.split("\n"), 1):
        if not line.strip():
            continue
        try:
            request = TrainingRequest.model_validate_json(line)
        except ValidationError as error:
            faults += faults_of(error, TrainingRequest, name, number)
            continue
        requests[request.user_id, request.modality] = request
    if faults:
        raise DataError(faults)
    return requests


def read_requests(paths: Iterable[Path]) -> Requests:
    """Return the requests in some files. Raises DataError with all faults."""
    requests: Requests = {}
    faults: list[Fault] = []
    for path in paths:
        try:
            requests |= parse_requests(_read(path), str(path))
        except DataError as error:
            faults += error.faults
    if faults:
        raise DataError(faults)
    return requests


def _read(path: Path) -> str:
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
    return text


def spool_files(folder: Path) -> Iterator[Path]:
    """Yield the files of requests in a spool folder by name; a writer renames each into place when it is complete."""
    for path in sorted(folder.iterdir()):
        if path.suffix in _SUFFIXES and not path.name.startswith(".") and path.is_file() and not path.is_symlink():
            yield path


def move_spool_file(path: Path, to: str) -> None:
    """Move a spool file into the folder `to` beside it: `done` or `refused`."""
    folder = path.parent / to
    folder.mkdir(exist_ok=True)
    target = folder / path.name
    number = 1
    while target.exists():
        number += 1
        target = folder / f"{path.stem}-{number}{path.suffix}"
    put_in_place(path, target)
