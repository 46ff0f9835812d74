"""Running a model on files, through ONNX Runtime alone: what the commands and the Python API share."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property, partial
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from model_registry.names import is_modality
from model_registry.storage.encoders import SPEC_FILE, EncoderSpec
from model_registry.storage.entry import FILE_LIMIT
from model_registry.storage.resolution import ResolvedVersion
from model_registry.storage.verification import read_checked
from shared.errors import ConfigError, DataError, InvalidInputError
from shared.schema_utils import UNKNOWN

if TYPE_CHECKING:
    from shared.recipe import Cutting, Recipe, Windows
    from shared.report.detection import Recording, Span


@dataclass(frozen=True)
class Prediction:
    """What a model makes of one sample.

    `scores` is A3CP's classifier_output: label -> score, `unknown` among them. Rejected: `unknown` is 1 and all others
    are 0. Accepted: `unknown` is 0 and the others sum to 1.

    Attributes:
        label: the most probable one, or `unknown`.
        scores: for each label, and for `unknown`.
        label_set: those that cannot be excluded at 90 %; None for a model of an earlier release.
        reason: why a sample that holds nothing to classify is `unknown`.
    """

    label: str
    scores: Mapping[str, float] = field(repr=False)
    label_set: tuple[str, ...] | None = None
    reason: str | None = None

    @property
    def accepted(self) -> bool:
        """Whether the model recognised one of its labels."""
        return self.label != UNKNOWN


@dataclass(frozen=True)
class LiveModel:
    """A model with its session; what it was trained on is read from the graph's own properties.

    A portable model has its encoders within, and there are none beside it.
    """

    model: Path
    encoders: Mapping[str, Path]
    sha256: str | None = None  # of a published model

    @cached_property
    def session(self) -> Any:
        """The ONNX Runtime session."""
        from shared.features.graph import open_session

        if self.sha256 is None:
            return open_session(self.model.read_bytes())
        return open_session(read_checked(self.model, self.sha256, FILE_LIMIT))

    @cached_property
    def properties(self) -> dict[str, Any]:
        """The model's `labels` and `spec`."""
        metadata = self.session.get_modelmeta().custom_metadata_map
        return {
            "labels": json.loads(metadata["labels"]),
            "spec": json.loads(metadata["spec"]),
            "encoder_files": json.loads(metadata.get("encoder_files", "{}")),
        }

    @cached_property
    def within(self) -> Mapping[str, tuple[EncoderSpec, TemporaryDirectory[str]]]:
        """The encoders of a portable model by name, each with a folder that holds what its network needs beside it."""
        found = {}
        for name, files in self.properties["encoder_files"].items():
            spec, folder = EncoderSpec.model_validate_json(files[SPEC_FILE]), TemporaryDirectory()
            for file in spec.files.keys() - {spec.model}:
                (Path(folder.name) / file).write_text(files[file], encoding="utf-8")
            found[name] = (spec, folder)
        return found

    def classify_windows(self, path: Path, windows: Windows, cutting: Cutting, spans: Sequence[Span]) -> Recording:
        """Return what the model predicts for every window of a long recording. Raises DataError."""
        from shared.features.encoders import load_encoder
        from shared.report.detection import Recording, WindowPrediction

        encoders = {name: load_encoder(folder.resolve()) for name, folder in self.encoders.items()}
        labels, names = self.properties["labels"], [tensor.name for tensor in self.session.get_inputs()]
        predictions: list[WindowPrediction] = []
        end = 0.0
        for window in windows(path, self.properties["spec"], encoders, cutting):
            end = max(end, window.offset)
            if window.inputs is None:  # refused before the model is asked
                continue
            inputs = {name: window.inputs[name] for name in names}
            label, accepted, score = self.session.run(["label", "accepted", "score"], inputs)
            predictions.append(
                WindowPrediction(window.onset, window.offset, labels[int(label)], float(score), bool(accepted))
            )
        return Recording(end, tuple(predictions), tuple(spans))

    def classify(self, path: Path, recipe: Recipe) -> dict[str, float]:
        """Return A3CP's classifier_output for one file: label -> score, `unknown` among them.

        Rejected: `unknown` is 1 and all others 0. Accepted: `unknown` is 0 and the others sum to 1.
        Raises DataError for a file that cannot be used, InvalidInputError for one that holds nothing to classify.
        """
        return classifier_output(self.properties["labels"], *self.probabilities(path, recipe))

    def probabilities(self, path: Path, recipe: Recipe) -> tuple[NDArray[np.float32], bool]:
        """Return (K,) float32, how probable each of the model's labels is for one file, and whether it is accepted.

        Raises DataError for a file that cannot be used, InvalidInputError for one that holds nothing to classify.
        """
        from shared.features.encoders import Encoder, load_encoder

        encoders = {name: load_encoder(folder.resolve()) for name, folder in self.encoders.items()}
        encoder_inputs: dict[str, list[NDArray[Any]]] = {}
        for name, (spec, folder) in self.within.items():
            encoders[name] = Encoder(
                spec, Path(folder.name), network=partial(_record_inputs, spec, encoder_inputs, name)
            )
        inputs = dict(recipe.decode(path, self.properties["spec"]["decode"], encoders))
        inputs |= {name: np.concatenate(parts) for name, parts in encoder_inputs.items()}
        wanted = {tensor.name: inputs[tensor.name] for tensor in self.session.get_inputs()}
        chances, accepted = self.session.run(["probabilities", "accepted"], wanted)
        return np.asarray(chances), bool(accepted)

    def predict(self, path: Path, recipe: Recipe) -> Prediction:
        """Return the prediction for one file; one that holds nothing to classify is `unknown`, with a reason.

        Raises DataError for a file that cannot be used.
        """
        reason = None
        try:
            output = self.classify(path, recipe)
        except InvalidInputError as error:
            labels = self.properties["labels"]
            output = classifier_output(labels, np.ones(len(labels)), accepted=False)
            reason = ", ".join(fault.reason for fault in error.faults)
        threshold = self.properties["spec"].get("set_threshold")  # models of earlier versions have none
        return Prediction(
            label=max(output, key=lambda label: output[label]),
            scores=output,
            label_set=None if threshold is None else tuple(label_set(output, threshold)),
            reason=reason,
        )


