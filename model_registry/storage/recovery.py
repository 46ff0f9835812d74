"""Finding and mending what killed processes, full disks and careless hands leave behind."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from model_registry.errors import CorruptError, NotFoundError, RegistryError
from model_registry.storage.activation import reserves
from model_registry.storage.durable import locked, remove_empty, storage_errors
from model_registry.storage.entry import Event
from model_registry.storage.erasure import finish_erasures, sweep
from model_registry.storage.history import read_entry, record, reindex, serving, settle, statuses
from model_registry.storage.layout import ModelSlot, encoders_folder, pairs, users, users_folder
from model_registry.storage.uploads import sweep_uploads


@dataclass(frozen=True)
class Finding:
    """One thing that is not as it should be, and whether it was mended."""

    what: str
    mended: bool


def examine(root: Path, on_pair: Callable[[str], None] = lambda pair: None) -> list[Finding]:
    """Mend whatever can be mended without losing a published model, and return all that was found.

    Runs beside publishers and readers. Whether published files still are what they were is `verify`'s business.
    """
    findings: list[Finding] = []
    with storage_errors("doctor"):
        findings += [Finding(what, True) for what in finish_erasures(root)]
        findings += [Finding(what, True) for what in sweep(encoders_folder(root))]
        findings += [Finding(what, True) for what in sweep_uploads(root)]
        with locked(root):
            findings += [Finding(what, True) for what in sweep(root)]
        for pair in list(pairs(root)):
            on_pair(str(pair))
            try:
                findings += _examine_pair(pair)
            except NotFoundError:
                continue  # erased meanwhile
            except RegistryError as error:
                findings.append(Finding(f"{pair}: {error}", False))
        for user in list(users(root)):
            with suppress(NotFoundError):  # erased meanwhile
                findings += _examine_user(users_folder(root) / user)
        try:
            if reindex(root):
                findings.append(Finding("model_registry.jsonl: rebuilt; it had lost or damaged lines", True))
        except CorruptError as error:
            findings.append(Finding(f"model_registry.jsonl: cannot be compared: {error}", False))
    return findings


def _examine_user(folder: Path) -> Iterator[Finding]:
    with locked(folder):  # no erasure is under way
        for what in sweep(folder):
            yield Finding(what, True)
        note = folder / "erasure.json"
        if note.exists():
            note.unlink()
            yield Finding(f"{note}: removed the note of an erasure that never began", True)
    if remove_empty(folder):
        yield Finding(f"{folder}: removed an empty folder", True)


def _examine_pair(pair: ModelSlot) -> Iterator[Finding]:
    with locked(pair.folder):
        for what in sweep(pair.folder):
            yield Finding(what, True)
        events, done = settle(pair)
        for what in done:
            yield Finding(what, True)
        for version in pair.versions():
            if version not in statuses(events):
                shutil.rmtree(pair.version_folder(version))
                yield Finding(f"{pair} v{version}: finished its removal", True)
        for version in sorted(set(statuses(events)) - set(pair.versions()), reverse=True):
            events = _record_loss(pair, events, version)
            spare = serving(events)
            serves = "no version serves now" if spare is None else f"v{spare} serves"
            yield Finding(f"{pair} v{version}: its folder is missing; {serves}", True)
        for version in statuses(events):
            yield from _missing_encoders(pair, version)
    if remove_empty(pair.folder):
        yield Finding(f"{pair}: removed an empty folder", True)


def _record_loss(pair: ModelSlot, events: list[Event], version: int) -> list[Event]:
    """Record that a version's folder is gone; if it served, what served before does again."""
    active = serving(events)
    if active == version:
        present = set(pair.versions())
        active = next((spare for spare in reversed(reserves(events)) if spare in present), None)
    return record(pair, events, "remove", version, active=active, reason="doctor: the folder is missing")


def _missing_encoders(pair: ModelSlot, version: int) -> Iterator[Finding]:
    try:
        entry = read_entry(pair, version)
    except (NotFoundError, CorruptError) as error:
        yield Finding(f"{pair} v{version}: {error}", False)
        return
    for ref in entry.encoder_refs:
        if not (encoders_folder(pair.root) / ref.sha256).is_dir():
            yield Finding(
                f"{pair} v{version}: encoder {ref.name} ({ref.sha256}) is missing; publish a bundle that brings it",
                False,
            )
