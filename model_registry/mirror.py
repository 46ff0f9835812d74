"""A copy of a registry on an object store, or on any other file system that fsspec can read.

Reading is as safe there as on a disk: every file is compared with the manifest, and the manifest with the pointer, so a
copy that is incomplete, mixed or damaged is refused and never used. Not guaranteed there: that the newest version is
visible at once, and anything about writing. Publish to a folder or a service, and copy from there.
"""

from __future__ import annotations

import hashlib
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import fsspec

from model_registry.errors import CorruptError, NoRegistryError, NotFoundError, RegistryError, UnreachableError
from model_registry.names import is_modality, parse_modality, parse_user, parse_version
from model_registry.storage.comparison import Difference, compare_versions
from model_registry.storage.durable import (
    ensure_folder,
    file_sha256,
    path_errors,
    read_file,
    storage_errors,
    write_file_atomically,
)
from model_registry.storage.encoders import SPEC_FILE, read_encoder
from model_registry.storage.entry import (
    DOCUMENT_LIMIT,
    FILE_LIMIT,
    ExportForm,
    RegistryEntry,
    Status,
)
from model_registry.storage.history import (
    HISTORY_LIMIT,
    VersionRecord,
    published_manifest,
    read_events,
    read_pointer,
    statuses,
)
from model_registry.storage.layout import ModelSlot
from model_registry.storage.publication import ENCODER_LIMIT
from model_registry.storage.resolution import ResolvedVersion, resolve_active
from model_registry.storage.verification import Damage, OnDamage, log_damage, read_entry, read_manifest, read_version
from model_registry.store import Registry


@dataclass(frozen=True)
class MirrorRegistry:
    """A registry that can only be read, at an fsspec URL such as `s3://bucket/models`.

    What is needed of it is copied into a folder with a registry's own layout, and read from there.
    """

    url: str

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
        with TemporaryDirectory(prefix="registry-") as folder:
            yield self.fetch(user, modality, Path(folder), version)

    def training_log(self, user: str, modality: str, version: str | int | None = None) -> bytes:
        """Return the training log of a user's own active version, or of `version`. Raises NotFoundError."""
        with TemporaryDirectory(prefix="registry-") as folder:
            resolved = self._fetch(user, modality, Path(folder), version, with_encoders=False)
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
                name = f"{entry.user_id}/{entry.modality} {entry.model_version}"
                try:
                    with self.open_version(entry.user_id, entry.modality, entry.version):
                        yield name, None
                except RegistryError as error:
                    yield name, str(error)
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
        slot = ModelSlot(into, parse_user(user), parse_modality(modality))
        with storage_errors("fetch"), path_errors(into):
            source = _Source.of(self.url, into)
            if version is not None:
                return source.exact(slot, parse_version(version), with_encoders)
            resolved = resolve_active(slot.user, lambda user: source.active(replace(slot, user=user), with_encoders))
        if resolved is None:
            raise NotFoundError(f"{slot}: no active version at {self.url}")
        return resolved

    @contextmanager
    def _documents(self, user: str | None, modality: str | None, on_damage: OnDamage) -> Iterator[Registry]:
        """Yield a registry in a temporary folder that has histories, manifests and entries, but no other files."""
        with TemporaryDirectory(prefix="registry-") as folder:
            source = _Source.of(self.url, Path(folder))
            for name in source.users() if user is None else [parse_user(user)]:
                for kind in source.modalities(name) if modality is None else [parse_modality(modality)]:
                    try:
                        source.copy_entries(ModelSlot(source.into, name, kind))
                    except CorruptError as error:
                        on_damage(Damage(name, kind, None, str(error)))
                        shutil.rmtree(ModelSlot(source.into, name, kind).folder)
            yield Registry(source.into)


