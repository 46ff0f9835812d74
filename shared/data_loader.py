"""Session folders -> Dataset: filter, merge, verify; every sample is used, refused with its place, or in the ledger.

Both layouts are read: our own (`shared.data.own_layout`) and A3CP's session logs (`shared.data.a3cp`).
"""

from __future__ import annotations

import hashlib
import json
import os
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import Field, StrictBool

from model_registry.messages import list_names
from model_registry.names import DEFAULT_USER, InvalidNameError, Modality, parse_name
from shared.data.a3cp import count_a3cp, is_a3cp, read_a3cp
from shared.data.files import DataRoot, RefusedFileError
from shared.data.identity import contradictions
from shared.data.own_layout import count_own, is_own, read_own, sessions_folder
from shared.data.records import Dropped, Reading, Record
from shared.data.samples import Sample, encoding_faults, label_faults, load_features, verified
from shared.errors import DataError, Fault
from shared.schema_utils import BACKGROUND, Example, Identifier, LabelStatus, Moment, Schema, SessionMetadata
from shared.trainers import parse_known_modality

__all__ = [
    "DataFilter",
    "DataFormat",
    "Dataset",
    "Dropped",
    "Sample",
    "batches",
    "load_dataset",
    "load_features",
    "users_with_data",
]

DataFormat = Literal["auto", "own", "a3cp"]

# What changes a sample beside its label and its file, and so belongs to the fingerprint.
_REGION_FIELDS = ("onset", "offset", "box", "language", "partner_speech", "location")


class DataFilter(Schema):
    """Which examples are used. What is left out is in the ledger with its reason."""

    sessions: tuple[str, ...] | None = Field(default=None, description="sessions to use; all of them when absent")
    since: Moment | None = Field(default=None, description="recorded then or later; a bare date is its midnight, UTC")
    until: Moment | None = Field(default=None, description="recorded before then; a bare date is its midnight, UTC")
    label_status: tuple[LabelStatus, ...] = Field(
        default=("unconfirmed", "confirmed", "corrected"), min_length=1, description="how sure the label must be"
    )
    performers: tuple[str, ...] | None = Field(default=None, description="who performed; anybody when absent")
    require_consent: StrictBool = Field(default=True, description="leave out what nobody consented to")
    consent_by: Identifier | None = Field(
        default=None,
        description="who states that consent was given for what A3CP's logs say nothing of",
    )
    include_demo: StrictBool = Field(default=False, description="use examples that are marked as demo data")


@dataclass(frozen=True)
class Dataset:
    """The samples of one modality, of one user or of several merged, in the order of their record ids.

    `background` are recordings that hold none of the labels.
    """

    modality: Modality
    user_id: str
    users: tuple[str, ...]
    samples: tuple[Sample, ...]
    ledger: tuple[Dropped, ...] = ()
    sessions: Mapping[str, SessionMetadata] = field(default_factory=dict)
    warnings: tuple[Fault, ...] = ()
    background: tuple[Sample, ...] = ()

    def __len__(self) -> int:
        return len(self.samples)

    @cached_property
    def labels(self) -> tuple[str, ...]:
        """The labels, sorted."""
        return tuple(sorted({sample.label for sample in self.samples}))

    @cached_property
    def label_index(self) -> NDArray[np.int64]:
        """(n,) int64: for each sample the place of its label in `labels`."""
        places = {label: place for place, label in enumerate(self.labels)}
        return np.array([places[sample.label] for sample in self.samples], dtype=np.int64)

    @cached_property
    def session_ids(self) -> tuple[str, ...]:
        """For each sample its session; with several users `user/session`, so that no two users share one."""
        return tuple(session_key(sample.user_id, sample.session_id, self.users) for sample in self.samples)

    @cached_property
    def groups(self) -> tuple[str, ...]:
        """For each sample what never straddles a split: its session; with several users, its user.

        A model of several people is for somebody else, so it is tested on people that it was not trained on.
        """
        return self.session_ids if len(self.users) == 1 else tuple(sample.user_id for sample in self.samples)

    @cached_property
    def of_background(self) -> Dataset:
        """The recordings of the background as a data set of their own."""
        return replace(self, samples=self.background, background=(), ledger=())

    @cached_property
    def encoding(self) -> str:
        """What the samples are: the encoding of their feature files, or the media types of their files."""
        return ", ".join(sorted({sample.encoding for sample in self.samples}))

    @cached_property
    def fingerprint(self) -> str:
        """SHA-256 of the training data: record ids, labels, sessions and contents; not of paths and times."""
        rows = sorted(
            [
                sample.record_id,
                sample.label,
                session_key(sample.user_id, sample.session_id, self.users),
                sample.content_sha256,
                sample.example.model_dump(mode="json", include=set(_REGION_FIELDS), exclude_none=True),
            ]
            for sample in (*self.samples, *self.background)
        )
        return hashlib.sha256(json.dumps(rows, sort_keys=True, separators=(",", ":")).encode()).hexdigest()


