"""The speech recipe: one user's model of what is being talked about, from transcripts."""

from __future__ import annotations

import sys
from collections.abc import Mapping, Set
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import Any, Literal

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
from shared.errors import ConfigError, DataError, Fault
from shared.evaluation import Candidate, PrecomputedFeatures, Rows
from shared.features.cache import content_key
from shared.features.encoders import Encoder, export_encoder, load_encoder
from shared.features.graph import FeatureGraph, TensorSpec, joined
from shared.features.graph_cache import recalled_meanwhile
from shared.job import Job, ModelSpec, Outcome, Trainer
from shared.learning.calibration import cosine_familiarity
from shared.learning.duplicates import assign_duplicates_to_one_session
from shared.learning.heads import LANDMARK_NUMBERS, Classes, KernelRidge, fit_linear_ridge
from shared.recipe import featurise, load, package, validate
from speech_context_trainer.preprocessing.context import (
    Confidence,
    embed_surroundings,
    heard,
    read_utterance,
    surroundings,
)
from speech_context_trainer.preprocessing.label_names import FEW, Named, spoken
from speech_context_trainer.preprocessing.text import HashedGrams, Sentence, clean, code_points, same_words
from speech_context_trainer.preprocessing.tokens import embed_texts

CandidateName = Literal[
    "ngrams",
    "minilm",
    "use",
    "use_minilm",
    "minilm_ngrams",
    "use_ngrams",
    "use_minilm_ngrams",
    "minilm_in_context",
    "use_in_context",
    "use_minilm_in_context",
]
PARTS: dict[CandidateName, tuple[str, ...]] = {
    "ngrams": ("ngrams",),
    "minilm": ("minilm",),
    "use": ("use",),
    "use_minilm": ("use", "minilm"),
    "minilm_ngrams": ("minilm", "ngrams"),
    "use_ngrams": ("use", "ngrams"),
    "use_minilm_ngrams": ("use", "minilm", "ngrams"),
    "minilm_in_context": ("minilm", "minilm_context", "confidence"),
    "use_in_context": ("use", "use_context", "confidence"),
    "use_minilm_in_context": ("use", "minilm", "use_context", "minilm_context", "confidence"),
}
AROUND = frozenset({"minilm_context", "use_context", "confidence"})  # parts that say what surrounds a transcript
CONTEXT_WEIGHT = 0.5  # of each of those beside the transcript's embeddings
Inputs = dict[str, NDArray[Any]]


class SpeechConfig(TrainerConfig):
    """Everything that can be set for a speech model."""

    encoders: dict[str, str] = Field(
        default={"minilm": "minilm", "use": "use"}, description="sentence encoders: a pretrained name, or a folder"
    )
    candidates: tuple[CandidateName, ...] = Field(
        default=("ngrams", "use_minilm", "use_minilm_in_context"), min_length=1
    )
    label_names: bool = Field(default=True, description="a label's name is a text of it where it has few")
    penalty: float = Field(default=0.1, gt=0.0, description="of the kernel regression over sentence embeddings")
    gram_penalty: float = Field(default=0.3, gt=0.0, description="of the linear regression where n-grams take part")


