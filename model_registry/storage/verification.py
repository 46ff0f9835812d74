"""Reading a version only after checking that every file of it is what was published."""

from __future__ import annotations

import hashlib
import logging
import os
import re
import stat
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import TypeVar

from pydantic import ValidationError

from model_registry.errors import CorruptError, DocumentError, NotFoundError, UntrustedError
from model_registry.messages import printable
from model_registry.storage.durable import file_sha256, open_file, read_file
from model_registry.storage.encoders import SPEC_FILE, EncoderSpec, read_encoder
from model_registry.storage.entry import (
    DOCUMENT_LIMIT,
    Document,
    EncoderRef,
    RegistryEntry,
    VersionManifest,
)
from model_registry.storage.external_data import published_model_fault
from model_registry.storage.file_cache import FileCache, file_identity, identity_of
from model_registry.storage.layout import ModelSlot, encoders_folder
from model_registry.storage.resolution import ResolvedVersion
from model_registry.storage.signatures import SIGNATURE_FILE, signature_fault

_LOG = logging.getLogger("model_registry")
_REMEMBERED = 100_000  # files
_Kind = TypeVar("_Kind", bound=Document)
_sha256s: FileCache[str] = FileCache(_REMEMBERED)
_documents: FileCache[tuple[str, Document]] = FileCache(_REMEMBERED)  # with the sha256 of their bytes
_specs: FileCache[tuple[str, EncoderSpec]] = FileCache(1000)


@dataclass(frozen=True)
class Damage:
    """What a reader of many versions passed over: a version, or all of a slot where its history is damaged."""

    user: str
    modality: str
    version: int | None
    reason: str

    @property
    def name(self) -> str:
        """What is damaged: `ana/gesture v3`, or `ana/gesture`."""
        return f"{self.user}/{self.modality}" + ("" if self.version is None else f" v{self.version}")

    def __str__(self) -> str:
        return f"{self.name}: {self.reason}"


OnDamage = Callable[[Damage], None]


def log_damage(damage: Damage) -> None:
    """Log a warning that names what was passed over."""
    _LOG.warning("%s", damage)


def checked_sha256(path: Path) -> str:
    """Return the sha256 of a regular file, no link. Raises NotFoundError.

    A file whose inode, size and times are as they were when this process last read it is not read again.
    """
    name = str(path)
    known = _sha256s.get(name, identity_of(name))
    if known is not None:
        return known
    fd = open_file(path)
    try:
        identity = file_identity(os.fstat(fd))
        with os.fdopen(fd, "rb", closefd=False) as file:
            sha256 = file_sha256(file)
        if file_identity(os.fstat(fd)) == identity:
            _sha256s.remember(name, identity, sha256)
        return sha256
    finally:
        os.close(fd)


def read_checked(path: Path, sha256: str, limit: int) -> bytes:
    """Return a file's content, which has this sha256: the bytes that are checked are those that are used.

    Raises CorruptError, NotFoundError.
    """
    data = read_file(path, limit)
    if hashlib.sha256(data).hexdigest() != sha256:
        raise CorruptError(f"{path}: is not what was published")
    return data


def folder_faults(folder: Path, files: Mapping[str, str], *also_allowed: str) -> list[str]:
    """Return everything in which a folder differs from `files`, name -> sha256, one line each.

    Links, folders and files that are not listed are faults; `also_allowed` names files that are not listed.
    """
    try:
        items = {item.name: item for item in os.scandir(folder)}
    except (FileNotFoundError, NotADirectoryError):
        return [f"{folder}: no such folder"]
    faults = [f"{folder / name}: is missing" for name in files if name not in items]
    for name, item in items.items():
        status = item.stat(follow_symlinks=False)
        if stat.S_ISLNK(status.st_mode):
            faults.append(f"{folder / name}: is a link")
        elif not stat.S_ISREG(status.st_mode):
            faults.append(f"{folder / name}: is not a file")
        elif name in files:
            sha256 = _sha256s.get(item.path, file_identity(status)) or checked_sha256(folder / name)
            if sha256 != files[name]:
                faults.append(f"{folder / name}: sha256 is {sha256}, should be {files[name]}")
        elif name not in also_allowed:
            faults.append(f"{folder / name}: does not belong here")
    return sorted(faults)


