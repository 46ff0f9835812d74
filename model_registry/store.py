"""The registry: one folder, any number of writers and readers, nothing running."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from model_registry.errors import NotFoundError, RegistryError
from model_registry.names import DEFAULT_USER, Modality, parse_modality, parse_user, parse_version
from model_registry.storage import activation, erasure, history, publication, restoring
from model_registry.storage.activation import Difference, difference
from model_registry.storage.durable import ensure_folder, locked, read_file, storage_errors, write_whole
from model_registry.storage.entry import (
    DOCUMENT_LIMIT,
    FILE_LIMIT,
    BundleManifest,
    Event,
    RegistryEntry,
    RegistryFormat,
    Status,
    Tombstone,
    VersionManifest,
)
from model_registry.storage.erasure import Removed
from model_registry.storage.history import published_manifest, read_entry, read_events, read_pointer, statuses
from model_registry.storage.layout import ModelSlot, pairs, users
from model_registry.storage.publication import Published
from model_registry.storage.recovery import Finding, examine
from model_registry.storage.verification import Version, encoder_file, read_version

INSUFFICIENT = "insufficient data"  # the verdict at which the pooled model serves instead
_FORMAT = RegistryFormat().to_json()
DEFAULT_ROOT = Path(__file__).resolve().parent / "store"


@dataclass(frozen=True)
class Resolved:
    """The version to use, every file of it checked."""

    user: str  # who was asked for
    modality: Modality
    version: int
    path: Path
    manifest: VersionManifest
    entry: RegistryEntry  # its status is the present one
    files: dict[str, Path]  # role -> path
    encoders: dict[str, Path]  # encoder name -> folder
    fallback: bool  # True where the user has no active model and the pooled one of `_default` stands in


@dataclass(frozen=True)
class Shown:
    """A version's entry with what happened to it."""

    entry: RegistryEntry
    events: tuple[Event, ...]
    path: Path


