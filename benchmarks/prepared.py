"""A data set's samples with the features of all candidates computed once, through the trainers' own functions."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.few_shot import load_all, quiet_job
from gesture_trainer import train as gesture
from gesture_trainer.preprocessing.convolutions import ConvolutionSource
from gesture_trainer.preprocessing.sequences import landmark_sequences
from model_registry.names import Modality
from shared.config import TrainerConfig
from shared.data_loader import Dataset
from shared.learning.candidates import (
    Candidate,
    CandidateConfig,
    FeatureSource,
    JoinedFeatures,
    PrecomputedFeatures,
    Rows,
    resolve_candidates,
)
from shared.learning.duplicates import assign_duplicates_to_one_session
from shared.learning.folds import Indices
from shared.learning.heads import Classes
from sound_trainer import train as sound
from sound_trainer.preprocessing.recordings import open_recordings
from speech_context_trainer import train as speech
from speech_context_trainer.preprocessing.label_names import FEW, WithLabelNames, label_to_text
from speech_context_trainer.preprocessing.text import same_words
from visual_environment_trainer import train as visual
from visual_environment_trainer.preprocessing.choosing import select_encoder
from visual_environment_trainer.preprocessing.embeddings import encode_images

AnyCandidate = CandidateConfig[Any]
BASELINES: tuple[Mapping[str, Any], ...] = (  # on each feature set that is compared by default
    {"type": "lda"},
    {"type": "logistic_regression"},
    {"type": "nearest_neighbors", "n_neighbors": 1},
)
CONFIGS: Mapping[Modality, type[TrainerConfig]] = {
    "gesture": gesture.GestureConfig,
    "sound": sound.SoundConfig,
    "speech": speech.SpeechConfig,
    "visual_environment": visual.VisualConfig,
}


@dataclass(frozen=True)
class Prepared:
    """One user's samples (n,) of some labels and sessions, and the candidates by their names.

    `defaults` says which of them training would compare, for training samples of the classes given.
    """

    classes: Classes
    sessions: tuple[str, ...]
    times: tuple[Any, ...]
    candidates: Mapping[str, Candidate]
    defaults: Callable[[Classes], list[str]]


PrepareFor = Callable[[int], Prepared]  # number of training samples -> what training on so many would work on


def prepare(modality: Modality, root: Path, user: str, extra: Sequence[Mapping[str, Any]] = ()) -> PrepareFor:
    """Return what prepares a user's samples of a data root; `extra` are candidates as a configuration has them."""
    return _PREPARE[modality](load_all(root, user, modality), root, extra)


def subset(candidate: Candidate, chosen: Indices) -> Candidate:
    """Return the candidate over the samples `chosen` alone, by their places in it."""
    return replace(candidate, source=_subset(candidate.source, chosen))


def _subset(source: FeatureSource, chosen: Indices) -> FeatureSource:
    match source:
        case PrecomputedFeatures():
            rows = source.computed
            place = np.full(len(rows.base), -1, np.int64)
            place[chosen] = np.arange(len(chosen))
            kept = place[rows.owner] >= 0
            return PrecomputedFeatures(
                source.traced, Rows(rows.base[chosen], rows.copies[kept], place[rows.owner[kept]])
            )
        case WithLabelNames():
            texts = _subset(source.texts, chosen)
            assert isinstance(texts, PrecomputedFeatures)
            return WithLabelNames(texts, source.names, source.classes[chosen])
        case ConvolutionSource():
            sequences = [source.sequences[k] for k in chosen]
            return ConvolutionSource(sequences, source.contract, source.name, source.seed)
        case JoinedFeatures():
            return JoinedFeatures(source.name, tuple(_subset(one, chosen) for one in source.sources))
    raise TypeError(f"cannot take a subset of {type(source).__name__}")


def _with_baselines(
    modality: Modality, default: Sequence[AnyCandidate], extra: Sequence[Mapping[str, Any]]
) -> tuple[AnyCandidate, ...]:
    """Return the default candidates, then the baselines on the same features but n-grams, then the extra ones."""
    features = [names for names in dict.fromkeys(one.features for one in default) if names != ("ngrams",)]
    more = [{"features": names, "classifier": classifier} for names in features for classifier in BASELINES]
    config: Any = CONFIGS[modality].model_validate({"candidates": [*more, *extra]})
    return tuple(dict.fromkeys((*default, *resolve_candidates(config.candidates, default))))


