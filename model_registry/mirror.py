"""Reading a registry that lies on an object store or any other file system that fsspec knows.

What is read there is as sure as on a disk: every file is compared with the manifest, and the manifest with the pointer,
so a copy that is unfinished, mixed or damaged is refused and never used. What is not promised there: that the newest
version is seen at once, and anything about writing. Publish to a folder or a service, and copy from there.
"""

from __future__ import annotations

import hashlib
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import fsspec

from model_registry.errors import CorruptError, DocumentError, NotFoundError
from model_registry.location import Fetched
from model_registry.names import DEFAULT_USER, Modality, parse_modality, parse_user, parse_version
from model_registry.storage.durable import ensure_folder, storage_errors
from model_registry.storage.encoders import SPEC_FILE, EncoderSpec
from model_registry.storage.entry import (
    DOCUMENT_LIMIT,
    ActivePointer,
    Document,
    RegistryEntry,
    VersionManifest,
    parse_json,
)
from model_registry.storage.history import HISTORY_LIMIT, parse_events, published_manifest
from model_registry.storage.publication import ENCODER_LIMIT
from model_registry.store import INSUFFICIENT

_Kind = TypeVar("_Kind", bound=Document)


@dataclass(frozen=True)
class _Place:
    """A registry's root on some file system."""

    files: Any  # fsspec publishes no types
    root: str

    def read(self, name: str, limit: int) -> bytes:
        try:
            with self.files.open(f"{self.root}/{name}", "rb") as file:
                data: bytes = file.read(limit + 1)
        except (FileNotFoundError, NotADirectoryError, IsADirectoryError):
            raise NotFoundError(f"{name}: no such file") from None
        if len(data) > limit:
            raise CorruptError(f"{name}: larger than {limit} bytes")
        return data

    def checked(self, name: str, sha256: str | None, limit: int = DOCUMENT_LIMIT) -> bytes:
        try:
            data = self.read(name, limit)
        except NotFoundError:
            raise CorruptError(f"{name}: is missing: the copy is not complete") from None
        if sha256 is not None and hashlib.sha256(data).hexdigest() != sha256:
            raise CorruptError(f"{name}: is not what was published, or the copy is not complete")
        return data


@dataclass(frozen=True)
class _Found:
    folder: str
    manifest: VersionManifest
    entry: RegistryEntry


def fetch(url: str, user: str, modality: str, into: Path, version: str | int | None = None) -> Fetched:
    """Copy the version that serves, or `version`, from the registry at an fsspec URL into a folder; return it.

    Falls back to `_default` as `Registry.resolve` does. Raises NotFoundError, and CorruptError naming the file.
    """
    place = _Place(*fsspec.core.url_to_fs(url.rstrip("/")))
    person, kind = parse_user(user), parse_modality(modality)
    if version is not None:
        found = _exact(place, person, kind, parse_version(version))
    else:
        own = _serving(place, person, kind)
        spare = None
        if person != DEFAULT_USER and (own is None or own.entry.verdict == INSUFFICIENT):
            spare = _serving(place, DEFAULT_USER, kind)
        chosen = spare or own
        if chosen is None:
            raise NotFoundError(f"{person}/{kind}: no active version at {url}")
        found = chosen
    with storage_errors("fetch"):
        files = _copy_files(place, found, into)
        encoders = {
            ref.name: _copy_encoder(place, ref.sha256, found.manifest.encoders.get(ref.sha256), into)
            for ref in found.entry.encoder_refs
        }
    return Fetched(person, found.manifest.version, found.entry, files, encoders, found.entry.user_id != person)


def _serving(place: _Place, user: str, modality: Modality) -> _Found | None:
    folder = f"users/{user}/{modality}"
    try:
        pointer = _document(ActivePointer, place.read(f"{folder}/active.json", DOCUMENT_LIMIT), f"{folder}/active.json")
    except NotFoundError:
        return None
    return _version(place, user, modality, pointer.version, pointer.manifest_sha256)


def _exact(place: _Place, user: str, modality: Modality, version: int) -> _Found:
    name = f"users/{user}/{modality}/history.jsonl"
    events = parse_events(place.read(name, HISTORY_LIMIT), name)
    return _version(place, user, modality, version, published_manifest(events, version))


def _version(place: _Place, user: str, modality: Modality, version: int, sha256: str) -> _Found:
    folder = f"users/{user}/{modality}/v{version}"
    name = f"{folder}/manifest.json"
    manifest = _document(VersionManifest, place.checked(name, sha256), name)
    if (manifest.user_id, manifest.modality, manifest.version) != (user, modality, version):
        raise CorruptError(f"{name}: belongs to {manifest.user_id}/{manifest.modality} v{manifest.version}")
    name = f"{folder}/registry_entry.json"
    entry = _document(RegistryEntry, place.checked(name, manifest.files["registry_entry"].sha256), name)
    return _Found(folder, manifest, entry)


def _copy_files(place: _Place, found: _Found, into: Path) -> dict[str, Path]:
    files = {}
    for role, file in found.manifest.files.items():
        name = f"{found.folder}/{file.name}"
        _write(into / name, place.checked(name, file.sha256, file.size))
        if role != "registry_entry":
            files[role] = into / name
    return files


def _copy_encoder(place: _Place, sha256: str, spec_sha256: str | None, into: Path) -> Path:
    folder = f"encoders/{sha256}"
    description = place.checked(f"{folder}/{SPEC_FILE}", spec_sha256)
    spec = EncoderSpec.model_validate(parse_json(description, f"{folder}/{SPEC_FILE}"))
    for name, digest in spec.files.items():
        _write(into / folder / name, place.checked(f"{folder}/{name}", digest, ENCODER_LIMIT))
    _write(into / folder / SPEC_FILE, description)
    return into / folder


def _document(kind: type[_Kind], data: bytes, name: str) -> _Kind:
    try:
        return kind.from_json(data, name)
    except DocumentError as error:
        raise CorruptError(str(error)) from None


def _write(target: Path, data: bytes) -> None:
    ensure_folder(target.parent, Path(target.anchor))
    part = target.with_name(f".{target.name}.{os.urandom(8).hex()}.part")
    try:
        part.write_bytes(data)
        part.replace(target)
    finally:
        part.unlink(missing_ok=True)
