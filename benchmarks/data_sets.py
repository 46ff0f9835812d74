"""Real data sets that recipes are chosen on: `data_sets.yaml` names them, this module brings them into data roots.

A set lies where its repository was cloned, below a folder of your own: `<sets>/<owner>/<name>`; one that names no
repository lies in the folder that MODEL_TRAINER_DATA names. Nothing of them is part of this project.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
import tempfile
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Any, Literal, Self

import click
import numpy as np
import yaml
from numpy.typing import NDArray
from pydantic import Field, model_validator

from benchmarks.real_data import SOURCE, WORK
from gesture_trainer.preprocessing.landmarker import FACE_POINTS
from model_registry.names import Modality
from model_registry.storage.durable import file_sha256, put_in_place
from shared.data.formats.labels import name_labels, read_labels
from shared.data.formats.raw import Columns, Findings, RawSample, ReadOptions
from shared.data.formats.walking import natural
from shared.data.import_sessions import SessionSplit, assign, find_samples
from shared.data.import_writing import CONTRADICTIONS, Mode, Origin, import_samples
from shared.errors import ConfigError
from shared.schema_utils import Schema

TABLE = Path(__file__).with_name("data_sets.yaml")
sets_option = click.option(
    "--sets",
    type=click.Path(path_type=Path, exists=True, file_okay=False),
    default=lambda: os.environ.get("MODEL_TRAINER_SETS") or ".",
    help="Folder that the sets' repositories were cloned into (default: MODEL_TRAINER_SETS).",
)
USER = "somebody"  # whose all samples are, where a set names no users
_PALM = 1  # of the 22 joints of a Leap Motion hand: MediaPipe's 21 landmarks have none

Reader = Literal[
    "files",
    "table",
    "json",
    "line_pairs",
    "test_blocks",
    "hand_skeletons",
    "point_paths",
    "series_table",
    "body_skeletons",
    "frame_files",
    "numbered_pictures",
]


class Split(Schema):
    """How samples that name no session are cut into some: see `shared.data.import_sessions.SessionSplit`."""

    size: int | None = Field(default=None, ge=1, description="takes of each label in one session")
    blocks: int | None = Field(default=None, ge=2, description="sessions, each a contiguous part of each label")
    round_robin: int | None = Field(default=None, ge=2, description="sessions that each label's samples take turns in")


class ColumnNames(Schema):
    """Keys of JSON objects that hold the label and the text."""

    label: str
    text: str


class DataSet(Schema):
    """One real data set: where it lies, and how label, session and user are read."""

    name: str = Field(pattern=r"^[a-z][a-z0-9-]*$")
    modality: Modality
    repository: str | None = Field(
        default=None, pattern=r"^[\w.-]+/[\w.-]+$", description="owner/name on GitHub; null: in MODEL_TRAINER_DATA"
    )
    folder: str = Field(default=".", description="of the samples, or the one file that holds them")
    licence: str
    about: str = Field(description="what it is, and what its sessions are")
    reader: Reader = "files"
    pattern: str | None = Field(default=None, description="of paths below the folder: label, session, user, take")
    columns: ColumnNames | None = None
    labels: str | None = Field(default=None, description="file that says what each label is called")
    split: str | None = Field(default=None, description="part of a JSON file that is read")
    frame_size: int | None = Field(default=None, ge=1, description="numbers of a frame, where a row has several")
    encoding: str | None = Field(default=None, description="of gesture sequences")
    sessions: Split = Split()
    half: Literal["even"] | None = Field(
        default=None, description="only sessions whose name has an even MD5; the others are held out for the last test"
    )
    distinct: bool = Field(default=False, description="a file with the same content as an earlier one is left out")
    resting_hand: bool = Field(
        default=False, description="simulated: of a hand two, of which the other rests in view in half of the sessions"
    )
    least: int = Field(default=2, ge=2, description="samples that a label must have")
    limit: int | None = Field(default=None, ge=10, description="samples at most, evenly over labels and sessions")


class DataSetTable(Schema):
    """All of `data_sets.yaml`."""

    data_sets: tuple[DataSet, ...]

    @model_validator(mode="after")
    def _names_are_unique(self) -> Self:
        twice = [name for name, count in Counter(one.name for one in self.data_sets).items() if count > 1]
        if twice:
            raise ValueError(f"{', '.join(twice)} stands there twice")
        return self


@cache
def data_sets() -> tuple[DataSet, ...]:
    """Return the table."""
    return DataSetTable.model_validate(yaml.safe_load(TABLE.read_text(encoding="utf-8"))).data_sets


def place_of(one: DataSet, sets: Path) -> Path:
    """Return where the samples of a set lie, whether they are there or not."""
    return (SOURCE if one.repository is None else sets / one.repository) / one.folder


def data_root(one: DataSet, sets: Path) -> Path:
    """Return the data root of a set, made when it is not there yet. Raises ConfigError where the set is not there."""
    text = f"{one.model_dump_json()}\n{Path(__file__).read_text(encoding='utf-8')}"
    root = WORK / "sets" / f"{one.name}-{hashlib.sha256(text.encode()).hexdigest()[:10]}"
    if not root.is_dir():
        root.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=root.parent) as folder:  # another run may make the same one
            staged = Path(folder, "data")
            samples, faults = assign(read_samples(one, sets), USER, SessionSplit(**one.sessions.model_dump()), None)
            samples = _with_resting_hand(samples) if one.resting_hand else samples
            origin = Origin(one.modality, consent=True, encoding=one.encoding)
            import_samples(staged, samples, origin, Mode(leave_out=frozenset([CONTRADICTIONS])), known_faults=faults)
            with suppress(OSError):
                put_in_place(staged, root)
    return root


def read_samples(one: DataSet, sets: Path) -> Findings:
    """Return the samples of a set with label, session and user. Raises ConfigError where the set is not there."""
    place = place_of(one, sets)
    if not place.exists():
        raise ConfigError(f"{one.name}: {place} is not there; docs/data-sets.md says how to fetch it")
    found = _READERS[one.reader](one, place)
    if one.labels is not None:
        names = (SOURCE if one.repository is None else sets / one.repository) / one.labels
        name_labels(found, read_labels(names), names)
    samples: Iterable[RawSample] = found.samples
    if one.half == "even":
        samples = [sample for sample in samples if _is_even(sample.session or "")]
    samples = [replace(sample, session=_name(sample.session), user=_name(sample.user)) for sample in samples]
    if one.distinct:
        samples = _distinct(samples)
    samples = list(samples)
    counts = Counter(sample.label for sample in samples)
    kept = [sample for sample in samples if counts[sample.label] >= one.least]
    if not kept:
        raise ConfigError(f"{one.name}: nothing in {place} is a sample; see its reader and pattern in {TABLE.name}")
    return replace(found, samples=kept if one.limit is None else _limited(kept, one.limit))


def _with_resting_hand(samples: Sequence[RawSample]) -> list[RawSample]:
    """Return sequences (T, 42 or 63) of a right hand as (T, 126): left and right hand in the picture.

    In every second session of a user the left hand is in view: below, still but for a tremble, and of another shape in
    each session, which is that of a sample of another session. A hand in the plane is of palms' size, one in space is
    given in metres with y up.
    """
    of_users = sorted({(sample.user or "", sample.session or "") for sample in samples})
    shapes = {key: _in_picture(samples[len(samples) * k // len(of_users)])[0] for k, key in enumerate(of_users)}
    found: list[RawSample] = []
    for sample in samples:
        key = (sample.user or "", sample.session or "")
        active = _in_picture(sample)
        resting = np.zeros_like(active)
        if of_users.index(key) % 2:
            shape = shapes[of_users[of_users.index(key) - 1]]
            tremble = np.random.default_rng(len(found)).normal(scale=0.002, size=active.shape)
            resting = shape - shape.mean(axis=0) + [0.25, 0.9, 0.0] + tremble
        both = np.stack([resting, active], axis=1).astype(np.float32)
        found.append(replace(sample, content=both.reshape(len(both), -1)))
    return found


def _in_picture(sample: RawSample) -> NDArray[np.float32]:
    """Return a sample's hand (T, 21, 3) in a picture of which it takes about a fifth, y down."""
    assert isinstance(sample.content, np.ndarray)
    points = sample.content.reshape(len(sample.content), 21, -1)
    if points.shape[2] == 2:
        return np.pad(points * 0.1, ((0, 0), (0, 0), (0, 1))) + np.array([0.6, 0.5, 0.0], np.float32)
    return points * np.array([1, -1, 1], np.float32) + np.array([0.2, 0.2, 0.0], np.float32)


