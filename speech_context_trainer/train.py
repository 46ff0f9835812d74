"""The speech recipe: one user's model of what is being talked about, from transcripts."""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence, Set
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from functools import cache, partial
from itertools import accumulate, chain
from pathlib import Path
from typing import Annotated, Any, Literal

if __name__ == "__main__" and __package__ in (None, ""):  # run as a file: find the packages beside it
    sys.path[0] = str(Path(__file__).resolve().parents[1])

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from model_registry.storage.entry import EncoderRef
from shared.commands.train import trainer_main
from shared.config import TrainerConfig
from shared.data.files import RefusedFileError
from shared.data_loader import Dataset
from shared.errors import ConfigError, DataError, Fault, InvalidInputError
from shared.features.cache import content_key
from shared.features.encoders import Encoder, export_encoder, load_encoder
from shared.features.graph import FeatureGraph, TensorSpec
from shared.features.graph_cache import recalled_meanwhile
from shared.features.probes import FITTED, REPORTED, Probe, split_background
from shared.job import Job, ModelSpec
from shared.learning.candidates import (
    Auto,
    Candidate,
    CandidateConfig,
    FeatureSource,
    PrecomputedFeatures,
    Rows,
    build_candidates,
    resolve_candidates,
)
from shared.learning.cost import PlannedCandidate
from shared.learning.duplicates import assign_duplicates_to_one_session
from shared.learning.familiarity import FitFamiliarity, cosine_familiarity
from shared.learning.heads import Classes, Features
from shared.learning.kernel_ridge import LANDMARK_NUMBERS
from shared.ready_features import (
    READY,
    ReadyFeatures,
    decode_ready_features,
    has_ready_features,
    plan_ready_features,
    refuse_ready,
    train_on_ready_features,
)
from shared.recipe import Outcome, PlannedTraining, Recipe, featurise, load, package, validate, within_budget
from speech_context_trainer.modality import TRAINER
from speech_context_trainer.preprocessing.context import (
    Confidence,
    confidence_input,
    embed_surroundings,
    read_utterance,
    surroundings,
)
from speech_context_trainer.preprocessing.label_names import FEW, WithLabelNames, label_to_text
from speech_context_trainer.preprocessing.probes import speech_probes
from speech_context_trainer.preprocessing.text import HashedGrams, Sentence, clean, code_points, same_words, sentences
from speech_context_trainer.preprocessing.tokens import embed_texts, preparation
from speech_context_trainer.preprocessing.validity import invalid_reason

SpeechFeatures = Literal[
    "ngrams", "coarse_ngrams", "minilm", "use", "minilm_context", "use_context", "confidence", ReadyFeatures
]
SpeechCandidate = CandidateConfig[SpeechFeatures]
SURROUNDINGS: frozenset[SpeechFeatures] = frozenset({"minilm_context", "use_context", "confidence"})
BESIDE: frozenset[SpeechFeatures] = frozenset({"coarse_ngrams", *SURROUNDINGS})  # make no candidate without others
ENCODER_OF: Mapping[str, str] = {
    "minilm": "minilm",
    "minilm_context": "minilm",
    "use": "use",
    "use_context": "use",
}
CONTEXT_WEIGHT = 0.5  # of each of those beside the transcript's embeddings
COARSE = HashedGrams(character_buckets=512, word_buckets=256, weight=0.7)  # a fifth of what is joined
Inputs = dict[str, NDArray[Any]]


def _candidate(features: Sequence[SpeechFeatures], **classifier: Any) -> SpeechCandidate:
    return SpeechCandidate.model_validate({"features": tuple(features), "classifier": classifier})


# Sentence embeddings, being of one length, go to a kernel regression. N-grams are too many for its landmarks; coarse
# ones join the embeddings for discriminants: docs/results.md.
_KERNEL = {"type": "kernel_ridge", "kernel": "rbf", "alpha": 0.1, "scaler": "none"}
SUITABLE = (  # preferred first
    _candidate(("use", "minilm", "coarse_ngrams"), type="lda", scaler="none"),
    _candidate(("ngrams",), type="kernel_ridge", alpha=0.3, scaler="none"),
    _candidate(("use", "minilm"), **_KERNEL),
    _candidate(("use", "minilm", "use_context", "minilm_context", "confidence"), **_KERNEL),
)


