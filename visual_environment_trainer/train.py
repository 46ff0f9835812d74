"""The visual recipe: one user's model of the places and things that their camera sees."""

from __future__ import annotations

import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Annotated, Any, Literal

if __name__ == "__main__" and __package__ in (None, ""):  # run as a file: find the packages beside it
    sys.path[0] = str(Path(__file__).resolve().parents[1])

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from model_registry.storage.durable import temporary_folder
from model_registry.storage.entry import EncoderRef
from shared.commands.train import trainer_main
from shared.config import TrainerConfig
from shared.data.files import RefusedFileError, private_copy
from shared.data.media.video import read_timing
from shared.data_loader import Dataset, Sample
from shared.errors import ConfigError, DataError, Fault, InvalidInputError
from shared.features.arrays import Inputs
from shared.features.cache import content_key
from shared.features.encoders import Encoder, export_encoder
from shared.features.graph import FeatureFunction, FeatureGraph, TensorSpec
from shared.features.probes import FITTED, MOST_BACKGROUND, REPORTED, split_background
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
from shared.learning.duplicates import assign_duplicates_to_one_session
from shared.learning.familiarity import centroid_familiarity
from shared.ready_features import (
    READY,
    ReadyFeatures,
    decode_ready_features,
    has_ready_features,
    plan_ready_features,
    refuse_ready,
    train_on_ready_features,
)
from shared.recipe import (
    Cutting,
    Outcome,
    PlannedTraining,
    Recipe,
    Window,
    featurise,
    load,
    package,
    validate,
    within_budget,
)
from shared.schema_utils import Box
from visual_environment_trainer.modality import TRAINER
from visual_environment_trainer.preprocessing import handmade
from visual_environment_trainer.preprocessing.choosing import OwnEncoder, select_encoder
from visual_environment_trainer.preprocessing.embeddings import (
    BLURRED,
    EncodedImages,
    Encoding,
    Numbers,
    PlaceFeatures,
    encode_images,
)
from visual_environment_trainer.preprocessing.images import BlankImageError, UnreadableImageError, cut_out
from visual_environment_trainer.preprocessing.near_duplicates import near_duplicate_groups
from visual_environment_trainer.preprocessing.probes import visual_probes
from visual_environment_trainer.preprocessing.validity import invalid_reason, require_content
from visual_environment_trainer.preprocessing.videos import VIDEO_SUFFIXES, frames_shown
from visual_environment_trainer.preprocessing.views import (
    ONE_VIEW,
    SEVERAL_VIEWS,
    Viewing,
    frame_views,
    preparation,
    read_views,
)
from visual_environment_trainer.robustness import keep_helpful_copies

VisualFeatures = Literal["embedding", "middle", "handmade", ReadyFeatures]
VisualCandidate = CandidateConfig[VisualFeatures]


def _candidate(features: Sequence[VisualFeatures], **classifier: Any) -> VisualCandidate:
    return VisualCandidate.model_validate({"features": tuple(features), "classifier": classifier})


_LOGISTIC = {"type": "logistic_regression", "C": 10.0, "scaler": "none"}
_CENTROID = {"type": "nearest_centroid", "metric": "cosine"}
SUITABLE = (  # preferred first
    _candidate(("embedding",), **_LOGISTIC),
    _candidate(("embedding", "middle"), **_LOGISTIC),
)
SUITABLE_FEW = (  # where no label has more than FEW_EACH images
    _candidate(("embedding",), **_CENTROID, scaler="none"),
    _candidate(("embedding", "middle"), **_CENTROID, scaler="none"),
)
WITHOUT_ENCODER = (_candidate(("handmade",), type="logistic_regression", C=0.01),)
WITHOUT_ENCODER_FEW = (_candidate(("handmade",), **_CENTROID),)
HANDMADE_WIDTH = 591
FEW_EACH = 3  # images of every label up to which class means are compared instead


