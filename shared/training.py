"""One training run from its options: what every way to start one shares, the command line and the Python API."""

from __future__ import annotations

import json
import secrets
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from model_registry.errors import NotFoundError
from model_registry.location import WritableRegistry
from model_registry.names import DEFAULT_USER, InvalidNameError, Modality, parse_name
from model_registry.promotion import PromotionPolicy
from model_registry.storage.entry import FILE_LIMIT, parse_json
from shared.errors import ConfigError, Fault, ReplayError
from shared.logs import RunLog
from shared.packaging.output import bundle_folder, output_faults
from shared.trainers import Trainer

if TYPE_CHECKING:
    from shared.config import TrainerConfig
    from shared.data_loader import DataFormat
    from shared.job import Job
    from shared.recipe import Outcome, Recipe
    from shared.schema_utils import TrainingRequest

UNKNOWN_USER = "_unknown"  # in the log of a run that failed before its user was known


@dataclass(frozen=True)
class TrainingOptions:
    """What one training run is asked for: whose model, from which data, to where, and how it is trained."""

    users: tuple[str, ...]
    run_id: str
    data: Path
    out: Path
    config: Path | Mapping[str, Any] | None = None  # a YAML file, or what would stand in one
    settings: Sequence[str] = ()  # key=value, laid over the configuration
    sessions: Sequence[str] = ()
    seed: int | None = None
    registry: WritableRegistry | None = None
    promote: PromotionPolicy = "if-better"
    demo_data: bool | None = None
    data_format: DataFormat = "auto"
    request: str | None = None  # A3CP's training request as JSON
    add_label: bool = False  # keep the candidate of the active version in `registry` instead of comparing again
    cache: bool = True


def train_model(trainer: Trainer, recipe: Recipe, options: TrainingOptions, log: RunLog) -> Outcome:
    """Train one model. Raises TrainerError or RegistryError; what was known by then is in `log`.

    What is wrong with the options is found before anything is trained.
    """
    from threadpoolctl import threadpool_limits

    with threadpool_limits(1):  # sums in another order would give other bytes on another number of cores
        return _train_despite_cache(recipe, *_prepare(trainer, recipe, options, log))


def describe_training(trainer: Trainer, recipe: Recipe, options: TrainingOptions, log: RunLog) -> dict[str, Any]:
    """Return what `train_model` would train, as JSON, and what that is estimated to take; nothing is written.

    Raises what `train_model` raises before it decodes the first recording.
    """
    from shared.recipe import estimate, load

    job, config = _prepare(trainer, recipe, replace(options, cache=False), log)
    dataset = load(job, config, trainer.modality)
    planned, decided = estimate(job, config, recipe, dataset)
    samples: dict[str, dict[str, int]] = {label: {} for label in planned.dataset.labels}
    for sample, session in zip(planned.dataset.samples, planned.dataset.session_ids, strict=True):
        samples[sample.label][session] = samples[sample.label].get(session, 0) + 1
    return {
        "status": "dry_run",
        **{name: log.fields[name] for name in ("user_id", "modality", "users", "run_id", "training_config")},
        "sample_count": len(planned.dataset),
        "label_counts": {label: sum(counts.values()) for label, counts in samples.items()},
        "samples": samples,
        "background_count": len(dataset.background),
        "dropped": log.fields["dropped"],
        "candidates": [{"name": one.candidate.name, "seconds": round(one.seconds, 1)} for one in decided.compared],
        "left_out_candidates": decided.left_out_names(),
        "budget_seconds": decided.budget_seconds,
        "estimated_seconds": round(decided.seconds + planned.extraction_seconds, 1),
        "estimated_memory_bytes": decided.memory_bytes,
        "warnings": list(log.warnings),
    }


def _train_despite_cache(recipe: Recipe, job: Job, config: TrainerConfig) -> Outcome:
    """Train; where replay contradicts features, train once more with what the feature cache holds computed anew."""
    try:
        return recipe.train(job, config)
    except ReplayError as error:
        if job.cache is None or job.cache.refresh:
            raise
        job.log.warn(f"the feature cache may be wrong, and what it holds of this run is computed again: {error}")
        return recipe.train(replace(job, cache=replace(job.cache, refresh=True)), config)


def _prepare(trainer: Trainer, recipe: Recipe, options: TrainingOptions, log: RunLog) -> tuple[Job, TrainerConfig]:
    """Return job and configuration."""
    from shared.config import config_from_request, load_config
    from shared.features.cache import FeatureCache
    from shared.job import Job

    for user in options.users:
        parse_name(user, "--user")
    parse_name(options.run_id, "--run-id")
    request = _parse_request(options.request, trainer, log)
    if options.registry is not None:
        options.registry.check_writable()
    chosen: Mapping[str, Any] = request.training_config if request else {}
    sections: dict[str, Mapping[str, Any]] = {}
    if options.add_label:
        chosen = sections["--add-label"] = {"candidates": [_active_candidate(trainer, options, log)]}
    if isinstance(options.config, Mapping):
        sections["config"] = options.config
    if options.seed is not None:
        sections["--seed"] = {"seed": options.seed}
    if options.demo_data is not None:
        sections["--demo-data"] = {"data": {"include_demo": options.demo_data}}
    if options.sessions:
        sections["--session"] = {"data": {"sessions": list(options.sessions)}}
    faults = _path_faults(options, trainer.modality, log)
    file = options.config if isinstance(options.config, Path) else None
    try:
        config = load_config(recipe.config, file, options.settings, sections)
    except ConfigError as error:
        raise ConfigError([*faults, *error.faults]) from None
    log.record(training_config=config.model_dump(mode="json"))
    if faults:
        raise ConfigError(faults)
    if request is not None:
        config = config_from_request(request.training_config, config)
        log.record(training_config=config.model_dump(mode="json"))
    if len(options.users) > 1 and not config.data.require_consent:
        raise ConfigError("data.require_consent: only consented examples may be pooled")
    job = Job(
        users=options.users,
        data=options.data,
        out=options.out,
        run_id=options.run_id,
        registry=options.registry,
        data_format=options.data_format,
        fingerprint=_fingerprint(trainer, options, chosen),
        package=trainer.package,
        cost=trainer.cost,
        promote=options.promote,
        cache=FeatureCache() if options.cache else None,
        log=log,
        request=request,
    )
    log.record(job_fingerprint=job.fingerprint)
    return job, config


