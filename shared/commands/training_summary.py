"""What a trainer prints on a terminal about a finished run, or a dry run, instead of JSON: a few lines."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

from model_registry.messages import plain

_UNSEEN = {"session": "sessions", "person": "people"}


def training_summary(entry: Mapping[str, Any]) -> str:
    """Return verdict, accuracy, rejection, first advice and the path of the model card, from a successful run's log."""
    return _lines(f"{entry['user_id']}'s {entry['modality']} model: {entry['verdict']}{_reason(entry)}", _rows(entry))


def dry_run_summary(described: Mapping[str, Any]) -> str:
    """Return what would be trained, estimated time and memory, and the samples of each label by session."""
    title = f"{described['user_id']}'s {described['modality']} model: dry run, nothing was trained or written"
    return _lines(title, _dry_run_rows(described))


def _lines(title: str, rows: Iterable[tuple[str, str]]) -> str:
    rows = list(rows)
    width = max(len(name) for name, _ in rows)
    return "\n".join(plain(line) for line in [title, *(f"  {name:<{width}}  {text}" for name, text in rows)])


def _dry_run_rows(described: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    samples = described["samples"]
    sessions = sorted({session for counts in samples.values() for session in counts})
    dropped = f"; {len(described['dropped'])} left out" if described["dropped"] else ""
    yield (
        "samples",
        f"{described['sample_count']} of {len(samples)} labels in {len(sessions)} sessions{dropped}",
    )
    memory = described["estimated_memory_bytes"] / 1e6
    yield "estimate", f"{described['estimated_seconds']:.0f} s of a processor core, {memory:.0f} MB; less where cached"
    for one in described["candidates"]:
        yield "compares", f"{one['name']} ({one['seconds']:.1f} s)"
    yield from _left_out_rows(described)
    for label, counts in samples.items():
        of_sessions = ", ".join(f"{session} {counts[session]}" for session in sessions if session in counts)
        yield f"label {label}", f"{sum(counts.values())}: {of_sessions}"


def _left_out_rows(entry: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    for one in entry["left_out_candidates"]:
        yield "leaves out", f"{one['name']} ({one['seconds']:.0f} s): beyond budget_seconds"


def _rows(entry: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    from shared.packaging.bundle import FILE_NAMES  # slow to import, and --help needs none of it

    metrics, advice = entry["training_metrics"], entry["metrics"]["advice"]
    yield "accuracy", _accuracy(metrics, entry["metrics"]["validation"], _UNSEEN[entry["metrics"]["validated_by"]])
    rejection = f"{metrics['false_rejection_rate']:.0%} of known labels (false rejection)"
    if "false_acceptance_rate" in metrics:
        rejection += f"; accepts {metrics['false_acceptance_rate']:.0%} of unknown ones (false acceptance)"
    yield "rejects", rejection
    yield from _left_out_rows(entry)
    if advice:
        yield "next", advice[0] if len(advice) == 1 else f"{advice[0]} ({len(advice) - 1} more in the model card)"
    yield "model card", str(Path(entry["bundle"]) / FILE_NAMES["model_card"])
    if entry.get("model_version"):
        promotion = entry["promotion"]
        status = "active" if promotion["promote"] else "a candidate"
        yield "published", f"{entry['model_version']}, {status}: {promotion['reason']}"


def _reason(entry: Mapping[str, Any]) -> str:
    reasons = entry["metrics"]["verdict_reasons"]
    return f" ({reasons[0]}{'; …' if len(reasons) > 1 else ''})" if reasons else ""


def _accuracy(metrics: Mapping[str, float], scheme: str, unseen: str) -> str:
    accuracy = f"{metrics['accuracy']:.0%}"
    if scheme == "within-session":
        return f"{accuracy}; nothing was tested on other {unseen}, so there is no interval"
    interval = f"{metrics['accuracy_low']:.0%} to {metrics['accuracy_high']:.0%}"
    return f"{accuracy} on {unseen} that it was not trained on (95% interval {interval})"
