"""Bringing back what `export` wrote as a tar, here or in another registry: nothing in the archive is believed.

A tar is a list of names that somebody chose. Only plain files are taken out of it, under names that we expect, into a
folder of our own; what they hold is compared with the version's manifest, and published like any other bundle.
"""

from __future__ import annotations

import re
import shutil
import tarfile
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path, PurePosixPath

from model_registry.errors import CorruptError, RefusedBundleError
from model_registry.names import ROLES, shown
from model_registry.storage.durable import read_file, storage_errors
from model_registry.storage.encoders import SPEC_FILE
from model_registry.storage.entry import (
    DOCUMENT_LIMIT,
    FILE_LIMIT,
    BundleEntry,
    BundleManifest,
    RegistryEntry,
    VersionManifest,
)
from model_registry.storage.history import read_entry, read_events, run_version, statuses
from model_registry.storage.layout import ModelSlot
from model_registry.storage.publication import ENCODER_LIMIT, Published, publish
from model_registry.storage.verification import sha256_of

ARCHIVE_LIMIT = 4 << 30  # bytes
MEMBER_LIMIT = 100  # files: a version has eight, an encoder a handful
_FILE = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,199}")
_SHA256 = re.compile(r"[0-9a-f]{64}")


@contextmanager
def unpacked(archive: Path) -> Iterator[tuple[VersionManifest, Path]]:
    """Yield what the manifest in a tar of `export` says, and a folder with the bundle that its version was made of.

    Raises RefusedBundleError naming every member of the archive that is refused, CorruptError naming a file that is not
    what its manifest says, DocumentError, StorageError.
    """
    with tempfile.TemporaryDirectory(prefix="restore-") as scratch, storage_errors("restore"):
        bundle = _unpack(archive, Path(scratch))
        yield _as_bundle(bundle), bundle


def restore(root: Path, manifest: VersionManifest, bundle: Path, *, promote: bool = False) -> Published:
    """Publish what `unpacked` gave as the next version of its user and modality.

    A run that the registry has already is not published again. Raises what `publish` raises.
    """
    reason = f"restored from an archive, where it was v{manifest.version}"
    return _known(root, manifest) or publish(root, bundle, promote=promote, reason=reason)


def _known(root: Path, manifest: VersionManifest) -> Published | None:
    """Return the version as which this very run was published here, whatever its number was elsewhere."""
    pair = ModelSlot(root, manifest.user_id, manifest.modality)
    events = read_events(pair)
    event = run_version(events, manifest.run_id)
    if event is None:
        return None
    folder = pair.version_folder(event.version)
    path = folder / "manifest.json"
    if VersionManifest.from_json(read_file(path, DOCUMENT_LIMIT), str(path)).bundle_sha256 != manifest.bundle_sha256:
        return None  # restored before, or a clash of run ids: publishing tells which
    entry = read_entry(pair, event.version).model_copy(update={"status": statuses(events)[event.version]})
    return Published(pair.user, pair.modality, event.version, folder, entry, created=False)


def _unpack(archive: Path, scratch: Path) -> Path:
    """Write the archive's files into `scratch` as TOP/name and encoders/sha256/name; return TOP's folder."""
    size = archive.stat().st_size
    if size > ARCHIVE_LIMIT:
        raise RefusedBundleError(f"{archive}: has {size} bytes; at most {ARCHIVE_LIMIT} are read")
    top = scratch / "bundle"
    top.mkdir()
    faults: list[str] = []
    seen: set[PurePosixPath] = set()
    try:
        with tarfile.open(archive, mode="r:") as tar:
            for count, member in enumerate(tar):
                place = f"{archive}: {shown(member.name)}"
                if count >= MEMBER_LIMIT:
                    faults.append(f"{archive}: has more than {MEMBER_LIMIT} members")
                    break
                path = PurePosixPath(member.name)
                fault = _fault(member, path, seen)
                if fault:
                    faults.append(f"{place}: {fault}")
                    continue
                seen.add(path)
                target = top / path.name if len(path.parts) == 2 else scratch.joinpath(*path.parts[1:])
                target.parent.mkdir(parents=True, exist_ok=True)
                content = tar.extractfile(member)
                assert content is not None  # a regular file
                with content, target.open("xb") as file:
                    shutil.copyfileobj(content, file, 1 << 20)
                if target.stat().st_size != member.size:
                    faults.append(f"{place}: ends early")
    except (tarfile.TarError, EOFError, ValueError, UnicodeError) as error:
        raise RefusedBundleError(f"{archive}: no usable tar: {error}") from None
    if not faults:
        required = ("manifest.json", "registry_entry.json")
        faults = [f"{archive}: {name} is missing" for name in required if not (top / name).is_file()]
    if faults:
        raise RefusedBundleError("\n".join(faults))
    return top


