"""`model-trainer predict`: run a published model on files, through ONNX Runtime alone."""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping, Sequence
from itertools import chain
from pathlib import Path
from typing import Any

import click

from model_registry.commands.completion import published_users, published_versions
from model_registry.commands.options import checking_options, registry_option, signatures_of
from model_registry.location import ReadableRegistry
from model_registry.names import Modality, parse_modality
from model_registry.storage.resolution import ResolvedVersion
from shared.commands.completion import installed_modalities
from shared.data.formats.walking import walk
from shared.errors import DataError, TrainerError
from shared.prediction import LiveModel, Prediction, portable_model, published_model
from shared.trainers import find_trainer, modality_names


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
    `unknown`; `label_set` are the labels that cannot be excluded at 90 %; `modality` is the name in A3CP's messages. A
    file that holds nothing to classify (silence, an empty text, a black image, no landmarks) is `unknown`, with a
    `reason`. A file that cannot be used is named on standard error; the others are classified.

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
        return _classify(published_model(resolved), resolved.modality, _described(resolved), files)


def _classify(model: LiveModel, modality: Modality, described: Mapping[str, Any], files: Sequence[Path]) -> int:
    """Print one JSON line for each file; return the exit code."""
    from shared.recipe import load_recipe

    recipe = load_recipe(find_trainer(modality))
    code = 0
    for path in chain.from_iterable(walk(given) if given.is_dir() else [given] for given in files):
        try:
            click.echo(json.dumps(_line(described, path, model.predict(path, recipe)), ensure_ascii=False))
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
        "modality": find_trainer(resolved.modality).message_name,  # the line is what goes into an A3CPMessage
        "model_version": f"v{resolved.version}",
        "fallback": resolved.fallback,
    }


def _line(described: Mapping[str, Any], path: Path, prediction: Prediction) -> dict[str, Any]:
    line: dict[str, Any] = {"file": str(path), **described, "label": prediction.label}
    line["classifier_output"] = prediction.scores
    if prediction.reason is not None:
        line["reason"] = prediction.reason
    return line if prediction.label_set is None else {**line, "label_set": prediction.label_set}
