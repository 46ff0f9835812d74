"""The gesture recipe: one user's model from labelled sequences of landmarks or other motion features."""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Annotated, Any, Literal

if __name__ == "__main__" and __package__ in (None, ""):  # run as a file: find the packages beside it
    sys.path[0] = str(Path(__file__).resolve().parents[1])

import numpy as np
from pydantic import Field

from gesture_trainer.modality import TRAINER
from gesture_trainer.parts import PartsReport, answering_parts
from gesture_trainer.preprocessing.augment import Augment, Augmentation
from gesture_trainer.preprocessing.body import BodyMotion
from gesture_trainer.preprocessing.convolutions import WIDTH as CONVOLUTION_WIDTH
from gesture_trainer.preprocessing.convolutions import ConvolutionSource, seconds_per_sample
from gesture_trainer.preprocessing.extraction import NO_FACE, Extraction, tasks_named
from gesture_trainer.preprocessing.hands import Fingertips, HandMotion, HandShape, HandsShape, OtherHand
from gesture_trainer.preprocessing.landmarker import EXTRACTED_WIDTHS, RATE
from gesture_trainer.preprocessing.layouts import COORDINATES, Layout, is_guess
from gesture_trainer.preprocessing.paths import PathGeometry
from gesture_trainer.preprocessing.probes import gesture_probes
from gesture_trainer.preprocessing.sequences import (
    Sequences,
    decode,
    landmark_sequences,
    planned_sequences,
    preparation,
    sequence_windows,
    split_into_windows,
    windows,
)
from shared.commands.train import trainer_main
from shared.config import TrainerConfig
from shared.data_loader import Dataset
from shared.errors import ConfigError, DataError
from shared.evaluation import Validation
from shared.features.arrays import Inputs
from shared.features.cache import content_key
from shared.features.graph import FeatureFunction, FeatureGraph, TensorSpec
from shared.features.probes import REPORTED, Probe, background_pieces
from shared.features.sequences import FrameMean, Resampled, Statistics
from shared.job import Job, ModelSpec
from shared.learning.candidates import (
    Auto,
    Candidate,
    CandidateConfig,
    FeatureSource,
    PrecomputedFeatures,
    build_candidates,
    resolve_candidates,
)
from shared.learning.cost import PlannedCandidate
from shared.learning.familiarity import whitened_familiarity
from shared.recipe import Outcome, PlannedTraining, Recipe, featurise, load, package, validate, within_budget
from shared.schema_utils import Schema

GestureFeatures = Literal[
    "hand_shape",
    "fingertips",
    "other_hand",
    "hand_motion",
    "body_motion",
    "sided_body_motion",
    "path_geometry",
    "frame_mean",
    "motion_statistics",
    "resampled",
    "convolutions",
]
GestureCandidate = CandidateConfig[GestureFeatures]


def _candidate(*features: GestureFeatures, **classifier: Any) -> GestureCandidate:
    return GestureCandidate.model_validate({"features": features, "classifier": classifier})


_STATISTICS = _candidate("motion_statistics", type="lda")
_FRAME = _candidate("frame_mean", type="lda")
_CONVOLUTIONS = _candidate("convolutions", type="lda")
_HAND = (
    _candidate("hand_shape", type="lda"),
    _candidate("hand_shape", type="logistic_regression", C=0.1),
    _candidate("hand_shape", "fingertips", type="lda"),
)
_HANDS = (*_HAND, _candidate("hand_shape", "fingertips", "other_hand", type="lda"))
_BODY = (_candidate("body_motion", type="lda"), _candidate("sided_body_motion", type="lda"))
_PATH = (  # trees reject what they do not know far better
    _candidate("path_geometry", type="extra_trees", n_estimators=50, max_leaf_nodes=128),
    _candidate("path_geometry", type="lda"),
)
_MOVING_HAND = (_CONVOLUTIONS, _candidate("hand_motion", type="lda"), *_HAND)
SUITABLE: Mapping[Layout, tuple[GestureCandidate, ...]] = {  # what suits each kind of sequence, preferred first
    "hand_xy": _MOVING_HAND,
    "hand_xyz": _MOVING_HAND,
    "hands_xyz": (*_MOVING_HAND, _HANDS[-1]),
    "body_xy": _BODY,
    "path_xy": _PATH,
    "channels": (
        _CONVOLUTIONS,
        _STATISTICS,
        _candidate("resampled", type="lda"),
        _candidate("resampled", type="svm", C=10.0),
    ),
}
SUITABLE_STILL: Mapping[Layout, tuple[GestureCandidate, ...]] = {  # what suits single frames, preferred first
    "hand_xy": _HAND,
    "hand_xyz": _HAND,
    "hands_xyz": _HANDS,
    "body_xy": _BODY,
    "path_xy": _PATH,
    "channels": (
        _FRAME,
        _candidate("frame_mean", type="lda", shrinkage=0.8),
        _candidate("frame_mean", type="svm", C=10.0),
    ),
}
DIRECTIONS = (8, 64)  # fewest and most in which familiarity is measured


