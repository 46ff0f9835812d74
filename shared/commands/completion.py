"""What the shell completes in commands on data and models: users, modalities, labels and keys of configurations."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from pathlib import Path

import click
from pydantic import BaseModel

from model_registry.commands.completion import completion, users_of
from shared.trainers import modality_names


@completion
def recorded_users(context: click.Context) -> list[str]:
    """Complete users of the data root and of the registry that the command line names."""
    from shared.data_loader import known_users  # slow to import

    data = context.params.get("data")
    return [*([] if data is None else known_users(Path(data))), *users_of(context)]


@completion
def installed_modalities(_context: click.Context) -> Iterable[str]:
    """Complete the modalities that there is a trainer for."""
    return modality_names()


@completion
def recorded_labels(context: click.Context) -> Iterator[str]:
    """Complete the labels of the named user's own sessions."""
    data, user = context.params.get("data"), context.params.get("user")
    if data is None or user is None:
        return
    for path in (Path(data) / "users" / user / "sessions").glob("*/examples.jsonl"):
        for line in path.read_text(encoding="utf-8").splitlines():
            try:
                yield str(json.loads(line)["label"])
            except (ValueError, KeyError, TypeError):
                continue  # `check` names the fault


def dotted_keys(config: type[BaseModel], prefix: str = "") -> Iterator[str]:
    """Yield the keys of a configuration that take a value, such as `evaluation.folds`."""
    for name, field in config.model_fields.items():
        if isinstance(field.annotation, type) and issubclass(field.annotation, BaseModel):
            yield from dotted_keys(field.annotation, f"{prefix}{name}.")
        else:
            yield prefix + name
