"""Commands that change what is published or what serves."""

from __future__ import annotations

import sys
from pathlib import Path

import click
from rich.console import Console

from model_registry.commands.options import emit, guarded, json_option, root_option
from model_registry.storage.publication import Published
from model_registry.store import Registry

_reason = click.option("--reason", required=True, help="Why, for the history.")


@click.command()
@click.argument("bundles", nargs=-1, required=True, type=click.Path(path_type=Path, file_okay=False))
@click.option("--promote/--no-promote", default=True, show_default=True, help="Let the new version serve at once.")
@root_option
@json_option
@guarded
def publish(bundles: tuple[Path, ...], promote: bool, root: Path, as_json: bool) -> None:
    """Publish bundles as the next versions of their users and modalities.

    Publishing a bundle again changes nothing and names the version that it became.

    \b
    Example:
      model-trainer registry publish runs/bundles/gesture_user123_r1 --no-promote
    """
    for bundle in bundles:
        _tell(Registry(root).publish(bundle, promote=promote), as_json)


@click.command()
@click.argument("archives", nargs=-1, required=True, type=click.Path(path_type=Path, exists=True, dir_okay=False))
@click.option("--promote/--no-promote", default=False, show_default=True, help="Let the version serve at once.")
@root_option
@json_option
@guarded
def restore(archives: tuple[Path, ...], promote: bool, root: Path, as_json: bool) -> None:
    """Publish versions again that `export` wrote as a tar, here or in another registry.

    Every file is compared with the archive's manifest; links, odd names and whatever else `export` does not write are
    refused. A version that is here already is left as it is.

    \b
    Examples:
      model-trainer registry restore backup.tar
      model-trainer registry restore backup/*.tar --promote --registry /srv/models
    """
    for path in archives:
        _tell(Registry(root).restore(path, promote=promote), as_json)


def _tell(done: Published, as_json: bool) -> None:
    if as_json:
        emit(
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


@click.command()
@click.argument("user")
@click.argument("modality")
@click.argument("version")
@click.option("--reason", default="", help="Why, for the history.")
@root_option
@guarded
def promote(user: str, modality: str, version: str, reason: str, root: Path) -> None:
    """Let a version serve, after checking its files.

    \b
    Example:
      model-trainer registry promote user123 gesture v3 --reason "checked with the family"
    """
    before = Registry(root).promote(user, modality, version, reason)
    instead = "" if before is None else f" (before: v{before})"
    click.echo(f"{user}/{modality}: {version} serves{instead}")


@click.command()
@click.argument("user")
@click.argument("modality")
@_reason
@root_option
@guarded
def rollback(user: str, modality: str, reason: str, root: Path) -> None:
    """Let the version serve again that served before.

    \b
    Example:
      model-trainer registry rollback user123 gesture --reason "confuses drink and stop"
    """
    before, now = Registry(root).rollback(user, modality, reason)
    click.echo(f"{user}/{modality}: v{now} serves again instead of v{before}")


@click.command()
@click.argument("user")
@click.argument("modality")
@click.argument("version")
@click.option("--reason", default="", help="Why, for the history.")
@click.option("--withdraw", is_flag=True, help="Also if it is the one that serves; none serves afterwards.")
@root_option
@guarded
def archive(user: str, modality: str, version: str, reason: str, withdraw: bool, root: Path) -> None:
    """Take a version out of use; `gc` may remove it later.

    \b
    Example:
      model-trainer registry archive user123 gesture v1 --reason "trained on wrong labels"
    """
    Registry(root).archive(user, modality, version, reason, withdraw=withdraw)
    click.echo(f"{user}/{modality}: {version} archived")


@click.command()
@click.argument("user")
@click.option("--reason", required=True, help="Why, without naming the person: it is kept.")
@click.option("--yes", is_flag=True, help="Do not ask.")
@root_option
@guarded
def erase(user: str, reason: str, yes: bool, root: Path) -> None:
    """Remove all of a user's models for good. Only when and why is kept.

    \b
    Example:
      model-trainer registry erase user123 --reason "consent withdrawn"
    """
    if not yes:
        click.confirm(f"Remove every model of {user} for good?", abort=True)
    done = Registry(root).erase(user, reason)
    click.echo(f"removed {done.versions} versions; tombstone {done.id}")


@click.command()
@click.option("--keep", type=click.IntRange(min=0), default=5, show_default=True, help="Archived versions to keep.")
@click.option("--dry-run", is_flag=True, help="Only say what would be removed.")
@root_option
@json_option
@guarded
def gc(keep: int, dry_run: bool, root: Path, as_json: bool) -> None:
    """Remove archived versions beyond the newest, and encoders that no version names.

    \b
    Examples:
      model-trainer registry gc --keep 3 --dry-run
      model-trainer registry gc --keep 3
    """
    with Console(stderr=True).status("looking for archived versions"):
        done = Registry(root).gc(keep, dry_run=dry_run)
    if as_json:
        emit({"versions": done.versions, "encoders": done.encoders, "bytes": done.size, "dry_run": dry_run})
        return
    for name in (*done.versions, *(f"encoder {sha256}" for sha256 in done.encoders)):
        click.echo(f"{'would remove' if dry_run else 'removed'} {name}")
    click.echo(f"{len(done.versions)} versions, {len(done.encoders)} encoders, {done.size / 1e6:.1f} MB")


@click.command()
@root_option
@json_option
@guarded
def doctor(root: Path, as_json: bool) -> None:
    """Find and mend what crashes left: unfinished publications, lost lines, dangling pointers.

    Ends with exit code 3 if something could not be mended. Files that changed are found by `verify`.

    \b
    Example:
      model-trainer registry doctor
    """
    with Console(stderr=True).status("examining") as progress:
        found = Registry(root).doctor(lambda pair: progress.update(f"examining {pair}"))
    if as_json:
        emit([{"what": finding.what, "mended": finding.mended} for finding in found])
    else:
        for finding in found:
            click.echo(f"{'mended' if finding.mended else 'NOT MENDED'}: {finding.what}")
        click.echo(f"{len(found)} found, {sum(finding.mended for finding in found)} mended")
    if not all(finding.mended for finding in found):
        sys.exit(3)


@click.command()
@root_option
@guarded
def reindex(root: Path) -> None:
    """Rebuild model_registry.jsonl from the versions and their histories.

    \b
    Example:
      model-trainer registry reindex
    """
    with Console(stderr=True).status("reading all versions"):
        changed = Registry(root).reindex()
    click.echo("model_registry.jsonl rebuilt" if changed else "model_registry.jsonl was as it should be")
