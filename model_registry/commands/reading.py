"""Commands that find, show and check versions."""

from __future__ import annotations

import sys
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import click
from rich.console import Console
from rich.table import Table
from rich.text import Text

from model_registry.commands.completion import published_modalities, published_users, published_versions
from model_registry.commands.copies import remember_model
from model_registry.commands.options import (
    checking_options,
    console,
    emit,
    guarded,
    json_option,
    json_text,
    number,
    print_fields,
    registry_option,
)
from model_registry.errors import NotFoundError
from model_registry.location import ReadableRegistry
from model_registry.messages import and_more, plain
from model_registry.storage.comparison import Difference
from model_registry.storage.entry import RegistryEntry
from model_registry.storage.verification import Damage
from model_registry.store import Registry

_WIDE = 120  # characters of a terminal that has room for every column of the list
_SESSIONS = 10  # sessions that a comparison lists one by one


@click.command()
@click.argument("user", shell_complete=published_users)
@click.argument("modality", shell_complete=published_modalities)
@click.option("--version", shell_complete=published_versions, help="This version instead of the active one, e.g. v3.")
@click.option(
    "--into",
    type=click.Path(path_type=Path),
    help="Copy the files into this folder; needed where the registry is a URL.",
)
@registry_option("read")
@checking_options
@json_option
@guarded
def resolve(
    user: str, modality: str, version: str | None, into: Path | None, registry: ReadableRegistry, as_json: bool
) -> None:
    """Print the files of the active version, after checking each.

    Where USER has no active version, or one with the verdict `insufficient data`, the pooled one of `_default` is
    printed, marked as a fallback.

    \b
    Examples:
      model-trainer registry resolve user123 gesture --json | jq -r .files.model
      model-trainer registry resolve user123 gesture --registry https://registry.example --into models
    """
    if into is not None:
        resolved = registry.fetch(user, modality, into, version)
        remember_model(registry, resolved, resolved.folder)
    elif isinstance(registry, Registry):
        resolved = registry.resolve(user, modality, version)
    else:
        raise click.UsageError(f"--into: give a folder for the files of {registry.address}")
    if as_json:
        emit(
            {
                "user_id": resolved.user,
                "modality": resolved.modality,
                "model_version": resolved.entry.model_version,
                "fallback": resolved.fallback,
                "path": str(resolved.folder),
                "files": {role: str(path) for role, path in resolved.files.items()},
                "encoders": {name: str(path) for name, path in resolved.encoders.items()},
                "entry": resolved.entry.model_dump(mode="json"),
            }
        )
        return
    entry = resolved.entry
    note = ", a fallback: the user has no active version with enough data" if resolved.fallback else ""
    click.echo(f"{entry.user_id}/{entry.modality} {entry.model_version} ({entry.status}{note})")
    print_fields({name: str(path) for name, path in {**resolved.files, **resolved.encoders}.items()})


@click.command(name="list")
@click.option("--user", shell_complete=published_users, help="Only this user's.")
@click.option("--modality", shell_complete=published_modalities, help="Only this modality.")
@click.option("--status", type=click.Choice(["active", "candidate", "archived"]), help="Only versions of this status.")
@click.option("--verdict", help="Only versions of this verdict, e.g. weak.")
@registry_option("read")
@json_option
@guarded
def list_versions(
    user: str | None, modality: str | None, status: Any, verdict: str | None, registry: ReadableRegistry, as_json: bool
) -> None:
    """List published versions with status, verdict, and accuracy with its interval.

    On a wide terminal, or in a file, macro F1, the numbers of examples and sessions and the time follow.
    What is damaged is named on standard error, and the exit code is then 3.

    \b
    Examples:
      model-trainer registry list --status active
      model-trainer registry list --user user123 --json
    """
    damaged: list[Damage] = []
    entries = registry.entries(user=user, modality=modality, status=status, verdict=verdict, on_damage=damaged.append)
    if as_json:
        for entry in entries:
            click.echo(json_text(entry.to_line().decode()), nl=False)
    else:
        _print_table(entries)
    for damage in dict.fromkeys(damaged):
        click.echo(plain(f"damaged: {damage}"), err=True)
    if damaged:
        sys.exit(3)


