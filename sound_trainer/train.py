"""The sound recipe: one user's model of the sounds and words that they make."""

from __future__ import annotations

import sys
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
from shared.heads import Fitter, fit_lda, fit_prototypes, fit_ridge
from shared.recipe import Job, ModelSpec, Outcome, Trainer, featurise, load, package, validate
from sound_trainer.preprocessing.decode import Decoding, Recordings, decode, open_recordings
from sound_trainer.preprocessing.embedding import SpeechEmbedding
from sound_trainer.preprocessing.spectral import Cepstra, Everything

ContenderName = Literal[
    "embedding_prototypes", "embedding_ridge", "everything_lda", "spectral_lda", "spectral_prototypes"
]
_WAVE = (TensorSpec("wave", "float32", ("samples",)),)
_REPLAYED = 128  # sounds that run through the whole graph before it is published; all run through its ending


class SoundConfig(TrainerConfig):
    """Everything that can be set for a sound model."""

    decoding: Decoding = Field(default_factory=Decoding)
    encoder: str = Field("speech_embedding", description="pretrained sound encoder: its name, or its folder")
    contenders: tuple[ContenderName, ...] = Field(
        ("embedding_prototypes", "embedding_ridge", "everything_lda"), min_length=1
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

    Each block of features is a graph of its own, so that it is computed once and kept for the next run.
    """
    blocks: dict[str, Fixed] = {}

    def block(name: str) -> Fixed:
        if name not in blocks:
            graph = FeatureGraph(f"sound-{name}", _WAVE, _function(name, config))
            blocks[name] = Fixed(graph, featurise(job, graph, recordings, recordings.keys))
        return blocks[name]

    known: dict[str, tuple[tuple[str, ...], Fitter]] = {
        "embedding_prototypes": (("embedding", "cepstra"), fit_prototypes()),
        "embedding_ridge": (("embedding", "cepstra"), fit_ridge),
        "everything_lda": (("embedding", "everything"), fit_lda),
        "spectral_lda": (("everything",), fit_lda),
        "spectral_prototypes": (("everything",), fit_prototypes()),
    }
    return [
        Contender(name, side_by_side(f"sound-{'-'.join(parts)}", [block(part) for part in parts]), fit, cosine_novelty)
        for name, (parts, fit) in ((name, known[name]) for name in config.contenders)
    ]


def side_by_side(name: str, blocks: list[Fixed]) -> Fixed:
    """Return the features of all blocks, one after another, and the graph that computes them."""
    rows = [block.computed for block in blocks]
    base = np.concatenate([r.base for r in rows], axis=1)
    copies = np.concatenate([r.copies for r in rows], axis=1)
    return Fixed(joined(name, [block.traced for block in blocks]), Rows(base, copies, rows[0].owner))


def _function(name: str, config: SoundConfig) -> FeatureFunction:
    if name == "cepstra":
        return Cepstra()
    if name == "everything":
        return Everything()
    encoder = load_encoder(config.encoder)
    return SpeechEmbedding(encoder.folder / encoder.spec.model)


TRAINER = Trainer("sound", SoundConfig, train, decode, "sound_trainer", "sound-train")


def main() -> None:
    """Run the sound trainer's command line."""
    trainer_main(TRAINER)


if __name__ == "__main__":
    main()
