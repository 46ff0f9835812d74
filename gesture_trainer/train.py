"""The gesture recipe: one user's model from labelled sequences of landmarks or other motion features."""

from __future__ import annotations

import json
import sys
from functools import partial
from pathlib import Path
from typing import Any, Literal

if __name__ == "__main__" and __package__ in (None, ""):  # run as a file: find the packages beside it
    sys.path[0] = str(Path(__file__).resolve().parents[1])

import numpy as np
from pydantic import Field

from gesture_trainer.parts import PartsReport, answering_parts
from gesture_trainer.preprocessing.augment import Augment
from gesture_trainer.preprocessing.body import BodyMotion
from gesture_trainer.preprocessing.convolutions import ConvolutionSource
from gesture_trainer.preprocessing.extraction import NO_FACE, Extraction, tasks_named
from gesture_trainer.preprocessing.hands import HandMotion, HandShape, HandsShape
from gesture_trainer.preprocessing.landmarker import EXTRACTED_WIDTHS, RATE
from gesture_trainer.preprocessing.layouts import COORDINATES, Layout, is_guess
from gesture_trainer.preprocessing.motion import Resampled, Statistics
from gesture_trainer.preprocessing.paths import PathGeometry
from gesture_trainer.preprocessing.sequences import Sequences, cut, decode, landmark_sequences
from shared.commands.train import trainer_main
from shared.config import TrainerConfig
from shared.data_loader import Dataset
from shared.errors import ConfigError
from shared.evaluation import Candidate, FeatureSource, PrecomputedFeatures, Validation
from shared.features.cache import content_key
from shared.features.graph import FeatureFunction, FeatureGraph, TensorSpec
from shared.job import Job, ModelSpec, Outcome, Trainer
from shared.learning.calibration import whitened_familiarity
from shared.learning.heads import Fitter, fit_kernel, fit_lda, fit_logistic, fit_prototypes
from shared.learning.trees import fit_trees
from shared.recipe import featurise, load, package, validate
from shared.schema_utils import Schema

CandidateName = Literal[
    "shape_lda",
    "shape_logistic",
    "hands_lda",
    "hands_logistic",
    "moving_lda",
    "body_lda",
    "sides_lda",
    "geometry_lda",
    "geometry_logistic",
    "convolutions_lda",
    "statistics_lda",
    "resampled_lda",
    "resampled_kernel",
    "shape_trees",
    "hands_trees",
    "body_trees",
    "geometry_trees",
    "statistics_trees",
    "prototypes",
]
CANDIDATES: dict[Layout, tuple[CandidateName, ...]] = {  # what is worth trying on each kind of data, preferred first
    "hand_xy": ("shape_lda", "shape_logistic"),
    "hand_xyz": ("shape_lda", "shape_logistic"),
    "hands_xyz": ("hands_lda", "hands_logistic"),
    "body_xy": ("body_lda", "sides_lda"),
    "path_xy": ("geometry_trees", "geometry_lda"),  # trees reject what they do not know far better
    "channels": ("convolutions_lda", "statistics_lda", "resampled_lda", "resampled_kernel"),
}
MOVING: dict[Layout, tuple[CandidateName, ...]] = {  # in addition where most sequences have several frames
    "hand_xy": ("moving_lda", "resampled_lda"),
    "hand_xyz": ("moving_lda", "resampled_lda"),
    "hands_xyz": ("moving_lda",),
}
TREES: dict[Layout, CandidateName] = {  # where they are asked for
    "hand_xy": "shape_trees",
    "hand_xyz": "shape_trees",
    "hands_xyz": "hands_trees",
    "body_xy": "body_trees",
    "path_xy": "geometry_trees",
    "channels": "statistics_trees",
}
GUESSED: tuple[CandidateName, ...] = ("statistics_lda",)  # also where only the width says what the numbers are
DIRECTIONS = (8, 64)  # fewest and most in which familiarity is measured
FEW = 3  # samples of every label up to which prototypes are trained instead


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
    candidates: tuple[CandidateName, ...] | None = Field(
        default=None, min_length=1, description="what to compare; by default what suits the encoding"
    )
    trees: bool = Field(
        default=False, description="let trees compete where they do not by default; they learn from altered copies, too"
    )


