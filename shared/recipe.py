"""What a recipe is, and the steps that all share: load, featurise, validate, package. A `train` puts them in order."""

from __future__ import annotations

import importlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from model_registry.names import Modality
from model_registry.promotion import publish
from shared.config import TrainerConfig
from shared.data_loader import Dataset, select_examples, verify_selection
from shared.errors import QualityGateError
from shared.evaluation import Validation, validate_by_session
from shared.features.arrays import Inputs
from shared.features.cache import content_key
from shared.features.encoders import Encoder
from shared.features.graph import FeatureGraph, Samples
from shared.features.graph_cache import recall
from shared.features.probes import Probe, accepted_probes
from shared.job import Job, ModelSpec
from shared.learning.candidates import Candidate, CandidateConfig, Rows, fit_candidate
from shared.learning.cost import PlannedCandidate, SampleCounts, TrainingPlan, plan_training
from shared.learning.prediction_sets import LEVEL, fit_set_threshold
from shared.packaging.bundle import Bundle, bundle_files, bundle_manifest, write_bundle
from shared.packaging.export import describe_outputs, export_model, replay, spread
from shared.packaging.output import json_bytes
from shared.report.audit import audit
from shared.report.figures import confusion_picture
from shared.report.metrics import report, with_probes
from shared.report.model_card import model_card
from shared.report.training_log import dataset_fields, evaluation_fields, selection_fields, training_log
from shared.schema_utils import UNKNOWN, TrainingLogEntry
from shared.trainers import Trainer, missing_package
from shared.training_run import Audit, Exported, Replay, Report, TrainedModel, TrainingRun, Unit

SPEC_VERSION = "1.1.0"  # of a model's metadata `spec`: see docs/using-a-model.md


@dataclass(frozen=True)
class Outcome:
    """A finished run: its bundle and the training log entry that it prints."""

    bundle: Bundle
    entry: TrainingLogEntry


Train = Callable[[Job, Any], Outcome]
Decode = Callable[[Path, Mapping[str, Any], Mapping[str, Encoder]], Inputs]  # file, ModelSpec.decode, encoders

Plan = Callable[[Dataset, Any], "PlannedTraining"]  # data set, configuration; nothing is decoded


@dataclass(frozen=True)
class Cutting:
    """How a long recording is cut, in seconds; None is what suits the model."""

    window: float | None = None
    stride: float | None = None


@dataclass(frozen=True)
class Window:
    """A part of a long recording, in seconds, as a model's inputs; None where it holds nothing to classify."""

    onset: float
    offset: float
    inputs: Inputs | None


Windows = Callable[[Path, Mapping[str, Any], Mapping[str, Encoder], Cutting], Iterator[Window]]  # file, ModelSpec


@dataclass(frozen=True)
class PlannedTraining:
    """The samples that a recipe would train on, the candidates before any budget, and seconds to extract landmarks."""

    dataset: Dataset
    candidates: Sequence[PlannedCandidate]
    extraction_seconds: float = 0.0


@dataclass(frozen=True)
class Recipe:
    """How a modality is trained and used: the schema of its configuration, its `train`, and one file -> inputs.

    `windows` cuts a long recording. `plan` tells what `train` would compare, for `--dry-run`.
    """

    config: type[TrainerConfig]
    train: Train
    decode: Decode
    windows: Windows | None = None
    plan: Plan | None = None


def load_recipe(trainer: Trainer) -> Recipe:
    """Import a trainer's recipe. Raises ConfigError where a package that it needs is not installed."""
    try:
        recipe: Recipe = importlib.import_module(f"{trainer.package}.train").RECIPE
    except ModuleNotFoundError as error:
        raise missing_package(trainer, error) from None
    return recipe


def load(job: Job, config: TrainerConfig, modality: Modality) -> Dataset:
    """Load the job's labelled examples, or raise DataError with every fault in them."""
    with job.log.stage("load"):
        selection = select_examples(job.data, job.users, modality, config.data, data_format=job.data_format)
        job.log.record(**selection_fields(selection))
        dataset = verify_selection(selection, config.minimum_per_label)
    job.log.record(**dataset_fields(dataset))
    for warning in dataset.warnings:
        job.log.warn(str(warning))
    return dataset


def estimate(job: Job, config: TrainerConfig, recipe: Recipe, dataset: Dataset) -> tuple[PlannedTraining, TrainingPlan]:
    """Return what a recipe would do with a data set, and which candidates are compared in what time and memory."""
    planned = PlannedTraining(dataset, ()) if recipe.plan is None else recipe.plan(dataset, config)
    return planned, _decide(job, config, planned.dataset, planned.candidates)


