"""`model-trainer predict`: run a published model on files, through ONNX Runtime alone."""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property, partial
from itertools import chain
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any

import click
import numpy as np
from numpy.typing import NDArray

from model_registry.commands.completion import published_users, published_versions
from model_registry.commands.options import checking_options, registry_option, signatures_of
from model_registry.location import ReadableRegistry
from model_registry.names import Modality, is_modality, parse_modality
from model_registry.storage.encoders import SPEC_FILE, EncoderSpec
from model_registry.storage.entry import FILE_LIMIT
from model_registry.storage.resolution import ResolvedVersion
from model_registry.storage.verification import read_checked
from shared.commands.completion import installed_modalities
from shared.data.formats.walking import walk
from shared.errors import ConfigError, DataError, InvalidInputError, TrainerError
from shared.schema_utils import UNKNOWN
from shared.trainers import find_trainer, modality_names

if TYPE_CHECKING:
    from shared.recipe import Cutting, Recipe, Windows
    from shared.report.detection import Recording, Span


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
        return classifier_output(self.properties["labels"], chances, bool(accepted))


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


@click.command("predict")
@click.option("--user", shell_complete=published_users, help="Whose model.")
@click.option("--modality", shell_complete=installed_modalities, metavar=f"[{'|'.join(modality_names())}]")
@click.option("--version", shell_complete=published_versions, help="This version instead of the active one, e.g. v3.")
@registry_option("read")
@checking_options
@click.option(
    "--model",
    "file",
    type=click.Path(path_type=Path, dir_okay=False, exists=True),
    help="A file that `registry export` wrote, instead of a user's version in the registry.",
)
@click.argument("files", nargs=-1, required=True, type=click.Path(path_type=Path))
def predict_command(
    user: str | None,
    modality: str | None,
    version: str | None,
    registry: ReadableRegistry,
    file: Path | None,
    files: tuple[Path, ...],
) -> int:
    """Run a published model on FILES, of a folder on those in it: one JSON line a file.

    The version is verified before it is loaded. Each line holds `classifier_output`: a score for every label, and
    `unknown`; `label_set` are the labels that cannot be excluded at 90 %. A file that holds nothing to classify
    (silence, an empty text, a black image, no landmarks) is `unknown`, with a `reason`. A file that cannot be used is
    named on standard error; the others are classified.

    \b
    Examples:
      model-trainer predict --user ana --modality sound --registry models hum.wav click.wav
      model-trainer predict --user ana --modality gesture --version v2 --registry models wave.npz
      model-trainer predict --model ana_places.onnx kitchen.jpg
    """
    if file is not None:
        if user or modality or version:
            raise click.UsageError("--model names the model; leave out --user, --modality and --version")
        if signatures_of(click.get_current_context()).required:
            raise click.UsageError("--model: such a file carries no signature; name --user and --modality")
        model = portable_model(file)
        return _classify(model, model.properties["spec"]["modality"], {"model": str(file)}, files)
    if not user or not modality:
        raise click.UsageError("name --user and --modality, or a file with --model")
    with registry.open_version(user, parse_modality(modality), version) as resolved:
        if resolved.fallback:
            reason = f"{user} has no active {resolved.modality} model with enough data; the pooled default is used"
            click.echo(f"warning: {reason}", err=True)
        model = LiveModel(resolved.files["model"], resolved.encoders, resolved.stored["model"].sha256)
        return _classify(model, resolved.modality, _described(resolved), files)


def _classify(model: LiveModel, modality: Modality, described: Mapping[str, Any], files: Sequence[Path]) -> int:
    """Print one JSON line for each file; return the exit code."""
    from shared.recipe import load_recipe

    recipe = load_recipe(find_trainer(modality))
    code = 0
    for path in chain.from_iterable(walk(given) if given.is_dir() else [given] for given in files):
        try:
            click.echo(json.dumps(_line(described, path, model, recipe), ensure_ascii=False))
        except DataError as error:
            click.echo(f"error: {error}", err=True)
            code = error.exit_code
        except (TrainerError, OSError) as error:
            click.echo(f"error: {path}: {error}", err=True)
            code = 3
    sys.stdout.flush()
    return code


def _described(resolved: ResolvedVersion) -> dict[str, Any]:
    return {
        "user_id": resolved.user,
        "modality": resolved.modality,
        "model_version": f"v{resolved.version}",
        "fallback": resolved.fallback,
    }


def _line(described: Mapping[str, Any], path: Path, model: LiveModel, recipe: Recipe) -> dict[str, Any]:
    """Return the prediction for one file; one that holds nothing to classify is `unknown`, with a reason."""
    reason = {}
    try:
        output = model.classify(path, recipe)
    except InvalidInputError as error:
        labels = model.properties["labels"]
        output = classifier_output(labels, np.ones(len(labels)), accepted=False)
        reason = {"reason": ", ".join(fault.reason for fault in error.faults)}
    label = max(output, key=lambda label: output[label])
    line = {"file": str(path), **described, "label": label, "classifier_output": output, **reason}
    threshold = model.properties["spec"].get("set_threshold")  # models of earlier versions have none
    return line if threshold is None else {**line, "label_set": label_set(output, threshold)}


def label_set(output: Mapping[str, float], threshold: float) -> list[str]:
    """Return the labels that cannot be excluded at 90 %, most probable first; none where the input was rejected."""
    scores = {label: score for label, score in output.items() if label != UNKNOWN and score > 0}
    ordered = sorted(scores, key=lambda label: -scores[label])
    return [label for rank, label in enumerate(ordered) if rank == 0 or scores[label] >= threshold]
