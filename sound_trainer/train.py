"""The sound recipe: one user's model of the sounds and words that they make."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Literal

if __name__ == "__main__" and __package__ in (None, ""):  # run as a file: find the packages beside it
    sys.path[0] = str(Path(__file__).resolve().parents[1])

import numpy as np
from pydantic import Field

from shared.commands.train import trainer_main
from shared.config import TrainerConfig
from shared.evaluation import Candidate, PrecomputedFeatures, Rows
from shared.features.encoders import load_encoder
from shared.features.graph import FeatureFunction, FeatureGraph, TensorSpec, joined
from shared.job import Job, ModelSpec, Outcome, Trainer
from shared.learning.calibration import cosine_familiarity
from shared.learning.heads import Fitter, fit_lda, fit_logistic, fit_prototypes, fit_ridge
from shared.recipe import featurise, load, package, validate
from sound_trainer.preprocessing.augment import Augment, Augmentation
from sound_trainer.preprocessing.decode import Decoding, Recordings, decode, open_recordings
from sound_trainer.preprocessing.embedding import SpeechEmbedding
from sound_trainer.preprocessing.spectral import Cepstra, FullSpectralFeatures

CandidateName = Literal[
    "embedding_prototypes",
    "embedding_lda",
    "embedding_ridge",
    "embedding_logistic",
    "everything_lda",
    "everything_ridge",
    "spectral_lda",
    "spectral_prototypes",
]
_BLOCKS = {"embedding": ("network", "cepstra"), "everything": ("network", "whole"), "spectral": ("whole",)}
_HEADS: dict[str, Fitter] = {
    "prototypes": fit_prototypes(),
    "lda": fit_lda,
    "ridge": fit_ridge,
    "logistic": fit_logistic(standardise=True),
}
_WAVE = (TensorSpec("wave", "float32", ("samples",)),)
_REPLAYED = 64  # sounds that run through the whole graph before it is published; all run through its ending


class SoundConfig(TrainerConfig):
    """Everything that can be set for a sound model."""

    decoding: Decoding = Field(default_factory=Decoding)
    augmentation: Augmentation = Field(default_factory=Augmentation)
    encoder: str = Field(default="speech_embedding", description="pretrained sound encoder: its name, or its folder")
    candidates: tuple[CandidateName, ...] = Field(
        default=("embedding_prototypes", "embedding_lda", "everything_lda"), min_length=1
    )


def train(job: Job, config: SoundConfig) -> Outcome:
    """Train one user's sound model from labelled recordings."""
    dataset = load(job, config, "sound")
    with job.log.stage("decode"):
        recordings = open_recordings(job, dataset, config.decoding)
    candidates = build_candidates(job, config, recordings)
    validation = validate(job, candidates, dataset, config)
    spec = ModelSpec({"decoding": config.decoding.model_dump(mode="json")}, "loudness_v1", media=recordings.report())
    return package(job, validation, recordings, dataset, config, spec, _REPLAYED)


def build_candidates(job: Job, config: SoundConfig, recordings: Recordings) -> list[Candidate]:
    """Return the configured candidates, those that need the fewest samples first, with their features computed.

    Each block of features is a graph of its own, so that it is computed once and kept for the next run. Where copies
    are asked for, each candidate competes without and with them, so that they stay only if they help.
    """
    known: dict[str, PrecomputedFeatures] = {}
    candidates = []
    for name in config.candidates:
        features, head = name.split("_")
        if features not in known:
            blocks = [known.setdefault(b, _block(b, job, config, recordings)) for b in _BLOCKS[features]]
            known[features] = concat_features(f"sound-{features}", blocks)
        candidates.append(Candidate(name, known[features], _HEADS[head], cosine_familiarity))
    if not config.augmentation.copies:
        return candidates
    return [replace(c, source=without_copies(known[c.name.split("_")[0]])) for c in candidates] + [
        replace(c, name=f"{c.name}_augmented") for c in candidates
    ]


def without_copies(source: PrecomputedFeatures) -> PrecomputedFeatures:
    """Return the source with no copies of any sample."""
    rows = source.computed
    return PrecomputedFeatures(source.traced, Rows(rows.base, rows.copies[:0], rows.owner[:0]))


def concat_features(name: str, blocks: Sequence[PrecomputedFeatures]) -> PrecomputedFeatures:
    """Return the features of all blocks, one after another, and the graph that computes them."""
    rows = [block.computed for block in blocks]
    base = np.concatenate([r.base for r in rows], axis=1)
    copies = np.concatenate([r.copies for r in rows], axis=1)
    return PrecomputedFeatures(joined(name, [block.traced for block in blocks]), Rows(base, copies, rows[0].owner))


def _block(name: str, job: Job, config: SoundConfig, recordings: Recordings) -> PrecomputedFeatures:
    """Return a block's features of all recordings, from the cache where they are known."""
    function: FeatureFunction
    if name == "network":
        encoder = load_encoder(config.encoder)
        function = SpeechEmbedding(encoder.folder / encoder.spec.model)
    else:
        function = Cepstra() if name == "cepstra" else FullSpectralFeatures()
    graph = FeatureGraph(f"sound-{name}", _WAVE, function)
    augment = Augment(config.augmentation) if config.augmentation.copies else None
    return PrecomputedFeatures(graph, featurise(job, graph, recordings, recordings.keys, augment, config.seed))


TRAINER = Trainer("sound", SoundConfig, train, decode, "sound_trainer", "sound-train")


def main() -> None:
    """Run the sound trainer's command line."""
    trainer_main(TRAINER)


if __name__ == "__main__":
    main()
