"""Commands that change what is published or which version is active."""

from __future__ import annotations

import sys
from pathlib import Path

import click
from rich.console import Console

from model_registry.commands.completion import published_modalities, published_users, published_versions
from model_registry.commands.options import (
    checking_options,
    emit,
    guarded,
    json_option,
    promote_settings,
    registry_option,
    signing_option,
)
from model_registry.location import WritableRegistry
from model_registry.messages import plain
from model_registry.promotion import PromotionPolicy
from model_registry.promotion import publish as publish_bundle
from model_registry.storage.publication import Publication

_reason = click.option("--reason", required=True, help="Why, for the history.")


@click.command()
@click.argument("bundles", nargs=-1, required=True, type=click.Path(path_type=Path, file_okay=False))
@click.option("--promote", is_flag=False, flag_value="always", **promote_settings())
@click.option("--no-promote", is_flag=True, hidden=True)
@registry_option("write")
@signing_option
@json_option
@guarded
def publish(
    bundles: tuple[Path, ...],
    promote: PromotionPolicy,
    no_promote: bool,
    registry: WritableRegistry,
    as_json: bool,
) -> None:
    """Publish bundles as the next versions of their users and modalities.

    A version becomes the active one if it is not worse than the active one on the samples that both were tested on.
    Publishing a bundle again changes nothing and prints the version that it became.

    \b
    Example:
      model-trainer registry publish runs/bundles/gesture_user123_r1 --promote never
    """
    if no_promote:
        click.echo("warning: --no-promote will be removed; write --promote never", err=True)
        promote = "never"
    for bundle in bundles:
        publication, promotion = publish_bundle(bundle, registry, promote)
        _print_publication(registry, publication, as_json, promotion.reason)


@click.command()
@click.argument("archives", nargs=-1, required=True, type=click.Path(path_type=Path, exists=True, dir_okay=False))
@click.option("--promote/--no-promote", default=False, show_default=True, help="Make the version the active one.")
@registry_option("write")
@checking_options
@signing_option
@json_option
@guarded
def restore(archives: tuple[Path, ...], promote: bool, registry: WritableRegistry, as_json: bool) -> None:
    """Publish versions again that `export` wrote as a tar, from this registry or another.

    Every file is compared with the archive's manifest; links, unexpected names and whatever else `export` does not
    write are refused. A version that the registry has already is left as it is.

    \b
    Examples:
      model-trainer registry restore backup.tar
      model-trainer registry restore backup/*.tar --promote --registry /srv/models
    """
    for path in archives:
        _print_publication(registry, registry.restore(path, promote=promote), as_json)


def _print_publication(registry: WritableRegistry, publication: Publication, as_json: bool, reason: str = "") -> None:
    """Print a version; `reason` says why it did not become the active one, where it did not."""
    entry = publication.entry
    path = f"{registry.address}/{entry.folder}"
    if as_json:
        emit(
            {
                "user_id": entry.user_id,
                "modality": entry.modality,
                "model_version": entry.model_version,
                "status": entry.status,
                "path": path,
                "created": publication.created,
            }
        )
    else:
        how = "published" if publication.created else "was published before"
        status = f"{entry.status}: {reason}" if reason and entry.status == "candidate" else entry.status
        click.echo(plain(f"{entry.user_id}/{entry.modality} {entry.model_version} {how} ({status}): {path}"))


@click.command()
@click.argument("user", shell_complete=published_users)
@click.argument("modality", shell_complete=published_modalities)
@click.argument("version", shell_complete=published_versions)
@click.option("--reason", default="", help="Why, for the history.")
@registry_option("write")
@signing_option
@guarded
def promote(user: str, modality: str, version: str, reason: str, registry: WritableRegistry) -> None:
    """Make a version the active one, after checking its files.

    \b
    Example:
      model-trainer registry promote user123 gesture v3 --reason "checked with the family"
    """
    before = registry.promote(user, modality, version, reason)
    earlier = "" if before is None else f" (before: v{before})"
    click.echo(f"{user}/{modality}: {version} is active{earlier}")


@click.command()
@click.argument("user", shell_complete=published_users)
@click.argument("modality", shell_complete=published_modalities)
@_reason
@registry_option("write")
@signing_option
@guarded
def rollback(user: str, modality: str, reason: str, registry: WritableRegistry) -> None:
    """Return to the version that was active before.

    \b
    Example:
      model-trainer registry rollback user123 gesture --reason "confuses drink and stop"
    """
    before, now = registry.rollback(user, modality, reason)
    click.echo(f"{user}/{modality}: v{now} is active again instead of v{before}")


