"""Reader of A3CP's own session logs, feature files and transcripts: what the platform recorded, as examples.

The folder given as data root holds A3CP's `logs/` and `data/` (or their contents directly):

    [logs/]users/<user>/sessions/<session>.jsonl               events
    [data/]users/<user>/sessions/<session>/features/<id>.npz   landmark sequences
    [data/]users/<user>/training/training_examples.jsonl       labels that a partner accepted or corrected
    [logs/ or data/]transcripts/session_<session>.jsonl        transcripts

Finalised transcripts may also be messages of modality `speech` in the session log.

A label is, in this order: the latest final label or label correction of the record, the intent that the capture was
opened with, the intent of the whole session. What a model predicted is a label only where the partner accepted it; a
final label whose status is `unconfirmed` is none, and what was rejected since then is left out. Consent that is refused
anywhere counts as refused; where nothing says anything of it, it is not given, unless somebody states it for the whole
folder. Demo data that are marked anywhere count as demo data. Unknown fields and repeated records are tolerated.
"""

from __future__ import annotations

import os
import uuid
from collections import Counter
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Any, TypeVar

from pydantic import BaseModel, ValidationError

from model_registry.messages import printable
from model_registry.names import InvalidNameError, Modality, parse_modality
from shared.data.a3cp_rows import (
    CaptureOpen,
    Event,
    FeaturesReady,
    FinalLabel,
    Governed,
    PartnerDecision,
    SessionEvent,
    SpeechMessage,
    Transcript,
)
from shared.data.files import DataRoot, RefusedFileError, json_lines
from shared.data.records import Dropped, Reading, Record, foreign_modality
from shared.errors import Fault
from shared.schema_faults import Key, faults_of
from shared.schema_utils import UNKNOWN, Example, LabelStatus, SessionMetadata
from shared.trainers import modality_names, parse_known_modality

SUPPORTED_VERSION = (1, 0, 0)
_RECORDS = uuid.UUID("0d1f3a52-6c0e-5d0b-9c7e-a3c0a3c0a3c0")  # names transcripts, which carry no record id

_T = TypeVar("_T", bound=BaseModel)
_SYSTEM = "system"  # what A3CP's own programs call themselves: the performer is whoever the session or capture names
_NO_CONSENT = (
    "they are left out. If it was, say who states it: --consent-by NAME of check, or "
    "--set data.consent_by=NAME of a trainer"
)
_NO_LABEL = "-"
_NOT_LABELLED = "no final label, label correction, capture intent or session intent gives it a label"


@dataclass(frozen=True)
class _Correction:
    """A label that somebody gave to one record after it was made."""

    timestamp: datetime
    label: str
    status: LabelStatus


@dataclass
class _Session:
    """What the events of one session say about its captures."""

    user: str
    session_id: str
    path: str
    reading: Reading
    faults: list[Fault] = field(default_factory=list)
    captures: dict[str, str] = field(default_factory=dict)  # record id -> capture id
    ready: list[tuple[int, Event, FeaturesReady]] = field(default_factory=list)
    messages: list[tuple[int, Event, SpeechMessage]] = field(default_factory=list)
    consent_stated: bool = False  # by somebody, for whatever says nothing of it
    placeholder: str | None = None  # the label of examples that have none; without it they are left out
    without_consent: int = 0  # examples of which nothing says whether consent was given
    # By capture id, or by record id where there is no capture:
    intents: dict[str, str] = field(default_factory=dict)
    governed: dict[str, list[Governed]] = field(default_factory=dict)
    corrections: dict[str, list[_Correction]] = field(default_factory=dict)
    whole: list[Governed] = field(default_factory=list)
    metadata: SessionMetadata | None = None


def is_a3cp(root: DataRoot, user: str) -> bool:
    """Return whether A3CP wrote session logs for the user."""
    return bool(_logs(root, user))


def count_a3cp(root: DataRoot, user: str) -> Counter[Modality]:
    """Return how many captures and transcripts of each modality the user has; nothing is checked."""
    counts: Counter[Modality] = Counter()
    for log in _logs(root, user):
        try:
            for _, row in json_lines(root.locate(log), "", []):
                event = row.get("event")
                if isinstance(event, dict) and event.get("event") == "raw_features.ready":
                    counts[parse_modality(event.get("modality", ""))] += 1
                elif isinstance(event, dict) and event.get("modality") == "speech":
                    counts["speech"] += event.get("context_partner_speech") is not None
            for path in _transcripts(root, log.stem):
                counts["speech"] += sum(
                    row.get("user_id") == user and row.get("is_partial") is not True
                    for _, row in json_lines(root.locate(path), "", [])
                )
        except (RefusedFileError, InvalidNameError):
            continue  # reported when the user's data are loaded
    return counts