def _parse_request(text: str | None, trainer: Trainer, log: RunLog) -> TrainingRequest | None:
    """Return the request of `--request`. Raises ConfigError with all faults, or where it is for another model."""
    from pydantic import ValidationError

    from shared.schema_faults import faults_of
    from shared.schema_utils import TrainingRequest

    if text is None:
        return None
    try:
        request = TrainingRequest.model_validate_json(text)
    except ValidationError as error:
        raise ConfigError(faults_of(error, TrainingRequest, "--request", None)) from None
    log.record(**request.log_fields())
    user = log.fields["user_id"]
    if (request.user_id, request.modality) != (user, trainer.modality):
        requested = f"{request.user_id}'s {request.modality} model"
        raise ConfigError(f"--request: is for {requested}, but this run trains {user}'s {trainer.modality} model")
    return request


def _active_candidate(trainer: Trainer, options: TrainingOptions, log: RunLog) -> Any:
    """Return the candidate that the active version was made with, as its log has it. Raises ConfigError without one."""
    user, option = log.fields["user_id"], "--add-label"
    if options.registry is None:
        raise ConfigError(f"{option}: needs --registry, whose active version says what to keep")
    if options.request is not None or any(setting.startswith("candidates") for setting in options.settings):
        other = "--request" if options.request is not None else "--set candidates"
        raise ConfigError(f"{option}: {other} names features and classifier, too; leave one of the two out")
    try:
        data = options.registry.training_log(user, trainer.modality)
    except NotFoundError:
        raise ConfigError(
            f"{option}: {user} has no active {trainer.modality} model yet; train one without {option} first"
        ) from None
    active = parse_json(data, "training log", FILE_LIMIT)
    metrics = active.get("metrics")
    candidate = metrics.get("chosen_candidate") if isinstance(metrics, dict) else None
    if candidate is None:
        raise ConfigError(
            f"{option}: the log of {user}'s active {trainer.modality} model does not say what it was made of; "
            f"train once without {option}"
        )
    log.warn(
        f"features and classifier are those of {active['model_version']}, and were chosen with most of these samples: "
        f"the accuracy may be slightly optimistic; train without {option} to compare all candidates"
    )
    return candidate


def _path_faults(options: TrainingOptions, modality: Modality, log: RunLog) -> list[Fault]:
    """Return what is wrong with the folders that the options name."""
    data, out = options.data, options.out
    faults = output_faults(out, bundle_folder(out, modality, log.fields["user_id"], log.fields["run_id"]))
    if data.exists() and not data.is_dir():
        faults.append(Fault(str(data), None, "--data", "is a file; name the folder that holds users/"))
    return faults


def _fingerprint(trainer: Trainer, options: TrainingOptions, chosen: Mapping[str, Any]) -> str:
    """Return what this job depends on, as the orchestrator computes it beforehand.

    `chosen` is what a request, or the active version, says of features and classifier.
    """
    from shared.features.pretrained import pretrained_folder
    from shared.fingerprint import Options, code_fingerprint, data_fingerprints, job_fingerprint

    described = Options(
        config=_config_bytes(options.config),
        overrides=options.settings,
        sessions=options.sessions,
        seed=options.seed,
        demo_data=options.demo_data,
        data_format=options.data_format,
        training_config=chosen,
    )
    code = code_fingerprint(trainer.package, pretrained_folder())
    modality = trainer.modality
    data = "+".join(data_fingerprints(options.data, user, [modality])[modality] for user in options.users)
    return job_fingerprint(",".join(options.users), modality, data, described, code)


def _config_bytes(config: Path | Mapping[str, Any] | None) -> bytes:
    if isinstance(config, Path):
        return config.read_bytes()
    return json.dumps(config, sort_keys=True, default=str).encode() if config else b""


def run_log(trainer: Trainer, users: Sequence[str], run_id: str | None, log: RunLog | None = None) -> RunLog:
    """Return the log of one run, `log` or a new one, with what is known of the run before anything is read."""
    log = log or RunLog()
    named = [user for user in users if _is_name(user)]
    user = DEFAULT_USER if len(users) > 1 else named[0] if named else UNKNOWN_USER
    log.record(
        user_id=user,
        users=named,
        modality=trainer.modality,
        run_id=run_id if run_id and _is_name(run_id) else new_run_id(),
    )
    return log


def new_run_id() -> str:
    """Return a name for a run that nobody named: the time, UTC, and eight random digits."""
    return f"{datetime.now(UTC):%Y%m%dT%H%M%S}-{secrets.token_hex(4)}"


def _is_name(text: str) -> bool:
    try:
        parse_name(text)
    except InvalidNameError:
        return False
    return True
