"""The registry behind an HTTP service, with the same operations as `Registry`.

Requests may be repeated without harm, so lost responses and short outages are retried: a run that was published is not
published twice, and an interrupted upload continues with the files that are missing.
"""

from __future__ import annotations

import functools
import os
import random
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

import httpx
from pydantic import TypeAdapter, ValidationError

from model_registry import errors
from model_registry.copying import RegistryCopy, checked_copy
from model_registry.errors import (
    ConflictError,
    CorruptError,
    DocumentError,
    LockedError,
    NoRegistryError,
    NotFoundError,
    RegistryError,
    UnreachableError,
)
from model_registry.folders import configured_signatures, encoder_cache
from model_registry.http_schemas import (
    ActiveVersionResponse,
    CollectResponse,
    EraseResponse,
    FindingResponse,
    ListResponse,
    PublishResponse,
    ReindexResponse,
    ResolveResponse,
    UploadResponse,
    VerifyResponse,
    VersionResponse,
)
from model_registry.names import parse_modality, parse_user, parse_version
from model_registry.storage import restoring
from model_registry.storage.comparison import Difference, compare_versions
from model_registry.storage.durable import (
    ensure_folder,
    file_sha256,
    path_errors,
    staged_file,
    storage_errors,
    temporary_folder,
)
from model_registry.storage.encoders import SPEC_FILE, read_encoder
from model_registry.storage.entry import BundleManifest, Document, ExportForm, RegistryEntry, Status
from model_registry.storage.erasure import Erased, Removed
from model_registry.storage.history import VersionRecord
from model_registry.storage.layout import encoders_folder
from model_registry.storage.publication import Publication, read_bundle
from model_registry.storage.recovery import Finding
from model_registry.storage.resolution import ResolvedVersion
from model_registry.storage.signatures import Signatures
from model_registry.storage.verification import Damage, OnDamage, log_damage

TOKEN_VARIABLE = "MODEL_TRAINER_TOKEN"
_RETRIED = {408, 425, 429, 500, 502, 503, 504, 507}
_KINDS: dict[str, type[RegistryError]] = {
    name: kind for name, kind in vars(errors).items() if isinstance(kind, type) and issubclass(kind, RegistryError)
}
_FINDINGS = TypeAdapter(list[FindingResponse])
_Response = TypeVar("_Response", bound=Document)