def _decide(job: Job, config: TrainerConfig, dataset: Dataset, planned: Sequence[PlannedCandidate]) -> TrainingPlan:
    counts = SampleCounts(
        samples=len(dataset),
        labels=len(dataset.labels),
        groups=len(set(dataset.groups)),
        largest_label=int(np.bincount(dataset.label_index).max()),
    )
    return plan_training(planned, counts, config.evaluation, config.budget_seconds, job.cost)


def within_budget(
    job: Job, config: TrainerConfig, dataset: Dataset, planned: Sequence[PlannedCandidate]
) -> tuple[CandidateConfig[Any], ...]:
    """Return the candidates that `budget_seconds` allows, and name those that it leaves out in log and warnings."""
    decided = _decide(job, config, dataset, planned)
    if decided.left_out:
        job.log.record(left_out_candidates=decided.left_out_names())
        names = ", ".join(f"{one.candidate.name} ({one.total_seconds:.0f} s)" for one in decided.left_out)
        job.log.warn(
            f"candidates not compared, as the training would be estimated to take longer than the "
            f"{decided.budget_seconds:g} s of budget_seconds: {names}"
        )
    return tuple(one.candidate.config for one in decided.compared)


def featurise(
    job: Job,
    graph: FeatureGraph,
    samples: Samples,
    keys: Sequence[str],
    augment: Callable[[Inputs, np.random.Generator], Sequence[Inputs]] | None = None,
    seed: int = 0,
    background: Sequence[Inputs] = (),
) -> Rows:
    """Return the features of all samples, from the cache where `keys` (hashes of the inputs) are known.

    With `augment`, the copies that it makes of each sample get features too, which are never cached, and so do the
    inputs `background`, which no label can be.
    """
    with job.log.stage("featurise"):
        recall(graph, job.cache)
        base = _cached_rows(job, graph, samples, keys)
        background_rows = _cached_rows(job, graph, background, [_inputs_key(one) for one in background])
        copies: list[Inputs] = []
        owner: list[int] = []
        if augment is not None:
            for k in range(len(samples)):
                augmented = augment(samples[k], np.random.default_rng([seed, k]))
                copies.extend(augmented)
                owner.extend([k] * len(augmented))
        empty = np.zeros((0, base.shape[1]), np.float32)
        copied_rows = np.stack(list(graph.run(copies))) if copies else empty
        return Rows(base, copied_rows, np.array(owner, np.int64), background_rows if background else empty)


def _inputs_key(inputs: Inputs) -> str:
    return content_key(*(part for name in sorted(inputs) for part in (name, np.asarray(inputs[name]))))


def _cached_rows(job: Job, graph: FeatureGraph, samples: Samples, keys: Sequence[str]) -> np.ndarray:
    """Return (n, D) float32 features, from the cache where `keys` are known."""
    known = job.cache.get_many(graph.spec_id, keys) if job.cache else {}
    missing = [k for k, key in enumerate(keys) if key not in known]
    rows: list[np.ndarray | None] = [known.get(key) for key in keys]
    for done, (k, row) in enumerate(zip(missing, graph.run(samples, missing), strict=True), start=1):
        rows[k] = row
        job.log.progress(done, len(missing))
    if job.cache and missing:
        job.cache.put_many(graph.spec_id, {keys[k]: np.asarray(rows[k]) for k in missing})
    return np.stack([np.asarray(row, np.float32) for row in rows]) if rows else np.zeros((0, 0), np.float32)


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
    job.log.record(**dataset_fields(dataset))  # decoding may have left samples out
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
    probes: Sequence[Probe] = (),
    replayed: int | None = None,
) -> Outcome:
    """Judge, fit on all samples, export, replay, write the bundle, and publish it where the job names a registry.

    `probes` run through the exported model, and how many it accepts counts in the verdict. `replayed` bounds how many
    samples run through the whole graph; the others run through what follows the features.
    Raises QualityGateError below the gate, ReplayError if the graph disagrees with training.
    """
    result = judge(job, validation, dataset, config)
    model, audited = fit(job, validation, dataset, result)
    exported = export(job, validation, dataset, spec, model)
    proof = prove(job, validation, model, exported, samples, replayed)
    result = probe(job, validation, dataset, exported, probes, result)
    run = TrainingRun(job, config, dataset, spec, validation, result, audited, model, exported, proof)
    return publish_outcome(job, write(run))


def judge(job: Job, validation: Validation, dataset: Dataset, config: TrainerConfig) -> Report:
    """Return the metrics of a validation. Raises QualityGateError where they are below the gate."""
    unit: Unit = "session" if len(dataset.users) == 1 else "person"
    result = report(validation, dataset.label_index, dataset.groups, dataset.labels, unit)
    job.log.record(**evaluation_fields(result, validation, dataset))
    accuracy, baseline = result.metrics["accuracy"], result.metrics["majority_baseline"]
    if accuracy < config.gate.minimum_accuracy:
        raise QualityGateError(
            f"session-wise accuracy {accuracy:.3f} is below gate.minimum_accuracy {config.gate.minimum_accuracy}"
        )
    if config.gate.beat_majority and result.verdict != "insufficient data" and accuracy <= baseline:
        raise QualityGateError(
            f"session-wise accuracy {accuracy:.3f} is no better than always predicting the most frequent label "
            f"({baseline:.3f}); record more samples, or publish all the same with --set gate.beat_majority=false"
        )
    return result


