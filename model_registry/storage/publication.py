"""Bundle -> version: everything is checked before anything can be seen."""

from __future__ import annotations

import errno
import hashlib
import json
import os
import re
import stat
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

from model_registry.errors import ConflictError, ErasedError, NotFoundError, RefusedBundleError
from model_registry.messages import printable
from model_registry.names import parse_reason, published_name
from model_registry.storage.durable import (
    copy_file,
    ensure_folder,
    locked,
    put_in_place,
    read_file,
    remove_if_empty,
    rename_staged,
    staging_folder,
    storage_errors,
    sync_tree,
    write_new,
)
from model_registry.storage.encoders import SPEC_FILE, read_encoder
from model_registry.storage.entry import (
    DOCUMENT_LIMIT,
    FILE_LIMIT,
    BundleManifest,
    EncoderRef,
    Event,
    RegistryEntry,
    StoredFile,
    VersionManifest,
    parse_json,
)
from model_registry.storage.external_data import external_data_fault
from model_registry.storage.history import (
    active_version,
    published_manifest,
    read_events,
    record,
    recover,
    run_version,
    statuses,
)
from model_registry.storage.layout import ModelSlot, encoders_folder, users, users_folder
from model_registry.storage.signatures import SIGNATURE_FILE, SigningKey, unsigned_decision
from model_registry.storage.tombstones import refuse_erased
from model_registry.storage.verification import checked_sha256, read_entry, read_manifest

_RESERVED = re.compile(r"(?:con|prn|aux|nul|com[0-9]|lpt[0-9])(?:\..*)?", re.IGNORECASE)
ENCODER_LIMIT = 1 << 30  # bytes of one file of an encoder


@dataclass(frozen=True)
class Publication:
    """The version that a bundle became."""

    entry: RegistryEntry  # with its present status
    created: bool  # False where the run had been published before

    @property
    def version(self) -> int:
        """The number of the version."""
        return self.entry.version


def publish(
    root: Path, bundle: Path, *, promote: bool = True, reason: str = "", key: SigningKey | None = None
) -> Publication:
    """Publish a bundle as the next version of its user and modality, the active one unless `promote` is False.

    `reason` says why it becomes active or does not; it is kept in the history and in the version's training log. With
    `key` the version and its event are signed.

    Publishing a run again returns the version that exists. Raises RefusedBundleError, DocumentError, ConflictError
    (the run id was published with other content) and StorageError; in all cases nothing became visible.
    """
    manifest = read_bundle(bundle)
    parse_reason(reason)
    slot = ModelSlot(root, manifest.user_id, manifest.modality)
    refuse_erased(root, [slot.user])
    known = published_before(root, manifest, promote, key)
    if known is not None:
        return known
    _check_place(slot)
    with _not_erased(slot), storage_errors("publish"), ExitStack() as held:
        if manifest.encoder_refs:
            ensure_folder(encoders_folder(root))
            held.enter_context(locked(encoders_folder(root), shared=True))  # keeps gc from removing them meanwhile
        encoders = {ref.sha256: _store_encoder(root, bundle.parent / "encoders", ref) for ref in manifest.encoder_refs}
        staging = _staging(held, slot)
        _take_files(bundle, manifest, staging)
        held.enter_context(locked(slot.folder))
        events, _ = recover(slot)
        known = _published_before(slot, manifest, events, promote, key)
        if known is not None:
            return known
        log = read_file(staging / "training_log", FILE_LIMIT)
        refuse_erased(root, trained_on(log, slot.user))  # an erasure leaves its tombstone before it takes this lock
        number = max([0, *slot.versions(), *(event.version for event in events)]) + 1
        entry = _finish(staging, slot, number, manifest, encoders, promote, reason, key)
        folder = slot.version_folder(number)  # nobody else takes this number: we hold the slot's lock
        try:
            put_in_place(staging, folder)
            active = number if promote else active_version(events)
            record(slot, events, "publish", number, active=active, reason=reason, run_id=manifest.run_id, key=key)
        except BaseException:
            if folder.is_dir() and run_version(read_events(slot), manifest.run_id) is None:  # nobody has seen it yet
                put_in_place(folder, staging)
            raise
    return Publication(entry, created=True)