def read_a3cp(
    root: DataRoot,
    user: str,
    modality: Modality | None,
    sessions: Collection[str] | None = None,
    *,
    consent_stated: bool = False,
    placeholder: str | None = None,
) -> Reading:
    """Read the user's labelled captures and transcripts of `modality` (None: of all) from A3CP's logs.

    With `consent_stated`, consent is given for all of which nothing says whether it is; otherwise a warning counts
    them. With a `placeholder`, what has no label is read, too, and has this one.

    A capture or transcript without any label is a fault in a session that was declared training data, and left
    out otherwise. Sessions that were not chosen are read for the ledger, and their faults are ignored.
    """
    reading = Reading()
    logs = _logs(root, user)
    if not logs:
        reading.faults.append(Fault(str(root.path / "users" / user), None, "sessions", "holds no session log of A3CP"))
        return reading
    labels = _final_labels(root, user, reading)
    unsaid = 0
    for log in logs:
        session = _Session(user, log.stem, str(log), reading, consent_stated=consent_stated, placeholder=placeholder)
        _read_log(session, root, log, labels)
        reading.session_ids.append(session.session_id)
        if session.metadata is not None:
            reading.sessions[session.session_id] = session.metadata
        _add_captures(session, root, modality)
        if modality in (None, "speech"):
            _add_transcripts(session, root)
        unsaid += session.without_consent
        if sessions is None or session.session_id in sessions:
            reading.faults.extend(session.faults)
    if unsaid and not consent_stated:
        reason = f"nothing says whether consent was given for {unsaid} of {len(reading.records)} samples: {_NO_CONSENT}"
        reading.warnings.append(Fault(str(logs[0].parent), None, "consent_given", reason))
    return reading


def _read_log(session: _Session, root: DataRoot, log: Path, labels: Sequence[FinalLabel]) -> None:
    """Note in `session` what its events and the user's final labels say."""
    by_record: dict[str, dict[str, Any]] = {}
    versions: set[str] = set()
    for line, row in _rows(session, root, log):
        raw = row.get("event")
        if not isinstance(raw, dict):
            session.faults.append(Fault(session.path, line, "event", "must be an object"))
            continue
        event = _parse(Event, raw, session.path, line, session.faults, ("event",))
        if event is None or not _belongs(event, session, line, versions):
            continue
        first = by_record.setdefault(event.record_id, raw)
        if first is not raw and first == raw:
            continue  # A3CP's writer repeats itself: the same row again says nothing new
        if first is not raw and first.get("raw_features_ref") and raw.get("raw_features_ref"):
            reason = f"{event.record_id!a} occurs twice in this log, with different content"
            session.faults.append(Fault(session.path, line, "event.record_id", reason))
            continue
        _take(event, raw, line, session)
    for label in labels:
        if label.session_id in (None, session.session_id):
            _take_final_label(label, session)


def _belongs(event: Event, session: _Session, line: int, versions: set[str]) -> bool:
    version = tuple(int(part) for part in event.schema_version.split("."))
    wrong = None
    if version[0] != SUPPORTED_VERSION[0]:
        known = f"{SUPPORTED_VERSION[0]}.x.y"
        wrong = ("event.schema_version", f"{event.schema_version} is not supported; this reader knows {known}")
    elif event.user_id != session.user:
        wrong = ("event.user_id", f"is {event.user_id!a}, but the log belongs to {session.user!a}")
    elif event.session_id not in (None, session.session_id):
        wrong = ("event.session_id", f"is {event.session_id!a}, but the log is of {session.session_id!a}")
    elif version[:2] != SUPPORTED_VERSION[:2] and event.schema_version not in versions:
        versions.add(event.schema_version)
        expected = ".".join(map(str, SUPPORTED_VERSION))
        note = f"{event.schema_version} differs from {expected}; unknown fields are ignored"
        session.reading.warnings.append(Fault(session.path, line, "event.schema_version", note))
    if wrong is not None:
        session.faults.append(Fault(session.path, line, *wrong))
    return wrong is None


