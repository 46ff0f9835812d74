"""Samples -> session folders of a data root: what is there is known by its content, nothing is written twice."""

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

from model_registry.names import Modality
from model_registry.storage.tombstones import refuse_erased
from shared.data.changes import complete_begun, new_change_id, note_import
from shared.data.feature_files import features_bytes
from shared.data.files import DataRoot, RefusedFileError, sha256_of
from shared.data.formats.raw import RawSample
from shared.data.identity import content_of, contradicting, repeated_under_two_labels, text_sha256
from shared.data.media.partial import whole_seconds
from shared.data.own_layout import is_own, read_own
from shared.data.records import Record
from shared.data.session_writer import Addition, file_of, write_session, writing
from shared.errors import ConfigError, DataError, Fault
from shared.progress import Progress, silent
from shared.schema_faults import faults_of
from shared.schema_utils import Example, FeaturesRef, FileRef, LabelStatus, SessionMetadata

_RECORDS = uuid.UUID("5b0c2d1e-8a44-5f0e-9d53-6d6f64656c74")  # the same sample gets the same record id everywhere

_SPARE_SECONDS = 0.05  # before the end of what is whole: players and decoders differ by as much
UNUSABLE = "unusable"  # files that cannot be decoded
CONTRADICTIONS = "contradictions"  # files that stand under two labels
# Decodes files: for each, why it cannot be used (None where it can) and what should be known of it.
CheckFiles = Callable[[Sequence[tuple[Path, Example]]], Sequence[tuple[str | None, Sequence[str]]]]

_Key = tuple[str, Modality, str]  # user, modality, content


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
    replace: bool = False  # existing records with another label, session or consent are replaced, not refused
    leave_out: frozenset[str] = frozenset()  # of UNUSABLE and CONTRADICTIONS
    dry_run: bool = False  # nothing is written
    use_partial: bool = False  # of files that were cut short, the part that is whole


@dataclass(frozen=True)
class Summary:
    """What an import did: samples by (user, session, label), and how many of them existed already."""

    counts: Mapping[tuple[str, str, str], int]
    new: int
    unchanged: int
    replaced: int
    change: str | None = None  # the id under which it can be undone
    encodings: tuple[str, ...] = ()  # of ready-made features, with their shapes
    left_out: tuple[str, ...] = ()  # files that were not imported, with the reason
    warnings: tuple[Fault, ...] = ()
    record_ids: tuple[str, ...] = ()  # of the samples that were imported, in their order


@dataclass(frozen=True)
class _Prepared:
    """One sample with the example that it becomes; `known` is the record of its content that exists already."""

    sample: RawSample
    addition: Addition
    known: Record | None = None


@dataclass(frozen=True)
class _Plan:
    """What is to be written in each session, and which existing records it replaces."""

    new: Mapping[tuple[str, str], Sequence[Addition]]
    replaced: tuple[Record, ...]


def import_samples(
    root: Path,
    samples: Sequence[RawSample],
    origin: Origin,
    mode: Mode,
    *,
    known_faults: Sequence[Fault] = (),
    note: str = "",
    check: CheckFiles | None = None,
    progress: Progress = silent,
) -> Summary:
    """Write the samples into the data root, session by session, and return what was done.

    A sample is known by its content: one that exists already is left as it is, so importing again changes nothing,
    wherever the source lies and whatever its files are called. With `mode.dry_run` nothing is written.

    Raises DataError, before anything is written, for `known_faults`, for samples that cannot be written, for files
    that cannot be decoded (by `check`) or stand under two labels, unless these are left out, and for those that exist
    with another label, session or consent, unless `mode.replace` is set. Raises ConfigError where the data root cannot
    be written.
    """
    faults = list(known_faults)
    prepared = [
        _Prepared(sample, addition)
        for sample in progress(samples, "reading")
        if (addition := _addition(sample, origin, faults)) is not None
    ]
    warnings: list[Fault] = []
    unusable: list[str] = []
    if check is not None and not faults:
        prepared, refused = _checked(prepared, check, warnings, mode.use_partial)
        if UNUSABLE in mode.leave_out:
            unusable = [str(fault) for fault in refused]
        else:
            faults += refused
    contradicted = _contradictions(prepared)
    if CONTRADICTIONS in mode.leave_out:
        doubled = {content_of(entry.addition.example) for entry, _ in contradicted}
        left_out = [entry for entry in prepared if content_of(entry.addition.example) in doubled]
        prepared = [entry for entry in prepared if content_of(entry.addition.example) not in doubled]
    else:
        left_out = []
        faults += [fault for _, fault in contradicted]
    if faults:
        raise DataError(dict.fromkeys(faults))
    warnings += repeated_under_two_labels((entry.addition.example for entry in prepared), _place_of(samples))

    change: str | None = None
    names = {(sample.user, sample.session): sample.session_name for sample in samples if sample.session_name}

    def described(user: str, session: str, mine: Sequence[Addition]) -> SessionMetadata:
        return _metadata(user, session, mine, origin, note, names.get((user, session)))

    try:
        if mode.dry_run:
            existing = _existing(root, prepared) if (root / "users").is_dir() else []
            matched = _matched(prepared, existing)
            planned = _plan(matched, mode)
        else:
            with writing(root):
                users = sorted({entry.addition.example.user_id for entry in prepared})
                refuse_erased(root, users)
                for user in users:
                    complete_begun(root, user)
                existing = _existing(root, prepared)
                matched = _matched(prepared, existing)
                planned = _plan(matched, mode)
                _write(root, existing, planned, described, mode, progress)
                change = _noted(root, planned, note)
    except OSError as error:
        hint = "; files on another file system cannot be linked: leave --link out" if error.errno == errno.EXDEV else ""
        raise ConfigError(f"--data {root}: cannot be written: {error.strerror or error}{hint}") from None
    added = sum(map(len, planned.new.values()))
    return Summary(
        counts=Counter((*_session(entry.addition.example), entry.addition.example.label) for entry in prepared),
        new=added - len(planned.replaced),
        unchanged=len(prepared) - added,
        replaced=len(planned.replaced),
        change=change,
        encodings=_encodings(prepared),
        left_out=(*unusable, *(f"{_source(entry.sample)}: stands under several labels" for entry in left_out)),
        warnings=tuple(warnings),
        record_ids=tuple(entry.addition.example.record_id for entry in matched),
    )


