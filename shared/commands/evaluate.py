"""`model-trainer evaluate`: run a published model over long recordings, as a running microphone or camera would."""

from __future__ import annotations

import csv
import io
import json
import re
from collections.abc import Iterator, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import click

from model_registry.commands.completion import published_users, published_versions
from model_registry.commands.options import checking_options, registry_option
from model_registry.location import ReadableRegistry
from model_registry.messages import printable
from model_registry.names import parse_modality
from model_registry.storage.resolution import ResolvedVersion
from shared.commands.completion import installed_modalities
from shared.data.files import RefusedFileError
from shared.data.formats.annotations import regions
from shared.data.formats.text_files import read_text
from shared.errors import ConfigError, DataError, Fault
from shared.prediction import LiveModel, published_model
from shared.report.detection import Recording, Span, summary, threshold_for
from shared.trainers import find_trainer, modality_names

_ONSETS, _OFFSETS = ("onset", "start", "begin"), ("offset", "end", "stop")  # headings in a table of spans
_NUMBER = re.compile(r"\d{1,9}(\.\d*)?")
_SUFFIXES = (".csv", ".txt")  # of the spans next to a recording


@click.command("evaluate")
@click.option("--user", required=True, shell_complete=published_users, help="Whose model.")
@click.option(
    "--modality", required=True, shell_complete=installed_modalities, metavar=f"[{'|'.join(modality_names())}]"
)
@click.option("--version", shell_complete=published_versions, help="This version instead of the active one, e.g. v3.")
@registry_option("read")
@checking_options
@click.option(
    "--spans",
    type=click.Path(path_type=Path, dir_okay=False, exists=True),
    help="What happens when in the one recording: CSV with onset, offset and label, or Audacity's labels. "
    "Without it a .csv or .txt of the same name next to the recording is used.",
)
@click.option("--window", type=click.FloatRange(min=0, min_open=True), help="Seconds that are classified at once.")
@click.option("--stride", type=click.FloatRange(min=0, min_open=True), help="Seconds from window to window.")
@click.option(
    "--false-alarms-per-hour",
    type=click.FloatRange(min=0),
    help="Also report the score from which on there are at most so many, and what is found at that score.",
)
@click.argument("files", nargs=-1, required=True, type=click.Path(path_type=Path, dir_okay=False, exists=True))
def evaluate_command(
    user: str,
    modality: str,
    version: str | None,
    registry: ReadableRegistry,
    spans: Path | None,
    window: float | None,
    stride: float | None,
    false_alarms_per_hour: float | None,
    files: tuple[Path, ...],
) -> None:
    """Run a published model over long recordings, FILES: what it detects, finds and wrongly reports in an hour.

    A detection is an unbroken run of accepted windows of one label. It is a false alarm where no marked span of its
    label overlaps it; where nothing is marked, every detection is one. Prints one JSON line a recording, and one for
    all. Sounds are cut into overlapping windows as long as the model's typical sample, gestures into A3CP's 16 frames
    every 5, videos into the frames that the visual model takes.

    \b
    Examples:
      model-trainer evaluate --user ana --modality sound --registry models kitchen.wav
      model-trainer evaluate --user ana --modality sound --registry models --spans labels.txt afternoon.wav
      model-trainer evaluate --user ana --modality gesture --registry models --false-alarms-per-hour 2 day.mp4
    """
    if spans is not None and len(files) > 1:
        raise click.UsageError("--spans marks one recording; put a .csv or .txt next to each instead")
    with registry.open_version(user, parse_modality(modality), version) as resolved:
        model = published_model(resolved)
        recordings = [
            _evaluated(model, resolved, path, spans or _spans_next_to(path), window=window, stride=stride)
            for path in files
        ]
    total = {"recordings": len(files), **summary(recordings)}
    if false_alarms_per_hour is not None:
        threshold = threshold_for(recordings, false_alarms_per_hour)
        at_threshold = None if threshold is None else summary(recordings, threshold)
        total["at_most"] = {"wanted": false_alarms_per_hour, "threshold": threshold, "summary": at_threshold}
    click.echo(json.dumps(total, ensure_ascii=False))


def _evaluated(
    model: LiveModel,
    resolved: ResolvedVersion,
    path: Path,
    marked: Path | None,
    *,
    window: float | None,
    stride: float | None,
) -> Recording:
    """Classify every window of a recording, print its line, and return it."""
    from shared.recipe import Cutting, load_recipe

    recipe = load_recipe(find_trainer(resolved.modality))
    if recipe.windows is None:
        raise ConfigError(f"{resolved.modality}: has no long recordings to cut; use: model-trainer predict")
    spans = () if marked is None else tuple(read_spans(marked))
    recording = model.classify_windows(path, recipe.windows, Cutting(window, stride), spans)
    line = {
        "file": str(path),
        "model_version": f"v{resolved.version}",
        "marked_by": None if marked is None else str(marked),
        "labels_not_known": sorted({span.label for span in spans} - set(model.properties["labels"])),
        "windows": len(recording.predictions),
        **summary([recording]),
        "detected": [asdict(one) for one in recording.detections()],
    }
    click.echo(json.dumps(line, ensure_ascii=False))
    return recording


def _spans_next_to(path: Path) -> Path | None:
    """Return the table of spans next to a recording, of the same name, where there is just one."""
    found = [other for suffix in _SUFFIXES if (other := path.with_suffix(suffix)).is_file()]
    if len(found) > 1:
        raise ConfigError(f"{path}: {found[0].name} and {found[1].name} are next to it; name one with --spans")
    return found[0] if found else None


def read_spans(path: Path) -> list[Span]:
    """Return what is marked in a CSV of onset, offset (s) and label, or in Audacity's labels. Raises DataError."""
    try:
        text = read_text(path).text
    except RefusedFileError as refused:
        raise DataError([Fault(str(path), None, "(file)", str(refused))]) from None
    found = regions(text)
    rows = found if found is not None else list(_table(path, text))
    faults = [
        Fault(str(path), line, "offset", f"{offset:g} s is not after the onset, {onset:g} s")
        for line, onset, offset, _ in rows
        if not offset > onset
    ]
    if faults:
        raise DataError(faults)
    return [Span(onset, offset, label) for _, onset, offset, label in rows]


def _table(path: Path, text: str) -> Iterator[tuple[int, float, float, str]]:
    """Yield line, onset, offset and label of each row of a CSV with a heading."""
    reader = csv.DictReader(io.StringIO(text))
    headings = {(name or "").strip().lower(): name for name in reader.fieldnames or ()}
    columns = [_column(headings, names) for names in (_ONSETS, _OFFSETS, ("label",))]
    if None in columns:
        reason = "needs the columns onset, offset (seconds) and label, or must be an export of Audacity's labels"
        raise DataError([Fault(str(path), 1, "(heading)", reason)])
    for row in reader:
        onset, offset, label = (str(row[column] or "").strip() for column in columns)
        if not (_NUMBER.fullmatch(onset) and _NUMBER.fullmatch(offset)):
            reason = f"'{printable(onset[:20])}' to '{printable(offset[:20])}' are no times in seconds"
            raise DataError([Fault(str(path), reader.line_num, "onset", reason)])
        yield reader.line_num, float(onset), float(offset), label


def _column(headings: dict[str, Any], names: Sequence[str]) -> Any:
    return next((headings[name] for name in names if name in headings), None)
