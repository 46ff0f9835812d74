"""Which samples are the same: those of the same content, wherever it lies and whatever it is called."""

from __future__ import annotations

import hashlib
import json
from collections import defaultdict
from collections.abc import Iterable, Sequence
from typing import TypeVar

from shared.data.records import Record
from shared.errors import Fault
from shared.schema_utils import Example

_MOST_NAMED = 3  # texts of two labels that a warning names

_T = TypeVar("_T")


def text_sha256(text: str) -> str:
    """Return the SHA-256 of a text."""
    return hashlib.sha256(text.encode()).hexdigest()


def content_of(example: Example) -> str:
    """Return what identifies an example's content: the hash of its bytes or text, and the region of them that it is."""
    if example.media is not None:
        digest = example.media.sha256
    elif example.features is not None:
        digest = example.features.sha256
    else:
        digest = text_sha256(example.transcript or "")
    region = [example.onset, example.offset, None if example.box is None else example.box.model_dump()]
    return digest if region == [None, None, None] else f"{digest} {json.dumps(region)}"


def contradictions(records: Sequence[Record]) -> tuple[list[Fault], list[Fault]]:
    """Return faults for files that stand under two labels, and warnings for texts that do.

    The same words can mean two things; the same recording cannot be two labels.
    """
    named = [(record.example, f"{record.path}:{record.line}", record) for record in records]
    faults = []
    for example, first, second, record in contradicting(named):
        reason = f"the same content is '{first.label}' at {second} and '{example.label}' here; remove one of the two"
        faults.append(record.fault("label", reason))
    return faults, repeated_under_two_labels(
        [record.example for record in records if record.example.transcript is not None], _place(records)
    )


def contradicting(examples: Iterable[tuple[Example, str, _T]]) -> list[tuple[Example, Example, str, _T]]:
    """Return (example, the first one of its content, that one's place, what came with it) of files of two labels."""
    first: dict[tuple[str, str, str], tuple[Example, str]] = {}
    found = []
    for example, place, origin in examples:
        if example.media is None:
            continue
        known, known_place = first.setdefault(
            (example.user_id, example.modality, content_of(example)), (example, place)
        )
        if known.label != example.label:
            found.append((example, known, known_place, origin))
    return found


def repeated_under_two_labels(examples: Iterable[Example], place: str) -> list[Fault]:
    """Return at most one warning for texts, and one for numbers, that stand under several labels."""
    labels: dict[tuple[str, str], set[str]] = defaultdict(set)
    texts: dict[tuple[str, str], str] = {}
    for example in examples:
        if example.media is None:
            key = ("text" if example.features is None else "features", content_of(example))
            labels[key].add(example.label)
            texts[key] = example.transcript or ""
    warnings = []
    for kind in ("text", "features"):
        several = [key for key, names in labels.items() if key[0] == kind and len(names) > 1]
        if several:
            named = "; ".join(
                f"{texts[key][:40]!r}: {' and '.join(sorted(labels[key]))}" for key in several[:_MOST_NAMED]
            )
            what = "the same text stands" if kind == "text" else "the same numbers stand"
            examples_named = f", for example {named}" if kind == "text" else ""
            warnings.append(
                Fault(place, None, "label", f"{what} under several labels in {len(several)} cases{examples_named}")
            )
    return warnings


def _place(records: Sequence[Record]) -> str:
    return records[0].path if records else ""
