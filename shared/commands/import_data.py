"""`model-trainer import`: brings what people have recorded into session folders of our own layout."""

from __future__ import annotations

import sys
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import replace as changed
from pathlib import Path
from typing import Any

import click

from model_registry.messages import list_names
from model_registry.names import InvalidNameError, Modality, parse_name
from shared.commands.completion import installed_modalities, recorded_users
from shared.commands.file_checks import check_files
from shared.commands.tables import print_table
from shared.data.files import RefusedFileError
from shared.data.formats.archives import SUFFIX, unpacked
from shared.data.formats.raw import Columns, Findings, ReadOptions
from shared.data.import_sessions import SessionSplit, assign, find_samples
from shared.data.import_writing import CONTRADICTIONS, UNUSABLE, Mode, Origin, Summary, import_samples
from shared.errors import DataError, Fault
from shared.progress import bar
from shared.schema_utils import LABEL_STATUSES, Example
from shared.trainers import Trainer, all_trainers, modality_names, parse_known_modality

_EXAMPLES = """
\b
Examples:
  A folder for each label, split into sessions of ten takes a label:
    model-trainer import clips --data data --modality sound --user anna --session-size 10 --consent
  File names that hold label, user and take:
    model-trainer import recordings --data data --modality sound --consent \\
      --pattern '(?P<label>\\d)_(?P<user>\\w+)_(?P<take>\\d+)\\.wav' --session-size 10
  A table of label and numbers, each label in ten contiguous blocks:
    model-trainer import keypoint.csv --data data --modality gesture --user anna --blocks 10 \\
      --labels names.csv --consent
  Texts, a thousand of them, with labels grouped into contexts:
    model-trainer import texts.json --data data --modality speech --user anna --split train \\
      --labels contexts.json --limit 1000 --round-robin 5 --consent
"""


def _modality(_context: click.Context, _parameter: click.Parameter, value: str) -> Modality:
    try:
        return parse_known_modality(value)
    except InvalidNameError as refused:
        raise click.BadParameter(str(refused)) from None


def _name(_context: click.Context, parameter: click.Parameter, value: str | None) -> str | None:
    try:
        return None if value is None else parse_name(value, f"{parameter.name} id")
    except InvalidNameError as refused:
        raise click.BadParameter(str(refused)) from None


def _renames(_context: click.Context, _parameter: click.Parameter, values: tuple[str, ...]) -> dict[str, str]:
    renames = {}
    for value in values:
        old, equals, new = value.partition("=")
        if not equals or not old.strip() or not new.strip():
            raise click.BadParameter(f"{value!a}: give OLD=NEW")
        renames[old.strip()] = new.strip()
    return renames


