"""Which jobs a batch has and why: users x modalities with data, less what the registry already holds."""

from __future__ import annotations

import secrets
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TypeVar

from model_registry.errors import InvalidNameError
from model_registry.names import MODALITIES, Modality, parse_modality, parse_user
from model_registry.storage.entry import RegistryEntry
from orchestrator.jobs import TRAINER_PACKAGES, Job, Outcome, Reason, one_line
from shared.errors import ConfigError
from shared.features.pretrained import pretrained_folder
from shared.fingerprint import Options, changes, code_fingerprint, data_fingerprints, job_fingerprint

Name = TypeVar("Name", bound=str)
Counts = Mapping[str, Mapping[Modality, int]]  # user -> modality -> examples
ModelSlot = tuple[str, Modality]

# Seconds of a job before anything was measured: a start, and each sample.
_SECONDS: Mapping[Modality, tuple[float, float]] = {
    "gesture": (3.0, 0.002),
    "sound": (3.0, 0.007),
    "speech": (3.0, 0.002),
    "visual_environment": (4.0, 0.011),
}
_REASONS: Mapping[str, Reason] = {"data": "new data", "config": "changed config", "code": "changed code"}
_ORDER: tuple[Reason, ...] = ("first model", "new data", "forced", "changed config", "changed code")


@dataclass(frozen=True)
class Request:
    """What is to be trained and with which options; the paths are absolute."""

    data: Path
    users: tuple[str, ...] = ()  # none: every user with data
    modalities: tuple[Modality, ...] = MODALITIES
    configs: Mapping[Modality, Path] = field(default_factory=dict)
    overrides: Mapping[Modality, tuple[str, ...]] = field(default_factory=dict)
    seed: int | None = None
    demo_data: bool | None = None
    data_format: str = "auto"
    force: bool = False
    only: frozenset[ModelSlot] | None = None  # none: every pair of a user and a modality asked for


@dataclass(frozen=True)
class Plan:
    """The jobs in the order in which they start, and what needs no training: it would come out as before."""

    jobs: tuple[Job, ...]
    up_to_date: tuple[RegistryEntry, ...]
    refused: tuple[Outcome, ...] = ()  # by the quality gate, when the same was trained before
    without_data: tuple[ModelSlot, ...] = ()  # requested one by one, and there are no examples

    @property
    def estimated_seconds(self) -> float:
        """Seconds of all jobs, one after the other."""
        return sum(job.estimated_seconds for job in self.jobs)


def make_plan(
    request: Request,
    counts: Counts,
    published: Iterable[RegistryEntry],
    measured: Mapping[Modality, float] | None = None,
    refused: Callable[[str, Modality, str], Outcome | None] = lambda user, modality, fingerprint: None,
) -> Plan:
    """Return what is to be done for `request`.

    A job whose fingerprint has been published is up to date; one that `refused` knows would be refused again. Users
    with new data come first, and among equals short jobs. `measured` is the mean seconds of a modality's jobs in an
    earlier batch. Raises ConfigError for users without data.
    """
    unknown = [user for user in request.users if not counts.get(user)]
    if unknown and request.only is None:
        raise ConfigError("\n".join(f"--users: {user}: no examples of this user in {request.data}" for user in unknown))
    versions: dict[ModelSlot, list[RegistryEntry]] = {}
    for entry in published:
        versions.setdefault((entry.user_id, entry.modality), []).append(entry)
    codes = {modality: code_fingerprint(TRAINER_PACKAGES[modality], pretrained_folder()) for modality in MODALITIES}
    given = {modality: options(request, modality) for modality in request.modalities}
    mark = secrets.token_hex(4) if request.force else ""
    jobs: list[Job] = []
    up_to_date: list[RegistryEntry] = []
    refusals: list[Outcome] = []
    for user in request.users or sorted(counts):
        wanted: list[Modality] = [
            modality for modality in request.modalities if _asked(request, counts, user, modality)
        ]
        digests = data_fingerprints(request.data, user) if wanted else {}
        for modality in wanted:
            fingerprint = job_fingerprint(user, modality, digests[modality], given[modality], codes[modality])
            known = versions.get((user, modality), [])
            same = [entry for entry in known if entry.job_fingerprint == fingerprint]
            if same and not request.force:
                up_to_date.append(same[-1])
                continue
            if not request.force and (refusal := refused(user, modality, fingerprint)) is not None:
                refusals.append(refusal)
                continue
            job = Job(
                user=user,
                modality=modality,
                data=str(request.data),
                fingerprint=fingerprint,
                arguments=_arguments(request, modality),
                samples=counts[user][modality],
                reasons=("forced",) if same else _why(known, fingerprint),
                estimated_seconds=_estimate(modality, counts[user][modality], measured or {}),
                forced=mark,
            )
            jobs.append(job)
    jobs.sort(key=lambda job: (_ORDER.index(job.reasons[0]), job.estimated_seconds, job.user, job.modality))
    without_data = sorted(pair for pair in request.only or () if not counts.get(pair[0], {}).get(pair[1]))
    return Plan(tuple(jobs), tuple(up_to_date), tuple(refusals), tuple(without_data))