@dataclass(frozen=True)
class _Source:
    """A registry on some file system, and the folder into which parts of it are copied, under the same names."""

    files: Any  # fsspec publishes no types
    root: str
    into: Path

    @classmethod
    def of(cls, url: str, into: Path) -> _Source:
        """Raise NoRegistryError where fsspec cannot open `url`, or no registry is there."""
        try:
            files, root = fsspec.core.url_to_fs(url.rstrip("/"))
        except (ValueError, ImportError) as error:
            raise NoRegistryError(f"{url}: cannot be opened: {error}") from None
        source = cls(files, root, into)
        try:
            source.copy("registry.json")
        except NotFoundError:
            raise NoRegistryError(f"{url}: no registry here; check --registry") from None
        return source

    def users(self) -> list[str]:
        return [name for name in self._listed("users") if _is_user(name)]

    def modalities(self, user: str) -> list[str]:
        return [name for name in self._listed(f"users/{user}") if is_modality(name)]

    def _listed(self, folder: str) -> list[str]:
        """Return the names in a folder, sorted; none where there is no such folder."""
        try:
            paths = self.files.ls(f"{self.root}/{folder}", detail=False)
        except (FileNotFoundError, NotADirectoryError):
            return []
        return sorted(path.rstrip("/").rpartition("/")[2] for path in paths)

    def active(self, slot: ModelSlot, with_encoders: bool) -> ResolvedVersion | None:
        """Return a slot's active version, copied and checked, if there is one."""
        try:
            self.copy(self._name(slot.active))
        except NotFoundError:
            return None
        pointer = read_pointer(slot)
        if pointer is None:
            return None
        version = self._version(slot, pointer.version, pointer.manifest_sha256, with_encoders)
        return replace(version, entry=version.entry.model_copy(update={"status": "active"}))

    def exact(self, slot: ModelSlot, number: int, with_encoders: bool) -> ResolvedVersion:
        """Return a version, copied and checked. Raises NotFoundError."""
        self.copy(self._name(slot.history), limit=HISTORY_LIMIT)
        events = read_events(slot)
        status = statuses(events).get(number)
        if status is None:
            raise NotFoundError(f"{slot} v{number}: no such version")
        version = self._version(slot, number, published_manifest(events, number), with_encoders)
        return replace(version, entry=version.entry.model_copy(update={"status": status}))

    def copy_entries(self, slot: ModelSlot) -> None:
        """Copy a slot's history and the entries of its versions, where it has any."""
        try:
            self.copy(self._name(slot.history), limit=HISTORY_LIMIT)
        except NotFoundError:
            return
        events = read_events(slot)
        for version in statuses(events):
            folder, sha256 = slot.version_folder(version), published_manifest(events, version)
            self.copy(self._name(folder / "manifest.json"), sha256, complete=True)
            file = read_manifest(slot, version, sha256).files.get("registry_entry")
            self.copy(self._name(folder / "registry_entry.json"), file.sha256 if file else None, complete=True)

    def _version(self, slot: ModelSlot, number: int, manifest_sha256: str, with_encoders: bool) -> ResolvedVersion:
        folder = slot.version_folder(number)
        path = folder / "manifest.json"
        self.copy(self._name(path), manifest_sha256, complete=True)
        manifest = read_manifest(slot, number, manifest_sha256)
        for file in manifest.files.values():
            self.copy(self._name(folder / file.name), file.sha256, file.size, complete=True)
        if with_encoders:
            for ref in read_entry(slot, number, manifest_sha256).encoder_refs:
                place = f"encoders/{ref.sha256}"
                self.copy(f"{place}/{SPEC_FILE}", manifest.encoders.get(ref.sha256), complete=True)
                for name, sha256 in read_encoder(self.into / place).files.items():
                    self.copy(f"{place}/{name}", sha256, ENCODER_LIMIT, complete=True)
        return read_version(slot, number, manifest_sha256, with_encoders=with_encoders)

    def _name(self, path: Path) -> str:
        return path.relative_to(self.into).as_posix()

    def copy(
        self, name: str, sha256: str | None = None, limit: int = DOCUMENT_LIMIT, *, complete: bool = False
    ) -> None:
        """Copy one file, unless it is there with the right sha256.

        Raises NotFoundError, or with `complete`, where another file says that it exists, CorruptError.
        """
        target = self.into / name
        if sha256 is not None and target.is_file() and file_sha256(target) == sha256:
            return
        try:
            with self.files.open(f"{self.root}/{name}", "rb") as file:
                data: bytes = file.read(limit + 1)
        except (FileNotFoundError, NotADirectoryError, IsADirectoryError):
            if complete:
                raise CorruptError(f"{name}: is missing: the copy is not complete") from None
            raise NotFoundError(f"{name}: no such file") from None
        except OSError as error:
            raise UnreachableError(f"{self.root}/{name}: cannot be read: {error}") from error
        if len(data) > limit:
            raise CorruptError(f"{name}: larger than {limit} bytes")
        if sha256 is not None and hashlib.sha256(data).hexdigest() != sha256:
            raise CorruptError(f"{name}: is not what was published, or the copy is not complete")
        ensure_folder(target.parent)
        write_file_atomically(target, data)


def _raise_damage(damage: Damage) -> None:
    raise CorruptError(str(damage))


def _is_user(name: str) -> bool:
    try:
        return parse_user(name) == name
    except ValueError:
        return False
