"""`model-trainer extract`: clips and images -> feature files, without training."""

from __future__ import annotations

import hashlib
import json
from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import click
import numpy as np
from numpy.typing import NDArray

from gesture_trainer.preprocessing.extraction import NO_FACE, NO_LANDMARK, Clip, extract_clips, without_landmark
from gesture_trainer.preprocessing.landmarker import BODY
from gesture_trainer.preprocessing.sandbox import Failure
from gesture_trainer.train import GestureConfig
from model_registry.names import InvalidNameError, parse_name
from model_registry.storage.durable import write_file_atomically
from shared.config import load_config
from shared.data.feature_files import features_bytes
from shared.data.files import DataRoot, RefusedFileError, sha256_of
from shared.data.own_layout import read_own, sessions_folder
from shared.data.session_writer import Addition, write_session, writing
from shared.data_loader import DataFilter, Sample, load_dataset
from shared.errors import ConfigError, DataError, Fault
from shared.features.cache import FeatureCache
from shared.logs import RunLog
from shared.schema_utils import Example, FeaturesRef

Result = NDArray[np.float32] | Failure


def extract(
    data: Path | None,
    users: Sequence[str],
    out: Path,
    config: Path | None,
    settings: Sequence[str],
    files: Sequence[Path],
    *,
    cache: bool,
) -> int:
    """Extract files, or the users' clips in a data root, print a summary and return the exit code."""
    settled = load_config(GestureConfig, config, settings)
    log, kept = RunLog(), FeatureCache() if cache else None
    if data is None:
        faults, results = _extract_files(files, out, settled, kept, log)
    else:
        faults, results = [], []
        for user in dict.fromkeys(users):
            more_faults, more_results = _extract_user(data, parse_name(user, "--user"), out, settled, kept, log)
            faults, results = faults + more_faults, results + more_results
    sequences = [result for result in results if not isinstance(result, Failure)]
    if settled.extraction.encoding == BODY and settled.extraction.face_task is None:
        log.warn(NO_FACE)
    log.end("failure" if faults else "success")
    summary: dict[str, Any] = {
        "encoding": settled.extraction.encoding,
        "clips": len(results),
        "written": len(results) - len(faults),
        "failed": len(faults),
        "frames": sum(map(len, sequences)),
        "frames_without_landmark": int(sum(without_landmark(sequence).sum() for sequence in sequences)),
    }
    click.echo(json.dumps(summary))
    if faults:
        click.echo(f"error: {DataError(faults)}", err=True)
    return DataError.exit_code if faults else 0


def _extract_files(
    files: Sequence[Path], out: Path, config: GestureConfig, cache: FeatureCache | None, log: RunLog
) -> tuple[list[Fault], list[Result]]:
    """Write OUT/NAME.npz for each file with landmarks; return the others' faults, and all results."""
    targets: dict[Path, Path] = {}
    for path in dict.fromkeys(files):
        target = out / f"{path.stem}.npz"
        if target in targets:
            raise ConfigError(f"{targets[target]} and {path} would both become {target}; extract them separately")
        targets[target] = path
    faults: list[Fault] = []
    found: list[tuple[Path, Clip]] = []
    for target, path in targets.items():
        try:
            found.append((target, Clip(path.resolve(), sha256_of(path))))
        except RefusedFileError as refused:
            faults.append(Fault(str(path), None, "media", str(refused)))
    results = _run([clip for _, clip in found], config, cache, log)
    out.mkdir(parents=True, exist_ok=True)
    for (target, _), result in zip(found, results, strict=True):
        reason = _reason(result)
        if reason is not None or isinstance(result, Failure):
            faults.append(Fault(str(targets[target]), None, "media", str(reason)))
        else:
            write_file_atomically(target, features_bytes(result))
    unread = len(targets) - len(found)
    return faults, [*results, *[Failure("cannot be read")] * unread]


def _extract_user(
    data: Path, user: str, out: Path, config: GestureConfig, cache: FeatureCache | None, log: RunLog
) -> tuple[list[Fault], list[Result]]:
    """Write a user's sessions to another data root with feature files in place of clips."""
    if out.resolve() == data.resolve():
        raise ConfigError("--out: give another folder than --data; recordings are never changed")
    with log.stage("load"):
        everything = DataFilter(require_consent=False, include_demo=True, label_status=_ALL)
        dataset = load_dataset(data, [user], "gesture", everything, minimum_per_label=1)
    samples = [sample for sample in dataset.samples if sample.example.media is not None]
    results = _run([_clip(sample) for sample in samples], config, cache, log)
    faults: list[Fault] = []
    sessions: dict[str, list[Addition]] = defaultdict(list)
    for sample, result in zip(samples, results, strict=True):
        reason = _reason(result)
        if reason is not None or isinstance(result, Failure):
            faults.append(sample.media_fault(str(reason)))
        else:
            sessions[sample.session_id].append(_addition(sample.example, result, config))
    with writing(out):
        there = _there(out, user)
        for session, additions in sessions.items():
            known = {example.record_id for example in there.get(session, ())}
            if fresh := [addition for addition in additions if addition.example.record_id not in known]:
                write_session(out, dataset.sessions[session], there.get(session, ()), fresh)
    return faults, results


def _there(out: Path, user: str) -> dict[str, list[Example]]:
    """Return the examples of each session that were written before. Raises DataError for lines that cannot be read."""
    if not sessions_folder(out, user).is_dir():
        return {}
    reading = read_own(DataRoot.at(out), user, None)
    if reading.faults:
        raise DataError(reading.faults)
    found: dict[str, list[Example]] = defaultdict(list)
    for record in reading.records:
        found[record.example.session_id].append(record.example)
    return found


_ALL = ("unconfirmed", "confirmed", "corrected", "rejected")


def _run(clips: Sequence[Clip], config: GestureConfig, cache: FeatureCache | None, log: RunLog) -> list[Result]:
    with log.stage("decode"):
        return extract_clips(clips, config.extraction, cache, log.progress) if clips else []


def _clip(sample: Sample) -> Clip:
    assert sample.path is not None  # a sample with media has one
    return Clip(sample.path, sample.content_sha256, sample.example.onset or 0.0, sample.example.offset)


def _reason(result: Result) -> str | None:
    """Return why nothing is written for a clip."""
    if isinstance(result, Failure):
        return result.reason
    return NO_LANDMARK if without_landmark(result).all() else None


def _file_stem(record_id: str) -> str:
    """Return the record id where it can be a file's name, else its hash: logs of others may hold any text."""
    try:
        return parse_name(record_id, "record id")
    except InvalidNameError:
        return hashlib.sha256(record_id.encode()).hexdigest()


def _addition(example: Example, sequence: NDArray[np.float32], config: GestureConfig) -> Addition:
    content = features_bytes(sequence)
    reference = FeaturesRef(
        uri=f"features/{_file_stem(example.record_id)}.npz",
        hash=f"sha256:{hashlib.sha256(content).hexdigest()}",
        encoding=config.extraction.encoding,
        shape=(sequence.shape[0], sequence.shape[1]),
    )
    changes = {"media": None, "features": reference, "onset": None, "offset": None}
    return Addition(example.model_copy(update=changes), content)
