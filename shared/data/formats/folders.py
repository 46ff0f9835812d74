"""Folders of media, feature and text files whose labels stand in names of files or folders."""

from __future__ import annotations

import re
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from model_registry.messages import list_names
from shared.data.feature_files import FEATURE_SUFFIXES, SIZE_LIMIT, read_array
from shared.data.files import RefusedFileError, read_bounded
from shared.data.formats import names
from shared.data.formats.numbers import frames
from shared.data.formats.raw import Content, Findings, RawSample, ReadOptions
from shared.data.formats.text_files import read_text
from shared.data.formats.walking import walk
from shared.data.media_types import MEDIA_TYPES
from shared.errors import ConfigError, Fault
from shared.schema_utils import BACKGROUND

TEXT_SUFFIXES = frozenset([".txt"])
GROUPS = frozenset(["label", "user", "session", "take"])
LEVELS = frozenset(["label", "user", "session", "-"])
BACKGROUND_FOLDERS = frozenset([BACKGROUND, "_background_noise_", "none", "silence"])
ARCHIVES = frozenset([".zip", ".tar", ".gz", ".tgz", ".bz2", ".xz", ".7z", ".rar", ".zst"])
_TEXT_LIMIT = 1024**2
_FRAME = re.compile(r"(?:frame|img|image)[-_ ]?\d+", re.IGNORECASE)
_NO_LABEL = "is not in a folder that names its label"
_NUMBERED = re.compile(r"(?P<label>.*?[^\W\d_])[ _.-]*\(?\d+\)?\.\w+")  # drink_01.wav, drink (2).wav
_FEWEST_FRAMES = 8  # numbered pictures in one folder that look like one film


def read_folder(folder: Path, options: ReadOptions) -> Findings:
    """Read the files of a folder, whose names `options.pattern` parses, or whose folders name their labels.

    The pattern must match the whole file name, or the whole path below the folder where it holds a `/`. Without one,
    `<label>/<file>` and `<label>/<session>/<file>` are understood, or what `options.levels` says. Folders of labels
    that are named as in BACKGROUND_FOLDERS hold background. Structure that is probably another one is a doubt. Raises
    ConfigError for a pattern or levels that cannot be used.
    """
    expression = compile_pattern(options.pattern) if options.pattern is not None else None
    _check_levels(options.levels)
    findings = Findings()
    for path in walk(folder):
        name = path.relative_to(folder).as_posix()
        if reason := _unwanted(path, options):
            findings.skipped.append((name, reason))
            continue
        if expression is not None:
            match = expression.fullmatch(name if "/" in expression.pattern else path.name)
            if match is None:
                findings.skipped.append((name, "does not match the pattern, which must cover all of it and its suffix"))
                continue
            groups: dict[str, Any] = {key: value for key, value in match.groupdict().items() if value is not None}
        else:
            of_folders = _groups_of_folders(name.split("/")[:-1], options)
            if isinstance(of_folders, str):
                findings.skipped.append((name, of_folders))
                continue
            groups = of_folders
        groups.setdefault("label", options.label or "")
        if not groups["label"]:
            findings.faults.append(Fault(str(path), None, "label", "the pattern finds no label in this name"))
            continue
        try:
            content = file_content(path, options)
        except ValueError as refused:
            findings.faults.append(Fault(str(path), None, "(file)", str(refused)))
            continue
        findings.samples.append(RawSample(path=str(path), line=None, content=content, name=name, **groups))
    if expression is None:
        _suggest_pattern(findings)
        _read_background(findings)
        _note_lost_folders(folder, findings)
        if not options.levels:
            _doubt_structure(folder, findings)
    return findings


def read_file(path: Path, options: ReadOptions) -> Findings:
    """Read one media, feature or text file. Raises ConfigError where nothing says its label."""
    if options.label is None:
        raise ConfigError(f"{path}: one file needs its label: --label NAME")
    findings = Findings()
    if reason := _unwanted(path, options):
        findings.faults.append(Fault(str(path), None, "(file)", reason))
        return findings
    try:
        findings.samples.append(RawSample(str(path), None, options.label, file_content(path, options), name=path.name))
    except ValueError as refused:
        findings.faults.append(Fault(str(path), None, "(file)", str(refused)))
    return findings


def compile_pattern(pattern: str) -> re.Pattern[str]:
    """Return the regular expression for file names. Raises ConfigError where it is none, or names no label."""
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


