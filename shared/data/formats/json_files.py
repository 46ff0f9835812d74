"""JSON and JSON lines of texts, numbers or file names."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

from model_registry.messages import list_names
from shared.data.files import RefusedFileError, json_lines, parse_json
from shared.data.formats import names
from shared.data.formats.json_shapes import KEEP_KEYS, SHAPES
from shared.data.formats.labels import label_text
from shared.data.formats.listed_files import ListedFiles
from shared.data.formats.numbers import frames
from shared.data.formats.raw import Content, Findings, RawSample, ReadOptions, RowFaults
from shared.data.formats.text_files import read_text
from shared.errors import ConfigError, Fault

_COCO = {"images", "annotations", "categories"}
_NO_LABEL = "has no label; name its key with --label-column, or give all of them one with --label"


def read_json(path: Path, options: ReadOptions) -> Findings:
    """Read texts, vectors or file names from JSON or JSON lines.

    Understood are the formats of `json_shapes`, a list of objects, a list of `[text, label]` pairs,
    `{label: [texts, vectors or objects]}`, and `{split: [objects or pairs]}`, of which `options.splits` (default:
    `train`) are read. Raises ConfigError where there are several splits and none is chosen.
    """
    findings = Findings()
    reader = _ItemReader(path, options, findings)
    if path.suffix.lower() == ".jsonl":
        for line, value in json_lines(path, str(path), findings.faults):
            reader.take(value, None, str(line), line)
    else:
        try:
            text = read_text(path)
            value = _parsed(text.text)
        except RefusedFileError as refused:
            findings.faults.append(Fault(str(path), None, "(file)", str(refused)))
            return findings
        except ValueError as error:
            findings.faults.append(Fault(str(path), None, "(file)", f"is not valid JSON: {error}"))
            return findings
        findings.notes += text.notes
        if isinstance(value, dict) and value.keys() >= _COCO:
            reason = "is COCO, whose boxes are not read; sort the pictures into folders, one for each label"
            findings.faults.append(Fault(str(path), None, "(file)", reason))
            return findings
        for label, prefix, items in _groups(value, options.splits, path, findings):
            for index, item in enumerate(items):
                reader.take(item, label, f"{prefix}{index}", None)
    findings.faults += reader.faults.faults()
    if not any(f"read as: {name}" in findings.notes for name in SHAPES.keys() - KEEP_KEYS):
        reader.note_keys()
    return findings


def _parsed(text: str) -> Any:
    """Return the JSON value in a text, the list of its objects where each line is one. Raises ValueError."""
    if not text.strip():
        raise ValueError("the file is empty")
    try:
        return parse_json(text.encode())
    except ValueError:
        lines = [line for line in text.splitlines() if line.strip()]
        if len(lines) < 2 or not all(line.lstrip().startswith("{") and line.rstrip().endswith("}") for line in lines):
            raise
        return [parse_json(line.encode()) for line in lines]


class _ItemReader:
    """Turns items of one file into samples."""

    def __init__(self, path: Path, options: ReadOptions, findings: Findings) -> None:
        self.path, self.options, self.findings = path, options, findings
        self.faults = RowFaults(str(path))
        self._files: ListedFiles | None = None
        self._roles: dict[str, set[str]] = {}
        self._keys: dict[str, None] = {}  # in their order

    def take(self, item: Any, label: str | None, key: str, line: int | None) -> None:
        """Add the sample of an item, whose label is `label` where it names none."""
        columns = self.options.columns
        groups: dict[str, Any] = {}
        further: dict[str, Any] = {}
        content: Any = item
        given: Any = label
        if isinstance(item, dict):
            usual = {"user": names.USERS, "session": names.SESSIONS, "take": names.TAKES}
            chosen = {"user": columns.user, "session": columns.session, "take": None}
            for group, known in usual.items():
                value = self._value(item, group, chosen[group], known)
                if isinstance(value, str | int) and not isinstance(value, bool) and str(value).strip():
                    groups[group] = str(value).strip()
            for name in ("onset", "offset", "confidence", "language"):
                if item.get(name) is not None:
                    further[name] = item[name]
            given = self._value(item, "label", columns.label, names.LABELS)
            given = label if given is None else given
            content, kind = self._content(item)
            self._keys |= dict.fromkeys(item)
            if kind == "path" and isinstance(content, str):
                self._take_file(content, given, groups, further, line)
                return
        elif is_pair(item) and label is None:
            content, given = item
        text = label_text(given) or self.options.label
        if text is None:
            reason = "has no label (null or missing)"
            if given is None and isinstance(item, dict) and any(key in item for key in ("label", columns.label)):
                self.findings.skipped.append((f"{self.path.name}:{key}", reason))
            else:
                several = given is not None and isinstance(given, list) and len(given) > 1
                what = "has several labels; a sample has one" if several else _NO_LABEL
                self.faults.add(line, "label" if line else key, what)
            return
        try:
            sample_content = self._checked(content)
        except ValueError as error:
            self.faults.add(line, "(item)" if line else key, str(error))
            return
        self.findings.samples.append(RawSample(str(self.path), line, text, sample_content, **groups, **further))

    def _content(self, item: dict[str, Any]) -> tuple[Any, str]:
        """Return an object's text, file name or numbers, whichever is wanted, and which of these it is."""
        columns = self.options.columns
        if columns.path is not None:
            return self._value(item, "file", columns.path, ()), "path"
        if columns.text is not None:
            return self._value(item, "text", columns.text, ()), "text"
        label = columns.label or names.first_of(names.LABELS, item)
        others = {key: value for key, value in item.items() if key != label}
        if self.options.wants_text and (text := self._value(others, "text", None, names.TEXTS)) is not None:
            return text, "text"
        vector = _key(others, None, names.VECTORS)
        if vector is not None and not isinstance(others[vector], str):
            return self._value(others, "numbers", vector, ()), "numbers"
        if not self.options.wants_text and (file := self._value(others, "file", None, names.PATHS)) is not None:
            return file, "path"
        return self._value(others, "text", None, names.TEXTS), "text"

    def _value(self, item: dict[str, Any], role: str, chosen: str | None, usual: Sequence[str]) -> Any:
        """Return the value of the key that was chosen or is usual for a role, and remember which one it was."""
        key = _key(item, chosen, usual)
        if key is None or item.get(key) is None:
            return None
        self._roles.setdefault(role, set()).add(key)
        return item[key]

    def note_keys(self) -> None:
        """Note which keys became what, and which were not used."""
        parts = [
            f"{role} from {list_names([repr(key) for key in sorted(keys)], 3)}" for role, keys in self._roles.items()
        ]
        used = {"onset", "offset", "confidence", "language"}.union(*self._roles.values())
        if unused := [key for key in self._keys if key not in used]:
            parts.append(f"not used: {list_names(unused, 8)}")
        if parts:
            self.findings.notes.append("keys: " + ", ".join(parts))

    def _checked(self, content: Any) -> Content:
        if isinstance(content, list | dict):
            return frames(content, self.options)
        if not isinstance(content, str):
            raise ValueError("has no text or numbers; name their key with --text-column")
        if not content.strip():
            raise ValueError("the text is empty")
        return content

    def _take_file(
        self, written: str, label: Any, groups: dict[str, Any], further: dict[str, Any], line: int | None
    ) -> None:
        if self._files is None:
            self._files = ListedFiles.near(self.path, self.options)
        found, text = self._files.find(written), label_text(label) or self.options.label
        if found is None:
            self.findings.skipped.append((written, "is named here, but there is no such file"))
        elif text is None:
            self.findings.skipped.append((written, "has no label (null or missing)"))
        else:
            self.findings.samples.append(RawSample(str(self.path), line, text, found, **groups, **further))


