"""Tables of texts, numbers or file names: CSV and TSV in whatever dialect and encoding they were saved."""

from __future__ import annotations

import csv
import io
import re
from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from functools import cached_property
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np

from model_registry.messages import list_names
from shared.data.files import RefusedFileError
from shared.data.formats import names
from shared.data.formats.annotations import parse_seconds, recording_of
from shared.data.formats.listed_files import ListedFiles
from shared.data.formats.numbers import MissingNumbersError, complete, frames, is_number, parse_number
from shared.data.formats.raw import Content, Findings, RawSample, ReadOptions, RowFaults
from shared.data.formats.text_files import read_text
from shared.data.media_types import MEDIA_TYPES
from shared.errors import ConfigError, Fault

_DELIMITERS = ("\t", ";", ",", "|")  # a semicolon first: with decimal commas, a comma splits every row alike, too
_SEPARATOR_LINE = re.compile(r"sep=(.)\r?\n", re.IGNORECASE)
_PIECES = ("slice_file_name",)  # files that are regions already: UrbanSound8K says where they were
_FEWEST_RISING = 12  # rows
_THOUSANDS = re.compile(r"[-+\u2212]?[1-9]\d{0,2}(?:,\d{3})+")
_JUDGED = 200  # rows from which the kind of a column is judged


@dataclass(frozen=True)
class Row:
    """The cells of one row, and the line on which it begins."""

    line: int
    cells: list[str]


@dataclass(frozen=True)
class Table:
    """Rows below a header (None where there is none), and the delimiter that they were split at."""

    header: tuple[str, ...] | None
    rows: list[Row]
    delimiter: str

    @cached_property
    def decimal_comma(self) -> bool:
        """Whether `0,5` is a number: where commas split cells, if some are in numbers and cannot mark thousands."""
        if self.delimiter != ",":
            return True
        cells = [cell.strip() for row in self.rows[:_JUDGED] for cell in row.cells if "," in cell]
        numbers = [cell for cell in cells if re.fullmatch(r"[-+\u2212]?[\d,]+\.?\d*", cell)]
        return not any("." in cell for cell in numbers) and any(
            cell.count(",") == 1 and not _THOUSANDS.fullmatch(cell) for cell in numbers
        )

    def column(self, place: int) -> list[str]:
        """Return the cells of one column, of as many rows as are judged."""
        return [row.cells[place] for row in self.rows[:_JUDGED] if place < len(row.cells)]


class QuotationMarkError(ValueError):
    """A quotation mark that is not closed where it should be; it opens in the row that begins at `line`."""

    def __init__(self, line: int) -> None:
        super().__init__("a quotation mark opens here and is not closed in its cell; double it, or remove it")
        self.line = line


def read_table(path: Path, options: ReadOptions) -> Findings:
    """Read texts, vectors or file names from a CSV or TSV file, one a row, or one frame a row.

    The delimiter is detected. A first row with a usual name of the label (`label`, `class`, `intent`, …), or the name
    given for it, is a header. Without one the only column of text is the label's, or the first; of two columns of
    text, the label's is the one that repeats itself. Rows of one `sequence_id` are the frames of one sequence.
    """
    findings = Findings()
    try:
        text = read_text(path)
        table = parse_table(text.text, options, path)
    except QuotationMarkError as error:
        findings.faults.append(Fault(str(path), error.line, "(row)", str(error)))
        return findings
    except RefusedFileError as refused:
        findings.faults.append(Fault(str(path), None, "(file)", str(refused)))
        return findings
    if (other := _other_content(text.text)) is not None:
        return Findings(faults=[Fault(str(path), None, "(file)", other)])
    findings.notes += text.notes
    if not table.rows:
        return findings
    roles = _roles(table, options, path, findings)
    if findings.faults:
        return findings
    _read_rows(table, roles, options, path, findings)
    return findings