def train(job: Job, config: SpeechConfig) -> Outcome:
    """Train one user's speech model from labelled transcripts."""
    dataset = load(job, config, "speech")
    texts = transcripts(dataset)
    encoders, notes = available_encoders(config)
    around = [surroundings(sample.example) for sample in dataset.samples]
    sure = [sample.example.confidence for sample in dataset.samples]
    labels = list(map(spoken, dataset.labels))
    widths = {name: encoder.spec.outputs["embedding"] for name, encoder in encoders.items()}
    if any(around):
        widths |= {f"{name}_context": width for name, width in widths.items()}
    if any(value is not None for value in sure):
        widths["confidence"] = 1
    used = select_candidates(config, widths.keys(), few=len(texts) <= FEW * len(labels))
    graphs = {part: _graph(part, widths) for parts in used.values() for part in parts}
    with recalled_meanwhile(list(graphs.values()), job.cache):
        embedded = embed(
            job, [*texts, *labels], [*around, *("" for _ in labels)], [*sure, *(None for _ in labels)], encoders
        )
    samples, names = embedded[: len(texts)], embedded[len(texts) :]
    candidates = build_candidates(job, config, samples, names, dataset.label_index)
    sessions, moved = assign_duplicates_to_one_session([same_words(text) for text in texts], dataset.session_ids)
    if moved:
        job.log.warn(f"{moved} transcripts repeat those of another session and are validated with them")
    validation = validate(job, candidates, dataset, config, sessions)
    won = PARTS[validation.winner.name]  # type: ignore[index]
    needed = [encoder for name, encoder in encoders.items() if name in won]
    for encoder in needed:
        export_encoder(encoder, job.out)
    references = tuple(EncoderRef(name=e.spec.name, sha256=e.spec.sha256) for e in needed)
    decoding = {"cleaning": "nfc_v1", "surroundings": validation.winner.name.endswith("_in_context")}
    spec = ModelSpec(decoding, "unit_length_v1", encoder_refs=references, notes=notes)
    return package(job, validation, samples, dataset, config, spec)


def transcripts(dataset: Dataset) -> list[str]:
    """Return the cleaned text of every sample. Raises DataError naming those that have none."""
    faults = []
    for sample in dataset.samples:
        if sample.example.transcript is None:
            path, _, line = sample.origin.rpartition(":")
            faults.append(Fault(path, int(line), "transcript", "speech samples need a transcript"))
    if faults:
        raise DataError(faults)
    return [clean(sample.example.transcript or "") for sample in dataset.samples]


def available_encoders(config: SpeechConfig) -> tuple[dict[str, Encoder], tuple[str, ...]]:
    """Return the encoders that the candidates need and that are there, and what to tell of those that are not."""
    needed = {part.removesuffix("_context"): None for name in config.candidates for part in PARTS[name]}
    for part in ("ngrams", "confidence"):
        needed.pop(part, None)

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
            sample["confidence"] = heard(value)
    with job.log.stage("encode"):
        for name, encoder in encoders.items():
            rows = embed_texts(encoder, texts, job.cache, lambda done: job.log.progress(done, len(texts)))
            context = embed_surroundings(encoder, around, job.cache) if any(around) else None
            for k, sample in enumerate(samples):
                sample[name] = rows[k]
                if context is not None:
                    sample[f"{name}_context"] = context[k]
    return samples


def build_candidates(
    job: Job, config: SpeechConfig, samples: list[Inputs], names: list[Inputs], classes: Classes
) -> list[Candidate]:
    """Return the candidates that the inputs allow, simplest first, with their features computed.

    Sentence embeddings, being of one length, go to a kernel regression. N-grams are too many for landmarks.
    """
    used = select_candidates(config, samples[0].keys() - {"points"}, few=len(samples) <= FEW * len(names))
    blocks = {part: _block(job, part, samples) for parts in used.values() for part in parts}
    candidates = []
    for name, parts in used.items():
        source = _beside(name, [blocks[part] for part in parts])
        if "ngrams" in parts:
            fit = fit_linear_ridge(config.gram_penalty)
            candidates.append(Candidate(name, source, fit, cosine_familiarity, isotropic=True))
            continue
        told = _named(job, source, names, classes) if config.label_names else source
        novelty = partial(cosine_familiarity, numbers=LANDMARK_NUMBERS)
        candidates.append(Candidate(name, told, KernelRidge(config.penalty), novelty))
    return candidates


def select_candidates(config: SpeechConfig, there: Set[str], few: bool) -> dict[CandidateName, tuple[str, ...]]:
    """Return the `rivals`, each with those of its parts that are `there`."""
    return {name: _present(name, there) for name in reduced_candidates(config, there, few)}


