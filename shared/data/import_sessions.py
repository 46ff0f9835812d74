"""What a source holds -> samples with a user and a session each; nothing is written yet."""

from __future__ import annotations

import hashlib
import re
from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from model_registry.messages import list_names
from model_registry.names import InvalidNameError, parse_name
from shared.data.formats.labels import clean_labels, doubt_labels, name_labels, read_labels, rename
from shared.data.formats.raw import Findings, RawSample, ReadOptions
from shared.data.formats.registry import read_source
from shared.data.formats.walking import natural
from shared.data.media.recorded import recorded_day
from shared.errors import Fault

_FEWEST_NUMBERS = 4  # of a sample, from which all being the same is no chance
_FEWEST_SESSIONS = 5  # of one sample each, that are probably no sessions
_SAFE_LENGTH = 40  # characters of a session's name that are kept in the id that is made of it


@dataclass(frozen=True)
class SessionSplit:
    """How samples that name no session are split into some; one of these is set, or none: one session."""

    size: int | None = None  # takes of each label in one session
    blocks: int | None = None  # sessions, each a contiguous part of each label's samples
    round_robin: int | None = None  # sessions, over which each label's samples are distributed in turn
    name: str | None = None  # everything in this one session
    by_day: bool = False  # a day of recording is a session


def find_samples(
    source: Path,
    options: ReadOptions | None = None,
    *,
    labels: Path | None = None,
    renamed: Mapping[str, str] | None = None,
) -> Findings:
    """Find the samples in a folder or a file; raises ConfigError for a source of no known kind."""
    findings = read_source(source, options or ReadOptions())
    clean_labels(findings)
    if labels is not None:
        name_labels(findings, read_labels(labels), labels)
    if renamed:
        rename(findings, renamed)
    if options is not None and "features" not in options.accepts:
        _refuse_numbers(findings, options)
    doubt_labels(findings, source)
    _note_constant(findings)
    _doubt_widths(findings, source)
    _doubt_sessions(findings, source)
    return findings


def _note_constant(findings: Findings) -> None:
    """Warn of samples with equal numbers throughout, as an extractor writes them when it finds nothing."""
    constant = [s for s in findings.samples if isinstance(s.content, np.ndarray) and s.content.size >= _FEWEST_NUMBERS
                and s.content.min() == s.content.max()]  # fmt: skip
    if constant:
        first = constant[0]
        place = first.name or (first.path if first.line is None else f"{first.path}:{first.line}")
        findings.notes.append(
            f"warning: {len(constant)} of {len(findings.samples)} samples hold one number only, such as {place}; what "
            "was to be measured was probably not found: leave them out"
        )


def _doubt_sessions(findings: Findings, source: Path) -> None:
    """Add a doubt where each sample names a session of its own, as a time or an id in its place does."""
    named = Counter((sample.user, sample.session) for sample in findings.samples if sample.session is not None)
    if len(named) >= _FEWEST_SESSIONS and len(named) == len(findings.samples):
        listed = list_names([str(session) for _, session in named], 3)
        reason = f"each of the {len(named)} samples has a session of its own ({listed}); is this a time or an id?"
        findings.doubts.append(Fault(str(source), None, "session", reason))


def _doubt_widths(findings: Findings, source: Path) -> None:
    """Add a doubt where frames have different widths: a model takes one."""
    widths = Counter(width for sample in findings.samples if (width := _width(sample)) is not None)
    if len(widths) < 2:
        return
    first = {width: next(s for s in findings.samples if _width(s) == width) for width in widths}
    counts = "; ".join(
        f"{count} with {width} numbers a frame ({first[width].name or first[width].path})"
        for width, count in widths.most_common(4)
    )
    reason = f"a model takes frames of one width, and here are {counts}; import them apart, or leave some out"
    findings.doubts.append(Fault(str(source), None, "features", reason))


def _width(sample: RawSample) -> int | None:
    return sample.content.shape[1] if isinstance(sample.content, np.ndarray) else None


def _refuse_numbers(findings: Findings, options: ReadOptions) -> None:
    numbers = [sample for sample in findings.samples if isinstance(sample.content, np.ndarray)]
    if numbers:
        reason = (
            f"{len(numbers)} samples are numbers, but this modality takes {' and '.join(sorted(options.accepts))}; "
        )
        reason += "ready-made features need --encoding NAME"
        findings.faults.append(Fault(numbers[0].path, numbers[0].line, "(samples)", reason))