class Preprocessing(Schema):
    """How a sequence becomes features."""

    frames: int = Field(default=16, ge=2, le=128, description="places along a sequence that positions are taken at")
    window: int | None = Field(
        default=None, ge=2, le=1000, description="learn from parts of so many frames, for use on a running camera"
    )
    parts: int | None = Field(
        default=16, ge=4, le=1000, description="also answer parts of so many frames, as a running camera gives them"
    )
    stride: int = Field(default=5, ge=1, le=1000, description="frames from the start of one part to the next")


class GestureConfig(TrainerConfig):
    """Everything that can be set for a gesture model."""

    extraction: Extraction = Field(default_factory=Extraction, description="clips and images become landmarks")
    preprocessing: Preprocessing = Field(default_factory=Preprocessing)
    augmentation: Augmentation = Field(default_factory=Augmentation)
    candidates: Auto | Annotated[tuple[GestureCandidate, ...], Field(min_length=1)] = Field(
        default="auto", description="what is compared, preferred first; auto: what suits the encoding"
    )


def train(job: Job, config: GestureConfig) -> Outcome:
    """Train one user's gesture model from labelled feature files, clips and images."""
    dataset = load(job, config, "gesture")
    with job.log.stage("decode"):
        sequences, dataset = landmark_sequences(
            dataset,
            config.extraction,
            config.minimum_per_label,
            config.preprocessing.window or 1,
            job.cache,
            job.log.progress,
        )
    notes = extraction_notes(job, sequences)
    if config.preprocessing.window is not None:
        notes += (f"samples are parts of at most {config.preprocessing.window} frames of {len(dataset)} sequences",)
        sequences, dataset = split_into_windows(
            sequences, dataset, config.preprocessing.window, config.preprocessing.stride
        )
    affordable = within_budget(job, config, dataset, planned_candidates(config, sequences))
    candidates = gesture_candidates(job, config.model_copy(update={"candidates": affordable}), sequences)
    validation = validate(job, candidates, dataset, config)
    validation, parts = with_parts(job, validation, sequences, dataset, config)
    samples = [{"sequence": sequence} for sequence in sequences.sequences]
    probes = gesture_probes(sequences.sequences, dataset.label_index, REPORTED)
    probes += background_probes(job, dataset, config, sequences)
    return package(job, validation, samples, dataset, config, model_spec(sequences, config, notes, parts), probes)


def plan(dataset: Dataset, config: GestureConfig) -> PlannedTraining:
    """Return what `train` would compare; clips are not extracted."""
    sequences, seconds = planned_sequences(dataset, config.extraction)
    if config.preprocessing.window is not None:
        sequences, dataset = split_into_windows(
            sequences, dataset, config.preprocessing.window, config.preprocessing.stride
        )
    return PlannedTraining(dataset, planned_candidates(config, sequences), seconds)


