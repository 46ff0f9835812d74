"""The steps that all recipes share: load, featurise, validate, package. A trainer's `train` puts them in order."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict

import numpy as np

from model_registry.names import Modality
from model_registry.storage.entry import BundleEntry
from model_registry.store import Registry
from shared.config import TrainerConfig
from shared.data_loader import Dataset, load_dataset
from shared.errors import QualityGateError
from shared.evaluation import Validation, validate_by_session
from shared.features.arrays import Inputs
from shared.features.graph import FeatureGraph, Samples
from shared.features.graph_cache import recall
from shared.job import Job, ModelSpec, Outcome
from shared.learning.candidates import Candidate, FittedModel, Rows, fit_candidate
from shared.learning.heads import Features
from shared.packaging.bundle import Bundle, json_bytes, label_encoder, label_map, write_bundle
from shared.packaging.export import Exported, export_model, replay, spread
from shared.packaging.promotion import publish
from shared.report.audit import Audit, audit
from shared.report.figures import confusion_picture
from shared.report.metrics import Report, Unit, report
from shared.report.model_card import model_card
from shared.report.training_log import seconds, training_log
from shared.schema_utils import TrainingLogEntry


def load(job: Job, config: TrainerConfig, modality: Modality) -> Dataset:
    """Load the job's labelled examples, or raise DataError with every fault in them."""
    with job.log.stage("load"):
        dataset = load_dataset(
            job.data,
            job.users,
            modality,
            config.data,
            data_format=job.data_format,
            minimum_per_label=config.minimum_per_label,
        )
    for warning in dataset.warnings:
        job.log.warn(str(warning))
    return dataset


def featurise(
    job: Job,
    graph: FeatureGraph,
    samples: Samples,
    keys: Sequence[str],
    augment: Callable[[Inputs, np.random.Generator], Sequence[Inputs]] | None = None,
    seed: int = 0,
) -> Rows:
    """Return the features of all samples, from the cache where `keys` (hashes of what each was made from) are known.

    With `augment`, the copies that it makes of each sample get features too; they are never cached.
    """
    with job.log.stage("featurise"):
        recall(graph, job.cache)
        known = job.cache.get_many(graph.spec_id, keys) if job.cache else {}
        missing = [k for k, key in enumerate(keys) if key not in known]
        rows: list[np.ndarray | None] = [known.get(key) for key in keys]
        for done, (k, row) in enumerate(zip(missing, graph.run(samples, missing), strict=True), start=1):
            rows[k] = row
            job.log.progress(done, len(missing))
        if job.cache and missing:
            job.cache.put_many(graph.spec_id, {keys[k]: np.asarray(rows[k]) for k in missing})
        base = np.stack([np.asarray(row, np.float32) for row in rows])
        copies: list[Inputs] = []
        owner: list[int] = []
        if augment is not None:
            for k in range(len(samples)):
                made = augment(samples[k], np.random.default_rng([seed, k]))
                copies.extend(made)
                owner.extend([k] * len(made))
        extra = list(graph.run(copies)) if copies else []
        matrix = np.stack(extra) if extra else np.zeros((0, base.shape[1]), np.float32)
        return Rows(base, matrix, np.array(owner, np.int64))


def validate(
    job: Job,
    candidates: Sequence[Candidate],
    dataset: Dataset,
    config: TrainerConfig,
    sessions: Sequence[str] | None = None,
) -> Validation:
    """Validate the candidates by session, or by person where there are several; see `shared.evaluation`.

    `sessions` replaces those of the data set.
    """
    with job.log.stage("validate"):
        times = [sample.example.timestamp for sample in dataset.samples]
        group_of = dict(zip(dataset.session_ids, dataset.groups, strict=True))
        groups = [group_of[session] for session in sessions or dataset.session_ids]
        return validate_by_session(
            candidates, dataset.label_index, groups, times, config.evaluation, config.seed, job.log.progress
        )


