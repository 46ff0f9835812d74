"""Writes the pages of `model-trainer check --html`: one file for each user, which its owner alone can read."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import click
from pydantic import ValidationError

from model_registry.commands.copies import remember_page
from model_registry.errors import RegistryError
from model_registry.languages import Language
from model_registry.location import ReadableRegistry
from model_registry.messages import list_names
from model_registry.names import Modality
from model_registry.storage.durable import ensure_folder, write_file_atomically
from model_registry.storage.entry import FILE_LIMIT
from shared.data.files import parse_json, read_bounded
from shared.errors import ConfigError
from shared.progress import Progress, silent
from shared.report.data_page import LoggedFindings, PageContents, data_page

_PRIVATE = 0o600


def write_pages(
    target: Path,
    users: Mapping[str, PageContents],
    *,
    modality: Modality | None = None,
    logs: Sequence[Path] = (),
    registry: ReadableRegistry | None = None,
    language: Language = "en",
    progress: Progress = silent,
) -> None:
    """Write the page of one user to a file `*.html`, or of each to a folder; `logs` and `registry` have audits.

    Raises ConfigError where a file is to hold several users, or a log or the target cannot be used.
    """
    single = target.suffix.lower() in (".html", ".htm")
    if single and len(users) != 1:
        several = f"holds the page of one user, but here are {list_names(list(users), 8)}" if users else "has no user"
        raise ConfigError(f"--html {target}: {several}; name a folder, or one user with --user")
    entries = [_findings_in(path) for path in logs]
    try:
        if not single:
            ensure_folder(target)
        for user, contents in users.items():
            mine = [entry for entry in entries if entry.user_id == user]
            if registry is not None:
                mine += _active_logs(registry, user, contents, {entry.modality for entry in mine})
            chosen = [entry for entry in mine if modality in (None, entry.modality)]
            page = data_page(replace(contents, logs=chosen, language=language), progress)
            path = target if single else target / f"{user}.html"
            write_file_atomically(path, page, mode=_PRIVATE)
            remember_page(user, path)
    except OSError as error:
        raise ConfigError(f"--html {target}: cannot be written: {error.strerror or error}") from None
    click.echo(f"wrote {target}", err=True)


def _active_logs(
    registry: ReadableRegistry, user: str, contents: PageContents, but: Iterable[str]
) -> Iterator[LoggedFindings]:
    """Yield what the training logs of the user's own active versions say, of modalities other than `but`."""
    for modality in sorted({record.example.modality for record in contents.used} - set(but)):
        try:
            with registry.open_version(user, modality, None) as version:
                if not version.fallback:
                    found = _findings_in(version.files["training_log"])
                    yield found.model_copy(update={"model_version": f"v{version.version}"})
        except (RegistryError, ConfigError) as error:
            click.echo(f"warning: {error}; the page shows no audit of {user}/{modality}", err=True)


def _findings_in(path: Path) -> LoggedFindings:
    """Return what a training log says of samples. Raises ConfigError for a file that is none."""
    try:
        return LoggedFindings.model_validate(parse_json(read_bounded(path, FILE_LIMIT)))
    except ValidationError as error:
        place = ".".join(map(str, error.errors()[0]["loc"])) or "(file)"
        reason = f"{place} is missing or not as a trainer writes it"
    except ValueError as error:
        reason = str(error)
    raise ConfigError(f"{path}: is no training log: {reason}")