def fit(job: Job, validation: Validation, dataset: Dataset, result: Report) -> tuple[TrainedModel, Audit]:
    """Fit the selected candidate on all samples and, at the same time, audit them."""
    every, source = np.arange(len(dataset)), validation.winner.source
    with job.log.stage("fit"), ThreadPoolExecutor(1) as pool:
        fitting = pool.submit(fit_candidate, validation.winner, dataset.label_index, every, len(dataset.labels))
        features = source.rows(every).base
        audited = audit(result, validation, dataset, features)
        model = TrainedModel(source.graph(every), features, fitting.result())
    for warning in audited.warnings:
        job.log.warn(warning)
    return model, audited


def export(job: Job, validation: Validation, dataset: Dataset, spec: ModelSpec, model: TrainedModel) -> Exported:
    """Return the model as one ONNX graph that says how its inputs are made, and what its outputs and labels are."""
    graph = model.graph
    with job.log.stage("export"):
        recall(graph, job.cache)  # before its `spec_id`, which would trace it
        described = {
            "spec_version": SPEC_VERSION,
            "modality": dataset.modality,
            "feature_spec_id": graph.spec_id,
            "normalisation_version": spec.normalisation_version,
            "inputs": [asdict(tensor) for tensor in graph.contract],
            "outputs": describe_outputs(dataset.labels),
            "preparation": dict(spec.preparation),
            "decode": dict(spec.decode),
            "encoders": [ref.model_dump() for ref in spec.encoder_refs],
            "expected_frame_rate": spec.expected_frame_rate,
            "expected_length": spec.expected_length,
            "rejection_threshold": validation.rule.threshold,
            "unknown": UNKNOWN,
            "set_threshold": fit_set_threshold(validation.probabilities, dataset.label_index, np.array(dataset.groups)),
            "set_level": LEVEL,
        }
        width = model.features.shape[1]
        return export_model(graph, width, model.fitted, validation.rule, dataset.labels, described, job.cache)


def prove(
    job: Job, validation: Validation, model: TrainedModel, exported: Exported, samples: Samples, replayed: int | None
) -> Replay:
    """Run the samples through the exported graph. Raises ReplayError where it disagrees with training."""
    with job.log.stage("replay"):
        whole = spread(len(model.features), replayed)
        return replay(exported, model.features, samples, whole, model.fitted, validation.rule, job.log.progress)


def probe(
    job: Job, validation: Validation, dataset: Dataset, exported: Exported, probes: Sequence[Probe], result: Report
) -> Report:
    """Run the probes through the exported graph, and return the report with the share of them that it accepts."""
    if not probes:
        return result
    with job.log.stage("replay"):
        result = with_probes(result, probes, accepted_probes(exported.model, probes))
    job.log.record(**evaluation_fields(result, validation, dataset))
    return result


def write(run: TrainingRun) -> Outcome:
    """Write the bundle: model, labels, training log, model card, confusion matrix."""
    with run.job.log.stage("bundle"):
        entry = training_log(run)
        logged = entry.model_dump(mode="json")
        title = f"{entry.user_id}, {entry.modality}: {run.report.metrics['accuracy']:.2f} across {run.report.unit}s"
        reports = {
            "training_log": json_bytes(logged),
            "model_card": model_card(entry, run.report),
            "confusion_matrix": confusion_picture(run.report.confusion_matrix, run.dataset.labels, title),
        }
        files = bundle_files(run, reports)
        bundle = write_bundle(run.job.out, bundle_manifest(run, files, logged["timestamp"]), files)
    update = {"bundle": str(bundle.folder), "seconds": run.job.log.rounded_seconds()}
    return Outcome(bundle, entry.model_copy(update=update))


def publish_outcome(job: Job, outcome: Outcome) -> Outcome:
    """Publish a bundle in the job's registry, if it names one, and say so in the training log entry."""
    if job.registry is None:
        return outcome
    with job.log.stage("publish"):
        published, promotion = publish(outcome.bundle.folder, job.registry, job.promote)
    if published.entry.status != "active":
        job.log.warn(f"published as a candidate, not as the active version: {promotion.reason}")
    update = {
        "model_version": published.entry.model_version,
        "model_artifact_path": published.entry.model_artifact_path,
        "label_encoder_path": published.entry.label_encoder_path,
        "promotion": asdict(promotion),
        "warnings": list(job.log.warnings),
        "seconds": job.log.rounded_seconds(),
    }
    return replace(outcome, entry=outcome.entry.model_copy(update=update))