def _asked(request: Request, counts: Counts, user: str, modality: Modality) -> bool:
    return bool(counts.get(user, {}).get(modality)) and (request.only is None or (user, modality) in request.only)


def with_present_data(job: Job) -> Job:
    """Return the job as it is with the data that are on disk now."""
    digest = data_fingerprints(Path(job.data), job.user)[job.modality]
    data = job_fingerprint(job.user, job.modality, digest, Options(), "").split(".")[0]
    return job.model_copy(update={"fingerprint": ".".join([data, *job.fingerprint.split(".")[1:]])})


def options(request: Request, modality: Modality) -> Options:
    """Return what the command line says about training one modality. Raises ConfigError for an unreadable file."""
    config = b""
    if modality in request.configs:
        try:
            config = request.configs[modality].read_bytes()
        except OSError as error:
            raise ConfigError(f"--config: {request.configs[modality]}: {error.strerror}") from error
    return Options(
        config=config,
        overrides=request.overrides.get(modality, ()),
        seed=request.seed,
        demo_data=request.demo_data,
        data_format=request.data_format,
    )


def _arguments(request: Request, modality: Modality) -> tuple[str, ...]:
    words: list[str] = []
    if modality in request.configs:
        words += ["--config", str(request.configs[modality])]
    for override in request.overrides.get(modality, ()):
        words += ["--set", override]
    if request.seed is not None:
        words += ["--seed", str(request.seed)]
    if request.demo_data is not None:
        words.append("--demo-data" if request.demo_data else "--no-demo-data")
    if request.data_format != "auto":
        words += ["--data-format", request.data_format]
    return tuple(words)


def _why(known: list[RegistryEntry], fingerprint: str) -> tuple[Reason, ...]:
    if not known:
        return ("first model",)
    return tuple(_REASONS[name] for name in changes(known[-1].job_fingerprint, fingerprint)) or ("changed code",)


def _estimate(modality: Modality, samples: int, measured: Mapping[Modality, float]) -> float:
    start, each = _SECONDS[modality]
    return round(measured.get(modality, start + each * samples), 3)


def parse_users(text: str) -> tuple[str, ...]:
    """Return the users that a comma-separated list names; none for `all`. Raises ConfigError with every bad one."""
    return () if text.strip() == "all" else tuple(_each(text, parse_user))


def parse_modalities(text: str) -> tuple[Modality, ...]:
    """Return the modalities that a comma-separated list names, in their usual order. Raises ConfigError."""
    if text.strip() == "all":
        return MODALITIES
    named = set(_each(text, parse_modality))
    return tuple(modality for modality in MODALITIES if modality in named)


def _each(text: str, parse: Callable[[str], Name]) -> list[Name]:
    names: list[Name] = []
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
    return list(dict.fromkeys(names))
