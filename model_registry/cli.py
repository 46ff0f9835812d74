"""The registry on the command line: `model-trainer registry …`, or `python -m model_registry …`."""

from __future__ import annotations

import functools
import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any, ParamSpec

import click
from rich.console import Console
from rich.table import Table

from model_registry.entry import RegistryEntry
from model_registry.errors import RegistryError
from model_registry.names import MODALITIES
from model_registry.store import DEFAULT_ROOT, Registry

P = ParamSpec("P")

_root = click.option(
    "--registry",
    "root",
    type=click.Path(path_type=Path, file_okay=False),
    default=DEFAULT_ROOT,
    envvar="MODEL_TRAINER_REGISTRY",
    show_envvar=True,
    help="The registry's folder.  [default: model_registry/store]",
    show_default=False,
)
_json = click.option("--json", "as_json", is_flag=True, help="Answer in JSON, for scripts.")


def guarded(command: Callable[P, None]) -> Callable[P, None]:
    """End a command that the registry refuses with its message and exit code, without a traceback."""

    @functools.wraps(command)
    def run(*args: P.args, **kwargs: P.kwargs) -> None:
        try:
            command(*args, **kwargs)
        except RegistryError as error:
            click.echo(f"error: {error}", err=True)
            sys.exit(error.exit_code)

    return run


@click.group(context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100})
def registry() -> None:
    """Publish, find, check and withdraw models.

    \b
    Examples:
      model-trainer registry publish runs/bundles/gesture_user123_r1
      model-trainer registry list --user user123
      model-trainer registry resolve user123 gesture --json
    """


@registry.command()
@click.argument("bundles", nargs=-1, required=True, type=click.Path(path_type=Path, file_okay=False))
@click.option("--promote/--no-promote", default=True, show_default=True, help="Let the new version serve at once.")
@_root
@_json
@guarded
def publish(bundles: tuple[Path, ...], promote: bool, root: Path, as_json: bool) -> None:
    """Publish bundles as the next versions of their users and modalities.

    Publishing a bundle again changes nothing and names the version that it became.

    \b
    Example:
      model-trainer registry publish runs/bundles/gesture_user123_r1 --no-promote
    """
    for bundle in bundles:
        done = Registry(root).publish(bundle, promote=promote)
        if as_json:
            _emit(
                {
                    "user_id": done.user,
                    "modality": done.modality,
                    "model_version": f"v{done.version}",
                    "status": done.entry.status,
                    "path": str(done.path),
                    "created": done.created,
                }
            )
        else:
            how = "published" if done.created else "was published before"
            click.echo(f"{done.user}/{done.modality} v{done.version} {how} ({done.entry.status}): {done.path}")


@registry.command()
@click.argument("user")
@click.argument("modality", metavar=f"[{'|'.join(MODALITIES)}]")
@click.option("--version", help="This version instead of the active one, e.g. v3.")
@_root
@_json
@guarded
def resolve(user: str, modality: str, version: str | None, root: Path, as_json: bool) -> None:
    """Print the files of the version that serves, after checking each.

    Where USER has no active model, the pooled one of `_default` is named, and marked as a fallback.

    \b
    Example:
      model-trainer registry resolve user123 gesture --json | jq -r .files.model
    """
    found = Registry(root).resolve(user, modality, version)
    answer = {
        "user_id": found.user,
        "modality": found.modality,
        "model_version": f"v{found.version}",
        "fallback": found.fallback,
        "path": str(found.path),
        "files": {role: str(path) for role, path in found.files.items()},
        "encoders": {name: str(path) for name, path in found.encoders.items()},
        "entry": found.entry.model_dump(mode="json"),
    }
    if as_json:
        _emit(answer)
        return
    note = ", a fallback: the user has no active model" if found.fallback else ""
    click.echo(f"{found.entry.user_id}/{found.modality} v{found.version} ({found.entry.status}{note})")
    _print_pairs({**answer["files"], **answer["encoders"]})  # type: ignore[dict-item]


