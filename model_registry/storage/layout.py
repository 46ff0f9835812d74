"""Where files are under a registry's root."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from model_registry.errors import InvalidNameError
from model_registry.names import Modality, is_modality, parse_user
from model_registry.storage.file_cache import folder_names

_VERSION_FOLDER = re.compile(r"v([1-9][0-9]{0,8})")


@dataclass(frozen=True)
class ModelSlot:
    """The folder of one user's models of one modality. Names have been parsed."""

    root: Path
    user: str
    modality: Modality

    def __str__(self) -> str:
        return f"{self.user}/{self.modality}"

    @cached_property
    def folder(self) -> Path:
        """`<root>/users/<user>/<modality>`."""
        return users_folder(self.root) / self.user / self.modality

    @property
    def active(self) -> Path:
        """The pointer to the active version."""
        return self.folder / "active.json"

    @property
    def history(self) -> Path:
        """Events, one a line. A version is published once its event is recorded here."""
        return self.folder / "history.jsonl"

    def version_folder(self, version: int) -> Path:
        """Return the folder of a version, whether or not it exists."""
        return self.folder / f"v{version}"

    def versions(self) -> list[int]:
        """Return the numbers of the version folders that exist, ascending."""
        try:
            names = [path.name for path in self.folder.iterdir()]
        except (FileNotFoundError, NotADirectoryError):
            return []
        return sorted(int(match.group(1)) for name in names if (match := _VERSION_FOLDER.fullmatch(name)))


def users_folder(root: Path) -> Path:
    """Return the folder that holds one folder a user."""
    return root / "users"


def encoders_folder(root: Path) -> Path:
    """Return the folder that holds one folder a shared encoder, named by the sha256 of its network."""
    return root / "encoders"


def tombstones(root: Path) -> Path:
    """Return the list of erasures: when and why, and nothing about the person."""
    return root / "tombstones.jsonl"


def journal(root: Path) -> Path:
    """Return A3CP's view: one registry entry a line."""
    return root / "model_registry.jsonl"


def users(root: Path) -> Iterator[str]:
    """Yield the users that have a folder, sorted."""
    for name in folder_names(users_folder(root)):
        try:
            yield parse_user(name)
        except InvalidNameError:
            continue  # a staging folder, or not ours


def modalities(root: Path, user: str) -> list[Modality]:
    """Return the modalities that a user has a folder for, sorted."""
    return [name for name in folder_names(users_folder(root) / user) if is_modality(name)]


def slots(root: Path, user: str | None = None, modality: Modality | None = None) -> Iterator[ModelSlot]:
    """Yield the slots that have a folder, by user and modality; only one user's if `user` is given."""
    for name in users(root) if user is None else [user]:
        for kind in modalities(root, name) if modality is None else (modality,):
            slot = ModelSlot(root, name, kind)
            if slot.folder.is_dir():
                yield slot
