"""Folders, file names, tables and JSON that people have -> samples; nothing is written yet."""

from __future__ import annotations

import csv
import os
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import chain
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from model_registry.messages import printable
from shared.data.feature_files import SIZE_LIMIT, FeatureFileError, parse_features
from shared.data.files import RefusedFileError, json_lines, parse_json, read_bounded
from shared.data.media_types import MEDIA_TYPES
from shared.errors import ConfigError, Fault
from shared.schema_utils import BACKGROUND

FEATURE_SUFFIXES = frozenset([".npz"])
TEXT_SUFFIXES = frozenset([".txt"])
TABLE_SUFFIXES = frozenset([".csv", ".tsv"])
JSON_SUFFIXES = frozenset([".json", ".jsonl"])
BACKGROUND_FOLDERS = frozenset([BACKGROUND, "_background_noise_", "none", "silence"])
GROUPS = frozenset(["label", "user", "session", "take"])

_JSON_LIMIT = 512 * 1024**2
_TEXT_LIMIT = 1024**2
_TEXT_NAMES = ("text", "transcript")
_VECTOR_NAMES = ("features", "vector", "sequence")


@dataclass(frozen=True)
class Columns:
    """Names (or, in a table without a header, numbers from 0) of columns or JSON keys; None: the usual names."""

    label: str | None = None
    text: str | None = None
    session: str | None = None
    user: str | None = None


@dataclass(frozen=True)
class RawSample:
    """One sample of a source. `name` is stable: imported again, the same sample gets the same record id."""

    name: str
    path: str
    line: int | None
    label: str
    content: Path | str | NDArray[np.float32] = field(repr=False)
    user: str | None = None
    session: str | None = None
    take: str | None = None


@dataclass
class Findings:
    """Samples, what was wrong, and what was skipped with its reason."""

    samples: list[RawSample] = field(default_factory=list)
    faults: list[Fault] = field(default_factory=list)
    skipped: list[tuple[str, str]] = field(default_factory=list)  # name, reason


def find_files(folder: Path, pattern: str | None) -> Findings:
    """Find media, feature and text files, whose names `pattern` parses, or which are in a folder for each label.

    The pattern must match the whole file name, or the whole path below `folder` where it holds a `/`. Without one,
    `<label>/<file>` and `<label>/<session>/<file>` are understood, and folders named as in BACKGROUND_FOLDERS hold
    background. Raises ConfigError for a pattern that cannot be
    used.
    """
    expression = _compiled(pattern) if pattern is not None else None
    findings = Findings()
    for path in _walk(folder):
        name = path.relative_to(folder).as_posix()
        if path.is_symlink():
            findings.skipped.append((name, "is a symbolic link"))
            continue
        suffix = path.suffix.lower()
        if suffix not in MEDIA_TYPES.keys() | FEATURE_SUFFIXES | TEXT_SUFFIXES:
            findings.skipped.append((name, f"is not a supported media, feature or text file ({suffix or 'no suffix'})"))
            continue
        if expression is not None:
            match = expression.fullmatch(name if "/" in expression.pattern else path.name)
            if match is None:
                findings.skipped.append((name, "does not match the pattern"))
                continue
            groups = {key: value for key, value in match.groupdict().items() if value is not None}
        else:
            parts = name.split("/")
            if len(parts) not in (2, 3):
                findings.skipped.append((name, "is not in a folder that names its label"))
                continue
            label = BACKGROUND if parts[0].casefold() in BACKGROUND_FOLDERS else parts[0]
            groups = {"label": label} | ({"session": parts[1]} if len(parts) == 3 else {})
        if not groups.get("label"):
            findings.faults.append(Fault(str(path), None, "label", "the pattern finds no label in this name"))
            continue
        try:
            content = _file_content(path)
        except (RefusedFileError, FeatureFileError) as refused:
            findings.faults.append(Fault(str(path), None, "(file)", str(refused)))
            continue
        findings.samples.append(RawSample(name=name, path=str(path), line=None, content=content, **groups))
    return findings


