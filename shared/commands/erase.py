"""`model-trainer erase` and `readmit`: everything of one person goes, and may come back only if they agree again."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import click

from model_registry.commands.options import registry_option
from model_registry.errors import NotFoundError, RegistryError
from model_registry.folders import own_copies
from model_registry.location import WritableRegistry
from model_registry.names import DEFAULT_USER, parse_user
from model_registry.storage.copies import copies_file, copies_of, forget_copies
from model_registry.storage.durable import temporary_folder
from model_registry.storage.entry import FILE_LIMIT, CopyRecord, RegistryEntry, parse_json
from model_registry.storage.tombstones import add_readmission, add_tombstone, check_reason
from model_registry.store import Registry
from shared.data.erasure import (
    Person,
    Places,
    erase_cache,
    erase_copy,
    erase_data_root,
    erase_from_folder,
    erase_temporary,
    hashes_of,
    traces,
)
from shared.features.cache import default_cache_path

_FOLDER = click.Path(exists=True, file_okay=False, path_type=Path)


@dataclass(frozen=True)
class PooledModel:
    """An active pooled version that was trained on the person among others."""

    entry: RegistryEntry
    log: Mapping[str, Any]


@click.command("erase")
@click.argument("user")
@click.option("--reason", required=True, help="Why, without naming the person: it is kept.")
@registry_option("write")
@click.option("--data", "data_roots", multiple=True, type=_FOLDER, help="A data root. May be repeated.")
@click.option(
    "--folder",
    "folders",
    multiple=True,
    type=_FOLDER,
    help="A folder of runs, bundles, exports or copies of a registry. May be repeated.",
)
@click.option(
    "--mirror", "mirrors", multiple=True, metavar="URL", help="A copy of the registry that fsspec can write to."
)
@click.option("--cache/--no-cache", default=True, show_default=True, help="Also remove the feature cache, everybody's.")
@click.option("--retrain-pooled", is_flag=True, help="Train pooled models again without the person; needs one --data.")
@click.option("--yes", is_flag=True, help="Do not ask.")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object.")
def erase_command(
    user: str,
    reason: str,
    registry: WritableRegistry,
    data_roots: tuple[Path, ...],
    folders: tuple[Path, ...],
    mirrors: tuple[str, ...],
    cache: bool,
    retrain_pooled: bool,
    yes: bool,
    as_json: bool,
) -> int:
    """Remove everything of USER for good: recordings, models, runs, bundles, exports, caches, and pooled models.

    What `registry export`, `registry resolve --into` and `check --html` wrote elsewhere is found by itself. Pooled
    models that were trained on the person are removed, or with --retrain-pooled trained again without them. What is
    kept is when and why, and a salted hash because of which nothing of the person is imported or published again, until
    `readmit`. An interrupted command is completed by repeating it; repeating it once more changes nothing. Every
    place that was searched is searched again at the end. The exit code is 3 where something is left.

    \b
    Example:
      model-trainer erase user123 --reason "consent withdrawn" --registry models --data data --folder runs
    """
    parse_user(user)
    check_reason(user, reason)
    if retrain_pooled and len(data_roots) != 1:
        raise click.UsageError("--retrain-pooled: name the one data root to train from with --data")
    if mirrors:
        import fsspec  # noqa: F401  # where it is missing nothing is erased
    if not yes:
        click.confirm(f"Remove everything of {user} for good?", abort=True)
    if isinstance(registry, Registry):
        registry.changeable()
    person = _person(user, registry, folders)
    places = Places(user)
    pooled = _pooled_with(registry, user) if retrain_pooled else []
    if isinstance(registry, Registry):
        add_tombstone(registry.root, user, reason)  # before anything else: nothing of them is published meanwhile
    for root in data_roots:
        erase_data_root(root, person, reason, places)
    for folder in folders:
        erase_from_folder(folder, person, places)
    own = own_copies()
    for record in (*copies_of(own, user), *_registry_copies(registry, user)):
        erase_copy(record, person, places)
    forget_copies(own, user)
    for url in mirrors:
        _erase_mirror(url, person, places)
    if cache:
        erase_cache(default_cache_path(), places)
    erase_temporary(person, places)
    for model in pooled:
        places.removed.append(_retrained(model, user, registry, data_roots[0]))
    erased = registry.erase(user, reason)  # last: until here it says which files are the person's
    places.removed += [f"{registry.address}: {erased.versions} versions", *erased.pooled]
    if not isinstance(registry, Registry):
        places.left += [f"{path}: a model was copied there, on the machine of the service" for path in erased.copies]
    searched = [*data_roots, *folders, *([registry.root] if isinstance(registry, Registry) else [])]
    places.left += [f"{path}: still names the person" for folder in searched for path in traces(folder, person)]
    _print(places, erased.id, as_json)
    return 3 if places.left else 0


def _registry_copies(registry: WritableRegistry, user: str) -> list[CopyRecord]:
    """Return where models of a user were copied to from a registry in a folder of this machine."""
    return copies_of(copies_file(registry.root), user) if isinstance(registry, Registry) else []


def _print(places: Places, tombstone: str, as_json: bool) -> None:
    if as_json:
        click.echo(json.dumps({"removed": places.removed, "left": places.left, "tombstone": tombstone}))
        return
    for line in places.removed:
        click.echo(f"removed: {line}")
    for line in places.left:
        click.echo(f"NOT REMOVED: {line}", err=True)
    click.echo(f"tombstone {tombstone}; backups, and copies that you did not name, are yours to remove")


def _person(user: str, registry: WritableRegistry, folders: tuple[Path, ...]) -> Person:
    """Return the person with the hashes of all files that registry and bundles know to be theirs."""
    models = {
        entry.artifact_hash.removeprefix("sha256:")
        for owner in (user, DEFAULT_USER)
        for entry in _entries(registry, owner)
        if owner == user or user in (_log(registry, entry).get("users") or ())
    }
    return Person(user, frozenset(models) | hashes_of(folders, user))


def _entries(registry: WritableRegistry, user: str) -> list[RegistryEntry]:
    try:
        return list(registry.entries(user=user))
    except NotFoundError:
        return []


def _log(registry: WritableRegistry, entry: RegistryEntry) -> Mapping[str, Any]:
    try:
        data = registry.training_log(entry.user_id, entry.modality, entry.version)
        value = parse_json(data, "training log", FILE_LIMIT)
    except RegistryError:
        return {}  # damaged: the registry's erasure names it
    return value if isinstance(value, dict) else {}


def _pooled_with(registry: WritableRegistry, user: str) -> list[PooledModel]:
    """Return the active pooled versions that were trained on a user."""
    active = [entry for entry in _entries(registry, DEFAULT_USER) if entry.status == "active"]
    models = [PooledModel(entry, _log(registry, entry)) for entry in active]
    return [model for model in models if user in (model.log.get("users") or ())]


def _retrained(model: PooledModel, user: str, registry: WritableRegistry, data: Path) -> str:
    """Train a pooled model with its own configuration on everybody else and publish it; return what was done."""
    from threadpoolctl import threadpool_limits

    from shared.config import parse_config
    from shared.job import Job
    from shared.recipe import load_recipe
    from shared.trainers import find_trainer

    entry = model.entry
    users = tuple(other for other in model.log["users"] if other != user)
    if len(users) < 2:
        return f"{entry.user_id}/{entry.modality}: not trained again, because fewer than two people are left"
    run_id = f"without-{entry.run_id}"[:64].rstrip("_.-")
    if any(known.run_id == run_id for known in _entries(registry, DEFAULT_USER)):
        return f"{entry.user_id}/{entry.modality}: was trained again without them before"
    trainer = find_trainer(entry.modality)
    recipe = load_recipe(trainer)
    threadpool_limits(1)
    config = parse_config(recipe.config, dict(entry.config), f"the configuration of v{entry.version}")
    with temporary_folder() as out:
        job = Job(
            users,
            data,
            out,
            run_id=run_id,
            data_format=model.log.get("data_format", "auto"),
            fingerprint=f"without {entry.run_id}",
            package=trainer.package,
        )
        bundle = recipe.train(job, config).bundle
        version = registry.publish(bundle.folder, reason="trained again without a person who was erased").version
    return f"{entry.user_id}/{entry.modality}: trained again without them as v{version}"


def _erase_mirror(url: str, person: Person, places: Places) -> None:
    """Remove a person's folder, pooled versions with them and their lines of the journal from a copy of a registry."""
    import fsspec

    try:
        files, root = fsspec.core.url_to_fs(url.rstrip("/"))
        for name in (f"users/{person.user}", "uploads", "copies.jsonl"):  # of the last two no reader needs a copy
            if files.exists(f"{root}/{name}"):
                files.rm(f"{root}/{name}", recursive=True)
                places.removed.append(f"{url}: {name}")
        for log in files.glob(f"{root}/users/{DEFAULT_USER}/*/v*/training_log_*.json"):
            if person.user in (json.loads(files.cat_file(log)).get("users") or ()):
                version = log.rpartition("/")[0]
                slot, _, number = version.rpartition("/")
                for path in files.find(version):
                    if path != log:
                        files.rm(path)
                files.rm(version, recursive=True)  # the log last: it says whose version this is
                active = f"{slot}/active.json"
                if files.exists(active) and f"v{json.loads(files.cat_file(active))['version']}" == number:
                    files.rm(active)
                places.removed.append(f"{url}: {version.removeprefix(root)}; copy the registry again")
        journal = f"{root}/model_registry.jsonl"
        if files.exists(journal):
            lines = files.cat_file(journal).splitlines(keepends=True)
            kept = [line for line in lines if json.loads(line).get("user_id") != person.user]
            if len(kept) < len(lines):
                files.pipe_file(journal, b"".join(kept))
                places.removed.append(f"{url}: {len(lines) - len(kept)} lines of model_registry.jsonl")
    except Exception as error:  # whatever a store raises: the other places must be reached nonetheless
        places.left.append(f"{url}: {type(error).__name__}: {error}")


@click.command("readmit")
@click.argument("user")
@click.option("--reason", required=True, help="Why, without naming the person: it is kept.")
@registry_option("folder")
@click.option("--data", "data_roots", multiple=True, type=_FOLDER, help="A data root. May be repeated.")
def readmit_command(user: str, reason: str, registry: Registry, data_roots: tuple[Path, ...]) -> None:
    """Allow an erased USER's data again, for example because they have agreed again. Nothing is restored.

    \b
    Example:
      model-trainer readmit user123 --reason "signed again" --registry models --data data
    """
    parse_user(user)
    readmitted = [registry.readmit(user, reason), *(add_readmission(data, user, reason) for data in data_roots)]
    if not any(readmitted):
        raise NotFoundError(f"{user}: nobody of this id was erased here")
    click.echo(f"{user}: may be imported and published again")
