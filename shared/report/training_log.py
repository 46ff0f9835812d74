"""The training log entry: every metric, what was left out or misclassified, and all that it takes to repeat the run.

Its parts are also what a run that fails has recorded by then (`RunLog.fields`), under the same names.
"""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import Any

import numpy as np
from numpy.typing import NDArray

from model_registry.platforms import peak_memory
from model_registry.timestamps import utc_now
from shared.data.records import Dropped
from shared.data_loader import Dataset, Selection, session_key
from shared.evaluation import Validation
from shared.features.pretrained import pretrained_folder
from shared.fingerprint import code_files, library_versions
from shared.report.advice import advise
from shared.schema_utils import SCHEMA_VERSION, SessionMetadata, TrainingLogEntry, utc_text
from shared.training_run import Report, TrainingRun

_SESSION_FIELDS = {"labeler_id", "performer_id", "device", "modality_versions"}


def training_log(run: TrainingRun) -> TrainingLogEntry:
    """Return the training log entry of a run that succeeded, as it stands in the bundle."""
    job, dataset, spec = run.job, run.dataset, run.spec
    metrics = {
        **evaluation_metrics(run.report, run.validation, dataset),
        "audit": asdict(run.audit),
        "advice": list(advise(run.report)),
    }
    code = code_files(job.package, pretrained_folder()) if job.package else {}
    return TrainingLogEntry.model_validate(
        {
            "schema_version": SCHEMA_VERSION,
            "user_id": dataset.user_id,
            "modality": dataset.modality,
            "timestamp": utc_now(),
            "status": "success",
            "run_id": job.run_id,
            "training_config": run.config.model_dump(mode="json"),
            **dataset_fields(dataset),
            **evaluation_fields(run.report, run.validation, dataset),
            "metrics": metrics,
            "encoding": run.encoding,
            "feature_spec_id": run.model.graph.spec_id,
            "encoder_refs": [ref.model_dump() for ref in spec.encoder_refs],
            "job_fingerprint": job.fingerprint,
            **(job.request.log_fields() if job.request else {}),
            "data_format": job.data_format,
            "model_sha256": hashlib.sha256(run.exported.model).hexdigest(),
            "replay": asdict(run.replay),
            "left_out_candidates": job.log.fields.get("left_out_candidates", []),
            "notes": list(spec.notes),
            "media": [dict(row) for row in spec.media],
            "warnings": list(job.log.warnings),
            "seconds": job.log.rounded_seconds(),
            "libraries": dict(library_versions(job.package or "shared")),
            "code": {name: content[:12] for name, content in code.items()},
            "peak_memory_bytes": peak_memory(),
        }
    )


def selection_fields(selection: Selection) -> dict[str, Any]:
    """Return what the log says of examples that were read and chosen, before their files were opened."""
    examples = [record.example for record in selection.records]
    sessions = [session_key(example.user_id, example.session_id, selection.users) for example in examples]
    labels = [example.label for example in examples]
    return _sample_fields(selection.users, labels, sessions, selection.sessions, selection.ledger)


def dataset_fields(dataset: Dataset) -> dict[str, Any]:
    """Return what the log says of the data set that a model was trained on."""
    labels = [sample.label for sample in dataset.samples]
    fields = _sample_fields(dataset.users, labels, dataset.session_ids, dataset.sessions, dataset.ledger)
    return {**fields, "background_count": len(dataset.background), "data_fingerprint": dataset.fingerprint}


def _sample_fields(
    users: Sequence[str],
    labels: Sequence[str],
    session_ids: Sequence[str],
    metadata: Mapping[str, SessionMetadata],
    ledger: Sequence[Dropped],
) -> dict[str, Any]:
    counts = Counter(labels)
    sessions = sorted(set(session_ids))
    return {
        "users": list(users),
        "sample_count": len(labels),
        "labels": sorted(counts),
        "label_counts": {label: counts[label] for label in sorted(counts)},
        "session_count": len(sessions),
        "sessions": sessions,
        "session_metadata": {
            session: metadata[session].model_dump(mode="json", include=_SESSION_FIELDS, exclude_none=True)
            for session in sessions
            if session in metadata
        },
        "dropped": [asdict(dropped) for dropped in ledger],
    }


def evaluation_fields(report: Report, validation: Validation, dataset: Dataset) -> dict[str, Any]:
    """Return what the log says of a model's held-out predictions, known before it is judged by the quality gate."""
    return {
        "training_metrics": report.metrics,
        "verdict": report.verdict,
        "metrics": evaluation_metrics(report, validation, dataset),
        "timeline": timeline(dataset, validation.predicted == dataset.label_index),
        "misclassified": [
            {
                "record_id": dataset.samples[k].record_id,
                "session_id": dataset.session_ids[k],
                "label": dataset.labels[dataset.label_index[k]],
                "predicted": dataset.labels[validation.predicted[k]],
                "probability": round(float(validation.probabilities[k].max()), 4),
            }
            for k in np.flatnonzero(validation.predicted != dataset.label_index)
        ],
    }


def evaluation_metrics(report: Report, validation: Validation, dataset: Dataset) -> dict[str, Any]:
    """Return the tables and curves behind the metrics; `predictions` is (record id, label, held-out prediction)."""
    labels = dataset.labels
    return {
        "verdict_reasons": list(report.reasons),
        "validation": report.scheme,
        "validated_by": report.unit,
        "labels": [asdict(row) for row in report.labels],
        "predictions": [
            [sample.record_id, labels[truth], labels[predicted]]
            for sample, truth, predicted in zip(dataset.samples, dataset.label_index, validation.predicted, strict=True)
        ],
        "content_hashes": [sample.content_sha256[:12] for sample in dataset.samples],  # in the order of predictions
        "confusion_matrix": report.confusion_matrix.tolist(),
        "confusions": [asdict(row) for row in report.confusions],
        "reliability": [list(row) for row in report.reliability],
        "learning_curve": [list(row) for row in report.learning_curve],
        "accuracy_by_coverage": [list(row) for row in report.accuracy_by_coverage],
        "probes": [asdict(row) for row in report.probes],
        "open_set_auroc": {labels[k]: value for k, value in validation.left_out.auroc.items()},
        "candidates": validation.candidates,
        "chosen": validation.winner.name,
        "chosen_candidate": validation.winner.configured,
        "chosen_by_fold": list(validation.chosen_by_fold),
        "temperature": validation.rule.temperature,
        "rejection_threshold": validation.rule.threshold,
    }


def timeline(dataset: Dataset, recognised: NDArray[np.bool_]) -> list[dict[str, Any]]:
    """Return a row for each session, by the time of its first sample: how many samples, how many were recognised."""
    rows: dict[str, dict[str, Any]] = {}
    for sample, session, hit in zip(dataset.samples, dataset.session_ids, recognised, strict=True):
        started = utc_text(sample.example.timestamp)
        row = rows.setdefault(session, {"session_id": session, "started": started, "samples": 0, "recognised": 0})
        row["started"] = min(row["started"], started)
        row["samples"] += 1
        row["recognised"] += int(hit)
    return sorted(rows.values(), key=lambda row: (row["started"], row["session_id"]))