def file_content(path: Path, options: ReadOptions) -> Content:
    """Return the content of a feature or text file, and the path of any other.

    Raises RefusedFileError, FeatureFileError or ValueError for one that cannot be used.
    """
    suffix = path.suffix.lower()
    if suffix in FEATURE_SUFFIXES:
        return frames(read_array(read_bounded(path, SIZE_LIMIT), suffix[1:]), options)
    if suffix in TEXT_SUFFIXES:
        return read_text(path, _TEXT_LIMIT).text.strip()
    if path.stat().st_size == 0:
        raise RefusedFileError("is empty")
    return path


def _unwanted(path: Path, options: ReadOptions) -> str | None:
    """Return why a file is passed over, or None."""
    suffix = path.suffix.lower()
    if path.is_symlink():
        return "is a symbolic link; copy the file here"
    kind = MEDIA_TYPES[suffix].split("/")[0] if suffix in MEDIA_TYPES else "text" if suffix in TEXT_SUFFIXES else None
    if suffix in ARCHIVES:
        return "is an archive; unpack it here"
    if kind is None and suffix not in FEATURE_SUFFIXES:
        return f"is not a supported media, feature or text file ({suffix or 'no suffix'})"
    kind = kind or "features"
    if kind not in options.accepts:
        return f"holds {kind}, but this modality takes {' and '.join(sorted(options.accepts))}"
    return None


def _check_levels(levels: Sequence[str]) -> None:
    unknown = set(levels) - LEVELS
    if unknown or levels.count("label") > 1 or (levels and "label" not in levels):
        raise ConfigError("--levels: name what each level of folders is, from the top: label once, session, user or -")


def _groups_of_folders(folders: Sequence[str], options: ReadOptions) -> dict[str, str] | str:
    """Return what the folders above a file say, or why they say nothing."""
    levels = options.levels
    if not levels and options.label is not None and len(folders) <= 1:
        levels = ("session",) * len(folders)  # the label is given
        return dict(zip(levels, folders, strict=True))
    if not levels and len(folders) in (1, 2):
        levels = ("label", "session")[: len(folders)]
    if not levels:
        return _NO_LABEL
    if len(folders) != len(levels):
        return f"is not in {len(levels)} levels of folders, {'/'.join(levels)}"
    groups: dict[str, str] = {}
    for level, folder in zip(levels, folders, strict=True):
        if level != "-":
            groups[level] = f"{groups[level]}-{folder}" if level in groups else folder
    return groups


def _read_background(findings: Findings) -> None:
    """Give samples of folders that are named as background is elsewhere the label of background, and say so."""
    named = {sample.label for sample in findings.samples if sample.label.casefold() in BACKGROUND_FOLDERS}
    findings.samples = [
        replace(sample, label=BACKGROUND) if sample.label in named else sample for sample in findings.samples
    ]
    if named:
        listed = list_names(sorted(named), 4)
        findings.notes.append(f"read as background, which is never an answer: the folders {listed}")


def _suggest_pattern(findings: Findings) -> None:
    """Where no folder names a label, but files do (`drink_01.wav`) or one of several levels, say how to read them."""
    lost = [name for name, reason in findings.skipped if reason == _NO_LABEL]
    depths = {name.count("/") for name in lost}
    if lost and not findings.samples and min(depths) > 2:
        example = {3: "user/session/label"}.get(min(depths), "/".join(["-"] * (min(depths) - 1) + ["label"]))
        reason = f"lies in {min(depths)} levels of folders; say what each is, such as --levels {example}"
        findings.skipped = [(name, reason if why == _NO_LABEL else why) for name, why in findings.skipped]
        return
    matches = [_NUMBERED.fullmatch(Path(name).name) for name in lost]
    labels = sorted({match["label"] for match in matches if match})
    if findings.samples or len(labels) < 2 or not all(matches):
        return
    reason = f"{_NO_LABEL}; if its name does ({list_names(labels, 4)}), give --pattern '{_NUMBERED.pattern}'"
    findings.skipped = [(name, reason if why == _NO_LABEL else why) for name, why in findings.skipped]


