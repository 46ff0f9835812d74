"""The speech recipe: one user's model of what is being talked about, from transcripts."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from functools import partial
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
from shared.data_files import RefusedFileError, read_bounded
from shared.data_loader import Dataset
from shared.duplicates import one_side
from shared.encoders import Encoder, export_encoder, load_encoder
from shared.errors import ConfigError, DataError, Fault
from shared.evaluation import Contender, Fixed, Rows
from shared.feature_cache import content_key
from shared.graph import FeatureGraph, TensorSpec, joined
from shared.heads import LANDMARK_NUMBERS, Classes, fit_kernel_ridge, fit_linear_ridge
from shared.recipe import Job, ModelSpec, Outcome, Trainer, featurise, load, package, validate
from speech_context_trainer.preprocessing.label_names import FEW, Named, spoken
from speech_context_trainer.preprocessing.text import HashedGrams, Sentence, clean, code_points, same_words
from speech_context_trainer.preprocessing.tokens import embed_texts

ContenderName = Literal["ngrams", "minilm", "use", "use_minilm", "minilm_ngrams", "use_ngrams", "use_minilm_ngrams"]
PARTS: dict[ContenderName, tuple[str, ...]] = {
    "ngrams": ("ngrams",),
    "minilm": ("minilm",),
    "use": ("use",),
    "use_minilm": ("use", "minilm"),
    "minilm_ngrams": ("minilm", "ngrams"),
    "use_ngrams": ("use", "ngrams"),
    "use_minilm_ngrams": ("use", "minilm", "ngrams"),
}
Inputs = dict[str, NDArray[Any]]


class SpeechConfig(TrainerConfig):
    """Everything that can be set for a speech model."""

    encoders: dict[str, str] = Field(
        default={"minilm": "minilm", "use": "use"}, description="sentence encoders: a pretrained name, or a folder"
    )
    contenders: tuple[ContenderName, ...] = Field(default=("ngrams", "use_minilm"), min_length=1)
    label_names: bool = Field(default=True, description="a label's name is a text of it where it has few")
    penalty: float = Field(default=0.1, gt=0.0, description="of the kernel regression over sentence embeddings")
    gram_penalty: float = Field(default=0.3, gt=0.0, description="of the linear regression where n-grams take part")


def train(job: Job, config: SpeechConfig) -> Outcome:
    """Train one user's speech model from labelled transcripts."""
    dataset = load(job, config, "speech")
    texts = transcripts(dataset)
    encoders, notes = available_encoders(config)
    embedded = embed(job, [*texts, *(spoken(label) for label in dataset.labels)], encoders)
    samples, names = embedded[: len(texts)], embedded[len(texts) :]
    contenders = compete(job, config, encoders, samples, names, dataset.label_index)
    sessions, moved = one_side([same_words(text) for text in texts], dataset.session_ids)
    if moved:
        job.log.warn(f"{moved} transcripts repeat those of another session and are validated with them")
    validation = validate(job, contenders, dataset, config, sessions)
    used = [encoders[part] for part in PARTS[validation.winner.name] if part in encoders]  # type: ignore[index]
    for encoder in used:
        export_encoder(encoder, job.out)
    references = tuple(EncoderRef(name=e.spec.name, sha256=e.spec.sha256) for e in used)
    spec = ModelSpec({"cleaning": "nfc_v1"}, "unit_length_v1", encoder_refs=references, notes=notes)
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
    """Return the encoders that the contenders need and that are there, and what to tell of those that are not."""
    needed = dict.fromkeys(part for name in config.contenders for part in PARTS[name] if part != "ngrams")
    found, notes = {}, []
    for name in needed:
        try:
            found[name] = load_encoder(config.encoders.get(name, name), threads=2)
        except ConfigError as error:
            notes.append(f"trained without the sentence encoder {name}: {str(error).splitlines()[0]}")
    return found, tuple(notes)


