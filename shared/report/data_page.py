"""A page of one person's samples to look at and to listen to: self-contained, and without a script."""

from __future__ import annotations

import base64
from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

from pydantic import AliasChoices, BaseModel, ConfigDict, Field, JsonValue

from model_registry.languages import Language, Words
from model_registry.timestamps import utc_now
from shared.data.feature_files import SIZE_LIMIT, FeatureFileError, parse_features
from shared.data.files import RefusedFileError, read_bounded
from shared.data.identity import content_of
from shared.data.media.previews import FRAMES, SECONDS, preview
from shared.data.records import Dropped, Record
from shared.errors import Fault
from shared.progress import Progress, silent
from shared.report.pages import page_environment, page_words
from shared.report.traces import trace
from shared.trainers import title_of

SHOWN = 24  # samples of each label and session
SIZE = 24 * 1024**2  # bytes of all sounds, pictures and traces of a page, before base64
_TEXT = 600  # characters of a text
_LISTED = 200  # faults, warnings and samples left out
_TOGETHER = 32  # samples whose contents are made at a time
_THREADS = 2

# What is said of a sample, in English; the names between parentheses are filled in.
SUSPECTED = "its label may be wrong: it is more like %(label)s"
ODD = "predicted as %(label)s by a model that was not trained on it"
FULL = "not shown here: the page is full"
UNREADABLE = "its file cannot be read"
UNPLAYABLE = "cannot be shown without the package %(package)s"
SAME, NEARLY_SAME = "the same content", "nearly the same"
TEXTS = (SUSPECTED, ODD, FULL, UNREADABLE, UNPLAYABLE, SAME, NEARLY_SAME)

Place = tuple[str, int]  # file and line that describe a sample


class DoubtfulSample(BaseModel):
    """A sample that a model predicted as another label than its own."""

    record_id: str
    label: str
    predicted: str = Field(validation_alias=AliasChoices("predicted", "rather", "answered"))  # as older logs call it


class NearCopy(BaseModel):
    """A picture that is nearly the same as one of another session."""

    record_id: str
    near_copy_of: str


class LoggedAudit(BaseModel):
    """The audit in a training log entry, as far as a page shows it."""

    suspected_labels: tuple[DoubtfulSample, ...] = ()
    near_identical: tuple[tuple[str, str], ...] = ()


class LoggedMetrics(BaseModel):
    """The metrics in a training log entry, as far as a page shows them."""

    audit: LoggedAudit = LoggedAudit()


class LoggedFindings(BaseModel):
    """What a page shows of a training log entry; everything else in it is ignored."""

    model_config = ConfigDict(protected_namespaces=())

    user_id: str
    modality: str
    metrics: LoggedMetrics
    run_id: str = ""
    model_version: str | None = None
    misclassified: tuple[DoubtfulSample, ...] = ()
    media: tuple[dict[str, JsonValue], ...] = ()

    @property
    def near_copies(self) -> tuple[tuple[str, str], ...]:
        """Pairs of record ids of samples that are nearly the same."""
        rows = [NearCopy.model_validate(row) for row in self.media if "near_copy_of" in row]
        return (*self.metrics.audit.near_identical, *((row.near_copy_of, row.record_id) for row in rows))


@dataclass(frozen=True)
class PageContents:
    """What a page shows of one user: the samples that are used, their files, and what is wrong or left out.

    `logs` are the training log entries of the last training of each modality, where there are any.
    """

    user_id: str
    used: Sequence[Record]
    files: Mapping[Place, Path]
    left_out: Sequence[Dropped]
    faults: Sequence[Fault]
    warnings: Sequence[Fault]
    logs: Sequence[LoggedFindings] = ()
    language: Language = "en"


@dataclass(frozen=True)
class _Card:
    """One sample as it is shown: `kind` is audio, image, trace, text or none, and `content` what it needs."""

    anchor: str
    record_id: str
    label: str
    session: str
    file: str
    kind: str
    content: str
    notes: tuple[str, ...]


@dataclass(frozen=True)
class _Findings:
    """What the audit of a training says of the samples that are still there: record ids, and a note on each."""

    suspected: dict[str, str]
    odd: dict[str, str]
    copies: tuple[tuple[str, str], ...]


