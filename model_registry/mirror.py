"""A copy of a registry on an object store, or on any other file system that fsspec can read.

Reading is as safe there as on a disk: every file is compared with the manifest, and the manifest with the pointer, so a
copy that is incomplete, mixed or damaged is refused and never used. Not guaranteed there: that the newest version is
visible at once, and anything about writing. Publish to a folder or a service, and copy from there.
"""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import fsspec

from model_registry.copying import RegistryCopy, checked_copy
from model_registry.errors import CorruptError, NoRegistryError, NotFoundError, UnreachableError
from model_registry.folders import configured_signatures
from model_registry.names import is_modality, parse_modality, parse_user, parse_version
from model_registry.storage.comparison import Difference, compare_versions
from model_registry.storage.durable import path_errors, read_file, storage_errors, temporary_folder
from model_registry.storage.entry import FILE_LIMIT, ExportForm, RegistryEntry, Status
from model_registry.storage.history import VersionRecord
from model_registry.storage.layout import ModelSlot
from model_registry.storage.resolution import ResolvedVersion
from model_registry.storage.signatures import Signatures
from model_registry.storage.verification import Damage, OnDamage, log_damage
from model_registry.store import Registry


@dataclass(frozen=True)
class MirrorRegistry:
    """A registry that can only be read, at an fsspec URL such as `s3://bucket/models`.

    What is needed of it is copied into a folder with a registry's own layout, and read from there.
    """

    url: str
    signatures: Signatures = field(default_factory=configured_signatures)

    @property
    def address(self) -> str:
        """The URL."""
        return self.url.rstrip("/")

    def fetch(self, user: str, modality: str, into: Path, version: str | int | None = None) -> ResolvedVersion:
        """Copy the active version, or `version`, into a folder and return it; what is there already is only checked.

        A file appears only when its sha256 is right. Raises NotFoundError, and CorruptError naming the file.
        """
        return self._fetch(user, modality, into, version, with_encoders=True)

    @contextmanager
    def open_version(self, user: str, modality: str, version: str | int | None = None) -> Iterator[ResolvedVersion]:
        """Yield the active version, or `version`, copied into a temporary folder. Raises what `fetch` raises."""
        with temporary_folder() as folder:
            yield self.fetch(user, modality, folder, version)

    def training_log(self, user: str, modality: str, version: str | int | None = None) -> bytes:
        """Return the training log of a user's own active version, or of `version`. Raises NotFoundError."""
        with temporary_folder() as folder:
            resolved = self._fetch(user, modality, folder, version, with_encoders=False)
            if resolved.fallback:
                raise NotFoundError(f"{user}/{modality}: no active version of their own")
            return read_file(resolved.files["training_log"], FILE_LIMIT)

    def entries(
        self,
        *,
        user: str | None = None,
        modality: str | None = None,
        status: Status | None = None,
        verdict: str | None = None,
        on_damage: OnDamage = log_damage,
    ) -> Iterator[RegistryEntry]:
        """Yield published versions with their present status, by user, modality and version.

        What is damaged, or not completely copied, is given to `on_damage` instead.
        """
        with self._documents(user, modality, on_damage) as store:
            yield from store.entries(user=user, modality=modality, status=status, verdict=verdict, on_damage=on_damage)

    def show(self, user: str, modality: str, version: str | int) -> VersionRecord:
        """Return a version's entry and its events. Raises NotFoundError."""
        with self._documents(user, modality, _raise_damage) as store:
            return store.show(user, modality, version)

    def verify_all(
        self, *, user: str | None = None, modality: str | None = None, version: str | int | None = None
    ) -> Iterator[tuple[str, str | None]]:
        """Copy and check every version, or those named; yield each one's name and what is wrong with it, or None."""
        only = None if version is None else parse_version(version)
        damaged: list[Damage] = []
        for entry in self.entries(user=user, modality=modality, on_damage=damaged.append):
            if only is None or entry.version == only:
                yield checked_copy(self, entry)
        yield from ((damage.name, damage.reason) for damage in damaged)

    def diff(self, user: str, modality: str, before: str | int, after: str | int) -> Difference:
        """Compare two versions. Raises NotFoundError."""
        return compare_versions(self, user, modality, before, after)

    def export(
        self, user: str, modality: str, target: Path, *, version: str | int | None = None, form: ExportForm
    ) -> None:
        """Write the active version, or `version`, to one file. See `portable`."""
        from model_registry.storage import portable  # ONNX takes longer to import than everything else together

        with self.open_version(user, modality, version) as resolved:
            portable.export(resolved, target, form)

    def _fetch(
        self, user: str, modality: str, into: Path, version: str | int | None, *, with_encoders: bool
    ) -> ResolvedVersion:
        user, kind = parse_user(user), parse_modality(modality)
        number = None if version is None else parse_version(version)
        with storage_errors("fetch"), path_errors(into):
            copy = _Source.of(self.url).copied(into, self)
            return copy.fetch(user, kind, number, with_encoders=with_encoders)

    @contextmanager
    def _documents(self, user: str | None, modality: str | None, on_damage: OnDamage) -> Iterator[Registry]:
        """Yield a registry in a temporary folder that has histories, manifests and entries, but no other files."""
        with temporary_folder() as folder:
            source = _Source.of(self.url)
            copy = source.copied(folder, self)
            for name in source.users() if user is None else [parse_user(user)]:
                for kind in source.modalities(name) if modality is None else [parse_modality(modality)]:
                    try:
                        copy.copy_entries(ModelSlot(copy.into, name, kind))
                    except CorruptError as error:
                        on_damage(Damage(name, kind, None, str(error)))
                        shutil.rmtree(ModelSlot(copy.into, name, kind).folder)
            yield Registry(copy.into)


