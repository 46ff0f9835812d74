"""The registry in a folder: any number of writers and readers, and no running service."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path

from model_registry.errors import CorruptError, NoRegistryError, NotFoundError, RegistryError
from model_registry.folders import configured_signatures
from model_registry.names import Modality, parse_modality, parse_user, parse_version
from model_registry.storage import activation, erasure, history, publication, restoring
from model_registry.storage.chain import HISTORY_LIMIT
from model_registry.storage.comparison import Difference, compare_versions
from model_registry.storage.durable import (
    check_writable,
    ensure_folder,
    file_sha256,
    nearest_existing,
    path_errors,
    read_file,
    staged_file,
    storage_errors,
)
from model_registry.storage.entry import (
    FILE_LIMIT,
    NEWEST_FORMAT,
    BundleManifest,
    Event,
    ExportForm,
    RegistryEntry,
    Status,
)
from model_registry.storage.erasure import Erased, Removed
from model_registry.storage.history import (
    VersionRecord,
    active_version,
    pointer_fault,
    published_manifest,
    published_manifests,
    read_events,
    read_pointer,
    read_trusted_events,
    statuses,
)
from model_registry.storage.layout import ModelSlot, slots, users
from model_registry.storage.listing import ListedVersion, listed_version
from model_registry.storage.migrations import bring_up_to_date, read_format
from model_registry.storage.publication import Publication
from model_registry.storage.recovery import Finding, examine, registry_faults
from model_registry.storage.resolution import ResolvedVersion, resolve_active
from model_registry.storage.signatures import Signatures, SigningKey
from model_registry.storage.verification import (
    Damage,
    OnDamage,
    checked_sha256,
    encoder_file,
    log_damage,
    read_checked,
    read_entry,
    read_version,
)


@dataclass(frozen=True)
class Registry:
    """A registry in the folder `root`, which is created by the first publication."""

    root: Path
    signatures: Signatures = field(default_factory=configured_signatures)

    @property
    def address(self) -> str:
        """The folder's path."""
        return str(self.root)

    # --- reading

    def resolve(self, user: str, modality: str, version: str | int | None = None) -> ResolvedVersion:
        """Return the active version, or `version`, after checking every file.

        Where the user has no active version, or one with the verdict `insufficient data`, the active one of `_default`
        is returned if there is one, marked as `fallback`; an exact version never falls back. Raises NotFoundError,
        CorruptError naming the file, InvalidNameError.
        """
        slot = self._slot(user, modality)
        if version is not None:
            return self._exact(slot, parse_version(version))
        resolved = resolve_active(slot.user, lambda user: self._active(replace(slot, user=user)))
        if resolved is None:
            raise NotFoundError(f"{slot}: no active version; train and publish one, or promote a candidate")
        return resolved

    @contextmanager
    def open_version(self, user: str, modality: str, version: str | int | None = None) -> Iterator[ResolvedVersion]:
        """Yield what `resolve` returns; registries elsewhere yield temporary copies, gone after the block."""
        yield self.resolve(user, modality, version)

    def fetch(self, user: str, modality: str, into: Path, version: str | int | None = None) -> ResolvedVersion:
        """Copy the active version, or `version`, into a folder; what is there already is only checked.

        Raises what `resolve` raises, and UnusablePathError.
        """
        resolved = self.resolve(user, modality, version)
        with storage_errors("fetch"), path_errors(into):
            for folder in (resolved.folder, *resolved.encoders.values()):
                for source in folder.iterdir():
                    target = into / source.relative_to(self.root)
                    sha256 = checked_sha256(source)
                    if not target.is_file() or file_sha256(target) != sha256:
                        ensure_folder(target.parent)
                        with source.open("rb") as content, staged_file(target) as file:
                            shutil.copyfileobj(content, file)
                            file.seek(0)
                            if file_sha256(file) != sha256:
                                raise CorruptError(f"{source}: changed while it was copied; try again")
        folder = into / resolved.folder.relative_to(self.root)
        return replace(
            resolved,
            folder=folder,
            files={role: folder / path.name for role, path in resolved.files.items()},
            encoders={name: into / path.relative_to(self.root) for name, path in resolved.encoders.items()},
        )

    def training_log(self, user: str, modality: str, version: str | int | None = None) -> bytes:
        """Return the training log of a user's own active version, or of `version`. Raises NotFoundError, CorruptError.

        Encoders, which would take longest to check, are left out: a training log does not depend on them.
        """
        slot = self._slot(user, modality)
        if version is None:
            resolved = self._active(slot, with_encoders=False)
            if resolved is None:
                raise NotFoundError(f"{slot}: no active version")
        else:
            resolved = self._exact(slot, parse_version(version), with_encoders=False)
        return read_checked(resolved.files["training_log"], resolved.stored["training_log"].sha256, FILE_LIMIT)

    def entries(
        self,
        *,
        user: str | None = None,
        modality: str | None = None,
        status: Status | None = None,
        verdict: str | None = None,
        after: tuple[str, str, int] | None = None,
        on_damage: OnDamage = log_damage,
    ) -> Iterator[RegistryEntry]:
        """Yield the entries of what `listed` yields."""
        for version in self.listed(
            user=user, modality=modality, status=status, verdict=verdict, after=after, on_damage=on_damage
        ):
            yield version.entry

    def listed(
        self,
        *,
        user: str | None = None,
        modality: str | None = None,
        status: Status | None = None,
        verdict: str | None = None,
        after: tuple[str, str, int] | None = None,
        on_damage: OnDamage = log_damage,
    ) -> Iterator[ListedVersion]:
        """Yield published versions with their present status, by user, modality and version.

        `after` names a version, by these three, and only later ones are yielded. What is damaged is passed over and
        given to `on_damage`, so that no one's damage hides the versions of others.
        """
        for slot in self._slots(user, modality):
            if after is not None and (slot.user, slot.modality) < after[:2]:
                continue
            try:
                events = read_events(slot)
            except (RegistryError, OSError) as error:
                on_damage(Damage(slot.user, slot.modality, None, str(error)))
                continue
            manifests = published_manifests(events)
            for version, state in sorted(statuses(events).items()):
                if (status is not None and state != status) or (
                    after is not None and (slot.user, slot.modality, version) <= after
                ):
                    continue
                try:
                    listed = listed_version(slot, version, manifests.get(version, ""), state)
                except NotFoundError:
                    continue  # removed by hand: doctor reports it
                except (RegistryError, OSError) as error:
                    if not _removed(slot, events, version):  # else in this moment
                        on_damage(Damage(slot.user, slot.modality, version, str(error)))
                    continue
                if verdict is None or listed.entry.verdict == verdict:
                    yield listed

    def show(self, user: str, modality: str, version: str | int) -> VersionRecord:
        """Return a version's entry and its events. Raises NotFoundError."""
        slot = self._slot(user, modality)
        number = parse_version(version)
        events = read_events(slot)
        status = _status(slot, events, number)
        with _removal_noticed(slot, events, number):
            entry = read_entry(slot, number, published_manifest(events, number)).model_copy(update={"status": status})
        return VersionRecord(entry, tuple(event for event in events if number in (event.version, event.active)))

    def history(self, user: str, modality: str) -> list[Event]:
        """Return what happened to the versions of a user and modality, in order; nothing if there are none."""
        return read_events(self._slot(user, modality))

    def stored_history(self, user: str, modality: str) -> bytes:
        """Return the content of a slot's `history.jsonl`. Raises NotFoundError where there is none."""
        return read_file(self._slot(user, modality).history, HISTORY_LIMIT)

    def users(self) -> Iterator[str]:
        """Yield the users that have published models, sorted."""
        self.existing()
        return users(self.root)

    def verify(self, user: str, modality: str, version: str | int) -> ResolvedVersion:
        """Check every file of a version and of its encoders. Raises CorruptError naming each that differs."""
        return self._exact(self._slot(user, modality), parse_version(version))

    def verify_all(
        self, *, user: str | None = None, modality: str | None = None, version: str | int | None = None
    ) -> Iterator[tuple[str, str | None]]:
        """Check every version, or those named; yield each one's name and what is wrong with it, or None.

        Unless a version is named, also the pointers are checked, and without a user the files that belong to nobody.
        """
        only = None if version is None else parse_version(version)
        if user is None and modality is None and only is None:
            yield from registry_faults(self.existing())
        for slot in self._slots(user, modality):
            try:
                events = self._events(slot)
                fault = pointer_fault(slot)
            except (RegistryError, OSError) as error:
                yield str(slot), str(error)
                continue
            if fault is not None and only is None:
                yield f"{slot} active.json", fault
            for number in sorted(statuses(events)) if only is None else [only]:
                try:
                    self.verify(slot.user, slot.modality, number)
                    yield f"{slot} v{number}", None
                except (RegistryError, OSError) as error:
                    if only is not None or not _removed(slot, events, number):
                        yield f"{slot} v{number}", str(error)

    def diff(self, user: str, modality: str, before: str | int, after: str | int) -> Difference:
        """Compare two versions. Raises NotFoundError."""
        return compare_versions(self, user, modality, before, after)

    def export(
        self, user: str, modality: str, target: Path, *, version: str | int | None = None, form: ExportForm
    ) -> None:
        """Write the active version, or `version`, to one file. See `portable`."""
        from model_registry.storage import portable  # ONNX takes longer to import than everything else together

        portable.export(self.resolve(user, modality, version), target, form)

    def encoder_file(self, sha256: str, name: str) -> Path:
        """Return a file of a shared encoder, if intact. Raises NotFoundError, CorruptError."""
        self.existing()
        return encoder_file(self.root, sha256, name)

    # --- changing

    def check_writable(self) -> None:
        """Raise UnusablePathError or DocumentError where nothing could be published here."""
        with path_errors(self.root):
            exists = (self.root / "registry.json").exists()
        if exists:
            self.existing()
        check_writable(self.root)

    def publish(self, bundle_dir: Path, *, promote: bool = True, reason: str = "") -> Publication:
        """Publish a bundle as the next version. See `publication.publish`."""
        return publication.publish(self.created(), Path(bundle_dir), promote=promote, reason=reason, key=self._key())

    def published_before(self, manifest: BundleManifest, *, promote: bool = True) -> Publication | None:
        """Return what a bundle was published as, if it was. See `publication.published_before`."""
        return publication.published_before(self.changeable(), manifest, promote, self._key())

    def restore(self, archive: Path, *, promote: bool = False) -> Publication:
        """Publish the version in a tar of `export`. See `restoring`; a refused archive leaves no trace."""
        return restoring.restore(self, archive, promote=promote, trusted=self.signatures.required_keys())

    def promote(self, user: str, modality: str, version: str | int, reason: str = "") -> int | None:
        """Make a version the active one; return the one that was. See `activation.promote`."""
        self.changeable()
        return activation.promote(self._slot(user, modality), parse_version(version), reason, self._key())

    def sign(self, user: str, modality: str, version: str | int, key: SigningKey) -> None:
        """Sign a version that was published without a signature. See `activation.sign`."""
        self.changeable()
        activation.sign(self._slot(user, modality), parse_version(version), key)

    def rollback(self, user: str, modality: str, reason: str) -> tuple[int, int]:
        """Return to the version that was active before; return both numbers. See `activation.rollback`."""
        self.changeable()
        return activation.rollback(self._slot(user, modality), reason, self._key())

    def archive(
        self, user: str, modality: str, version: str | int, reason: str = "", *, withdraw: bool = False
    ) -> None:
        """Take a version out of use. See `activation.archive`."""
        self.changeable()
        number = parse_version(version)
        activation.archive(self._slot(user, modality), number, reason, withdraw=withdraw, key=self._key())

    def erase(self, user: str, reason: str) -> Erased:
        """Remove all of a user's models. See `erasure.erase`."""
        self.changeable()
        return erasure.erase(self.root, parse_user(user), reason, self._key())

    def readmit(self, user: str, reason: str) -> bool:
        """Allow an erased user's models again; return False where nobody was erased. See `erasure.readmit`."""
        self.changeable()
        return erasure.readmit(self.root, parse_user(user), reason)

    def gc(self, keep: int, *, dry_run: bool = False) -> Removed:
        """Remove archived versions beyond the newest `keep`, and unused encoders. See `erasure.collect`."""
        self.changeable()
        return erasure.collect(self.root, keep, dry_run=dry_run)

    def doctor(self, on_slot: Callable[[str], None] = lambda slot: None) -> list[Finding]:
        """Find and mend what crashes left. See `recovery.examine`."""
        self.changeable()
        return examine(self.root, on_slot)

    def reindex(self) -> bool:
        """Rebuild `model_registry.jsonl` from the versions; return whether that changed it."""
        self.changeable()
        return history.reindex(self.root)

    def created(self) -> Path:
        """Return the folder, created if there is none and brought to the newest layout.

        Raises UnusablePathError, DocumentError for a later layout.
        """
        with storage_errors("open"), path_errors(self.root):
            try:
                newest = read_format(self.root) == NEWEST_FORMAT
            except NotFoundError:
                newest = False
            if not newest:
                bring_up_to_date(self.root)
        return self.root

    def existing(self) -> Path:
        """Return the folder, which holds a registry. Raises NoRegistryError, DocumentError for a later layout."""
        with path_errors(self.root):
            try:
                read_format(self.root)
            except NotFoundError:
                nearest_existing(self.root)  # raises where a file is in the way
                raise NoRegistryError(
                    f"{self.root}: no registry here; check --registry, or publish a bundle to create one"
                ) from None
        return self.root

    def changeable(self) -> Path:
        """Return the folder, which holds a registry, brought to the newest layout. Raises what `existing` raises."""
        self.existing()
        return self.created()

    # --- steps of the above

    def _key(self) -> SigningKey | None:
        return self.signatures.signing_key(self.root)

    def _slot(self, user: str, modality: str) -> ModelSlot:
        self.existing()
        return ModelSlot(self.root, parse_user(user), parse_modality(modality))

    def _slots(self, user: str | None, modality: str | None) -> Iterator[ModelSlot]:
        self.existing()
        kind: Modality | None = None if modality is None else parse_modality(modality)
        return slots(self.root, None if user is None else parse_user(user), kind)

    def _active(self, slot: ModelSlot, *, with_encoders: bool = True) -> ResolvedVersion | None:
        """Return a slot's active version, checked, if there is one.

        The history says which. Where it is damaged or lost the pointer does, which names the manifest by its hash, so
        that one bad byte leaves nobody without a model. Where signatures are required it is not read: nobody signs it.
        """
        trusted = self.signatures.required_keys()
        damage: CorruptError | None = None
        try:
            events = self._events(slot)
        except CorruptError as error:
            if trusted is not None:
                raise
            events, damage = [], error
        if events or trusted is not None:
            number = active_version(events)
            if number is None:
                return None
            sha256 = published_manifest(events, number)
        else:
            pointer = read_pointer(slot)
            if pointer is None:
                if damage is not None:
                    raise damage
                return None
            if damage is not None:
                log_damage(Damage(slot.user, slot.modality, None, str(damage)))
            number, sha256 = pointer.version, pointer.manifest_sha256
        try:
            version = read_version(slot, number, sha256, with_encoders=with_encoders, trusted=trusted)
        except (RegistryError, OSError):
            if events and _removed(slot, events, number):
                return self._active(slot, with_encoders=with_encoders)
            raise
        return replace(version, entry=version.entry.model_copy(update={"status": "active"}))

    def _events(self, slot: ModelSlot) -> list[Event]:
        """Return a slot's events, of which a trusted key has signed the deciding one where signatures are required."""
        if self.signatures.required:
            return read_trusted_events(slot, self.signatures, self.address)
        return read_events(slot)

    def _exact(self, slot: ModelSlot, number: int, *, with_encoders: bool = True) -> ResolvedVersion:
        trusted = self.signatures.required_keys()
        events = read_events(slot)
        status = _status(slot, events, number)
        with _removal_noticed(slot, events, number):
            sha256 = published_manifest(events, number)
            version = read_version(slot, number, sha256, with_encoders=with_encoders, trusted=trusted)
        return replace(version, entry=version.entry.model_copy(update={"status": status}))


@contextmanager
def _removal_noticed(slot: ModelSlot, events: list[Event], version: int) -> Iterator[None]:
    """Raise NotFoundError, and not what its missing files look like, where a version is removed while it is read."""
    try:
        yield
    except (RegistryError, OSError) as error:
        if _removed(slot, events, version):
            raise NotFoundError(f"{slot} v{version}: no such version") from error
        raise


def _removed(slot: ModelSlot, events: list[Event], version: int) -> bool:
    """Return whether a version of `events` is there no more; after an erasure another one may have its number."""
    try:
        now = read_events(slot)
    except (RegistryError, OSError):
        return False
    return version not in statuses(now) or published_manifest(now, version) != published_manifest(events, version)


def _status(slot: ModelSlot, events: list[Event], version: int) -> Status:
    status = statuses(events).get(version)
    if status is None:
        raise NotFoundError(f"{slot} v{version}: no such version")
    return status