def _print_table(entries: Iterable[RegistryEntry]) -> None:
    """Print one row a version; what a narrow terminal has no room for is in `show`."""
    screen = console()
    more = ("f1_macro", "examples", "sessions", "trained") if screen.width >= _WIDE else ()
    table = Table("user", "modality", "version", "status", "verdict", "accuracy", *more, box=None, pad_edge=False)
    for column in table.columns:
        column.overflow = "fold"
        column.no_wrap = column.header not in ("user", "verdict")
    for entry in entries:
        row = (
            entry.user_id,
            entry.modality,
            entry.model_version,
            entry.status,
            plain(entry.verdict or ""),
            _share_with_interval(entry.metrics),
            number(entry.metrics.get("f1_macro")),
            str(entry.example_count),
            str(entry.session_count),
            entry.timestamp[:16].replace("T", " "),
        )
        table.add_row(*map(Text, row[: len(table.columns)]))
    screen.print(table)


def _share_with_interval(metrics: Mapping[str, float]) -> str:
    """Return the accuracy with its interval in 16 characters: 0.91 (0.85–0.95)."""
    values = [metrics.get(name) for name in ("accuracy", "accuracy_low", "accuracy_high")]
    value, low, high = ["" if value is None else f"{value:.2f}" for value in values]
    return f"{value} ({low}–{high})" if low and high else value


@click.command()
@click.argument("user", shell_complete=published_users)
@click.argument("modality", shell_complete=published_modalities)
@click.argument("version", shell_complete=published_versions)
@registry_option("read")
@json_option
@guarded
def show(user: str, modality: str, version: str, registry: ReadableRegistry, as_json: bool) -> None:
    """Show one version: what it was trained on, how good it is, what happened to it.

    Where standard output is no terminal it is JSON.

    \b
    Example:
      model-trainer registry show user123 gesture v3
    """
    record = registry.show(user, modality, version)
    path = f"{registry.address}/{record.entry.folder}"
    if as_json or not sys.stdout.isatty():
        history = [event.model_dump(mode="json") for event in record.events]
        emit({"entry": record.entry.model_dump(mode="json"), "history": history, "path": path})
        return
    fields = Table.grid("", "", padding=(0, 2))
    for name, text in (_summary(record.entry) | {"path": path}).items():
        fields.add_row(name, Text(plain(text), overflow="fold"))
    events = Table(
        "time", "event", "version", "reason", box=None, pad_edge=False, title="history", title_justify="left"
    )
    for event in record.events:
        events.add_row(event.time[:19].replace("T", " "), event.event, f"v{event.version}", Text(plain(event.reason)))
    console().print(fields, _metrics_table(record.entry.metrics), events, sep="\n\n")


@click.command()
@click.argument("user", required=False, shell_complete=published_users)
@click.argument("modality", required=False, shell_complete=published_modalities)
@click.argument("version", required=False, shell_complete=published_versions)
@registry_option("read")
@checking_options
@json_option
@guarded
def verify(
    user: str | None, modality: str | None, version: str | None, registry: ReadableRegistry, as_json: bool
) -> None:
    """Compare every file with the sha256 that was published: of all versions, of a user's, or of one.

    The exit code is 3 if anything differs.

    \b
    Examples:
      model-trainer registry verify
      model-trainer registry verify user123 gesture v3
    """
    results: dict[str, str | None] = {}
    with Console(stderr=True).status("verifying") as progress:
        for name, fault in registry.verify_all(user=user, modality=modality, version=version):
            results[name] = fault
            progress.update(f"verified {len(results)} versions")
    if not results and user is not None:
        raise NotFoundError(f"{'/'.join(filter(None, (user, modality)))}: nothing published to verify")
    faults = {name: fault for name, fault in results.items() if fault is not None}
    if as_json:
        emit({"checked": len(results), "faults": faults})
    else:
        for name, fault in faults.items():
            click.echo(plain(f"{name}: {fault}"), err=True)
        click.echo(f"{len(results)} checked, {len(faults)} differ from what was published")
    if faults:
        sys.exit(3)


