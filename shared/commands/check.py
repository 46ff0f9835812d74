"""`model-trainer check`: validates a data root, reports every fault at once, and counts examples."""

from __future__ import annotations

import json
import os
import re
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import click
from pydantic import ValidationError

from model_registry.commands.options import registry_settings
from model_registry.languages import LANGUAGES, Language
from model_registry.location import ReadableRegistry
from model_registry.messages import list_names
from model_registry.names import InvalidNameError, Modality, parse_name
from shared.commands.completion import installed_modalities, recorded_users
from shared.commands.data_pages import write_pages
from shared.commands.file_checks import FileCheck, check_files, wrong_kind
from shared.data.files import DataRoot, RefusedFileError
from shared.data.identity import contradictions
from shared.data.records import Dropped, Reading, Record
from shared.data.samples import encoding_faults, label_faults, verified
from shared.data_loader import DataFilter, DataFormat, choose, known_users, read_user
from shared.errors import DataError, Fault
from shared.progress import Progress, bar, silent
from shared.report.data_page import PageContents
from shared.schema_utils import Example
from shared.trainers import parse_known_modality

_EXAMPLES = """
\b
Examples:
  model-trainer check data
  model-trainer check data --user anna --modality gesture
  model-trainer check a3cp --data-format a3cp --json
  model-trainer check data --user anna --html anna.html --registry models
"""


_MOST_OF_A_KIND = 5  # faults of one kind that are all listed
_EXAMPLES_OF_A_KIND = 3  # that are listed where there are more


@dataclass(frozen=True)
class Count:
    """How much of one modality one user has. `used` is what training takes by default, and by label and session."""

    samples: int
    used: int
    labels: dict[str, int]
    sessions: dict[str, int]
    left_out: dict[str, int]


@dataclass(frozen=True)
class CheckReport:
    """What a data root holds, and what is wrong with it; `of_users` has the samples and faults of each user."""

    faults: tuple[Fault, ...]
    warnings: tuple[Fault, ...]
    users: dict[str, dict[Modality, Count]] = field(default_factory=dict)
    of_users: dict[str, PageContents] = field(default_factory=dict)

    def to_json(self) -> str:
        """Return faults, warnings and counts as one JSON object."""
        values = {name: [asdict(fault) for fault in getattr(self, name)] for name in ("faults", "warnings")}
        users = {
            user: {modality: asdict(count) for modality, count in counts.items()} for user, counts in self.users.items()
        }
        return json.dumps({**values, "users": users}, ensure_ascii=False)


def check_data(
    root: Path,
    users: Sequence[str] = (),
    modality: Modality | None = None,
    data_filter: DataFilter | None = None,
    *,
    data_format: DataFormat = "auto",
    minimum_per_label: int = 2,
    decode: bool = True,
    progress: Progress = silent,
) -> CheckReport:
    """Check every file of the users (default: all) and return counts, warnings and all faults.

    With `decode` each media file is decoded as its trainer would decode it.

    A fault is what a trainer would refuse, and also a missing or changed file of an example that would be left out.
    """
    data_filter = data_filter or DataFilter()
    try:
        data_root = DataRoot.at(root)
    except RefusedFileError as refused:
        return CheckReport((Fault(str(root), None, "data", str(refused)),), ())
    faults = [] if users else _bad_names(root)
    chosen = list(dict.fromkeys(users)) or known_users(root)
    if not chosen:
        faults.append(
            Fault(str(root), None, "users", "there are no data of any user; `model-trainer import` brings some in")
        )
    check_all = partial(check_files, progress=progress) if decode else None
    checks: dict[str, PageContents] = {}
    counts: dict[str, dict[Modality, Count]] = {}
    for user in chosen:
        reading = read_user(data_root, user, modality, data_filter, data_format)
        place = str(root / "users" / user)
        checks[user], counts[user] = _check_user(
            user, data_root, reading, data_filter, minimum_per_label, place, check_all
        )
    faults += [fault for check in checks.values() for fault in check.faults]
    return CheckReport(
        faults=DataError(dict.fromkeys(faults)).faults,
        warnings=tuple(warning for check in checks.values() for warning in check.warnings),
        users=counts,
        of_users=checks,
    )


