"""Choosing the active version: promote, roll back, archive."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from model_registry.errors import ConflictError, NotFoundError
from model_registry.storage.durable import locked, storage_errors
from model_registry.storage.entry import Event
from model_registry.storage.history import active_version, published_manifest, record, recover, statuses
from model_registry.storage.layout import ModelSlot
from model_registry.storage.signatures import SigningKey, sign_version, unsigned_decision
from model_registry.storage.verification import read_version


def promote(slot: ModelSlot, version: int, reason: str = "", key: SigningKey | None = None) -> int | None:
    """Make a version the active one and return the one that was. Promoting the active version changes nothing.

    With `key` it is signed that the version is active, also where it was active before.

    Raises NotFoundError, and CorruptError if a file of it is not what was published.
    """
    with _changing(slot, "promote") as events:
        _published(slot, events, version)
        before = active_version(events)
        if before != version or unsigned_decision(events, version, key):
            read_version(slot, version, published_manifest(events, version))
            record(slot, events, "promote", version, active=version, reason=reason, key=key)
    return before


def sign(slot: ModelSlot, version: int, key: SigningKey) -> None:
    """Sign a version that was published without a signature; if it is the active one, also that it is.

    Raises NotFoundError, and CorruptError if a file of it is not what was published.
    """
    with _changing(slot, "sign") as events:
        _published(slot, events, version)
        manifest_sha256 = published_manifest(events, version)
        read_version(slot, version, manifest_sha256)
        sign_version(slot, version, manifest_sha256, key)
        if unsigned_decision(events, version, key):
            record(slot, events, "promote", version, active=version, reason="signed", key=key)


def rollback(slot: ModelSlot, reason: str, key: SigningKey | None = None) -> tuple[int, int]:
    """Return to the version that was active before; return the numbers of both, (before, now).

    Raises ConflictError if there is none, CorruptError if a file of it is not what was published.
    """
    with _changing(slot, "rollback") as events:
        before, target = active_version(events), rollback_target(events)
        if before is None:
            raise ConflictError(f"{slot}: no version is active, so there is nothing to roll back; promote one")
        if target is None:
            raise ConflictError(
                f"{slot}: no version was active before v{before}; promote another version, or archive it"
            )
        read_version(slot, target, published_manifest(events, target))
        record(slot, events, "rollback", target, active=target, reason=reason, key=key)
    return before, target


def archive(
    slot: ModelSlot, version: int, reason: str = "", *, withdraw: bool = False, key: SigningKey | None = None
) -> None:
    """Take a version out of use. With `withdraw` also the active one, after which none is active.

    Raises NotFoundError, and ConflictError for the active version unless `withdraw`.
    """
    with _changing(slot, "archive") as events:
        status = _published(slot, events, version)
        active = active_version(events)
        if version == active and not withdraw:
            raise ConflictError(
                f"{slot} v{version} is active: roll back, promote another, or withdraw it so that none is active"
            )
        if status != "archived" or version == active or version in previously_active(events):
            now = None if version == active else active
            record(slot, events, "archive", version, active=now, reason=reason, key=key)


def rollback_target(events: list[Event]) -> int | None:
    """Return the version that a rollback returns to: the last one that was active before and is still usable.

    Rolling back twice goes back two versions: each rollback takes one version off the stack.
    """
    stack = previously_active(events)
    return stack[-1] if stack else None


def previously_active(events: list[Event]) -> list[int]:
    """Return the versions that were active before the present one, oldest first, without archived and removed ones."""
    stack: list[int] = []
    for event in events:
        if event.event == "rollback" and event.active in stack:
            del stack[stack.index(event.active) + 1 :]
        elif event.active is not None and (not stack or stack[-1] != event.active):
            stack = [version for version in stack if version != event.active] + [event.active]
        if event.event in ("archive", "remove") and event.version in stack:
            stack.remove(event.version)
    return stack[:-1] if stack and stack[-1] == active_version(events) else stack


def _published(slot: ModelSlot, events: list[Event], version: int) -> str:
    status = statuses(events).get(version)
    if status is None:
        raise NotFoundError(f"{slot} v{version}: no such version")
    return status


@contextmanager
def _changing(slot: ModelSlot, action: str) -> Iterator[list[Event]]:
    """Hold the slot's lock, after completing whatever a killed process left."""
    if not slot.folder.is_dir():
        raise NotFoundError(f"{slot}: nothing published")
    with storage_errors(action), locked(slot.folder):
        events, _ = recover(slot)
        yield events