@click.command()
@click.argument("user", shell_complete=published_users)
@click.argument("modality", shell_complete=published_modalities)
@click.argument("before", shell_complete=published_versions)
@click.argument("after", shell_complete=published_versions)
@registry_option("read")
@json_option
@guarded
def diff(user: str, modality: str, before: str, after: str, registry: ReadableRegistry, as_json: bool) -> None:
    """Compare two versions: metrics with intervals, verdict, labels gained and lost, data by session, settings.

    \b
    Example:
      model-trainer registry diff user123 gesture v2 v3
    """
    difference = registry.diff(user, modality, before, after)
    if as_json:
        changed = {
            name: getattr(difference, name)
            for name in ("metrics", "labels_gained", "labels_lost", "config", "facts", "sessions")
        }
        emit({"before": difference.before.model_version, "after": difference.after.model_version, **changed})
        return
    _print_difference(difference)


@click.command()
@click.argument("user", required=False, shell_complete=published_users)
@click.argument("modality", required=False, shell_complete=published_modalities)
@click.argument("target", required=False, type=click.Path(path_type=Path))
@click.option("--version", shell_complete=published_versions, help="This version instead of the active one, e.g. v3.")
@click.option("--form", type=click.Choice(["tar", "onnx", "web"]), help="[default: as the file's name ends]")
@click.option(
    "--node-modules",
    type=click.Path(path_type=Path, file_okay=False),
    default="node_modules",
    show_default=True,
    help="For a web page: the folder where npm installed onnxruntime-web and @huggingface/tokenizers.",
)
@click.option("--mlflow", metavar="URI", help="Copy versions to this MLflow: http(s)://… or file:…")
@registry_option("read")
@checking_options
@guarded
def export(
    user: str | None,
    modality: str | None,
    target: Path | None,
    version: str | None,
    form: Any,
    node_modules: Path,
    mlflow: str | None,
    registry: ReadableRegistry,
) -> None:
    """Write a version to a tar of everything, to one ONNX network that holds its encoders too, or to a web page.

    The web page is a folder for any web server. It tries a sound model with the microphone, a speech model with the
    keyboard, in the browser and offline.

    With --mlflow, every version, or those of USER and MODALITY, becomes a run and a registered model of MLflow. A
    version that is there already is not copied again.

    \b
    Examples:
      model-trainer registry export user123 speech user123_speech.onnx
      model-trainer registry export user123 gesture backup.tar --version v2
      model-trainer registry export user123 sound page --form web --node-modules node_modules
      model-trainer registry export --mlflow http://mlflow.example:5000
    """
    if mlflow is not None:
        if target is not None or form is not None:
            raise click.UsageError("--mlflow: takes no TARGET and no --form")
        if version is not None and modality is None:
            raise click.UsageError("--version: name USER and MODALITY too")
        _export_to_mlflow(registry, mlflow, user, modality, version)
        return
    if user is None or modality is None or target is None:
        missing = "USER" if user is None else "MODALITY" if modality is None else "TARGET"
        raise click.UsageError(f"{missing} is missing; only --mlflow exports without it")
    form = form or target.suffix.removeprefix(".")
    if form not in ("tar", "onnx", "web"):
        raise click.UsageError(f"{target}: end the name with .tar or .onnx, or give --form")
    if form != "web" and target.is_dir():
        raise click.UsageError(f"{target}: is a folder; name a file")
    from model_registry.storage import portable, web_page  # ONNX takes longer to import than everything else together

    with registry.open_version(user, modality, version) as resolved:
        if form == "web":
            web_page.export_web(resolved, target, node_modules)
        else:
            portable.export(resolved, target, form)
        remember_model(registry, resolved, target / web_page.MODEL_FILE if form == "web" else target)
    if form == "web":
        click.echo(f"wrote {target}; show it with: python3 -m http.server --bind 127.0.0.1 --directory {target}")
    else:
        click.echo(f"wrote {target} ({target.stat().st_size} bytes)")