def _key(item: dict[str, Any], chosen: str | None, usual: Sequence[str]) -> str | None:
    """Return the key that was chosen, or else the first usual one that has a value."""
    return chosen or names.first_of(usual, (key for key, value in item.items() if value is not None))


def is_pair(item: Any) -> bool:
    """Return whether an item is `[text or numbers, label]`."""
    return isinstance(item, list) and len(item) == 2 and isinstance(item[1], str)


def _groups(
    value: Any, splits: Sequence[str], path: Path, findings: Findings
) -> Iterator[tuple[str | None, str, Iterable[Any]]]:
    """Yield (label, prefix of their keys, items) for each list of samples in a JSON value."""
    for name, shape in SHAPES.items():
        if (items := shape(value)) is not None:
            findings.notes.append(f"read as: {name}")
            yield None, "", items
            return
    if isinstance(value, list):
        yield None, "", value
        return
    if not isinstance(value, dict) or not all(isinstance(items, list) for items in value.values()):
        raise ConfigError(f"{path}: must be a list of samples, {{split: [samples]}} or {{label: [texts]}}")
    first = next((items[0] for items in value.values() if items), None)
    labelled = isinstance(first, dict) and names.first_of(names.LABELS, first) is not None
    if not (labelled or is_pair(first)):
        for label, items in value.items():
            yield label, f"{label}.", items
        findings.notes.append("read as: a list for each label")
        findings.skipped += [(label, "is a label without any sample") for label, items in value.items() if not items]
        return
    chosen = list(splits) or (list(value) if len(value) == 1 else [name for name in value if name == "train"])
    unknown = [name for name in chosen if name not in value]
    if unknown or not chosen:
        raise ConfigError(f"{path}: choose with --split among {', '.join(value)}")
    for name in chosen:
        yield None, f"{name}.", value[name]