def train(job: Job, config: GestureConfig) -> Outcome:
    """Train one user's gesture model from labelled feature files, clips and images."""
    dataset = load(job, config, "gesture")
    with job.log.stage("decode"):
        sequences, dataset = landmark_sequences(
            dataset, config.extraction, config.minimum_per_label, job.cache, job.log.progress
        )
    notes = tell(job, sequences)
    if config.preprocessing.window is not None:
        notes += (f"samples are parts of at most {config.preprocessing.window} frames of {len(dataset)} sequences",)
        sequences, dataset = cut(sequences, dataset, config.preprocessing.window, config.preprocessing.stride)
    candidates = build_candidates(job, config, sequences, few=int(np.bincount(dataset.label_index).max()) <= FEW)
    validation = validate(job, candidates, dataset, config)
    validation, told = answer_parts(job, validation, sequences, dataset, config)
    samples = [{"sequence": sequence} for sequence in sequences.sequences]
    return package(job, validation, samples, dataset, config, model_spec(sequences, config, notes, told))


def tell(job: Job, data: Sequences) -> tuple[str, ...]:
    """Return what log and card say of the clips, and warn of what they lack."""
    told = data.extracted
    if told is None:
        return ()
    notes = [f"{told.clips} clips and images: {told.frames} frames, {told.frames_without_landmark} without a landmark"]
    if told.failed:
        notes.append(f"{told.failed} of {told.clips} clips and images gave no sequence; the ledger says why")
        job.log.warn(notes[-1])
    if data.layout == "body_xy" and "face" not in told.spec["tasks"]:
        notes.append(NO_FACE)
    return tuple(notes)


def answer_parts(
    job: Job, validation: Validation, data: Sequences, dataset: Dataset, config: GestureConfig
) -> tuple[Validation, PartsReport | None]:
    """Return the validation with a winner that answers the parts that a running camera gives as well as the whole."""
    settings, features = config.preprocessing, validation.winner.name.split("_")[0]
    if features == "prototypes":
        features = _PLAINEST[data.layout]
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
        config.evaluation.false_rejection,
    )


def model_spec(
    data: Sequences, config: GestureConfig, notes: tuple[str, ...], parts: PartsReport | None = None
) -> ModelSpec:
    """Return what whoever runs the model must know of its input."""
    settings = config.preprocessing
    if parts:
        notes += (f"parts of {settings.parts} frames are answered, too: {parts}",)
    decoding: dict[str, Any] = {"encoding": data.encoding, "width": data.width, "extraction": None}
    if data.extracted:
        decoding |= {"extraction": dict(data.extracted.spec), "task_files": tasks_named(config.extraction)}
    return ModelSpec(
        decode=decoding,
        normalisation_version="points_v1",
        expected_frame_rate=RATE if data.encoding in EXTRACTED_WIDTHS else None,
        expected_length=settings.parts if parts else settings.window,
        notes=notes,
    )