def _checked(
    prepared: Sequence[_Prepared], check: CheckFiles, warnings: list[Fault], use_partial: bool
) -> tuple[list[_Prepared], list[Fault]]:
    """Return the samples that can be used, and a fault for each other; what should be known goes to `warnings`.

    With `use_partial` a refused recording that was cut short is used up to there, if that can be used.
    """
    files = [(entry, entry.sample.content) for entry in prepared if isinstance(entry.sample.content, Path)]
    results = list(check([(path, entry.addition.example) for entry, path in files]))
    if use_partial:
        prepared, files, results = _shortened(prepared, files, results, check)
    faults: dict[int, Fault] = {}
    notes: dict[str, list[RawSample]] = defaultdict(list)
    for (entry, path), (refusal, texts) in zip(files, results, strict=True):
        if refusal is not None:
            reason = refusal if entry.sample.line is None else f"{path.name}: {refusal}"
            remedy = f"--leave-out {UNUSABLE} imports the others"
            if refusal.startswith("is cut") and not use_partial:
                remedy += ", --use-partial takes what is whole of it"
            faults[id(entry)] = Fault(entry.sample.path, entry.sample.line, "(file)", f"{reason}; {remedy}")
        for text in texts:
            notes[text].append(entry.sample)
    for text, samples in notes.items():
        others = f" ({len(samples)} files)" if len(samples) > 1 else ""
        warnings.append(Fault(samples[0].path, samples[0].line, "(file)", text + others))
    return [entry for entry in prepared if id(entry) not in faults], list(faults.values())


_Checked = list[tuple[str | None, Sequence[str]]]


def _shortened(
    prepared: Sequence[_Prepared], files: list[tuple[_Prepared, Path]], results: _Checked, check: CheckFiles
) -> tuple[Sequence[_Prepared], list[tuple[_Prepared, Path]], _Checked]:
    """Return the same, where each refused recording has become its whole part, if that can be used."""
    shorter: dict[int, tuple[_Prepared, float]] = {}
    for number, ((entry, path), (refusal, _)) in enumerate(zip(files, results, strict=True)):
        if refusal is not None and entry.addition.example.offset is None and (seconds := whole_seconds(path)):
            offset = round(seconds - _SPARE_SECONDS, 2)
            if offset > (entry.addition.example.onset or 0.0):
                example = entry.addition.example.model_copy(update={"offset": offset})
                shorter[number] = (replace(entry, addition=replace(entry.addition, example=example)), offset)
    again = check([(files[number][1], entry.addition.example) for number, (entry, _) in shorter.items()])
    swapped: dict[int, _Prepared] = {}
    for (number, (entry, offset)), (refusal, notes) in zip(shorter.items(), again, strict=True):
        if refusal is None:
            swapped[id(files[number][0])] = entry
            files[number] = (entry, files[number][1])
            results[number] = (None, (*notes, f"was cut short: used up to {offset:.2f} s"))
    return [swapped.get(id(entry), entry) for entry in prepared], files, results


