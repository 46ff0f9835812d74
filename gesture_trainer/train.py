"""The gesture recipe: one user's model from labelled sequences of landmarks or other motion features."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Literal

if __name__ == "__main__" and __package__ in (None, ""):  # run as a file: find the packages beside it
    sys.path[0] = str(Path(__file__).resolve().parents[1])

from pydantic import Field

from gesture_trainer.preprocessing.motion import Resampled, Statistics
from gesture_trainer.preprocessing.sequences import Sequences, decode, landmark_sequences
from shared.calibration import cosine_novelty, subspace_novelty
from shared.cli_trainer import trainer_main
from shared.config import TrainerConfig
from shared.evaluation import Contender, Fixed
from shared.feature_cache import content_key
from shared.graph import FeatureFunction, FeatureGraph, TensorSpec
from shared.heads import fit_kernel, fit_lda
from shared.recipe import Job, ModelSpec, Outcome, Trainer, featurise, load, package, validate
from shared.schema_utils import Schema

ContenderName = Literal["statistics_lda", "resampled_lda", "resampled_kernel"]


class Preprocessing(Schema):
    """How a sequence becomes features."""

    frames: int = Field(default=16, ge=2, le=128, description="places along a sequence that positions are taken at")


class GestureConfig(TrainerConfig):
    """Everything that can be set for a gesture model."""

    preprocessing: Preprocessing = Field(default_factory=Preprocessing)
    contenders: tuple[ContenderName, ...] = Field(
        default=("statistics_lda", "resampled_lda", "resampled_kernel"), min_length=1
    )


def train(job: Job, config: GestureConfig) -> Outcome:
    """Train one user's gesture model from labelled sequences."""
    dataset = load(job, config, "gesture")
    with job.log.stage("decode"):
        sequences = landmark_sequences(dataset)
    contenders = compete(job, config, sequences)
    validation = validate(job, contenders, dataset, config)
    spec = ModelSpec(
        decode={"encoding": sequences.encoding, "width": sequences.width}, normalisation_version="points_v1"
    )
    samples = [{"sequence": sequence} for sequence in sequences.sequences]
    return package(job, validation, samples, dataset, config, spec)


def compete(job: Job, config: GestureConfig, data: Sequences) -> list[Contender]:
    """Return the configured contenders, simplest first, with their features computed."""
    contract = (TensorSpec("sequence", "float32", ("frames", data.width)),)
    samples = [{"sequence": sequence} for sequence in data.sequences]
    keys = [content_key(sequence) for sequence in data.sequences]

    def source(name: str, function: FeatureFunction) -> Fixed:
        graph = FeatureGraph(name, contract, function)
        return Fixed(graph, featurise(job, graph, samples, keys))

    statistics = source("gesture-statistics", Statistics(data.coordinates))
    resampled = source("gesture-resampled", Resampled(data.coordinates, config.preprocessing.frames))
    known = {
        "statistics_lda": Contender("statistics_lda", statistics, fit_lda, subspace_novelty, (0.0, 1.0)),
        "resampled_lda": Contender("resampled_lda", resampled, fit_lda, subspace_novelty, (0.0, 1.0)),
        "resampled_kernel": Contender("resampled_kernel", resampled, fit_kernel(seed=config.seed), cosine_novelty),
    }
    return [known[name] for name in config.contenders]


TRAINER = Trainer("gesture", GestureConfig, train, decode, "gesture_trainer", "gesture-train")


def main() -> None:
    """Run the gesture trainer's command line."""
    trainer_main(TRAINER)


if __name__ == "__main__":
    main()
