"""`model-trainer reproduce`: train a published version again from what its log recorded, and compare."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from model_registry.commands.completion import published_users, published_versions
from model_registry.commands.options import registry_option
from model_registry.location import ReadableRegistry
from model_registry.messages import and_more, list_names
from model_registry.storage.durable import temporary_folder
from model_registry.storage.entry import FILE_LIMIT, parse_json
from model_registry.storage.resolution import ResolvedVersion
from shared.commands.completion import installed_modalities
from shared.errors import ConfigError
from shared.schema_utils import logged_predictions
from shared.trainers import Trainer, find_trainer, modality_names

if TYPE_CHECKING:
    from shared.packaging.bundle import Bundle

Log = Mapping[str, Any]

COMPARED = ("model", "label_map", "label_encoder")  # the log and the card carry times
_NAMED = 5  # record ids or figures that are told one by one


@click.command("reproduce")
@click.option(
    "--user", required=True, shell_complete=published_users, help="Whose model; `_default` for the pooled one."
)
@click.option(
    "--modality", required=True, shell_complete=installed_modalities, metavar=f"[{'|'.join(modality_names())}]"
)
@click.option("--version", shell_complete=published_versions, help="Which version, e.g. v3.  [default: the active one]")
@registry_option("read")
@click.option("--data", type=click.Path(path_type=Path, file_okay=False), required=True, help="Data root.")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object.")
def reproduce_command(
    user: str, modality: str, version: str | None, registry: ReadableRegistry, data: Path, as_json: bool
) -> int:
    """Train a published version again from its recorded configuration, seed and data, and say whether it is the same.

    Nothing is published. Exit codes: 0 byte-identical, 2 usage or configuration, 3 it differs, or the data cannot be
    used.

    \b
    Example:
      model-trainer reproduce --user ana --modality gesture --version v3 --registry models --data data
    """
    with (
        registry.open_version(user, modality, version) as resolved,
        temporary_folder() as out,
    ):
        if resolved.fallback:
            raise ConfigError(
                f"{user}/{modality}: no active version but the pooled one; write --user {resolved.entry.user_id}"
            )
        differences = list(reproduce(resolved, find_trainer(resolved.modality), data, out))
    name = f"{resolved.user}/{resolved.modality} v{resolved.version}"
    if as_json:
        click.echo(json.dumps({"version": name, "identical": not differences, "differences": differences}))
    elif differences:
        click.echo(f"{name}: not the same came out:\n" + "\n".join(f"  {line}" for line in differences))
    else:
        click.echo(f"{name}: byte-identical: model, label map and label encoder came out as they were published")
    return 3 if differences else 0


def reproduce(version: ResolvedVersion, trainer: Trainer, data: Path, out: Path) -> Iterator[str]:
    """Train again into the folder `out` and yield what differs, causes first; nothing where all is the same.

    Raises ConfigError where the recorded configuration is no longer one, and what training raises.
    """
    from threadpoolctl import threadpool_limits

    from shared.config import parse_config
    from shared.job import Job
    from shared.recipe import load_recipe

    recipe = load_recipe(trainer)
    before = _log(version.files["training_log"])
    threadpool_limits(1)  # as the trainer's command does: sums in another order would give other bytes
    users = tuple(before.get("users") or (version.entry.user_id,))
    config = parse_config(recipe.config, dict(version.entry.config), f"the configuration of v{version.version}")
    job = Job(
        users,
        data,
        out,
        run_id="again",
        data_format=before.get("data_format", "auto"),
        fingerprint=version.entry.job_fingerprint,
        package=trainer.package,
    )
    bundle = recipe.train(job, config).bundle
    changed = [role for role in COMPARED if _digest(bundle, role) != version.stored[role].sha256]
    if changed:
        yield from _causes(before, _log(bundle.folder / "training_log.json"))
        yield f"files: {', '.join(role.replace('_', ' ') for role in changed)} differ"


def _causes(before: Log, after: Log) -> Iterator[str]:
    if before.get("data_fingerprint") != after["data_fingerprint"]:
        yield f"data: {_records(before, after)}"
    for name, title in (("labels", "labels"), ("feature_spec_id", "features"), ("encoder_refs", "encoders")):
        if before.get(name) != after[name]:
            yield f"{title}: were {_short(before.get(name))}, are {_short(after[name])}"
    then, now = before.get("libraries", {}), after["libraries"]
    moved = [f"{name} was {then.get(name)}, is {now[name]}" for name in now if then.get(name) != now[name]]
    if moved:
        yield f"libraries: {'; '.join(moved)}"
    files = _changed(before.get("code", {}), after["code"])
    if files:
        yield f"code: {_named(files)} changed since"
    old_metrics = before.get("training_metrics") or {}  # versions of old code name some metrics otherwise
    new_metrics = after["training_metrics"] or {}
    moved = [
        f"{name}: was {was:.4f}, is {new_metrics[name]:.4f}"
        for name, was in old_metrics.items()
        if name in new_metrics and new_metrics[name] != was
    ]
    yield from moved[:_NAMED]
    if len(moved) > _NAMED:
        yield and_more(len(moved) - _NAMED, "metrics")


def _records(before: Log, after: Log) -> str:
    (old, new), (was, now) = map(_labels, (before, after)), map(_hashes, (before, after))
    groups = {
        "gone": sorted(old.keys() - new.keys()),
        "new": sorted(new.keys() - old.keys()),
        "labelled otherwise": _changed(old, new, old.keys() & new.keys()),
        "with other content": _changed(was, now, was.keys() & now.keys()),
    }
    told = [f"{len(ids)} {what} ({_named(ids)})" for what, ids in groups.items() if ids]
    return "; ".join(told) or "the same recordings, but their sessions or regions are others"


def _labels(log: Log) -> dict[str, str]:
    return {record: label for record, (label, _) in logged_predictions(log).items()}


def _hashes(log: Log) -> dict[str, str]:
    metrics = log.get("metrics", {})
    return dict(zip(_labels(log), metrics.get("content_hashes", metrics.get("contents", ())), strict=False))


def _changed(before: Mapping[str, str], after: Mapping[str, str], among: Iterable[str] | None = None) -> list[str]:
    names = before.keys() | after.keys() if among is None else among
    return sorted(name for name in names if before.get(name) != after.get(name))


def _named(names: Sequence[str]) -> str:
    return list_names(names, _NAMED)


def _digest(bundle: Bundle, role: str) -> str:
    return bundle.manifest.files[role].sha256


def _short(value: Any) -> str:
    text = json.dumps(value, ensure_ascii=False)
    return text if len(text) <= 120 else f"{text[:119]}…"


def _log(path: Path) -> Log:
    found = parse_json(path.read_bytes(), str(path), FILE_LIMIT)
    return found if isinstance(found, dict) else {}
