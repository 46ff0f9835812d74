"""Publishes finished bundles. Uploading the same bundle again changes nothing."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from pathlib import Path

import click

from model_registry.errors import RegistryError
from model_registry.names import published_name
from model_registry.publication import Published
from model_registry.store import DEFAULT_ROOT, Registry
from orchestrator.attempt import Publish
from orchestrator.jobs import Job, Outcome, one_line

DEFAULT_REGISTRY = str(DEFAULT_ROOT)

_EXAMPLES = """\b
Examples:
  python -m orchestrator.registry_uploader runs --registry model_registry/store
  python -m orchestrator.registry_uploader runs/bundles/gesture_user123_20260301 --registry model_registry/store
"""


def find_bundles(runs: Path) -> Iterator[Path]:
    """Yield the folders at or below `runs` that hold a bundle.json, in order, links and hidden folders aside."""
    for place, folders, files in os.walk(runs):
        folders[:] = sorted(name for name in folders if not name.startswith("."))
        if "bundle.json" in files:
            folders.clear()
            yield Path(place)


def open_registry(place: str) -> Registry:
    """Return the registry in the folder `place`."""
    return Registry(Path(place).absolute())


def upload(bundle: Path, registry: Registry) -> Published:
    """Publish `bundle`, or return what its run was published as. Raises RegistryError, and OSError when it is gone."""
    return registry.publish(bundle)


def publisher(registry: Registry) -> Publish:
    """Return the function that publishes what a job made and adds to its outcome where that went."""

    def publish(job: Job, outcome: Outcome) -> Outcome:
        try:
            published = upload(Path(outcome.bundle), registry)
        except (RegistryError, OSError) as error:
            return outcome.model_copy(update={"cause": "upload", "stage": "upload", "reason": one_line(error)})
        return outcome.model_copy(
            update={
                "version": published.entry.model_version,
                "status": published.entry.status,
                "model_card": model_card(published),
            }
        )

    return publish


def model_card(published: Published) -> str:
    """Return the path of the version's model card, empty where it has none."""
    card = published.path / published_name("model_card", published.user, published.entry.modality, published.version)
    return str(card) if card.is_file() else ""


@click.command(epilog=_EXAMPLES)
@click.argument("runs", type=click.Path(exists=True, file_okay=False, path_type=Path))
@click.option("--registry", default=DEFAULT_REGISTRY, show_default=True, help="The registry's folder.")
def main(runs: Path, registry: str) -> None:
    """Publish every finished bundle at or below the folder RUNS, one line each.

    Bundles that are in the registry already are left alone. The exit code is 3 when one was refused.
    """
    store = open_registry(registry)
    refused = count = 0
    for bundle in find_bundles(runs):
        count += 1
        try:
            published = upload(bundle, store)
        except (RegistryError, OSError) as error:
            refused += 1
            click.echo(f"{bundle}: refused: {one_line(error)}", err=True)
            continue
        told = "published as" if published.created else "was published before as"
        click.echo(f"{bundle}: {told} {published.user} {published.modality} {published.entry.model_version}")
    if not count:
        click.echo(f"{runs}: no finished bundle here; train something first", err=True)
    sys.exit(3 if refused or not count else 0)


if __name__ == "__main__":
    main()