def planned_candidates(config: GestureConfig, data: Sequences) -> list[PlannedCandidate]:
    """Return the candidates, preferred first, before their features are computed."""
    inputs = {"sequence": data.sequences[0]}

    def width_of(features: GestureFeatures) -> int:
        return CONVOLUTION_WIDTH if features == "convolutions" else len(_function(features, data, config)(inputs))

    def planned(candidate: GestureCandidate) -> PlannedCandidate:
        names = candidate.features or ()
        refitting = seconds_per_sample(data.width) if "convolutions" in names else 0.0
        copies = 0 if refitting else config.augmentation.copies
        return PlannedCandidate(candidate, sum(map(width_of, names)), copies, whitened=True, refitting=refitting)

    return [planned(each) for each in resolve_candidates(config.candidates, suitable_candidates(data))]


def background_probes(job: Job, dataset: Dataset, config: GestureConfig, data: Sequences) -> list[Probe]:
    """Return pieces of the background, as long as the person's gestures. Raises DataError for another encoding."""
    if not dataset.background:
        return []
    others, _ = landmark_sequences(dataset.of_background, config.extraction, cache=job.cache)
    if (others.encoding, others.width) != (data.encoding, data.width):
        reason = f"is {others.encoding} with {others.width} numbers a frame, but gestures are {data.encoding}"
        raise DataError([dataset.background[0].fault("encoding", reason)])
    size = int(np.median([len(sequence) for sequence in data.sequences]))
    cut = [piece for sequence in others.sequences for piece in windows(sequence, size, size) or [sequence]]
    rate = RATE if data.encoding in EXTRACTED_WIDTHS else None
    return background_pieces(
        [{"sequence": piece} for piece in cut],
        lambda piece: 0.0 if rate is None else len(np.asarray(piece["sequence"])) / rate,
    )


def extraction_notes(job: Job, data: Sequences) -> tuple[str, ...]:
    """Return what log and card say of the clips, and warn of what they lack."""
    found = data.extracted
    if found is None:
        return ()
    notes = [
        f"{found.clips} clips and images: {found.frames} frames, {found.frames_without_landmark} without a landmark"
    ]
    if found.failed:
        notes.append(f"{found.failed} of {found.clips} clips and images gave no sequence; the ledger says why")
        job.log.warn(notes[-1])
    if data.layout == "body_xy" and "face" not in found.spec["tasks"]:
        notes.append(NO_FACE)
    return tuple(notes)


def with_parts(
    job: Job, validation: Validation, data: Sequences, dataset: Dataset, config: GestureConfig
) -> tuple[Validation, PartsReport | None]:
    """Return the validation with a winner that also classifies the parts that a running camera gives."""
    settings, features = config.preprocessing, validation.winner.features[-1]
    if data.encoding not in EXTRACTED_WIDTHS or features not in _END_WITH_LENGTH:
        return validation, None  # no camera, or features of how a hand looks, which are the same in a part
    if settings.parts is None or settings.window is not None:
        return validation, None
    return answering_parts(
        job,
        validation,
        data,
        dataset.label_index,
        dataset.session_ids,
        settings.parts,
        settings.stride,
        (config.evaluation.false_rejection, config.evaluation.false_acceptance),
    )


def model_spec(
    data: Sequences, config: GestureConfig, notes: tuple[str, ...], parts: PartsReport | None = None
) -> ModelSpec:
    """Return what whoever runs the model must know of its input."""
    settings = config.preprocessing
    if parts:
        notes += (f"parts of {settings.parts} frames are answered, too: {parts}",)
    expected_length = settings.parts if parts else settings.window
    shortest = min(expected_length or 1, *(len(sequence) for sequence in data.sequences))
    decoding: dict[str, Any] = {
        "encoding": data.encoding,
        "width": data.width,
        "extraction": None,
        "least_frames": shortest,  # nothing as short as what it was trained on is refused
    }
    if data.extracted:
        decoding |= {"extraction": dict(data.extracted.spec), "task_files": tasks_named(config.extraction)}
    return ModelSpec(
        decode=decoding,
        normalisation_version="points_v1",
        preparation=preparation(data, shortest, expected_length),
        expected_frame_rate=RATE if data.encoding in EXTRACTED_WIDTHS else None,
        expected_length=expected_length,
        encoding=data.encoding,
        notes=notes,
    )


