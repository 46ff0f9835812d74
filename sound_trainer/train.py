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

from shared.calibration import cosine_novelty
from shared.cli_trainer import trainer_main
from shared.config import TrainerConfig
from shared.encoders import load_encoder
from shared.evaluation import Contender, Fixed, Rows
from shared.graph import FeatureFunction, FeatureGraph, TensorSpec, joined
from shared.heads import Fitter, fit_lda, fit_logistic, fit_prototypes, fit_ridge
from shared.recipe import Job, ModelSpec, Outcome, Trainer, featurise, load, package, validate
from sound_trainer.preprocessing.augment import Augment, Augmentation
from sound_trainer.preprocessing.decode import Decoding, Recordings, decode, open_recordings
from sound_trainer.preprocessing.embedding import SpeechEmbedding
from sound_trainer.preprocessing.spectral import Cepstra, Everything

ContenderName = Literal[
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
    contenders: tuple[ContenderName, ...] = Field(
        default=("embedding_prototypes", "embedding_lda", "everything_lda"), min_length=1
    )


def train(job: Job, config: SoundConfig) -> Outcome:
    """Train one user's sound model from labelled recordings."""
    dataset = load(job, config, "sound")
    with job.log.stage("decode"):
        recordings = open_recordings(job, dataset, config.decoding)
    contenders = compete(job, config, recordings)
    validation = validate(job, contenders, dataset, config)
    spec = ModelSpec({"decoding": config.decoding.model_dump(mode="json")}, "loudness_v1", media=recordings.report())
    return package(job, validation, recordings, dataset, config, spec, _REPLAYED)


def compete(job: Job, config: SoundConfig, recordings: Recordings) -> list[Contender]:
    """Return the configured contenders, those that need the fewest samples first, with their features computed.

    Each block of features is a graph of its own, so that it is computed once and kept for the next run. Where copies
    are asked for, each contender competes without and with them, so that they stay only if they help.
    """
    known: dict[str, Fixed] = {}
    contenders = []
    for name in config.contenders:
        features, head = name.split("_")
        if features not in known:
            blocks = [known.setdefault(b, _block(b, job, config, recordings)) for b in _BLOCKS[features]]
            known[features] = side_by_side(f"sound-{features}", blocks)
        contenders.append(Contender(name, known[features], _HEADS[head], cosine_novelty))
    if not config.augmentation.copies:
        return contenders
    return [replace(c, source=without_copies(known[c.name.split("_")[0]])) for c in contenders] + [
        replace(c, name=f"{c.name}_augmented") for c in contenders
    ]


def without_copies(source: Fixed) -> Fixed:
    """Return the source with no copies of any sample."""
    rows = source.computed
    return Fixed(source.traced, Rows(rows.base, rows.copies[:0], rows.owner[:0]))


def side_by_side(name: str, blocks: Sequence[Fixed]) -> Fixed:
    """Return the features of all blocks, one after another, and the graph that computes them."""
    rows = [block.computed for block in blocks]
    base = np.concatenate([r.base for r in rows], axis=1)
    copies = np.concatenate([r.copies for r in rows], axis=1)
    return Fixed(joined(name, [block.traced for block in blocks]), Rows(base, copies, rows[0].owner))


def _block(name: str, job: Job, config: SoundConfig, recordings: Recordings) -> Fixed:
    """Return a block's features of all recordings, from the cache where they are known."""
    function: FeatureFunction
    if name == "network":
        encoder = load_encoder(config.encoder)
        function = SpeechEmbedding(encoder.folder / encoder.spec.model)
    else:
        function = Cepstra() if name == "cepstra" else Everything()
    graph = FeatureGraph(f"sound-{name}", _WAVE, function)
    augment = Augment(config.augmentation) if config.augmentation.copies else None
    return Fixed(graph, featurise(job, graph, recordings, recordings.keys, augment, config.seed))


TRAINER = Trainer("sound", SoundConfig, train, decode, "sound_trainer", "sound-train")


def main() -> None:
    """Run the sound trainer's command line."""
    trainer_main(TRAINER)


if __name__ == "__main__":
    main()
