"""How many bytes one person's models, and all uploads together, may have on the service's disk."""

from __future__ import annotations

import os
import threading
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from fastapi import HTTPException

from model_registry.errors import QuotaError, RegistryError
from model_registry.service.limits import Limits
from model_registry.storage import uploads
from model_registry.storage.entry import BundleManifest
from model_registry.storage.layout import users_folder


@dataclass
class Quotas:
    """Checks bundles before anything of them is received. A description that was read once is not read again."""

    root: Path
    limits: Limits
    _declared: dict[str, tuple[str, int]] = field(default_factory=dict)  # upload -> user and bytes that it will have
    _lock: threading.Lock = field(default_factory=threading.Lock)

    @contextmanager
    def room_for(self, manifest: BundleManifest) -> Iterator[None]:
        """Let one upload begin at a time, if there is room for it.

        Raises QuotaError where the person would have too much, HTTPException 429 where all uploads together would.
        """
        user, size = manifest.user_id, _size(manifest)
        with self._lock:
            begun = self._begun()
            self._check_all(sum(begun.values()) + self._encoder_bytes(), size)
            published = _folder_bytes(users_folder(self.root) / user)
            if published + begun[user] + size > self.limits.person_bytes:
                raise QuotaError(
                    f"{user}: has {_text(published)} in published versions and {_text(begun[user])} in uploads, and"
                    f" this bundle has {_text(size)}; one person may have {_text(self.limits.person_bytes)}. Remove"
                    " archived versions with: registry gc --keep 1, or serve with a larger --person-quota"
                )
            yield

    def check_encoder(self, size: int) -> None:
        """Raise HTTPException 429 where there is no room for `size` more bytes of a shared encoder."""
        with self._lock:
            self._check_all(sum(self._begun().values()) + self._encoder_bytes(), size)

    def _check_all(self, used: int, size: int) -> None:
        if used + size > self.limits.uploads_bytes:
            detail = (
                f"uploads that have begun have {_text(used)}, and this one has {_text(size)}; together they may have"
                f" {_text(self.limits.uploads_bytes)}. Try again when they are finished, or abandoned for an hour; or"
                " serve with a larger --uploads-quota"
            )
            raise HTTPException(429, detail, {"Retry-After": "60"})

    def _begun(self) -> Counter[str]:
        """Return the bytes that the uploads which have begun will have, by user."""
        folder = uploads.uploads_folder(self.root)
        present = {item.name for item in folder.iterdir()} if folder.is_dir() else set()
        for gone in self._declared.keys() - present:
            del self._declared[gone]
        for upload_id in present - self._declared.keys():
            try:
                manifest = uploads.find(self.root, upload_id).manifest
            except (RegistryError, OSError):
                continue  # begins or ends in this moment, or is damaged: `verify` names it
            self._declared[upload_id] = (manifest.user_id, _size(manifest))
        begun: Counter[str] = Counter()
        for user, size in self._declared.values():
            begun[user] += size
        return begun

    def _encoder_bytes(self) -> int:
        folder = uploads.uploads_folder(self.root)
        return sum(_folder_bytes(folder / upload_id / "encoders") for upload_id in self._declared)


def _size(manifest: BundleManifest) -> int:
    return sum(file.size for file in manifest.files.values())


def _folder_bytes(folder: Path) -> int:
    total = 0
    for place, _, names in os.walk(folder):
        for name in names:
            try:
                total += (Path(place) / name).lstat().st_size
            except FileNotFoundError:
                continue  # removed meanwhile
    return total


def _text(size: int) -> str:
    return f"{size / 1e9:.2f} GB" if size >= 1e9 else f"{size / 1e6:.3f} MB"