def session_key(user: str, session: str, users: Sequence[str]) -> str:
    """Return a session's name in a dataset of `users`."""
    return session if len(users) == 1 else f"{user}/{session}"


@dataclass(frozen=True)
class Selection:
    """The examples that a filter chose from the sessions of one user or of several, before any file is opened."""

    root: DataRoot
    modality: Modality
    users: tuple[str, ...]
    records: tuple[Record, ...]
    ledger: tuple[Dropped, ...]
    sessions: Mapping[str, SessionMetadata]
    faults: tuple[Fault, ...]
    warnings: tuple[Fault, ...]

    @property
    def place(self) -> str:
        """The folders that were read, for faults that are of no single file."""
        return ", ".join(str(self.root.path / "users" / user) for user in self.users)


def load_dataset(
    root: Path,
    users: Sequence[str],
    modality: str,
    data_filter: DataFilter,
    *,
    data_format: DataFormat = "auto",
    minimum_per_label: int = 2,
) -> Dataset:
    """Return the samples of `modality` of one user, or of several merged under `_default`.

    Raises DataError with every fault found: unknown user or modality, unreadable lines, missing or changed files,
    paths and links out of the root, damaged or non-finite features, a mixture of encodings, a single label, and
    labels with fewer than `minimum_per_label` samples.
    """
    selection = select_examples(root, users, modality, data_filter, data_format=data_format)
    return verify_selection(selection, minimum_per_label)


def select_examples(
    root: Path, users: Sequence[str], modality: str, data_filter: DataFilter, *, data_format: DataFormat = "auto"
) -> Selection:
    """Read the users' sessions and choose among their examples; what is wrong with them is in `faults`.

    Raises DataError where there is nothing to read: an unknown modality, a bad user id, no such folder.
    """
    known_modality, data_root = _parse_arguments(root, users, modality)
    readings = {user: read_user(data_root, user, known_modality, data_filter, data_format) for user in users}
    faults = [fault for reading in readings.values() for fault in reading.faults]
    ledger = [dropped for reading in readings.values() for dropped in reading.ledger]
    records: list[Record] = []
    for reading in readings.values():
        records += choose(reading, data_filter, ledger, faults)
    sessions = {
        session_key(user, session, users): metadata
        for user, reading in readings.items()
        for session, metadata in reading.sessions.items()
    }
    warnings = tuple(warning for reading in readings.values() for warning in reading.warnings)
    selection = Selection(
        data_root, known_modality, tuple(users), tuple(records), tuple(ledger), sessions, tuple(faults), warnings
    )
    unknown = _unknown_sessions(readings, data_filter, selection.place)
    return replace(selection, faults=(*selection.faults, *unknown))


def verify_selection(selection: Selection, minimum_per_label: int) -> Dataset:
    """Return the data set of a selection, with every file proved unchanged and readable.

    Raises DataError with the selection's faults and those of its files, labels and encodings.
    """
    modality, users, place = selection.modality, selection.users, selection.place
    faults = list(selection.faults)
    faults += label_faults(selection.records, modality, minimum_per_label, selection.ledger, place, bool(faults))
    faults += encoding_faults(selection.records, modality, place)
    contradicted, repeated = contradictions(selection.records)
    faults += contradicted
    samples = [s for record in selection.records if (s := verified(selection.root, record, faults)) is not None]
    if faults:
        raise DataError(dict.fromkeys(faults))
    samples.sort(key=lambda sample: (sample.record_id, sample.user_id, sample.session_id))
    return Dataset(
        modality=modality,
        user_id=users[0] if len(users) == 1 else DEFAULT_USER,
        users=users,
        samples=tuple(sample for sample in samples if sample.label != BACKGROUND),
        ledger=tuple(sorted(selection.ledger, key=lambda dropped: (dropped.path, dropped.line, dropped.record_id))),
        sessions=selection.sessions,
        warnings=(*selection.warnings, *repeated),
        background=tuple(sample for sample in samples if sample.label == BACKGROUND),
    )


def batches(dataset: Dataset, size: int) -> Iterator[tuple[Sample, ...]]:
    """Yield the samples in order, `size` at a time, for decoders that work on several at once."""
    for start in range(0, len(dataset.samples), size):
        yield dataset.samples[start : start + size]


def users_with_data(root: Path) -> dict[str, dict[Modality, int]]:
    """Return how many examples of each modality each user has: in both layouts; nothing is checked.

    Raises DataError where `root` is no folder with users.
    """
    data_root = _open_root(root)
    by_user: dict[str, dict[Modality, int]] = {}
    for user in known_users(root):
        counts: Counter[Modality] = Counter()
        if is_own(root, user):
            counts += count_own(data_root, user)
        if is_a3cp(data_root, user):
            counts += count_a3cp(data_root, user)
        if counts:
            by_user[user] = dict(sorted(counts.items()))
    if not by_user:
        raise DataError(
            [Fault(str(root), None, "users", "no user has data here; `model-trainer import` brings some in")]
        )
    return by_user


