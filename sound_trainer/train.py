"""The sound recipe: one user's model of the sounds and words that they make."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any, Literal

if __name__ == "__main__" and __package__ in (None, ""):  # run as a file: find the packages beside it
    sys.path[0] = str(Path(__file__).resolve().parents[1])

from pydantic import Field

from shared.commands.train import trainer_main
from shared.config import TrainerConfig
from shared.data_loader import Dataset
from shared.features.arrays import Inputs
from shared.features.encoders import load_encoder
from shared.features.graph import FeatureFunction, FeatureGraph, TensorSpec
from shared.features.probes import FITTED, REPORTED, split_background
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
from shared.learning.familiarity import cosine_familiarity
from shared.ready_features import (
    ReadyFeatures,
    has_ready_features,
    plan_ready_features,
    refuse_ready,
    train_on_ready_features,
)
from shared.recipe import Outcome, PlannedTraining, Recipe, featurise, load, package, validate, within_budget
from sound_trainer.modality import TRAINER
from sound_trainer.preprocessing.augment import Augment, Augmentation
from sound_trainer.preprocessing.background import background_pieces, piece_seconds, sound_windows, typical_seconds
from sound_trainer.preprocessing.decode import Decoding, preparation
from sound_trainer.preprocessing.embedding import SpeechEmbedding
from sound_trainer.preprocessing.probes import sound_probes
from sound_trainer.preprocessing.recordings import Recordings, decode, open_recordings
from sound_trainer.preprocessing.spectral import RATE, Cepstra, FullSpectralFeatures

SoundFeatures = Literal["speech_embedding", "cepstra", "spectral", ReadyFeatures]
SoundCandidate = CandidateConfig[SoundFeatures]


def _candidate(features: Sequence[SoundFeatures], **classifier: Any) -> SoundCandidate:
    return SoundCandidate.model_validate({"features": tuple(features), "classifier": classifier})


SUITABLE = (  # preferred first
    _candidate(("speech_embedding", "spectral"), type="lda"),
    _candidate(("speech_embedding", "spectral"), type="logistic_regression", C=0.1),
    _candidate(("speech_embedding", "cepstra", "spectral"), type="lda"),
)
_WAVE = (TensorSpec("wave", "float32", ("samples",), f"mono, {RATE} Hz, full scale -1 to 1"),)
WIDTHS: dict[SoundFeatures, int] = {"speech_embedding": 576, "cepstra": 240, "spectral": 628}
_REPLAYED = 64  # sounds that run through the whole graph before it is published; all run through its head graph


class SoundConfig(TrainerConfig):
    """Everything that can be set for a sound model."""

    decoding: Decoding = Field(default_factory=Decoding)
    augmentation: Augmentation = Field(default_factory=Augmentation)
    encoder: str = Field(default="speech_embedding", description="pretrained sound encoder: its name, or its folder")
    candidates: Auto | Annotated[tuple[SoundCandidate, ...], Field(min_length=1)] = Field(
        default="auto", description="what is compared, preferred first; auto: what suits sounds"
    )


def train(job: Job, config: SoundConfig) -> Outcome:
    """Train one user's sound model from labelled recordings, or from ready-made features."""
    dataset = load(job, config, "sound")
    if has_ready_features(dataset):
        return train_on_ready_features(job, config, config.candidates, dataset)
    with job.log.stage("decode"):
        recordings = open_recordings(job, dataset, config.decoding)
    background = [probe.inputs for seed in FITTED for probe in sound_probes(recordings, seed)]
    noise, tested = split_background(background_pieces(dataset, config.decoding, recordings), piece_seconds)
    affordable = within_budget(job, config, dataset, planned_candidates(config))
    compared = config.model_copy(update={"candidates": affordable})
    candidates = sound_candidates(job, compared, recordings, [*background, *noise])
    validation = validate(job, candidates, dataset, config)
    described = {
        "decoding": config.decoding.model_dump(mode="json"),
        "typical_seconds": round(typical_seconds(recordings), 3),
    }
    spec = ModelSpec(described, "loudness_v1", preparation(config.decoding), media=recordings.report())
    probes = [*sound_probes(recordings, REPORTED), *tested]
    return package(job, validation, recordings, dataset, config, spec, probes, _REPLAYED)


def plan(dataset: Dataset, config: SoundConfig) -> PlannedTraining:
    """Return what `train` would compare; nothing is decoded."""
    if has_ready_features(dataset):
        return plan_ready_features(config.candidates, dataset)
    return PlannedTraining(dataset, planned_candidates(config))


def planned_candidates(config: SoundConfig) -> list[PlannedCandidate]:
    """Return the candidates, preferred first, before their features are computed. Raises ConfigError."""
    planned = []
    for candidate in resolve_candidates(config.candidates, SUITABLE):
        for name in candidate.features or ():
            if name not in WIDTHS:
                raise refuse_ready(name)
        width = sum(WIDTHS[name] for name in candidate.features or ())
        planned.append(PlannedCandidate(candidate, width, config.augmentation.copies))
    return planned


def sound_candidates(
    job: Job, config: SoundConfig, recordings: Recordings, background: Sequence[Inputs] = ()
) -> list[Candidate]:
    """Return the candidates, preferred first, with the features of the recordings and of the `background` computed.

    Each feature set is a graph of its own, so that it is computed once and kept for the next run.
    """
    augment = Augment(config.augmentation) if config.augmentation.copies else None

    def source_of(features: SoundFeatures) -> FeatureSource:
        graph = FeatureGraph(f"sound-{features}", _WAVE, _function(features, config))
        return PrecomputedFeatures(
            graph, featurise(job, graph, recordings, recordings.keys, augment, config.seed, background)
        )

    configs = resolve_candidates(config.candidates, SUITABLE)
    return build_candidates(configs, source_of, lambda _: cosine_familiarity, config.seed, modality="sound")


def _function(features: SoundFeatures, config: SoundConfig) -> FeatureFunction:
    match features:
        case "speech_embedding":
            encoder = load_encoder(config.encoder)
            return SpeechEmbedding(encoder.folder / encoder.spec.model)
        case "cepstra":
            return Cepstra()
        case "spectral":
            return FullSpectralFeatures()
    raise refuse_ready(features)


RECIPE = Recipe(SoundConfig, train, decode, sound_windows, plan)


def main() -> None:
    """Run the sound trainer's command line."""
    trainer_main(TRAINER, RECIPE)


if __name__ == "__main__":
    main()