class VisualConfig(TrainerConfig):
    """Everything that can be set for a visual model."""

    encoder: str | OwnEncoder = Field(
        default="lite0_int8", description="image encoder: a pretrained name, the folder that holds it, or an ONNX file"
    )
    few_encoder: str | OwnEncoder | None = Field(default="lite2_int8", description="the same, where images are few")
    few_up_to: int = Field(default=600, ge=0, description="so many images are few, and worth the slower encoder")
    several_views_up_to: int = Field(default=200, ge=0, description="with more images one view of each is enough")
    candidates: Auto | Annotated[tuple[VisualCandidate, ...], Field(min_length=1)] = Field(
        default="auto", description="what is compared, preferred first; auto: what suits the encoder"
    )
    middle_weight: float = Field(default=0.7, gt=0.0, le=10.0, description="of the encoder's middle stage")
    region: Box | None = Field(default=None, description="all that is seen of images whose example has no box")
    frames_per_second: float = Field(default=1.0, gt=0.0, le=30.0, description="that are looked at in a video")
    blurred_copies: bool = Field(default=False, description="also train on blurred copies, if they help")
    blur: float = Field(default=1.4, gt=0.0, le=20.0, description="of the copies: sigma in pixels of a view")


def train(job: Job, config: VisualConfig) -> Outcome:
    """Train one user's visual model from labelled images and videos, or from ready-made features."""
    dataset = load(job, config, "visual_environment")
    if has_ready_features(dataset):
        return train_on_ready_features(job, config, config.candidates, dataset)
    encoder, notes = select_encoder(wanted_encoders(config, len(dataset)), job.out)
    encoding = encoding_for(config, encoder, len(dataset))
    seen = encode_images(job, dataset, encoding)
    sessions, copies = group_near_duplicates(job, dataset, seen)
    background, tested = split_background(background_scenes(job, dataset, encoding))
    background += [probe.inputs for probe in visual_probes(dataset, encoding, FITTED[0])]
    probes = [*visual_probes(dataset, encoding, REPORTED), *tested]
    affordable = within_budget(job, config, dataset, planned_candidates(dataset, config, encoder))
    compared = config.model_copy(update={"candidates": affordable})
    candidates = visual_candidates(job, compared, encoder, seen.samples, has_few(dataset), background)
    if config.blurred_copies and encoder is not None:
        candidates, note = keep_helpful_copies(candidates, dataset.label_index, sessions, config)
        notes.append(note)
    validation = validate(job, candidates, dataset, config, sessions)
    if encoder is not None:
        export_encoder(encoder, job.out)
    references = () if encoder is None else (EncoderRef(name=encoder.spec.name, sha256=encoder.spec.sha256),)
    spec = ModelSpec(
        encoding.viewing.model_dump(mode="json"),
        "views_v2",
        preparation(encoding.viewing),
        encoder_refs=references,
        notes=tuple(notes + box_notes(dataset)),
        media=copies,
    )
    return package(job, validation, seen.samples, dataset, config, spec, probes)


def background_scenes(job: Job, dataset: Dataset, encoding: Encoding) -> list[list[Inputs]]:
    """Return what the model takes of each background recording: of an image, or of each frame of a video.

    Raises DataError for a file that cannot be used.
    """
    images: list[Sample] = []
    videos: list[list[Inputs]] = []
    for sample in dataset.background:
        if sample.path is not None and sample.path.suffix.lower() in VIDEO_SUFFIXES:
            videos.append(_scene_frames(sample, sample.path, encoding))
        else:
            images.append(sample)
    scenes: list[list[Inputs]] = []
    if images:
        encoded = encode_images(job, replace(dataset.of_background, samples=tuple(images)), encoding)
        scenes += [[one] for one in encoded.samples]
    return [*scenes, *filter(None, videos)]


def _scene_frames(sample: Sample, file: Path, encoding: Encoding) -> list[Inputs]:
    """Return what the model takes of at most 2 * MOST_BACKGROUND frames of a background video, spread evenly."""
    try:
        with private_copy(file, sample.content_sha256) as path:
            step = max(1 / encoding.viewing.frames_per_second, read_timing(path).seconds / (2 * MOST_BACKGROUND))
            onset, offset = sample.example.onset or 0.0, sample.example.offset or np.inf
            return [
                window.inputs
                for window in _frame_windows(path, encoding, step)
                if window.inputs is not None and window.onset < offset and window.offset > onset
            ]
    except (UnreadableImageError, RefusedFileError) as error:
        raise DataError([sample.media_fault(str(error))]) from None


def plan(dataset: Dataset, config: VisualConfig) -> PlannedTraining:
    """Return what `train` would compare; no picture is decoded."""
    if has_ready_features(dataset):
        return plan_ready_features(config.candidates, dataset)
    with temporary_folder() as out:  # for an encoder of one's own
        encoder, _ = select_encoder(wanted_encoders(config, len(dataset)), out)
    return PlannedTraining(dataset, planned_candidates(dataset, config, encoder))