def _take(event: Event, raw: dict[str, Any], line: int, session: _Session) -> None:
    key = event.capture_id or event.record_id
    session.governed.setdefault(key, []).append(event)
    if event.capture_id is not None:
        session.captures[event.record_id] = event.capture_id
    label = event.final_label or event.label_correction
    _add_correction(session, key, event, label, "corrected" if event.label_correction else "confirmed")
    if event.source == "session_manager":
        about = _parse(SessionEvent, raw, session.path, line, session.faults, ("event",))
        if about is not None:
            session.whole.append(event)
            session.metadata = _merged(session, event, about)
    elif event.event == "capture.open":
        opened = _parse(CaptureOpen, raw, session.path, line, session.faults, ("event",))
        if opened is not None and opened.annotation is not None and opened.annotation.intent:
            session.intents[key] = opened.annotation.intent
    elif event.modality == "speech" and event.context_partner_speech is not None:
        message = _parse(SpeechMessage, raw, session.path, line, session.faults, ("event",))
        if message is not None:
            session.messages.append((line, event, message))
    elif event.event == "raw_features.ready":
        ready = _parse(FeaturesReady, raw, session.path, line, session.faults, ("event",))
        if ready is not None:
            session.ready.append((line, event, ready))


def _merged(session: _Session, event: Event, about: SessionEvent) -> SessionMetadata:
    known = session.metadata or SessionMetadata(user_id=session.user, session_id=session.session_id)
    new = {
        "start_time": about.start_time,
        "end_time": about.end_time,
        "is_training_data": about.is_training_data,
        "training_intent_label": about.training_intent_label,
        "notes": about.session_notes,
        "performer_id": None if event.performer_id == _SYSTEM else event.performer_id,
    }
    return known.model_copy(update={name: value for name, value in new.items() if value is not None})


def _take_final_label(row: FinalLabel, session: _Session) -> None:
    key = row.capture_id or session.captures.get(row.record_id, row.record_id)
    session.governed.setdefault(key, []).append(row)
    corrected = row.partner_action == "correct" or row.label_correction
    _add_correction(
        session, key, row, row.final_label or row.label_correction, "corrected" if corrected else "confirmed"
    )


def _add_correction(session: _Session, key: str, row: Governed, label: str | None, status: LabelStatus) -> None:
    """Note a label that a row gives to a record, unless the row says that nobody has confirmed it yet."""
    if label and row.label_status != "unconfirmed":
        correction = _Correction(row.timestamp, label, row.label_status or status)
        session.corrections.setdefault(key, []).append(correction)


def _add_captures(session: _Session, root: DataRoot, modality: Modality | None) -> None:
    parse = parse_known_modality if modality is None else parse_modality
    foreign: dict[Modality, int] = {}  # without a trainer here -> first line
    latest: dict[tuple[str, str | None], tuple[datetime, int]] = {}
    for line, event, ready in session.ready:
        key = (ready.capture_id, event.modality)
        latest[key] = max(latest.get(key, (event.timestamp, line)), (event.timestamp, line))
    for line, event, ready in session.ready:
        try:
            its_modality = parse(event.modality or "gesture")
        except InvalidNameError as refused:
            session.faults.append(Fault(session.path, line, "event.modality", str(refused)))
            continue
        if modality not in (None, its_modality):
            if its_modality not in modality_names():
                foreign.setdefault(its_modality, line)
            continue
        if latest[ready.capture_id, event.modality][1] != line:
            dropped = Dropped(event.record_id, "features were extracted again", session.path, line)
            session.reading.ledger.append(dropped)
            continue
        content = {"modality": its_modality, "timestamp": event.timestamp, "features": ready.raw_features_ref}
        keys = (ready.capture_id, event.record_id)
        example = _example(session, event.record_id, keys, content, session.path, line)
        if example is None:
            continue
        try:
            file = _feature_file(root, ready.raw_features_ref.uri)
        except ValueError as refused:
            session.faults.append(Fault(session.path, line, "event.raw_features_ref.uri", str(refused)))
            continue
        session.reading.records.append(Record(example, session.path, line, file))
    session.reading.warnings.extend(foreign_modality(session.path, line, found) for found, line in foreign.items())


