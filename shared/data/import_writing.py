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
from itertools import groupby, islice
from operator import itemgetter
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from model_registry.names import Modality
from model_registry.storage.tombstones import refuse_erased
from shared.data.changes import complete_begun, new_change_id, note_import
from shared.data.feature_files import features_bytes
from shared.data.files import DataRoot, RefusedFileError, sha256_of
from shared.data.formats.raw import RawSample
from shared.data.identity import content_of, region_of, repeated_under_two_labels, repetitions, text_sha256
from shared.data.media.partial import whole_seconds
from shared.data.own_layout import is_own, read_own, sessions_folder
from shared.data.records import Record
from shared.data.session_writer import Addition, file_of, write_new_sessions, write_session, writing
from shared.errors import ConfigError, DataError, Fault
from shared.progress import Progress, silent
from shared.schema_faults import faults_of
from shared.schema_utils import Example, FeaturesRef, FileRef, LabelStatus, SessionMetadata

_RECORDS = uuid.UUID("5b0c2d1e-8a44-5f0e-9d53-6d6f64656c74")  # the same sample gets the same record id everywhere

_SPARE_SECONDS = 0.05  # before the end of what is whole: players and decoders differ by as much
UNUSABLE = "unusable"  # files that cannot be decoded
_LEAVE_OUT = f"--leave-out {UNUSABLE} imports the others"
CONTRADICTIONS = "contradictions"  # files that stand under two labels
# Decodes so many files: for each, why it cannot be used (None where it can) and what should be known of it.
CheckFiles = Callable[[Iterable[tuple[Path, Example]], int], Iterable[tuple[str | None, Sequence[str]]]]

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


@dataclass(frozen=True, slots=True)
class _Prepared:
    """One sample that can become an example, which is made when it is needed: with thousands, all at once are too many.

    `known` is the record of its content that exists already.
    """

    sample: RawSample
    digest: str  # SHA-256 of its file, numbers or text
    recorded: datetime
    offset: float | None  # as the sample says, or where its whole part ends
    record_id: str = ""  # until it is known which records exist
    session: str = ""  # that of the known record, or the sample's
    known: Record | None = None

    def example(self, origin: Origin) -> Example:
        """Return the example. Raises ValidationError for what cannot be one."""
        sample, kind = self.sample, dict[str, Any]()
        if isinstance(sample.content, str):
            kind["transcript"] = sample.content
        elif isinstance(sample.content, Path):
            stem = re.sub(r"[^A-Za-z0-9_-]+", "_", sample.content.stem)[:60].strip("_") or "sample"
            path = f"media/{stem}-{self.digest[:8]}{sample.content.suffix.lower()}"
            kind["media"] = FileRef(path=path, sha256=self.digest)
        else:
            kind["features"] = FeaturesRef(
                uri=f"features/{self.record_id or self.digest}.npz",
                hash=f"sha256:{self.digest}",
                encoding=origin.encoding or f"vector_{sample.content.shape[1]}_v1",
                shape=(sample.content.shape[0], sample.content.shape[1]),
            )
        return Example(
            record_id=self.record_id or self.digest,
            user_id=sample.user or "",
            session_id=self.session,
            timestamp=self.recorded,
            modality=origin.modality,
            label=sample.label,
            label_status=origin.label_status,
            performer_id=origin.performer,
            consent_given=origin.consent,
            is_demo=origin.demo,
            onset=sample.onset,
            offset=self.offset,
            confidence=sample.confidence,
            language=sample.language,
            **kind,
        )

    def addition(self, origin: Origin) -> Addition:
        """Return the example with the content of its file."""
        content = self.sample.content
        if isinstance(content, str):
            return Addition(self.example(origin), None)
        return Addition(self.example(origin), content if isinstance(content, Path) else features_bytes(content))

    @property
    def content(self) -> str:
        """What identifies the content, as `content_of` says it of the example."""
        return region_of(self.digest, self.sample.onset, self.offset)

    @property
    def user(self) -> str:
        """The user's id."""
        return self.sample.user or ""