def _other_content(text: str) -> str | None:
    """Return what a file holds that is called a table and is none, or None."""
    start = text[:200].lstrip().lower()
    if start.startswith(("<!doctype", "<html", "<table", "<?xml", "<head")):
        return "is a web page or XML, and no table; save it as CSV, or download it again"
    if re.match(r"\[\s*[{\[]|\{\s*\"", start):
        return "holds JSON, and no table; give it the suffix .json, or .jsonl where each line is an object"
    return None


def parse_table(text: str, options: ReadOptions, path: Path) -> Table:
    """Split a table's text into its header and rows. Raises QuotationMarkError, and ConfigError for unknown columns."""
    first_line = 1
    chosen: str | None = None
    if match := _SEPARATOR_LINE.match(text):
        chosen, text, first_line = match.group(1), text[match.end() :], 2
    text = _with_double_marks(text)
    delimiter = chosen or _detected(text)
    rows = _checked_rows(text, delimiter, first_line)
    if not rows:
        return Table(None, [], delimiter)
    header = _header(rows, delimiter, options, path)
    body = rows[1:] if header is not None else rows
    return _without_empty_columns(Table(header, body, delimiter))


def _with_double_marks(text: str) -> str:
    """Return the text, where each cell stood in single quotation marks with double ones in their place."""
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    single = [line for line in lines[1:] if len(line) > 1 and line[0] == line[-1] == "'"]
    if len(lines) < 2 or len(single) < len(lines) - 1 or '"' in text:
        return text
    return re.sub(r"(?m)(?<=[,;\t|])'|'(?=[,;\t|\r]|$)|^'", '"', text).replace("''", "'")


def _split(text: str, delimiter: str, first_line: int, quoting: int = csv.QUOTE_MINIMAL) -> list[Row]:
    """Return the rows that hold anything. Raises QuotationMarkError."""
    reader = csv.reader(io.StringIO(text, newline=""), delimiter=delimiter, strict=True, quoting=quoting)  # type: ignore[arg-type]
    rows: list[Row] = []
    while True:
        line = first_line + reader.line_num
        try:
            cells = next(reader)
        except StopIteration:
            return rows
        except csv.Error:
            raise QuotationMarkError(line) from None
        if any(cell.strip() for cell in cells):
            rows.append(Row(line, cells))


def _checked_rows(text: str, delimiter: str, first_line: int) -> list[Row]:
    """Return the rows; a tab-separated table with single quotation marks is read without regard to them."""
    try:
        rows = _split(text, delimiter, first_line)
        swallowed = _swallowing_row(rows, delimiter)
        if swallowed is None:
            return rows
        problem = QuotationMarkError(swallowed)
    except QuotationMarkError as error:
        problem = error
    if delimiter == "\t":  # whose usual dialect has no quotation marks at all
        literal = _split(text, delimiter, first_line, csv.QUOTE_NONE)
        if len({len(row.cells) for row in literal}) == 1:
            return literal
    raise problem


def _swallowing_row(rows: Sequence[Row], delimiter: str) -> int | None:
    """Return the line of a row one of whose cells holds what are rows of the table themselves; None without one."""
    width = Counter(len(row.cells) for row in rows).most_common(1)[0][0] if rows else 0
    known = [{row.cells[k] for row in rows if k < len(row.cells)} for k in range(width)]
    for row in rows:
        for cell in row.cells:
            inner = [line.split(delimiter) for line in cell.splitlines()[1:]] if "\n" in cell else []
            rowlike = [cells for cells in inner if len(cells) == width > 1]
            repeats = any(cells[k] in known[k] for cells in rowlike for k in range(width))
            if repeats or len(rowlike) > 1:
                return row.line
    return None