@click.command("import", epilog=_EXAMPLES)
@click.argument("source", type=click.Path(exists=True, path_type=Path))
@click.option(
    "--data", required=True, type=click.Path(file_okay=False, path_type=Path), help="Data root to import into."
)
@click.option(
    "--modality",
    required=True,
    callback=_modality,
    shell_complete=installed_modalities,
    help=f"One of {', '.join(modality_names())}.",
)
@click.option(
    "--user", callback=_name, shell_complete=recorded_users, help="Who communicates, where the source does not say."
)
@click.option(
    "--consent/--no-consent",
    required=True,
    help="Whether the people in the recordings agreed to training. Without consent nothing is trained on them.",
)
@click.option("--pattern", metavar="REGEX", help="Parses file names: groups label, user, session, take.")
@click.option("--session-size", type=click.IntRange(1), metavar="N", help="Split takes into sessions, N of each label.")
@click.option(
    "--blocks", type=click.IntRange(1), metavar="N", help="Split each label's samples into N blocks in order."
)
@click.option(
    "--round-robin",
    type=click.IntRange(1),
    metavar="N",
    help="Distribute each label's samples over N sessions in turn.",
)
@click.option(
    "--session-by",
    type=click.Choice(["day"]),
    help="Make each day of recording a session, by EXIF, container, name or file time.",
)
@click.option("--session", callback=_name, help="Put everything that names no session into this one.")
@click.option("--limit", type=click.IntRange(1), metavar="N", help="At most N samples a user, evenly over the labels.")
@click.option(
    "--labels",
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    help="Names for the labels: a line each (label is the line's number from 0), {label: name} or {name: [labels]}.",
)
@click.option("--label", help="The label of everything in a source that names none, such as one file.")
@click.option(
    "--rename", "renamed", multiple=True, callback=_renames, metavar="OLD=NEW", help="Give a label another name."
)
@click.option(
    "--levels",
    metavar="LEVELS",
    help="What each level of folders is, from the top: label, session, user or -, such as session/label.",
)
@click.option("--split", "splits", multiple=True, help="Which part of a JSON file (train, test, …); can be repeated.")
@click.option("--label-column", help="Column or key of the label: a name, or a number from 0 where there is no header.")
@click.option("--text-column", help="Column or key of the text.")
@click.option("--session-column", help="Column or key of the session.")
@click.option("--user-column", help="Column or key of the user.")
@click.option("--path-column", help="Column or key of the file that a row is about.")
@click.option("--sequence-column", help="Column that says which rows are the frames of one sequence.")
@click.option("--ignore-column", "ignored", multiple=True, help="A column that is no feature; can be repeated.")
@click.option(
    "--media",
    type=click.Path(exists=True, path_type=Path),
    help="The folder of the files that a table names, or the recording that annotations are about.",
)
@click.option(
    "--missing",
    type=click.Choice(["refuse", "zero"]),
    default="refuse",
    show_default=True,
    help="What to do with numbers that are empty or NaN.",
)
@click.option("--frame-size", type=click.IntRange(1), metavar="D", help="A row is a sequence of frames of D numbers.")
@click.option("--encoding", callback=_name, help="What the numbers are. [default: vector_<D>_v1]")
@click.option("--performer", callback=_name, help="Who recorded or performed, e.g. carer01.")
@click.option("--labeler", callback=_name, help="Who gave the labels.")
@click.option("--label-status", type=click.Choice(LABEL_STATUSES), default="confirmed", show_default=True)
@click.option("--demo", is_flag=True, help="Mark as demo data, which training leaves out by default.")
@click.option("--link", is_flag=True, help="Hard links instead of copies: no space, but the originals must not change.")
@click.option("--replace", is_flag=True, help="Replace existing records that have another label, session or consent.")
@click.option(
    "--leave-out",
    multiple=True,
    type=click.Choice([UNUSABLE, CONTRADICTIONS]),
    help="Import the others, where files cannot be decoded or stand under two labels; can be repeated.",
)
@click.option("--use-partial", is_flag=True, help="Use recordings that were cut short as far as they are whole.")
@click.option("--decode/--no-decode", default=True, show_default=True, help="Decode every media file beforehand.")
@click.option("--dry-run", is_flag=True, help="Show what would be imported, and write nothing.")
@click.option("--as-is", is_flag=True, help="Import although the structure of the source is doubtful.")
def import_command(
    source: Path,
    data: Path,
    modality: Modality,
    user: str | None,
    consent: bool,
    pattern: str | None,
    session_size: int | None,
    blocks: int | None,
    round_robin: int | None,
    session_by: str | None,
    session: str | None,
    limit: int | None,
    labels: Path | None,
    label: str | None,
    renamed: dict[str, str],
    levels: str | None,
    splits: tuple[str, ...],
    label_column: str | None,
    text_column: str | None,
    session_column: str | None,
    user_column: str | None,
    path_column: str | None,
    sequence_column: str | None,
    ignored: tuple[str, ...],
    media: Path | None,
    missing: Any,
    frame_size: int | None,
    encoding: str | None,
    performer: str | None,
    labeler: str | None,
    label_status: Any,
    demo: bool,
    link: bool,
    replace: bool,
    leave_out: tuple[str, ...],
    use_partial: bool,
    decode: bool,
    dry_run: bool,
    as_is: bool,
) -> None:
    """Import SOURCE: a folder or zip of files, a table, texts with intents, annotations, or one file.

    A summary shows what was understood. Structure that is probably a mistake (folders called train and test, labels
    that differ in case only) is asked about on a terminal, and refused elsewhere unless --as-is is given.

    Sessions matter: a model is evaluated on sessions that it was not trained on. Where the source names none, split
    it with --session-size or --blocks; where neighbours are unrelated (texts of many people), with --round-robin.
    A sample is known by its content: importing it again changes nothing, also where its file was renamed or moved.
    """
    if sum(option is not None for option in (session_size, blocks, round_robin, session_by, session)) > 1:
        exclusive = "--session-size, --blocks, --round-robin, --session-by and --session"
        raise click.UsageError(f"{exclusive} are mutually exclusive")
    packed = source.suffix.lower() == SUFFIX
    if pattern is not None and not source.is_dir() and not packed:
        raise click.UsageError("--pattern parses file names: it needs a folder as source")
    if link and packed:
        raise click.UsageError("--link needs files of their own: unpack the zip file, and import the folder")
    if use_partial and not decode:
        raise click.UsageError("--use-partial needs --decode, which finds out what is whole")
    trainer = all_trainers().get(modality)  # None in an image without it
    options = ReadOptions(
        columns=Columns(
            label_column, text_column, session_column, user_column, path_column, sequence_column, tuple(ignored)
        ),
        splits=splits,
        frame_size=frame_size,
        missing=missing,
        label=label,
        pattern=pattern,
        levels=tuple(levels.split("/")) if levels else (),
        media=media,
        accepts=ReadOptions().accepts if trainer is None else _accepted(trainer, encoding),
    )
    with ExitStack() as stack:
        try:
            folder = stack.enter_context(unpacked(source))
        except RefusedFileError as refused:
            raise DataError([Fault(str(source), None, "(file)", str(refused))]) from None
        stack.enter_context(_named_as(folder, source))
        findings = find_samples(folder, options, labels=labels, renamed=renamed)
        if not findings.samples:
            raise DataError(findings.faults or [Fault(str(source), None, "(samples)", _why_none(findings))])
        samples, faults = assign(
            findings, user, SessionSplit(session_size, blocks, round_robin, session, session_by == "day"), limit
        )
        findings.samples.clear()  # each is in `samples`, with its user and session: thousands are held once
        _settle_doubts(findings, faults, as_is)
        origin = Origin(modality, consent, performer, labeler, label_status, demo, encoding)
        note = f"imported from {source.name}"
        mode = Mode(link, replace, frozenset(leave_out), dry_run, use_partial)

        def check(files: Iterable[tuple[Path, Example]], count: int) -> Iterator[tuple[str | None, tuple[str, ...]]]:
            for checked in check_files(modality, files, count, progress=bar):
                yield checked.refusal, checked.notes

        summary = import_samples(
            data, samples, origin, mode, known_faults=faults, note=note, check=check if decode else None, progress=bar
        )
        findings.notes[:] = [note.replace(str(folder), str(source)) for note in findings.notes]
        left_out = tuple(line.replace(str(folder), str(source)) for line in summary.left_out)
        warnings = tuple(_renamed(warning, folder, source) for warning in summary.warnings)
        _show(changed(summary, left_out=left_out, warnings=warnings), findings, consent, dry_run, data)


