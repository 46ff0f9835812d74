"""Bundles that arrive file by file over a network, outside everything that a reader sees.

    <root>/uploads/<id>/bundle/              bundle.json, then the files that it lists
    <root>/uploads/<id>/encoders/<sha256>/   encoder.json, then the files that it lists

A file takes its name only after its sha256 proved right, so an upload can be cut anywhere and continued.
"""

from __future__ import annotations

import hashlib
import os
import re
import shutil
import time
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass
from pathlib import Path

from model_registry.errors import ConflictError, NotFoundError, RefusedBundleError, RegistryError
from model_registry.names import shown
from model_registry.storage.durable import ensure_folder, read_file, storage_errors, write_all, write_new
from model_registry.storage.encoders import SPEC_FILE, read_encoder
from model_registry.storage.entry import DOCUMENT_LIMIT, BundleManifest
from model_registry.storage.layout import encoders_folder
from model_registry.storage.publication import ENCODER_LIMIT, Published, publish

KEPT_SECONDS = 3600.0  # an upload that nothing was added to for so long is abandoned
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
        """Return the encoders that neither the registry holds nor this upload has whole."""
        wanted = [ref.sha256 for ref in self.manifest.encoder_refs]
        return [s for s in wanted if not (encoders_folder(self.root) / s).is_dir() and not self._has_encoder(s)]

    def _has_encoder(self, sha256: str) -> bool:
        folder = self.folder / "encoders" / sha256
        return (folder / SPEC_FILE).is_file() and all((folder / name).is_file() for name in read_encoder(folder).files)


@dataclass(frozen=True)
class Expected:
    """A file that an upload waits for. `sha256` is None where the content speaks for itself (`encoder.json`)."""

    path: Path
    sha256: str | None
    limit: int


def uploads_folder(root: Path) -> Path:
    """Return the folder that holds one folder an upload."""
    return root / "uploads"


def begin(root: Path, description: bytes) -> Upload:
    """Begin an upload with a bundle's `bundle.json`. Raises DocumentError."""
    manifest = BundleManifest.from_json(description, "bundle.json")
    with storage_errors("upload"):
        for _ in sweep_uploads(root):
            pass
        upload = Upload(root, os.urandom(16).hex(), manifest)
        ensure_folder(upload.bundle, root)
        write_new(upload.bundle / "bundle.json", description)
    return upload


def find(root: Path, upload_id: str) -> Upload:
    """Return an upload that has begun. Raises NotFoundError."""
    path = uploads_folder(root) / upload_id / "bundle" / "bundle.json"
    if _ID.fullmatch(upload_id) is None or not path.is_file():
        raise NotFoundError(f"upload {shown(upload_id)}: no such upload, or it was finished; begin again")
    return Upload(root, upload_id, BundleManifest.from_json(read_file(path, DOCUMENT_LIMIT), "bundle.json"))


def expected_file(upload: Upload, role: str) -> Expected:
    """Return what is expected for a role of the bundle. Raises NotFoundError."""
    file = upload.manifest.files.get(role)
    if file is None:
        raise NotFoundError(f"role {shown(role)}: not listed in bundle.json")
    return Expected(upload.bundle / file.name, file.sha256, file.size)


def expected_encoder_file(upload: Upload, sha256: str, name: str) -> Expected:
    """Return what is expected for a file of an encoder, `encoder.json` first. Raises NotFoundError, ConflictError."""
    if sha256 not in {ref.sha256 for ref in upload.manifest.encoder_refs}:
        raise NotFoundError(f"encoder {shown(sha256)}: not named in bundle.json")
    folder = upload.folder / "encoders" / sha256
    if name == SPEC_FILE:
        return Expected(folder / SPEC_FILE, None, DOCUMENT_LIMIT)
    if not (folder / SPEC_FILE).is_file():
        raise ConflictError(f"encoder {sha256}: send {SPEC_FILE} first")
    digest = read_encoder(folder).files.get(name)
    if digest is None:
        raise NotFoundError(f"encoder {sha256}: {SPEC_FILE} does not list {shown(name)}")
    return Expected(folder / name, digest, ENCODER_LIMIT)


async def receive(expected: Expected, pieces: AsyncIterator[bytes]) -> None:
    """Take a file piece by piece; it appears only if size and sha256 are right. Raises RefusedBundleError."""
    part = expected.path.with_name(f".part-{os.urandom(8).hex()}")
    with storage_errors("upload"):
        expected.path.parent.mkdir(parents=True, exist_ok=True)
        fd = os.open(part, os.O_CREAT | os.O_EXCL | os.O_WRONLY | os.O_NOFOLLOW, 0o600)
        try:
            digest, size = hashlib.sha256(), 0
            async for piece in pieces:
                size += len(piece)
                if size > expected.limit:
                    raise RefusedBundleError(f"{expected.path.name}: more than {expected.limit} bytes")
                digest.update(piece)
                write_all(fd, piece)
            if expected.sha256 is not None and digest.hexdigest() != expected.sha256:
                raise RefusedBundleError(
                    f"{expected.path.name}: sha256 of the {size} bytes received is {digest.hexdigest()}, "
                    f"should be {expected.sha256}"
                )
            part.replace(expected.path)
        finally:
            os.close(fd)
            part.unlink(missing_ok=True)
    if expected.path.name == SPEC_FILE and expected.sha256 is None:
        _check_spec(expected.path)


def finish(upload: Upload, *, promote: bool, reason: str = "") -> Published:
    """Publish an upload that is complete, and forget it. Raises ConflictError naming what is missing."""
    missing = [*upload.missing_files(), *(f"encoder {sha256}" for sha256 in upload.missing_encoders())]
    if missing:
        raise ConflictError(f"upload is incomplete: {', '.join(missing)}")
    done = publish(upload.root, upload.bundle, promote=promote, reason=reason)
    shutil.rmtree(upload.folder, ignore_errors=True)
    return done


def sweep_uploads(root: Path, *, user: str | None = None, age: float = KEPT_SECONDS) -> Iterator[str]:
    """Remove uploads that nothing was added to for `age` seconds, or all of one user's; yield what was removed."""
    folder = uploads_folder(root)
    for item in sorted(folder.iterdir()) if folder.is_dir() else []:
        if user is None:
            try:
                newest = max(path.stat().st_mtime for path in (item, *item.rglob("*")))
            except FileNotFoundError:
                continue  # finished in this moment
            unwanted = time.time() - newest > age
        else:
            try:
                unwanted = find(root, item.name).manifest.user_id == user
            except RegistryError:
                unwanted = True  # without a readable description nobody can tell whose it is
        if unwanted:
            shutil.rmtree(item, ignore_errors=True)
            yield f"{item}: removed an abandoned upload"


def _check_spec(path: Path) -> None:
    """Refuse an `encoder.json` that is none, or another network's than its folder says."""
    try:
        spec = read_encoder(path.parent)
        if spec.sha256 != path.parent.name:
            raise RefusedBundleError(f"{SPEC_FILE}: is of the network {spec.sha256}, not {path.parent.name}")
    except RegistryError:
        path.unlink(missing_ok=True)
        raise