def planned_candidates(dataset: Dataset, config: VisualConfig, encoder: Encoder | None) -> list[PlannedCandidate]:
    """Return the candidates, preferred first, before their features are computed. Raises ConfigError."""

    def width_of(features: VisualFeatures) -> int:
        contract, _ = _features(features, encoder, config)
        return HANDMADE_WIDTH if features == "handmade" else int(contract.shape[-1])

    copies = int(config.blurred_copies and encoder is not None)
    return [
        PlannedCandidate(candidate, sum(map(width_of, candidate.features or ())), copies)
        for candidate in resolve_candidates(config.candidates, suitable_candidates(encoder, has_few(dataset)))
    ]


def has_few(dataset: Dataset) -> bool:
    """Return whether no label has more images than class means are compared for."""
    return int(np.bincount(dataset.label_index).max()) <= FEW_EACH


def wanted_encoders(config: VisualConfig, count: int) -> list[str | OwnEncoder]:
    """Return the encoders for `count` images, preferred first.

    Raises ConfigError where `encoder` was set and `few_encoder`, which was not, would be used in its place.
    """
    if config.few_encoder is None or count > config.few_up_to:
        return [config.encoder]
    if "encoder" in config.model_fields_set and "few_encoder" not in config.model_fields_set:
        raise ConfigError(
            f"encoder: with {count} images the encoder is few_encoder, {config.few_encoder}, which is for up to "
            f"{config.few_up_to}; set few_encoder, too: null takes {config.encoder} however few they are"
        )
    return [config.few_encoder, config.encoder]


def encoding_for(config: VisualConfig, encoder: Encoder | None, count: int) -> Encoding:
    """Return how files become what the model takes, for `count` of them."""
    side = handmade.SIDE if encoder is None else int(encoder.spec.inputs["image"].shape[1])
    views = SEVERAL_VIEWS if encoder is not None and count <= config.several_views_up_to else ONE_VIEW
    viewing = Viewing(side=side, views=views, region=config.region, frames_per_second=config.frames_per_second)
    return Encoding(viewing, encoder, config.blur if config.blurred_copies else 0.0)


def group_near_duplicates(
    job: Job, dataset: Dataset, seen: EncodedImages
) -> tuple[tuple[str, ...], tuple[Mapping[str, Any], ...]]:
    """Return each sample's session for validation, near copies beside their first, and a row for each that moved."""
    groups = near_duplicate_groups(seen.fingerprints, dataset.session_ids)
    sessions, moved = assign_duplicates_to_one_session(groups, dataset.session_ids)
    first = {group: k for k, group in reversed(list(enumerate(groups)))}
    rows = tuple(
        {"record_id": dataset.samples[k].record_id, "near_copy_of": dataset.samples[first[group]].record_id}
        for k, group in enumerate(groups)
        if sessions[k] != dataset.session_ids[k]
    )
    if moved:
        some = ", ".join(f"{row['record_id']} of {row['near_copy_of']}" for row in rows[:3])
        job.log.warn(
            f"{moved} images are nearly the same as one of another session and are validated with it: {some}"
            + (", … (the log lists all under media)" if moved > 3 else "")
        )
    return sessions, rows


def visual_candidates(
    job: Job,
    config: VisualConfig,
    encoder: Encoder | None,
    samples: Sequence[Numbers],
    few: bool,
    background: Sequence[Inputs] = (),
) -> list[Candidate]:
    """Return the candidates, preferred first, with the features of the samples and of the `background` computed."""
    augment = _blurred if config.blurred_copies and encoder is not None else None

    def source_of(features: VisualFeatures) -> FeatureSource:
        contract, function = _features(features, encoder, config)
        graph = FeatureGraph(f"visual-{features}", (contract,), function)
        keys = [content_key(sample[contract.name]) for sample in samples]
        return PrecomputedFeatures(graph, featurise(job, graph, samples, keys, augment, background=background))

    configs = resolve_candidates(config.candidates, suitable_candidates(encoder, few))
    return build_candidates(
        configs,
        source_of,
        lambda _: centroid_familiarity,
        config.seed,
        modality="visual",
        isotropic_familiarity=True,
    )


