"""Feature files, clips and images -> sequences, from which features are computed."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from gesture_trainer.preprocessing.clips import IMAGE_SUFFIXES, VIDEO_SUFFIXES
from gesture_trainer.preprocessing.extraction import (
    Clip,
    Extraction,
    as_trained,
    extract_clips,
    spec_of,
    task_files,
    without_landmark,
)
from gesture_trainer.preprocessing.landmarker import EXTRACTED_WIDTHS, RATE
from gesture_trainer.preprocessing.layouts import COORDINATES, ORDER, Layout, layout_of
from gesture_trainer.preprocessing.sandbox import Failure
from gesture_trainer.preprocessing.validity import invalid_reason
from shared.data.files import RefusedFileError, sha256_of
from shared.data.media.containers import UnreadableMediaError
from shared.data.media.video import read_timing
from shared.data_loader import Dataset, Sample, load_features
from shared.errors import DataError, Fault, InvalidInputError
from shared.features.cache import FeatureCache
from shared.features.encoders import Encoder
from shared.ready_features import decode_ready_features
from shared.recipe import Cutting, Window

_SECONDS_PER_FRAME = 0.05  # of a core, to find the landmarks of a frame


@dataclass(frozen=True)
class Extracted:
    """How clips became sequences, and how many frames and clips lack landmarks."""

    spec: Mapping[str, Any]
    clips: int
    frames: int
    frames_without_landmark: int
    failed: int  # clips that gave no usable sequence


@dataclass(frozen=True)
class Sequences:
    """A user's sequences, each (T, D) float32 of its own length T, and what their D numbers are."""

    sequences: tuple[NDArray[np.float32], ...]
    encoding: str
    width: int
    layout: Layout
    extracted: Extracted | None = None


def landmark_sequences(
    dataset: Dataset,
    config: Extraction,
    minimum_per_label: int = 1,
    least_frames: int = 1,
    cache: FeatureCache | None = None,
    on_done: Callable[[int, int], None] = lambda done, total: None,
) -> tuple[Sequences, Dataset]:
    """Return the (T, D) float32 sequences of a data set, which are of one encoding, and the samples that have one.

    Feature files are read, clips and images extracted; what has no landmarks or fewer than `least_frames` is entered in
    the ledger of the data set returned. Raises DataError where that leaves a label with too few samples, and where
    feature files have another encoding than clips get.
    """
    media = [k for k, sample in enumerate(dataset.samples) if sample.example.features is None]
    encoding = _encoding_of(dataset, config)
    clips = [_clip(dataset.samples[k]) for k in media]
    extracted = dict(zip(media, extract_clips(clips, config, cache, on_done) if clips else [], strict=True))
    kept: list[Sample] = []
    sequences: list[NDArray[np.float32]] = []
    lost: list[tuple[Sample, str]] = []
    frames = blank = 0
    for k, sample in enumerate(dataset.samples):
        result = extracted[k] if k in extracted else load_features(sample)
        if isinstance(result, Failure):
            lost.append((sample, result.reason))
            continue
        if k in extracted:
            frames, blank = frames + len(result), blank + int(without_landmark(result).sum())
        invalid = invalid_reason(result, layout_of(encoding, result.shape[1]), least_frames)
        if invalid is not None:
            lost.append((sample, invalid))
            continue
        kept.append(sample)
        sequences.append(result)
    failed = sum(sample.example.features is None for sample, _ in lost)
    _require_enough(kept, lost, dataset.labels, minimum_per_label)
    ledger = (*dataset.ledger, *(sample.dropped(reason) for sample, reason in lost))
    width = sequences[0].shape[1]
    summary = Extracted(spec_of(config, task_files(config)), len(media), frames, blank, failed) if media else None
    return (
        Sequences(tuple(sequences), encoding, width, layout_of(encoding, width), summary),
        replace(dataset, samples=tuple(kept), ledger=ledger),
    )


