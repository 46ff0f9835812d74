"""Annotations of one long recording, as Audacity, ELAN and Praat export them -> its regions with their labels."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from pathlib import Path

from shared.data.files import RefusedFileError, read_bounded
from shared.data.formats.raw import Findings, RawSample, ReadOptions
from shared.data.formats.text_files import read_text
from shared.data.media_types import MEDIA_TYPES
from shared.errors import ConfigError, Fault

Region = tuple[int | None, float, float, str]  # line, onset and offset (s), label
PRAAT_SUFFIX, ELAN_SUFFIX = ".textgrid", ".eaf"
_LIMIT = 64 * 1024**2  # bytes of a file of ELAN's
_CLOCK = re.compile(r"(?:(\d+):)?(\d{1,2}):(\d{1,2}(?:[.,]\d+)?)")


def regions(text: str) -> list[Region] | None:
    """Return the regions in an export of labels, or None where a text is no such export.

    Understood are Audacity's label tracks (onset, offset, label) and ELAN's tab-separated text (tier, times,
    annotation).
    """
    found: list[Region] = []
    for number, line in enumerate(text.splitlines(), 1):
        if not line.strip() or line.startswith("\\"):  # Audacity's lines of frequencies
            continue
        cells = line.split("\t")
        times = [(k, seconds) for k, cell in enumerate(cells) if (seconds := parse_seconds(cell)) is not None]
        if len(times) < 2 or len(cells) < 3:
            return None
        words = [cell.strip() for k, cell in enumerate(cells) if k not in {k for k, _ in times} and cell.strip()]
        label = words[-1] if words else ""  # ELAN's tier stands first
        found.append((number, times[0][1], times[1][1], label))
    return found or None


def read_annotations(path: Path, options: ReadOptions) -> Findings:
    """Read the labelled regions of the recording that `options.media` names, or that lies beside under the same name.

    Raises ConfigError where there is no such recording.
    """
    recording = recording_of(path, options)
    if recording is None:
        raise ConfigError(f"{path}: these are annotations of a recording; name it with --media FILE")
    findings = Findings(notes=[f"read as: regions of {recording.name}"])
    try:
        found = list(_regions_in(path))
    except RefusedFileError as refused:
        findings.faults.append(Fault(str(path), None, "(file)", str(refused)))
        return findings
    for line, onset, offset, label in found:
        if not label:
            place = path.name if line is None else f"{path.name}:{line}"
            findings.skipped.append((place, "is a region without a label"))
        elif offset <= onset:
            reason = f"'{label}' is a moment ({onset:g} s) and no region; give it an end"
            findings.faults.append(Fault(str(path), line, "offset", reason))
        else:
            findings.samples.append(
                RawSample(str(path), line, label, recording, onset=onset, offset=offset, name=f"{onset:012.3f}")
            )
    return findings


def _regions_in(path: Path) -> Iterable[Region]:
    """Return the regions in a file of annotations. Raises RefusedFileError."""
    suffix = path.suffix.lower()
    if suffix == PRAAT_SUFFIX:
        return _intervals(path)
    return _elan_annotations(path) if suffix == ELAN_SUFFIX else regions(read_text(path).text) or []


def recording_of(path: Path, options: ReadOptions) -> Path | None:
    """Return the recording that annotations are about: that of `--media`, or the one in their folder; None without."""
    return options.media if options.media is not None and options.media.is_file() else _beside(path)


def _beside(path: Path) -> Path | None:
    found = [
        other
        for other in sorted(path.parent.iterdir())
        if other.stem == path.stem and other.suffix.lower() in MEDIA_TYPES
    ]
    return found[0] if len(found) == 1 else None


def parse_seconds(cell: str) -> float | None:
    """Return a time in seconds: `90.5`, `90,5`, `1:30.5`, `0:01:30.5`; None for anything else."""
    text = cell.strip()
    if match := _CLOCK.fullmatch(text):
        hours, minutes, seconds = match.groups()
        return 3600 * int(hours or 0) + 60 * int(minutes) + float(seconds.replace(",", "."))
    if re.fullmatch(r"\d+[.,]\d+|\d+", text):
        return float(text.replace(",", "."))
    return None


def _intervals(path: Path) -> Iterator[Region]:
    """Yield the labelled intervals of Praat's TextGrid. Raises RefusedFileError."""
    from praatio import textgrid
    from praatio.utilities.constants import Interval
    from praatio.utilities.errors import PraatioException

    try:
        grid = textgrid.openTextgrid(str(path), includeEmptyIntervals=False, reportingMode="silence")
    except (PraatioException, ValueError, IndexError, OSError, AttributeError):
        raise RefusedFileError("is not a readable TextGrid; save it again in Praat") from None
    for entry in (entry for tier in grid.tiers for entry in tier.entries):
        if isinstance(entry, Interval):
            yield None, entry.start, entry.end, entry.label.strip()


def _elan_annotations(path: Path) -> Iterator[Region]:
    """Yield the annotations in ELAN's own format that have times of their own. Raises RefusedFileError."""
    from pympi import Eaf

    read_bounded(path, _LIMIT)
    try:
        document = Eaf(str(path.absolute()), suppress_version_warning=True)
        tiers = [document.tiers[name][0].values() for name in document.get_tier_names()]
        times = {name: time for name, time in document.timeslots.items() if time is not None}
        found = [(times[start], times[end], text) for tier in tiers for start, end, text, _ in tier]
    except Exception:  # pympi raises Exception itself, and KeyError and others for what it expects in a file
        raise RefusedFileError("is not a readable file of ELAN's; save it again in ELAN") from None
    for start, end, text in sorted(found):
        yield None, start / 1000, end / 1000, text.strip()
