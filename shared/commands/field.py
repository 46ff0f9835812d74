"""`model-trainer field`: what published models do in use, from what the partner accepted or corrected."""

from __future__ import annotations

import json
from bisect import bisect_right
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import click

from model_registry.commands.completion import published_users
from model_registry.commands.options import checking_options, registry_option
from model_registry.errors import CorruptError, DocumentError, NotFoundError
from model_registry.location import ReadableRegistry
from model_registry.messages import list_names
from model_registry.names import InvalidNameError, Modality, parse_modality
from model_registry.storage.entry import FILE_LIMIT, RegistryEntry, parse_json
from shared.commands.completion import installed_modalities
from shared.commands.tables import print_table
from shared.data.a3cp import read_decisions
from shared.data.a3cp_rows import PartnerDecision
from shared.data.files import DataRoot, RefusedFileError
from shared.data_loader import known_users
from shared.errors import ConfigError, DataError, Fault
from shared.report.field import FALSE_ALARMS, Counts, Decision, Drift, FieldReport, Promise, field_report
from shared.report.intervals import Interval
from shared.schema_utils import TrainingRequest
from shared.trainers import find_trainer, modality_names

_POLICY = "field-1"  # names this rule in a request; another rule will get another name
_REASON = 1000  # characters of a request's reason
_MANY = 5  # decisions of a label that the model was not trained on, from which on it is worth recording


@dataclass(frozen=True)
class VersionInUse:
    """A version with what it did in use and what to do about it."""

    entry: RegistryEntry
    promise: Promise
    report: FieldReport
    advice: tuple[str, ...]


@click.command("field")
@click.option("--data", type=click.Path(path_type=Path, file_okay=False), required=True, help="A3CP's folder.")
@registry_option("read")
@checking_options
@click.option("--user", "users", multiple=True, shell_complete=published_users, help="Of this user only; repeatable.")
@click.option("--modality", shell_complete=installed_modalities, metavar=f"[{'|'.join(modality_names())}]")
@click.option(
    "--false-alarms",
    type=click.FloatRange(min=0, max=1, min_open=True, max_open=True),
    default=FALSE_ALARMS,
    show_default=True,
    help="False alarms of one model that are allowed in a year.",
)
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object a version.")
@click.option(
    "--requests",
    is_flag=True,
    help="Print only A3CP's retraining requests, one JSON line for each active model whose drift lasts.",
)
@click.option(
    "--propose",
    type=click.IntRange(min=1),
    metavar="N",
    help="Print only the N samples of each user and modality that are worth confirming first.",
)
def field_command(
    data: Path,
    registry: ReadableRegistry,
    users: tuple[str, ...],
    modality: str | None,
    false_alarms: float,
    as_json: bool,
    requests: bool,
    propose: int | None,
) -> None:
    """Compare what published models do in use with what their training logs promised: by version, week and label.

    A3CP's training_examples.jsonl says what was predicted and what the partner accepted or corrected. Each prediction
    counts for the version that was active then. A drift is a figure of one session, or of the last five, that is worse
    than the training log's interval allows (exact binomial test); below each table stands what to do about it.

    \b
    Examples:
      model-trainer field --data a3cp --registry models
      model-trainer field --data a3cp --registry models --user anna --modality gesture --json
      model-trainer field --data a3cp --registry models --user anna --propose 10
      model-trainer field --data a3cp --registry models --requests | model-trainer batch --data a3cp --requests -
    """
    if as_json and requests:
        raise click.UsageError("--requests prints requests alone; leave out --json")
    if propose is not None and requests:
        raise click.UsageError("--propose and --requests each print one thing alone; leave out one of them")
    wanted = None if modality is None else parse_modality(modality)
    try:
        root = DataRoot.at(data)
    except RefusedFileError as refused:
        raise ConfigError([Fault(str(data), None, "--data", str(refused))]) from None
    next(iter(registry.entries()), None)  # refused now, where there is none
    faults: list[Fault] = []
    for user in users or _users(data):
        if propose is not None:
            from shared.commands.proposals import print_proposals  # which imports what learns

            print_proposals(root, user, wanted, registry, propose, as_json, faults)
            continue
        for own in _decisions(root, user, faults, wanted).items():
            for version in versions_in_use(registry, user, *own, false_alarms):
                if requests:
                    _print_request(version)
                else:
                    _print_version(version, as_json)
    if faults:
        raise DataError(faults)