def _detected(text: str) -> str:
    """Return the delimiter that splits all rows into equally many cells, or most rows into more than one."""

    def quality(delimiter: str) -> tuple[bool, float, float]:
        try:
            rows = _split(text, delimiter, 1)
        except QuotationMarkError:
            rows = _split(text, delimiter, 1, csv.QUOTE_NONE)
        widths = Counter(len(row.cells) for row in rows)
        if not widths:
            return False, 0.0, 0.0
        width, count = widths.most_common(1)[0]
        several = sum(number for size, number in widths.items() if size > 1) / len(rows)
        even = count / len(rows) if width > 1 else 0.0
        return even == 1.0, several, even

    return max(_DELIMITERS, key=quality)  # the first of equals


def _header(rows: Sequence[Row], delimiter: str, options: ReadOptions, path: Path) -> tuple[str, ...] | None:
    """Return the names in the first row, or None where it is already a sample."""
    first = [cell.strip() for cell in rows[0].cells]
    named = [name for name in options.columns.named() if not name.isdecimal()]
    label = names.first_of(names.LABELS, first)
    numbers = [is_number(cell, delimiter != ",") for cell in first]
    known = [name for name in first if names.first_of((*names.TEXTS, *names.PATHS, *names.SESSIONS), [name])]
    below = rows[1].cells if len(rows) > 1 else []
    names_numbers = any(
        first[k] and not numbers[k] and is_number(cell, delimiter != ",")
        for k, cell in enumerate(below)
        if k < len(first)
    )
    is_header = (label is not None and not any(numbers)) or len(known) > 1 or names_numbers
    if not is_header and not named:
        return None
    missing = [name for name in named if name not in first]
    if missing:
        raise ConfigError(
            f"{path}: there is no column {' or '.join(map(ascii, missing))}; there are {', '.join(first)}"
        )
    return tuple(first)


def _without_empty_columns(table: Table) -> Table:
    """Return the table without columns at the right that have no name and no cell, as a trailing comma makes them."""
    header, rows = table.header, table.rows
    least = len(header) if header is not None else 2
    while rows and all(len(row.cells) > least and not row.cells[-1].strip() for row in rows):
        rows = [Row(row.line, row.cells[:-1]) for row in rows]
    while (
        header is not None
        and len(header) > 1
        and not header[-1]
        and all(len(row.cells) < len(header) or not row.cells[len(header) - 1].strip() for row in rows)
    ):
        rows = [Row(row.line, row.cells[: len(header) - 1]) for row in rows]
        header = header[:-1]
    return Table(header, rows, table.delimiter)


@dataclass(frozen=True)
class _RegionColumns:
    """Where a table has the onset of a region of a recording, and its end or its duration."""

    onset: int
    end: int
    ends_by_duration: bool


def _columns_of(region: _RegionColumns | None) -> tuple[int, ...]:
    return () if region is None else (region.onset, region.end)


@dataclass(frozen=True)
class _Roles:
    """Which column is what; `numbers` are those of a sample that is neither a text nor a file."""

    label: int | None
    text: int | None = None
    path: int | None = None
    sequence: int | None = None
    frame: int | None = None
    numbers: tuple[int, ...] = ()
    recorded: int | None = None  # when a text or file was recorded
    region: _RegionColumns | None = None
    recording: Path | None = None  # that all regions are of, where no column names files
    groups: Mapping[str, int] = field(default_factory=dict)  # user, session, take -> column


