"""Comparing two versions of a slot: metrics, labels, settings, and the sessions that each was trained on."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Protocol

from pydantic import JsonValue

from model_registry.errors import RegistryError
from model_registry.storage.entry import FILE_LIMIT, RegistryEntry, parse_json
from model_registry.storage.history import VersionRecord


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
    sessions: dict[str, tuple[int, int]]  # session -> its examples, where they differ; empty if a log does not say


class _Versions(Protocol):
    def show(self, user: str, modality: str, version: str | int) -> VersionRecord: ...
    def training_log(self, user: str, modality: str, version: str | int | None = None) -> bytes: ...


def compare_versions(registry: _Versions, user: str, modality: str, before: str | int, after: str | int) -> Difference:
    """Compare two versions in any registry. Raises NotFoundError."""
    old, new = (registry.show(user, modality, version).entry for version in (before, after))
    examples = [_examples_by_session(registry, user, modality, version) for version in (before, after)]
    return difference(old, new, *examples)


def difference(
    before: RegistryEntry, after: RegistryEntry, examples_before: Mapping[str, int], examples_after: Mapping[str, int]
) -> Difference:
    """Compare two entries, and the number of examples of each session that the versions were trained on."""
    both = sorted({*examples_before, *examples_after}) if examples_before and examples_after else []
    counts = {name: (examples_before.get(name, 0), examples_after.get(name, 0)) for name in both}
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
        facts={name: values for name, values in facts.items() if values[0] != values[1]},
        sessions={name: values for name, values in counts.items() if values[0] != values[1]},
    )


def _examples_by_session(registry: _Versions, user: str, modality: str, version: str | int) -> dict[str, int]:
    """Return how many examples of each session a version was trained on; nothing where its log does not say."""
    try:
        log = parse_json(registry.training_log(user, modality, version), "training log", FILE_LIMIT)
        return {str(row["session_id"]): int(row["samples"]) for row in log["timeline"]}
    except (RegistryError, KeyError, TypeError, ValueError):
        return {}


def logged_predictions(log: Mapping[str, Any]) -> dict[str, tuple[str, str]]:
    """Return record id -> (label, held-out prediction) of a training log; also of an old one, which said `answers`."""
    metrics = log.get("metrics")
    rows = metrics.get("predictions", metrics.get("answers")) if isinstance(metrics, Mapping) else None
    return {record: (label, predicted) for record, label, predicted in rows or ()}


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