def read_version(
    slot: ModelSlot,
    version: int,
    manifest_sha256: str,
    *,
    with_encoders: bool = True,
    trusted: frozenset[str] | None = None,
) -> ResolvedVersion:
    """Return a version after checking every file of it and, `with_encoders`, of its encoders; status as published.

    `manifest_sha256` is what the pointer or the history says of the manifest. Raises NotFoundError if there is no
    such version, CorruptError naming every file that differs or an invalid signature, and UntrustedError unless one of
    the public keys `trusted`, if they are given, has signed the version.
    """
    folder = slot.version_folder(version)
    if not folder.is_dir():
        raise NotFoundError(f"{slot} v{version}: no such version")
    manifest = _manifest(slot, version, folder, manifest_sha256)
    files = {file.name: file.sha256 for file in manifest.files.values()}
    faults = folder_faults(folder, files, "manifest.json", SIGNATURE_FILE)
    if not faults and "model" in manifest.files:
        model = manifest.files["model"]
        fault = published_model_fault(folder / model.name, model.sha256)
        faults += [f"{folder / model.name}: {fault}"] if fault is not None else []
    if faults:
        raise CorruptError("\n".join(faults))
    if trusted is not None or os.path.lexists(folder / SIGNATURE_FILE):
        check_signature(folder, read_checked(folder / "manifest.json", manifest_sha256, DOCUMENT_LIMIT), trusted)
    entry = _entry(folder, manifest)
    return ResolvedVersion(
        user=slot.user,
        entry=entry,
        folder=folder,
        files={role: folder / file.name for role, file in manifest.files.items() if role != "registry_entry"},
        stored={role: file for role, file in manifest.files.items() if role != "registry_entry"},
        encoders={
            ref.name: check_encoder(slot.root, ref, manifest.encoders.get(ref.sha256))
            for ref in (entry.encoder_refs if with_encoders else ())
        },
    )


def check_signature(folder: Path, manifest: bytes, trusted: frozenset[str] | None) -> None:
    """Raise CorruptError for an invalid signature, UntrustedError for one that is missing or by no trusted key."""
    try:
        fault = signature_fault(folder, manifest)
        untrusted = signature_fault(folder, manifest, trusted)
    except DocumentError as error:
        raise CorruptError(str(error)) from None
    if fault is not None:
        raise CorruptError(fault)
    if untrusted is not None:
        raise UntrustedError(untrusted)


def read_manifest(slot: ModelSlot, version: int, sha256: str) -> VersionManifest:
    """Return a version's manifest. Raises CorruptError if it is not the one with this sha256, or another version's."""
    return _manifest(slot, version, slot.version_folder(version), sha256)


def _manifest(slot: ModelSlot, version: int, folder: Path | str, sha256: str) -> VersionManifest:
    path = f"{folder}/manifest.json"
    manifest = _checked(path, VersionManifest, sha256)
    if (manifest.user_id, manifest.modality, manifest.version) != (slot.user, slot.modality, version):
        raise CorruptError(f"{path}: belongs to {manifest.user_id}/{manifest.modality} v{manifest.version}")
    return manifest


def read_entry(slot: ModelSlot, version: int, manifest_sha256: str) -> RegistryEntry:
    """Return a version's entry as it was published, no other file being read than its manifest.

    Raises NotFoundError if there is no such version, CorruptError naming the file.
    """
    folder = f"{slot.folder}/v{version}"  # a path of its own for each of many versions takes long
    try:
        return _entry(folder, _manifest(slot, version, folder, manifest_sha256))
    except CorruptError:
        if not slot.version_folder(version).is_dir():
            raise NotFoundError(f"{slot} v{version}: no such version") from None
        raise