def embed(job: Job, texts: list[str], encoders: Mapping[str, Encoder]) -> list[Inputs]:
    """Return each text as the models' inputs: its code points, and its embedding by every encoder."""
    samples: list[Inputs] = [{"points": code_points(text)} for text in texts]
    with job.log.stage("encode"):
        for name, encoder in encoders.items():
            rows = embed_texts(encoder, texts, job.cache, lambda done: job.log.progress(done, len(texts)))
            for sample, row in zip(samples, rows, strict=True):
                sample[name] = row
    return samples


def compete(
    job: Job,
    config: SpeechConfig,
    encoders: Mapping[str, Encoder],
    samples: list[Inputs],
    names: list[Inputs],
    classes: Classes,
) -> list[Contender]:
    """Return the contenders that the encoders allow, simplest first, with their features computed.

    Sentence embeddings, being of one length, go to a kernel regression. N-grams are too many for landmarks.
    """
    blocks: dict[str, Fixed] = {}
    for part in {part for name in config.contenders for part in _present(name, encoders)}:
        if part == "ngrams":
            graph = FeatureGraph("speech-ngrams", (TensorSpec("points", "int32", ("length",)),), HashedGrams())
        else:
            width = encoders[part].spec.outputs["embedding"]
            graph = FeatureGraph(f"speech-{part}", (TensorSpec(part, "float32", (width,)),), Sentence((part,)))
        keys = [content_key(sample[graph.contract[0].name]) for sample in samples]
        blocks[part] = Fixed(graph, featurise(job, graph, samples, keys))
    contenders = []
    for name in rivals(config, encoders, few=len(samples) <= FEW * len(names)):
        source = _beside(name, [blocks[part] for part in PARTS[name]])
        if "ngrams" in PARTS[name]:
            contenders.append(
                Contender(name, source, fit_linear_ridge(config.gram_penalty), cosine_novelty, isotropic=True)
            )
            continue
        told = Named(source, np.stack(list(source.traced.run(names))), classes) if config.label_names else source
        novelty = partial(cosine_novelty, numbers=LANDMARK_NUMBERS)
        contenders.append(Contender(name, told, fit_kernel_ridge(config.penalty), novelty))
    return contenders


def rivals(config: SpeechConfig, encoders: Mapping[str, Encoder], few: bool) -> list[ContenderName]:
    """Return the configured contenders, each reduced to those of its encoders that are there.

    With `few` samples validation cannot tell what is known beforehand, that n-grams alone are worse than embeddings,
    so they do not compete with them. Raises ConfigError if nothing is left.
    """
    named = {parts: name for name, parts in PARTS.items()}
    found = [named[parts] for name in config.contenders if (parts := _present(name, encoders))]
    if few and any(name != "ngrams" for name in found):
        found = [name for name in found if name != "ngrams"]
    if not found:
        raise ConfigError("contenders: none is left without the sentence encoders; run `model-trainer pretrained`")
    return list(dict.fromkeys(found))


def _present(name: ContenderName, encoders: Mapping[str, Encoder]) -> tuple[str, ...]:
    return tuple(part for part in PARTS[name] if part == "ngrams" or part in encoders)


def _beside(name: str, blocks: list[Fixed]) -> Fixed:
    if len(blocks) == 1:
        return blocks[0]
    rows = [block.computed for block in blocks]
    base, copies = (np.concatenate([getattr(r, part) for r in rows], axis=1) for part in ("base", "copies"))
    return Fixed(joined(f"speech-{name}", [block.traced for block in blocks]), Rows(base, copies, rows[0].owner))


def decode(path: Path, spec: Mapping[str, Any], encoders: Mapping[str, Encoder]) -> Inputs:
    """Return a text file's content as the model's inputs. Raises DataError for a file that is no UTF-8 text."""
    try:
        text = clean(read_bounded(path, 1 << 20).decode("utf-8"))
    except (RefusedFileError, UnicodeDecodeError) as error:
        raise DataError([Fault(str(path), None, "transcript", f"is no usable text: {error}")]) from None
    return {"points": code_points(text), **{name: embed_texts(e, [text])[0] for name, e in encoders.items()}}


TRAINER = Trainer("speech", SpeechConfig, train, decode, "speech_context_trainer", "speech-train")


def main() -> None:
    """Run the speech trainer's command line."""
    trainer_main(TRAINER)


if __name__ == "__main__":
    main()