def assign(
    findings: Findings, user: str | None, split: SessionSplit, limit: int | None
) -> tuple[list[RawSample], list[Fault]]:
    """Return the samples, each with its user and session, and every fault found so far.

    A sample has a fault where it has no user, or its user's name cannot be a folder's. A session's name that cannot
    be a folder's becomes a safe id, and is kept as `session_name`.
    """
    faults = list(findings.faults)
    groups: dict[str, list[RawSample]] = defaultdict(list)
    renamed: dict[str, str] = {}
    refused_owners: set[str | None] = set()
    for sample in findings.samples:
        owner = sample.user or user
        try:
            if owner is None:
                raise InvalidNameError("no user: name one with --user, or with a group (?P<user>…) in --pattern")
            parse_name(owner, "user id")
        except InvalidNameError as refused:
            if owner not in refused_owners:  # said once for all of its samples
                faults.append(Fault(sample.path, sample.line, "user_id", str(refused)))
            refused_owners.add(owner)
            continue
        groups[owner].append(replace(sample, user=owner, **_session(sample, renamed)))
    if renamed:
        shown = [f"{name[:40]!r} is {safe}" for name, safe in renamed.items()]
        findings.notes.append(f"sessions under safe ids: {list_names(shown, 3)}")
    placed = [sample for _, mine in sorted(groups.items()) for sample in _in_sessions(_limited(mine, limit), split)]
    return placed, faults


def safe_session(name: str) -> str:
    """Return the session id for a name: itself where it can be one, otherwise its letters and digits with a hash."""
    try:
        return parse_name(name, "session id")
    except InvalidNameError:
        digest = hashlib.sha256(name.encode()).hexdigest()[:8]
        kept = re.sub(r"[^A-Za-z0-9]+", "-", name)[:_SAFE_LENGTH].strip("-")
        return f"{kept}-{digest}" if kept else f"session-{digest}"


def _session(sample: RawSample, renamed: dict[str, str]) -> dict[str, Any]:
    if sample.session is None:
        return {}
    safe = safe_session(sample.session)
    if safe == sample.session:
        return {"session_given": True}
    renamed[sample.session] = safe
    return {"session": safe, "session_name": sample.session, "session_given": True}


def _day(sample: RawSample) -> str:
    if sample.recorded is not None:
        return f"{sample.recorded.astimezone():%Y-%m-%d}"
    return recorded_day(sample.content if isinstance(sample.content, Path) else Path(sample.path))


def _limited(samples: Sequence[RawSample], limit: int | None) -> list[RawSample]:
    """Return at most `limit` samples, shared out evenly over the labels and evenly over each label's samples."""
    if limit is None or len(samples) <= limit:
        return list(samples)
    by_label: dict[str, list[int]] = defaultdict(list)
    for index, sample in enumerate(samples):
        by_label[sample.label].append(index)
    chosen: list[int] = []
    left = limit
    for position, indices in enumerate(sorted(by_label.values(), key=len)):
        share = min(len(indices), -(-left // (len(by_label) - position)))
        chosen += [indices[step * len(indices) // share] for step in range(share)]
        left -= share
    return [samples[index] for index in sorted(chosen)]


def _in_sessions(samples: Sequence[RawSample], split: SessionSplit) -> list[RawSample]:
    """Return one user's samples, each in a session."""
    takes = [int(sample.take) for sample in samples if sample.take is not None and sample.take.isdecimal()]
    first = min(takes, default=0)
    numbered = len(takes) == len(samples)
    sizes = Counter(sample.label for sample in samples)
    ranks: Counter[str] = Counter()
    placed = []
    ordered = (
        samples
        if numbered or split.size is None
        else sorted(samples, key=lambda sample: natural(sample.name or Path(sample.path).name))
    )
    for sample in ordered:
        rank = ranks[sample.label]
        ranks[sample.label] += 1
        if sample.session is not None:
            session = sample.session
        elif split.size is not None:
            number = (int(sample.take or 0) - first if numbered else rank) // split.size
            session = f"session-{number + 1:02d}"
        elif split.blocks is not None:
            session = f"session-{rank * split.blocks // sizes[sample.label] + 1:02d}"
        elif split.round_robin is not None:
            session = f"session-{rank % split.round_robin + 1:02d}"
        elif split.by_day:
            session = _day(sample)
        else:
            session = split.name or "session-01"
        given = sample.session_given or split.name is not None
        placed.append(replace(sample, session=session, session_given=given))
    return placed
