"""Data sets and finished training runs made in memory, for tests of what is reported and written about them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np

from shared.config import TrainerConfig
from shared.data_loader import Dataset, Dropped, Sample
from shared.evaluation import EvaluationConfig, Validation, validate_by_session
from shared.features.graph import FeatureGraph, TensorSpec
from shared.job import Job, ModelSpec
from shared.learning.candidates import Candidate, PrecomputedFeatures, Rows
from shared.learning.classifiers import LDA
from shared.learning.familiarity import whitened_familiarity
from shared.learning.heads import fitter
from shared.recipe import export, fit, judge, prove
from shared.schema_utils import Example, SessionMetadata
from shared.training_run import TrainingRun


def dataset_of(labels: Sequence[str], sessions: Sequence[str], hashes: Sequence[str] | None = None) -> Dataset:
    """Return a data set of gestures r000, r001, … with these labels (n,), sessions (n,) and content hashes (n,)."""
    samples = []
    for k, (label, session) in enumerate(zip(labels, sessions, strict=True)):
        record = f"r{k:03d}"
        example = Example(
            record_id=record,
            user_id="ana",
            session_id=session,
            timestamp=datetime(2026, 3, 1, 10, tzinfo=UTC) + timedelta(minutes=k),
            modality="gesture",
            label=label,
            transcript="x",
        )
        content = hashes[k] if hashes else record
        path = Path("wave.mp4")
        samples.append(Sample(record, "ana", session, label, path, content, example, "examples.jsonl", k + 1))
    return Dataset("gesture", "ana", ("ana",), tuple(samples))


def candidate_of(features: np.ndarray) -> Candidate:
    """Return a linear discriminant on features (n, D) float32 that are a sample's only input."""
    width = features.shape[1]
    graph = FeatureGraph("x", (TensorSpec("x", "float32", (width,)),), lambda inputs: inputs["x"])
    rows = Rows(features, np.zeros((0, width), np.float32), np.zeros(0, np.int64))
    return Candidate("lda", PrecomputedFeatures(graph, rows), fitter(LDA()), whitened_familiarity)


def validated(features: np.ndarray, dataset: Dataset) -> Validation:
    """Return the session-wise validation of `candidate_of` the features."""
    times = [sample.example.timestamp for sample in dataset.samples]
    groups = dataset.groups
    return validate_by_session([candidate_of(features)], dataset.label_index, groups, times, EvaluationConfig(), seed=0)


def finished_run(out: Path, **spec: Any) -> TrainingRun:
    """Return a run on 24 samples of two labels in three sessions, one of them confused, not yet written to `out`."""
    labels, sessions = ["come", "stop"] * 12, [f"s{k // 8 + 1}" for k in range(24)]
    rng = np.random.default_rng(0)
    features = (rng.normal(size=(24, 4)) + 6 * np.eye(2, 4)[np.arange(24) % 2]).astype(np.float32)
    features[5] = features[4]  # a "stop" that looks like a "come"
    metadata = SessionMetadata(
        user_id="ana",
        session_id="s1",
        labeler_id="carer01",
        device="tablet",
        modality_versions={"gesture": "2.1"},
        notes="private",
    )
    ledger = (Dropped("r900", "no consent", "examples.jsonl", 25),)
    dataset = replace(dataset_of(labels, sessions), sessions={"s1": metadata}, ledger=ledger)
    job, config = Job(("ana",), Path("data"), out, "r1", fingerprint="j"), TrainerConfig()
    described = ModelSpec({"encoding": "none"}, "points_v1", **spec)
    validation = validated(features, dataset)
    report = judge(job, validation, dataset, config)
    model, found = fit(job, validation, dataset, report)
    exported = export(job, validation, dataset, described, model)
    proof = prove(job, validation, model, exported, [{"x": row} for row in features], None)
    return TrainingRun(job, config, dataset, described, validation, report, found, model, exported, proof)