def _users(data: Path) -> list[str]:
    return sorted({*known_users(data), *known_users(data / "data")})


def _decisions(
    root: DataRoot, user: str, faults: list[Fault], wanted: Modality | None
) -> dict[Modality, list[PartnerDecision]]:
    """Return the user's decisions by modality; rows of an unknown one are faults."""
    found: dict[Modality, list[PartnerDecision]] = defaultdict(list)
    for row in read_decisions(root, user, faults):
        try:
            modality = parse_modality(row.modality)
        except InvalidNameError as refused:
            faults.append(Fault(str(root.path), None, f"modality of {row.record_id}", str(refused)))
            continue
        if wanted in (None, modality):
            found[modality].append(row)
    return dict(sorted(found.items()))


def versions_in_use(
    registry: ReadableRegistry, user: str, modality: Modality, rows: Sequence[PartnerDecision], false_alarms: float
) -> Iterator[VersionInUse]:
    """Yield each version of the user that made one of the predictions `rows`, which are in the order of time."""
    entries = {entry.version: entry for entry in registry.entries(user=user, modality=modality)}
    removed = [f"v{number}" for number in range(1, max(entries, default=0)) if number not in entries]
    if removed and any(row.model_version is None for row in rows):
        reason = "predictions that they made and that name no version may count for the version before"
        click.echo(f"warning: {user}/{modality}: {list_names(removed, 5)} removed; {reason}", err=True)
    times, active = _active_by_time(registry, entries.values())
    made: dict[int, list[Decision]] = defaultdict(list)
    for row in rows:
        version = _numbered(row.model_version) if row.model_version else active[bisect_right(times, row.timestamp)]
        if version in entries:
            session = row.session_id or f"{row.timestamp:%Y-%m-%d}"
            made[version].append(Decision(row.timestamp, session, row.predicted_label, row.final_label))
    before: VersionInUse | None = None
    for version in sorted(made):
        entry = entries[version]
        promise = _promise(registry, entry)
        report = field_report(made[version], entry.labels, promise, false_alarms)
        before = VersionInUse(entry, promise, report, tuple(_advice(entry, report, before)))
        yield before


def _numbered(version: str) -> int | None:
    digits = version.removeprefix("v")
    return int(digits) if digits.isdecimal() else None


def _active_by_time(
    registry: ReadableRegistry, entries: Iterable[RegistryEntry]
) -> tuple[list[datetime], list[int | None]]:
    """Return when the active version changed, and which one was active before the first change and after each."""
    events = {
        (datetime.fromisoformat(event.time), event.active)
        for entry in entries
        for event in registry.show(entry.user_id, entry.modality, entry.version).events
    }
    ordered = sorted(events, key=lambda event: event[0])
    return [time for time, _ in ordered], [None, *(version for _, version in ordered)]


def _promise(registry: ReadableRegistry, entry: RegistryEntry) -> Promise:
    """Return what the training log of a version promises; nothing where it cannot be read."""
    try:
        log = parse_json(
            registry.training_log(entry.user_id, entry.modality, entry.version), "training log", FILE_LIMIT
        )
    except (NotFoundError, CorruptError, DocumentError):
        return Promise()
    return Promise.of_log(log) if isinstance(log, dict) else Promise()


def _advice(entry: RegistryEntry, report: FieldReport, before: VersionInUse | None) -> Iterator[str]:
    """Yield what to do about drifts and about labels that the model was not trained on."""
    lasting = [drift for drift in report.drifts if drift.lasts]
    labels = sorted({drift.label for drift in lasting if drift.label is not None})
    whole = any(drift.label is None for drift in lasting)
    passed = list(dict.fromkeys(drift.session for drift in report.drifts if not drift.lasts))
    if whole and before is not None and before.report.total.accuracy[1][0] > report.total.accuracy[1][1]:
        yield (
            f"{before.entry.model_version} was right more often in use: go back with "
            f"model-trainer registry promote {entry.user_id} {entry.modality} {before.entry.model_version}"
        )
    if labels:
        yield f"record {list_names(labels, 5)} in a new session, then train again"
    if whole:
        script = find_trainer(entry.modality).console_script
        yield (
            f"record every label in a session as things are now, then train again: "
            f"{script} --user {entry.user_id} --data DATA --out OUT --registry REGISTRY"
        )
    if passed:
        yield f"find out what was different in {list_names(passed, 5)}; the sessions since then are as promised"
    for label, count in report.not_trained.items():
        if count >= _MANY and label != "unknown":
            yield f"{label} was meant {count} times, and the model does not know it: record it in two sessions or more"