@dataclass(frozen=True)
class Registry:
    """A registry in the folder `root`, which is created by the first publication."""

    root: Path = DEFAULT_ROOT

    @property
    def address(self) -> str:
        """Where the registry is."""
        return str(self.root)

    def publish(self, bundle_dir: Path, *, promote: bool = True, reason: str = "") -> Published:
        """Publish a bundle as the next version. See `publication.publish`."""
        return publication.publish(self.created(), Path(bundle_dir), promote=promote, reason=reason)

    def serving_log(self, user: str, modality: str) -> bytes:
        """Return the training log of a user's own version that serves. Raises NotFoundError, CorruptError.

        Its encoders, which would take longest to read, are not checked: whom the log speaks for they do not change.
        """
        found = _active(self._pair(user, modality), encoders=False)
        if found.fallback:
            raise NotFoundError(f"{user}/{modality}: the pooled model serves")
        return read_file(found.files["training_log"], FILE_LIMIT)

    def published_before(self, manifest: BundleManifest, *, promote: bool = True) -> Published | None:
        """Return what a bundle was published as, if it was. See `publication.published_before`."""
        return publication.published_before(self.created(), manifest, promote)

    def resolve(self, user: str, modality: str, version: str | int | None = None) -> Resolved:
        """Return the version that serves, or `version`, after checking every file.

        Where the user has no active model, or one with the verdict `insufficient data`, the active one of `_default`
        is returned if there is one, marked as `fallback`; an exact version never falls back. Raises NotFoundError,
        CorruptError naming the file, InvalidNameError.
        """
        pair = self._pair(user, modality)
        if version is not None:
            return self._resolved(pair, pair.user, parse_version(version))
        return _active(pair)

    def entries(
        self,
        *,
        user: str | None = None,
        modality: str | None = None,
        status: Status | None = None,
        verdict: str | None = None,
        after: tuple[str, str, int] | None = None,
    ) -> Iterator[RegistryEntry]:
        """Yield published versions with their present status, by user, modality and version.

        `after` names a version, by these three, behind which to begin.
        """
        self._checked()
        kind = None if modality is None else parse_modality(modality)
        for pair in pairs(self.root, None if user is None else parse_user(user), kind):
            if after is not None and (pair.user, pair.modality) < after[:2]:
                continue
            for version, state in sorted(statuses(read_events(pair)).items()):
                if (status is not None and state != status) or (
                    after is not None and (pair.user, pair.modality, version) <= after
                ):
                    continue
                try:
                    entry = read_entry(pair, version)
                except NotFoundError:
                    continue  # removed in this moment, or by hand: doctor reports it
                if verdict is None or entry.verdict == verdict:
                    yield entry.model_copy(update={"status": state})

    def show(self, user: str, modality: str, version: str | int) -> Shown:
        """Return a version's entry and its events. Raises NotFoundError."""
        pair = self._pair(user, modality)
        number = parse_version(version)
        events = read_events(pair)
        status = self._status(pair, events, number)
        entry = read_entry(pair, number).model_copy(update={"status": status})
        mine = tuple(event for event in events if number in (event.version, event.active))
        return Shown(entry, mine, pair.version_folder(number))

    def history(self, user: str, modality: str) -> list[Event]:
        """Return what happened to the versions of a user and modality, in order; nothing if there are none."""
        return read_events(self._pair(user, modality))

    def users(self) -> Iterator[str]:
        """Yield the users that have published models, sorted."""
        self._checked()
        return users(self.root)

    def verify(self, user: str, modality: str, version: str | int) -> Version:
        """Check every file of a version and of its encoders. Raises CorruptError naming each that differs."""
        pair = self._pair(user, modality)
        number = parse_version(version)
        events = read_events(pair)
        self._status(pair, events, number)
        return read_version(pair, number, published_manifest(events, number))

    def verify_all(
        self, *, user: str | None = None, modality: str | None = None, version: str | int | None = None
    ) -> Iterator[tuple[str, str | None]]:
        """Check every version, or those named; yield each one's name and what is wrong with it, or None."""
        self._checked()
        only = None if version is None else parse_version(version)
        kind = None if modality is None else parse_modality(modality)
        for pair in pairs(self.root, None if user is None else parse_user(user), kind):
            try:
                published = sorted(statuses(read_events(pair)))
            except RegistryError as error:
                yield str(pair), str(error)
                continue
            for number in published if only is None else [only]:
                try:
                    self.verify(pair.user, pair.modality, number)
                    yield f"{pair} v{number}", None
                except RegistryError as error:
                    yield f"{pair} v{number}", str(error)

    def diff(self, user: str, modality: str, before: str | int, after: str | int) -> Difference:
        """Compare two versions. Raises NotFoundError."""
        pair, entries = (
            self._pair(user, modality),
            [self.show(user, modality, version).entry for version in (before, after)],
        )
        return difference(entries[0], entries[1], *(activation.learnt_from(pair, entry.version) for entry in entries))

    def promote(self, user: str, modality: str, version: str | int, reason: str = "") -> int | None:
        """Let a version serve; return the one that served. See `activation.promote`."""
        return activation.promote(self._pair(user, modality), parse_version(version), reason)

    def rollback(self, user: str, modality: str, reason: str) -> tuple[int, int]:
        """Let what served before serve again; return both numbers. See `activation.rollback`."""
        return activation.rollback(self._pair(user, modality), reason)

    def archive(
        self, user: str, modality: str, version: str | int, reason: str = "", *, withdraw: bool = False
    ) -> None:
        """Mark a version as out of use. See `activation.archive`."""
        activation.archive(self._pair(user, modality), parse_version(version), reason, withdraw=withdraw)

    def export(
        self, user: str, modality: str, target: Path, *, version: str | int | None = None, form: Literal["tar", "onnx"]
    ) -> None:
        """Write the version that serves, or `version`, to one file. See `portable`."""
        from model_registry.storage import portable  # ONNX takes longer to import than everything else together

        found = self.resolve(user, modality, version)
        (portable.export_tar if form == "tar" else portable.export_onnx)(found, target)

    def restore(self, archive: Path, *, promote: bool = False) -> Published:
        """Publish what a tar of `export` holds. See `restoring`; a refused archive leaves no trace."""
        with restoring.unpacked(archive) as (manifest, bundle):
            return restoring.restore(self.created(), manifest, bundle, promote=promote)

    def erase(self, user: str, reason: str) -> Tombstone:
        """Remove all of a user's models. See `erasure.erase`."""
        self._checked()
        return erasure.erase(self.root, parse_user(user), reason)

    def gc(self, keep: int, *, dry_run: bool = False) -> Removed:
        """Remove archived versions beyond the newest `keep`, and unused encoders. See `erasure.collect`."""
        self._checked()
        return erasure.collect(self.root, keep, dry_run=dry_run)

    def doctor(self, on_pair: Callable[[str], None] = lambda pair: None) -> list[Finding]:
        """Find and mend what crashes left. See `doctor.examine`."""
        self._checked()
        return examine(self.root, on_pair)

    def reindex(self) -> bool:
        """Rebuild `model_registry.jsonl` from the versions; return whether that changed it."""
        self._checked()
        return history.reindex(self.root)

    def _pair(self, user: str, modality: str) -> ModelSlot:
        self._checked()
        return ModelSlot(self.root, parse_user(user), parse_modality(modality))

    def _resolved(self, pair: ModelSlot, user: str, version: int) -> Resolved:
        events = read_events(pair)
        status = self._status(pair, events, version)
        return _resolved(read_version(pair, version, published_manifest(events, version)), user, pair, status)

    def _status(self, pair: ModelSlot, events: list[Event], version: int) -> Status:
        status = statuses(events).get(version)
        if status is None:
            raise NotFoundError(f"{pair} v{version}: no such version")
        return status

    def _checked(self) -> None:
        """Refuse a folder that is no registry, or one of a later layout."""
        path = self.root / "registry.json"
        try:
            data = read_file(path, DOCUMENT_LIMIT)
            if data != _FORMAT:
                RegistryFormat.from_json(data, str(path))
        except NotFoundError:
            raise NotFoundError(f"{self.root}: no registry here; publishing a bundle makes one") from None

    def encoder_file(self, sha256: str, name: str) -> Path:
        """Return a file of a shared encoder, if intact. Raises NotFoundError, CorruptError."""
        self._checked()
        return encoder_file(self.root, sha256, name)

    def created(self) -> Path:
        """Make the folder if there is none, say which layout it has, and return it."""
        path = self.root / "registry.json"
        with storage_errors("open"):
            if path.exists():
                self._checked()
                return self.root
            ensure_folder(self.root, Path(self.root.anchor))
            with locked(self.root):
                if not path.exists():
                    write_whole(path, RegistryFormat().to_json())
        self._checked()
        return self.root