def build_candidates(job: Job, config: GestureConfig, data: Sequences, few: bool) -> list[Candidate]:
    """Return the candidates, simplest first, with their features computed."""
    contract = (TensorSpec("sequence", "float32", ("frames", data.width)),)
    samples = [{"sequence": sequence} for sequence in data.sequences]
    keys = [content_key(sequence) for sequence in data.sequences]
    sources: dict[str, FeatureSource] = {}
    # Features of landmarks that other networks find are others: their hashes are part of the features' name.
    origin = f"-{content_key(json.dumps(data.extracted.spec, sort_keys=True))[:12]}" if data.extracted else ""

    def source(features: str) -> FeatureSource:
        title = f"gesture-{features.removesuffix('+')}{origin}"
        if features == "convolutions":
            return ConvolutionSource(data.sequences, contract, title, config.seed)
        graph = FeatureGraph(title, contract, _function(features.removesuffix("+"), data, config))
        augment = Augment(coordinates=COORDINATES[data.layout]) if features.endswith("+") else None
        return PrecomputedFeatures(graph, featurise(job, graph, samples, keys, augment, config.seed))

    # As many directions as a quarter of the samples, in every fold. In as many as there are samples all that is new
    # lies far away, the further the more there are, and a threshold found with fewer samples rejects too much.
    familiarity = partial(whitened_familiarity, dimensions=int(np.clip(len(samples) // 4, *DIRECTIONS)))

    def candidate(name: CandidateName) -> Candidate:
        features, head = name.split("_") if name != "prototypes" else (_PLAINEST[data.layout], name)
        # Trees learn from altered copies, too; on the geometry of paths those did not help.
        key = f"{features}+" if head == "trees" and features != "geometry" else features
        if key not in sources:
            sources[key] = source(key)
        return Candidate(name, sources[key], _fitter(head, features, config), familiarity)

    names = config.candidates or _names(data, few)
    if config.trees and not few:
        names = tuple(dict.fromkeys((*names, TREES[data.layout])))
    return [candidate(name) for name in names]


def _names(data: Sequences, few: bool) -> tuple[CandidateName, ...]:
    """Return what is compared by default: nothing that looks at motion where most sequences are single frames."""
    if few:
        return ("prototypes",)
    names: tuple[CandidateName, ...] = CANDIDATES[data.layout]
    if np.median([len(sequence) for sequence in data.sequences]) > 1:
        names = (*names, *MOVING.get(data.layout, ()))
    else:
        names = tuple(name for name in names if name != "convolutions_lda")
    return (*names, *GUESSED) if is_guess(data.encoding, data.width) else names


_END_WITH_LENGTH = ("body", "sides", "moving", "statistics")  # features whose last number is the log of the length
_PLAINEST: dict[Layout, str] = {
    "hand_xy": "shape",
    "hand_xyz": "shape",
    "hands_xyz": "hands",
    "body_xy": "body",
    "path_xy": "geometry",
    "channels": "statistics",
}


def _function(features: str, data: Sequences, config: GestureConfig) -> FeatureFunction:
    coordinates, frames = COORDINATES[data.layout], config.preprocessing.frames
    match features:
        case "shape" if data.layout in ("hand_xy", "hand_xyz"):
            return HandShape(coordinates)
        case "hands" if data.layout == "hands_xyz":
            return HandsShape(world=data.width == 252)
        case "moving" if data.layout in ("hand_xy", "hand_xyz", "hands_xyz"):
            hands = 2 if data.layout == "hands_xyz" else 1
            return HandMotion(coordinates, hands, world=data.width == 252, frames=frames)
        case "body" if data.layout == "body_xy":
            return BodyMotion(frames)
        case "sides" if data.layout == "body_xy":
            return BodyMotion(frames, sided=True)
        case "geometry" if data.layout == "path_xy":
            return PathGeometry(frames)
        case "statistics":
            return Statistics(coordinates)
        case "resampled":
            return Resampled(coordinates, frames)
    raise ConfigError(
        f"candidates: {features} features do not fit the encoding {data.encoding} of {data.width} numbers"
    )


def _fitter(head: str, features: str, config: GestureConfig) -> Fitter:
    match head:
        case "kernel":
            return fit_kernel(seed=config.seed)
        case "logistic":
            return fit_logistic(0.1 if features in ("shape", "hands") else 1.0, standardise=True)
        case "prototypes":
            return fit_prototypes()
        case "trees":
            return fit_trees(seed=config.seed)
    return fit_lda


TRAINER = Trainer("gesture", GestureConfig, train, decode, "gesture_trainer", "gesture-train")


def main() -> None:
    """Run the gesture trainer's command line."""
    trainer_main(TRAINER)


if __name__ == "__main__":
    main()
