"""`model-trainer field --propose`: which samples of A3CP's logs a partner should confirm first."""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import click
import numpy as np
from numpy.typing import NDArray

from model_registry.errors import NotFoundError
from model_registry.location import ReadableRegistry
from model_registry.names import Modality
from model_registry.storage.durable import temporary_folder
from model_registry.storage.resolution import ResolvedVersion
from shared.commands.tables import print_table
from shared.data.a3cp import is_a3cp, read_unconfirmed
from shared.data.files import DataRoot
from shared.data.records import Record
from shared.data.samples import Sample, verified
from shared.errors import DataError, Fault, InvalidInputError
from shared.learning.proposals import CRITERION, margins, propose
from shared.prediction import LiveModel, published_model
from shared.schema_utils import utc_text
from shared.trainers import find_trainer


@dataclass(frozen=True)
class Proposal:
    """A sample that nobody has decided about, and what the active model makes of it."""

    sample: Sample
    predicted: str  # the most probable label
    probability: float
    second: str
    second_probability: float
    margin: float
    accepted: bool

    @property
    def reason(self) -> str:
        """Why it is proposed."""
        rejected = "" if self.accepted else "; the model rejects it"
        shares = f"{self.predicted} {self.probability:.0%}, {self.second} {self.second_probability:.0%}"
        return f"the model hesitates: {shares}{rejected}"


def print_proposals(
    root: DataRoot,
    user: str,
    wanted: Modality | None,
    registry: ReadableRegistry,
    count: int,
    as_json: bool,
    faults: list[Fault],
) -> None:
    """Print up to `count` samples of each modality of the user; what cannot be read is added to `faults`."""
    if not is_a3cp(root, user):
        return
    reading = read_unconfirmed(root, user, wanted)
    faults += reading.faults
    by_modality: dict[Modality, list[Record]] = defaultdict(list)
    for record in reading.records:
        by_modality[record.example.modality].append(record)
    for modality, records in sorted(by_modality.items()):
        try:
            with registry.open_version(user, modality) as resolved:
                proposals = _proposals(root, records, resolved, count, faults)
                _print(user, resolved, proposals, len(records), as_json)
        except NotFoundError as error:
            click.echo(f"warning: {user}/{modality}: no model says which samples are doubtful: {error}", err=True)


def _proposals(
    root: DataRoot, records: Sequence[Record], resolved: ResolvedVersion, count: int, faults: list[Fault]
) -> list[Proposal]:
    """Return the samples to confirm, the most helpful first."""
    samples: list[Sample] = []
    rows: list[NDArray[np.float32]] = []
    accepted: list[bool] = []
    model = published_model(resolved)
    for sample, probabilities, was_accepted in _classified(root, records, model, resolved.modality, faults):
        samples.append(sample)
        rows.append(probabilities)
        accepted.append(was_accepted)
    if not samples:
        return []
    table = np.stack(rows)
    margin = margins(table)
    labels = model.properties["labels"]
    proposals = []
    for k in propose(table, count):
        second, first = np.argsort(table[k], kind="stable")[-2:]
        proposals.append(
            Proposal(
                samples[k],
                labels[first],
                float(table[k, first]),
                labels[second],
                float(table[k, second]),
                float(margin[k]),
                accepted[k],
            )
        )
    return proposals


def _classified(
    root: DataRoot, records: Sequence[Record], model: LiveModel, modality: Modality, faults: list[Fault]
) -> Iterator[tuple[Sample, NDArray[np.float32], bool]]:
    """Yield the samples that hold something to classify, (K,) float32 probabilities, and whether they are accepted."""
    from shared.recipe import load_recipe

    recipe = load_recipe(find_trainer(modality))
    encoding = model.properties["spec"]["decode"].get("encoding")
    with temporary_folder() as folder:
        for record in records:
            sample = verified(root, record, faults)
            if sample is None:
                continue
            if encoding is not None and sample.encoding != encoding:
                reason = f"is {sample.encoding}, but the model takes {encoding}"
                faults.append(record.fault("event.raw_features_ref.encoding", reason))
                continue
            try:
                yield sample, *model.probabilities(_file(sample, folder), recipe)
            except InvalidInputError:
                continue  # silence or an empty text: nobody can say what was meant
            except DataError as error:
                faults += [record.fault(fault.field, fault.reason) for fault in error.faults]


def _file(sample: Sample, folder: Path) -> Path:
    """Return a sample's file; a transcript is written to one in `folder`."""
    if sample.path is not None:
        return sample.path
    said = {"transcript", "confidence", "location", "partner_speech", "language"}
    path = folder / "utterance.json"
    path.write_text(sample.example.model_dump_json(include=said, exclude_none=True), encoding="utf-8")
    return path


def _print(user: str, resolved: ResolvedVersion, proposals: Sequence[Proposal], pool: int, as_json: bool) -> None:
    version = f"v{resolved.version}"
    if as_json:
        for proposal in proposals:
            click.echo(json.dumps(_values(user, resolved, proposal), ensure_ascii=False))
        return
    click.echo(f"{user}, {resolved.modality}, {version}: {len(proposals)} of {pool} samples to confirm first")
    columns = ("record", "session", "time", "predicted", "second", "why")
    print_table(columns, [_cells(proposal) for proposal in proposals])
    click.echo()


def _cells(proposal: Proposal) -> list[object]:
    sample = proposal.sample
    when = utc_text(sample.example.timestamp)
    return [sample.record_id, sample.session_id, when, proposal.predicted, proposal.second, proposal.reason]


def _values(user: str, resolved: ResolvedVersion, proposal: Proposal) -> dict[str, Any]:
    sample = proposal.sample
    return {
        "user_id": user,
        "modality": resolved.modality,
        "model_version": f"v{resolved.version}",
        "fallback": resolved.fallback,
        "record_id": sample.record_id,
        "session_id": sample.session_id,
        "timestamp": utc_text(sample.example.timestamp),
        "predicted_label": proposal.predicted,
        "probability": proposal.probability,
        "second_label": proposal.second,
        "second_probability": proposal.second_probability,
        "margin": proposal.margin,
        "accepted": proposal.accepted,
        "criterion": CRITERION,
        "why": proposal.reason,
    }