def _check_user(
    user: str,
    root: DataRoot,
    reading: Reading,
    data_filter: DataFilter,
    minimum: int,
    place: str,
    check_all: Callable[[Modality, Iterable[tuple[Path, Example]], int], Iterator[FileCheck]] | None,
) -> tuple[PageContents, dict[Modality, Count]]:
    faults, warnings = list(reading.faults), list(reading.warnings)
    files = {
        (record.path, record.line): sample.path
        for record in reading.records
        if (sample := verified(root, record, faults)) is not None and sample.path is not None
    }
    by_modality: dict[Modality, list[Record]] = defaultdict(list)
    for record in reading.records:
        by_modality[record.example.modality].append(record)
    counts: dict[Modality, Count] = {}
    every: list[Record] = []
    left_out = list(reading.ledger)
    for modality, records in sorted(by_modality.items()):
        ledger: list[Dropped] = []
        used = choose(Reading(records=records), data_filter, ledger, faults)
        every += used
        left_out += ledger
        faults += label_faults(used, modality, minimum, ledger, place, others=bool(faults))
        faults += encoding_faults(used, modality, place)
        faults += [
            record.fault("modality", reason) for record in used if (reason := wrong_kind(modality, record.example))
        ]
        counts[modality] = Count(
            samples=len(records),
            used=len(used),
            labels=dict(sorted(Counter(record.example.label for record in used).items())),
            sessions=dict(sorted(Counter(record.example.session_id for record in used).items())),
            left_out=dict(Counter(dropped.reason for dropped in ledger).most_common()),
        )
        contradicted, repeated = contradictions(used)
        faults += contradicted
        warnings += repeated
        if check_all is None:
            continue
        media = [record for record in used if record.example.media is not None and (record.path, record.line) in files]
        of_media = ((files[record.path, record.line], record.example) for record in media)
        checked = check_all(modality, of_media, len(media))
        for record, result in zip(media, checked, strict=True):
            name = files[record.path, record.line].name
            if result.refusal is not None:
                faults.append(record.fault("media", f"{name}: {result.refusal}"))
            warnings += [record.fault("media", f"{name}: {note}") for note in result.notes]
    found = DataError(dict.fromkeys(faults)).faults
    return PageContents(user, tuple(every), files, tuple(left_out), found, tuple(warnings)), counts


def _bad_names(root: Path) -> list[Fault]:
    """Return a fault for each folder in `users/` whose name is not valid for a user: its data would never be read."""
    faults = []
    users = root / "users"
    names = sorted(entry.name for entry in os.scandir(users) if entry.is_dir()) if users.is_dir() else []
    for name in names:
        try:
            if name[0] != ".":
                parse_name(name, "user id")
        except InvalidNameError as refused:
            faults.append(Fault(str(users), None, "user_id", str(refused)))
    return faults