@contextmanager
def _named_as(folder: Path, source: Path) -> Iterator[None]:
    """Let faults name the archive that the person gave, and not the folder that it is unpacked to."""
    try:
        yield
    except DataError as error:
        raise DataError([_renamed(fault, folder, source) for fault in error.faults]) from None


def _renamed(fault: Fault, folder: Path, source: Path) -> Fault:
    old, new = str(folder), str(source)
    return Fault(fault.path.replace(old, new), fault.line, fault.field, fault.reason.replace(old, new))


def _accepted(trainer: Trainer, encoding: str | None) -> frozenset[str]:
    """Return what is looked for in a source.

    Numbers are features where `--encoding` says so, or where the modality takes nothing else or makes them itself.
    """
    if trainer.extracts:
        return trainer.accepts
    features = frozenset(["features"])
    return features if encoding else (trainer.accepts - features) or features


def _settle_doubts(findings: Findings, faults: list[Fault], as_is: bool) -> None:
    """Ask about doubtful structure where somebody can answer. Raises DataError where it is not confirmed."""
    if not findings.doubts or as_is:
        return
    if sys.stdin.isatty() and sys.stderr.isatty() and not faults:
        for doubt in findings.doubts:
            click.echo(str(doubt), err=True)
        if click.confirm("Import it as it is?", default=False, err=True):
            return
    hint = "; --as-is imports it all the same"
    raise DataError([*faults, *(Fault(d.path, d.line, d.field, d.reason + hint) for d in findings.doubts)])


def _why_none(findings: Findings) -> str:
    reasons = Counter(reason for _, reason in findings.skipped)
    if not reasons:
        return "no sample was found"
    counted = "; ".join(f"{count} x {reason}" for reason, count in reasons.most_common(3))
    return f"no sample was found; {counted}; for example {findings.skipped[0][0]!a}"


def _show(summary: Summary, findings: Findings, consent: bool, dry_run: bool, data: Path) -> None:
    """Print what was understood: a line for each user and label, then notes and warnings."""
    labels: dict[str, Counter[str]] = defaultdict(Counter)
    sessions: dict[str, Counter[str]] = defaultdict(Counter)
    of_label: dict[tuple[str, str], set[str]] = defaultdict(set)
    for (user, session, label), count in summary.counts.items():
        labels[user][label] += count
        sessions[user][session] += count
        of_label[user, label].add(session)
    print_table(
        ("user", "label", "samples", "sessions"),
        [
            (user, label, count, len(of_label[user, label]))
            for user, counts in sorted(labels.items())
            for label, count in sorted(counts.items())
        ],
    )
    for user, counts in sorted(sessions.items()):
        listed = list_names([f"{session} {count}" for session, count in sorted(counts.items())], 8)
        click.echo(f"{user}: {counts.total()} samples, {len(labels[user])} labels, {len(counts)} sessions: {listed}")
    for note in (*summary.encodings, *findings.notes):
        click.echo(note, err=note.startswith("warning"))
    would = "would be " if dry_run else ""
    click.echo(f"{would}{summary.new} new, {summary.replaced} replaced, {summary.unchanged} unchanged")
    if summary.change is not None:
        for user in sorted(labels):
            click.echo(f"take it back with: model-trainer data undo --data {data} --user {user} {summary.change}")
    for reason, count in Counter(reason for _, reason in findings.skipped).most_common():
        name = next(name for name, other in findings.skipped if other == reason)
        click.echo(f"skipped: {count} x {reason}, for example {name!a}", err=True)
    for line in summary.left_out:
        click.echo(f"left out: {line}", err=True)
    for warning in summary.warnings:
        click.echo(f"warning: {warning}", err=True)
    alone = [user for user in sorted(sessions) if len(sessions[user]) == 1]
    if alone:
        click.echo(
            f"note: one session only for {', '.join(alone[:5])}: the model cannot be tested across sessions; "
            "see --session-size, --session-by, --blocks and --round-robin",
            err=True,
        )
    if not consent:
        click.echo("note: imported without consent: training leaves these samples out", err=True)