@dataclass(frozen=True)
class _Plan:
    """What is to be written in each session, and which existing records it replaces."""

    new: Mapping[tuple[str, str], Sequence[_Prepared]]
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
        entry for sample in progress(samples, "reading") if (entry := _prepared(sample, origin, faults)) is not None
    ]
    warnings: list[Fault] = []
    unusable: list[str] = []
    if check is not None and not faults:
        prepared, refused = _checked(prepared, origin, check, warnings, mode.use_partial)
        if UNUSABLE in mode.leave_out:
            unusable = [f"{fault}".replace(f"; {_LEAVE_OUT}", "") for fault in refused]
        else:
            faults += refused
    contradicted = _contradictions(prepared)
    if CONTRADICTIONS in mode.leave_out:
        doubled = {entry.content for entry, _ in contradicted}
        left_out = [entry for entry in prepared if entry.content in doubled]
        prepared = [entry for entry in prepared if entry.content not in doubled]
    else:
        left_out = []
        faults += [fault for _, fault in contradicted]
    if faults:
        raise DataError(dict.fromkeys(faults))
    warnings += _copies(prepared)
    without_file = (entry.example(origin) for entry in prepared if not isinstance(entry.sample.content, Path))
    warnings += repeated_under_two_labels(without_file, _place_of(samples))

    change: str | None = None
    names = {(sample.user, sample.session): sample.session_name for sample in samples if sample.session_name}

    def described(user: str, session: str, mine: Sequence[Addition]) -> SessionMetadata:
        return _metadata(user, session, mine, origin, note, names.get((user, session)))

    try:
        if mode.dry_run:
            existing = _existing(root, prepared) if (root / "users").is_dir() else []
            prepared = _matched(prepared, existing, origin.modality)
            planned = _plan(prepared, origin, mode)
        else:
            with writing(root):
                users = sorted({entry.user for entry in prepared})
                refuse_erased(root, users)
                for user in users:
                    complete_begun(root, user)
                existing = _existing(root, prepared)
                prepared = _matched(prepared, existing, origin.modality)
                planned = _plan(prepared, origin, mode)
                _write(root, existing, planned, origin, described, mode, progress)
                change = _noted(root, planned, origin, note)
    except OSError as error:
        hint = "; files on another file system cannot be linked: leave --link out" if error.errno == errno.EXDEV else ""
        raise ConfigError(f"--data {root}: cannot be written: {error.strerror or error}{hint}") from None
    added = sum(map(len, planned.new.values()))
    return Summary(
        counts=Counter((entry.user, entry.sample.session or "", entry.sample.label) for entry in prepared),
        new=added - len(planned.replaced),
        unchanged=len(prepared) - added,
        replaced=len(planned.replaced),
        change=change,
        encodings=_encodings(prepared, origin),
        left_out=(*unusable, *(f"{_source(entry.sample)}: stands under several labels" for entry in left_out)),
        warnings=tuple(warnings),
        record_ids=tuple(entry.record_id for entry in prepared),
    )


def _checked(
    prepared: Sequence[_Prepared], origin: Origin, check: CheckFiles, warnings: list[Fault], use_partial: bool
) -> tuple[list[_Prepared], list[Fault]]:
    """Return the samples that can be used, and a fault for each other; what should be known goes to `warnings`.

    With `use_partial` a refused recording that was cut short is used up to there, if that can be used.
    """
    notes: dict[str, list[RawSample]] = defaultdict(list)
    refused = _refused(prepared, origin, check, notes)
    if use_partial:
        shorter = {place: entry for place in refused if (entry := _shortened(prepared[place])) is not None}
        still = _refused(list(shorter.values()), origin, check, notes)
        used = {place: entry for number, (place, entry) in enumerate(shorter.items()) if number not in still}
        for entry in used.values():
            notes[f"was cut short: used up to {entry.offset:.2f} s"].append(entry.sample)
        prepared = [used.get(place, entry) for place, entry in enumerate(prepared)]
        refused = {place: refusal for place, refusal in refused.items() if place not in used}
    faults = []
    for place, refusal in refused.items():
        sample = prepared[place].sample
        reason = refusal if sample.line is None else f"{Path(str(sample.content)).name}: {refusal}"
        remedy = _LEAVE_OUT
        if refusal.startswith("is cut") and not use_partial:
            remedy += ", --use-partial takes what is whole of it"
        faults.append(Fault(sample.path, sample.line, "(file)", f"{reason}; {remedy}"))
    for text, samples in notes.items():
        others = f" ({len(samples)} files)" if len(samples) > 1 else ""
        warnings.append(Fault(samples[0].path, samples[0].line, "(file)", text + others))
    return [entry for place, entry in enumerate(prepared) if place not in refused], faults


def _refused(
    prepared: Sequence[_Prepared], origin: Origin, check: CheckFiles, notes: dict[str, list[RawSample]]
) -> dict[int, str]:
    """Return by its place why each file cannot be used; add what should be known of the others to `notes`."""
    places = [place for place, entry in enumerate(prepared) if isinstance(entry.sample.content, Path)]
    files = ((Path(str(prepared[place].sample.content)), prepared[place].example(origin)) for place in places)
    refused = {}
    for place, (refusal, texts) in zip(places, check(files, len(places)), strict=True):
        if refusal is not None:
            refused[place] = refusal
        for text in texts:
            notes[text].append(prepared[place].sample)
    return refused