def _note_lost_folders(folder: Path, findings: Findings) -> None:
    """Name the top folders of which no file became a sample: each is probably a label that is lost."""
    used = {sample.name.split("/")[0] for sample in findings.samples}
    faulty = {fault.path for fault in findings.faults}
    reasons: dict[str, Counter[str]] = defaultdict(Counter)
    for name, reason in findings.skipped:
        reasons[name.split("/")[0]][reason] += 1
    for entry in sorted(folder.iterdir()):
        if entry.name[0] == "." or entry.name in used or not entry.is_dir():
            continue
        if any(path.startswith(f"{entry}/") for path in faulty):
            continue
        why = "; ".join(f"{count} x {reason}" for reason, count in reasons[entry.name].most_common(2))
        why = why or ("it is a symbolic link; copy the folder here" if entry.is_symlink() else "the folder is empty")
        findings.notes.append(f"warning: '{entry.name}' has no sample: {why}")


def _doubt_structure(folder: Path, findings: Findings) -> None:
    """Add doubts for folders that are probably no labels."""
    by_top: dict[str, list[RawSample]] = defaultdict(list)
    for sample in findings.samples:
        by_top[sample.name.split("/")[0]].append(sample)
    if not by_top:
        return
    second = {sample.session for sample in findings.samples if sample.session is not None}
    listed = list_names(sorted(by_top), 5)
    confirm = "or give --levels label/session if they are labels all the same" if second else "or give --levels label"
    if all(map(names.looks_like_kind, by_top)):
        instead = "give --levels -/label" if second else "give --label NAME, or the file that lists the labels"
        reason = f"the top folder is called after its files and not after a label ({listed}); {instead}, {confirm}"
        findings.doubts.append(Fault(str(folder), None, "label", reason))
    splits = [name for name in by_top if name.lower() in names.SPLITS]
    if splits and len(splits) >= len(by_top) - 1:
        below = "-/label" if second else "-"
        reason = f"the folders {listed} are parts of a data set and no labels; give --levels {below}, {confirm}"
        findings.doubts.append(Fault(str(folder), None, "label", reason))
    elif (
        len(by_top) > 1
        and all(map(names.looks_like_session, by_top))
        and not (second and all(map(names.looks_like_session, second)))
    ):
        instead = "give --levels session/label" if second else "give --label NAME"
        reason = f"the folders {listed} look like sessions and not like labels; {instead}, {confirm}"
        findings.doubts.append(Fault(str(folder), None, "label", reason))
    elif len(by_top) > 1 and not all(map(names.looks_like_session, second)) and _crossed(by_top.values()):
        reason = (
            f"the folders {listed} and those in them ({list_names(sorted(filter(None, second)), 5)}) cross each other: "
            "say which are labels, with --levels label/session or --levels session/label"
        )
        findings.doubts.append(Fault(str(folder), None, "label", reason))
    film = _film(findings.samples)
    if film is not None:
        reason = f"the numbered pictures in {film} look like frames of one film, and not like samples of their own"
        findings.doubts.append(Fault(str(folder), None, "(file)", f"{reason}; import the film"))


def _crossed(by_top: Iterable[Sequence[RawSample]]) -> bool:
    """Return whether there are several inner folders, and each is in several top folders: either may be the labels."""
    inner = Counter(name for samples in by_top for name in {sample.session for sample in samples})
    return None not in inner and len(inner) > 1 and min(inner.values()) > 1


def _film(samples: Sequence[RawSample]) -> str | None:
    """Return a folder with many pictures that are numbered frames, where most folders have such; None without one."""
    folders: Mapping[str, list[str]] = defaultdict(list)
    for sample in samples:
        folders[sample.name.rpartition("/")[0]].append(Path(sample.name).stem)
    films = [
        name for name, stems in folders.items()
        if len(stems) >= _FEWEST_FRAMES and all(_FRAME.fullmatch(stem) for stem in stems)
        and stems[0].lower().startswith("frame")
    ]  # fmt: skip
    return films[0] if films and len(films) > len(folders) / 2 else None


def with_sessions_from_names(findings: Findings) -> Findings:
    """Give samples named as in Speech Commands, `<speaker>_nohash_<n>`, their speaker as session."""
    speaker = re.compile(r"([0-9a-f]{8})_nohash_\d+")
    matches = [speaker.fullmatch(Path(sample.name).stem) for sample in findings.samples]
    if matches and all(matches) and all(sample.session is None for sample in findings.samples):
        findings.samples = [
            replace(sample, session=match.group(1))
            for sample, match in zip(findings.samples, matches, strict=True)
            if match
        ]
        findings.notes.append("read as: Speech Commands; a speaker is a session")
    return findings