class SpeechConfig(TrainerConfig):
    """Everything that can be set for a speech model."""

    encoders: dict[str, str] = Field(
        default={"minilm": "minilm", "use": "use"}, description="sentence encoders: a pretrained name, or a folder"
    )
    candidates: Auto | Annotated[tuple[SpeechCandidate, ...], Field(min_length=1)] = Field(
        default="auto", description="what is compared, preferred first; auto: what suits texts"
    )
    label_names: bool = Field(default=True, description="a label's name is a text of it where it has few")


def train(job: Job, config: SpeechConfig) -> Outcome:
    """Train one user's speech model from labelled transcripts, or from ready-made features."""
    dataset = load(job, config, "speech")
    if has_ready_features(dataset):
        return train_on_ready_features(job, config, config.candidates, dataset)
    texts = transcripts(dataset)
    encoders, notes = available_encoders(config)
    around = [surroundings(sample.example) for sample in dataset.samples]
    sure = [sample.example.confidence for sample in dataset.samples]
    labels = list(map(label_to_text, dataset.labels))
    widths = available_widths(dataset, encoders)
    configs = within_budget(job, config, dataset, planned_candidates(dataset, config, widths))
    used: dict[SpeechFeatures, None] = dict.fromkeys(name for c in configs for name in c.features or ())
    graphs: dict[str, FeatureGraph] = {name: _graph(name, widths) for name in used}
    fitted = [probe for seed in FITTED for probe in speech_probes(texts, seed)]
    reported = speech_probes(texts, REPORTED)
    talk = [sentences(text) for text in transcripts(dataset.of_background)]
    others = [*labels, *(text for _, text in (*fitted, *reported)), *chain(*talk)]
    with recalled_meanwhile(list(graphs.values()), job.cache):
        embedded = embed(
            job, [*texts, *others], [*around, *("" for _ in others)], [*sure, *(None for _ in others)], encoders
        )
    counts = [len(texts), len(labels), len(fitted), len(reported), *map(len, talk)]
    samples, names, background, tested, *pieces = _parts(embedded, counts)
    overheard, others_overheard = split_background(pieces)
    background += overheard
    candidates = speech_candidates(job, config, configs, graphs, samples, names, dataset.label_index, background)
    sessions, moved = assign_duplicates_to_one_session([same_words(text) for text in texts], dataset.session_ids)
    if moved:
        many = f"{moved} transcripts repeat those of another session and are validated with them"
        job.log.warn(many if moved > 1 else "1 transcript repeats one of another session and is validated with it")
    validation = validate(job, candidates, dataset, config, sessions)
    features = validation.winner.features
    needed = [encoder for name, encoder in encoders.items() if name in features]
    for encoder in needed:
        export_encoder(encoder, job.out)
    references = tuple(EncoderRef(name=e.spec.name, sha256=e.spec.sha256) for e in needed)
    decoding = {"cleaning": "nfc_v1", "surroundings": not SURROUNDINGS.isdisjoint(features)}
    prepared = preparation(needed, decoding["surroundings"] is True)
    spec = ModelSpec(decoding, "unit_length_v1", prepared, encoder_refs=references, notes=notes)
    probes = [Probe(kind, inputs) for (kind, _), inputs in zip(reported, tested, strict=True)]
    return package(job, validation, samples, dataset, config, spec, [*probes, *others_overheard])


def plan(dataset: Dataset, config: SpeechConfig) -> PlannedTraining:
    """Return what `train` would compare; no text is encoded."""
    if has_ready_features(dataset):
        return plan_ready_features(config.candidates, dataset)
    transcripts(dataset)
    widths = available_widths(dataset, available_encoders(config)[0])
    return PlannedTraining(dataset, planned_candidates(dataset, config, widths))


def available_widths(dataset: Dataset, encoders: Mapping[str, Encoder]) -> dict[str, int]:
    """Return the widths of the models' inputs that the data and the encoders give, the text aside."""
    widths = {name: encoder.spec.outputs["embedding"] for name, encoder in encoders.items()}
    if any(surroundings(sample.example) for sample in dataset.samples):
        widths |= {f"{name}_context": width for name, width in widths.items()}
    if any(sample.example.confidence is not None for sample in dataset.samples):
        widths["confidence"] = 1
    return widths