def data_page(contents: PageContents, progress: Progress = silent) -> bytes:
    """Return the page as UTF-8 HTML that loads nothing from elsewhere.

    The page shows at most SHOWN samples of each label and session, and contents of at most SIZE bytes: first of samples
    that need attention, then of every label and session in turn.
    """
    by_id = {record.example.record_id: record for record in contents.used}
    words = page_words(contents.language)
    findings = [(log, _findings(log, by_id, words)) for log in contents.logs]
    notes = _notes(contents, findings)
    pairs = _pairs(contents.used, findings)
    above = [key for _, found in findings for key in (*found.suspected, *found.odd)]
    needing = {*notes, *(key for pair, _ in pairs for key in pair)}
    groups: dict[tuple[str, str, str], list[Record]] = defaultdict(list)
    for record in contents.used:
        example = record.example
        groups[example.modality, example.label, example.session_id].append(record)
    chosen = {
        key: sorted(records, key=lambda record: record.example.record_id not in needing)[:SHOWN]
        for key, records in groups.items()
    }
    in_turn = [records[k] for k in range(SHOWN) for records in chosen.values() if k < len(records)]
    wanted = {record.example.record_id: record for record in (*(by_id[key] for key in above), *in_turn)}
    cards = _cards(list(wanted.values()), contents.files, notes, words, progress)
    page: str = _template(contents.language).render(
        user=contents.user_id,
        written=utc_now(),
        faults=contents.faults[:_LISTED],
        warnings=contents.warnings[:_LISTED],
        left_out=contents.left_out[:_LISTED],
        more={name: max(len(getattr(contents, name)) - _LISTED, 0) for name in ("faults", "warnings", "left_out")},
        reasons=Counter(dropped.reason for dropped in contents.left_out).most_common(),
        attention=[_attention(log, found, cards, words) for log, found in findings],
        above=frozenset(above),
        copies=[
            {"how": how, "samples": [(by_id[key].example, cards.get(key)) for key in pair]}
            for pair, how in pairs[:_LISTED]
        ],
        modalities=[_modality(name, groups, chosen, cards, words) for name in sorted({key[0] for key in groups})],
        shown=sum(card.kind != "none" for card in cards.values()),
        total=len(contents.used),
        limits={"each": SHOWN, "megabytes": SIZE // 1024**2, "seconds": SECONDS, "frames": FRAMES},
    )
    return page.encode()


def _findings(log: LoggedFindings, by_id: Mapping[str, Record], words: Words) -> _Findings:
    """Return what a training log says of samples that still have the label that they were trained with."""

    def described(rows: Sequence[DoubtfulSample], text: str) -> dict[str, str]:
        return {
            row.record_id: words.text(text) % {"label": row.predicted}
            for row in rows
            if row.record_id in by_id and by_id[row.record_id].example.label == row.label
        }

    suspected = described(log.metrics.audit.suspected_labels, SUSPECTED)
    odd = described(log.misclassified, ODD)
    present = tuple(dict.fromkeys(pair for pair in log.near_copies if pair[0] in by_id and pair[1] in by_id))
    return _Findings(suspected, {key: note for key, note in odd.items() if key not in suspected}, present)


def _notes(contents: PageContents, findings: Sequence[tuple[LoggedFindings, _Findings]]) -> dict[str, tuple[str, ...]]:
    """Return what is to be said of each sample that needs attention, by record id."""
    notes: dict[str, list[str]] = defaultdict(list)
    ids = {(record.path, record.line): record.example.record_id for record in contents.used}
    for fault in (*contents.faults, *contents.warnings):
        if fault.line is not None and (record_id := ids.get((fault.path, fault.line))) is not None:
            notes[record_id].append(fault.reason)
    for _, found in findings:
        for record_id, note in (*found.suspected.items(), *found.odd.items()):
            notes[record_id].append(note)
    return {record_id: tuple(dict.fromkeys(texts)) for record_id, texts in notes.items()}


def _cards(
    records: Sequence[Record],
    files: Mapping[Place, Path],
    notes: Mapping[str, tuple[str, ...]],
    words: Words,
    progress: Progress,
) -> dict[str, _Card]:
    """Return a card for each record, by record id; where the page is full, cards without a content."""
    cards: dict[str, _Card] = {}
    size = 0
    parts = [records[start : start + _TOGETHER] for start in range(0, len(records), _TOGETHER)]
    with ThreadPoolExecutor(_THREADS) as pool:
        for part in progress(parts, "drawing"):
            if size < SIZE:
                made = list(
                    pool.map(lambda record: _content(record, files.get((record.path, record.line)), words), part)
                )
            else:
                made = [("none", words.text(FULL))] * len(part)
            for record, (kind, content) in zip(part, made, strict=True):
                example = record.example
                size += len(content) * 3 // 4 if kind in ("audio", "image") else len(content)
                cards[example.record_id] = _Card(
                    anchor=f"s{len(cards) + 1}",
                    record_id=example.record_id,
                    label=example.label,
                    session=example.session_id,
                    file="" if record.file is None else record.file.name,
                    kind=kind,
                    content=content,
                    notes=notes.get(example.record_id, ()),
                )
    return cards


def _content(record: Record, file: Path | None, words: Words) -> tuple[str, str]:
    """Return the kind of a sample's content and the content: text, SVG, a data URL, or why there is none."""
    example = record.example
    if example.transcript is not None:
        text = example.transcript
        return "text", text if len(text) <= _TEXT else f"{text[:_TEXT]}…"
    if file is None:
        return "none", words.text(UNREADABLE)
    try:
        if example.features is not None:
            features = parse_features(read_bounded(file, SIZE_LIMIT), example.features.format)
            return "trace", trace(features, example.features.encoding, example.label)
        media_type, content = preview(file, example)
    except ModuleNotFoundError as error:
        return "none", words.text(UNPLAYABLE) % {"package": error.name}
    except (ValueError, OSError, RefusedFileError, FeatureFileError) as error:
        return "none", str(error)
    kind = media_type.split("/")[0]
    return kind, f"data:{media_type};base64,{base64.b64encode(content).decode()}"


def _attention(log: LoggedFindings, found: _Findings, cards: Mapping[str, _Card], words: Words) -> dict[str, Any]:
    return {
        "title": _title(log.modality, words),
        "version": log.model_version or log.run_id,
        "suspected": [cards[record_id] for record_id in found.suspected],
        "odd": [cards[record_id] for record_id in found.odd],
    }


def _pairs(
    used: Sequence[Record], findings: Sequence[tuple[LoggedFindings, _Findings]]
) -> list[tuple[tuple[str, str], str]]:
    """Return pairs of record ids that are copies: of the same content, or nearly the same as a training found."""
    first: dict[tuple[str, str], str] = {}
    pairs: dict[tuple[str, str], str] = {}
    for record in used:
        example = record.example
        original = first.setdefault((example.modality, content_of(example)), example.record_id)
        if original != example.record_id:
            pairs[original, example.record_id] = SAME
    for _, found in findings:
        for pair in found.copies:
            pairs.setdefault(pair, NEARLY_SAME)
    return list(pairs.items())


def _modality(
    name: str,
    groups: Mapping[tuple[str, str, str], Sequence[Record]],
    chosen: Mapping[tuple[str, str, str], Sequence[Record]],
    cards: Mapping[str, _Card],
    words: Words,
) -> dict[str, Any]:
    mine = {key: records for key, records in groups.items() if key[0] == name}
    labels, sessions = sorted({key[1] for key in mine}), sorted({key[2] for key in mine})

    def shown(label: str) -> Iterator[dict[str, Any]]:
        for session in sessions:
            key = (name, label, session)
            if key in mine:
                samples = [cards[record.example.record_id] for record in chosen[key]]
                yield {"session": session, "samples": samples, "more": len(mine[key]) - len(samples)}

    return {
        "title": _title(name, words),
        "sessions": sessions,
        "table": [(label, [len(mine.get((name, label, session), ())) for session in sessions]) for label in labels],
        "labels": [{"label": label, "sessions": list(shown(label))} for label in labels],
    }


def _title(modality: str, words: Words) -> str:
    """Return what a page calls a modality as a heading."""
    if words.language == "en":
        return title_of(modality)
    name = words.modality(modality)
    return f"{name[:1].upper()}{name[1:]}"


@lru_cache
def _template(language: Language) -> Any:
    return page_environment(page_words(language)).get_template("data_page.html")