def _roles(table: Table, options: ReadOptions, path: Path, findings: Findings) -> _Roles:
    if table.header is None:
        return _roles_by_content(table, options, path, findings)
    header, columns = table.header, options.columns
    places = {name: index for index, name in reversed(list(enumerate(header)))}

    def at(name: str | None, usual: Sequence[str]) -> int | None:
        if name is None:
            name = names.first_of(usual, header)
        return None if name is None else places[name]

    wants_text = options.wants_text
    path_at = None if wants_text and columns.path is None else at(columns.path, names.PATHS)
    text_at = at(columns.text, names.TEXTS) if wants_text and columns.path is None else None
    label_at = at(columns.label, names.LABELS)
    if label_at is None and path_at is not None:
        label_at = at(None, names.TEXTS)  # what is said in the file
    groups = {"user": at(columns.user, names.USERS), "session": at(columns.session, names.SESSIONS)}
    groups["take"] = at(None, names.TAKES)
    recorded_at = at(None, names.RECORDED)
    if recorded_at is not None and not all(_instant(cell) for cell in table.column(recorded_at)):
        recorded_at = None
    if label_at is None and options.label is None:
        reason = f"no column holds the label; name it with --label-column: {list_names(header, 12)}"
        findings.faults.append(Fault(str(path), 1, "label", reason))
        return _Roles(None)
    if text_at is None and path_at is None and wants_text:
        others = [k for k in range(len(header)) if k not in {label_at, *groups.values()}]
        texts = [k for k in others if any(not is_number(cell) for cell in table.column(k) if cell.strip())]
        if len(texts) == 1:
            text_at = texts[0]
    chosen = {name: index for name, index in groups.items() if index is not None}
    of_pieces = path_at is not None and names.normal(header[path_at]) in _PIECES
    region = None if wants_text or of_pieces else _region(header)
    recording = recording_of(path, options) if region is not None and path_at is None else None
    if region is not None and path_at is None and recording is None and "features" not in options.accepts:
        reason = "each row is a region of a recording; name the recording with --media FILE"
        findings.faults.append(Fault(str(path), 1, header[region.onset], reason))
        return _Roles(label_at)
    if path_at is None and recording is None:
        region = None
    roles = _Roles(label_at, text_at, path_at, recorded=recorded_at, region=region, recording=recording, groups=chosen)
    if text_at is None and path_at is None and recording is None:
        roles = _roles_of_numbers(table, header, roles, options, path, findings)
    _note_roles(header, roles, findings)
    return roles


def _region(header: Sequence[str]) -> _RegionColumns | None:
    """Return the columns of regions of a recording; None where a table has none."""
    onset, offset = names.first_of(names.ONSETS, header), names.first_of(names.OFFSETS, header)
    end = offset or names.first_of(names.DURATIONS, header)
    if onset is None or end is None:
        return None
    return _RegionColumns(header.index(onset), header.index(end), ends_by_duration=offset is None)


def _roles_of_numbers(
    table: Table, header: Sequence[str], roles: _Roles, options: ReadOptions, path: Path, findings: Findings
) -> _Roles:
    """Return the roles in a table of numbers: features, sequences and their frames; an index is no feature."""
    taken = {roles.label, *roles.groups.values()}
    free = [k for k in range(len(header)) if k not in taken]

    def first(usual: Sequence[str]) -> int | None:
        name = names.first_of(usual, [header[k] for k in free])
        return None if name is None else header.index(name)

    ignored = {header.index(name) for name in options.columns.ignored}
    sequence = header.index(options.columns.sequence) if options.columns.sequence else first(names.SEQUENCES)
    frame = first(names.FRAMES)
    frame = None if frame in ignored else frame
    index = first(names.INDICES)
    if index is not None and index not in {sequence, frame} | ignored and _counts(table.column(index)):
        ignored.add(index)
        findings.notes.append(f"column {header[index]!a} is an index and no feature")
    if frame is not None and sequence is None:
        reason = (
            f"column {header[frame]!a} numbers frames, but none says which rows are one sequence; name it with "
            f"--sequence-column, or leave the column out with --ignore-column {header[frame]}"
        )
        findings.faults.append(Fault(str(path), 1, header[frame], reason))
    numbers = tuple(k for k in free if k not in {sequence, frame} | ignored)
    for k in numbers:
        wrong = [cell for cell in table.column(k) if cell.strip() and not _readable(cell, table.decimal_comma)]
        if len(wrong) > len(table.column(k)) / 2:
            reason = f"holds text ({wrong[0][:40]!a}), no numbers; leave it out with --ignore-column {header[k]}"
            findings.faults.append(Fault(str(path), 1, header[k] or "(column)", reason))
        elif sequence is None and _rises(table.column(k), table.decimal_comma):
            reason = f"rises from row to row; if it is a time or an index, leave it out: --ignore-column {header[k]}"
            findings.doubts.append(Fault(str(path), 1, header[k] or "(column)", reason))
    return _Roles(roles.label, None, None, sequence, frame, numbers, groups=roles.groups)


