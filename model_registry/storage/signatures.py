"""Ed25519 signatures of versions, and of the events that decide which version is active.

A version's `signature.json` signs its manifest, and so user, modality, number, run and every file. An event's
signature covers its slot, itself and the history before it. Whoever can write the registry's folder, but has no private
key, can therefore neither make a version nor make another one active. If they put back an old state of a whole slot,
readers that remember a later one notice. docs/registry.md says what is prevented and what is not.
"""

from __future__ import annotations

import hashlib
import os
import re
import stat
from dataclasses import dataclass
from datetime import datetime
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING

from model_registry.errors import (
    ConflictError,
    CorruptError,
    InvalidNameError,
    NotFoundError,
    UntrustedError,
    UnusablePathError,
)
from model_registry.messages import printable
from model_registry.names import parse_name
from model_registry.storage.durable import (
    ensure_folder,
    locked,
    path_errors,
    put_in_place,
    read_file,
    sync_files,
    write_file_atomically,
    write_new,
    write_temporary,
)
from model_registry.storage.entry import (
    DOCUMENT_LIMIT,
    PUBLIC_KEY_PATTERN,
    Event,
    ObservedTimes,
    Signature,
    TrustedKey,
    TrustedKeys,
    VersionSignature,
)
from model_registry.storage.layout import ModelSlot
from model_registry.timestamps import utc_now

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

SIGNATURE_FILE = "signature.json"
_VERSION, _EVENT = b"model-trainer version\n", b"model-trainer event\n"  # a signature of one is none of the other


@dataclass(frozen=True)
class SigningKey:
    """A private key. `sign_version` and `sign_event` are all that is done with it."""

    private: Ed25519PrivateKey

    @property
    def public(self) -> str:
        """The public key: 32 bytes as hexadecimal digits."""
        return self.private.public_key().public_bytes_raw().hex()

    def sign_version(self, manifest: bytes) -> VersionSignature:
        """Return the signature of a version's `manifest.json`."""
        return VersionSignature(public_key=self.public, signature=self.private.sign(_VERSION + manifest).hex())

    def sign_event(self, slot: ModelSlot, before: bytes, event: Event) -> Event:
        """Return an event with a signature; `before` is the content of its slot's history."""
        signature = self.private.sign(_event_content(slot, before, event)).hex()
        return event.model_copy(update={"signature": Signature(public_key=self.public, signature=signature)})


@dataclass(frozen=True)
class Signatures:
    """With which key a process signs what it publishes, and which keys it trusts."""

    key_file: Path | None
    trusted_keys: Path
    required: bool  # whether a version is refused that no trusted key has signed

    def signing_key(self, root: Path) -> SigningKey | None:
        """Return the key to sign with in the registry at `root`, if there is one. Raises UnusablePathError."""
        return None if self.key_file is None else read_signing_key(self.key_file, root)

    @property
    def observed_times(self) -> Path:
        """The file that remembers how new the histories were that were read: beside the trust file."""
        return self.trusted_keys.with_suffix(".observed.json")

    def required_keys(self) -> frozenset[str] | None:
        """Return the public keys of which one must have signed a version; None where no signature is required."""
        return self.trusted() if self.required else None

    def trusted(self) -> frozenset[str]:
        """Return the trusted public keys. Raises UntrustedError where there are none, and UnusablePathError."""
        keys = frozenset(key.public_key for key in read_trusted_keys(self.trusted_keys).keys)
        if not keys:
            raise UntrustedError(
                f"{self.trusted_keys}: no trusted keys, and a signature is required; add one with: registry key trust"
            )
        return keys


def new_signing_key(path: Path) -> str:
    """Write a new private key to a file that only its owner may read, and return the public key.

    Raises UnusablePathError for a file that exists or lies in a registry.
    """
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
    from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

    _outside_registries(path)
    private = Ed25519PrivateKey.generate()
    with path_errors(path):
        if path.exists():
            raise UnusablePathError(f"{path}: exists; a private key is never replaced, so choose another name")
        ensure_folder(path.parent)
        write_new(path, private.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()))
        path.chmod(0o600)
    return SigningKey(private).public


