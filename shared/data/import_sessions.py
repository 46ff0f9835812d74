"""Samples -> session folders of our own layout: split into sessions, with stable record ids, nothing written twice."""

from __future__ import annotations

import errno
import hashlib
import re
import uuid
from collections import Counter, defaultdict
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from model_registry.names import InvalidNameError, Modality, parse_name
from model_registry.storage.tombstones import refuse_erased
from shared.data.feature_files import features_bytes
from shared.data.files import DataRoot, RefusedFileError, sha256_of
from shared.data.import_sources import (
    JSON_SUFFIXES,
    TABLE_SUFFIXES,
    Columns,
    Findings,
    RawSample,
    find_files,
    natural,
    read_json,
    read_labels,
    read_table,
    rename_labels,
)
from shared.data.own_layout import is_own, read_own
from shared.data.records import Record
from shared.data.session_writer import Addition, file_of, write_session, writing
from shared.errors import ConfigError, DataError, Fault
from shared.progress import Progress, silent
from shared.schema_faults import faults_of
from shared.schema_utils import Example, FeaturesRef, FileRef, LabelStatus, SessionMetadata

_RECORDS = uuid.UUID("5b0c2d1e-8a44-5f0e-9d53-6d6f64656c74")  # the same sample gets the same record id everywhere


@dataclass(frozen=True)
class SessionSplit:
    """How samples that name no session are split into some; one of these is set, or none: one session."""

    size: int | None = None  # takes of each label in one session
    blocks: int | None = None  # sessions, each a contiguous part of each label's samples
    round_robin: int | None = None  # sessions, over which each label's samples are distributed in turn
    name: str | None = None  # everything in this one session


@dataclass(frozen=True)
class Origin:
    """What the person who imports says about all samples."""

    modality: Modality
    consent: bool
    performer: str | None = None
    labeler: str | None = None
    label_status: LabelStatus = "confirmed"
    demo: bool = False
    encoding: str | None = None


@dataclass(frozen=True)
class Mode:
    """How the data root may be changed."""

    link: bool = False  # hard links instead of copies
    replace: bool = False  # existing records with other contents are replaced instead of refused


@dataclass(frozen=True)
class Summary:
    """What an import did: samples by (user, session, label), and how many of them existed already."""

    counts: Mapping[tuple[str, str, str], int]
    new: int
    unchanged: int
    replaced: int


def find_samples(
    source: Path,
    *,
    pattern: str | None = None,
    columns: Columns | None = None,
    splits: Sequence[str] = (),
    frame_size: int | None = None,
    labels: Path | None = None,
) -> Findings:
    """Find the samples in a folder, table or JSON file; raises ConfigError for a source of another kind."""
    columns = columns or Columns()
    suffix = source.suffix.lower()
    if source.is_dir():
        findings = find_files(source, pattern)
    elif suffix in TABLE_SUFFIXES:
        findings = read_table(source, columns, frame_size)
    elif suffix in JSON_SUFFIXES:
        findings = read_json(source, columns, splits, frame_size)
    else:
        raise ConfigError(f"{source}: must be a folder, or a .csv, .tsv, .json or .jsonl file")
    return rename_labels(findings, read_labels(labels), labels) if labels is not None else findings


def assign(
    findings: Findings, user: str | None, split: SessionSplit, limit: int | None
) -> tuple[list[RawSample], list[Fault]]:
    """Return the samples, each with its user and session, and every fault found so far.

    A sample has a fault where it has no user, or its user's or session's name cannot be a folder's.
    """
    faults = list(findings.faults)
    groups: dict[str, list[RawSample]] = defaultdict(list)
    for sample in findings.samples:
        owner = sample.user or user
        field = "user_id"
        try:
            if owner is None:
                raise InvalidNameError("no user: name one with --user, or with a group (?P<user>…) in --pattern")
            parse_name(owner, "user id")
            if sample.session is not None:
                field = "session_id"
                parse_name(sample.session, "session id")
        except InvalidNameError as refused:
            faults.append(Fault(sample.path, sample.line, field, str(refused)))
            continue
        groups[owner].append(replace(sample, user=owner))
    placed = [sample for _, mine in sorted(groups.items()) for sample in _in_sessions(_limited(mine, limit), split)]
    return placed, faults