def _rises(cells: Sequence[str], decimal_comma: bool) -> bool:
    """Return whether many numbers become larger from each row to the next, as no feature of a movement does."""
    if len(cells) < _FEWEST_RISING or not all(_readable(cell, decimal_comma) for cell in cells):
        return False
    numbers = [parse_number(cell, decimal_comma) for cell in cells]
    return all(one < other for one, other in pairwise(numbers))


def _readable(cell: str, decimal_comma: bool) -> bool:
    try:
        parse_number(cell, decimal_comma)
    except ValueError:
        return False
    return True


def _counts(cells: Sequence[str]) -> bool:
    """Return whether cells are all different whole numbers that count up, or all different texts."""
    if len(set(cells)) < len(cells):
        return False
    if all(cell.strip().isdecimal() for cell in cells):
        numbers = [int(cell) for cell in cells]
        return numbers == sorted(numbers)
    return not any(is_number(cell) for cell in cells)


def _roles_by_content(table: Table, options: ReadOptions, path: Path, findings: Findings) -> _Roles:
    """Return the roles of a table without a header, from what its columns hold."""
    columns = options.columns
    width = max(len(row.cells) for row in table.rows)

    def given(name: str | None) -> int | None:
        return None if name is None else int(name)

    groups = {"user": given(columns.user), "session": given(columns.session)}
    taken = {name: index for name, index in groups.items() if index is not None}
    ignored = {int(name) for name in columns.ignored}
    label, text, file = given(columns.label), given(columns.text), given(columns.path)
    free = [k for k in range(width) if k not in {*taken.values(), label, text, file} | ignored]
    words = [k for k in free if _is_text(table.column(k))]
    if label is None and options.label is None:
        texts_alone = options.wants_text and len(words) == 1 and len(free) == 2  # whose labels are numbers
        label = next(k for k in free if k not in words) if texts_alone else _label_column(table, free, words)
    rest = [k for k in free if k != label]
    if text is None and file is None and len(rest) == 1 and rest[0] in words:
        if options.wants_text and columns.path is None:
            text = rest[0]
        elif _are_files(table.column(rest[0])):
            file = rest[0]
    if text is not None or file is not None:
        label_name = "--label" if label is None else f"column {label}"
        findings.notes.append(f"no header: labels from {label_name}, {'texts' if file is None else 'files'} from "
                              f"column {text if file is None else file}")  # fmt: skip
        return _Roles(label, text, file, groups=taken)
    sequence = given(columns.sequence)
    numbers = tuple(k for k in rest if k != sequence)
    findings.notes.append(f"no header: labels from column {label}, features from {len(numbers)} columns")
    return _Roles(label, None, None, sequence, None, numbers, groups=taken)


def _label_column(table: Table, free: Sequence[int], words: Sequence[int]) -> int:
    """Return the column of the label: the only one of text; of several, the one that repeats itself; else the first."""
    if len(words) == 1:
        return words[0]
    if len(words) > 1:
        kinds = {k: len(set(table.column(k))) for k in words}
        fewest = min(words, key=lambda k: (kinds[k], k))
        if kinds[fewest] < kinds[words[0]]:
            return fewest
        return words[0]
    return free[0] if free else 0


def _is_text(cells: Sequence[str]) -> bool:
    present = [cell for cell in cells if cell.strip()]
    return sum(not is_number(cell) for cell in present) > len(present) / 2