def _noted(root: Path, plan: _Plan, source: str) -> str | None:
    """Write down what an import has brought to each user, and return the id under which it can be undone."""
    after: dict[str, list[Example]] = defaultdict(list)
    for (user, _), additions in plan.new.items():
        after[user] += [addition.example for addition in additions]
    if not after:
        return None
    change_id = new_change_id("import")
    for user, examples in after.items():
        before = [record.example for record in plan.replaced if record.example.user_id == user]
        note_import(root, user, change_id, source, before, examples)
    return change_id


def _place_of(samples: Sequence[RawSample]) -> str:
    return samples[0].path if samples else ""


def _encodings(prepared: Sequence[_Prepared]) -> tuple[str, ...]:
    """Return what the ready-made features are: `vector_42_v1, 42 numbers a frame, 1 to 16 frames`."""
    frames: dict[tuple[str, int], list[int]] = defaultdict(list)
    for entry in prepared:
        if (features := entry.addition.example.features) is not None:
            frames[features.encoding, features.shape[1]].append(features.shape[0])
    return tuple(
        f"{encoding}: {width} numbers a frame, {min(lengths)}"
        + (f" to {max(lengths)} frames" if min(lengths) < max(lengths) else f" frame{'s' * (lengths[0] != 1)}")
        for (encoding, width), lengths in sorted(frames.items())
    )


def _contradictions(prepared: Sequence[_Prepared]) -> list[tuple[_Prepared, Fault]]:
    """Return each file that stands under another label than a file of the same content before it, with its fault."""
    named = [(entry.addition.example, _source(entry.sample), entry) for entry in prepared]
    contradicted = []
    for example, first, place, entry in contradicting(named):
        reason = (
            f"the same content is '{first.label}' in {place} and '{example.label}' here; take one of the two away, "
            f"or leave both out with --leave-out {CONTRADICTIONS}"
        )
        contradicted.append((entry, Fault(entry.sample.path, entry.sample.line, "label", reason)))
    return contradicted


def _source(sample: RawSample) -> str:
    return sample.path if sample.line is None else f"{sample.path}:{sample.line}"


def _matched(prepared: Sequence[_Prepared], existing: Sequence[Record]) -> list[_Prepared]:
    """Return the prepared samples, each with the existing record of its content, if there is one.

    A content that occurs several times is matched as often as it exists, in the same session and label first. A text
    whose session the source names is the same only in that session: people say the same words on many days.
    """
    known: dict[_Key, list[Record]] = defaultdict(list)
    for record in existing:
        known[_key(record.example)].append(record)
    taken: set[str] = {record.example.record_id for record in existing}
    matches: dict[int, Record] = {}

    def close(example: Example, other: Example) -> tuple[bool, bool]:
        return example.session_id == other.session_id, example.label == other.label

    for exactness in (2, 1, 0):
        for number, entry in enumerate(prepared):
            example = entry.addition.example
            if number in matches or not (candidates := known.get(_key(example))):
                continue
            if example.transcript is not None and entry.sample.session_given:
                candidates = [record for record in candidates if record.example.session_id == example.session_id]
            same = [record for record in candidates if sum(close(example, record.example)) >= exactness]
            if same:
                matches[number] = same[0]
                known[_key(example)].remove(same[0])
    result = []
    for number, entry in enumerate(prepared):
        match = matches.get(number)
        example = entry.addition.example
        if match is None:
            changes: dict[str, Any] = {"record_id": _free_id(example, taken)}
            taken.add(changes["record_id"])
        else:
            changes = {"record_id": match.example.record_id}
            if not entry.sample.session_given:
                changes["session_id"] = match.example.session_id
        if example.features is not None:
            uri = f"features/{changes['record_id']}.npz"
            changes["features"] = example.features.model_copy(update={"uri": uri})
        addition = replace(entry.addition, example=example.model_copy(update=changes))
        result.append(_Prepared(entry.sample, addition, match))
    return result


def _key(example: Example) -> _Key:
    return example.user_id, example.modality, content_of(example)


def _free_id(example: Example, taken: Collection[str]) -> str:
    """Return a record id for a content, another one for each time that it occurs."""
    occurrence = 0
    while True:
        name = f"{example.user_id}\n{example.modality}\n{content_of(example)}\n{occurrence}"
        record_id = str(uuid.uuid5(_RECORDS, name))
        if record_id not in taken:
            return record_id
        occurrence += 1


def _plan(prepared: Sequence[_Prepared], mode: Mode) -> _Plan:
    """Return what is to be written. Raises DataError for existing records that differ, unless they are replaced."""
    faults: list[Fault] = []
    new: dict[tuple[str, str], list[Addition]] = defaultdict(list)
    replaced: list[Record] = []
    for entry in prepared:
        example, known = entry.addition.example, entry.known
        difference = _difference(known.example, example) if known is not None else ()
        if known is not None and not difference:
            continue
        if known is not None and not mode.replace:
            reason = f"exists at {known.path}:{known.line} with another {', '.join(difference)}; --replace changes it"
            faults.append(Fault(entry.sample.path, entry.sample.line, "record_id", reason))
            continue
        if known is not None:
            replaced.append(known)
        new[_session(example)].append(entry.addition)
    if faults:
        raise DataError(faults)
    return _Plan(new, tuple(replaced))


