"""Publishing again what `export` wrote as a tar, in this registry or another: nothing in the archive is trusted.

Anybody may have written a tar. Only plain files are taken out of it, under names that `export` writes, into a temporary
folder; they are compared with the version's manifest, and published like any other bundle.
"""

from __future__ import annotations

import re
import shutil
import tarfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Protocol

from model_registry.errors import ConflictError, CorruptError, RefusedBundleError
from model_registry.messages import printable
from model_registry.names import ROLES
from model_registry.storage.durable import read_file, storage_errors, temporary_folder
from model_registry.storage.encoders import SPEC_FILE
from model_registry.storage.entry import (
    DOCUMENT_LIMIT,
    FILE_LIMIT,
    BundleEntry,
    BundleManifest,
    RegistryEntry,
    VersionManifest,
)
from model_registry.storage.publication import ENCODER_LIMIT, Publication
from model_registry.storage.signatures import SIGNATURE_FILE
from model_registry.storage.verification import check_signature, checked_sha256

ARCHIVE_LIMIT = 4 << 30  # bytes
MEMBER_LIMIT = 100  # files: a version has eight, an encoder a handful
_FILE = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,199}")
_SHA256 = re.compile(r"[0-9a-f]{64}")


class _Publisher(Protocol):
    def publish(self, bundle_dir: Path, *, promote: bool = True, reason: str = "") -> Publication: ...
    def entries(self, *, user: str | None = None, modality: str | None = None) -> Iterator[RegistryEntry]: ...


@dataclass(frozen=True)
class Unpacked:
    """The bundle that an exported version was made of, in a temporary folder."""

    bundle: Path
    manifest: BundleManifest
    version: int  # its number where it was exported


def restore(
    registry: _Publisher, archive: Path, *, promote: bool = False, trusted: frozenset[str] | None = None
) -> Publication:
    """Publish the version in a tar of `export` as the next version of its user and modality, in any registry.

    A version that the registry has already is left as it is. A signature in the archive is checked, and not
    kept: it is of the old number. Raises what `unpacked` and publishing raise.
    """
    with unpacked(archive, trusted) as source:
        reason = f"restored from an archive, where it was v{source.version}"
        try:
            return registry.publish(source.bundle, promote=promote, reason=reason)
        except ConflictError:  # the run is there: the very version that was exported, or another of the same run id
            entry = _same_version(registry, source.manifest)
            if entry is None:
                raise
            return Publication(entry, created=False)


def _same_version(registry: _Publisher, manifest: BundleManifest) -> RegistryEntry | None:
    """Return the entry of the version that was published from this very run, whatever its number."""
    for entry in registry.entries(user=manifest.user_id, modality=manifest.modality):
        if entry.run_id == manifest.run_id and _bundle_entry(entry) == manifest.entry:
            return entry if entry.artifact_hash == f"sha256:{manifest.files['model'].sha256}" else None
    return None


def _bundle_entry(entry: RegistryEntry) -> BundleEntry:
    return BundleEntry(**{name: getattr(entry, name) for name in BundleEntry.model_fields})


@contextmanager
def unpacked(archive: Path, trusted: frozenset[str] | None = None) -> Iterator[Unpacked]:
    """Yield the bundle that the version in a tar of `export` was made of.

    Raises RefusedBundleError naming every member of the archive that is refused, CorruptError naming a file that is not
    what its manifest says, UntrustedError unless one of the public keys `trusted`, if they are given, has signed it,
    DocumentError, StorageError.
    """
    with temporary_folder() as scratch, storage_errors("restore"):
        bundle = _unpack(archive, scratch)
        yield _as_bundle(bundle, trusted)