def published_before(
    root: Path, manifest: BundleManifest, promote: bool, key: SigningKey | None = None
) -> Publication | None:
    """Return what a bundle was published as, if it was. Raises ConflictError if its run had other content."""
    slot = ModelSlot(root, manifest.user_id, manifest.modality)
    if run_version(read_events(slot), manifest.run_id) is None:
        return None
    with storage_errors("publish"), locked(slot.folder):
        return _published_before(slot, manifest, recover(slot)[0], promote, key)


def _check_place(slot: ModelSlot) -> None:
    """Raise RefusedBundleError where a link is in the place of a folder, or the user's folder cannot be copied to every
    other system: one of its name in other letters, or a name that some systems reserve."""
    user = users_folder(slot.root) / slot.user
    for folder in (users_folder(slot.root), user, slot.folder):
        if folder.is_symlink():
            raise RefusedBundleError(f"{folder}: is a link; move the folder itself here")
    if user.is_dir():
        return
    if _RESERVED.fullmatch(slot.user):
        raise RefusedBundleError(f"user {slot.user}: is a name that some systems reserve; choose another")
    for other in users(slot.root):
        if other != slot.user and other.lower() == slot.user.lower():
            raise RefusedBundleError(f"user {slot.user}: differs from {other} in capitals only; choose another")


def trained_on(log: bytes, owner: str) -> list[str]:
    """Return the users that a model was trained on, as its training log says; its owner where the log does not say."""
    value = parse_json(log, "training log", FILE_LIMIT)
    users = value.get("users") if isinstance(value, dict) else None
    return [str(user) for user in users] if isinstance(users, list) and users else [owner]


@contextmanager
def _not_erased(slot: ModelSlot) -> Iterator[None]:
    """Raise ErasedError where the user was erased during the publication, and leave no folder of theirs."""
    try:
        yield
    except ErasedError:
        if remove_if_empty(slot.folder):
            remove_if_empty(slot.folder.parent)
        raise
    except (FileNotFoundError, NotFoundError) as error:
        if slot.folder.is_dir():
            raise
        raise ErasedError(f"{slot}: was removed while publishing: was the user erased?") from error


def _staging(held: ExitStack, slot: ModelSlot) -> Path:
    """Make the slot's folder and a staging folder in it; doctor may remove an empty one in between."""
    while True:
        ensure_folder(slot.folder)
        with suppress(FileNotFoundError):
            return held.enter_context(staging_folder(slot.folder))


def read_bundle(bundle: Path) -> BundleManifest:
    """Return a bundle's description after comparing it with the names in the folder.

    Raises RefusedBundleError naming every file that is missing, extra, or a link, and DocumentError.
    """
    try:
        path = bundle / "bundle.json"
        manifest = BundleManifest.from_json(read_file(path, DOCUMENT_LIMIT), str(path))
    except NotFoundError as error:
        raise RefusedBundleError(f"{error}: a bundle holds a bundle.json, or it is unfinished") from None
    expected = {file.name for file in manifest.files.values()} | {"bundle.json"}
    modes = {item.name: item.stat(follow_symlinks=False).st_mode for item in os.scandir(bundle)}
    faults = [f"{bundle / name}: is missing" for name in expected if name not in modes]
    for name, mode in modes.items():
        if stat.S_ISLNK(mode):
            faults.append(f"{bundle}/{printable(name)}: is a link")
        elif not stat.S_ISREG(mode):
            faults.append(f"{bundle}/{printable(name)}: is not a file")
        elif name not in expected:
            faults.append(f"{bundle}/{printable(name)}: is not listed in bundle.json")
    if faults:
        raise RefusedBundleError("\n".join(sorted(faults)))
    return manifest