def _write(
    root: Path,
    existing: Sequence[Record],
    plan: _Plan,
    metadata: Callable[[str, str, Sequence[Addition]], SessionMetadata],
    mode: Mode,
    progress: Progress,
) -> None:
    gone = {(record.example.user_id, record.example.record_id) for record in plan.replaced}
    kept: dict[tuple[str, str], list[Example]] = defaultdict(list)
    for record in existing:
        if (record.example.user_id, record.example.record_id) not in gone:
            kept[_session(record.example)].append(record.example)
    # A session that loses a record is written first, so that no reader finds the record in two sessions.
    losing = sorted({_session(record.example) for record in plan.replaced} - plan.new.keys())
    for user, session in progress([*losing, *sorted(plan.new)], "writing"):
        mine = plan.new.get((user, session), [])
        write_session(root, metadata(user, session, mine), kept[user, session], mine, link=mode.link)
    _remove_files(plan.replaced, plan.new, kept)


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


def _addition(sample: RawSample, origin: Origin, faults: list[Fault]) -> Addition | None:
    """Return the example of a sample and the content of its file."""
    content: Path | bytes | None = None
    kind: dict[str, Any] = {}
    try:
        if isinstance(sample.content, str):
            digest = text_sha256(sample.content)
            kind = {"transcript": sample.content}
        elif isinstance(sample.content, Path):
            content, digest = sample.content, sha256_of(sample.content)
            stem = re.sub(r"[^A-Za-z0-9_-]+", "_", sample.content.stem)[:60].strip("_") or "sample"
            path = f"media/{stem}-{digest[:8]}{sample.content.suffix.lower()}"
            kind = {"media": FileRef(path=path, sha256=digest)}
        else:
            content = features_bytes(sample.content)
            digest = hashlib.sha256(content).hexdigest()
        if isinstance(content, bytes) and not isinstance(sample.content, str | Path):
            kind = {
                "features": FeaturesRef(
                    uri=f"features/{digest}.npz",
                    hash=f"sha256:{digest}",
                    encoding=origin.encoding or f"vector_{sample.content.shape[1]}_v1",
                    shape=(sample.content.shape[0], sample.content.shape[1]),
                )
            }
        example = Example(
            record_id=digest,  # until it is known which records exist
            user_id=sample.user or "",
            session_id=sample.session or "",
            timestamp=sample.recorded or datetime.fromtimestamp(int(Path(sample.path).stat().st_mtime), UTC),
            modality=origin.modality,
            label=sample.label,
            label_status=origin.label_status,
            performer_id=origin.performer,
            consent_given=origin.consent,
            is_demo=origin.demo,
            onset=sample.onset,
            offset=sample.offset,
            confidence=sample.confidence,
            language=sample.language,
            **kind,
        )
    except ValidationError as error:
        faults.extend(faults_of(error, Example, sample.path, sample.line))
    except (RefusedFileError, OSError) as error:
        faults.append(Fault(sample.path, sample.line, "(file)", str(error)))
    else:
        return Addition(example, content)
    return None


def _existing(root: Path, prepared: Iterable[_Prepared]) -> list[Record]:
    """Return the records that the samples' users have already; raises DataError where those cannot be read."""
    data_root = DataRoot.at(root)
    existing: list[Record] = []
    faults: list[Fault] = []
    for user in sorted({entry.addition.example.user_id for entry in prepared}):
        if is_own(root, user):
            reading = read_own(data_root, user, None)
            faults += reading.faults
            existing += reading.records
    if faults:
        raise DataError(faults)
    return existing


def _session(example: Example) -> tuple[str, str]:
    return example.user_id, example.session_id


def _difference(known: Example, new: Example) -> list[str]:
    """Return the fields in which two examples of one content differ, apart from times and names of files."""
    aside = {"record_id", "timestamp", "media", "features", "transcript"}
    different = [
        name for name in Example.model_fields if name not in aside and getattr(known, name) != getattr(new, name)
    ]
    if known.features is not None and new.features is not None and known.features.encoding != new.features.encoding:
        different.append("encoding")
    return different


def _metadata(
    user: str, session: str, additions: Sequence[Addition], origin: Origin, note: str, name: str | None
) -> SessionMetadata:
    times = [addition.example.timestamp for addition in additions]
    return SessionMetadata(
        user_id=user,
        session_id=session,
        session_name=name,
        start_time=min(times, default=None),
        end_time=max(times, default=None),
        labeler_id=origin.labeler,
        performer_id=origin.performer,
        notes=note or None,
    )
