"""Training on ready-made features: a vector or a sequence (T, D) a sample, computed by somebody else's extractor.

Every modality takes them, in place of recordings. What the numbers are is their `encoding`; a model takes one encoding.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from model_registry.names import Modality
from shared.config import TrainerConfig
from shared.data.feature_files import SIZE_LIMIT, FeatureFileError, parse_features
from shared.data.files import RefusedFileError, read_bounded
from shared.data_loader import Dataset, load_features
from shared.errors import ConfigError, DataError, Fault, InvalidInputError
from shared.features.arrays import Inputs
from shared.features.cache import content_key
from shared.features.graph import FeatureFunction, FeatureGraph, TensorSpec
from shared.features.probes import REPORTED, Probe, split_background
from shared.features.sequences import FrameMean, Resampled, Statistics
from shared.job import Job, ModelSpec
from shared.learning.candidates import (
    Auto,
    Candidate,
    CandidateConfig,
    FeatureName,
    FeatureSource,
    PrecomputedFeatures,
    build_candidates,
    resolve_candidates,
)
from shared.learning.cost import PlannedCandidate
from shared.learning.familiarity import whitened_familiarity
from shared.recipe import Outcome, PlannedTraining, featurise, package, validate, within_budget

ReadyFeatures = Literal["frame_mean", "motion_statistics", "resampled"]
READY: tuple[ReadyFeatures, ...] = ("frame_mean", "motion_statistics", "resampled")
DIRECTIONS = (8, 64)  # fewest and most in which familiarity is measured
_FRAMES = 16  # places along a sequence that `resampled` takes numbers at
_PROBES = 12
_FEWEST_NUMBERS = 8  # of a frame, from which numbers drawn at random are no label's
ReadyCandidate = CandidateConfig[ReadyFeatures]


def _candidate(features: ReadyFeatures, **classifier: Any) -> ReadyCandidate:
    return ReadyCandidate.model_validate({"features": features, "classifier": classifier})


SUITABLE_VECTORS = (  # preferred first, where most samples are one frame
    _candidate("frame_mean", type="lda"),
    _candidate("frame_mean", type="lda", shrinkage=0.8),
    _candidate("frame_mean", type="svm", C=10.0),
)
SUITABLE_SEQUENCES = (
    _candidate("motion_statistics", type="lda"),
    _candidate("resampled", type="lda"),
    _candidate("resampled", type="svm", C=10.0),
)


def has_ready_features(dataset: Dataset) -> bool:
    """Return whether the samples are ready-made features; a data set of one encoding has them alone or not at all."""
    return any(sample.example.features is not None for sample in dataset.samples)


def train_on_ready_features(
    job: Job,
    config: TrainerConfig,
    candidates: Auto | Sequence[CandidateConfig[FeatureName]],
    dataset: Dataset,
) -> Outcome:
    """Train a model on a data set whose samples are ready-made features of one encoding.

    Raises ConfigError for candidates whose features are computed from recordings.
    """
    with job.log.stage("decode"):
        sequences = [load_features(sample) for sample in dataset.samples]
        scenes = [[{"sequence": load_features(sample)}] for sample in dataset.background]
    background, tested = split_background(scenes)
    width = sequences[0].shape[1]
    planned = planned_ready_candidates(candidates, sequences)
    affordable = within_budget(job, config, dataset, planned)
    built = ready_candidates(job, config, affordable, sequences, dataset.modality, background)
    validation = validate(job, built, dataset, config)
    spec = ModelSpec(
        {"ready_features": True, "encoding": dataset.encoding, "width": width},
        "numbers_v1",
        {
            "encoding": dataset.encoding,
            "numbers_per_frame": width,
            "missing_point": 0.0,
            "shortest_frames": 1,
            "steps": ["use the numbers as they are", "all zeros are unknown: do not run the model"],
        },
        encoding=dataset.encoding,
        notes=(f"trained on ready-made features, {dataset.encoding}, of {width} numbers a frame",),
    )
    samples = [{"sequence": sequence} for sequence in sequences]
    probes = [*number_probes(sequences, REPORTED), *tested]
    return package(job, validation, samples, dataset, config, spec, probes)


def plan_ready_features(candidates: Auto | Sequence[CandidateConfig[FeatureName]], dataset: Dataset) -> PlannedTraining:
    """Return what `train_on_ready_features` would compare. Raises what it raises."""
    sequences = [load_features(sample) for sample in dataset.samples]
    return PlannedTraining(dataset, planned_ready_candidates(candidates, sequences))


def planned_ready_candidates(
    candidates: Auto | Sequence[CandidateConfig[FeatureName]], sequences: Sequence[NDArray[np.float32]]
) -> list[PlannedCandidate]:
    """Return the candidates for sequences (T, D), preferred first, before their features are computed."""
    moving = float(np.median([len(sequence) for sequence in sequences])) > 1
    configs = [*SUITABLE_SEQUENCES] if moving else [*SUITABLE_VECTORS]
    if candidates != "auto":
        configs = resolve_candidates([_checked(candidate) for candidate in candidates], configs)
    inputs = {"sequence": sequences[0]}
    return [
        PlannedCandidate(each, sum(len(_function(name)(inputs)) for name in each.features or ()), whitened=True)
        for each in configs
    ]


def ready_candidates(
    job: Job,
    config: TrainerConfig,
    configs: Sequence[ReadyCandidate],
    sequences: Sequence[NDArray[np.float32]],
    modality: Modality,
    background: Sequence[Inputs] = (),
) -> list[Candidate]:
    """Return the candidates, preferred first, with the features of the sequences (T, D) and the background computed."""
    meaning = "ready-made features of the model's encoding, a row a frame"
    contract = (TensorSpec("sequence", "float32", ("frames", sequences[0].shape[1]), meaning),)
    samples = [{"sequence": sequence} for sequence in sequences]
    keys = [content_key(sequence) for sequence in sequences]

    def source_of(features: ReadyFeatures) -> FeatureSource:
        graph = FeatureGraph(f"{modality}-{features}", contract, _function(features))
        return PrecomputedFeatures(graph, featurise(job, graph, samples, keys, background=background))

    familiarity = partial(whitened_familiarity, dimensions=int(np.clip(len(samples) // 4, *DIRECTIONS)))
    return build_candidates(configs, source_of, lambda _: familiarity, config.seed, modality=modality)


def number_probes(sequences: Sequence[NDArray[np.float32]], seed: int) -> list[Probe]:
    """Return sequences (T, D) of numbers drawn at random from where those of the data lie; none where D is small."""
    frames = np.concatenate(sequences)
    if frames.shape[1] < _FEWEST_NUMBERS:
        return []
    random = np.random.default_rng([seed, frames.shape[1]])
    low, high = np.quantile(frames, [0.05, 0.95], axis=0)
    lengths = [len(sequences[int(random.integers(len(sequences)))]) for _ in range(_PROBES)]
    drawn = [random.uniform(low, high, (length, frames.shape[1])).astype(np.float32) for length in lengths]
    return [Probe("random numbers", {"sequence": sequence}) for sequence in drawn]


def refuse_ready(features: str) -> ConfigError:
    """Return the error for a feature set of ready-made features that is to be computed from recordings."""
    return ConfigError(f"candidates: the features {features} are for ready-made features; the samples are none")


def decode_ready_features(path: Path, spec: Mapping[str, Any]) -> dict[str, NDArray[np.float32]]:
    """Return a feature file as a model's input `sequence` (T, D) float32; `spec` has `encoding` and `width`.

    Raises DataError for a file that cannot be used or whose D is not the model's, InvalidInputError for one of zeros.
    """
    suffix = path.suffix.lower().lstrip(".")
    try:
        sequence = parse_features(read_bounded(path, SIZE_LIMIT), suffix if suffix in ("json", "npy") else "npz")
    except (FeatureFileError, RefusedFileError) as refused:
        reason = f"{refused}; the model takes features of the encoding {spec['encoding']}"
        raise DataError([Fault(str(path), None, "features", reason)]) from None
    if sequence.shape[1] != spec["width"]:
        reason = f"{sequence.shape[1]} numbers a frame, but the model takes {spec['width']}"
        raise DataError([Fault(str(path), None, "features", reason)])
    if spec.get("ready_features") and not sequence.any():
        raise InvalidInputError([Fault(str(path), None, "features", "all numbers are zero")])
    return {"sequence": sequence}


def _checked(candidate: CandidateConfig[FeatureName]) -> ReadyCandidate:
    """Return a trainer's candidate as one of ready-made features. Raises ConfigError for features of recordings."""
    others = [name for name in candidate.features or () if name not in READY]
    if others:
        raise ConfigError(
            f"candidates: the features {', '.join(others)} are computed from recordings; of ready-made features there "
            f"are {', '.join(READY)}"
        )
    return ReadyCandidate.model_validate(candidate.model_dump())


def _function(features: ReadyFeatures) -> FeatureFunction:
    match features:
        case "frame_mean":
            return FrameMean()
        case "motion_statistics":
            return Statistics(coordinates=0)
        case "resampled":
            return Resampled(coordinates=0, frames=_FRAMES)