def _prepared(
    dataset: Dataset,
    sessions: Sequence[str],
    configs: Sequence[AnyCandidate],
    built: Sequence[Candidate],
    defaults: Callable[[Classes], Sequence[AnyCandidate]],
) -> Prepared:
    names = {config: candidate.name for config, candidate in zip(configs, built, strict=True)}
    return Prepared(
        dataset.label_index,
        tuple(sessions),
        tuple(sample.example.timestamp for sample in dataset.samples),
        {candidate.name: candidate for candidate in built},
        lambda classes: [names[config] for config in defaults(classes)],
    )


def _sound(dataset: Dataset, root: Path, extra: Sequence[Mapping[str, Any]]) -> PrepareFor:
    configs = _with_baselines("sound", sound.SUITABLE, extra)
    config = sound.SoundConfig(candidates=configs)
    job = quiet_job(dataset.user_id, root)
    built = sound.sound_candidates(job, config, open_recordings(job, dataset, config.decoding))
    prepared = _prepared(dataset, dataset.session_ids, configs, built, lambda _: sound.SUITABLE)
    return lambda _: prepared


def _gesture(dataset: Dataset, root: Path, extra: Sequence[Mapping[str, Any]]) -> PrepareFor:
    plain, job = gesture.GestureConfig(), quiet_job(dataset.user_id, root)
    sequences, dataset = landmark_sequences(dataset, plain.extraction, cache=job.cache)

    defaults = gesture.suitable_candidates(sequences)
    configs = _with_baselines("gesture", defaults, extra)
    built = gesture.gesture_candidates(job, gesture.GestureConfig(candidates=configs), sequences)
    prepared = _prepared(
        dataset,
        dataset.session_ids,
        configs,
        built,
        lambda _: defaults,
    )
    return lambda _: prepared


def _speech(dataset: Dataset, root: Path, extra: Sequence[Mapping[str, Any]]) -> PrepareFor:
    plain, job = speech.SpeechConfig(), quiet_job(dataset.user_id, root)
    texts, labels = speech.transcripts(dataset), list(map(label_to_text, dataset.labels))
    encoders, _ = speech.available_encoders(plain)
    widths = {name: encoder.spec.outputs["embedding"] for name, encoder in encoders.items()}

    def defaults(few: bool) -> Sequence[AnyCandidate]:
        return speech.usable_candidates(plain, widths.keys(), few)

    configs = _with_baselines("speech", defaults(False), extra)
    graphs = {
        name: speech._graph(name, widths) for name in dict.fromkeys(name for c in configs for name in c.features or ())
    }
    every = [*texts, *labels]
    embedded = speech.embed(job, every, [""] * len(every), [None] * len(every), encoders)
    samples, names = embedded[: len(texts)], embedded[len(texts) :]
    built = speech.speech_candidates(job, plain, configs, graphs, samples, names, dataset.label_index)
    sessions, _ = assign_duplicates_to_one_session([same_words(text) for text in texts], dataset.session_ids)
    prepared = _prepared(
        dataset,
        sessions,
        configs,
        built,
        lambda classes: defaults(len(classes) <= FEW * len(np.unique(classes))),
    )
    return lambda _: prepared


def _visual(dataset: Dataset, root: Path, extra: Sequence[Mapping[str, Any]]) -> PrepareFor:
    plain, job = visual.VisualConfig(), quiet_job(dataset.user_id, root)

    @cache
    def prepared(count: int) -> Prepared:
        wanted = [plain.few_encoder] if plain.few_encoder and count <= plain.few_up_to else []
        encoder, _ = select_encoder([*wanted, plain.encoder], root)

        def defaults(few: bool) -> Sequence[AnyCandidate]:
            return visual.suitable_candidates(encoder, few)

        configs = _with_baselines("visual_environment", (*defaults(True), *defaults(False)), extra)
        seen = encode_images(job, dataset, visual.encoding_for(plain, encoder, count))
        config = visual.VisualConfig(candidates=configs)
        built = visual.visual_candidates(job, config, encoder, seen.samples, few=False)
        sessions, _ = visual.group_near_duplicates(job, dataset, seen)
        return _prepared(
            dataset,
            sessions,
            configs,
            built,
            lambda classes: defaults(int(np.bincount(classes).max()) <= visual.FEW_EACH),
        )

    limits = (plain.several_views_up_to, plain.few_up_to)  # images are seen alike up to each
    return lambda count: prepared(next((limit for limit in limits if count <= limit), plain.few_up_to + 1))


_PREPARE: Mapping[Modality, Callable[[Dataset, Path, Sequence[Mapping[str, Any]]], PrepareFor]] = {
    "gesture": _gesture,
    "sound": _sound,
    "speech": _speech,
    "visual_environment": _visual,
}