def read_signing_key(path: Path, root: Path) -> SigningKey:
    """Return the private key in a file.

    Raises UnusablePathError where it is none, others may read it, or it lies in the registry at `root`.
    """
    from cryptography.exceptions import UnsupportedAlgorithm
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
    from cryptography.hazmat.primitives.serialization import load_pem_private_key

    with path_errors(path):
        if path.resolve().is_relative_to(root.resolve()):
            raise UnusablePathError(f"{path}: a private key may not lie in the registry; move it elsewhere")
        if path.stat().st_mode & (stat.S_IRWXG | stat.S_IRWXO):
            raise UnusablePathError(f"{path}: others may read this private key; run: chmod 600 {path}")
        data = path.read_bytes()
    try:
        private = load_pem_private_key(data, None)
    except (ValueError, TypeError, UnsupportedAlgorithm):
        private = None
    if not isinstance(private, Ed25519PrivateKey):
        raise UnusablePathError(f"{path}: not an Ed25519 private key; make one with: model-trainer registry key new")
    return SigningKey(private)


def read_trusted_keys(path: Path) -> TrustedKeys:
    """Return the keys in a trust file, none if there is no file.

    Raises UnusablePathError where others may change it, DocumentError.
    """
    with path_errors(path):
        try:
            status = path.stat()
        except FileNotFoundError:
            return TrustedKeys()
        if status.st_mode & (stat.S_IWGRP | stat.S_IWOTH) or status.st_uid not in (0, os.geteuid()):
            raise UnusablePathError(f"{path}: others may change which keys are trusted; run: chmod 600 {path}")
        _outside_registries(path)
        return TrustedKeys.from_json(read_file(path.resolve(), DOCUMENT_LIMIT), str(path))


def trust_key(path: Path, name: str, public_key: str) -> None:
    """Add a public key to a trust file. Raises ConflictError where name or key is there already, InvalidNameError."""
    parse_name(name, "key name")
    if re.fullmatch(PUBLIC_KEY_PATTERN, public_key) is None:
        raise InvalidNameError(f"public key {printable(public_key)}: not 64 hexadecimal digits, as `key new` prints")
    _outside_registries(path)
    with path_errors(path):
        ensure_folder(path.parent)
        with locked(path.parent):
            known = read_trusted_keys(path).keys
            if any(name == key.name or public_key == key.public_key for key in known):
                raise ConflictError(f"{path}: key {name}: name or key is there already; see: registry key list")
            key = TrustedKey(name=name, public_key=public_key, added=utc_now())
            write_file_atomically(path, TrustedKeys(keys=(*known, key)).to_json(), mode=0o600)


def distrust_key(path: Path, name: str) -> None:
    """Remove a key from a trust file. Raises NotFoundError."""
    with path_errors(path):
        known = read_trusted_keys(path).keys
        if all(key.name != name for key in known):
            raise NotFoundError(f"{path}: key {printable(name)}: no such key")
        with locked(path.parent):
            left = tuple(key for key in read_trusted_keys(path).keys if key.name != name)
            write_file_atomically(path, TrustedKeys(keys=left).to_json(), mode=0o600)


def _outside_registries(path: Path) -> None:
    """Raise UnusablePathError for a file in a registry: whoever can write models there could replace it."""
    for folder in (*path.absolute().parents, *path.resolve().parents):
        if (folder / "registry.json").exists():
            raise UnusablePathError(f"{path}: lies in the registry {folder}; keys belong where publishers cannot write")


# --- versions


def sign_version(slot: ModelSlot, version: int, manifest_sha256: str, key: SigningKey) -> None:
    """Put a signature beside a version's manifest, unless this key's is there. The caller holds the slot's lock."""
    folder = slot.version_folder(version)
    manifest = read_file(folder / "manifest.json", DOCUMENT_LIMIT)
    if hashlib.sha256(manifest).hexdigest() != manifest_sha256:
        raise CorruptError(f"{folder / 'manifest.json'}: is not what was published")
    signature = key.sign_version(manifest).to_json()  # Ed25519 is deterministic
    try:
        signed = read_file(folder / SIGNATURE_FILE, DOCUMENT_LIMIT) == signature
    except NotFoundError:
        signed = False
    if not signed:
        temporary = write_temporary(slot.folder / SIGNATURE_FILE, signature)
        sync_files([temporary])
        put_in_place(temporary, folder / SIGNATURE_FILE)


def signature_fault(folder: Path, manifest: bytes, trusted: frozenset[str] | None = None) -> str | None:
    """Return what is wrong with a version's signature. Without `trusted`, the keys that are, none is needed.

    A signature that is there must be one of its own key in any case, to the last byte of the document.
    """
    path = folder / SIGNATURE_FILE
    try:
        data = read_file(path, DOCUMENT_LIMIT)
    except NotFoundError:
        return None if trusted is None else f"{path}: is missing: this version is not signed; see: registry key sign"
    signature = VersionSignature.from_json(data, str(path))
    if signature.to_json() != data or not _valid(signature, _VERSION + manifest):
        return f"{path}: is not a signature of this manifest"
    if trusted is not None and signature.public_key not in trusted:
        return f"{path}: is by a key that is not trusted: {signature.public_key}"
    return None