def planned_sequences(dataset: Dataset, config: Extraction) -> tuple[Sequences, float]:
    """Return the sequences before clips are extracted, and about how many seconds that takes a core.

    In place of a clip's landmarks stand as many frames of zeros. Raises DataError for what is no clip, image or
    feature file, and for more than one encoding.
    """
    encoding = _encoding_of(dataset, config)
    sequences, frames = [], 0
    for sample in dataset.samples:
        if sample.example.features is not None:
            sequences.append(load_features(sample))
            continue
        length = _planned_frames(_clip(sample))
        sequences.append(np.zeros((length, EXTRACTED_WIDTHS[config.encoding]), np.float32))
        frames += length
    width = sequences[0].shape[1]
    planned = Sequences(tuple(sequences), encoding, width, layout_of(encoding, width))
    return planned, _SECONDS_PER_FRAME * frames


def _planned_frames(clip: Clip) -> int:
    """Return how many frames a clip or image gives, at most. Raises DataError for a clip that cannot be read."""
    if clip.path.suffix.lower() in IMAGE_SUFFIXES:
        return 1
    try:
        seconds = clip.offset or read_timing(clip.path).seconds
    except UnreadableMediaError as error:
        raise DataError([Fault(str(clip.path), None, "media", str(error))]) from None
    return max(round((seconds - clip.onset) * RATE), 1)


def _encoding_of(dataset: Dataset, config: Extraction) -> str:
    """Return the one encoding of a data set's sequences. Raises DataError where there are several."""
    encodings = {s.example.features.encoding: s for s in dataset.samples if s.example.features is not None}
    for sample in dataset.samples:
        if sample.example.features is None:
            encodings.setdefault(config.encoding, sample)
    if len(encodings) > 1:
        present = ", ".join(sorted(encodings))
        reason = f"one model needs one encoding, but there are {present}; set extraction.encoding or use --session"
        raise DataError([s.fault("encoding", reason) for s in encodings.values()])
    (encoding,) = encodings
    return encoding


def preparation(data: Sequences, shortest: int, live: int | None) -> dict[str, Any]:
    """Return what the numbers of a sequence are, for whoever makes the input `sequence` without `decode`.

    `shortest` is the fewest frames, `live` the length of the windows of a running camera where the model takes them.
    """
    landmarks = data.layout not in ("path_xy", "channels")
    return {
        "encoding": data.encoding,
        "numbers_per_frame": data.width,
        "coordinates_per_point": COORDINATES[data.layout] or None,
        "order": ORDER[data.layout],
        "unit": "image coordinates, 0 to 1, x to the right and y down" if landmarks else "as in the training data",
        "missing_point": 0.0 if landmarks else None,
        "frames_per_second": RATE if data.encoding in EXTRACTED_WIDTHS else None,
        "shortest_frames": shortest,
        "window_frames": live,
        "steps": ["use the numbers as they are: position and size are normalised in the model"],
    }


_LIVE_FRAMES, _LIVE_STRIDE = 16, 5  # of A3CP's classifier


def windows(
    sequence: NDArray[np.float32], length: int = _LIVE_FRAMES, stride: int = _LIVE_STRIDE
) -> list[NDArray[np.float32]]:
    """(T, D) -> (length, D) each, as A3CP's classifier cuts a video at 15 frames a second; none if shorter."""
    return [sequence[start : start + length] for start in range(0, len(sequence) - length + 1, stride)]


def split_into_windows(data: Sequences, dataset: Dataset, length: int, stride: int) -> tuple[Sequences, Dataset]:
    """Make each window of a sequence, none shorter than `length`, a sample of the same session and label."""
    samples: list[Sample] = []
    parts: list[NDArray[np.float32]] = []
    for sample, sequence in zip(dataset.samples, data.sequences, strict=True):
        for number, part in enumerate(windows(sequence, length, stride)):
            samples.append(replace(sample, record_id=f"{sample.record_id}@{number * stride}"))
            parts.append(part)
    return replace(data, sequences=tuple(parts)), replace(dataset, samples=tuple(samples))