@click.command()
@click.argument("user", shell_complete=published_users)
@click.argument("modality", shell_complete=published_modalities)
@click.argument("version", shell_complete=published_versions)
@click.option("--reason", default="", help="Why, for the history.")
@click.option("--withdraw", is_flag=True, help="Also if it is the active version; none is active afterwards.")
@registry_option("write")
@signing_option
@guarded
def archive(user: str, modality: str, version: str, reason: str, withdraw: bool, registry: WritableRegistry) -> None:
    """Take a version out of use; `gc` may remove it later.

    \b
    Example:
      model-trainer registry archive user123 gesture v1 --reason "trained on wrong labels"
    """
    registry.archive(user, modality, version, reason, withdraw=withdraw)
    click.echo(f"{user}/{modality}: {version} archived")


@click.command()
@click.argument("user", shell_complete=published_users)
@click.option("--reason", required=True, help="Why, without naming the person: it is kept.")
@click.option("--yes", is_flag=True, help="Do not ask.")
@registry_option("write")
@guarded
def erase(user: str, reason: str, yes: bool, registry: WritableRegistry) -> None:
    """Remove all of a user's models for good, and pooled models that were trained on them.

    What is kept is when and why, and a salted hash because of which nothing of the person is published again.
    `model-trainer erase` covers recordings, run folders, caches and exports too.

    \b
    Example:
      model-trainer registry erase user123 --reason "consent withdrawn"
    """
    if not yes:
        click.confirm(f"Remove every model of {user} for good?", abort=True)
    erased = registry.erase(user, reason)
    click.echo(f"removed {erased.versions} versions; tombstone {erased.id}")
    for name in erased.pooled:
        click.echo(f"removed {name}, which was trained on this person's data too")


@click.command()
@click.option("--keep", type=click.IntRange(min=0), default=5, show_default=True, help="Archived versions to keep.")
@click.option("--dry-run", is_flag=True, help="Only print what would be removed.")
@registry_option("write")
@json_option
@guarded
def gc(keep: int, dry_run: bool, registry: WritableRegistry, as_json: bool) -> None:
    """Remove archived versions beyond the newest, and encoders that no version names.

    \b
    Examples:
      model-trainer registry gc --keep 3 --dry-run
      model-trainer registry gc --keep 3
    """
    with Console(stderr=True).status("looking for archived versions"):
        removed = registry.gc(keep, dry_run=dry_run)
    if as_json:
        emit({"versions": removed.versions, "encoders": removed.encoders, "bytes": removed.size, "dry_run": dry_run})
        return
    for name in (*removed.versions, *(f"encoder {sha256}" for sha256 in removed.encoders)):
        click.echo(f"{'would remove' if dry_run else 'removed'} {name}")
    click.echo(f"{len(removed.versions)} versions, {len(removed.encoders)} encoders, {removed.size / 1e6:.1f} MB")


@click.command()
@registry_option("write")
@json_option
@guarded
def doctor(registry: WritableRegistry, as_json: bool) -> None:
    """Find and mend what crashes left: unfinished publications, lost lines, dangling pointers.

    Ends with exit code 3 if something could not be mended. Files that changed are found by `verify`.

    \b
    Example:
      model-trainer registry doctor
    """
    with Console(stderr=True).status("examining") as progress:
        findings = registry.doctor(lambda slot: progress.update(f"examining {slot}"))
    if as_json:
        emit([{"what": finding.what, "mended": finding.mended} for finding in findings])
    else:
        for finding in findings:
            click.echo(f"{'mended' if finding.mended else 'NOT MENDED'}: {finding.what}")
        click.echo(f"{len(findings)} found, {sum(finding.mended for finding in findings)} mended")
    if not all(finding.mended for finding in findings):
        sys.exit(3)


@click.command()
@registry_option("write")
@guarded
def reindex(registry: WritableRegistry) -> None:
    """Rebuild model_registry.jsonl from the versions and their histories.

    \b
    Example:
      model-trainer registry reindex
    """
    with Console(stderr=True).status("reading all versions"):
        changed = registry.reindex()
    click.echo("model_registry.jsonl rebuilt" if changed else "model_registry.jsonl was correct")