def _are_files(cells: Sequence[str]) -> bool:
    present = [cell for cell in cells if cell.strip()]
    return bool(present) and all(Path(cell.strip()).suffix.lower() in MEDIA_TYPES for cell in present)


def _note_roles(header: Sequence[str], roles: _Roles, findings: Findings) -> None:
    named = [("label", roles.label), ("text", roles.text), ("file", roles.path), ("sequence", roles.sequence)]
    named += [("frame", roles.frame), ("time of recording", roles.recorded), *roles.groups.items()]
    parts = [f"{role} from {header[k]!a}" for role, k in named if k is not None]
    if roles.numbers:
        parts.append(f"features from {len(roles.numbers)} columns, {header[roles.numbers[0]]!a} to "
                     f"{header[roles.numbers[-1]]!a}")  # fmt: skip
    if roles.region is not None:
        parts.append(f"region from {header[roles.region.onset]!a} and {header[roles.region.end]!a}")
    if roles.recording is not None:
        parts.append(f"all of {roles.recording.name}")
    used = {roles.label, roles.text, roles.path, roles.sequence, roles.frame, *roles.numbers, *roles.groups.values()}
    used |= {roles.recorded, *_columns_of(roles.region)}
    unused = [name for k, name in enumerate(header) if k not in used and name]
    if unused:
        parts.append(f"not used: {list_names(unused, 8)}")
    findings.notes.append("columns: " + ", ".join(parts))


def _read_rows(table: Table, roles: _Roles, options: ReadOptions, path: Path, findings: Findings) -> None:
    faults = RowFaults(str(path))
    files = ListedFiles.near(path, options) if roles.path is not None else None
    width = len(table.header) if table.header is not None else None
    needed = [k for k in (roles.label, roles.text, roles.path, *roles.groups.values(), *_columns_of(roles.region))
              if k is not None]  # fmt: skip
    sequences: dict[tuple[str, ...], list[tuple[Row, float, list[float]]]] = defaultdict(list)
    unlabelled: list[int] = []
    if roles.text is not None and _are_files(table.column(roles.text)):
        reason = "its texts look like names of files; for what these hold, choose the modality of the files"
        findings.doubts.append(Fault(str(path), None, "text", reason))
    for row in table.rows:
        if table.header is not None and tuple(cell.strip() for cell in row.cells) == table.header:
            findings.skipped.append((f"{path.name}:{row.line}", "repeats the header"))
            continue
        if width is not None and len(row.cells) != width:
            faults.add(row.line, "(row)", f"holds {len(row.cells)} cells, the header {width}")
            continue
        if max(needed, default=0) >= len(row.cells):
            faults.add(row.line, "(row)", f"holds only {len(row.cells)} cells")
            continue
        label = options.label or "" if roles.label is None else row.cells[roles.label].strip()
        groups: dict[str, Any] = {key: row.cells[k].strip() for key, k in roles.groups.items() if row.cells[k].strip()}
        if not label:
            unlabelled.append(row.line)
            faults.add(row.line, "label", "is empty; every row needs one")
            continue
        content: Content
        region: dict[str, Any] = {}
        recorded = None if roles.recorded is None else _instant(row.cells[roles.recorded])
        try:
            if roles.region is not None:
                region = _times(row, roles.region, table.header or ())
            if roles.text is not None:
                content = row.cells[roles.text]
                if not content.strip():
                    raise ValueError("the text is empty")
            elif roles.path is not None and files is not None:
                found = files.find(row.cells[roles.path])
                if found is None:
                    findings.skipped.append((row.cells[roles.path], "is in the table, but there is no such file"))
                    continue
                content = found
            elif roles.recording is not None:
                content = roles.recording
            else:
                numbers = [parse_number(row.cells[k], table.decimal_comma) for k in _present(row, roles, table)]
                if roles.sequence is not None:
                    order = parse_number(row.cells[roles.frame], True) if roles.frame is not None else 0.0
                    key = (row.cells[roles.sequence], label, *groups.values())
                    sequences[key].append((row, order, numbers))
                    continue
                content = frames(np.array(numbers), options)
        except (ValueError, MissingNumbersError) as error:
            faults.add(row.line, "(row)", str(error))
            continue
        findings.samples.append(RawSample(str(path), row.line, label, content, recorded=recorded, **groups, **region))
    if files is not None:
        used = {sample.content for sample in findings.samples if isinstance(sample.content, Path)}
        findings.skipped += [(left.name, f"is not in {path.name}") for left in files.unlisted(used)]
    _add_sequences(sequences, roles, options, path, findings, faults)
    findings.faults += faults.faults()
    if roles.path is not None and not findings.samples and findings.skipped:
        reason = "none of its files is there; say where they are with --media"
        findings.faults.append(Fault(str(path), None, "path", f"{reason} (for example {findings.skipped[0][0]!a})"))


