"""The training log entry of a finished run: every figure, what was left out or misread, and all to repeat it."""

from __future__ import annotations

import hashlib
import resource
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from shared.config import TrainerConfig
from shared.data_loader import Dataset
from shared.evaluation import Validation
from shared.features.graph import FeatureGraph
from shared.features.pretrained import pretrained_folder
from shared.fingerprint import code_files, library_versions
from shared.logs import utc_now
from shared.packaging.export import Exported, Replay
from shared.report.advice import advise
from shared.report.audit import Audit
from shared.report.metrics import Report
from shared.schema_utils import SCHEMA_VERSION, TrainingLogEntry, utc_text

if TYPE_CHECKING:
    from shared.job import Job, ModelSpec


def training_log(
    job: Job,
    result: Report,
    found: Audit,
    validation: Validation,
    dataset: Dataset,
    config: TrainerConfig,
    spec: ModelSpec,
    graph: FeatureGraph,
    exported: Exported,
    answered: Replay,
) -> TrainingLogEntry:
    """Return the training log entry of a run that succeeded, as it stands in the bundle."""
    counts = {label: int(n) for label, n in zip(dataset.labels, np.bincount(dataset.label_index), strict=True)}
    code = code_files(job.package, pretrained_folder()) if job.package else {}
    wrong = np.flatnonzero(validation.predicted != dataset.label_index)
    return TrainingLogEntry.model_validate(
        {
            "schema_version": SCHEMA_VERSION,
            "user_id": dataset.user_id,
            "modality": dataset.modality,
            "timestamp": utc_now(),
            "status": "success",
            "sample_count": len(dataset),
            "session_count": len(set(dataset.session_ids)),
            "training_config": config.model_dump(mode="json"),
            "training_metrics": result.metrics,
            "verdict": result.verdict,
            "run_id": job.run_id,
            "seconds": seconds(job),
            "metrics": {
                "verdict_reasons": list(result.reasons),
                "audit": asdict(found),
                "advice": list(advise(result)),
                "learning": [list(row) for row in result.learning],
                "coverage": [list(row) for row in result.coverage],
                "validation": result.scheme,
                "validated_by": result.unit,
                "labels": [vars(row) for row in result.labels],
                "answers": [
                    [sample.record_id, dataset.labels[truth], dataset.labels[answer]]
                    for sample, truth, answer in zip(
                        dataset.samples, dataset.label_index, validation.predicted, strict=True
                    )
                ],
                "contents": [sample.content_sha256[:12] for sample in dataset.samples],  # in the order of answers
                "confusion": result.confusion.tolist(),
                "reliability": [list(row) for row in result.reliability],
                "mixed_up": [vars(row) for row in result.mixed_up],
                "candidates": validation.candidates,
                "chosen": validation.winner.name,
                "chosen_by_fold": list(validation.chosen_by_fold),
                "temperature": validation.rule.temperature,
                "rejection_threshold": validation.rule.threshold,
                "unknown_auroc": {dataset.labels[k]: value for k, value in validation.left_out.auroc.items()},
            },
            "feature_spec_id": graph.spec_id,
            "encoder_refs": [ref.model_dump() for ref in spec.encoder_refs],
            "labels": list(dataset.labels),
            "label_counts": counts,
            "sessions": sorted(set(dataset.session_ids)),
            "timeline": timeline(dataset, validation.predicted == dataset.label_index),
            "users": list(dataset.users),
            "data_fingerprint": dataset.fingerprint,
            "job_fingerprint": job.fingerprint,
            "data_format": job.data_format,
            "model_sha256": hashlib.sha256(exported.model).hexdigest(),
            "dropped": [vars(dropped) for dropped in dataset.ledger],
            "misread": [
                {
                    "record_id": dataset.samples[k].record_id,
                    "session_id": dataset.session_ids[k],
                    "label": dataset.labels[dataset.label_index[k]],
                    "answered": dataset.labels[validation.predicted[k]],
                    "probability": round(float(validation.probabilities[k].max()), 4),
                }
                for k in wrong
            ],
            "replay": vars(answered),
            "notes": list(spec.notes),
            "media": [dict(row) for row in spec.media],
            "warnings": list(job.log.warnings),
            "libraries": dict(library_versions(job.package or "shared")),
            "code": {name: content[:12] for name, content in code.items()},
            "peak_memory_bytes": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024,
        }
    )


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


def seconds(job: Job) -> dict[str, float]:
    """Return how long each stage took."""
    return {name: round(value, 4) for name, value in job.log.seconds.items()}