def _valid(signature: Signature, content: bytes) -> bool:
    return _verifies(signature.public_key, signature.signature, content)


@lru_cache(maxsize=1000)
def _verifies(public_key: str, signature: str, content: bytes) -> bool:
    from cryptography.exceptions import InvalidSignature
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

    try:
        Ed25519PublicKey.from_public_bytes(bytes.fromhex(public_key)).verify(bytes.fromhex(signature), content)
    except (InvalidSignature, ValueError):
        return False
    return True


# --- histories


def _event_content(slot: ModelSlot, before: bytes, event: Event) -> bytes:
    line = event.model_copy(update={"signature": None}).to_line()
    return _EVENT + f"{slot}\n{hashlib.sha256(before + line).hexdigest()}\n".encode()


def deciding_event(events: list[Event]) -> int | None:
    """Return the index of the event since which the active version is the one it is; None if none ever was active."""
    active: int | None = None
    deciding = None
    for index, event in enumerate(events):
        if event.active != active:
            deciding = index
        elif event.signature is not None and event.event == "promote":
            deciding = index  # says the same again, with a signature
        active = event.active
    return deciding


def unsigned_decision(events: list[Event], version: int, key: SigningKey | None) -> bool:
    """Return whether a version is active, and `key`, if there is one, has not signed that it is."""
    index = deciding_event(events)
    if key is None or index is None or events[-1].active != version:
        return False
    signature = events[index].signature
    return signature is None or signature.public_key != key.public


def signed_by(slot: ModelSlot, history: bytes, events: list[Event], index: int, trusted: frozenset[str]) -> bool:
    """Return whether a trusted key has signed an event, and with it the history before it."""
    signature = events[index].signature
    if signature is None or signature.public_key not in trusted:
        return False
    before = b"".join(line + b"\n" for line in history.split(b"\n")[:index])
    return _valid(signature, _event_content(slot, before, events[index]))


def check_decision(slot: ModelSlot, history: bytes, events: list[Event], trusted: frozenset[str]) -> None:
    """Raise UntrustedError unless a trusted key has signed the event that says which version is active."""
    index = deciding_event(events)
    if index is not None and not signed_by(slot, history, events, index, trusted):
        active = events[-1].active
        what = "that none is active" if active is None else f"that v{active} is active"
        remedy = f"registry promote {slot.user} {slot.modality} " + ("VERSION" if active is None else f"v{active}")
        raise UntrustedError(
            f"{slot.history}:{index + 1}: no trusted key has signed {what}; whoever has one can, with: {remedy}"
        )


def check_not_older(file: Path, registry: str, slot: ModelSlot, time: str | None) -> None:
    """Raise UntrustedError where a history is older than one that was read before, and remember it otherwise.

    `time` is that of the history's last signed event, None without one; `registry` is the address.
    """
    with path_errors(file):
        ensure_folder(file.parent)
        with locked(file.parent):
            try:
                known = ObservedTimes.from_json(read_file(file, DOCUMENT_LIMIT), str(file))
            except NotFoundError:
                known = ObservedTimes(salt=os.urandom(16).hex())
            key = _observed_key(known, registry, str(slot))
            before = known.times.get(key)
            if before is not None and (time is None or datetime.fromisoformat(time) < datetime.fromisoformat(before)):
                raise UntrustedError(
                    f"{slot}: its history ends before {before}, which was read here once: an old state was put back, or"
                    f" the person erased. If you know why, run: registry key forget {slot.user} {slot.modality}"
                )
            if time is not None and time != before:
                changed = known.model_copy(update={"times": {**known.times, key: time}})
                write_file_atomically(file, changed.to_json(), mode=0o600)


def forget_observed(file: Path, registry: str, slot: str) -> bool:
    """Forget how new a slot's history was when it was read last; return False where nothing is remembered of it."""
    with path_errors(file):
        if not file.exists():
            return False
        with locked(file.parent):
            known = ObservedTimes.from_json(read_file(file, DOCUMENT_LIMIT), str(file))
            key = _observed_key(known, registry, slot)
            left = {other: time for other, time in known.times.items() if other != key}
            write_file_atomically(file, known.model_copy(update={"times": left}).to_json(), mode=0o600)
    return len(left) < len(known.times)


def _observed_key(known: ObservedTimes, registry: str, slot: str) -> str:
    """Return under which name a slot's time is remembered: not its own, because that names the person."""
    return hashlib.sha256(f"{known.salt}\n{registry}\n{slot}".encode()).hexdigest()
