"""Publishes finished bundles. Uploading the same bundle again changes nothing."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import click

from model_registry.commands.options import guarded, promote_settings, registry_option
from model_registry.errors import ConflictError, RegistryError, StorageError, UnreachableError
from model_registry.location import WritableRegistry
from model_registry.names import published_name
from model_registry.promotion import PromotionPolicy, publish
from model_registry.storage.entry import RegistryEntry
from model_registry.store import Registry
from orchestrator.attempt import Publish
from orchestrator.jobs import UP_TO_DATE, Job, Outcome, one_line

_EXAMPLES = """\b
Examples:
  model-trainer upload runs --registry models
  MODEL_TRAINER_TOKEN=… model-trainer upload runs --registry https://registry.example
  model-trainer upload runs/bundles/gesture_user123_20260301 --registry models
"""


def find_bundles(runs: Path) -> Iterator[Path]:
    """Yield the folders at or below `runs` that hold a bundle.json, in order, links and hidden folders aside."""
    for place, folders, files in os.walk(runs):
        folders[:] = sorted(name for name in folders if not name.startswith("."))
        if "bundle.json" in files:
            folders.clear()
            yield Path(place)


def publisher(registry: WritableRegistry, policy: PromotionPolicy = "if-better") -> Publish:
    """Return a function that publishes a job's bundle and adds version, status and model card to its outcome."""

    def published(job: Job, outcome: Outcome) -> Outcome:
        try:
            result, promotion = publish(Path(outcome.bundle), registry, policy)
        except ConflictError as error:
            entry = _published_by_another(job, registry)
            return _not_uploaded(outcome, error, False) if entry is None else _with_version(registry, outcome, entry)
        except (StorageError, UnreachableError) as error:
            return _not_uploaded(outcome, error, True)
        except (RegistryError, OSError) as error:
            return _not_uploaded(outcome, error, isinstance(error, OSError))
        final = _with_version(registry, outcome, result.entry)
        return final if final.status == "active" else final.model_copy(update={"reason": promotion.reason})

    return published


def _published_by_another(job: Job, registry: WritableRegistry) -> RegistryEntry | None:
    """Return the version of this job if another process ran it at the same time and published first."""
    with suppress(RegistryError):
        for entry in registry.entries(user=job.user, modality=job.modality):
            if entry.run_id == job.run_id:
                return entry
    return None


def _not_uploaded(outcome: Outcome, error: Exception, transient: bool) -> Outcome:
    update = {"cause": "upload", "stage": "upload", "reason": one_line(error), "transient": transient}
    return outcome.model_copy(update=update)


def _with_version(registry: WritableRegistry, outcome: Outcome, entry: RegistryEntry) -> Outcome:
    update = {"version": entry.model_version, "status": entry.status, "model_card": model_card(registry, entry)}
    return outcome.model_copy(update=update)


def outcome_of_version(registry: WritableRegistry, entry: RegistryEntry) -> Outcome:
    """Return a version that needed no training as the outcome of its job; its `status` is "up to date"."""
    return Outcome(
        user=entry.user_id,
        modality=entry.modality,
        run_id=entry.run_id,
        version=entry.model_version,
        status=UP_TO_DATE,
        model_card=model_card(registry, entry),
        samples=entry.example_count,
        sessions=entry.session_count,
        accuracy=entry.metrics.get("accuracy"),
        accuracy_low=entry.metrics.get("accuracy_low"),
        accuracy_high=entry.metrics.get("accuracy_high"),
        verdict=entry.verdict or "",
    )


def model_card(registry: WritableRegistry, entry: RegistryEntry) -> str:
    """Return the path of a version's model card; empty where there is none, or where a service shows it as a page."""
    if not isinstance(registry, Registry):
        return ""
    name = published_name("model_card", entry.user_id, entry.modality, entry.version)
    card = (registry.root / entry.model_artifact_path).with_name(name)
    return str(card) if card.is_file() else ""


@click.command(epilog=_EXAMPLES, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(package_name="model-trainer")
@click.argument("runs", type=click.Path(exists=True, file_okay=False, path_type=Path))
@registry_option("write")
@click.option("--promote", **promote_settings())
@guarded
def main(runs: Path, registry: WritableRegistry, promote: PromotionPolicy) -> None:
    """Publish every finished bundle at or below the folder RUNS, and print one line for each.

    Bundles that the registry has already are left alone. The exit code is 3 when one was refused.
    """
    registry.check_writable()
    refused = count = 0
    for bundle in find_bundles(runs):
        count += 1
        try:
            publication, promotion = publish(bundle, registry, promote)
        except (RegistryError, OSError) as error:
            refused += 1
            click.echo(f"{bundle}: refused: {one_line(error)}", err=True)
            continue
        entry = publication.entry
        how = "published as" if publication.created else "was published before as"
        why = "" if entry.status == "active" else f" ({entry.status}: {promotion.reason})"
        click.echo(f"{bundle}: {how} {entry.user_id} {entry.modality} {entry.model_version}{why}")
    if not count:
        click.echo(f"{runs}: no finished bundle here; train something first", err=True)
    sys.exit(3 if refused or not count else 0)


if __name__ == "__main__":
    main()