def read_table(path: Path, columns: Columns, frame_size: int | None) -> Findings:
    """Read texts or vectors from a CSV or TSV file, one a row.

    A first row that holds a cell `label` (or the name given for it) is a header. Without one the label stands first,
    and what follows is numbers, or one text. `frame_size` cuts a row's numbers into frames of so many.
    """
    findings = Findings()
    try:
        with path.open(newline="", encoding="utf-8-sig") as file:
            rows = csv.reader(file, delimiter="\t" if path.suffix.lower() == ".tsv" else ",", strict=True)
            first = next(rows, [])
            header = _header(first, columns, path)
            body = rows if header is not None else chain([first], rows)
            start = 2 if header is not None else 1
            for number, row in enumerate(body, start):
                if any(cell.strip() for cell in row):
                    _take_row(row, header, columns, frame_size, path, number, findings)
    except UnicodeDecodeError:
        findings.faults.append(Fault(str(path), None, "(file)", "is not UTF-8 text; save it as UTF-8"))
    except (csv.Error, OSError) as error:
        findings.faults.append(Fault(str(path), None, "(file)", f"cannot be read: {error}"))
    return findings


def read_json(path: Path, columns: Columns, splits: Sequence[str], frame_size: int | None) -> Findings:
    """Read texts or vectors from JSON or JSON lines.

    Understood are a list of objects, a list of `[text, label]` pairs, `{label: [texts or vectors]}`, and
    `{split: [objects or pairs]}`, of which `splits` (default: `train`) are read. Raises ConfigError where there are
    several splits and none is chosen.
    """
    findings = Findings()
    if path.suffix.lower() == ".jsonl":
        for line, value in json_lines(path, str(path), findings.faults):
            _take_item(value, None, str(line), line, columns, frame_size, path, findings)
        return findings
    try:
        value = parse_json(read_bounded(path, _JSON_LIMIT))
    except ValueError as error:
        findings.faults.append(Fault(str(path), None, "(file)", f"is not readable JSON: {error}"))
        return findings
    for group, items in _groups(value, splits, path):
        label = None if group is None or group[0] == "split" else group[1]
        prefix = "" if group is None else f"{group[1]}."
        for index, item in enumerate(items):
            _take_item(item, label, f"{prefix}{index}", None, columns, frame_size, path, findings)
    return findings


def read_labels(path: Path) -> dict[str, str]:
    """Return what each label in the data is to be called, from a file of names.

    Understood are a name a line (the label is the line's number from 0), a JSON list of names, `{label: name}`, and
    `{name: [labels]}`. Raises ConfigError for anything else.
    """
    try:
        content = read_bounded(path, _TEXT_LIMIT)
        if path.suffix.lower() != ".json":
            names = content.decode("utf-8-sig").splitlines()
            return {str(index): name.strip() for index, name in enumerate(names) if name.strip()}
        value = parse_json(content)
    except ValueError as error:
        raise ConfigError(f"--labels {path}: cannot be read: {error}") from None
    if isinstance(value, list) and all(isinstance(name, str) for name in value):
        return {str(index): name for index, name in enumerate(value)}
    if isinstance(value, dict) and all(isinstance(name, str) for name in value.values()):
        return dict(value)
    if isinstance(value, dict) and all(isinstance(labels, list) for labels in value.values()):
        return {str(label): name for name, labels in value.items() for label in labels}
    raise ConfigError(f"--labels {path}: must be a list of names, {{label: name}} or {{name: [labels]}}")


def rename_labels(findings: Findings, names: Mapping[str, str], source: Path) -> Findings:
    """Return the findings with their labels renamed, and a fault for each label that has no name."""
    renamed = []
    missing: dict[str, RawSample] = {}
    for sample in findings.samples:
        if sample.label in names:
            renamed.append(RawSample(**{**sample.__dict__, "label": names[sample.label]}))
        else:
            missing.setdefault(sample.label, sample)
    faults = [
        Fault(sample.path, sample.line, "label", f"{printable(label)} has no name in {source}")
        for label, sample in missing.items()
    ]
    return Findings(renamed, [*findings.faults, *faults], findings.skipped)