def planned_candidates(dataset: Dataset, config: SpeechConfig, widths: Mapping[str, int]) -> list[PlannedCandidate]:
    """Return the candidates, preferred first, before their features are computed. Raises ConfigError."""
    few = len(dataset) <= FEW * len(dataset.labels)
    width_of = {**widths, "ngrams": HashedGrams().width, "coarse_ngrams": COARSE.width, "confidence": 2}
    return [
        PlannedCandidate(candidate, sum(width_of[name] for name in candidate.features or ()))
        for candidate in usable_candidates(config, widths.keys(), few)
    ]


def _parts(inputs: list[Inputs], counts: Sequence[int]) -> list[list[Inputs]]:
    ends = list(accumulate(counts))
    return [inputs[end - count : end] for end, count in zip(ends, counts, strict=True)]


def transcripts(dataset: Dataset) -> list[str]:
    """Return the cleaned text of every sample. Raises DataError naming those that have none."""
    faults, texts = [], []
    for sample in dataset.samples:
        given = sample.example.transcript
        texts.append(clean(given or ""))
        reason = "speech samples need a transcript" if given is None else invalid_reason(texts[-1])
        if reason is not None:
            faults.append(sample.fault("transcript", reason))
    if faults:
        raise DataError(faults)
    return texts


def available_encoders(config: SpeechConfig) -> tuple[dict[str, Encoder], tuple[str, ...]]:
    """Return the encoders that the candidates need and that are there, and what to tell of those that are not."""
    named = (name for c in resolve_candidates(config.candidates, SUITABLE) for name in c.features or ())
    needed = dict.fromkeys(ENCODER_OF[name] for name in named if name in ENCODER_OF)

    def opened(name: str) -> Encoder | str:
        try:
            return load_encoder(config.encoders.get(name, name), threads=2)
        except ConfigError as error:
            return f"trained without the sentence encoder {name}: {str(error).splitlines()[0]}"

    with ThreadPoolExecutor(2) as pool:  # most of it is hashing
        loaded = dict(zip(needed, pool.map(opened, needed), strict=True))
    found = {name: encoder for name, encoder in loaded.items() if isinstance(encoder, Encoder)}
    return found, tuple(note for note in loaded.values() if isinstance(note, str))


def embed(
    job: Job, texts: list[str], around: list[str], sure: list[float | None], encoders: Mapping[str, Encoder]
) -> list[Inputs]:
    """Return each text as the models' inputs: its code points, its embedding and its surroundings' by every encoder.

    Where no text has surroundings or a confidence, there are no such inputs.
    """
    samples: list[Inputs] = [{"points": code_points(text)} for text in texts]
    if any(value is not None for value in sure):
        for sample, value in zip(samples, sure, strict=True):
            sample["confidence"] = confidence_input(value)
    with job.log.stage("encode"):
        for name, encoder in encoders.items():
            rows = embed_texts(encoder, texts, job.cache, lambda done: job.log.progress(done, len(texts)))
            context = embed_surroundings(encoder, around, job.cache) if any(around) else None
            for k, sample in enumerate(samples):
                sample[name] = rows[k]
                if context is not None:
                    sample[f"{name}_context"] = context[k]
    return samples


def speech_candidates(
    job: Job,
    config: SpeechConfig,
    configs: Sequence[SpeechCandidate],
    graphs: Mapping[str, FeatureGraph],
    samples: list[Inputs],
    names: list[Inputs],
    classes: Classes,
    background: Sequence[Inputs] = (),
) -> list[Candidate]:
    """Return the candidates, preferred first, with their features computed and those of the `background`.

    Labels' names join in where the configuration says so.
    """

    @cache
    def computed(feature: str) -> tuple[Rows, Features]:
        """Return the features of the samples, and of the labels' names."""
        graph, count = graphs[feature], len(samples)
        keys = [content_key(sample[graph.contract[0].name]) for sample in (*samples, *names)]
        rows = featurise(job, graph, [*samples, *names], keys, background=background)
        return replace(rows, base=rows.base[:count]), rows.base[count:]

    def source_of(feature: SpeechFeatures) -> FeatureSource:
        return PrecomputedFeatures(graphs[feature], computed(feature)[0])

    def with_label_names(features: tuple[SpeechFeatures, ...], source: FeatureSource) -> FeatureSource:
        if not config.label_names or "ngrams" in features or not isinstance(source, PrecomputedFeatures):
            return source
        return WithLabelNames(source, np.concatenate([computed(f)[1] for f in features], axis=1), classes)

    def familiarity_for(features: tuple[SpeechFeatures, ...]) -> FitFamiliarity:
        return cosine_familiarity if "ngrams" in features else partial(cosine_familiarity, numbers=LANDMARK_NUMBERS)

    return build_candidates(
        configs,
        source_of,
        familiarity_for,
        config.seed,
        modality="speech",
        isotropic_familiarity=True,
        complete=with_label_names,
    )