def _published_before(
    slot: ModelSlot, manifest: BundleManifest, events: list[Event], promote: bool, key: SigningKey | None
) -> Publication | None:
    """Return what a run was published as, if it was; with `promote`, a candidate newer than the active one is promoted.

    With `key` it is also signed that the version is active, where an interrupted publication left that out.

    The caller holds the slot's lock. Raises ConflictError if the same run id had other content.
    """
    event = run_version(events, manifest.run_id)
    if event is None:
        return None
    version = event.version
    manifest_sha256 = published_manifest(events, version)
    stored = read_manifest(slot, version, manifest_sha256)
    if stored.bundle_sha256 not in (_bundle_sha256(manifest), _bundle_sha256_of_0_2(manifest)):
        raise ConflictError(
            f"run {manifest.run_id} was published as {slot} v{version} with other content: train with a new run id"
        )
    newer = statuses(events)[version] == "candidate" and version > (active_version(events) or 0)
    if promote and (newer or unsigned_decision(events, version, key)):
        events = record(slot, events, "promote", version, active=version, reason="published again", key=key)
    entry = read_entry(slot, version, manifest_sha256).model_copy(update={"status": statuses(events)[version]})
    return Publication(entry, created=False)


def _bundle_sha256(manifest: BundleManifest) -> str:
    return hashlib.sha256(manifest.to_json()).hexdigest()


_SINCE_0_3 = frozenset(["encoding", "set_threshold", "inputs", "preparation"])  # fields of a bundle's entry


def _bundle_sha256_of_0_2(manifest: BundleManifest) -> str | None:
    """Return what release 0.2 recorded for a bundle that it wrote: it did not know the fields _SINCE_0_3."""
    if not manifest.entry.model_fields_set.isdisjoint(_SINCE_0_3):
        return None
    dumped = manifest.model_dump(mode="json", exclude={"entry": set(_SINCE_0_3)})
    if "schema_version" not in manifest.entry.model_fields_set:
        dumped["entry"]["schema_version"] = "1.0.0"
    return hashlib.sha256((json.dumps(dumped, ensure_ascii=False, indent=1) + "\n").encode()).hexdigest()


def _take_files(bundle: Path, manifest: BundleManifest, staging: Path) -> None:
    """Copy a bundle's files into the staging folder under their roles' names, and refuse what differs."""
    faults = []
    for role, file in manifest.files.items():
        try:
            sha256, size = copy_file(bundle / file.name, staging / role, file.size)
        except NotFoundError as error:
            faults.append(str(error))
            continue
        if size != file.size:
            count = "more" if size > file.size else str(size)
            faults.append(f"{bundle / file.name}: has {count} bytes, bundle.json says {file.size}")
        elif sha256 != file.sha256:
            faults.append(f"{bundle / file.name}: sha256 is {sha256}, bundle.json says {file.sha256}")
        elif role == "model" and (fault := external_data_fault(read_file(staging / role, FILE_LIMIT))) is not None:
            faults.append(f"{bundle / file.name}: {fault}")
    if faults:
        raise RefusedBundleError("\n".join(sorted(faults)))


def _finish(
    staging: Path,
    slot: ModelSlot,
    number: int,
    manifest: BundleManifest,
    encoders: dict[str, str],
    promote: bool,
    reason: str,
    key: SigningKey | None,
) -> RegistryEntry:
    """Name the staged files by their number, stamp it into log and entry, and write the manifest and its signature."""
    names = {role: published_name(role, slot.user, slot.modality, number) for role in manifest.files}
    for role, name in names.items():
        rename_staged(staging / role, staging / name)
    paths = {role: str((slot.version_folder(number) / name).relative_to(slot.root)) for role, name in names.items()}
    entry = RegistryEntry(
        **manifest.entry.model_dump(),
        user_id=slot.user,
        modality=slot.modality,
        run_id=manifest.run_id,
        model_version=f"v{number}",
        status="active" if promote else "candidate",
        model_artifact_path=paths["model"],
        label_map_path=paths["label_map"],
        label_encoder_path=paths["label_encoder"],
        artifact_hash=f"sha256:{manifest.files['model'].sha256}",
        label_map_hash=f"sha256:{manifest.files['label_map'].sha256}",
        label_encoder_hash=f"sha256:{manifest.files['label_encoder'].sha256}",
        encoder_refs=manifest.encoder_refs,
    )
    files = {role: file.model_copy(update={"name": names[role]}) for role, file in manifest.files.items()}
    log = _stamped_log(staging / names["training_log"], entry, promote, reason)
    files["training_log"] = _rewritten(staging / names["training_log"], log)
    files["registry_entry"] = _rewritten(staging / "registry_entry.json", entry.to_json())
    version = VersionManifest(
        user_id=slot.user,
        modality=slot.modality,
        version=number,
        run_id=manifest.run_id,
        bundle_sha256=_bundle_sha256(manifest),
        files=files,
        encoders=encoders,
    )
    _rewritten(staging / "manifest.json", version.to_json())
    if key is not None:
        write_new(staging / SIGNATURE_FILE, key.sign_version(version.to_json()).to_json())
    sync_tree(staging)
    return entry