def _shortened(entry: _Prepared) -> _Prepared | None:
    """Return the part of a recording that is whole; None where it was not cut short, or its end is given."""
    if entry.offset is not None or not isinstance(entry.sample.content, Path):
        return None
    offset = round((whole_seconds(entry.sample.content) or 0.0) - _SPARE_SECONDS, 2)
    return replace(entry, offset=offset) if offset > (entry.sample.onset or 0.0) else None


def _noted(root: Path, plan: _Plan, origin: Origin, source: str) -> str | None:
    """Write down what an import has brought to each user, and return the id under which it can be undone."""
    if not plan.new:
        return None
    change_id = new_change_id("import")
    for user in sorted({user for user, _ in plan.new}):
        before = [record.example for record in plan.replaced if record.example.user_id == user]
        after = (entry.example(origin) for (owner, _), mine in plan.new.items() if owner == user for entry in mine)
        note_import(root, user, change_id, source, before, after)
    return change_id


def _place_of(samples: Sequence[RawSample]) -> str:
    return samples[0].path if samples else ""


def _encodings(prepared: Sequence[_Prepared], origin: Origin) -> tuple[str, ...]:
    """Return what the ready-made features are: `vector_42_v1, 42 numbers a frame, 1 to 16 frames`."""
    frames: dict[tuple[str, int], list[int]] = defaultdict(list)
    for entry in prepared:
        if not isinstance(entry.sample.content, str | Path):
            features = entry.example(origin).features
            if features is not None:
                frames[features.encoding, features.shape[1]].append(features.shape[0])
    return tuple(
        f"{encoding}: {width} numbers a frame, {min(lengths)}"
        + (f" to {max(lengths)} frames" if min(lengths) < max(lengths) else f" frame{'s' * (lengths[0] != 1)}")
        for (encoding, width), lengths in sorted(frames.items())
    )


def _contradictions(prepared: Sequence[_Prepared]) -> list[tuple[_Prepared, Fault]]:
    """Return each file that stands under another label than a file of the same content before it, with its fault."""
    contradicted = []
    for entry, first in _repetitions(prepared):
        if entry.sample.label == first.sample.label:
            continue
        reason = (
            f"the same content is '{first.sample.label}' in {_source(first.sample)} and '{entry.sample.label}' here; "
            f"take one of the two away, or leave both out with --leave-out {CONTRADICTIONS}"
        )
        contradicted.append((entry, Fault(entry.sample.path, entry.sample.line, "label", reason)))
    return contradicted


def _copies(prepared: Sequence[_Prepared]) -> list[Fault]:
    """Return at most one warning, of files that are copies of others with the same label."""
    copies = _repetitions(prepared)
    if not copies:
        return []
    copy, known = copies[0]
    others = f" ({len(copies)} such files)" if len(copies) > 1 else ""
    reason = f"is a copy of {_source(known.sample)}, and counts as a sample of its own{others}; take copies away"
    return [Fault(copy.sample.path, copy.sample.line, "(file)", reason)]


def _repetitions(prepared: Sequence[_Prepared]) -> list[tuple[_Prepared, _Prepared]]:
    files = (entry for entry in prepared if isinstance(entry.sample.content, Path))
    return repetitions(files, lambda entry: (entry.user, entry.content))


def _source(sample: RawSample) -> str:
    return sample.path if sample.line is None else f"{sample.path}:{sample.line}"


def _matched(prepared: Sequence[_Prepared], existing: Sequence[Record], modality: Modality) -> list[_Prepared]:
    """Return the prepared samples, each with the existing record of its content, if there is one, and a record id.

    A content that occurs several times is matched as often as it exists, in the same session and label first. A text
    whose session the source names is the same only in that session: people say the same words on many days.
    """
    known: dict[_Key, list[Record]] = defaultdict(list)
    for record in existing:
        known[record.example.user_id, record.example.modality, content_of(record.example)].append(record)
    taken: set[str] = {record.example.record_id for record in existing}
    matches: dict[int, Record] = {}

    def close(entry: _Prepared, other: Example) -> tuple[bool, bool]:
        return entry.session == other.session_id, entry.sample.label == other.label

    for exactness in (2, 1, 0) if known else ():
        for number, entry in enumerate(prepared):
            if number in matches or not (candidates := known.get((entry.user, modality, entry.content))):
                continue
            if isinstance(entry.sample.content, str) and entry.sample.session_given:
                candidates = [record for record in candidates if record.example.session_id == entry.session]
            same = [record for record in candidates if sum(close(entry, record.example)) >= exactness]
            if same:
                matches[number] = same[0]
                known[entry.user, modality, entry.content].remove(same[0])
    result = []
    for number, entry in enumerate(prepared):
        match = matches.get(number)
        if match is None:
            record_id = _free_id((entry.user, modality, entry.content), taken)
            taken.add(record_id)
            result.append(replace(entry, record_id=record_id))
        else:
            session = entry.session if entry.sample.session_given else match.example.session_id
            result.append(replace(entry, record_id=match.example.record_id, session=session, known=match))
    return result