def import_samples(
    root: Path,
    samples: Sequence[RawSample],
    origin: Origin,
    mode: Mode,
    *,
    known_faults: Sequence[Fault] = (),
    note: str = "",
    progress: Progress = silent,
) -> Summary:
    """Write the samples into the data root, session by session, and return what was done.

    Samples that exist already are left as they are, so importing again changes nothing. Raises DataError, before
    anything is written, for `known_faults`, for samples that cannot be written, and for those that exist with
    another label, session or consent, unless `mode.replace` is set. Raises ConfigError where the data root cannot be
    written.
    """
    faults = list(known_faults)
    additions = [
        (sample, addition)
        for sample in progress(samples, "reading")
        if (addition := _addition(sample, origin, faults)) is not None
    ]
    if faults:
        raise DataError(dict.fromkeys(faults))

    def described(user: str, session: str, mine: Sequence[Addition]) -> SessionMetadata:
        return _metadata(user, session, mine, origin, note)

    try:
        with writing(root):
            refuse_erased(root, sorted({addition.example.user_id for _, addition in additions}))
            existing = _existing(root, sorted({addition.example.user_id for _, addition in additions}))
            new, replaced = _plan(additions, existing, mode)
            _write(root, existing, new, replaced, described, mode, progress)
    except OSError as error:
        hint = "; files on another file system cannot be linked: leave --link out" if error.errno == errno.EXDEV else ""
        raise ConfigError(f"--data {root}: cannot be written: {error.strerror or error}{hint}") from None
    added = sum(map(len, new.values()))
    return Summary(
        counts=Counter((*_session(addition.example), addition.example.label) for _, addition in additions),
        new=added - len(replaced),
        unchanged=len(additions) - added,
        replaced=len(replaced),
    )


def _plan(
    additions: Sequence[tuple[RawSample, Addition]], existing: Mapping[tuple[str, str], Record], mode: Mode
) -> tuple[dict[tuple[str, str], list[Addition]], set[tuple[str, str]]]:
    """Return what is to be written in each session, and which existing records it replaces."""
    faults: list[Fault] = []
    new: dict[tuple[str, str], list[Addition]] = defaultdict(list)
    replaced: set[tuple[str, str]] = set()
    for sample, addition in additions:
        example = addition.example
        known = existing.get((example.user_id, example.record_id))
        difference = _difference(known.example, example) if known is not None else ()
        if known is not None and not difference:
            continue
        if known is not None and not mode.replace:
            reason = f"exists at {known.path}:{known.line} with another {', '.join(difference)}; --replace changes it"
            faults.append(Fault(sample.path, sample.line, "record_id", reason))
            continue
        if known is not None:
            replaced.add((example.user_id, example.record_id))
        new[_session(example)].append(addition)
    if faults:
        raise DataError(faults)
    return new, replaced


def _write(
    root: Path,
    existing: Mapping[tuple[str, str], Record],
    new: Mapping[tuple[str, str], Sequence[Addition]],
    replaced: Collection[tuple[str, str]],
    metadata: Callable[[str, str, Sequence[Addition]], SessionMetadata],
    mode: Mode,
    progress: Progress,
) -> None:
    kept: dict[tuple[str, str], list[Example]] = defaultdict(list)
    for key, record in existing.items():
        if key not in replaced:
            kept[_session(record.example)].append(record.example)
    # A session that loses a record is written first, so that no reader finds the record in two sessions.
    losing = sorted({_session(existing[key].example) for key in replaced} - new.keys())
    for user, session in progress([*losing, *sorted(new)], "writing"):
        mine = new.get((user, session), [])
        write_session(root, metadata(user, session, mine), kept[user, session], mine, link=mode.link)
    _remove_files([existing[key] for key in replaced], new, kept)