def package(
    job: Job,
    validation: Validation,
    samples: Samples,
    dataset: Dataset,
    config: TrainerConfig,
    spec: ModelSpec,
    replayed: int | None = None,
) -> Outcome:
    """Judge, fit on everything, export, replay, write the bundle, and publish it where the job names a registry.

    `replayed` bounds how many samples run through the whole graph; the others run through what follows the features.
    Raises QualityGateError below the gate, ReplayError if the graph disagrees with training.
    """
    unit: Unit = "session" if len(dataset.users) == 1 else "person"
    result = report(validation, dataset.label_index, dataset.groups, dataset.labels, unit)
    _pass_gate(result, config)
    everything = np.arange(len(dataset))
    source = validation.winner.source
    with job.log.stage("fit"), ThreadPoolExecutor(1) as pool:
        fitting = pool.submit(fit_candidate, validation.winner, dataset.label_index, everything, len(dataset.labels))
        found = _audit(job, result, validation, source.rows(everything).base, dataset)
        fitted = fitting.result()
    graph, features = source.graph(everything), source.rows(everything).base
    with job.log.stage("export"):
        recall(graph, job.cache)
        exported = _export(job, graph, features.shape[1], fitted, validation, dataset, spec)
    with job.log.stage("replay"):
        whole = spread(len(dataset), replayed)
        answered = replay(exported, features, samples, whole, fitted, validation.rule, job.log.progress)
    with job.log.stage("bundle"):
        entry = training_log(job, result, found, validation, dataset, config, spec, graph, exported, answered)
        bundle = _bundle(job, entry, result, validation, dataset, config, spec, graph, exported)
    entry = entry.model_copy(update={"bundle": str(bundle.folder), "seconds": seconds(job)})
    if job.registry is None:
        return Outcome(bundle, entry)
    with job.log.stage("publish"):
        published, promotion = publish(bundle.folder, Registry(job.registry), job.promote)
    if published.entry.status != "active":
        job.log.warn(f"published as a candidate that does not serve: {promotion.reason}")
    update = {
        "model_version": published.entry.model_version,
        "model_artifact_path": published.entry.model_artifact_path,
        "label_encoder_path": published.entry.label_encoder_path,
        "promotion": asdict(promotion),
        "warnings": list(job.log.warnings),
        "seconds": seconds(job),
    }
    return Outcome(bundle, entry.model_copy(update=update))


def _pass_gate(result: Report, config: TrainerConfig) -> None:
    """Raise QualityGateError where sessions allow an estimate and it is below the gate."""
    accuracy, baseline = result.metrics["accuracy"], result.metrics["majority_baseline"]
    if accuracy < config.gate.minimum_accuracy:
        raise QualityGateError(
            f"session-wise accuracy {accuracy:.3f} is below gate.minimum_accuracy {config.gate.minimum_accuracy}"
        )
    if config.gate.beat_majority and result.verdict != "insufficient data" and accuracy <= baseline:
        raise QualityGateError(
            f"session-wise accuracy {accuracy:.3f} is no better than always answering the commonest label "
            f"({baseline:.3f}); record more samples, or publish all the same with --set gate.beat_majority=false"
        )


def _export(
    job: Job,
    graph: FeatureGraph,
    width: int,
    fitted: FittedModel,
    validation: Validation,
    dataset: Dataset,
    spec: ModelSpec,
) -> Exported:
    described = {
        "modality": dataset.modality,
        "feature_spec_id": graph.spec_id,
        "normalisation_version": spec.normalisation_version,
        "inputs": [{"name": t.name, "dtype": t.dtype, "shape": list(t.shape)} for t in graph.contract],
        "decode": dict(spec.decode),
        "encoders": [ref.model_dump() for ref in spec.encoder_refs],
        "expected_frame_rate": spec.expected_frame_rate,
        "expected_length": spec.expected_length,
    }
    return export_model(graph, width, fitted, validation.rule, dataset.labels, described, job.cache)


def _audit(job: Job, result: Report, validation: Validation, features: Features, dataset: Dataset) -> Audit:
    ids = [sample.record_id for sample in dataset.samples]
    hashes = [sample.content_sha256 for sample in dataset.samples]
    classes, sessions = dataset.label_index, dataset.session_ids
    found = audit(result, validation, features, classes, sessions, ids, hashes, dataset.labels)
    for warning in found.warnings:
        job.log.warn(warning)
    return found


def _bundle(
    job: Job,
    entry: TrainingLogEntry,
    result: Report,
    validation: Validation,
    dataset: Dataset,
    config: TrainerConfig,
    spec: ModelSpec,
    graph: FeatureGraph,
    exported: Exported,
) -> Bundle:
    described = BundleEntry(
        timestamp=entry.model_dump(mode="json")["timestamp"],
        trainer_name=f"{dataset.modality}_trainer",
        vector_version=graph.spec_id,
        feature_spec_id=graph.spec_id,
        config=config.model_dump(mode="json"),
        labels=dataset.labels,
        metrics=result.metrics,
        verdict=result.verdict,
        example_count=len(dataset),
        session_count=len(set(dataset.session_ids)),
        examples_hash=f"sha256:{_hash_of_ids(dataset)}",
        data_fingerprint=dataset.fingerprint,
        job_fingerprint=job.fingerprint,
        normalisation_version=spec.normalisation_version,
        expected_frame_rate=spec.expected_frame_rate,
        expected_length=spec.expected_length,
        rejection_threshold=validation.rule.threshold,
    )
    title = f"{dataset.user_id}, {dataset.modality}: {result.metrics['accuracy']:.2f} across sessions"
    picture = confusion_picture(result.confusion, dataset.labels, title)
    files = {
        "model": exported.model,
        "label_map": label_map(dataset.labels),
        "label_encoder": label_encoder(dataset.labels),
        "training_log": json_bytes(entry.model_dump(mode="json")),
        "model_card": model_card(entry, result),
        "confusion_matrix": picture,
    }
    return write_bundle(job.out, dataset.user_id, dataset.modality, job.run_id, files, described, spec.encoder_refs)


def _hash_of_ids(dataset: Dataset) -> str:
    return hashlib.sha256("\n".join(sorted(s.record_id for s in dataset.samples)).encode()).hexdigest()