def _instant(cell: str) -> datetime | None:
    """Return the time in a cell, such as `2024-05-01 10:15`, in this computer's zone where it names none."""
    try:
        return datetime.fromisoformat(cell.strip()).astimezone(UTC)
    except (ValueError, OverflowError):
        return None


def _times(row: Row, region: _RegionColumns, header: Sequence[str]) -> dict[str, float]:
    """Return onset and offset (s) of a row's region. Raises ValueError."""
    seconds = []
    for k in _columns_of(region):
        value = parse_seconds(row.cells[k])
        if value is None:
            raise ValueError(f"{row.cells[k][:40]!a} in column {header[k]!a} is no time, such as 1.5 or 0:01.5")
        seconds.append(value / 1000 if "ms" in names.normal(header[k]).split("_") else value)
    onset, end = seconds
    offset = round(onset + end, 6) if region.ends_by_duration else end
    if offset <= onset:
        raise ValueError("its end is not after its start")
    return {"onset": onset, "offset": offset}


def _present(row: Row, roles: _Roles, table: Table) -> Sequence[int]:
    """Return the columns of a row's numbers; without a header, rows may have different lengths."""
    return roles.numbers if table.header is not None else [k for k in roles.numbers if k < len(row.cells)]


def _add_sequences(
    sequences: Mapping[tuple[str, ...], list[tuple[Row, float, list[float]]]],
    roles: _Roles,
    options: ReadOptions,
    path: Path,
    findings: Findings,
    faults: RowFaults,
) -> None:
    """Add a sample for each sequence of rows, in the order of their frames."""
    frames_of: dict[tuple[str, ...], set[float]] = defaultdict(set)
    labels_of: dict[tuple[str, ...], set[str]] = defaultdict(set)
    for (name, label, *others), rows in sequences.items():
        whole = (name, *others)
        numbers = {order for _, order, _ in rows}
        if roles.frame is not None and labels_of[whole] and not numbers & frames_of[whole]:
            reason = f"sequence {name[:40]!a} has several labels; give each label a sequence of its own"
            faults.add(rows[0][0].line, "label", reason)
        labels_of[whole].add(label)
        frames_of[whole] |= numbers
        if roles.frame is not None and len(numbers) < len(rows):
            faults.add(rows[0][0].line, "frame", "a sequence has a frame number twice")
    for (_, label, *_), rows in sequences.items():
        ordered = sorted(rows, key=lambda entry: entry[1])
        row = rows[0][0]
        groups: dict[str, Any] = {key: row.cells[k].strip() for key, k in roles.groups.items() if row.cells[k].strip()}
        try:
            content = complete(np.array([numbers for _, _, numbers in ordered]), options)
        except ValueError as error:
            faults.add(row.line, "(row)", str(error))
            continue
        findings.samples.append(RawSample(str(path), row.line, label, content, **groups))
