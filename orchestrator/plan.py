"""Which jobs a batch has and why: users x modalities with data, less what the registry already holds."""

from __future__ import annotations

import secrets
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from model_registry.errors import InvalidNameError
from model_registry.names import Modality, parse_user
from model_registry.storage.entry import RegistryEntry
from orchestrator.jobs import Job, Outcome, Reason, one_line
from shared.errors import ConfigError
from shared.features.pretrained import pretrained_folder
from shared.fingerprint import Options, changes, code_fingerprint, data_fingerprints, job_fingerprint
from shared.schema_utils import TrainingRequest
from shared.trainers import Trainer, all_trainers, find_trainer, parse_known_modality

Counts = Mapping[str, Mapping[Modality, int]]  # user -> modality -> examples
ModelSlot = tuple[str, Modality]

_REASONS: Mapping[str, Reason] = {"data": "new data", "config": "changed config", "code": "changed code"}
_ORDER: tuple[Reason, ...] = ("first model", "new data", "forced", "changed config", "changed code")


@dataclass(frozen=True)
class BatchSpec:
    """What a batch trains and with which options; the paths are absolute."""

    data: Path
    users: tuple[str, ...] = ()  # none: every user with data
    modalities: tuple[Modality, ...] = ()  # none: every modality with a trainer
    configs: Mapping[Modality, Path] = field(default_factory=dict)
    overrides: Mapping[Modality, tuple[str, ...]] = field(default_factory=dict)
    seed: int | None = None
    demo_data: bool | None = None
    data_format: str = "auto"
    force: bool = False
    requests: Mapping[ModelSlot, TrainingRequest] | None = None  # none: every user and modality; else only these

    def selects(self, user: str, modality: Modality) -> bool:
        """Return whether a model is to be trained if there are data for it."""
        selected = not self.modalities or modality in self.modalities
        return selected and (self.requests is None or (user, modality) in self.requests)


@dataclass(frozen=True)
class Plan:
    """The jobs in the order in which they start, and what is not trained because it would come out as before."""

    jobs: tuple[Job, ...]
    up_to_date: tuple[RegistryEntry, ...]
    refused: tuple[Outcome, ...] = ()  # by the quality gate, when the same was last trained
    without_data: tuple[ModelSlot, ...] = ()  # requested by name, but there are no examples

    @property
    def estimated_seconds(self) -> float:
        """Seconds of all jobs, one after the other."""
        return sum(job.estimated_seconds for job in self.jobs)


def make_plan(
    spec: BatchSpec,
    counts: Counts,
    published: Iterable[RegistryEntry],
    measured: Mapping[Modality, float] | None = None,
    refused: Callable[[str, Modality, str], Outcome | None] = lambda user, modality, fingerprint: None,
    damaged: Mapping[ModelSlot, str] | None = None,
) -> Plan:
    """Return the jobs of a batch.

    A job whose fingerprint has been published is up to date; one that `refused` returns an outcome for would be
    refused again. Users with new data come first, and among equals short jobs. `measured` is the mean seconds of each
    modality's jobs in an earlier batch; `damaged` says what is wrong with a history in the registry. Raises ConfigError
    for users without data and for modalities whose trainer is not installed.
    """
    unknown = [user for user in spec.users if not counts.get(user)]
    if unknown and spec.requests is None:
        raise ConfigError("\n".join(f"--users: {user}: no examples of this user in {spec.data}" for user in unknown))
    versions: dict[ModelSlot, list[RegistryEntry]] = {}
    for entry in published:
        versions.setdefault((entry.user_id, entry.modality), []).append(entry)
    for modality in {*spec.modalities, *(modality for _, modality in spec.requests or ())}:
        find_trainer(modality)
    trainers = all_trainers()
    codes = {modality: code_fingerprint(trainer.package, pretrained_folder()) for modality, trainer in trainers.items()}
    forced = secrets.token_hex(4) if spec.force else ""
    jobs: list[Job] = []
    up_to_date: list[RegistryEntry] = []
    refusals: list[Outcome] = []
    for user in spec.users or sorted(counts):
        samples = counts.get(user, {})
        modalities = [modality for modality in trainers if samples.get(modality) and spec.selects(user, modality)]
        digests = data_fingerprints(spec.data, user, modalities) if modalities else {}
        for modality in modalities:
            request = (spec.requests or {}).get((user, modality))
            options = trainer_options(spec, modality, request)
            fingerprint = job_fingerprint(user, modality, digests[modality], options, codes[modality])
            known = versions.get((user, modality), [])
            same = [entry for entry in known if entry.job_fingerprint == fingerprint]
            if same and not spec.force:
                up_to_date.append(same[-1])
                continue
            if not spec.force and (refusal := refused(user, modality, fingerprint)) is not None:
                refusals.append(refusal)
                continue
            job = Job(
                user=user,
                modality=modality,
                data=str(spec.data),
                fingerprint=fingerprint,
                arguments=_arguments(spec, modality),
                request=request,
                samples=samples[modality],
                reasons=("forced",) if same else _reasons(known, fingerprint),
                estimated_seconds=_estimate(trainers[modality], samples[modality], measured or {}),
                forced=forced,
                damage=(damaged or {}).get((user, modality), ""),
            )
            jobs.append(job)
    jobs.sort(key=lambda job: (_ORDER.index(job.reasons[0]), job.estimated_seconds, job.user, job.modality))
    without_data = sorted(slot for slot in spec.requests or () if not counts.get(slot[0], {}).get(slot[1]))
    return Plan(tuple(jobs), tuple(up_to_date), tuple(refusals), tuple(without_data))