def _active(pair: ModelSlot, encoders: bool = True) -> Resolved:
    """Return the version that serves a pair, or the pooled one in its place, its `encoders` checked if asked for."""
    own = _serving(pair, encoders)
    if own is None or own.entry.verdict == INSUFFICIENT:
        pooled = ModelSlot(pair.root, DEFAULT_USER, pair.modality)
        spare = _serving(pooled, encoders) if pair.user != DEFAULT_USER else None
        if spare is not None:
            return _resolved(spare, pair.user, pooled, "active")
    if own is None:
        raise NotFoundError(f"{pair}: no active version; train and publish one, or promote a candidate")
    return _resolved(own, pair.user, pair, "active")


def _serving(pair: ModelSlot, encoders: bool) -> Version | None:
    """Return the version that serves a pair, checked, if one does."""
    pointer = read_pointer(pair)
    return None if pointer is None else read_version(pair, pointer.version, pointer.manifest_sha256, encoders)


def _resolved(found: Version, user: str, pair: ModelSlot, status: Status) -> Resolved:
    return Resolved(
        user=user,
        modality=pair.modality,
        version=found.manifest.version,
        path=found.folder,
        manifest=found.manifest,
        entry=found.entry.model_copy(update={"status": status}),
        files=found.files,
        encoders=found.encoders,
        fallback=user != pair.user,
    )
