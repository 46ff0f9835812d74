"""Labels as sources write them: cleaned, renamed, and judged for what is probably no label."""

from __future__ import annotations

import re
import unicodedata
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from model_registry.messages import list_names, printable
from shared.data.files import parse_json
from shared.data.formats.numbers import is_number
from shared.data.formats.raw import Findings, RawSample
from shared.data.formats.text_files import read_text
from shared.errors import ConfigError, Fault

_LIMIT = 1024**2
_INVISIBLE: dict[int, str | None] = dict.fromkeys(map(ord, "\u200b\u2060\ufeff\u00ad\u200e\u200f"))  # without width
_INVISIBLE[ord("\u00a0")] = " "  # a blank that does not break
_QUOTES = frozenset("'\"`´“”„‟‘’‚‛«»‹›")
_JOINING = (";", "|", ",", "+", "&")
_FEWEST_SINGLE = 3  # labels with one sample each that look like an id in the label's place


def label_text(value: Any) -> str | None:
    """Return a label of JSON or YAML as text: `true`, `1`, a name; None where there is none."""
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, float) and value.is_integer():
        return str(int(value))
    if isinstance(value, int | float):
        return str(value)
    if isinstance(value, list) and len(value) == 1:
        return label_text(value[0])
    return value if isinstance(value, str) and value.strip() else None


def clean_labels(findings: Findings) -> None:
    """Remove blanks around labels and characters without width, except those that join letters or emoji.

    Letters become composed ones (NFC): macOS writes the names of folders decomposed. What that changes is noted where
    it cannot be seen, or makes one label of several.
    """
    spellings: dict[str, set[str]] = defaultdict(set)
    for index, sample in enumerate(findings.samples):
        label = unicodedata.normalize("NFC", _visible(sample.label)).strip()
        spellings[label].add(sample.label)
        if label != sample.label:
            findings.samples[index] = replace(sample, label=label)
    hidden = [label for label, written in spellings.items() if any(_visible(name) != name for name in written)]
    blanks = [label for label, written in spellings.items() if len({_visible(name) for name in written}) > 1]
    forms = [label for label in blanks if len({_visible(name).strip() for name in spellings[label]}) > 1]
    for what, labels in (
        ("invisible characters were removed from the labels", hidden),
        ("made one, with and without blanks around it:", [label for label in blanks if label not in forms]),
        ("made one, whose letters were written in two ways (composed and decomposed):", forms),
    ):
        if labels:
            findings.notes.append(f"{what} {list_names(sorted(labels), 5)}")


def _visible(label: str) -> str:
    return label.translate(_INVISIBLE)


def rename(findings: Findings, names: Mapping[str, str]) -> None:
    """Give labels other names. Raises ConfigError for a label that no sample has."""
    missing = [old for old in names if old not in {sample.label for sample in findings.samples}]
    if missing:
        known = list_names(sorted({sample.label for sample in findings.samples}), 12)
        raise ConfigError(f"--rename: there is no label {list_names(missing, 5)}; there are {known}")
    findings.samples = [replace(sample, label=names.get(sample.label, sample.label)) for sample in findings.samples]


def read_labels(path: Path) -> dict[str, str]:
    """Return what each label in the data is to be called, from a file of names.

    Understood are a name a line (the label is the line's number from 0), a JSON list of names, `{label: name}`, and
    `{name: [labels]}`. Raises ConfigError for anything else.
    """
    try:
        content = read_text(path, _LIMIT).text
        if path.suffix.lower() != ".json":
            return {str(index): name.strip() for index, name in enumerate(content.splitlines()) if name.strip()}
        value = parse_json(content.encode())
    except ValueError as error:
        raise ConfigError(f"--labels {path}: cannot be read: {error}") from None
    if isinstance(value, list) and all(isinstance(name, str) for name in value):
        return {str(index): name for index, name in enumerate(value)}
    if isinstance(value, dict) and all(isinstance(name, str) for name in value.values()):
        return dict(value)
    if isinstance(value, dict) and all(isinstance(labels, list) for labels in value.values()):
        return {str(label): name for name, labels in value.items() for label in labels}
    raise ConfigError(f"--labels {path}: must be a list of names, {{label: name}} or {{name: [labels]}}")


def name_labels(findings: Findings, names: Mapping[str, str], source: Path) -> None:
    """Rename all labels by a file of names, with a fault for each label that has no name in it."""
    renamed = []
    missing: dict[str, RawSample] = {}
    for sample in findings.samples:
        if sample.label in names:
            renamed.append(replace(sample, label=names[sample.label]))
        else:
            missing.setdefault(sample.label, sample)
    findings.samples = renamed
    findings.faults += [
        Fault(sample.path, sample.line, "label", f"{printable(label)} has no name in {source}")
        for label, sample in missing.items()
    ]


def doubt_labels(findings: Findings, source: Path) -> None:
    """Add a doubt for labels that differ in case or blanks only, and for what is an id rather than a label."""
    counts = Counter(sample.label for sample in findings.samples)
    spellings: dict[str, set[str]] = defaultdict(set)
    for sample in findings.samples:
        spellings["".join(sample.label.casefold().split())].add(sample.label)
    for names in spellings.values():
        if len(names) > 1:
            written = " and ".join(f"'{name}'" for name in sorted(names))
            reason = f"{written} differ in case or blanks only; make them one with --rename OLD=NEW"
            findings.doubts.append(Fault(str(source), None, "label", reason))
    for what, labels in (
        ("are enclosed in quotation marks; read the table again without them, or rename them", _quoted(counts)),
        ("differ in punctuation only; make them one with --rename OLD=NEW", _differing_in_punctuation(counts)),
        ("look like several labels of one sample, but a sample has one", _joined(counts)),
    ):
        if labels:
            findings.doubts.append(Fault(str(source), None, "label", f"the labels {list_names(labels, 4)} {what}"))
    if len(counts) >= _FEWEST_SINGLE and max(counts.values()) == 1:
        some = list_names(sorted(counts), 4)
        reason = f"each of the {len(counts)} labels has one sample only ({some}): are these ids or texts, not labels?"
        findings.doubts.append(Fault(str(source), None, "label", reason))


def _quoted(labels: Iterable[str]) -> list[str]:
    return sorted(label for label in labels if len(label) > 2 and label[0] in _QUOTES and label[-1] in _QUOTES)


def _differing_in_punctuation(labels: Iterable[str]) -> list[str]:
    """Return labels that are others with other punctuation: `meal` and `meal.`; numbers have their signs."""
    same: dict[str, list[str]] = defaultdict(list)
    for label in sorted(labels):
        words = " ".join(re.findall(r"[^\W_]+", label.casefold()))
        if words and not is_number(label):
            same[words].append(label)
    return [label for group in same.values() if len({"".join(name.casefold().split()) for name in group}) > 1
            for label in group]  # fmt: skip


def _joined(labels: Iterable[str]) -> list[str]:
    """Return labels that hold several: `meal;garden` where others hold one of them, `meal, garden` where all are."""
    for mark in _JOINING:
        parts = {label: {part.strip() for part in label.split(mark)} for label in labels}
        uses = Counter(part for of_label in parts.values() for part in of_label if part)
        suffices = any if mark in ";|" else all  # a comma also stands within a label
        joined = [
            label
            for label, of_label in parts.items()
            if len(of_label) > 1 and suffices(part in parts or (mark in ";|" and uses[part] > 1) for part in of_label)
        ]
        if joined:
            return sorted(joined)
    return []