def _free_id(key: _Key, taken: Collection[str]) -> str:
    """Return a record id for a content, another one for each time that it occurs."""
    occurrence = 0
    while True:
        record_id = str(uuid.uuid5(_RECORDS, "\n".join((*key, str(occurrence)))))
        if record_id not in taken:
            return record_id
        occurrence += 1


def _plan(prepared: Sequence[_Prepared], origin: Origin, mode: Mode) -> _Plan:
    """Return what is to be written. Raises DataError for existing records that differ, unless they are replaced."""
    faults: list[Fault] = []
    new: dict[tuple[str, str], list[_Prepared]] = defaultdict(list)
    replaced: list[Record] = []
    for entry in prepared:
        known = entry.known
        difference = _difference(known.example, entry.example(origin)) if known is not None else ()
        if known is not None and not difference:
            continue
        if known is not None and not mode.replace:
            reason = f"exists at {known.path}:{known.line} with another {', '.join(difference)}; --replace changes it"
            faults.append(Fault(entry.sample.path, entry.sample.line, "record_id", reason))
            continue
        if known is not None:
            replaced.append(known)
        new[entry.user, entry.session].append(entry)
    if faults:
        raise DataError(faults)
    return _Plan(new, tuple(replaced))


def _write(
    root: Path,
    existing: Sequence[Record],
    plan: _Plan,
    origin: Origin,
    metadata: Callable[[str, str, Sequence[Addition]], SessionMetadata],
    mode: Mode,
    progress: Progress,
) -> None:
    """Write what is planned: first the sessions that exist, then those that are new, many of them at once."""
    gone = {(record.example.user_id, record.example.record_id) for record in plan.replaced}
    kept: dict[tuple[str, str], list[Example]] = defaultdict(list)
    for record in existing:
        if (record.example.user_id, record.example.record_id) not in gone:
            kept[_session(record.example)].append(record.example)
    # A session that loses a record is written first, so that no reader finds the record in two sessions.
    losing = sorted({_session(record.example) for record in plan.replaced} - plan.new.keys())
    there = [place for place in sorted(plan.new) if (sessions_folder(root, place[0]) / place[1]).is_dir()]
    absent = sorted(plan.new.keys() - set(there))
    sessions = iter(progress([*losing, *there, *absent], "writing"))

    def additions(place: tuple[str, str]) -> list[Addition]:
        return [entry.addition(origin) for entry in plan.new.get(place, ())]

    for place in islice(sessions, len(losing) + len(there)):
        mine = additions(place)
        write_session(root, metadata(place[0], place[1], mine), kept[place], mine, link=mode.link)
    for user, of_user in groupby(sessions, key=itemgetter(0)):
        contents = ((metadata(place[0], place[1], mine), mine) for place in of_user for mine in [additions(place)])
        write_new_sessions(root, user, contents, link=mode.link)
    _remove_files(plan, kept, origin)


def _remove_files(plan: _Plan, kept: Mapping[tuple[str, str], Sequence[Example]], origin: Origin) -> None:
    """Remove the files of replaced records that no record of their session refers to any more."""
    for session in {_session(record.example) for record in plan.replaced}:
        examples = [*kept.get(session, ()), *(entry.example(origin) for entry in plan.new.get(session, ()))]
        used = {file_of(example) for example in examples}
        for record in plan.replaced:
            if _session(record.example) == session and file_of(record.example) not in used and record.file is not None:
                record.file.unlink(missing_ok=True)


def _prepared(sample: RawSample, origin: Origin, faults: list[Fault]) -> _Prepared | None:
    """Return a sample that can become an example, with the hash of its content; None where a fault was added."""
    try:
        if isinstance(sample.content, str):
            digest = text_sha256(sample.content)
        elif isinstance(sample.content, Path):
            digest = sha256_of(sample.content)
        else:
            digest = hashlib.sha256(features_bytes(sample.content)).hexdigest()
        recorded = sample.recorded or datetime.fromtimestamp(int(Path(sample.path).stat().st_mtime), UTC)
        entry = _Prepared(sample, digest, recorded, sample.offset, session=sample.session or "")
        entry.example(origin)
    except ValidationError as error:
        faults.extend(faults_of(error, Example, sample.path, sample.line))
    except (RefusedFileError, OSError) as error:
        faults.append(Fault(sample.path, sample.line, "(file)", str(error)))
    else:
        return entry
    return None


def _existing(root: Path, prepared: Iterable[_Prepared]) -> list[Record]:
    """Return the records that the samples' users have already; raises DataError where those cannot be read."""
    data_root = DataRoot.at(root)
    existing: list[Record] = []
    faults: list[Fault] = []
    for user in sorted({entry.user for entry in prepared}):
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
