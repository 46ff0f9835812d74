"""Samples: examples whose files exist, are unchanged and readable; and what makes a set of them unfit for training."""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from shared.data.feature_files import SIZE_LIMIT, FeatureFileError, parse_features
from shared.data.files import DataRoot, RefusedFileError, read_bounded, sha256_of
from shared.data.media_types import TEXT, media_type
from shared.data.records import Dropped, Record
from shared.errors import DataError, Fault
from shared.schema_utils import BACKGROUND, Example, FeaturesRef, FileRef
from shared.trainers import all_trainers

_EMPTY = hashlib.sha256(b"").hexdigest()


@dataclass(frozen=True)
class Sample:
    """One example that is used: its file exists, lies in the data root and has the expected hash.

    `path` is that file; `source` and `line` say which line of which file describes the example.
    """

    record_id: str
    user_id: str
    session_id: str
    label: str
    path: Path | None
    content_sha256: str
    example: Example = field(repr=False)
    source: str
    line: int
    features: NDArray[np.float32] | None = field(default=None, repr=False, compare=False)

    @property
    def encoding(self) -> str:
        """What its numbers are, in A3CP's words, or its file's media type."""
        if self.example.features is not None:
            return self.example.features.encoding
        return TEXT if self.path is None else media_type(self.path)

    def fault(self, field: str, reason: str) -> Fault:
        """Return a fault at the line that describes this sample."""
        return Fault(self.source, self.line, field, reason)

    def media_fault(self, reason: str) -> Fault:
        """Return a fault of this sample's media file, which its reason names."""
        return self.fault("media", f"{self.path.name}: {reason}" if self.path else reason)

    def dropped(self, reason: str) -> Dropped:
        """Return this sample's row in the ledger."""
        return Dropped(self.record_id, reason, self.source, self.line)


def load_features(sample: Sample) -> NDArray[np.float32]:
    """Return (T, D) float32: the frames of a sample that refers to a feature file; one vector is (1, D).

    Raises DataError where the sample has no feature file or the file cannot be used.
    """
    if sample.features is not None:
        return sample.features
    reference = sample.example.features
    if reference is None or sample.path is None:
        raise DataError([sample.fault("features", "refers to no feature file")])
    try:
        return parse_features(read_bounded(sample.path, SIZE_LIMIT), reference.format)
    except (FeatureFileError, RefusedFileError) as refused:
        raise DataError([sample.fault("features", f"{sample.path.name}: {refused}")]) from None


def verified(root: DataRoot, record: Record, faults: list[Fault]) -> Sample | None:
    """Return the sample of a record whose file exists, unchanged and readable; otherwise add a fault."""
    example = record.example
    place: Path | None = None
    features: NDArray[np.float32] | None = None
    try:
        if record.file is not None:
            place = root.locate(record.file)
        if example.media is not None and place is not None:
            digest = _media_hash(place, example.media)
        elif example.features is not None and place is not None:
            digest = example.features.sha256
            features = _features(place, example.features)
        else:
            digest = hashlib.sha256((example.transcript or "").encode()).hexdigest()
    except (RefusedFileError, FeatureFileError) as refused:
        field_name, name = ("media", example.media.path) if example.media else ("features", _uri(example))
        faults.append(record.fault(field_name, f"{name}: {refused}"))
        return None
    return Sample(
        record_id=example.record_id,
        user_id=example.user_id,
        session_id=example.session_id,
        label=example.label,
        path=place,
        content_sha256=digest,
        example=example,
        source=record.path,
        line=record.line,
        features=features,
    )


def _uri(example: Example) -> str:
    return example.features.uri if example.features is not None else ""


def _media_hash(place: Path, reference: FileRef) -> str:
    digest = sha256_of(place)
    if digest == _EMPTY:
        raise RefusedFileError("is empty")
    _require_hash(digest, reference.sha256)
    return digest


def _features(place: Path, reference: FeaturesRef) -> NDArray[np.float32]:
    content = read_bounded(place, SIZE_LIMIT)
    _require_hash(hashlib.sha256(content).hexdigest(), reference.sha256)
    features = parse_features(content, reference.format)
    if features.shape != reference.shape:
        raise FeatureFileError(f"its shape is {features.shape}, the reference says {reference.shape}")
    return features


def _require_hash(actual: str, expected: str) -> None:
    if actual != expected:
        raise RefusedFileError(
            f"its content has changed (sha256 is {actual[:12]}…, not {expected[:12]}…); restore it or import it again"
        )


def label_faults(
    records: Sequence[Record], modality: str, minimum: int, ledger: Sequence[Dropped], place: str, others: bool
) -> list[Fault]:
    """Return what makes the labels unfit for training, background aside; `others`: whether other faults explain it."""
    counts = Counter(record.example.label for record in records if record.example.label != BACKGROUND)
    if not counts:
        if others:
            return []  # the other faults say why nothing is left
        reasons = Counter(dropped.reason for dropped in ledger)
        left_out = ", ".join(f"{count} left out ({reason})" for reason, count in reasons.most_common())
        hint = "; `model-trainer check` shows what is there"
        return [Fault(place, None, modality, f"no sample to train on: {left_out or 'none was recorded'}{hint}")]
    faults = [
        Fault(
            place,
            None,
            "label",
            f"'{label}' has {count} {modality} sample{'s' * (count != 1)}; at least {minimum} are needed "
            f"(record {minimum - count} more, or set minimum_per_label={count})",
        )
        for label, count in sorted(counts.items())
        if count < minimum
    ]
    if len(counts) == 1:
        only = next(iter(counts))
        faults.append(
            Fault(place, None, "label", f"all {modality} samples are '{only}'; at least two labels are needed")
        )
    return faults


def encoding_faults(records: Sequence[Record], modality: str, place: str) -> list[Fault]:
    """Return a fault where the feature files of one training set have several encodings, or there are recordings, too.

    A trainer that extracts features from recordings says itself which of them go together.
    """
    kinds = Counter(
        (record.example.features.encoding, record.example.features.shape[1])
        for record in records
        if record.example.features is not None
    )
    trainer = all_trainers().get(modality)
    others = sum(record.example.features is None for record in records)
    if len(kinds) == 1 and others and (trainer is None or not trainer.extracts):
        ready = len(records) - others
        reason = f"{ready} samples are ready-made features and {others} are not, but one model takes either"
        return [Fault(place, None, "encoding", f"{reason}; choose with --session")]
    if len(kinds) < 2:
        return []
    encodings = ", ".join(
        f"'{encoding}' with {width} numbers a frame ({n} samples)" for (encoding, width), n in kinds.items()
    )
    reason = f"one {modality} model needs one encoding, but here are {encodings}; choose with --session"
    return [Fault(place, None, "encoding", reason)]