def published_model(resolved: ResolvedVersion) -> LiveModel:
    """Return the model of a version that a registry resolved."""
    return LiveModel(resolved.files["model"], resolved.encoders, resolved.stored["model"].sha256)


def portable_model(path: Path) -> LiveModel:
    """Return a model that stands in one file. Raises ConfigError where it is not one that was exported."""
    model = LiveModel(path, {})
    try:
        spec = model.properties["spec"]
        whole = {ref["name"] for ref in spec["encoders"]} == model.within.keys() and is_modality(spec["modality"])
    except DataError:
        raise
    except Exception:  # whatever a file that anybody gives leads ONNX Runtime and the reading of its properties to
        whole = False
    if not whole:
        raise ConfigError(f"{path}: is no portable model; write one with: model-trainer registry export")
    return model


def _record_inputs(
    spec: EncoderSpec, encoder_inputs: dict[str, list[NDArray[Any]]], name: str, batch: Mapping[str, NDArray[Any]]
) -> dict[str, NDArray[Any]]:
    """Keep the inputs of an encoder within the model, which the model itself runs; return zeros as its outputs."""
    for key, rows in batch.items():
        encoder_inputs.setdefault(f"{name}_{key}", []).append(rows)
    count = len(next(iter(batch.values())))
    return {output: np.zeros((count, dimension), np.float32) for output, dimension in spec.outputs.items()}


def classifier_output(labels: Sequence[str], probabilities: Any, accepted: bool) -> dict[str, float]:
    """Return label -> score with `unknown`; see `LiveModel.classify`."""
    chances = np.asarray(probabilities, np.float64)
    scores = chances / chances.sum() if accepted else np.zeros_like(chances)
    return {**{label: float(p) for label, p in zip(labels, scores, strict=True)}, UNKNOWN: 0.0 if accepted else 1.0}


def label_set(output: Mapping[str, float], threshold: float) -> list[str]:
    """Return the labels that cannot be excluded at 90 %, most probable first; none where the input was rejected."""
    scores = {label: score for label, score in output.items() if label != UNKNOWN and score > 0}
    ordered = sorted(scores, key=lambda label: -scores[label])
    return [label for rank, label in enumerate(ordered) if rank == 0 or scores[label] >= threshold]