def _unpack(archive: Path, scratch: Path) -> Path:
    """Write the archive's files into `scratch` as TOP/name and encoders/sha256/name; return TOP's folder."""
    size = archive.stat().st_size
    if size > ARCHIVE_LIMIT:
        raise RefusedBundleError(f"{archive}: has {size} bytes; at most {ARCHIVE_LIMIT} are read")
    top = scratch / "bundle"
    top.mkdir()
    faults: list[str] = []
    accepted: set[PurePosixPath] = set()
    try:
        with tarfile.open(archive, mode="r:") as tar:
            for count, member in enumerate(tar):
                place = f"{archive}: {printable(member.name)}"
                if count >= MEMBER_LIMIT:
                    faults.append(f"{archive}: has more than {MEMBER_LIMIT} members")
                    break
                path = PurePosixPath(member.name)
                fault = _fault(member, path, accepted)
                if fault:
                    faults.append(f"{place}: {fault}")
                    continue
                accepted.add(path)
                target = top / path.name if len(path.parts) == 2 else scratch.joinpath(*path.parts[1:])
                target.parent.mkdir(parents=True, exist_ok=True)
                content = tar.extractfile(member)
                assert content is not None  # a regular file
                with content, target.open("xb") as file:
                    shutil.copyfileobj(content, file, 1 << 20)
                if target.stat().st_size != member.size:
                    faults.append(f"{place}: ends early")
    except (tarfile.TarError, EOFError, ValueError, UnicodeError) as error:
        raise RefusedBundleError(f"{archive}: not a tar that export wrote: {error}") from None
    if not faults:
        required = ("manifest.json", "registry_entry.json")
        faults = [f"{archive}: {name} is missing" for name in required if not (top / name).is_file()]
    if faults:
        raise RefusedBundleError("\n".join(faults))
    return top


def _fault(member: tarfile.TarInfo, path: PurePosixPath, accepted: set[PurePosixPath]) -> str | None:
    """Return why a member is refused, if it is."""
    if member.issym() or member.islnk():
        return "is a link"
    if not member.isreg() or member.issparse():
        return "is not a plain file"
    parts = path.parts
    if str(path) != member.name or not all(_FILE.fullmatch(part) for part in parts):
        return "is a name that export does not write"
    if len(parts) != 2 and not (len(parts) == 4 and parts[1] == "encoders" and _SHA256.fullmatch(parts[2])):
        return "is a path that export does not write"
    if accepted and parts[0] != next(iter(accepted)).parts[0]:
        return "belongs to another version than the first file"
    if path in accepted:
        return "appears twice"
    limit = FILE_LIMIT if len(parts) == 2 else ENCODER_LIMIT
    return f"has {member.size} bytes; at most {limit} are read" if member.size > limit else None


def _as_bundle(top: Path, trusted: frozenset[str] | None) -> Unpacked:
    """Turn a version's folder into the bundle that it was made of; `trusted` are the keys that must have signed it."""
    path = top / "manifest.json"
    manifest = VersionManifest.from_json(read_file(path, DOCUMENT_LIMIT), "manifest.json")
    expected = {file.name for file in manifest.files.values()} | {"manifest.json", SIGNATURE_FILE}
    faults = [
        f"{printable(item.name)}: is not listed in manifest.json" for item in top.iterdir() if item.name not in expected
    ]
    for file in manifest.files.values():
        sha256 = checked_sha256(top / file.name) if (top / file.name).is_file() else None
        if sha256 is None:
            faults.append(f"{file.name}: is missing")
        elif sha256 != file.sha256:
            faults.append(f"{file.name}: sha256 is {sha256}, manifest.json says {file.sha256}")
    for sha256, spec in manifest.encoders.items():
        spec_file = top.parent / "encoders" / sha256 / SPEC_FILE
        if spec_file.is_file() and checked_sha256(spec_file) != spec:
            faults.append(f"encoders/{sha256}/{SPEC_FILE}: is not the one that manifest.json names")
    if faults:
        raise CorruptError("\n".join(faults))
    check_signature(top, read_file(path, DOCUMENT_LIMIT), trusted)
    entry = RegistryEntry.from_json(read_file(top / "registry_entry.json", DOCUMENT_LIMIT), "registry_entry.json")
    if (entry.user_id, entry.modality, entry.run_id) != (manifest.user_id, manifest.modality, manifest.run_id):
        raise CorruptError("registry_entry.json: describes another model than manifest.json")
    bundle = BundleManifest(
        format=1,
        user_id=manifest.user_id,
        modality=manifest.modality,
        run_id=manifest.run_id,
        created=entry.timestamp,
        files={role: file for role, file in manifest.files.items() if role in ROLES},
        encoder_refs=entry.encoder_refs,
        entry=_bundle_entry(entry),
    )
    for name in ("manifest.json", "registry_entry.json", SIGNATURE_FILE):
        (top / name).unlink(missing_ok=True)
    (top / "bundle.json").write_bytes(bundle.to_json())
    return Unpacked(top, bundle, manifest.version)