def _export_to_mlflow(
    registry: ReadableRegistry, address: str, user: str | None, modality: str | None, version: str | None
) -> None:
    """Copy versions to MLflow and print the address of each new run; exit with 3 where one is damaged."""
    from model_registry.mlflow_export import export_versions

    damaged: list[Damage] = []
    if user is None or modality is None or version is None:
        entries = list(registry.entries(user=user, modality=modality, on_damage=damaged.append))
    else:
        entries = [registry.show(user, modality, version).entry]
    exported, unlisted = 0, len(damaged)
    for copy in export_versions(registry, entries, address, damaged.append):
        remember_model(registry, copy.version, copy.run)
        click.echo(plain(f"{copy.version.entry.user_id}/{copy.version.modality} v{copy.version.version}: {copy.run}"))
        exported += 1
    for damage in dict.fromkeys(damaged):
        click.echo(plain(f"damaged: {damage}"), err=True)
    there = len(entries) - exported - (len(damaged) - unlisted)
    click.echo(f"{exported} exported, {there} exported before")
    if damaged:
        sys.exit(3)


def _print_difference(difference: Difference) -> None:
    old, new = difference.before, difference.after
    table = Table("", old.model_version, new.model_version, "change")
    table.add_row("verdict", plain(old.verdict or "none given"), plain(new.verdict or "none given"), "")
    for name, (before, after) in difference.metrics.items():
        if name.removesuffix("_low").removesuffix("_high") == name or name.rsplit("_", 1)[0] not in difference.metrics:
            change = "" if before is None or after is None else f"{after - before:+.3f}"
            table.add_row(plain(name), _interval(old, name), _interval(new, name), change)
    for name, before, after in (
        ("examples", old.example_count, new.example_count),
        ("sessions", old.session_count, new.session_count),
    ):
        table.add_row(name, str(before), str(after), f"{after - before:+d}")
    for name, (before, after) in list(difference.sessions.items())[:_SESSIONS]:
        table.add_row(plain(f"examples of {name}"), str(before), str(after), f"{after - before:+d}")
    if len(difference.sessions) > _SESSIONS:
        table.add_row(and_more(len(difference.sessions) - _SESSIONS, "sessions"), "", "", "")
    table.add_row("labels gained", "", ", ".join(difference.labels_gained) or "none", "")
    table.add_row("labels lost", ", ".join(difference.labels_lost) or "none", "", "")
    facts = {
        name: values for name, values in difference.facts.items() if name not in ("verdict", "examples", "sessions")
    }
    for name, values in {**facts, **difference.config}.items():
        table.add_row(plain(name), *map(plain, values), "")
    console().print(table)


def _interval(entry: RegistryEntry, name: str) -> str:
    """Return a metric with its interval where it has one: 0.910 (0.850 to 0.950)."""
    low, high = entry.metrics.get(f"{name}_low"), entry.metrics.get(f"{name}_high")
    value = number(entry.metrics.get(name))
    return value if low is None or high is None else f"{value} ({number(low)} to {number(high)})"


def _metrics_table(metrics: Mapping[str, float]) -> Table:
    """Return a row for each metric, with the ends of its interval in the same row."""
    table = Table("metric", box=None, pad_edge=False)
    for heading in ("value", "low", "high"):
        table.add_column(heading, justify="right")
    ends = {f"{name}_{end}" for name in metrics for end in ("low", "high")}
    for name in sorted(metrics.keys() - ends):
        low, high = metrics.get(f"{name}_low"), metrics.get(f"{name}_high")
        table.add_row(Text(plain(name), overflow="fold"), number(metrics[name]), number(low), number(high))
    return table


def _summary(entry: RegistryEntry) -> dict[str, str]:
    return {
        "version": f"{entry.user_id}/{entry.modality} {entry.model_version} ({entry.status})",
        "verdict": entry.verdict or "none given",
        "accuracy": _share_with_interval(entry.metrics),
        "labels": ", ".join(entry.labels),
        "examples": f"{entry.example_count} in {entry.session_count} sessions",
        "features": entry.feature_spec_id,
        "encoders": ", ".join(ref.name for ref in entry.encoder_refs) or "none",
        "trained": f"{entry.timestamp} by {entry.trainer_name}, run {entry.run_id}",
        "sha256": entry.artifact_hash.removeprefix("sha256:"),
    }