def reduced_candidates(config: SpeechConfig, there: Set[str], few: bool) -> list[CandidateName]:
    """Return the configured candidates, each reduced to those of its parts that are `there`.

    With `few` samples validation cannot tell what is known beforehand, that n-grams alone are worse than embeddings,
    so they do not compete with them. Raises ConfigError if nothing is left.
    """
    texts: dict[tuple[str, ...], CandidateName] = {p: name for name, p in PARTS.items() if not AROUND & {*p}}
    around: dict[tuple[str, ...], CandidateName] = {_texts(p): name for name, p in PARTS.items() if AROUND & {*p}}
    reduced = [parts for name in config.candidates if _texts(parts := _present(name, there))]
    names: list[CandidateName] = [around[_texts(parts)] if AROUND & {*parts} else texts[parts] for parts in reduced]
    found: list[CandidateName] = [name for k, name in enumerate(names) if name not in names[:k]]
    if few and found != ["ngrams"]:
        found = [name for name in found if name != "ngrams"]
    if not found:
        raise ConfigError("candidates: none is left without the sentence encoders; run `make setup`")
    return found


def _present(name: CandidateName, there: Set[str]) -> tuple[str, ...]:
    return tuple(part for part in PARTS[name] if part in there or part == "ngrams")


def _texts(parts: tuple[str, ...]) -> tuple[str, ...]:
    return tuple(part for part in parts if part not in AROUND)


def _graph(part: str, widths: Mapping[str, int]) -> FeatureGraph:
    if part == "ngrams":
        return FeatureGraph("speech-ngrams", (TensorSpec("points", "int32", ("length",)),), HashedGrams())
    spec = TensorSpec(part, "float32", (widths[part],))
    weight = CONTEXT_WEIGHT if part in AROUND else 1.0
    function = Confidence(weight) if part == "confidence" else Sentence(part, weight)
    return FeatureGraph(f"speech-{part}", (spec,), function)


def _block(job: Job, part: str, samples: list[Inputs]) -> PrecomputedFeatures:
    graph = _graph(part, {name: len(value) for name, value in samples[0].items()})
    keys = [content_key(sample[graph.contract[0].name]) for sample in samples]
    return PrecomputedFeatures(graph, featurise(job, graph, samples, keys))


def _named(job: Job, source: PrecomputedFeatures, names: list[Inputs], classes: Classes) -> Named:
    keys = [content_key(*(name[spec.name] for spec in source.traced.contract)) for name in names]
    return Named(source, featurise(job, source.traced, names, keys).base, classes)


def _beside(name: str, blocks: list[PrecomputedFeatures]) -> PrecomputedFeatures:
    if len(blocks) == 1:
        return blocks[0]
    rows = [block.computed for block in blocks]
    base, copies = (np.concatenate([getattr(r, part) for r in rows], axis=1) for part in ("base", "copies"))
    return PrecomputedFeatures(
        joined(f"speech-{name}", [block.traced for block in blocks]), Rows(base, copies, rows[0].owner)
    )


def decode(path: Path, spec: Mapping[str, Any], encoders: Mapping[str, Encoder]) -> Inputs:
    """Return a text file's content, or a JSON object's transcript with its surroundings, as the model's inputs.

    Raises DataError for a file that is no UTF-8 text, or whose JSON has no transcript.
    """
    try:
        said = read_utterance(path)
    except (RefusedFileError, ValueError) as error:
        raise DataError([Fault(str(path), None, "transcript", f"is no usable text: {error}")]) from None
    text, around = clean(said.transcript), surroundings(said)
    inputs: Inputs = {"points": code_points(text), "confidence": heard(said.confidence)}
    for name, encoder in encoders.items():
        inputs[name] = embed_texts(encoder, [text])[0]
        if spec["surroundings"]:
            inputs[f"{name}_context"] = embed_surroundings(encoder, [around])[0]
    return inputs


TRAINER = Trainer("speech", SpeechConfig, train, decode, "speech_context_trainer", "speech-train")


def main() -> None:
    """Run the speech trainer's command line."""
    trainer_main(TRAINER)


if __name__ == "__main__":
    main()