def _print_request(version: VersionInUse) -> None:
    """Print a request to train again, where the version is the active one and a drift lasts."""
    entry, lasting = version.entry, [drift for drift in version.report.drifts if drift.lasts]
    if entry.status == "active" and lasting:
        request = TrainingRequest(
            user_id=entry.user_id,
            modality=entry.modality,
            timestamp=datetime.now(UTC),
            retrain_reason=("drift in use: " + ". ".join(map(_sentence, lasting)))[:_REASON],
            latest_model_version=entry.model_version,
            policy_config_version=_POLICY,
        )
        click.echo(request.to_json())


def _print_version(version: VersionInUse, as_json: bool) -> None:
    entry, report = version.entry, version.report
    if as_json:
        click.echo(json.dumps(_values(version), ensure_ascii=False))
        return
    click.echo(f"{entry.user_id}, {entry.modality}, {entry.model_version} ({entry.status})")
    rows = [[week, *_cells(counts)] for week, counts in report.weeks.items()]
    rows += [[f"label {label}", *_cells(counts)] for label, counts in report.labels.items() if counts.decisions]
    rows.append(["all", *_cells(report.total)])
    print_table(("week", "predictions", "right", "corrected", "rejected", "accuracy", "rejection"), rows)
    click.echo(f"promised: {_promised(version.promise)}")
    for drift in report.drifts:
        click.echo(f"drift: {_sentence(drift)}")
    if not report.drifts:
        click.echo("no drift")
    for text in version.advice:
        click.echo(f"what to do: {text}")
    click.echo()


def _cells(counts: Counts) -> list[object]:
    plain = [counts.decisions, counts.right, counts.corrected, counts.rejected]
    return [*plain, _percent(*counts.accuracy), _percent(*counts.rejection)]


def _percent(share: float | None, interval: Interval) -> str:
    return "" if share is None else f"{share:.0%} ({interval[0]:.0%}–{interval[1]:.0%})"


def _promised(promise: Promise) -> str:
    accuracy = "" if promise.accuracy is None else f"accuracy of at least {promise.accuracy:.0%}"
    rejection = "" if promise.rejection is None else f"rejection of at most {promise.rejection:.0%}"
    return ", ".join(filter(None, (accuracy, rejection))) or "nothing that the training log says"


def _sentence(drift: Drift) -> str:
    what = {"accuracy": "right", "recall": "recognised", "rejection": "rejected"}[drift.figure]
    bound = "at most" if drift.figure == "rejection" else "at least"
    whose = f"of {drift.label} " if drift.label is not None else ""
    where = f"in session {drift.session}" if drift.sessions == 1 else f"in {drift.sessions} sessions to {drift.session}"
    since = f"; since then {drift.later_count} of {drift.later_trials}" if drift.later_trials else ""
    return (
        f"{drift.week}: {drift.count} of {drift.trials} predictions {whose}were {what} {where}; promised: {bound} "
        f"{drift.promised:.0%}{since}"
    )


def _values(version: VersionInUse) -> dict[str, Any]:
    entry, report = version.entry, version.report
    return {
        "user_id": entry.user_id,
        "modality": entry.modality,
        "model_version": entry.model_version,
        "status": entry.status,
        "promised": asdict(version.promise),
        "total": _counts_values(report.total),
        "weeks": {week: _counts_values(counts) for week, counts in report.weeks.items()},
        "labels": {label: _counts_values(counts) for label, counts in report.labels.items()},
        "not_trained": dict(report.not_trained),
        "drifts": [{**asdict(drift), "lasts": drift.lasts} for drift in report.drifts],
        "advice": list(version.advice),
    }


def _counts_values(counts: Counts) -> Mapping[str, Any]:
    (accuracy, accuracy_interval), (rejection, rejection_interval) = counts.accuracy, counts.rejection
    return {
        **asdict(counts),
        "accuracy": accuracy,
        "accuracy_interval": list(accuracy_interval),
        "rejection": rejection,
        "rejection_interval": list(rejection_interval),
    }