def usable_candidates(config: SpeechConfig, available: Set[str], few: bool) -> list[SpeechCandidate]:
    """Return the candidates, each reduced to those of its features that are `available`; n-grams always are.

    With `few` samples validation cannot tell what is known beforehand, that n-grams alone are worse than embeddings, so
    they are compared with them only where the configuration names them. Raises ConfigError if nothing is left.
    """
    found: list[SpeechCandidate] = []
    for candidate in resolve_candidates(config.candidates, SUITABLE):
        for name in candidate.features or ():
            if name in READY:
                raise refuse_ready(name)
        kept = tuple(name for name in candidate.features or () if "ngrams" in name or name in available)
        if not BESIDE.issuperset(kept):
            found.append(candidate.model_copy(update={"features": kept}))
    found = list(dict.fromkeys(found))
    alone = [candidate for candidate in found if candidate.features == ("ngrams",)]
    if few and config.candidates == "auto" and len(found) > len(alone):
        found = [candidate for candidate in found if candidate not in alone]
    if not found:
        raise ConfigError("candidates: none is left without the sentence encoders; run `make setup`")
    return found


def _graph(feature: SpeechFeatures, widths: Mapping[str, int]) -> FeatureGraph:
    if feature in ("ngrams", "coarse_ngrams"):
        points = TensorSpec("points", "int32", ("length",), "Unicode code points of the cleaned text")
        return FeatureGraph(f"speech-{feature}", (points,), HashedGrams() if feature == "ngrams" else COARSE)
    spec = TensorSpec(feature, "float32", (widths[feature],), _meaning(feature))
    weight = CONTEXT_WEIGHT if feature in SURROUNDINGS else 1.0
    function = Confidence(weight) if feature == "confidence" else Sentence(feature, weight)
    return FeatureGraph(f"speech-{feature}", (spec,), function)


def _meaning(feature: SpeechFeatures) -> str:
    if feature == "confidence":
        return "the speech recogniser's confidence, 0 to 1; -1 where it is not known"
    text = "location, partner's speech and language, joined with '. '; zeros where there is none"
    return f"embedding by {ENCODER_OF[feature]} of {text if feature in SURROUNDINGS else 'the cleaned text'}"


def decode(path: Path, spec: Mapping[str, Any], encoders: Mapping[str, Encoder]) -> Inputs:
    """Return a text file's content, or a JSON object's transcript with its surroundings, as the model's inputs.

    Raises DataError for a file that is no UTF-8 text, or whose JSON has no transcript; InvalidInputError for a text
    without a word.
    """
    if spec.get("ready_features"):
        return dict(decode_ready_features(path, spec))
    try:
        said = read_utterance(path)
    except (RefusedFileError, ValueError) as error:
        raise DataError([Fault(str(path), None, "transcript", f"is no usable text: {error}")]) from None
    text, around = clean(said.transcript), surroundings(said)
    reason = invalid_reason(text)
    if reason is not None:
        raise InvalidInputError([Fault(str(path), None, "transcript", reason)])
    inputs: Inputs = {"points": code_points(text), "confidence": confidence_input(said.confidence)}
    for name, encoder in encoders.items():
        inputs[name] = embed_texts(encoder, [text])[0]
        if spec["surroundings"]:
            inputs[f"{name}_context"] = embed_surroundings(encoder, [around])[0]
    return inputs


RECIPE = Recipe(SpeechConfig, train, decode, plan=plan)


def main() -> None:
    """Run the speech trainer's command line."""
    trainer_main(TRAINER, RECIPE)


if __name__ == "__main__":
    main()
