"""`model-trainer data`: what a data root holds of a person, changed and taken back."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import click

from model_registry.names import InvalidNameError, Modality, parse_name
from shared.commands.completion import installed_modalities, recorded_labels, recorded_users
from shared.commands.tables import print_table
from shared.data.changes import Change, Choice, alter, chosen_records, read_changes, undo
from shared.data.import_sessions import safe_session
from shared.data.records import Record
from shared.schema_utils import Example
from shared.trainers import modality_names, parse_known_modality

_F = TypeVar("_F", bound=Callable[..., Any])
_SHORT = 8  # characters of a record id that a list shows


def _user(_context: click.Context, _parameter: click.Parameter, value: str) -> str:
    try:
        return parse_name(value, "user id")
    except InvalidNameError as refused:
        raise click.BadParameter(str(refused)) from None


def _modality(_context: click.Context, _parameter: click.Parameter, value: str | None) -> Modality | None:
    try:
        return None if value is None else parse_known_modality(value)
    except InvalidNameError as refused:
        raise click.BadParameter(str(refused)) from None


def _data_options(command: _F) -> _F:
    command = click.option(
        "--user", required=True, callback=_user, shell_complete=recorded_users, help="Whose samples."
    )(command)
    return click.option(
        "--data", required=True, type=click.Path(exists=True, file_okay=False, path_type=Path), help="Data root."
    )(command)


def _choice_options(command: _F) -> _F:
    """Add the options that choose samples; the command gets them as `choice`."""
    for option in (
        click.option("--change", help="What this change brought or altered, such as an import."),
        click.option(
            "--modality",
            callback=_modality,
            shell_complete=installed_modalities,
            help=f"One of {', '.join(modality_names())}.",
        ),
        click.option("--session", "sessions", multiple=True, help="This session; can be repeated."),
        click.option(
            "--label", "labels", multiple=True, shell_complete=recorded_labels, help="This label; can be repeated."
        ),
        click.option("--file", "files", multiple=True, help="This file name, or a pattern with *; can be repeated."),
        click.option("--record", "records", multiple=True, help="This record id, or its first characters."),
    ):
        command = option(command)
    return command


_DRY_RUN = click.option("--dry-run", is_flag=True, help="Show what would be changed, and change nothing.")


@click.group("data")
def data_group() -> None:
    """List, relabel, move and remove samples of a data root, and take changes back."""


@data_group.command("list")
@_data_options
@_choice_options
def list_command(data: Path, user: str, **chosen: Any) -> None:
    """List samples: record id, modality, session, label, and file or text.

    \b
    Example:
      model-trainer data list --data data --user ana --label yes
    """
    records = chosen_records(data, user, _choice(chosen))
    print_table(
        ("record", "modality", "session", "label", "file or text"),
        [
            (r.example.record_id[:_SHORT], r.example.modality, r.example.session_id, r.example.label, _content_name(r))
            for r in records
        ],
    )
    click.echo(f"{len(records)} samples")


@data_group.command("relabel")
@_data_options
@_choice_options
@_DRY_RUN
@click.argument("label")
def relabel_command(data: Path, user: str, dry_run: bool, label: str, **chosen: Any) -> None:
    """Give the chosen samples the label LABEL.

    \b
    Example:
      model-trainer data relabel --data data --user ana --label yess yes
    """

    def relabelled(example: Example) -> Example:
        return Example.model_validate({**example.model_dump(), "label": label, "label_status": "corrected"})

    _show(data, user, alter(data, user, "relabel", relabelled, _required(chosen), dry_run=dry_run), dry_run)


@data_group.command("move")
@_data_options
@_choice_options
@_DRY_RUN
@click.argument("session")
def move_command(data: Path, user: str, dry_run: bool, session: str, **chosen: Any) -> None:
    """Move the chosen samples to the session SESSION, a new one or one that is there.

    \b
    Example:
      model-trainer data move --data data --user ana --file 'tue_*.wav' tuesday
    """
    target = safe_session(session)

    def moved(example: Example) -> Example:
        return example.model_copy(update={"session_id": target})

    _show(data, user, alter(data, user, "move", moved, _required(chosen), dry_run=dry_run), dry_run)


@data_group.command("remove")
@_data_options
@_choice_options
@_DRY_RUN
@click.option("--for-good", is_flag=True, help="Keep nothing of them; this cannot be undone.")
def remove_command(data: Path, user: str, dry_run: bool, for_good: bool, **chosen: Any) -> None:
    """Remove the chosen samples. Their files are kept for `undo`, unless --for-good is given.

    \b
    Example:
      model-trainer data remove --data data --user ana --record 1f3a9c02
    """
    change = alter(data, user, "remove", lambda example: None, _required(chosen), for_good=for_good, dry_run=dry_run)
    _show(data, user, change, dry_run, can_undo=not for_good)


@data_group.command("undo")
@_data_options
@_DRY_RUN
@click.argument("change", required=False)
def undo_command(data: Path, user: str, dry_run: bool, change: str | None) -> None:
    """Take CHANGE back, such as an import; by default the latest change.

    \b
    Example:
      model-trainer data undo --data data --user ana 20260301-101500-123456-import-3f2a
    """
    _show(data, user, undo(data, user, change, dry_run=dry_run), dry_run, can_undo=False)


@data_group.command("log")
@_data_options
def log_command(data: Path, user: str) -> None:
    """List the changes of a person's samples, oldest first.

    \b
    Example:
      model-trainer data log --data data --user ana
    """
    print_table(
        ("change", "brought", "altered", "removed", "source"),
        [
            (change.id, *_numbers(change), f"undoes {change.undoes}" if change.undoes else change.source)
            for change in read_changes(data, user)
        ],
    )


def _choice(chosen: dict[str, Any]) -> Choice:
    return Choice(**chosen)


def _required(chosen: dict[str, Any]) -> Choice:
    choice = _choice(chosen)
    if choice.is_empty():
        raise click.UsageError("choose samples with --record, --file, --label, --session, --modality or --change")
    return choice


def _content_name(record: Record) -> str:
    return record.example.transcript or "" if record.file is None else record.file.name


def _numbers(change: Change) -> tuple[int, int, int]:
    before = {example.record_id for example in change.before}
    after = {example.record_id for example in change.after}
    return len(after - before), len(after & before), len(before - after)


def _show(data: Path, user: str, change: Change, dry_run: bool, can_undo: bool = True) -> None:
    brought, altered, removed = _numbers(change)
    would = "would be " if dry_run else ""
    click.echo(f"{would}{brought} brought back, {altered} altered, {removed} removed")
    if can_undo and not dry_run and (change.before or change.after):
        click.echo(f"take it back with: model-trainer data undo --data {data} --user {user} {change.id}")