def _fault(member: tarfile.TarInfo, path: PurePosixPath, seen: set[PurePosixPath]) -> str | None:
    """Return why a member may not be taken out, if so."""
    if member.issym() or member.islnk():
        return "is a link"
    if not member.isreg() or member.issparse():
        return "is not a plain file"
    parts = path.parts
    if str(path) != member.name or not all(_FILE.fullmatch(part) for part in parts):
        return "is a name that export does not write"
    if len(parts) != 2 and not (len(parts) == 4 and parts[1] == "encoders" and _SHA256.fullmatch(parts[2])):
        return "is a place that export does not write to"
    if seen and parts[0] != next(iter(seen)).parts[0]:
        return "belongs to another version than the first file"
    if path in seen:
        return "stands twice"
    limit = FILE_LIMIT if len(parts) == 2 else ENCODER_LIMIT
    return f"has {member.size} bytes; at most {limit} are read" if member.size > limit else None


def _as_bundle(top: Path) -> VersionManifest:
    """Turn a version's folder into the bundle that it was made of; return what its manifest said."""
    path = top / "manifest.json"
    manifest = VersionManifest.from_json(read_file(path, DOCUMENT_LIMIT), "manifest.json")
    expected = {file.name for file in manifest.files.values()} | {"manifest.json"}
    faults = [
        f"{shown(item.name)}: is not listed in manifest.json" for item in top.iterdir() if item.name not in expected
    ]
    for file in manifest.files.values():
        found = sha256_of(top / file.name)[0] if (top / file.name).is_file() else None
        if found is None:
            faults.append(f"{file.name}: is missing")
        elif found != file.sha256:
            faults.append(f"{file.name}: sha256 is {found}, manifest.json says {file.sha256}")
    for sha256, spec in manifest.encoders.items():
        spec_file = top.parent / "encoders" / sha256 / SPEC_FILE
        if spec_file.is_file() and sha256_of(spec_file)[0] != spec:
            faults.append(f"encoders/{sha256}/{SPEC_FILE}: is not the one that manifest.json names")
    if faults:
        raise CorruptError("\n".join(faults))
    entry = RegistryEntry.from_json(read_file(top / "registry_entry.json", DOCUMENT_LIMIT), "registry_entry.json")
    if (entry.user_id, entry.modality, entry.run_id) != (manifest.user_id, manifest.modality, manifest.run_id):
        raise CorruptError("registry_entry.json: is of another model than manifest.json")
    bundle = BundleManifest(
        format=1,
        user_id=manifest.user_id,
        modality=manifest.modality,
        run_id=manifest.run_id,
        created=entry.timestamp,
        files={role: file for role, file in manifest.files.items() if role in ROLES},
        encoder_refs=entry.encoder_refs,
        entry=BundleEntry(**{name: getattr(entry, name) for name in BundleEntry.model_fields}),
    )
    for name in ("manifest.json", "registry_entry.json"):
        (top / name).unlink()
    (top / "bundle.json").write_bytes(bundle.to_json())
    return manifest