def _stamped_log(path: Path, entry: RegistryEntry, promote: bool, reason: str) -> bytes:
    log = parse_json(read_file(path, FILE_LIMIT), "training log", FILE_LIMIT)
    if not isinstance(log, dict):
        raise RefusedBundleError("training log: must be a JSON object")
    stamps = {
        "model_version": entry.model_version,
        "model_artifact_path": entry.model_artifact_path,
        "label_encoder_path": entry.label_encoder_path,
        **({"promotion": {"promote": promote, "reason": reason}} if reason else {}),
    }
    return (json.dumps({**log, **stamps}, ensure_ascii=False, allow_nan=False, indent=1) + "\n").encode()


def _rewritten(path: Path, data: bytes) -> StoredFile:
    path.unlink(missing_ok=True)
    write_new(path, data)
    return StoredFile(name=path.name, sha256=hashlib.sha256(data).hexdigest(), size=len(data))


def _store_encoder(root: Path, source: Path, ref: EncoderRef) -> str:
    """Store an encoder that a bundle names, if it is not stored yet; return the sha256 of its `encoder.json`.

    The caller holds the encoders' lock, shared. Raises RefusedBundleError, and ConflictError if the same network is
    stored with other files beside it.
    """
    target = encoders_folder(root) / ref.sha256
    folder = source / ref.sha256
    if not folder.is_dir():
        if target.is_dir():
            return checked_sha256(target / SPEC_FILE)
        raise RefusedBundleError(f"{folder}: encoder {ref.name} is neither here nor in the registry")
    if not target.is_dir():
        with staging_folder(encoders_folder(root)) as staging:
            _take_encoder(folder, ref, staging)
            sync_tree(staging)
            try:
                put_in_place(staging, target)
            except OSError as error:
                if error.errno not in (errno.EEXIST, errno.ENOTEMPTY):
                    raise  # else another publisher stored it meanwhile
    stored = checked_sha256(target / SPEC_FILE)
    if stored != checked_sha256(folder / SPEC_FILE):
        raise ConflictError(f"{folder}: the registry holds this network with another {SPEC_FILE}: {target}")
    return stored


def _take_encoder(folder: Path, ref: EncoderRef, staging: Path) -> None:
    spec = read_encoder(folder)
    faults = []
    if spec.sha256 != ref.sha256:
        faults.append(f"{folder / SPEC_FILE}: describes the network {spec.sha256}, the folder's name says {ref.sha256}")
    for item in os.scandir(folder):
        if not stat.S_ISREG(item.stat(follow_symlinks=False).st_mode):
            faults.append(f"{folder}/{printable(item.name)}: is not a file")
        elif item.name not in spec.files and item.name != SPEC_FILE:
            faults.append(f"{folder}/{printable(item.name)}: is not listed in {SPEC_FILE}")
    for name, sha256 in spec.files.items():
        try:
            copied, size = copy_file(folder / name, staging / name, ENCODER_LIMIT)
        except NotFoundError as error:
            faults.append(str(error))
            continue
        if size > ENCODER_LIMIT:
            faults.append(f"{folder / name}: is above {ENCODER_LIMIT} bytes")
        elif copied != sha256:
            faults.append(f"{folder / name}: sha256 is {copied}, {SPEC_FILE} says {sha256}")
    if faults:
        raise RefusedBundleError("\n".join(sorted(faults)))
    copy_file(folder / SPEC_FILE, staging / SPEC_FILE, DOCUMENT_LIMIT)