def _remove_files(
    replaced: Sequence[Record],
    new: Mapping[tuple[str, str], Sequence[Addition]],
    kept: Mapping[tuple[str, str], Sequence[Example]],
) -> None:
    """Remove the files of replaced records that no record of their session refers to any more."""
    for session in {_session(record.example) for record in replaced}:
        examples = [*kept.get(session, ()), *(addition.example for addition in new.get(session, ()))]
        used = {file_of(example) for example in examples}
        for record in replaced:
            if _session(record.example) == session and file_of(record.example) not in used and record.file is not None:
                record.file.unlink(missing_ok=True)


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
    ordered = samples if numbered or split.size is None else sorted(samples, key=lambda sample: natural(sample.name))
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
        else:
            session = split.name or "session-01"
        placed.append(replace(sample, session=session))
    return placed


def _addition(sample: RawSample, origin: Origin, faults: list[Fault]) -> Addition | None:
    """Return the example of a sample and the content of its file."""
    content: Path | bytes | None = None
    kind: dict[str, Any] = {}
    try:
        if isinstance(sample.content, str):
            digest = hashlib.sha256(sample.content.encode()).hexdigest()
            kind = {"transcript": sample.content}
        elif isinstance(sample.content, Path):
            content, digest = sample.content, sha256_of(sample.content)
            stem = re.sub(r"[^A-Za-z0-9_-]+", "_", sample.content.stem)[:60].strip("_") or "sample"
            path = f"media/{stem}-{digest[:8]}{sample.content.suffix.lower()}"
            kind = {"media": FileRef(path=path, sha256=digest)}
        else:
            content = features_bytes(sample.content)
            digest = hashlib.sha256(content).hexdigest()
        record_id = str(uuid.uuid5(_RECORDS, f"{sample.user}\n{origin.modality}\n{sample.name}\n{digest}"))
        if isinstance(content, bytes) and not isinstance(sample.content, str | Path):
            kind = {
                "features": FeaturesRef(
                    uri=f"features/{record_id}.npz",
                    hash=f"sha256:{digest}",
                    encoding=origin.encoding or f"vector_{sample.content.shape[1]}_v1",
                    shape=(sample.content.shape[0], sample.content.shape[1]),
                )
            }
        example = Example(
            record_id=record_id,
            user_id=sample.user or "",
            session_id=sample.session or "",
            timestamp=datetime.fromtimestamp(int(Path(sample.path).stat().st_mtime), UTC),
            modality=origin.modality,
            label=sample.label,
            label_status=origin.label_status,
            performer_id=origin.performer,
            consent_given=origin.consent,
            is_demo=origin.demo,
            **kind,
        )
    except ValidationError as error:
        faults.extend(faults_of(error, Example, sample.path, sample.line))
    except (RefusedFileError, OSError) as error:
        faults.append(Fault(sample.path, sample.line, "(file)", str(error)))
    else:
        return Addition(example, content)
    return None


def _existing(root: Path, users: Iterable[str]) -> dict[tuple[str, str], Record]:
    """Return the records that the users have already; raises DataError where those cannot be read."""
    data_root = DataRoot.at(root)
    existing: dict[tuple[str, str], Record] = {}
    faults: list[Fault] = []
    for user in users:
        if is_own(root, user):
            reading = read_own(data_root, user, None)
            faults += reading.faults
            existing.update({(user, record.example.record_id): record for record in reading.records})
    if faults:
        raise DataError(faults)
    return existing


def _session(example: Example) -> tuple[str, str]:
    return example.user_id, example.session_id


def _difference(known: Example, new: Example) -> list[str]:
    """Return the fields in which two examples differ, the time aside: copying a file changes its time."""
    names = (name for name in Example.model_fields if name != "timestamp")
    return [name for name in names if getattr(known, name) != getattr(new, name)]


def _metadata(user: str, session: str, additions: Sequence[Addition], origin: Origin, note: str) -> SessionMetadata:
    times = [addition.example.timestamp for addition in additions]
    return SessionMetadata(
        user_id=user,
        session_id=session,
        start_time=min(times, default=None),
        end_time=max(times, default=None),
        labeler_id=origin.labeler,
        performer_id=origin.performer,
        notes=note or None,
    )
