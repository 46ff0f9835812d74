"""Which samples are the same: those of the same content, wherever it lies and whatever it is called."""

from __future__ import annotations

import hashlib
import json
from collections import defaultdict
from collections.abc import Callable, Hashable, Iterable, Sequence
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
    return region_of(digest, example.onset, example.offset, None if example.box is None else example.box.model_dump())


def region_of(digest: str, onset: float | None, offset: float | None, box: dict[str, float] | None = None) -> str:
    """Return what identifies a region of the content with this hash; the hash itself where it is all of it."""
    region = [onset, offset, box]
    return digest if region == [None, None, None] else f"{digest} {json.dumps(region)}"


def contradictions(records: Sequence[Record]) -> tuple[list[Fault], list[Fault]]:
    """Return faults for files that stand under two labels, and warnings for texts that do.

    The same words can mean two things; the same recording cannot be two labels.
    """
    faults = []
    files = [record for record in records if record.example.media is not None]
    for record, first in repetitions(files, _identity):
        if record.example.label == first.example.label:
            continue
        reason = (
            f"the same content is '{first.example.label}' at {first.path}:{first.line} and '{record.example.label}' "
            "here; remove one of the two"
        )
        faults.append(record.fault("label", reason))
    return faults, repeated_under_two_labels(
        [record.example for record in records if record.example.transcript is not None], _place(records)
    )


def repetitions(files: Iterable[_T], identity: Callable[[_T], Hashable]) -> list[tuple[_T, _T]]:
    """Return (a file, the first one of its content) for each that is not the first."""
    first: dict[Hashable, _T] = {}
    return [(file, known) for file in files if (known := first.setdefault(identity(file), file)) is not file]


def _identity(record: Record) -> Hashable:
    return record.example.user_id, record.example.modality, content_of(record.example)


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