@dataclass(frozen=True)
class RemoteRegistry:
    """A registry at `url`, e.g. `http://registry:8077`. The token is read from MODEL_TRAINER_TOKEN unless given."""

    url: str
    token: str = field(default_factory=lambda: os.environ.get(TOKEN_VARIABLE, ""), repr=False)
    attempts: int = 6
    pause: float = 0.5  # seconds before the second attempt; doubles each time, with jitter
    transport: httpx.BaseTransport | None = field(default=None, repr=False)
    signatures: Signatures = field(default_factory=configured_signatures)  # to check; the service signs with its own

    def __post_init__(self) -> None:
        """Raise NoRegistryError where `url` is no URL of a host."""
        try:
            valid = bool(httpx.URL(self.url).host)
        except httpx.InvalidURL:
            valid = False
        if not valid:
            raise NoRegistryError(f"{self.url}: not a valid URL; write one such as https://registry.example:8077")

    @property
    def address(self) -> str:
        """The URL of the service."""
        return self.url.rstrip("/")

    # --- reading

    def fetch(
        self,
        user: str,
        modality: str,
        into: Path,
        version: str | int | None = None,
        *,
        encoders_into: Path | None = None,
    ) -> ResolvedVersion:
        """Download the active version, or `version`, into a folder; what is there already is only checked.

        Encoders go into another folder if `encoders_into` is given. A file appears only when its sha256 is right.
        Where signatures are required, the service is trusted with nothing: see `copying`. Raises CorruptError,
        NotFoundError, UnreachableError.
        """
        if self.signatures.required:
            with storage_errors("fetch"), path_errors(into), self._client() as client:
                read = functools.partial(self._stored_file, client)
                copy = RegistryCopy(into, encoders_into or into, self.address, self.signatures, read)
                return copy.fetch(user, modality, version)
        query = {} if version is None else {"version": f"v{parse_version(version)}"}
        with storage_errors("fetch"), path_errors(into), self._client() as client:
            resolved = self._get(client, ResolveResponse, _slot(user, modality), query)
            entry = resolved.entry
            folder = into / "users" / entry.user_id / entry.modality / entry.model_version
            for role, file in resolved.files.items():
                self._download(client, f"{_version(entry)}/files/{role}", folder / file.name, file.sha256)
            encoders = {ref.name: encoders_folder(encoders_into or into) / ref.sha256 for ref in entry.encoder_refs}
            for ref in entry.encoder_refs:
                if ref.sha256 not in resolved.encoders:
                    raise CorruptError(f"{self.url}: the service does not list the files of encoder {ref.name}")
                for name, sha256 in resolved.encoders[ref.sha256].items():
                    place = f"/v1/encoders/{ref.sha256}/{name}"
                    self._download(client, place, encoders[ref.name] / name, sha256)
        files = {role: folder / file.name for role, file in resolved.files.items()}
        return ResolvedVersion(resolved.user_id, entry, folder, files, resolved.files, encoders)

    @contextmanager
    def open_version(self, user: str, modality: str, version: str | int | None = None) -> Iterator[ResolvedVersion]:
        """Yield the active version, or `version`, downloaded into a temporary folder. Raises what `fetch` raises.

        Only its encoders are kept for the next time, in the cache folder.
        """
        with temporary_folder() as into:
            yield self.fetch(user, modality, into, version, encoders_into=encoder_cache(into))

    def training_log(self, user: str, modality: str, version: str | int | None = None) -> bytes:
        """Return the training log of a user's own active version, or of `version`. Raises NotFoundError."""
        if self.signatures.required:
            with self.open_version(user, modality, version) as checked:
                if checked.fallback:
                    raise NotFoundError(f"{user}/{modality}: no active version of their own")
                return checked.files["training_log"].read_bytes()
        with self._client() as client:
            if version is None:
                resolved = self._get(client, ResolveResponse, _slot(user, modality), {})
                if resolved.fallback:
                    raise NotFoundError(f"{user}/{modality}: no active version of their own")
                version = resolved.entry.version
            place = f"{_slot(user, modality)}/versions/v{parse_version(version)}/files/training_log"
            return self._request(lambda: client.get(place)).content

    def entries(
        self,
        *,
        user: str | None = None,
        modality: str | None = None,
        status: Status | None = None,
        verdict: str | None = None,
        on_damage: OnDamage = log_damage,
    ) -> Iterator[RegistryEntry]:
        """Yield published versions with their present status, by user, modality and version.

        What is damaged is given to `on_damage` instead.
        """
        filters = {"user": user, "modality": modality, "status": status, "verdict": verdict}
        query: dict[str, str] = {name: value for name, value in filters.items() if value is not None}
        with self._client() as client:
            while True:
                page = self._get(client, ListResponse, "/v1/models", {**query, "limit": "1000"})
                yield from page.entries
                for damage in page.damaged:
                    on_damage(Damage(damage.user_id, damage.modality, damage.version, damage.reason))
                if page.next is None:
                    return
                query["after"] = page.next

    def show(self, user: str, modality: str, version: str | int) -> VersionRecord:
        """Return a version's entry and its events. Raises NotFoundError."""
        with self._client() as client:
            place = f"{_slot(user, modality)}/versions/v{parse_version(version)}"
            response = self._get(client, VersionResponse, place, {})
        return VersionRecord(response.entry, response.history)

    def verify_all(
        self, *, user: str | None = None, modality: str | None = None, version: str | int | None = None
    ) -> Iterator[tuple[str, str | None]]:
        """Let the service check every version, or those named; yield each one's name and what is wrong, or None."""
        only = None if version is None else parse_version(version)
        damaged: list[Damage] = []
        with self._client() as client:
            for entry in self.entries(user=user, modality=modality, on_damage=damaged.append):
                if only is not None and entry.version != only:
                    continue
                if self.signatures.required:
                    yield checked_copy(self, entry)
                else:
                    response = self._get(client, VerifyResponse, f"{_version(entry)}/verify", {})
                    yield (
                        f"{entry.user_id}/{entry.modality} {entry.model_version}",
                        "\n".join(response.faults.values()) or None,
                    )
        yield from ((damage.name, damage.reason) for damage in dict.fromkeys(damaged))

    def diff(self, user: str, modality: str, before: str | int, after: str | int) -> Difference:
        """Compare two versions. Raises NotFoundError."""
        return compare_versions(self, user, modality, before, after)

    def export(
        self, user: str, modality: str, target: Path, *, version: str | int | None = None, form: ExportForm
    ) -> None:
        """Download the active version, or `version`, as one file."""
        if self.signatures.required:
            from model_registry.storage import portable  # ONNX takes longer to import than everything else together

            with self.open_version(user, modality, version) as resolved:
                return portable.export(resolved, target, form)
        with storage_errors("export"), path_errors(target), self._client() as client:
            query = {} if version is None else {"version": f"v{parse_version(version)}"}
            entry = self._get(client, ResolveResponse, _slot(user, modality), query).entry
            self._download(client, f"{_version(entry)}/export", target, None, {"form": form})

    # --- changing

    def check_writable(self) -> None:
        """Do nothing: whether the service accepts a publication is known once it is attempted."""

    def publish(self, bundle_dir: Path, *, promote: bool = True, reason: str = "") -> Publication:
        """Publish a bundle, or return what its run was published as. Raises RefusedBundleError, ConflictError,
        UnreachableError when the service does not respond in time."""
        bundle = Path(bundle_dir)
        manifest = read_bundle(bundle)
        with self._client() as client:
            try:
                return self._upload(client, bundle, manifest, promote, reason)
            except NotFoundError:  # the upload was removed, or was published and the response lost
                return self._upload(client, bundle, manifest, promote, reason)

    def restore(self, archive: Path, *, promote: bool = False) -> Publication:
        """Publish the version in a tar of `export`. See `restoring`."""
        return restoring.restore(self, archive, promote=promote, trusted=self.signatures.required_keys())

    def promote(self, user: str, modality: str, version: str | int, reason: str = "") -> int | None:
        """Make a version the active one; return the one that was."""
        body = {"version": f"v{parse_version(version)}", "reason": reason}
        with self._client() as client:
            return self._post(client, ActiveVersionResponse, f"{_slot(user, modality)}/promote", body).before

    def rollback(self, user: str, modality: str, reason: str) -> tuple[int | None, int | None]:
        """Return to the version that was active before; return both numbers. Not retried: twice would go back twice."""
        with self._client() as client:
            response = self._post(
                client, ActiveVersionResponse, f"{_slot(user, modality)}/rollback", {"reason": reason}, once=True
            )
        return response.before, response.active

    def archive(
        self, user: str, modality: str, version: str | int, reason: str = "", *, withdraw: bool = False
    ) -> None:
        """Take a version out of use, with `withdraw` also the active one."""
        body = {"version": f"v{parse_version(version)}", "reason": reason, "withdraw": withdraw}
        with self._client() as client:
            self._request(lambda: client.post(f"{_slot(user, modality)}/archive", json=body))

    def erase(self, user: str, reason: str) -> Erased:
        """Remove all of a user's models, and pooled ones that contain them."""
        with self._client() as client:
            response = self._post(client, EraseResponse, f"/v1/users/{parse_user(user)}/erase", {"reason": reason})
        return Erased(response.id, response.versions, response.pooled, response.copies)

    def gc(self, keep: int, *, dry_run: bool = False) -> Removed:
        """Remove archived versions beyond the newest `keep`, and unused encoders."""
        with self._client() as client:
            response = self._post(client, CollectResponse, "/v1/gc", {"keep": keep, "dry_run": dry_run}, once=True)
        return Removed(response.versions, response.encoders, response.bytes)

    def doctor(self, on_slot: Callable[[str], None] = lambda slot: None) -> list[Finding]:
        """Let the service find and mend what crashes left; `on_slot` is not called."""
        with self._client() as client:
            response = self._request(lambda: client.post("/v1/doctor"), once=True)
        try:
            findings = _FINDINGS.validate_json(response.content)
        except ValidationError as error:
            raise DocumentError(f"{self.url}: doctor: {error.error_count()} invalid fields in the response") from None
        return [Finding(finding.what, finding.mended) for finding in findings]

    def reindex(self) -> bool:
        """Let the service rebuild `model_registry.jsonl`; return whether that changed it."""
        with self._client() as client:
            return self._post(client, ReindexResponse, "/v1/reindex", {}).changed

    # --- requests

    def _upload(
        self, client: httpx.Client, bundle: Path, manifest: BundleManifest, promote: bool, reason: str
    ) -> Publication:
        choice = {"promote": str(promote).lower(), "reason": reason}
        description = (bundle / "bundle.json").read_bytes()
        upload = self._parsed(
            UploadResponse,
            lambda: client.post("/v1/uploads", content=description, params=choice, headers=_JSON),
        )
        if upload.published is not None:
            return _publication(upload.published)
        place = f"/v1/uploads/{upload.id}"
        for sha256 in upload.missing_encoders:
            folder = bundle.parent / "encoders" / sha256
            for name in (SPEC_FILE, *read_encoder(folder).files):
                self._send(client, f"{place}/encoders/{sha256}/{name}", folder / name)
        for role, file in manifest.files.items():
            if role in upload.missing_files:
                self._send(client, f"{place}/files/{role}", bundle / file.name)
        return _publication(self._parsed(PublishResponse, lambda: client.post(f"{place}/publish", params=choice)))

    def _send(self, client: httpx.Client, place: str, path: Path) -> None:
        def send() -> httpx.Response:
            with path.open("rb") as file:
                headers = {"Content-Length": str(path.stat().st_size), "Content-Type": "application/octet-stream"}
                return client.put(place, content=file, headers=headers)

        self._request(send)

    def _download(
        self,
        client: httpx.Client,
        place: str,
        target: Path,
        sha256: str | None,
        query: dict[str, str] | None = None,
    ) -> None:
        """Download one file unless it is there; continue where a connection broke. `sha256` is checked if given."""
        if sha256 is not None and target.is_file() and file_sha256(target) == sha256:
            return
        ensure_folder(target.parent)
        with staged_file(target) as file:

            def load() -> httpx.Response:
                start = file.tell() if sha256 is not None else 0
                headers = {"Range": f"bytes={start}-", "If-Range": f'"{sha256}"'} if start else {}
                with client.stream("GET", place, headers=headers, params=query) as response:
                    if not response.is_success:
                        response.read()
                        return response
                    if response.status_code != 206:
                        file.seek(0)
                        file.truncate()
                    for piece in response.iter_bytes():
                        file.write(piece)
                return response

            self._request(load)
            file.seek(0)
            if sha256 is not None and file_sha256(file) != sha256:
                raise CorruptError(f"{place}: what was received is not what was published")

    def _stored_file(self, client: httpx.Client, name: str, limit: int) -> bytes:
        """Return the content of a file by its name in the registry, at most `limit` + 1 bytes. Raises NotFoundError."""
        folder, _, file = name.rpartition("/")
        kind, *parts = folder.split("/")
        if kind == "encoders":
            place = f"/v1/encoders/{parts[0]}/{file}"
        elif len(parts) == 2:
            place = f"/v1/models/{parts[0]}/{parts[1]}/history"
        else:
            place = f"/v1/models/{parts[0]}/{parts[1]}/versions/{parts[2]}/stored/{file}"
        content = bytearray()

        def load() -> httpx.Response:
            content.clear()
            with client.stream("GET", place) as response:
                if not response.is_success:
                    response.read()
                    return response
                for piece in response.iter_bytes():
                    content.extend(piece)
                    if len(content) > limit:
                        break
            return response

        self._request(load)
        return bytes(content)

    def _get(self, client: httpx.Client, kind: type[_Response], place: str, query: dict[str, str]) -> _Response:
        return self._parsed(kind, lambda: client.get(place, params=query))

    def _post(
        self, client: httpx.Client, kind: type[_Response], place: str, body: dict[str, Any], *, once: bool = False
    ) -> _Response:
        return self._parsed(kind, lambda: client.post(place, json=body), once=once)

    def _parsed(self, kind: type[_Response], send: Callable[[], httpx.Response], *, once: bool = False) -> _Response:
        return kind.from_json(self._request(send, once=once).content, self.url)

    def _request(self, send: Callable[[], httpx.Response], *, once: bool = False) -> httpx.Response:
        """Send a request until there is a response that repeating would not change. Raises what the service refuses."""
        last, reason = 1 if once else self.attempts, ""
        for attempt in range(1, last + 1):
            wait = self.pause * 2**attempt * random.uniform(0.25, 0.75)
            try:
                response = send()
            except httpx.HTTPError as error:
                reason = f"{type(error).__name__}: {error}"
            else:
                if response.status_code not in _RETRIED or _kind(response) not in (None, LockedError):
                    return _successful(response)
                reason = f"{response.status_code} {_detail(response)}"
                wait = max(wait, _retry_after(response))
            if attempt < last:
                time.sleep(wait)
        raise UnreachableError(f"{self.url}: no response after {last} attempts: {reason}")

    def _client(self) -> httpx.Client:
        headers = {"Authorization": f"Bearer {self.token}"} if self.token else {}
        timeout = httpx.Timeout(60.0, connect=10.0)
        return httpx.Client(base_url=self.url, headers=headers, timeout=timeout, transport=self.transport)


