"""`model-trainer import`: brings what people have recorded into session folders of our own layout."""

from __future__ import annotations

from collections import Counter, defaultdict
from pathlib import Path
from typing import Any

import click

from model_registry.names import InvalidNameError, Modality, parse_name
from shared.data.import_sessions import Mode, Origin, SessionSplit, Summary, assign, find_samples, import_samples
from shared.data.import_sources import Columns, Findings
from shared.errors import DataError, Fault
from shared.progress import bar
from shared.schema_utils import LABEL_STATUSES
from shared.trainers import modality_names, parse_known_modality

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


@click.command("import", epilog=_EXAMPLES)
@click.argument("source", type=click.Path(exists=True, path_type=Path))
@click.option(
    "--data", required=True, type=click.Path(file_okay=False, path_type=Path), help="Data root to import into."
)
@click.option("--modality", required=True, callback=_modality, help=f"One of {', '.join(modality_names())}.")
@click.option("--user", callback=_name, help="Who communicates, where the source does not say.")
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
@click.option("--session", callback=_name, help="Put everything that names no session into this one.")
@click.option("--limit", type=click.IntRange(1), metavar="N", help="At most N samples a user, evenly over the labels.")
@click.option(
    "--labels",
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    help="Names for the labels: a line each (label is the line's number from 0), {label: name} or {name: [labels]}.",
)
@click.option("--split", "splits", multiple=True, help="Which part of a JSON file (train, test, …); can be repeated.")
@click.option("--label-column", help="Column or key of the label: a name, or a number from 0 where there is no header.")
@click.option("--text-column", help="Column or key of the text.")
@click.option("--session-column", help="Column or key of the session.")
@click.option("--user-column", help="Column or key of the user.")
@click.option("--frame-size", type=click.IntRange(1), metavar="D", help="A row is a sequence of frames of D numbers.")
@click.option("--encoding", callback=_name, help="What the numbers are. [default: vector_<D>_v1]")
@click.option("--performer", callback=_name, help="Who recorded or performed, e.g. carer01.")
@click.option("--labeler", callback=_name, help="Who gave the labels.")
@click.option("--label-status", type=click.Choice(LABEL_STATUSES), default="confirmed", show_default=True)
@click.option("--demo", is_flag=True, help="Mark as demo data, which training leaves out by default.")
@click.option("--link", is_flag=True, help="Hard links instead of copies: no space, but the originals must not change.")
@click.option("--replace", is_flag=True, help="Replace existing records that have another label, session or consent.")
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
    session: str | None,
    limit: int | None,
    labels: Path | None,
    splits: tuple[str, ...],
    label_column: str | None,
    text_column: str | None,
    session_column: str | None,
    user_column: str | None,
    frame_size: int | None,
    encoding: str | None,
    performer: str | None,
    labeler: str | None,
    label_status: Any,
    demo: bool,
    link: bool,
    replace: bool,
) -> None:
    """Import SOURCE into session folders: a folder of files, or a CSV, TSV, JSON or JSON lines file.

    Sessions matter: a model is evaluated on sessions that it was not trained on. Where the source names none, split
    it with --session-size or --blocks; where neighbours are unrelated (texts of many people), with --round-robin.
    Importing the same source again changes nothing.
    """
    if sum(option is not None for option in (session_size, blocks, round_robin, session)) > 1:
        raise click.UsageError("--session-size, --blocks, --round-robin and --session are mutually exclusive")
    if pattern is not None and not source.is_dir():
        raise click.UsageError("--pattern parses file names: it needs a folder as source")
    findings = find_samples(
        source,
        pattern=pattern,
        columns=Columns(label_column, text_column, session_column, user_column),
        splits=splits,
        frame_size=frame_size,
        labels=labels,
    )
    if not findings.samples:
        raise DataError([*findings.faults, Fault(str(source), None, "(samples)", _why_none(findings))])
    samples, faults = assign(findings, user, SessionSplit(session_size, blocks, round_robin, session), limit)
    origin = Origin(modality, consent, performer, labeler, label_status, demo, encoding)
    note = f"imported from {source.name}"
    mode = Mode(link, replace)
    summary = import_samples(data, samples, origin, mode, known_faults=faults, note=note, progress=bar)
    _show(summary, findings, consent)


def _why_none(findings: Findings) -> str:
    reasons = Counter(reason for _, reason in findings.skipped)
    if not reasons:
        return "no sample was found"
    counted = "; ".join(f"{count} x {reason}" for reason, count in reasons.most_common(3))
    return f"no sample was found; {counted}; for example {findings.skipped[0][0]!a}"


def _show(summary: Summary, findings: Findings, consent: bool) -> None:
    sessions: dict[str, set[str]] = defaultdict(set)
    labels: dict[str, set[str]] = defaultdict(set)
    samples: Counter[str] = Counter()
    for (user, session, label), count in summary.counts.items():
        sessions[user].add(session)
        labels[user].add(label)
        samples[user] += count
    width = max(len("user"), *map(len, samples))
    click.echo(f"{'user':<{width}}  samples  sessions  labels")
    for user in sorted(samples):
        click.echo(f"{user:<{width}}  {samples[user]:>7}  {len(sessions[user]):>8}  {len(labels[user]):>6}")
    click.echo(f"{summary.new} new, {summary.replaced} replaced, {summary.unchanged} unchanged")
    for reason, count in Counter(reason for _, reason in findings.skipped).most_common():
        name = next(name for name, other in findings.skipped if other == reason)
        click.echo(f"skipped: {count} x {reason}, for example {name!a}", err=True)
    alone = [user for user in sorted(sessions) if len(sessions[user]) == 1]
    if alone:
        click.echo(
            f"note: one session only for {', '.join(alone[:5])}: the model cannot be tested across sessions; "
            "see --session-size, --blocks and --round-robin",
            err=True,
        )
    if not consent:
        click.echo("note: imported without consent: training leaves these samples out", err=True)