def gesture_candidates(
    job: Job, config: GestureConfig, data: Sequences, background: Sequence[Inputs] = ()
) -> list[Candidate]:
    """Return the candidates, preferred first, with the features of the samples and of the `background` computed."""
    meaning = f"{data.encoding}, a row of {data.width} numbers a frame"
    contract = (TensorSpec("sequence", "float32", ("frames", data.width), meaning),)
    samples = [{"sequence": sequence} for sequence in data.sequences]
    keys = [content_key(sequence) for sequence in data.sequences]
    # Features of landmarks that other networks find are others: their hashes are part of the features' name.
    origin = f"-{content_key(json.dumps(data.extracted.spec, sort_keys=True))[:12]}" if data.extracted else ""

    def source_of(features: GestureFeatures) -> FeatureSource:
        title = f"gesture-{features}{origin}"
        if features == "convolutions":
            return ConvolutionSource(data.sequences, contract, title, config.seed, background)
        graph = FeatureGraph(title, contract, _function(features, data, config))
        augment = Augment(config.augmentation, COORDINATES[data.layout]) if config.augmentation.copies else None
        return PrecomputedFeatures(graph, featurise(job, graph, samples, keys, augment, config.seed, background))

    # As many directions as a quarter of the samples, in every fold. In as many as there are samples all that is new
    # lies far away, the further the more there are, and a threshold found with fewer samples rejects too much.
    familiarity = partial(whitened_familiarity, dimensions=int(np.clip(len(samples) // 4, *DIRECTIONS)))
    configs = resolve_candidates(config.candidates, suitable_candidates(data))
    return build_candidates(configs, source_of, lambda _: familiarity, config.seed, modality="gesture")


def suitable_candidates(data: Sequences) -> tuple[GestureCandidate, ...]:
    """Return what is compared by default: nothing that looks at motion where most sequences are single frames."""
    moving = float(np.median([len(sequence) for sequence in data.sequences])) > 1
    general, found = (_STATISTICS, SUITABLE) if moving else (_FRAME, SUITABLE_STILL)
    # Where only the width says what the numbers are, the guess may be wrong.
    own = found[data.layout]
    return (*own, general) if is_guess(data.encoding, data.width) else own


_END_WITH_LENGTH = ("body_motion", "sided_body_motion", "hand_motion", "motion_statistics")  # last: log of the length


def _function(features: GestureFeatures, data: Sequences, config: GestureConfig) -> FeatureFunction:
    coordinates, frames = COORDINATES[data.layout], config.preprocessing.frames
    match features:
        case "hand_shape" if data.layout in ("hand_xy", "hand_xyz"):
            return HandShape(coordinates)
        case "hand_shape" if data.layout == "hands_xyz":
            return HandsShape(world=data.width == 252)
        case "other_hand" if data.layout == "hands_xyz":
            return OtherHand(world=data.width == 252)
        case "fingertips" if data.layout in ("hand_xy", "hand_xyz", "hands_xyz"):
            return Fingertips(coordinates, 2 if data.layout == "hands_xyz" else 1, world=data.width == 252)
        case "hand_motion" if data.layout in ("hand_xy", "hand_xyz", "hands_xyz"):
            hands = 2 if data.layout == "hands_xyz" else 1
            return HandMotion(coordinates, hands, world=data.width == 252, frames=frames)
        case "body_motion" if data.layout == "body_xy":
            return BodyMotion(frames)
        case "sided_body_motion" if data.layout == "body_xy":
            return BodyMotion(frames, sided=True)
        case "path_geometry" if data.layout == "path_xy":
            return PathGeometry(frames)
        case "frame_mean":
            return FrameMean()
        case "motion_statistics":
            return Statistics(coordinates)
        case "resampled":
            return Resampled(coordinates, frames)
    raise ConfigError(
        f"candidates: the features {features} do not fit the encoding {data.encoding} of {data.width} numbers; "
        "candidates: auto takes what does"
    )


RECIPE = Recipe(GestureConfig, train, decode, sequence_windows, plan)


def main() -> None:
    """Run the gesture trainer's command line."""
    trainer_main(TRAINER, RECIPE)


if __name__ == "__main__":
    main()