def known_users(root: Path) -> list[str]:
    """Return the user ids that have a folder in the data root, sorted; folders with other names are skipped."""
    names: set[str] = set()
    for users in (root / "users", root / "logs" / "users"):
        try:
            with os.scandir(users) as entries:
                names.update(entry.name for entry in entries if entry.is_dir())
        except OSError:
            continue
    return sorted(name for name in names if _is_name(name))


def read_user(
    root: DataRoot, user: str, modality: Modality | None, data_filter: DataFilter, data_format: DataFormat
) -> Reading:
    """Read one user's sessions in the layout that `data_format` names, or that is recognised."""
    own, a3cp = is_own(root.path, user), is_a3cp(root, user)
    if data_format == "own" or (data_format == "auto" and own and not a3cp):
        return read_own(root, user, modality, data_filter.sessions)
    if data_format == "a3cp" or (data_format == "auto" and a3cp and not own):
        stated = data_filter.consent_by is not None
        return read_a3cp(root, user, modality, data_filter.sessions, consent_stated=stated)
    if own:
        reason = "holds sessions in our own layout and A3CP's logs; choose with --data-format own or a3cp"
    elif user in known_users(root.path):
        reason = "holds no sessions; `model-trainer import` brings some in"
    else:
        users = known_users(root.path)
        reason = f"no such user; there are {some(users)}" if users else "no such user; there are none in this folder"
    return Reading(faults=[Fault(str(sessions_folder(root.path, user)), None, "user_id", reason)])


def reason_left_out(example: Example, data_filter: DataFilter) -> str | None:
    """Return why the filter leaves an example out, or None where it is used."""
    if data_filter.sessions is not None and example.session_id not in data_filter.sessions:
        return "session not chosen"
    if data_filter.since is not None and example.timestamp < data_filter.since:
        return "recorded before the chosen time"
    if data_filter.until is not None and example.timestamp >= data_filter.until:
        return "recorded after the chosen time"
    if example.label_status not in data_filter.label_status:
        return f"label is {example.label_status}"
    if data_filter.performers is not None and example.performer_id not in data_filter.performers:
        return "performer not chosen"
    if example.is_partial:
        return "partial transcript"
    if data_filter.require_consent and not example.consent_given:
        return "no consent"
    if example.is_demo and not data_filter.include_demo:
        return "demo data"
    return None


def _parse_arguments(root: Path, users: Sequence[str], modality: str) -> tuple[Modality, DataRoot]:
    faults: list[Fault] = []
    known: Modality | None = None
    try:
        known = parse_known_modality(modality)
    except InvalidNameError as refused:
        faults.append(Fault(str(root), None, "modality", str(refused)))
    for user in users:
        try:
            parse_name(user, "user id")
        except InvalidNameError as refused:
            faults.append(Fault(str(root), None, "user_id", str(refused)))
    if not users:
        faults.append(Fault(str(root), None, "user_id", "no user is named"))
    try:
        data_root = DataRoot.at(root)
    except RefusedFileError as refused:
        raise DataError([*faults, Fault(str(root), None, "data", str(refused))]) from None
    if faults or known is None:
        raise DataError(faults)
    return known, data_root


def _open_root(root: Path) -> DataRoot:
    try:
        return DataRoot.at(root)
    except RefusedFileError as refused:
        raise DataError([Fault(str(root), None, "data", str(refused))]) from None


def choose(reading: Reading, data_filter: DataFilter, ledger: list[Dropped], faults: list[Fault]) -> list[Record]:
    """Return the records that are used, one for each record id; the others go to the ledger."""
    first: dict[str, Record] = {}
    for record in reading.records:
        example = record.example
        reason = reason_left_out(example, data_filter)
        earlier = first.get(example.record_id)
        if reason is None and earlier is not None:
            if earlier.example != example:
                reason = f"{example.record_id!a} is also the id of another example, at {earlier.path}:{earlier.line}"
                faults.append(record.fault("record_id", reason))
                continue
            reason = "duplicate"
        if reason is None:
            first[example.record_id] = record
        else:
            ledger.append(record.dropped(reason))
    return list(first.values())


def _unknown_sessions(readings: Mapping[str, Reading], data_filter: DataFilter, place: str) -> list[Fault]:
    known = {session for reading in readings.values() for session in reading.session_ids}
    return [
        Fault(place, None, "session", f"there is no session {session!a}; there are {some(sorted(known))}")
        for session in data_filter.sessions or ()
        if known and session not in known
    ]


def _is_name(text: str) -> bool:
    try:
        return parse_name(text) == text
    except InvalidNameError:
        return False


def some(names: Sequence[str]) -> str:
    return list_names(names, 8)