def with_present_data(job: Job) -> Job:
    """Return the job with the fingerprint of the data that are on disk now."""
    digest = data_fingerprints(Path(job.data), job.user, [job.modality])[job.modality]
    data = job_fingerprint(job.user, job.modality, digest, Options(), "").split(".")[0]
    return job.model_copy(update={"fingerprint": ".".join([data, *job.fingerprint.split(".")[1:]])})


def trainer_options(spec: BatchSpec, modality: Modality, request: TrainingRequest | None) -> Options:
    """Return the options that a modality's trainer gets. Raises ConfigError for an unreadable configuration file."""
    config = b""
    if modality in spec.configs:
        try:
            config = spec.configs[modality].read_bytes()
        except OSError as error:
            raise ConfigError(f"--config: {spec.configs[modality]}: {error.strerror}") from error
    return Options(
        config=config,
        overrides=spec.overrides.get(modality, ()),
        seed=spec.seed,
        demo_data=spec.demo_data,
        data_format=spec.data_format,
        training_config=request.training_config if request else {},
    )


def _arguments(spec: BatchSpec, modality: Modality) -> tuple[str, ...]:
    words: list[str] = []
    if modality in spec.configs:
        words += ["--config", str(spec.configs[modality])]
    for override in spec.overrides.get(modality, ()):
        words += ["--set", override]
    if spec.seed is not None:
        words += ["--seed", str(spec.seed)]
    if spec.demo_data is not None:
        words.append("--demo-data" if spec.demo_data else "--no-demo-data")
    if spec.data_format != "auto":
        words += ["--data-format", spec.data_format]
    return tuple(words)


def _reasons(known: list[RegistryEntry], fingerprint: str) -> tuple[Reason, ...]:
    if not known:
        return ("first model",)
    return tuple(_REASONS[name] for name in changes(known[-1].job_fingerprint, fingerprint)) or ("changed code",)


def _estimate(trainer: Trainer, samples: int, measured: Mapping[Modality, float]) -> float:
    declared = trainer.cost.start_seconds + trainer.cost.seconds_per_sample * samples
    return round(measured.get(trainer.modality, declared), 3)


def parse_users(text: str) -> tuple[str, ...]:
    """Return the users in a comma-separated list; none for `all`. Raises ConfigError with every bad one."""
    return _parse_list(text, parse_user)


def parse_modalities(text: str) -> tuple[Modality, ...]:
    """Return the modalities in a comma-separated list; none for `all`. Raises ConfigError with every bad one."""
    return _parse_list(text, parse_known_modality)


def _parse_list(text: str, parse: Callable[[str], str]) -> tuple[str, ...]:
    if text.strip() == "all":
        return ()
    names: list[str] = []
    faults: list[str] = []
    for word in filter(None, (word.strip() for word in text.split(","))):
        try:
            names.append(parse(word))
        except InvalidNameError as error:
            faults.append(one_line(error))
    if not names and not faults:
        faults.append("the list of names is empty")
    if faults:
        raise ConfigError("\n".join(faults))
    return tuple(dict.fromkeys(names))
