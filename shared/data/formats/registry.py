"""Which reader reads which source."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path

from shared.data.feature_files import FEATURE_SUFFIXES
from shared.data.files import RefusedFileError
from shared.data.formats import names
from shared.data.formats.annotations import ELAN_SUFFIX, PRAAT_SUFFIX, read_annotations, regions
from shared.data.formats.folders import ARCHIVES, TEXT_SUFFIXES, read_file, read_folder, with_sessions_from_names
from shared.data.formats.intent_files import is_fasttext, read_fasttext, read_rasa_markdown, read_rasa_yaml
from shared.data.formats.json_files import read_json
from shared.data.formats.raw import Findings, ReadOptions
from shared.data.formats.tables import QuotationMarkError, parse_table, read_table
from shared.data.formats.text_files import SAVE_AS_CSV, read_text
from shared.data.formats.walking import walk
from shared.data.media_types import MEDIA_TYPES
from shared.errors import ConfigError, Fault

Reader = Callable[[Path, ReadOptions], Findings]

_TABLES = (".csv", ".tsv")
_LISTS = (".json", ".jsonl")
MOST_LISTS = 3  # files of JSON in a folder of media; more are samples of their own
READERS: Mapping[str, Reader] = {
    ".csv": read_table,
    ".tsv": read_table,
    ".json": read_json,
    ".jsonl": read_json,
    ".yml": read_rasa_yaml,
    ".yaml": read_rasa_yaml,
    ".md": read_rasa_markdown,
    PRAAT_SUFFIX: read_annotations,
    ELAN_SUFFIX: read_annotations,
}
_DOCUMENT = "save it as plain text (.txt)"
_TABLE = "export it as CSV, JSON or .npz"
_OTHER_PROGRAMS = {  # what to do with files of other programs
    **dict.fromkeys(ARCHIVES, "unpack it, and import the folder"),
    **dict.fromkeys((".srt", ".vtt", ".sbv", ".ass"), "export its times as labels of Audacity (start, end, label)"),
    **dict.fromkeys((".xlsx", ".xls", ".ods", ".numbers"), SAVE_AS_CSV),
    **dict.fromkeys((".docx", ".doc", ".odt", ".rtf", ".pdf"), _DOCUMENT),
    **dict.fromkeys((".parquet", ".feather", ".arrow", ".h5", ".hdf5", ".mat", ".pkl"), _TABLE),
}
_BEST_PART = "validated"  # of Common Voice's tables, the one that people have checked


def read_source(source: Path, options: ReadOptions) -> Findings:
    """Read a folder or a file of any known format. Raises ConfigError for a source of another kind."""
    if source.is_dir():
        return _read_directory(source, options)
    suffix = source.suffix.lower()
    try:
        if suffix in READERS:
            return READERS[suffix](source, options)
        if suffix in TEXT_SUFFIXES:
            return _read_text_file(source, options)
    except RefusedFileError as refused:
        return Findings(faults=[Fault(str(source), None, "(file)", str(refused))])
    if suffix in MEDIA_TYPES or suffix in FEATURE_SUFFIXES:
        return read_file(source, options)
    kinds = "a folder, a media file, or a .csv, .tsv, .json, .jsonl, .txt, .yml, .md, .TextGrid or .eaf file"
    hint = f"; {_OTHER_PROGRAMS[suffix]}" if suffix in _OTHER_PROGRAMS else ""
    raise ConfigError(f"{source}: must be {kinds}{hint}")


def _read_text_file(path: Path, options: ReadOptions) -> Findings:
    """Read a .txt file, which holds fastText's lines, annotations, a table, or one text."""
    text = read_text(path).text
    if is_fasttext(text):
        return read_fasttext(path, options)
    if options.label is not None:
        return read_file(path, options)
    if regions(text) is not None:
        return read_annotations(path, options)
    return read_table(path, options)


def _read_directory(folder: Path, options: ReadOptions) -> Findings:
    """Read a folder of files, a data set whose table names its files, or a folder of tables."""
    if options.pattern is None and not options.levels:
        if not options.wants_text and (listed := _listed_files(folder, options)) is not None:
            return listed
        if files := _only_tables(folder):
            return _read_tables(folder, files, options)
    return with_sessions_from_names(read_folder(folder, options))


def _listed_files(folder: Path, options: ReadOptions) -> Findings | None:
    """Read the table in a folder (or one below) that lists files with labels, as ESC-50 and Common Voice have it.

    It is a table whose header names both, or one of at most MOST_LISTS files of JSON. None where there is none.
    """
    near = [*folder.iterdir(), *(inner for top in folder.iterdir() if top.is_dir() for inner in top.iterdir())]
    files = [path for path in near if path.is_file() and not path.is_symlink()]
    options = replace(options, media=options.media or folder)
    found: dict[Path, Findings | None] = {
        path: None for path in files if path.suffix.lower() in _TABLES and _header_lists_files(path)
    }
    json_files = [path for path in files if path.suffix.lower() in _LISTS]
    if len(json_files) <= MOST_LISTS and len(json_files) < len(files):
        found |= {path: read for path in json_files if (read := _json_of_files(path, options)) is not None}
    if len(found) > 1:
        found = {path: read for path, read in found.items() if path.stem in (options.splits or (_BEST_PART,))} or found
    if len(found) > 1:
        parts = ", ".join(sorted(path.stem for path in found))
        raise ConfigError(f"{folder}: several tables list files; choose with --split among {parts}")
    if not found:
        return None
    ((path, known),) = found.items()
    findings = known or read_table(path, options)
    findings.notes.insert(0, f"read as: files that {path.relative_to(folder)} lists")
    return findings


def _header_lists_files(table: Path) -> bool:
    try:
        header = parse_table(read_text(table).text, ReadOptions(), table).header or ()
    except (RefusedFileError, QuotationMarkError):
        return False
    return bool(names.first_of(names.PATHS, header) and names.first_of((*names.LABELS, *names.TEXTS), header))


def _json_of_files(path: Path, options: ReadOptions) -> Findings | None:
    """Read a file of JSON; None where it names no file that there is."""
    try:
        findings = read_json(path, options)
    except (RefusedFileError, ConfigError):
        return None
    return findings if any(isinstance(sample.content, Path) for sample in findings.samples) else None


def _only_tables(folder: Path) -> list[Path]:
    """Return the tables, JSON and other files of texts in a folder, where it holds nothing else."""
    files = list(walk(folder))
    return files if files and all(path.suffix.lower() in READERS for path in files) else []


def _read_tables(folder: Path, files: list[Path], options: ReadOptions) -> Findings:
    """Read a folder of tables or JSON files. A file or folder whose samples name no label gives them its own name."""
    findings = Findings()
    for path in files:
        above = path.relative_to(folder).parts[:-1]
        own_label = options.label or (above[0] if above else path.stem)
        read = READERS[path.suffix.lower()]
        try:
            part = read(path, options)
            if not part.samples and options.label is None:
                labelled = read(path, replace(options, label=own_label))
                part = labelled if labelled.samples else part
        except RefusedFileError as refused:
            part = Findings(faults=[Fault(str(path), None, "(file)", str(refused))])
        if options.label is None and above:
            part.samples = [replace(sample, session=sample.session or path.stem) for sample in part.samples]
        findings.merge(part)
    findings.notes.insert(0, f"read as: {len(files)} files of samples")
    return findings