def decode(path: Path, spec: Mapping[str, Any], encoders: Mapping[str, Encoder]) -> dict[str, NDArray[np.float32]]:
    """Return a feature file, clip or image as the model's input `sequence` (T, D) float32.

    Raises DataError for a file that cannot be used, or whose D is not the model's; InvalidInputError for one without
    landmarks or with too few frames; ConfigError where the landmarkers that the model was trained with are missing.
    """
    if path.suffix.lower() in VIDEO_SUFFIXES | IMAGE_SUFFIXES:
        sequence = _decoded_media(path, spec)
    else:
        sequence = decode_ready_features(path, spec)["sequence"]
    if sequence.shape[1] != spec["width"]:
        reason = f"{sequence.shape[1]} numbers a frame, but the model takes {spec['width']}"
        raise DataError([Fault(str(path), None, "features", reason)])
    invalid = invalid_reason(sequence, layout_of(spec["encoding"], spec["width"]), spec.get("least_frames", 1))
    if invalid is not None:
        raise InvalidInputError([Fault(str(path), None, "features", invalid)])
    return {"sequence": sequence}


def sequence_windows(
    path: Path, spec: Mapping[str, Any], encoders: Mapping[str, Encoder], cutting: Cutting
) -> Iterator[Window]:
    """Yield windows of a long sequence or video: A3CP's 16 frames every 5 unless `cutting` says otherwise.

    Raises DataError for a file that cannot be used.
    """
    rate = spec.get("expected_frame_rate") or RATE
    length = _LIVE_FRAMES if cutting.window is None else max(round(cutting.window * rate), 1)
    stride = _LIVE_STRIDE if cutting.stride is None else max(round(cutting.stride * rate), 1)
    sequence = decode(path, spec["decode"], encoders)["sequence"]
    if len(sequence) < length:
        reason = f"has {len(sequence)} frames; a window takes {length}"
        raise DataError([Fault(str(path), None, "frames", reason)])
    for number, part in enumerate(windows(sequence, length, stride)):
        onset = number * stride / rate
        usable = invalid_reason(part, layout_of(spec["decode"]["encoding"], part.shape[1]), 1) is None
        yield Window(onset, onset + length / rate, {"sequence": part} if usable else None)


def _decoded_media(path: Path, spec: Mapping[str, Any]) -> NDArray[np.float32]:
    given = spec.get("extraction")
    if given is None and spec["encoding"] not in EXTRACTED_WIDTHS:
        reason = f"the model takes {spec['encoding']}, which is not extracted from clips; use a feature file"
        raise DataError([Fault(str(path), None, "media", reason)])
    if given is None:
        config = Extraction.model_validate({"encoding": spec["encoding"], "processes": 1})
    else:
        config = as_trained(given, spec.get("task_files", {}))
    try:
        clip = Clip(path.resolve(), sha256_of(path))
    except RefusedFileError as refused:
        raise DataError([Fault(str(path), None, "media", str(refused))]) from None
    (result,) = extract_clips([clip], config, None)
    if isinstance(result, Failure):
        raise DataError([Fault(str(path), None, "media", result.reason)])
    return result


def _clip(sample: Sample) -> Clip:
    if sample.path is None or sample.example.media is None:
        reason = "gesture samples need a feature file, a clip or an image"
        raise DataError([sample.fault("media", reason)])
    return Clip(sample.path, sample.content_sha256, sample.example.onset or 0.0, sample.example.offset)


def _require_enough(
    kept: Sequence[Sample], lost: Sequence[tuple[Sample, str]], labels: Sequence[str], minimum: int
) -> None:
    """Raise DataError naming every lost sample where too few of a label are left."""
    counts = Counter(sample.label for sample in kept)
    if not lost or (len(kept) > 0 and min(counts[label] for label in labels) >= minimum):
        return
    faults = [sample.media_fault(reason) for sample, reason in lost]
    short = [f"'{label}' has {counts[label]}" for label in labels if counts[label] < max(minimum, 1)]
    reason = f"{', '.join(short)} usable samples left; at least {max(minimum, 1)} are needed"
    raise DataError([*faults, Fault(lost[0][0].source, None, "label", reason)])
