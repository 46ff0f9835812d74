"""Bundles that arrive file by file over a network, in a folder that no reader looks into.

    <root>/uploads/<id>/bundle/              bundle.json, then the files that it lists
    <root>/uploads/<id>/encoders/<sha256>/   encoder.json, then the files that it lists

A file gets its name only after its sha256 was checked, so an interrupted upload can be continued.
"""

from __future__ import annotations

import hashlib
import os
import re
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from model_registry.errors import ConflictError, CorruptError, NotFoundError, RefusedBundleError, RegistryError
from model_registry.messages import printable
from model_registry.storage.durable import (
    destroy,
    ensure_folder,
    read_file,
    rename_staged,
    staged_file,
    staging_folder,
    storage_errors,
    write_new,
)
from model_registry.storage.encoders import SPEC_FILE, read_encoder
from model_registry.storage.entry import DOCUMENT_LIMIT, FILE_LIMIT, BundleManifest
from model_registry.storage.layout import encoders_folder
from model_registry.storage.publication import ENCODER_LIMIT, Publication, publish, trained_on
from model_registry.storage.tombstones import refuse_erased

KEPT_SECONDS = 3600.0  # an upload to which nothing was added for so long is abandoned
_ID = re.compile(r"[0-9a-f]{32}")


@dataclass(frozen=True)
class Upload:
    """An upload that has begun."""

    root: Path
    id: str
    manifest: BundleManifest

    @property
    def folder(self) -> Path:
        """`<root>/uploads/<id>`."""
        return uploads_folder(self.root) / self.id

    @property
    def bundle(self) -> Path:
        """The folder of the bundle's files."""
        return self.folder / "bundle"

    def missing_files(self) -> list[str]:
        """Return the roles whose files have not arrived."""
        return [role for role, file in self.manifest.files.items() if not (self.bundle / file.name).is_file()]

    def missing_encoders(self) -> list[str]:
        """Return the encoders of which neither the registry nor this upload has every file."""
        wanted = [ref.sha256 for ref in self.manifest.encoder_refs]
        return [s for s in wanted if not (encoders_folder(self.root) / s).is_dir() and not self._has_encoder(s)]

    def _has_encoder(self, sha256: str) -> bool:
        folder = self.folder / "encoders" / sha256
        return (folder / SPEC_FILE).is_file() and all((folder / name).is_file() for name in read_encoder(folder).files)


@dataclass(frozen=True)
class Expected:
    """A file that an upload waits for. `sha256` is None for `encoder.json`, whose content is checked instead."""

    path: Path
    sha256: str | None
    limit: int


def uploads_folder(root: Path) -> Path:
    """Return the folder that holds one folder an upload."""
    return root / "uploads"


def count(root: Path) -> int:
    """Return how many uploads have begun and are not finished."""
    try:
        return sum(1 for _ in uploads_folder(root).iterdir())
    except FileNotFoundError:
        return 0


def begin(root: Path, description: bytes) -> Upload:
    """Begin an upload with a bundle's `bundle.json`. Raises DocumentError, ErasedError."""
    manifest = BundleManifest.from_json(description, "bundle.json")
    refuse_erased(root, [manifest.user_id])
    upload = Upload(root, os.urandom(8).hex() + _checksum(description), manifest)
    with storage_errors("upload"):
        ensure_folder(uploads_folder(root))
        with staging_folder(uploads_folder(root)) as staging:  # nobody sees an upload without its description
            for name in ("bundle", "encoders"):
                (staging / name).mkdir(mode=0o700)
            write_new(staging / "bundle" / "bundle.json", description)
            rename_staged(staging, upload.folder)
    return upload


def find(root: Path, upload_id: str) -> Upload:
    """Return an upload that has begun. Raises NotFoundError, and CorruptError for a damaged description."""
    path = uploads_folder(root) / upload_id / "bundle" / "bundle.json"
    if _ID.fullmatch(upload_id) is None or not path.is_file():
        raise NotFoundError(f"upload {printable(upload_id)}: no such upload, or it was finished; begin again")
    description = read_file(path, DOCUMENT_LIMIT)
    if not upload_id.endswith(_checksum(description)):
        raise CorruptError(f"{path}: is not what was received; begin again")
    return Upload(root, upload_id, BundleManifest.from_json(description, "bundle.json"))


def _checksum(description: bytes) -> str:
    """Return the second half of an upload's id: so a description that changes on the disk is noticed."""
    return hashlib.sha256(description).hexdigest()[:16]