def _add_transcripts(session: _Session, root: DataRoot) -> None:
    """Add the session's transcripts: first those of files, then messages that say something new."""
    known: set[str] = set()
    said: set[tuple[datetime, str]] = set()
    for path in _transcripts(root, session.session_id):
        name = str(path)
        for line, raw in _rows(session, root, path):
            row = _parse(Transcript, raw, name, line, session.faults)
            if row is None or row.user_id != session.user or row.session_id != session.session_id:
                continue
            segment = str(row.timestamp if row.segment_id is None else row.segment_id)
            named = f"{session.session_id}\n{segment}\n{row.transcript}"
            record_id = row.record_id or str(uuid.uuid5(_RECORDS, named))
            if row.is_partial or record_id in known:
                reason = "partial transcript" if row.is_partial else "duplicate"
                session.reading.ledger.append(Dropped(record_id, reason, name, line))
                continue
            known.add(record_id)
            said.add((row.timestamp, row.transcript))
            session.governed.setdefault(record_id, []).append(row)
            _add_correction(session, record_id, row, row.label_correction, "corrected")
            content = _speech(row.timestamp, row.transcript, row)
            keys = (record_id, row.capture_id or record_id, segment)
            example = _example(session, record_id, keys, content, name, line)
            if example is not None:
                session.reading.records.append(Record(example, name, line, None))
    for line, event, message in session.messages:
        text = message.context_partner_speech
        if message.is_partial or event.record_id in known or (event.timestamp, text) in said:
            reason = "partial transcript" if message.is_partial else "duplicate"
            session.reading.ledger.append(Dropped(event.record_id, reason, session.path, line))
            continue
        content = _speech(event.timestamp, text, message)
        ids = (event.record_id, event.capture_id or event.record_id)
        example = _example(session, event.record_id, ids, content, session.path, line)
        if example is not None:
            session.reading.records.append(Record(example, session.path, line, None))


def _speech(time: datetime, text: str, row: Transcript | SpeechMessage) -> dict[str, Any]:
    """Return the fields of an example that are what was said."""
    return {
        "modality": "speech",
        "timestamp": time,
        "transcript": text,
        "confidence": row.confidence,
        "language": row.language,
    }


def _example(
    session: _Session, record_id: str, keys: Sequence[str], content: dict[str, Any], path: str, line: int
) -> Example | None:
    """Join label, status, consent and context of one record; `keys` are the ids under which rows speak of it."""
    unique = dict.fromkeys(keys)
    rows = [row for key in unique for row in session.governed.get(key, ())]
    label, status = _label(session, unique, rows)
    label = label or session.placeholder
    if label and label.strip().casefold() == UNKNOWN:
        session.reading.ledger.append(Dropped(record_id, "its label is unknown", path, line))
        return None
    if not label:
        if status != "rejected" and session.metadata is not None and session.metadata.is_training_data:
            session.faults.append(Fault(path, line, "label", f"is missing: {_NOT_LABELLED}"))
        else:
            session.reading.ledger.append(Dropped(record_id, "no label", path, line))
        return None
    everything = [*session.whole, *rows]
    consents = [row.consent_given for row in everything if row.consent_given is not None]
    session.without_consent += not consents
    performers = [row.performer_id for row in everything if row.performer_id not in (None, _SYSTEM)]
    context = {name: value for row in everything for name, value in row.surroundings.items()}
    if context.get("partner_speech") == content.get("transcript"):
        context["partner_speech"] = None  # a message that is a transcript itself
    values = {
        "record_id": record_id,
        "user_id": session.user,
        "session_id": session.session_id,
        "label": label,
        "label_status": status,
        "performer_id": performers[-1] if performers else None,
        "consent_given": all(consents) if consents else session.consent_stated,
        "is_demo": any(row.is_demo for row in everything),
        **{name: context.get(name) for name in ("location", "partner_speech", "prompt_type")},
        **content,
    }
    try:
        return Example.model_validate(values)
    except ValidationError as error:
        session.faults.extend(faults_of(error, Example, path, line))
        return None


def _label(session: _Session, keys: Iterable[str], rows: Sequence[Governed]) -> tuple[str | None, LabelStatus]:
    """Return a record's label and its status: final label or correction, capture's intent, session's intent."""
    corrections = [given for key in keys for given in session.corrections.get(key, ())]
    stated = [row for row in rows if row.label_status is not None]
    latest = max(reversed(stated), key=lambda row: row.timestamp, default=None)
    status: LabelStatus = (latest and latest.label_status) or "unconfirmed"
    if corrections:
        last = max(corrections, key=lambda given: given.timestamp)
        rejected = status == "rejected" and latest is not None and latest.timestamp >= last.timestamp
        return last.label, status if rejected else last.status
    for key in keys:
        if key in session.intents:
            return session.intents[key], status
    return session.metadata.training_intent_label if session.metadata else None, status


