"""Copying parts of a registry that is elsewhere into a folder of the same layout, and reading them from there.

Nothing that was copied is trusted: every file is compared with the manifest, the manifest with history or pointer, and
where signatures are required both with the keys that this reader trusts.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from contextlib import AbstractContextManager, suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Protocol

from model_registry.errors import CorruptError, NotFoundError, RegistryError
from model_registry.names import parse_modality, parse_user, parse_version
from model_registry.storage.chain import HISTORY_LIMIT
from model_registry.storage.durable import ensure_folder, file_sha256, write_file_atomically
from model_registry.storage.encoders import SPEC_FILE, read_encoder
from model_registry.storage.entry import DOCUMENT_LIMIT, EncoderRef, RegistryEntry
from model_registry.storage.history import (
    active_version,
    published_manifest,
    read_events,
    read_pointer,
    read_trusted_events,
    statuses,
)
from model_registry.storage.layout import ModelSlot, encoders_folder
from model_registry.storage.publication import ENCODER_LIMIT
from model_registry.storage.resolution import ResolvedVersion, resolve_active
from model_registry.storage.signatures import SIGNATURE_FILE, Signatures
from model_registry.storage.verification import check_encoder, read_entry, read_manifest, read_version


@dataclass(frozen=True)
class RegistryCopy:
    """A folder with a registry's layout, and how what is missing in it is read."""

    into: Path
    encoders_root: Path  # `into`, or another folder that has the folder of encoders
    address: str  # of the registry that is copied
    signatures: Signatures
    # name under the registry's root, limit -> the content, at most one byte more than the limit; NotFoundError
    read: Callable[[str, int], bytes]

    def fetch(
        self, user: str, modality: str, version: str | int | None, *, with_encoders: bool = True
    ) -> ResolvedVersion:
        """Return the active version, or `version`, copied and checked. Raises NotFoundError, CorruptError."""
        slot = ModelSlot(self.into, parse_user(user), parse_modality(modality))
        if version is not None:
            return self._exact(slot, parse_version(version), with_encoders)
        resolved = resolve_active(slot.user, lambda user: self._active(replace(slot, user=user), with_encoders))
        if resolved is None:
            raise NotFoundError(f"{slot}: no active version at {self.address}")
        return resolved

    def _active(self, slot: ModelSlot, with_encoders: bool) -> ResolvedVersion | None:
        """Return a slot's active version, copied and checked, if there is one.

        The pointer says which: one small file. Nobody signs it, so that where signatures are required the history does.
        """
        if self.signatures.required:
            slot.history.unlink(missing_ok=True)  # of an earlier copy
            with suppress(NotFoundError):
                self.copy(self._name(slot.history), limit=HISTORY_LIMIT)
            events = read_trusted_events(slot, self.signatures, self.address)
            number = active_version(events)
            if number is None:
                return None
            sha256 = published_manifest(events, number)
        else:
            try:
                self.copy(self._name(slot.active))
            except NotFoundError:
                return None
            pointer = read_pointer(slot)
            if pointer is None:
                return None
            number, sha256 = pointer.version, pointer.manifest_sha256
        version = self._version(slot, number, sha256, with_encoders)
        return replace(version, entry=version.entry.model_copy(update={"status": "active"}))

    def _exact(self, slot: ModelSlot, number: int, with_encoders: bool) -> ResolvedVersion:
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
        self.copy(self._name(folder / "manifest.json"), manifest_sha256, complete=True)
        manifest = read_manifest(slot, number, manifest_sha256)
        with suppress(NotFoundError):
            self.copy(self._name(folder / SIGNATURE_FILE))
        for file in manifest.files.values():
            self.copy(self._name(folder / file.name), file.sha256, file.size, complete=True)
        trusted = self.signatures.required_keys()
        version = read_version(slot, number, manifest_sha256, with_encoders=False, trusted=trusted)
        if not with_encoders:
            return version
        return replace(
            version,
            encoders={
                ref.name: self._encoder(ref, manifest.encoders.get(ref.sha256))
                for ref in read_entry(slot, number, manifest_sha256).encoder_refs
            },
        )

    def _encoder(self, ref: EncoderRef, spec_sha256: str | None) -> Path:
        """Return the folder of an encoder, copied and checked."""
        place = f"encoders/{ref.sha256}"
        folder = encoders_folder(self.encoders_root) / ref.sha256
        self.copy(f"{place}/{SPEC_FILE}", spec_sha256, complete=True)
        for name, sha256 in read_encoder(folder).files.items():
            self.copy(f"{place}/{name}", sha256, ENCODER_LIMIT, complete=True)
        return check_encoder(self.encoders_root, ref, spec_sha256)

    def _name(self, path: Path) -> str:
        return path.relative_to(self.into).as_posix()

    def copy(
        self, name: str, sha256: str | None = None, limit: int = DOCUMENT_LIMIT, *, complete: bool = False
    ) -> None:
        """Copy one file, unless it is there with the right sha256.

        Raises NotFoundError, or with `complete`, where another file says that it exists, CorruptError.
        """
        target = (self.encoders_root if name.startswith("encoders/") else self.into) / name
        if sha256 is not None and target.is_file() and file_sha256(target) == sha256:
            return
        try:
            data = self.read(name, limit)
        except NotFoundError:
            if complete:
                raise CorruptError(f"{name}: is missing: the copy is not complete") from None
            raise
        if len(data) > limit:
            raise CorruptError(f"{name}: larger than {limit} bytes")
        if sha256 is not None and hashlib.sha256(data).hexdigest() != sha256:
            raise CorruptError(f"{name}: is not what was published, or the copy is not complete")
        ensure_folder(target.parent)
        write_file_atomically(target, data)


class _Openable(Protocol):
    def open_version(
        self, user: str, modality: str, version: str | int | None = None
    ) -> AbstractContextManager[ResolvedVersion]: ...


def checked_copy(registry: _Openable, entry: RegistryEntry) -> tuple[str, str | None]:
    """Copy a version into a temporary folder; return its name and what is wrong with it, or None."""
    try:
        with registry.open_version(entry.user_id, entry.modality, entry.version):
            fault = None
    except RegistryError as error:
        fault = str(error)
    return f"{entry.user_id}/{entry.modality} {entry.model_version}", fault
