"""The visual recipe: one user's model of the places and things that their camera sees."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

if __name__ == "__main__" and __package__ in (None, ""):  # run as a file: find the packages beside it
    sys.path[0] = str(Path(__file__).resolve().parents[1])

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from model_registry.entry import EncoderRef
from shared.calibration import cosine_novelty
from shared.cli_trainer import trainer_main
from shared.config import TrainerConfig
from shared.encoders import Encoder, export_encoder, load_encoder
from shared.errors import ConfigError, DataError, Fault
from shared.evaluation import Contender, Fixed
from shared.feature_cache import content_key
from shared.graph import FeatureGraph, TensorSpec
from shared.heads import fit_logistic
from shared.recipe import Job, ModelSpec, Outcome, Trainer, featurise, load, package, validate
from visual_environment_trainer.preprocessing.embeddings import PlaceFeatures, embed
from visual_environment_trainer.preprocessing.images import VIEWS, UnreadableImageError, read_views

ContenderName = Literal["one_view", "middle", "three_views"]


class VisualConfig(TrainerConfig):
    """Everything that can be set for a visual model."""

    encoder: str = Field(default="lite0", description="pretrained image encoder: its name, or the folder that holds it")
    contenders: tuple[ContenderName, ...] = Field(default=("one_view", "middle", "three_views"), min_length=1)
    views_up_to: int = Field(default=400, ge=0, description="with more images than this one view of each is enough")
    middle_weight: float = Field(default=0.7, ge=0.0, le=10.0, description="of the encoder's middle stage")
    inverse_penalty: float = Field(default=10.0, gt=0.0, description="C of the logistic regression")


Samples = list[dict[str, NDArray[np.float32]]]


def train(job: Job, config: VisualConfig) -> Outcome:
    """Train one user's visual model from labelled images."""
    dataset = load(job, config, "visual_environment")
    encoder = load_encoder(config.encoder, threads=2)
    several = "three_views" in config.contenders and len(dataset) <= config.views_up_to
    views = VIEWS if several else VIEWS[:1]
    samples = embed(job, dataset, encoder, len(views))
    contenders = compete(job, config, encoder, samples, len(views))
    validation = validate(job, contenders, dataset, config)
    export_encoder(encoder, job.out)
    reference = EncoderRef(name=encoder.spec.name, sha256=encoder.spec.sha256)
    side = encoder.spec.inputs["image"].shape[1]
    spec = ModelSpec({"side": side, "views": list(views)}, "views_v1", encoder_refs=(reference,))
    return package(job, validation, samples, dataset, config, spec)


def compete(job: Job, config: VisualConfig, encoder: Encoder, samples: Samples, views: int) -> list[Contender]:
    """Return the configured contenders that the views suffice for, simplest first, with their features computed."""
    name = encoder.spec.name
    contract = tuple(
        TensorSpec(tensor, "float32", (views, encoder.spec.outputs[output]))
        for tensor, output in ((name, "embedding"), (f"{name}_mid", "mid"))
    )
    keys = [content_key(sample[name], sample[f"{name}_mid"]) for sample in samples]
    functions = {
        "one_view": PlaceFeatures(name, 1, 0.0),
        "middle": PlaceFeatures(name, 1, config.middle_weight),
        "three_views": PlaceFeatures(name, len(VIEWS), config.middle_weight),
    }
    contenders = []
    for contender in config.contenders:
        if functions[contender].views > views:
            continue
        graph = FeatureGraph(f"visual-{contender}", contract, functions[contender])
        source = Fixed(graph, featurise(job, graph, samples, keys))
        fit = fit_logistic(config.inverse_penalty)
        contenders.append(Contender(contender, source, fit, cosine_novelty, isotropic=True))
    if not contenders:
        raise ConfigError("contenders: three_views alone, but there are more images than views_up_to")
    return contenders


def decode(path: Path, spec: Mapping[str, Any], encoders: Mapping[str, Encoder]) -> dict[str, NDArray[Any]]:
    """Return the embeddings of an image file's views, as the model takes them.

    Raises DataError for an image that cannot be used.
    """
    try:
        views = read_views(path, spec["side"])
    except UnreadableImageError as error:
        raise DataError([Fault(str(path), None, "image", str(error))]) from None
    ((name, encoder),) = encoders.items()
    found = encoder.run({"image": views[: len(spec["views"])]})
    return {name: found["embedding"], f"{name}_mid": found["mid"]}


TRAINER = Trainer("visual_environment", VisualConfig, train, decode, "visual_environment_trainer", "visual-train")


def main() -> None:
    """Run the visual trainer's command line."""
    trainer_main(TRAINER)


if __name__ == "__main__":
    main()