def _entry(folder: Path | str, manifest: VersionManifest) -> RegistryEntry:
    path = f"{folder}/registry_entry.json"
    if "registry_entry" not in manifest.files:
        raise CorruptError(f"{path}: is not listed in the manifest")
    entry = _checked(path, RegistryEntry, manifest.files["registry_entry"].sha256)
    described = (entry.user_id, entry.modality, entry.version, entry.run_id)
    if described != (manifest.user_id, manifest.modality, manifest.version, manifest.run_id):
        raise CorruptError(f"{path}: describes another version than the manifest")
    return entry


def check_encoder(root: Path, ref: EncoderRef, spec_sha256: str | None) -> Path:
    """Return the folder of a shared encoder after checking every file of it. Raises CorruptError, NotFoundError."""
    folder = encoders_folder(root) / ref.sha256
    if not folder.is_dir():
        raise NotFoundError(f"{folder}: encoder {ref.name} is missing; publish a bundle that contains it")
    faults = folder_faults(folder, published_encoder(folder, spec_sha256).files, SPEC_FILE)
    if faults:
        raise CorruptError("\n".join(faults))
    return folder


def published_encoder(folder: Path, spec_sha256: str | None) -> EncoderSpec:
    """Return the spec of a shared encoder, whose `encoder.json` has this sha256. Raises CorruptError, NotFoundError."""
    path = f"{folder}/{SPEC_FILE}"

    def parsed(data: bytes) -> tuple[str, EncoderSpec]:
        return hashlib.sha256(data).hexdigest(), EncoderSpec.model_validate_json(data)

    try:
        sha256, spec = _specs.read(path, DOCUMENT_LIMIT, parsed)
    except ValidationError:
        raise CorruptError(f"{path}: is not what was published") from None
    if sha256 != spec_sha256:
        raise CorruptError(f"{path}: is not what was published")
    return spec


def encoder_fault(folder: Path) -> str | None:
    """Return in what a shared encoder's folder differs from its `encoder.json` and its own name, if in anything."""
    spec = read_encoder(folder)
    if spec.sha256 != folder.name or spec.text().encode() != read_file(folder / SPEC_FILE, DOCUMENT_LIMIT):
        return f"{folder / SPEC_FILE}: is not what was published"
    return "\n".join(folder_faults(folder, spec.files, SPEC_FILE)) or None


def encoder_file(root: Path, sha256: str, name: str) -> Path:
    """Return a file of a shared encoder, if it is as `encoder.json` says. Raises NotFoundError, CorruptError."""
    folder = encoders_folder(root) / sha256
    if re.fullmatch(r"[0-9a-f]{64}", sha256) is None or not folder.is_dir():
        raise NotFoundError(f"encoder {printable(sha256)}: no such encoder")
    spec = read_encoder(folder)
    if name == SPEC_FILE:
        return folder / SPEC_FILE
    if name not in spec.files:
        raise NotFoundError(f"encoder {sha256}: has no file {printable(name)}")
    if checked_sha256(folder / name) != spec.files[name]:
        raise CorruptError(f"{folder / name}: is not what was published")
    return folder / name


@lru_cache(maxsize=10_000)
def _parsed(kind: type[_Kind], data: bytes, name: str) -> _Kind:
    """Return a document; the same bytes are parsed once."""
    document: _Kind = kind.from_json(data, name)
    return document


def _checked(path: str, kind: type[_Kind], sha256: str) -> _Kind:
    """Return the document in a file that has this sha256. A file that did not change since is not read again."""

    def parsed(data: bytes) -> tuple[str, Document]:
        document: Document = _parsed(kind, data, path)
        return hashlib.sha256(data).hexdigest(), document

    try:
        found, document = _documents.read(path, DOCUMENT_LIMIT, parsed)
    except NotFoundError:
        raise CorruptError(f"{path}: is missing") from None
    except DocumentError as error:
        raise CorruptError(str(error)) from None
    if found != sha256 or not isinstance(document, kind):
        raise CorruptError(f"{path}: is not what was published")
    return document