@registry.command(name="list")
@click.option("--user", help="Only this user's.")
@click.option("--modality", help="Only this modality.")
@click.option("--status", type=click.Choice(["active", "candidate", "archived"]), help="Only versions of this status.")
@click.option("--verdict", help="Only versions of this verdict, e.g. weak.")
@_root
@_json
@guarded
def list_versions(
    user: str | None, modality: str | None, status: Any, verdict: str | None, root: Path, as_json: bool
) -> None:
    """List published versions with status, verdict and accuracy.

    \b
    Examples:
      model-trainer registry list --status active
      model-trainer registry list --user user123 --json
    """
    found = Registry(root).entries(user=user, modality=modality, status=status, verdict=verdict)
    if as_json:
        for entry in found:
            click.echo(entry.to_line().decode(), nl=False)
        return
    table = Table("user", "modality", "version", "status", "verdict", "f1_macro", "examples", "sessions", "trained")
    for entry in found:
        table.add_row(
            entry.user_id,
            entry.modality,
            entry.model_version,
            entry.status,
            entry.verdict or "",
            _number(entry.metrics.get("f1_macro")),
            str(entry.example_count),
            str(entry.session_count),
            entry.timestamp[:16].replace("T", " "),
        )
    _console().print(table)


@registry.command()
@click.argument("user")
@click.argument("modality")
@click.argument("version")
@_root
@_json
@guarded
def show(user: str, modality: str, version: str, root: Path, as_json: bool) -> None:
    """Show one version: what it was trained on, how good it is, what happened to it.

    \b
    Example:
      model-trainer registry show user123 gesture v3
    """
    found = Registry(root).show(user, modality, version)
    if as_json:
        history = [event.model_dump(mode="json") for event in found.events]
        _emit({"entry": found.entry.model_dump(mode="json"), "history": history, "path": str(found.path)})
        return
    _print_pairs(_summary(found.entry) | {"path": str(found.path)})
    for event in found.events:
        click.echo(f"{event.time[:19].replace('T', ' ')}  {event.event} v{event.version}  {event.reason}".rstrip())


@registry.command()
@click.argument("user", required=False)
@click.argument("modality", required=False)
@click.argument("version", required=False)
@_root
@_json
@guarded
def verify(user: str | None, modality: str | None, version: str | None, root: Path, as_json: bool) -> None:
    """Compare every file with the sha256 that was published: of all versions, a user's, or one.

    Ends with exit code 3 if anything differs.

    \b
    Examples:
      model-trainer registry verify
      model-trainer registry verify user123 gesture v3
    """
    store = Registry(root)
    if version is not None and user is not None and modality is not None:
        store.verify(user, modality, version)
        results: dict[str, str | None] = {f"{user}/{modality} {version}": None}
    else:
        results = {}
        with Console(stderr=True).status("verifying") as progress:
            for name, fault in store.verify_all(user=user, modality=modality):
                results[name] = fault
                progress.update(f"verified {len(results)} versions")
    faults = {name: fault for name, fault in results.items() if fault is not None}
    if as_json:
        _emit({"checked": len(results), "faults": faults})
    else:
        for name, fault in faults.items():
            click.echo(f"{name}: {fault}", err=True)
        click.echo(f"{len(results)} checked, {len(faults)} differ from what was published")
    if faults:
        sys.exit(3)


def _summary(entry: RegistryEntry) -> dict[str, str]:
    return {
        "version": f"{entry.user_id}/{entry.modality} {entry.model_version} ({entry.status})",
        "verdict": entry.verdict or "none given",
        "metrics": ", ".join(f"{name} {_number(value)}" for name, value in sorted(entry.metrics.items())),
        "labels": ", ".join(entry.labels),
        "examples": f"{entry.example_count} in {entry.session_count} sessions",
        "features": entry.feature_spec_id,
        "encoders": ", ".join(ref.name for ref in entry.encoder_refs) or "none",
        "trained": f"{entry.timestamp} by {entry.trainer_name}, run {entry.run_id}",
        "sha256": entry.artifact_hash.removeprefix("sha256:"),
    }


def _number(value: float | None) -> str:
    return "" if value is None else f"{value:.3f}"


def _console() -> Console:
    return Console(width=None if sys.stdout.isatty() else 160)


def _print_pairs(values: dict[str, str]) -> None:
    width = max((len(name) for name in values), default=0)
    for name, value in values.items():
        click.echo(f"  {name:<{width}}  {value}")


def _emit(value: Any) -> None:
    click.echo(json.dumps(value, ensure_ascii=False))