def _name(text: str | None) -> str | None:
    """Return a name that a folder may have."""
    return None if text is None else re.sub(r"[^a-z0-9-]+", "-", text.lower()).strip("-") or "none"


def _is_even(session: str) -> bool:
    return int(hashlib.md5(session.encode(), usedforsecurity=False).hexdigest(), 16) % 2 == 0


def _distinct(samples: Iterable[RawSample]) -> list[RawSample]:
    """Return the samples without files that are copies of earlier ones."""
    first: dict[str, RawSample] = {}
    for sample in samples:
        if isinstance(sample.content, Path):
            first.setdefault(file_sha256(sample.content), sample)
    return list(first.values())


def _limited(samples: list[RawSample], limit: int) -> list[RawSample]:
    """Return at most `limit` samples: as many of each label as there are, or as an even share allows.

    Those of a label are spread over its sessions, and over where they stand in each.
    """
    by_label: dict[str, list[RawSample]] = {}
    for sample in samples:
        by_label.setdefault(sample.label, []).append(sample)
    kept: list[RawSample] = []
    for number, own in enumerate(sorted(by_label.values(), key=len)):
        share = min(len(own), max((limit - len(kept)) // (len(by_label) - number), 1))
        ordered = sorted(own, key=lambda sample: (sample.user or "", sample.session or ""))
        kept += [ordered[k * len(ordered) // share] for k in range(share)]
    return kept


def _files(one: DataSet, place: Path) -> Findings:
    return find_samples(place, ReadOptions(pattern=one.pattern))


def _table(one: DataSet, place: Path) -> Findings:
    return find_samples(place, ReadOptions(frame_size=one.frame_size))


def _json(one: DataSet, place: Path) -> Findings:
    columns = Columns(**one.columns.model_dump()) if one.columns else Columns()
    return find_samples(place, ReadOptions(columns, splits=(one.split,) if one.split else ()))


def _line_pairs(one: DataSet, place: Path) -> Findings:
    """Texts in `seq.in` and, line by line, their labels in `label`."""
    texts, labels = (place.joinpath(name).read_text(encoding="utf-8").splitlines() for name in ("seq.in", "label"))
    pairs = enumerate(zip(texts, labels, strict=True), start=1)
    return Findings([RawSample(str(place / "seq.in"), k, label, text, name=f"{k}") for k, (text, label) in pairs])


def _test_blocks(one: DataSet, place: Path) -> Findings:
    """YAML files of `tests`, each with sentences and the intent that they mean; such a block is a session."""
    samples = []
    for path in sorted(place.glob("[a-z]*.yaml")):
        blocks = yaml.safe_load(path.read_text(encoding="utf-8")).get("tests", ())
        for number, block in enumerate(blocks):
            session, label = f"{path.stem}-{number}", block["intent"]["name"]
            for k, sentence in enumerate(block["sentences"]):
                samples.append(RawSample(str(path), None, label, str(sentence), session=session, name=f"{session}-{k}"))
    return Findings(samples)


def _hand_skeletons(one: DataSet, place: Path) -> Findings:
    """Text files with 22 joints x, y, z a line: wrist, palm, then each finger. The palm is left out."""
    samples = []
    for groups, path in _matching(one, place):
        joints = np.loadtxt(path, dtype=np.float32, ndmin=2).reshape(-1, 22, 3)
        samples.append(_gesture(groups, path, place, np.delete(joints, _PALM, axis=1).reshape(len(joints), -1)))
    return Findings(samples)


def _point_paths(one: DataSet, place: Path) -> Findings:
    """Text files with x, y, z and the time of a point a line."""
    return Findings(
        [
            _gesture(groups, path, place, np.loadtxt(path, dtype=np.float32, ndmin=2)[:, :3])
            for groups, path in _matching(one, place)
        ]
    )


def _series_table(one: DataSet, place: Path) -> Findings:
    """Tables with a series of one channel a row: its label, then its values, padded with NaN."""
    samples = []
    for groups, path in _matching(one, place):
        for number, row in enumerate(np.loadtxt(path, dtype=np.float32, ndmin=2)):
            series = row[1:][np.isfinite(row[1:])].reshape(-1, 1)
            own = groups | {"label": f"{row[0]:g}"}
            samples.append(replace(_gesture(own, path, place, series), name=f"{path.name}:{number}", line=number + 1))
    return Findings(samples)


def _body_skeletons(one: DataSet, place: Path) -> Findings:
    """`joints_sSS_eE.txt`: frame number and 20 joints x, y, z a line; `data.txt`: frames of the ten actions in each."""
    rows = np.genfromtxt(place / "data.txt")  # NaN where an action was not done
    samples = []
    for start in range(0, len(rows), 11):
        subject, execution = rows[start].astype(int)
        path = place / f"joints_s{subject:02d}_e{execution:02d}.txt"
        frames = np.loadtxt(path, dtype=np.float32, ndmin=2)
        for action, (first, last) in enumerate(rows[start + 1 : start + 11], start=1):
            own = frames[(frames[:, 0] >= first) & (frames[:, 0] <= last), 1:]
            if len(own):
                groups = {"label": f"action-{action}", "session": f"subject-{subject}"}
                samples.append(replace(_gesture(groups, path, place, own), name=f"{path.name}:{action}"))
    return Findings(samples)


def _frame_files(one: DataSet, place: Path) -> Findings:
    """A JSON file a frame: pixels of 4 points of the face, 33 of the body, 21 of each hand; made 107 points of ours."""
    takes: dict[Path, dict[int, Path]] = {}
    labels: dict[Path, str] = {}
    for groups, path in _matching(one, place):
        takes.setdefault(path.parent, {})[int(groups["frame"])] = path
        labels[path.parent] = groups["label"]
    samples = []
    for folder, frames in takes.items():
        pixels = np.array([json.loads(path.read_text()) for _, path in sorted(frames.items())], np.float32)[:, 8:]
        points = np.concatenate([pixels / 640.0, np.zeros((len(pixels), 2 * len(FACE_POINTS)), np.float32)], axis=1)
        samples.append(RawSample(str(folder), None, labels[folder], points, name=folder.relative_to(place).as_posix()))
    return Findings(samples)


def _numbered_pictures(one: DataSet, place: Path) -> Findings:
    """Pictures that were numbered as they were taken: a new person begins where a label comes again."""
    found = find_samples(place, ReadOptions(pattern=one.pattern))
    person, seen, samples = 0, set[str](), []
    for sample in sorted(found.samples, key=lambda sample: int(sample.take or 0)):
        if sample.label in seen:
            person, seen = person + 1, set()
        seen.add(sample.label)
        samples.append(replace(sample, session=f"person-{person:03d}"))
    return replace(found, samples=samples)


def _matching(one: DataSet, place: Path) -> Iterator[tuple[dict[str, str], Path]]:
    """Yield the groups of the pattern and the path of each file that it matches."""
    expression = re.compile(one.pattern or "")
    for path in sorted(place.rglob("*"), key=lambda path: natural(str(path))):
        match = expression.fullmatch(path.relative_to(place).as_posix())
        if match is not None and path.is_file():
            yield match.groupdict(), path


def _gesture(groups: Mapping[str, str], path: Path, place: Path, sequence: NDArray[np.float32]) -> RawSample:
    own: dict[str, Any] = {key: value for key, value in groups.items() if key in ("session", "user")}
    return RawSample(str(path), None, groups["label"], sequence, name=path.relative_to(place).as_posix(), **own)


_READERS: Mapping[Reader, Callable[[DataSet, Path], Findings]] = {
    "files": _files,
    "table": _table,
    "json": _json,
    "line_pairs": _line_pairs,
    "test_blocks": _test_blocks,
    "hand_skeletons": _hand_skeletons,
    "point_paths": _point_paths,
    "series_table": _series_table,
    "body_skeletons": _body_skeletons,
    "frame_files": _frame_files,
    "numbered_pictures": _numbered_pictures,
}
