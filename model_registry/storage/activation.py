"""Choosing which version serves, and comparing versions."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass

from pydantic import JsonValue

from model_registry.errors import ConflictError, NotFoundError, RegistryError
from model_registry.names import published_name
from model_registry.storage.durable import locked, read_file, storage_errors
from model_registry.storage.entry import FILE_LIMIT, Event, RegistryEntry, parse_json
from model_registry.storage.history import published_manifest, record, serving, settle, statuses
from model_registry.storage.layout import ModelSlot
from model_registry.storage.verification import read_version


@dataclass(frozen=True)
class Difference:
    """What changed from one version to another."""

    before: RegistryEntry
    after: RegistryEntry
    metrics: dict[str, tuple[float | None, float | None]]  # those of either version
    labels_gained: tuple[str, ...]
    labels_lost: tuple[str, ...]
    config: dict[str, tuple[JsonValue, JsonValue]]  # dotted keys whose values differ
    facts: dict[str, tuple[str, str]]  # verdict, examples, sessions, features, encoders, where they differ
    sessions: dict[str, tuple[int, int]]  # session -> examples of it, where they differ; nothing if a log does not say


def promote(pair: ModelSlot, version: int, reason: str = "") -> int | None:
    """Let a version serve and return the one that served. Promoting the one that serves changes nothing.

    Raises NotFoundError, and CorruptError if a file of it is not what was published.
    """
    with _changing(pair, "promote") as events:
        _published(pair, events, version)
        before = serving(events)
        if before != version:
            read_version(pair, version, published_manifest(events, version))
            record(pair, events, "promote", version, active=version, reason=reason)
    return before


def rollback(pair: ModelSlot, reason: str) -> tuple[int, int]:
    """Let the version serve that served before, and return (the one that served, the one that serves).

    Raises ConflictError if there is none, CorruptError if a file of it is not what was published.
    """
    with _changing(pair, "rollback") as events:
        before, target = serving(events), rollback_target(events)
        if before is None:
            raise ConflictError(f"{pair}: no version serves, so there is nothing to roll back; promote one")
        if target is None:
            raise ConflictError(f"{pair}: nothing served before v{before}; promote another version, or archive it")
        read_version(pair, target, published_manifest(events, target))
        record(pair, events, "rollback", target, active=target, reason=reason)
    return before, target


def archive(pair: ModelSlot, version: int, reason: str = "", *, withdraw: bool = False) -> None:
    """Mark a version as out of use. With `withdraw` also the one that serves, after which none does.

    Raises NotFoundError, and ConflictError for the version that serves unless `withdraw`.
    """
    with _changing(pair, "archive") as events:
        status = _published(pair, events, version)
        active = serving(events)
        if version == active and not withdraw:
            raise ConflictError(
                f"{pair} v{version} serves: roll back or promote another first, or withdraw it so that none serves"
            )
        if status != "archived" or version == active or version in reserves(events):
            record(pair, events, "archive", version, active=None if version == active else active, reason=reason)


def rollback_target(events: list[Event]) -> int | None:
    """Return the version that a rollback would bring back: what served before the present one, and is still there.

    Rolling back twice goes back two versions: a rollback takes its step off the stack of those that served.
    """
    served = reserves(events)
    return served[-1] if served else None


def reserves(events: list[Event]) -> list[int]:
    """Return the versions that served before the present one, oldest first, without archived and removed ones."""
    served: list[int] = []
    for event in events:
        if event.event == "rollback" and event.active in served:
            del served[served.index(event.active) + 1 :]
        elif event.active is not None and (not served or served[-1] != event.active):
            served = [version for version in served if version != event.active] + [event.active]
        if event.event in ("archive", "remove") and event.version in served:
            served.remove(event.version)
    return served[:-1] if served and served[-1] == serving(events) else served


def difference(
    before: RegistryEntry, after: RegistryEntry, learnt_before: Mapping[str, int], learnt_after: Mapping[str, int]
) -> Difference:
    """Compare two entries, and how many examples of each session the versions learnt from."""
    both = sorted({*learnt_before, *learnt_after}) if learnt_before and learnt_after else []
    counts = {name: (learnt_before.get(name, 0), learnt_after.get(name, 0)) for name in both}
    names = sorted(set(before.metrics) | set(after.metrics))
    old, new = _flat(before.config), _flat(after.config)
    facts = {name: (text(before), text(after)) for name, text in _FACTS.items()}
    return Difference(
        before=before,
        after=after,
        metrics={name: (before.metrics.get(name), after.metrics.get(name)) for name in names},
        labels_gained=tuple(label for label in after.labels if label not in before.labels),
        labels_lost=tuple(label for label in before.labels if label not in after.labels),
        config={
            key: (old.get(key), new.get(key)) for key in sorted(set(old) | set(new)) if old.get(key) != new.get(key)
        },
        facts={name: pair for name, pair in facts.items() if pair[0] != pair[1]},
        sessions={name: pair for name, pair in counts.items() if pair[0] != pair[1]},
    )


def learnt_from(pair: ModelSlot, version: int) -> dict[str, int]:
    """Return how many examples of each session a version was trained on; nothing where its log does not say."""
    name = published_name("training_log", pair.user, pair.modality, version)
    try:
        log = parse_json(read_file(pair.version_folder(version) / name, FILE_LIMIT), name, FILE_LIMIT)
        return {str(row["session_id"]): int(row["samples"]) for row in log["timeline"]}
    except (RegistryError, KeyError, TypeError, ValueError):
        return {}


_FACTS: dict[str, Callable[[RegistryEntry], str]] = {
    "verdict": lambda entry: entry.verdict or "none given",
    "examples": lambda entry: str(entry.example_count),
    "sessions": lambda entry: str(entry.session_count),
    "features": lambda entry: entry.feature_spec_id,
    "encoders": lambda entry: ", ".join(f"{ref.name} {ref.sha256[:12]}" for ref in entry.encoder_refs) or "none",
    "trainer": lambda entry: entry.trainer_name,
}


def _flat(value: Mapping[str, JsonValue], prefix: str = "") -> dict[str, JsonValue]:
    flat: dict[str, JsonValue] = {}
    for key, item in value.items():
        if isinstance(item, dict):
            flat |= _flat(item, f"{prefix}{key}.")
        else:
            flat[prefix + key] = item
    return flat


def _published(pair: ModelSlot, events: list[Event], version: int) -> str:
    status = statuses(events).get(version)
    if status is None:
        raise NotFoundError(f"{pair} v{version}: no such version")
    return status


@contextmanager
def _changing(pair: ModelSlot, doing: str) -> Iterator[list[Event]]:
    """Hold the pair's lock, with whatever a killed publisher left finished first."""
    if not pair.folder.is_dir():
        raise NotFoundError(f"{pair}: nothing published")
    with storage_errors(doing), locked(pair.folder):
        events, _ = settle(pair)
        yield events