def suitable_candidates(encoder: Encoder | None, few: bool) -> Sequence[VisualCandidate]:
    """Return what is compared by default."""
    if encoder is None:
        return WITHOUT_ENCODER_FEW if few else WITHOUT_ENCODER
    found = SUITABLE_FEW if few else SUITABLE
    return found if "mid" in encoder.spec.outputs else found[:1]


def _features(
    features: VisualFeatures, encoder: Encoder | None, config: VisualConfig
) -> tuple[TensorSpec, FeatureFunction]:
    """Return the model's input that the features are computed of, and the function. Raises ConfigError."""
    if features in READY:
        raise refuse_ready(features)
    if features == "handmade":
        if encoder is not None:
            raise ConfigError("candidates: the features handmade are for training without an encoder; use embedding")
        image = TensorSpec("image", "uint8", (handmade.SIDE, handmade.SIDE, 3), "the centre view: RGB, rows first")
        return image, handmade.Handmade()
    if encoder is None:
        raise ConfigError(f"candidates: the features {features} need an image encoder; run `make setup`")
    first, *others = encoder.spec.outputs
    output, name, weight = first, encoder.spec.name, 1.0
    if features == "middle":
        if "mid" not in others:
            raise ConfigError(f"candidates: the encoder {name} has no middle stage; leave out the features middle")
        output, name, weight = "mid", f"{name}_mid", config.middle_weight
    meaning = f"output {output} of {encoder.spec.name}, a row a view"
    return TensorSpec(name, "float32", ("views", encoder.spec.outputs[output]), meaning), PlaceFeatures(name, weight)


def _blurred(sample: Numbers, _: np.random.Generator) -> list[Numbers]:
    return [{name.removesuffix(BLURRED): rows for name, rows in sample.items() if name.endswith(BLURRED)}]


def box_notes(dataset: Dataset) -> list[str]:
    """Return what whoever runs the model must know of examples with boxes."""
    count = sum(sample.example.box is not None for sample in dataset.samples)
    if not count:
        return []
    return [f"{count} images were seen through the box of their example: crop what the model is asked about likewise"]


def decode(path: Path, spec: Mapping[str, Any], encoders: Mapping[str, Encoder]) -> dict[str, NDArray[Any]]:
    """Return what the model takes of an image or video file.

    Raises DataError for a file that cannot be used, InvalidInputError for one that shows nothing.
    """
    if spec.get("ready_features"):
        return decode_ready_features(path, spec)
    viewing = Viewing.model_validate(spec)
    try:
        views = require_content(read_views(path, viewing))
    except UnreadableImageError as error:
        kind = InvalidInputError if isinstance(error, BlankImageError) else DataError
        raise kind([Fault(str(path), None, "image", str(error))]) from None
    return Encoding(viewing, next(iter(encoders.values()), None))([views])[0]


def video_windows(
    path: Path, spec: Mapping[str, Any], encoders: Mapping[str, Encoder], cutting: Cutting
) -> Iterator[Window]:
    """Yield the frames of a video one by one, as many a second as the model takes unless `cutting` says otherwise.

    Raises DataError for a file that cannot be used.
    """
    encoding = Encoding(Viewing.model_validate(spec["decode"]), next(iter(encoders.values()), None))
    try:
        if path.suffix.lower() not in VIDEO_SUFFIXES:
            raise UnreadableImageError("is no video; classify images with: model-trainer predict")
        yield from _frame_windows(path, encoding, cutting.stride or 1 / encoding.viewing.frames_per_second)
    except UnreadableImageError as error:
        raise DataError([Fault(str(path), None, "media", str(error))]) from None


def _frame_windows(path: Path, encoding: Encoding, step: float) -> Iterator[Window]:
    """Yield the frame in the middle of every `step` seconds. Raises UnreadableImageError."""
    seconds = read_timing(path).seconds
    middles = [float(middle) for middle in np.arange(step / 2, max(seconds, step), step)]
    for middle, frame in zip(middles, frames_shown(path, middles), strict=False):
        views = frame_views([cut_out(frame, encoding.viewing.region)], encoding.viewing)
        inputs = encoding([views])[0] if invalid_reason(views) is None else None
        yield Window(middle - step / 2, min(middle + step / 2, max(seconds, step)), inputs)


RECIPE = Recipe(VisualConfig, train, decode, video_windows, plan)


def main() -> None:
    """Run the visual trainer's command line."""
    trainer_main(TRAINER, RECIPE)


if __name__ == "__main__":
    main()