_JSON = {"Content-Type": "application/json"}


def _slot(user: str, modality: str) -> str:
    return f"/v1/models/{parse_user(user)}/{parse_modality(modality)}"


def _version(entry: RegistryEntry) -> str:
    return f"{_slot(entry.user_id, entry.modality)}/versions/{entry.model_version}"


def _publication(response: PublishResponse) -> Publication:
    return Publication(response.entry, response.created)


def _successful(response: httpx.Response) -> httpx.Response:
    """Return a response that reports success. Raises the registry's error that another one reports."""
    if response.is_success:
        return response
    if response.status_code in (401, 403):
        raise ConflictError(f"{_detail(response)}: set {TOKEN_VARIABLE} to a token with the scope that is needed")
    kind = _kind(response)
    if kind is not None:
        raise kind(_detail(response))
    raise RegistryError(f"{response.url}: {response.status_code} {_detail(response)}: is this a registry's address?")


def _kind(response: httpx.Response) -> type[RegistryError] | None:
    """Return which of the registry's errors a response reports, if it reports one: a retry would not change it."""
    try:
        return _KINDS.get(response.json()["error"])
    except (ValueError, KeyError, TypeError):
        return None


def _detail(response: httpx.Response) -> str:
    try:
        detail = response.json()["detail"]
    except (ValueError, KeyError, TypeError):
        return response.reason_phrase
    if isinstance(detail, list):
        return "\n".join(f"{'.'.join(map(str, item.get('loc', [])))}: {item.get('msg', '')}" for item in detail)
    return str(detail)


def _retry_after(response: httpx.Response) -> float:
    value = response.headers.get("retry-after", "")
    return min(float(value), 60.0) if value.isdigit() else 0.0