def _compiled(pattern: str) -> re.Pattern[str]:
    try:
        expression = re.compile(pattern)
    except re.error as error:
        raise ConfigError(f"--pattern {pattern!a}: invalid regular expression: {error}") from None
    groups = set(expression.groupindex)
    if "label" not in groups or not groups <= GROUPS:
        raise ConfigError(
            f"--pattern {pattern!a}: needs a group (?P<label>…) and may have (?P<user>…), (?P<session>…), (?P<take>…)"
        )
    return expression


def _walk(folder: Path) -> Iterator[Path]:
    for top, folders, files in os.walk(folder):
        folders[:] = sorted(name for name in folders if name[0] != ".")
        for name in sorted((name for name in files if name[0] != "."), key=natural):
            yield Path(top, name)


def natural(text: str) -> list[tuple[int, int, str]]:
    """Return a sorting key under which take 10 follows take 9."""
    parts = re.split(r"(\d+)", text)
    return [(1, int(part), "") if part.isdecimal() and part.isascii() else (0, 0, part) for part in parts]


def _file_content(path: Path) -> Path | str | NDArray[np.float32]:
    suffix = path.suffix.lower()
    if suffix in FEATURE_SUFFIXES:
        return parse_features(read_bounded(path, SIZE_LIMIT), "npz")
    if suffix in TEXT_SUFFIXES:
        try:
            return read_bounded(path, _TEXT_LIMIT).decode("utf-8-sig").strip()
        except UnicodeDecodeError:
            raise RefusedFileError("is not UTF-8 text") from None
    if path.stat().st_size == 0:
        raise RefusedFileError("is empty")
    return path


def _header(first: Sequence[str], columns: Columns, path: Path) -> dict[str, int] | None:
    """Return the header's columns by name, or None where the first row is already a sample."""
    named = [name for name in (columns.label, columns.text, columns.session, columns.user) if name is not None]
    places = {cell.strip(): index for index, cell in enumerate(first)}
    if "label" not in {cell.lower() for cell in places} and all(name.isdecimal() for name in named):
        return None
    missing = [name for name in named if name not in places]
    if missing:
        known = ", ".join(places)
        raise ConfigError(f"{path}: there is no column {' or '.join(map(ascii, missing))}; there are {known}")
    return places


def _take_row(
    row: list[str],
    header: dict[str, int] | None,
    columns: Columns,
    frame_size: int | None,
    path: Path,
    number: int,
    findings: Findings,
) -> None:
    place = (str(path), number)
    if header is not None and len(row) != len(header):
        findings.faults.append(Fault(*place, "(row)", f"holds {len(row)} cells, the header {len(header)}"))
        return

    def at(name: str | None, usual: Sequence[str]) -> int | None:
        if header is None:
            return int(name) if name is not None else None
        lower = {key.lower(): index for key, index in header.items()}
        return header[name] if name is not None else next((lower[key] for key in usual if key in lower), None)

    label_at = at(columns.label, ("label",))
    label_at = 0 if label_at is None else label_at
    places = {
        "user": at(columns.user, ("user", "user_id")),
        "session": at(columns.session, ("session", "session_id")),
        "take": at(None, ("take",)),
    }
    text_at = at(columns.text, _TEXT_NAMES)
    taken = {label_at, text_at, *places.values()}
    if max(index for index in taken if index is not None) >= len(row):
        findings.faults.append(Fault(*place, "(row)", f"holds only {len(row)} cells"))
        return
    rest = [cell for index, cell in enumerate(row) if index not in taken]
    if text_at is None and header is None and len(rest) == 1 and not _is_number(rest[0]):
        content: str | NDArray[np.float32] = rest[0]
    elif text_at is not None:
        content = row[text_at]
    else:
        try:
            content = _frames(np.array([float(cell) for cell in rest]), frame_size)
        except ValueError as error:
            findings.faults.append(Fault(*place, "(row)", str(error)))
            return
    groups = {key: row[index].strip() for key, index in places.items() if index is not None and row[index].strip()}
    findings.samples.append(
        RawSample(f"{path.name}:{number}", str(path), number, row[label_at].strip(), content, **groups)
    )