@click.command("check", epilog=_EXAMPLES)
@click.argument("data", type=click.Path(path_type=Path))
@click.option(
    "--user", "users", multiple=True, shell_complete=recorded_users, help="Check this user only; can be repeated."
)
@click.option("--modality", shell_complete=installed_modalities, help="Check this modality only.")
@click.option("--session", "sessions", multiple=True, help="Count these sessions only; can be repeated.")
@click.option("--demo-data/--no-demo-data", default=False, help="Whether demo data count as used.")
@click.option(
    "--consent-by",
    metavar="NAME",
    help="Who states that consent was given for what A3CP's logs say nothing of.",
)
@click.option("--data-format", type=click.Choice(["auto", "own", "a3cp"]), default="auto", show_default=True)
@click.option("--minimum-per-label", type=click.IntRange(1), default=2, show_default=True)
@click.option("--decode/--no-decode", default=True, show_default=True, help="Decode every media file.")
@click.option(
    "--html",
    "page",
    type=click.Path(path_type=Path),
    metavar="FILE|FOLDER",
    help="Also write a page to look at and listen to: FILE.html of one user, or a FOLDER with a page of each.",
)
@click.option(
    "--training-log",
    "logs",
    multiple=True,
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    help="A training_log.json, whose audit the page shows on top; can be repeated.",
)
@click.option("--registry", **registry_settings("read", help="Take the logs of active versions.", default=False))
@click.option("--lang", "language", type=click.Choice(LANGUAGES), default="en", help="Language of the page of --html.")
@click.option("--verbose", is_flag=True, help="List every fault, also where many are of one kind.")
@click.option("--json", "as_json", is_flag=True, help="One JSON object on standard output.")
@click.pass_context
def check_command(
    context: click.Context,
    data: Path,
    users: tuple[str, ...],
    modality: str | None,
    sessions: tuple[str, ...],
    demo_data: bool,
    consent_by: str | None,
    data_format: Any,
    minimum_per_label: int,
    decode: bool,
    page: Path | None,
    logs: tuple[Path, ...],
    registry: ReadableRegistry | None,
    language: Language,
    verbose: bool,
    as_json: bool,
) -> None:
    """Check the data root DATA: every line, every file and its hash, and whether training can decode it.

    Ends with 3 where anything is wrong.

    Each fault is one line, `path:line: field: reason`; of many faults of one kind three are listed, with their number.
    The page of --html shows the samples by label and session, and on top what is wrong: faults, copies, and what the
    audit of the last training found. It holds recordings, so only you can read the file.
    """
    if page is None and (logs or registry is not None):
        raise click.UsageError("--training-log and --registry are for the page of --html")
    if registry is not None:
        next(iter(registry.entries()), None)  # refused now, where there is none
    try:
        known = None if modality is None else parse_known_modality(modality)
        for user in users:
            parse_name(user, "user id")
    except InvalidNameError as refused:
        raise click.UsageError(str(refused)) from None
    report = check_data(
        data,
        users,
        known,
        _filter(sessions, demo_data, consent_by),
        data_format=data_format,
        minimum_per_label=minimum_per_label,
        decode=decode,
        progress=bar,
    )
    if page is not None:
        write_pages(
            page, report.of_users, modality=known, logs=logs, registry=registry, language=language, progress=bar
        )
    if as_json:
        click.echo(report.to_json())
    else:
        _show(report, verbose)
    if report.faults:
        context.exit(DataError.exit_code)


def _filter(sessions: Sequence[str], demo_data: bool, consent_by: str | None) -> DataFilter:
    """Return what training would use by default. Raises UsageError for a name that cannot be recorded."""
    try:
        return DataFilter(sessions=tuple(sessions) or None, include_demo=demo_data, consent_by=consent_by)
    except ValidationError:
        raise click.UsageError("--consent-by: give a name of 1 to 128 printable characters") from None


def _show(report: CheckReport, verbose: bool) -> None:
    for user, modalities in report.users.items():
        for modality, count in modalities.items():
            left_out = "".join(f", {number} left out: {reason}" for reason, number in count.left_out.items())
            click.echo(f"{user}  {modality}: {count.samples} samples, {count.used} used{left_out}")
            if count.used:
                click.echo(f"    labels    {_listed(count.labels)}")
                click.echo(f"    sessions  {_listed(count.sessions)}")
    for warning in report.warnings:
        click.echo(f"warning: {warning}", err=True)
    for line in _fault_lines(report.faults, verbose):
        click.echo(line)
    number = len(report.faults)
    click.echo(f"{number} fault{'s' * (number != 1)}" if number else "no faults")


def _fault_lines(faults: Sequence[Fault], verbose: bool) -> Iterator[str]:
    """Yield a line for each fault; of many of one kind in one file only the first three, and how many there are."""
    kinds = Counter(map(_kind, faults))
    shown: Counter[tuple[str, str, str]] = Counter()
    for fault in faults:
        kind = _kind(fault)
        shown[kind] += 1
        if verbose or kinds[kind] <= _MOST_OF_A_KIND or shown[kind] <= _EXAMPLES_OF_A_KIND:
            yield str(fault)
        elif shown[kind] == kinds[kind]:
            rest = kinds[kind] - _EXAMPLES_OF_A_KIND
            yield f"{fault.path}: {fault.field}: {rest} more of this kind; --verbose lists them"


def _kind(fault: Fault) -> tuple[str, str, str]:
    """Return a fault's file, field and reason without names and numbers."""
    name, colon, reason = fault.reason.partition(": ")
    words = reason if colon and Path(name).suffix else fault.reason
    return fault.path, fault.field, re.sub(r"'[^']*'|\d+(?:[.:]\d+)*", "", words)


def _listed(counts: dict[str, int]) -> str:
    return list_names([f"{name} {number}" for name, number in counts.items()], 12)