@dataclass(frozen=True)
class _Source:
    """A registry on some file system."""

    files: Any  # fsspec publishes no types
    root: str

    @classmethod
    def of(cls, url: str) -> _Source:
        """Raise NoRegistryError where fsspec cannot open `url`, UnreachableError where its server does not respond."""
        try:
            return cls(*fsspec.core.url_to_fs(url.rstrip("/")))
        except (ValueError, ImportError) as error:
            raise NoRegistryError(f"{url}: cannot be opened: {error}") from None
        except OSError as error:
            raise UnreachableError(f"{url}: cannot be reached: {error}") from error

    def copied(self, into: Path, registry: MirrorRegistry) -> RegistryCopy:
        """Return a folder into which parts of the registry are copied. Raises NoRegistryError where there is none."""
        copy = RegistryCopy(into, into, registry.address, registry.signatures, self.read)
        try:
            copy.copy("registry.json")
        except NotFoundError:
            raise NoRegistryError(f"{registry.url}: no registry here; check --registry") from None
        return copy

    def read(self, name: str, limit: int) -> bytes:
        """Return a file's content, at most `limit` + 1 bytes of it. Raises NotFoundError, UnreachableError."""
        try:
            with self.files.open(f"{self.root}/{name}", "rb") as file:
                data: bytes = file.read(limit + 1)
        except (FileNotFoundError, NotADirectoryError, IsADirectoryError):
            raise NotFoundError(f"{name}: no such file") from None
        except OSError as error:
            raise UnreachableError(f"{self.root}/{name}: cannot be read: {error}") from error
        return data

    def users(self) -> list[str]:
        return [name for name in self._listed("users") if _is_user(name)]

    def modalities(self, user: str) -> list[str]:
        return [name for name in self._listed(f"users/{user}") if is_modality(name)]

    def _listed(self, folder: str) -> list[str]:
        """Return the names in a folder, sorted; none where there is no such folder. Raises UnreachableError."""
        try:
            paths = self.files.ls(f"{self.root}/{folder}", detail=False)
        except (FileNotFoundError, NotADirectoryError):
            return []
        except OSError as error:
            raise UnreachableError(f"{self.root}/{folder}: cannot be read: {error}") from error
        return sorted(path.rstrip("/").rpartition("/")[2] for path in paths)


def _raise_damage(damage: Damage) -> None:
    raise CorruptError(str(damage))


def _is_user(name: str) -> bool:
    try:
        return parse_user(name) == name
    except ValueError:
        return False