def expected_file(upload: Upload, role: str) -> Expected:
    """Return what is expected for a role of the bundle. Raises NotFoundError."""
    file = upload.manifest.files.get(role)
    if file is None:
        raise NotFoundError(f"role {printable(role)}: not listed in bundle.json")
    return Expected(upload.bundle / file.name, file.sha256, file.size)


def expected_encoder_file(upload: Upload, sha256: str, name: str) -> Expected:
    """Return what is expected for a file of an encoder, `encoder.json` first. Raises NotFoundError, ConflictError."""
    if sha256 not in {ref.sha256 for ref in upload.manifest.encoder_refs}:
        raise NotFoundError(f"encoder {printable(sha256)}: not named in bundle.json")
    folder = upload.folder / "encoders" / sha256
    if name == SPEC_FILE:
        return Expected(folder / SPEC_FILE, None, DOCUMENT_LIMIT)
    if not (folder / SPEC_FILE).is_file():
        raise ConflictError(f"encoder {sha256}: send {SPEC_FILE} first")
    digest = read_encoder(folder).files.get(name)
    if digest is None:
        raise NotFoundError(f"encoder {sha256}: {SPEC_FILE} does not list {printable(name)}")
    return Expected(folder / name, digest, ENCODER_LIMIT)


async def receive(expected: Expected, pieces: AsyncIterator[bytes]) -> None:
    """Take a file piece by piece; it appears only if size and sha256 are right. Raises RefusedBundleError."""
    name = expected.path.name
    with storage_errors("upload"), _not_removed(name):
        if expected.path.parent.parent.is_dir():
            expected.path.parent.mkdir(mode=0o700, exist_ok=True)
        with staged_file(expected.path, durable=False) as file:  # publishing syncs its own copy
            digest, size = hashlib.sha256(), 0
            async for piece in pieces:
                size += len(piece)
                if size > expected.limit:
                    raise RefusedBundleError(f"{name}: more than {expected.limit} bytes")
                digest.update(piece)
                file.write(piece)
            if expected.sha256 is not None and digest.hexdigest() != expected.sha256:
                raise RefusedBundleError(
                    f"{name}: sha256 of the {size} bytes received is {digest.hexdigest()}, should be {expected.sha256}"
                )
    if name == SPEC_FILE and expected.sha256 is None:
        _check_spec(expected.path)


@contextmanager
def _not_removed(name: str) -> Iterator[None]:
    """Raise NotFoundError where the upload was removed while a file arrived, as an erasure does."""
    try:
        yield
    except FileNotFoundError:
        raise NotFoundError(f"{name}: the upload was removed meanwhile; begin again") from None


def finish(upload: Upload, *, promote: bool, reason: str = "") -> Publication:
    """Publish a complete upload and remove it. Raises ConflictError naming what is missing."""
    missing = [*upload.missing_files(), *(f"encoder {sha256}" for sha256 in upload.missing_encoders())]
    if missing:
        raise ConflictError(f"upload is incomplete: {', '.join(missing)}")
    publication = publish(upload.root, upload.bundle, promote=promote, reason=reason)
    destroy(upload.folder)
    return publication


def remove_abandoned_uploads(root: Path, *, user: str | None = None, age: float = KEPT_SECONDS) -> list[str]:
    """Remove uploads to which nothing was added for `age` seconds, or all of one user; return what was done."""
    folder = uploads_folder(root)
    done = []
    for item in sorted(folder.iterdir()) if folder.is_dir() else []:
        if item.name.startswith("."):
            continue  # one that begins in this moment
        if user is None:
            try:
                newest = max(path.stat().st_mtime for path in (item, *item.rglob("*")))
            except FileNotFoundError:
                continue  # finished in this moment
            unwanted = time.time() - newest > age
        else:
            try:
                unwanted = _concerns(find(root, item.name), user)
            except (RegistryError, OSError):
                unwanted = True  # a damaged one may be anybody's
        if unwanted:
            destroy(item)
            done.append(f"{item}: removed an abandoned upload")
    return done


def _concerns(upload: Upload, user: str) -> bool:
    """Return whether a user's data are in an upload: their own, or a pooled one, as far as its log has arrived."""
    log = upload.bundle / upload.manifest.files["training_log"].name
    users = trained_on(read_file(log, FILE_LIMIT), upload.manifest.user_id) if log.is_file() else ()
    return upload.manifest.user_id == user or user in users


def _check_spec(path: Path) -> None:
    """Refuse an invalid `encoder.json`, or one of another network than its folder is named after."""
    try:
        spec = read_encoder(path.parent)
        if spec.sha256 != path.parent.name:
            raise RefusedBundleError(f"{SPEC_FILE}: describes the network {spec.sha256}, not {path.parent.name}")
    except RegistryError:
        path.unlink(missing_ok=True)
        raise