def read_unconfirmed(root: DataRoot, user: str, modality: Modality | None) -> Reading:
    """Read the user's captures and transcripts of `modality` (None: of all) whose label nobody has decided about yet.

    A record's label is the intent that it was recorded with, or `-` where there is none. Demo data and records whose
    use was refused are left out.
    """
    reading = read_a3cp(root, user, modality, consent_stated=True, placeholder=_NO_LABEL)
    reading.records = [
        record
        for record in reading.records
        if record.example.label_status == "unconfirmed" and record.example.consent_given and not record.example.is_demo
    ]
    return reading


def read_decisions(root: DataRoot, user: str, faults: list[Fault]) -> list[PartnerDecision]:
    """Return what models predicted for the user in use with what the partner made of it, by time, each record once.

    Rows without a prediction or a final label, such as those that only label a recording, are passed over, and so are
    demo data, records whose use was refused, and labels that nobody has confirmed yet or that were rejected. Lines
    that cannot be read are added to `faults`.
    """
    reading = Reading()
    rows = _training_examples(root, user, reading, PartnerDecision, _is_decision)
    faults += reading.faults
    latest = {row.record_id: row for row in sorted(rows, key=lambda row: row.timestamp)}
    decided = (row for row in latest.values() if row.label_status not in ("unconfirmed", "rejected"))
    kept = (row for row in decided if not row.is_demo and row.consent_given is not False)
    return sorted(kept, key=lambda row: (row.timestamp, row.record_id))


def _is_decision(raw: dict[str, Any]) -> bool:
    names = ["modality", "predicted_label"] + ["final_label"] * (raw.get("partner_action") != "accept")
    return all(isinstance(raw.get(name), str) and raw[name] for name in names)


def _final_labels(root: DataRoot, user: str, reading: Reading) -> list[FinalLabel]:
    return _training_examples(root, user, reading, FinalLabel)


def _training_examples(
    root: DataRoot,
    user: str,
    reading: Reading,
    schema: type[_T],
    wanted: Callable[[dict[str, Any]], bool] = lambda raw: True,
) -> list[_T]:
    rows: list[_T] = []
    for top in (root.path / "data", root.path):
        path = top / "users" / user / "training" / "training_examples.jsonl"
        if not os.path.lexists(path):
            continue
        session = _Session(user, "", str(path), reading, reading.faults)
        for line, raw in _rows(session, root, path):
            row = _parse(schema, raw, str(path), line, reading.faults) if wanted(raw) else None
            if row is not None:
                rows.append(row)
    return rows


def _feature_file(root: DataRoot, uri: str) -> Path:
    """Return the file that a feature reference names, in A3CP's folder; raises ValueError for one outside.

    An absolute path below the folder names the same file as the relative one.
    """
    text = uri.removeprefix("file://").removeprefix("./")
    for top in (str(root.path.absolute()), root.real):
        text = text.removeprefix(f"{top.rstrip('/')}/")
    parts = text.split("/")
    if text.startswith("/") or "\\" in text or "://" in text or any(part in ("", ".", "..") for part in parts):
        raise ValueError(f"{printable(uri)} must be a path in A3CP's folder, without '..'")
    candidates = [root.path.joinpath(*parts), root.path.joinpath("data", *parts)]
    if parts[0] == "data" and len(parts) > 1:
        candidates.append(root.path.joinpath(*parts[1:]))
    return next((path for path in candidates if os.path.lexists(path)), candidates[0])


def _logs(root: DataRoot, user: str) -> list[Path]:
    logs: list[Path] = []
    for top in (root.path, root.path / "logs"):
        try:
            with os.scandir(top / "users" / user / "sessions") as entries:
                names = [entry.name for entry in entries if entry.name.endswith(".jsonl") and entry.name[0] != "."]
        except OSError:
            continue
        logs += sorted(top / "users" / user / "sessions" / name for name in names)
    return logs


def _transcripts(root: DataRoot, session: str) -> list[Path]:
    tops = (root.path, root.path / "logs", root.path / "data")
    paths = [top / "transcripts" / f"session_{session}.jsonl" for top in tops]
    return [path for path in paths if os.path.lexists(path)]


def _rows(session: _Session, root: DataRoot, path: Path) -> Iterator[tuple[int, dict[str, Any]]]:
    try:
        place = root.locate(path)
    except RefusedFileError as refused:
        session.faults.append(Fault(str(path), None, "(file)", str(refused)))
        return iter(())
    return json_lines(place, str(path), session.faults, session.reading.warnings)


def _parse(
    schema: type[_T], raw: dict[str, Any], path: str, line: int, faults: list[Fault], within: Key = ()
) -> _T | None:
    try:
        return schema.model_validate(raw)
    except ValidationError as error:
        faults.extend(faults_of(error, schema, path, line, within))
        return None
