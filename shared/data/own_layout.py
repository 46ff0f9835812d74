"""Reader of our own layout: `users/<user>/sessions/<session>/` with `session.json` and `examples.jsonl`."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Collection
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from model_registry.names import InvalidNameError, Modality, parse_modality, parse_name
from shared.data.files import DataRoot, RefusedFileError, json_lines, parse_json, read_bounded
from shared.data.records import Reading, Record, foreign_modality
from shared.errors import Fault
from shared.schema_faults import faults_of
from shared.schema_utils import Example, SessionMetadata
from shared.trainers import modality_names

EXAMPLES = "examples.jsonl"
SESSION = "session.json"
_SESSION_LIMIT = 1024**2  # bytes of a session.json


def sessions_folder(root: Path, user: str) -> Path:
    """Return where the sessions of `user` lie."""
    return root / "users" / user / "sessions"


def is_own(root: Path, user: str) -> bool:
    """Return whether the user's folder holds at least one session of this layout."""
    try:
        with os.scandir(sessions_folder(root, user)) as entries:
            return any(
                os.path.exists(f"{entry.path}/{EXAMPLES}") or os.path.exists(f"{entry.path}/{SESSION}")  # noqa: PTH110
                for entry in entries
                if entry.name[0] != "."
            )
    except OSError:
        return False


def read_own(root: DataRoot, user: str, modality: Modality | None, sessions: Collection[str] | None = None) -> Reading:
    """Read the examples of `modality` (None: of all) in the user's sessions (None: in all).

    Lines of another modality are skipped unchecked, so one modality's faults do not stop another; a modality without
    a trainer here may be a misspelt one, and is a warning. Sessions that were not chosen are read for the ledger, and
    their faults are ignored.
    """
    reading = Reading()
    try:
        folders = root.folders(sessions_folder(root.path, user))
    except RefusedFileError as refused:
        reading.faults.append(Fault(str(sessions_folder(root.path, user)), None, "sessions", str(refused)))
        return reading
    for folder in folders:
        reading.session_ids.append(folder.name)
        faults: list[Fault] = []
        _read_session(root, user, folder, modality, reading, faults)
        if sessions is None or folder.name in sessions:
            reading.faults.extend(faults)
    return reading


def count_own(root: DataRoot, user: str) -> Counter[Modality]:
    """Return how many examples of each modality the user has, usable or not; nothing is checked."""
    counts: Counter[Modality] = Counter()
    try:
        for folder in root.folders(sessions_folder(root.path, user)):
            for _, value in json_lines(root.locate(folder / EXAMPLES), "", []):
                try:
                    counts[parse_modality(value.get("modality", ""))] += 1
                except InvalidNameError:
                    continue
    except RefusedFileError:
        pass  # reported when the user's data are loaded
    return counts


def _read_session(
    root: DataRoot, user: str, folder: Path, modality: Modality | None, reading: Reading, faults: list[Fault]
) -> None:
    try:
        parse_name(folder.name, "session id")
    except InvalidNameError as refused:
        faults.append(Fault(str(folder), None, "session_id", str(refused)))
        return
    metadata = _read_metadata(root, user, folder, faults)
    if metadata is not None:
        reading.sessions[folder.name] = metadata
    path = folder / EXAMPLES
    try:
        place = root.locate(path)
    except RefusedFileError as refused:
        faults.append(Fault(str(path), None, "(file)", str(refused)))
        return
    name = str(path)
    foreign: dict[Modality, int] = {}  # without a trainer here -> first line
    for line, value in json_lines(place, name, faults):
        try:
            if modality is not None and (other := parse_modality(value.get("modality", ""))) != modality:
                if other not in modality_names():
                    foreign.setdefault(other, line)
                continue
        except InvalidNameError:
            pass  # becomes a fault of the line below
        example = _parse_example(value, user, folder.name, name, line, faults)
        if example is None:
            continue
        file = None
        if example.media is not None:
            file = folder / example.media.path
        elif example.features is not None:
            file = folder / example.features.uri
        reading.records.append(Record(example, name, line, file))
    reading.warnings.extend(foreign_modality(name, line, other) for other, line in foreign.items())


def _parse_example(
    value: dict[str, Any], user: str, session: str, name: str, line: int, faults: list[Fault]
) -> Example | None:
    try:
        example = Example.model_validate(value)
    except ValidationError as error:
        faults.extend(faults_of(error, Example, name, line))
        return None
    wrong = []
    if example.user_id != user:
        wrong.append(Fault(name, line, "user_id", f"is {example.user_id!a}, but the folder belongs to {user!a}"))
    if example.session_id != session:
        wrong.append(Fault(name, line, "session_id", f"is {example.session_id!a}, but the folder is {session!a}"))
    if example.features is not None and (reason := _outside(example.features.uri)):
        wrong.append(Fault(name, line, "features.uri", reason))
    faults.extend(wrong)
    return None if wrong else example


def _outside(uri: str) -> str | None:
    if uri.startswith("/") or "\\" in uri or any(part in ("", ".", "..") for part in uri.split("/")):
        return "must be a path relative to the session folder, without '..'"
    return None


def _read_metadata(root: DataRoot, user: str, folder: Path, faults: list[Fault]) -> SessionMetadata | None:
    path = folder / SESSION
    name = str(path)
    try:
        value = parse_json(read_bounded(root.locate(path), _SESSION_LIMIT))
        if not isinstance(value, dict):
            raise ValueError("must hold one JSON object")
        metadata = SessionMetadata.model_validate({"user_id": user, "session_id": folder.name} | value)
    except RefusedFileError as refused:
        faults.append(Fault(name, None, "(file)", str(refused)))
    except ValidationError as error:
        faults.extend(faults_of(error, SessionMetadata, name, None))
    except ValueError as error:
        faults.append(Fault(name, None, "(file)", f"is not readable JSON: {error}"))
    else:
        if (metadata.user_id, metadata.session_id) == (user, folder.name):
            return metadata
        faults.append(Fault(name, None, "session_id", f"names {metadata.user_id!a}, session {metadata.session_id!a}"))
    return None
