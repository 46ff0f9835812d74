"""Whose data were erased, so that nothing of them comes back by accident: the file `tombstones.jsonl`.

A registry has one, and a data root that something was erased from. It names nobody: a line holds a salted hash of the
user id, made slow to guess. Whoever publishes, uploads or imports asks `refuse_erased`; `readmit` allows it again.
"""

from __future__ import annotations

import hashlib
import os
import re
from collections.abc import Iterable
from functools import lru_cache
from pathlib import Path

from model_registry.errors import ConflictError, CorruptError, DocumentError, ErasedError, InvalidNameError
from model_registry.names import parse_reason
from model_registry.storage.chain import append_chained, read_chained
from model_registry.storage.durable import ensure_folder, locked
from model_registry.storage.entry import Tombstone
from model_registry.storage.layout import tombstones
from model_registry.timestamps import utc_now


def read_tombstones(folder: Path) -> list[Tombstone]:
    """Return every erasure and readmission recorded in a folder. Raises CorruptError naming the line."""
    path = tombstones(folder)
    try:
        return [Tombstone.from_json(line, f"{path}:{number}") for number, line in enumerate(read_chained(path), 1)]
    except DocumentError as error:
        raise CorruptError(str(error)) from None


def find_tombstone(folder: Path, user: str) -> Tombstone | None:
    """Return the tombstone of a user who was erased and not readmitted since. Raises CorruptError."""
    last = None
    for tombstone in read_tombstones(folder):
        if tombstone.salt is not None and tombstone.person == _person(tombstone.salt, user):
            last = tombstone
    return None if last is None or last.readmitted else last


def refuse_erased(folder: Path, users: Iterable[str]) -> None:
    """Raise ErasedError where one of the users was erased and not readmitted since."""
    for user in dict.fromkeys(users):
        tombstone = find_tombstone(folder, user)
        if tombstone is not None:
            raise ErasedError(
                f"{user}: was erased on {tombstone.time[:10]}, and nothing of them may come back; if they agree again: "
                f"model-trainer readmit {user}"
            )


def add_tombstone(folder: Path, user: str, reason: str) -> Tombstone:
    """Record that a user is erased, unless that is recorded already; return the tombstone."""
    check_reason(user, reason)
    ensure_folder(folder)
    with locked(folder):
        known = find_tombstone(folder, user)
        return known if known is not None else _append(folder, user, reason, readmitted=False)


def add_readmission(folder: Path, user: str, reason: str) -> bool:
    """Record that an erased user's data are welcome again; return False where nobody of that id was erased."""
    check_reason(user, reason)
    if not tombstones(folder).exists():
        return False
    with locked(folder):
        if find_tombstone(folder, user) is None:
            return False
        _append(folder, user, reason, readmitted=True)
    return True


def check_reason(user: str, reason: str) -> None:
    """Raise ConflictError if a reason names the user as a word of its own, InvalidNameError if it is no text."""
    if not parse_reason(reason).strip():
        raise InvalidNameError("reason: is empty; say why")
    if mentions(user, reason):
        raise ConflictError("reason: is kept, so it must not name the user; say why without saying who")


def mentions(user: str, text: str) -> bool:
    """Return whether a user id is part of a text as a word of its own, in capitals or not."""
    return re.search(rf"(?<![A-Za-z0-9]){re.escape(user)}(?![A-Za-z0-9])", text, re.IGNORECASE) is not None


def _append(folder: Path, user: str, reason: str, *, readmitted: bool) -> Tombstone:
    """Append a line. The caller holds the folder's lock."""
    salt = next((line.salt for line in read_tombstones(folder) if line.salt), None) or os.urandom(16).hex()
    tombstone = Tombstone(
        id=os.urandom(8).hex(),
        time=utc_now("microseconds"),
        reason=reason,
        salt=salt,
        person=_person(salt, user),
        readmitted=readmitted,
    )
    append_chained(tombstones(folder), tombstone.to_line())
    return tombstone


@lru_cache(maxsize=1000)
def _person(salt: str, user: str) -> str:
    """Return the salted hash of a user id; one salt a file, so that a publication computes one hash."""
    return hashlib.scrypt(user.encode(), salt=bytes.fromhex(salt), n=2**14, r=8, p=1, dklen=32).hex()