def _is_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return True


def _frames(values: NDArray[np.float64], frame_size: int | None) -> NDArray[np.float32]:
    """Return (T, D) float32 from the numbers of one sample, which may already stand in frames."""
    if values.dtype.kind not in "fiu" or values.ndim not in (1, 2, 3) or values.size == 0:
        raise ValueError("must hold numbers, or frames of equally many numbers")
    if not np.isfinite(values).all():
        raise ValueError("holds NaN or infinite values")
    if values.ndim == 1 and frame_size is not None:
        if values.size % frame_size:
            raise ValueError(f"{values.size} numbers cannot be split into frames of {frame_size}")
        values = values.reshape(-1, frame_size)
    rows = 1 if values.ndim == 1 else values.shape[0]
    return values.reshape(rows, -1).astype(np.float32)


def _groups(value: Any, splits: Sequence[str], path: Path) -> Iterator[tuple[tuple[str, str] | None, list[Any]]]:
    """Yield the lists of samples in a JSON value, each with ("split", name), ("label", name) or None."""
    if isinstance(value, list):
        yield None, value
        return
    if not isinstance(value, dict) or not all(isinstance(items, list) for items in value.values()):
        raise ConfigError(f"{path}: must be a list of samples, {{split: [samples]}} or {{label: [texts]}}")
    first = next((items[0] for items in value.values() if items), None)
    if not (isinstance(first, dict) or _is_pair(first)):
        for label, items in value.items():
            yield ("label", label), items
        return
    chosen = list(splits) or (list(value) if len(value) == 1 else [name for name in value if name == "train"])
    unknown = [name for name in chosen if name not in value]
    if unknown or not chosen:
        raise ConfigError(f"{path}: choose with --split among {', '.join(value)}")
    for name in chosen:
        yield ("split", name), value[name]


def _is_pair(item: Any) -> bool:
    return isinstance(item, list) and len(item) == 2 and isinstance(item[1], str)


def _take_item(
    item: Any,
    label: str | None,
    key: str,
    line: int | None,
    columns: Columns,
    frame_size: int | None,
    path: Path,
    findings: Findings,
) -> None:
    groups: dict[str, str] = {}
    content: Any = item
    if isinstance(item, dict):
        keys = {"user": ("user", "user_id"), "session": ("session", "session_id"), "take": ("take",)}
        given = {"user": columns.user, "session": columns.session, "take": None}
        for group, usual in keys.items():
            chosen = given[group]
            value = next((item[key] for key in ((chosen,) if chosen else usual) if item.get(key) is not None), None)
            if isinstance(value, str | int) and not isinstance(value, bool):
                groups[group] = str(value)
        contents = (columns.text,) if columns.text else (*_TEXT_NAMES, *_VECTOR_NAMES)
        content = next((item[key] for key in contents if item.get(key) is not None), None)
        label = item.get(columns.label or "label", label)
    elif _is_pair(item) and label is None:
        content, label = item
    try:
        if isinstance(label, int) and not isinstance(label, bool):
            label = str(label)
        if not isinstance(label, str):
            raise ValueError("has no label; name its key with --label-column")
        if isinstance(content, list):
            content = _frames(np.asarray(content), frame_size)
        elif not isinstance(content, str):
            raise ValueError("has no text or numbers; name their key with --text-column")
    except ValueError as error:
        reason = str(error) if "inhomogeneous" not in str(error) else "its frames do not all hold equally many numbers"
        findings.faults.append(Fault(str(path), line, key, reason))
        return
    name = f"{path.name}:{key}"
    findings.samples.append(RawSample(name, str(path), line, label=label, content=content, **groups))
