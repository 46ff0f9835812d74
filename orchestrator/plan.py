"""Which jobs a batch has: the users and modalities asked for, as far as there is data for them."""

from __future__ import annotations

import secrets
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

from model_registry.errors import InvalidNameError
from model_registry.names import MODALITIES, Modality, parse_modality, parse_user
from orchestrator.jobs import Job
from shared.errors import ConfigError

Name = TypeVar("Name", bound=str)
Counts = Mapping[str, Mapping[Modality, int]]  # user -> modality -> examples


@dataclass(frozen=True)
class Request:
    """What is to be trained and with which options; the paths are absolute."""

    data: Path
    bundles: Path
    users: tuple[str, ...] = ()  # none: every user with data
    modalities: tuple[Modality, ...] = MODALITIES
    configs: Mapping[Modality, Path] | None = None
    overrides: Mapping[Modality, tuple[str, ...]] | None = None
    seed: int | None = None
    demo_data: bool = False


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
            faults.append(str(error))
    if not names and not faults:
        faults.append("the list of names is empty")
    if faults:
        raise ConfigError("\n".join(faults))
    return list(dict.fromkeys(names))


def plan_jobs(request: Request, counts: Counts) -> list[Job]:
    """Return one job for every user and modality that has data, by user. Raises ConfigError for users without any."""
    unknown = [user for user in request.users if not counts.get(user)]
    if unknown:
        raise ConfigError("\n".join(f"--users: {user}: no examples of this user in {request.data}" for user in unknown))
    batch = f"{time.strftime('%Y%m%d-%H%M%S', time.gmtime())}-{secrets.token_hex(3)}"
    return [
        Job(
            user=user,
            modality=modality,
            run_id=batch,
            samples=counts[user][modality],
            arguments=_arguments(request, user, modality, batch),
        )
        for user in (request.users or sorted(counts))
        for modality in request.modalities
        if counts[user].get(modality, 0) > 0
    ]


def _arguments(request: Request, user: str, modality: Modality, run_id: str) -> tuple[str, ...]:
    words = ["--user", user, "--data", str(request.data), "--out", str(request.bundles), "--run-id", run_id]
    if request.configs and modality in request.configs:
        words += ["--config", str(request.configs[modality])]
    for override in (request.overrides or {}).get(modality, ()):
        words += ["--set", override]
    if request.seed is not None:
        words += ["--seed", str(request.seed)]
    if request.demo_data:
        words.append("--demo-data")
    return tuple(words)
