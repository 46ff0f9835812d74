"""The registry of another machine, through its HTTP service: the same verbs as `Registry`.

Every request may be repeated without harm, so lost answers and short outages are tried again: a run that was published
is not published twice, and an upload continues with the files that are missing.
"""

from __future__ import annotations

import hashlib
import os
import random
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

import httpx

from model_registry.errors import (
    ConflictError,
    CorruptError,
    NotFoundError,
    RegistryError,
    UnreachableError,
)
from model_registry.location import Fetched
from model_registry.names import parse_modality, parse_user, parse_version
from model_registry.service.documents import ListAnswer, PublishedAnswer, ResolvedAnswer, ServingAnswer, UploadAnswer
from model_registry.storage.durable import ensure_folder, storage_errors
from model_registry.storage.encoders import SPEC_FILE, read_encoder
from model_registry.storage.entry import BundleManifest, Document, RegistryEntry, Status
from model_registry.storage.publication import Published, read_bundle

TOKEN_VARIABLE = "MODEL_TRAINER_TOKEN"
_AGAIN = {408, 425, 429, 500, 502, 503, 504, 507}
_KINDS: dict[str, type[RegistryError]] = {kind.__name__: kind for kind in RegistryError.__subclasses__()}
_Answer = TypeVar("_Answer", bound=Document)


@dataclass(frozen=True)
class RemoteRegistry:
    """A registry at `url`, e.g. `http://registry:8077`. The token is read from MODEL_TRAINER_TOKEN unless given."""

    url: str
    token: str = field(default_factory=lambda: os.environ.get(TOKEN_VARIABLE, ""), repr=False)
    attempts: int = 6
    pause: float = 0.5  # seconds before the second attempt; doubles each time, give or take
    transport: httpx.BaseTransport | None = field(default=None, repr=False)

    def publish(self, bundle_dir: Path, *, promote: bool = True, reason: str = "") -> Published:
        """Publish a bundle, or return what its run was published as. Raises RefusedBundleError, ConflictError,
        UnreachableError when the service does not answer in time."""
        bundle = Path(bundle_dir)
        manifest = read_bundle(bundle)
        with self._client() as client:
            try:
                return self._upload(client, bundle, manifest, promote, reason)
            except NotFoundError:  # the service forgot the upload, or had published it when the answer was lost
                return self._upload(client, bundle, manifest, promote, reason)

    def resolve(self, user: str, modality: str, version: str | int | None = None) -> ResolvedAnswer:
        """Return the version that serves, or `version`, as the service describes it. `fetch` also downloads it."""
        query = {} if version is None else {"version": f"v{parse_version(version)}"}
        with self._client() as client:
            return self._get(client, ResolvedAnswer, f"/v1/models/{parse_user(user)}/{parse_modality(modality)}", query)

    def fetch(self, user: str, modality: str, into: Path, version: str | int | None = None) -> Fetched:
        """Download the version that serves, or `version`, into a folder; what is there already is only checked.

        A file appears only when its sha256 is right. Raises CorruptError, NotFoundError, UnreachableError.
        """
        found = self.resolve(user, modality, version)
        entry = found.entry
        place = f"/v1/models/{entry.user_id}/{entry.modality}/versions/{entry.model_version}/files"
        folder = into / "users" / entry.user_id / entry.modality / entry.model_version
        files = {role: folder / file.name for role, file in found.files.items()}
        names = {ref.sha256: ref.name for ref in entry.encoder_refs}
        encoders = {names[sha256]: into / "encoders" / sha256 for sha256 in found.encoders}
        with storage_errors("fetch"), self._client() as client:
            for role, file in found.files.items():
                self._download(client, f"{place}/{role}", files[role], file.sha256)
            for sha256, content in found.encoders.items():
                for name, digest in content.items():
                    self._download(client, f"/v1/encoders/{sha256}/{name}", into / "encoders" / sha256 / name, digest)
        return Fetched(found.user_id, entry.version, entry, files, encoders, found.fallback)

    def serving_log(self, user: str, modality: str) -> bytes:
        """Return the training log of a user's own version that serves. Raises NotFoundError, UnreachableError."""
        found = self.resolve(user, modality)
        if found.fallback:
            raise NotFoundError(f"{user}/{modality}: the pooled model serves")
        place = f"{_pair(user, modality)}/versions/{found.entry.model_version}/files/training_log"
        with self._client() as client:
            return self._asked(client, lambda: client.get(place)).content

    @property
    def address(self) -> str:
        """Where the service is."""
        return self.url

    def entries(
        self,
        *,
        user: str | None = None,
        modality: str | None = None,
        status: Status | None = None,
        verdict: str | None = None,
    ) -> Iterator[RegistryEntry]:
        """Yield published versions with their present status, by user, modality and version."""
        filters = {"user": user, "modality": modality, "status": status, "verdict": verdict}
        query: dict[str, str] = {name: value for name, value in filters.items() if value is not None}
        with self._client() as client:
            while True:
                page = self._get(client, ListAnswer, "/v1/models", {**query, "limit": "1000"})
                yield from page.entries
                if page.next is None:
                    return
                query["after"] = page.next

    def promote(self, user: str, modality: str, version: str | int, reason: str = "") -> int | None:
        """Let a version serve; return the one that served."""
        wish = {"version": f"v{parse_version(version)}", "reason": reason}
        with self._client() as client:
            return self._post(client, ServingAnswer, f"{_pair(user, modality)}/promote", wish).before

    def rollback(self, user: str, modality: str, reason: str) -> tuple[int | None, int | None]:
        """Let what served before serve again; return both numbers. Asked once: twice would go back twice."""
        with self._client() as client:
            answer = self._post(
                client, ServingAnswer, f"{_pair(user, modality)}/rollback", {"reason": reason}, once=True
            )
        return answer.before, answer.active

    def _upload(
        self, client: httpx.Client, bundle: Path, manifest: BundleManifest, promote: bool, reason: str
    ) -> Published:
        choice = {"promote": str(promote).lower(), "reason": reason}
        description = (bundle / "bundle.json").read_bytes()
        begun = self._answer(
            client, UploadAnswer, lambda: client.post("/v1/uploads", content=description, params=choice, headers=_JSON)
        )
        if begun.published is not None:
            return _published(begun.published)
        place = f"/v1/uploads/{begun.id}"
        for sha256 in begun.missing_encoders:
            folder = bundle.parent / "encoders" / sha256
            for name in (SPEC_FILE, *read_encoder(folder).files):
                self._send(client, f"{place}/encoders/{sha256}/{name}", folder / name)
        for role in begun.missing_files:
            self._send(client, f"{place}/files/{role}", bundle / manifest.files[role].name)
        return _published(self._answer(client, PublishedAnswer, lambda: client.post(f"{place}/publish", params=choice)))

    def _send(self, client: httpx.Client, place: str, path: Path) -> None:
        def send() -> httpx.Response:
            with path.open("rb") as file:
                headers = {"Content-Length": str(path.stat().st_size), "Content-Type": "application/octet-stream"}
                return client.put(place, content=file, headers=headers)

        self._asked(client, send)

    def _download(self, client: httpx.Client, place: str, target: Path, sha256: str) -> None:
        """Download one file unless it is there; continue where a cut connection stopped."""
        if target.is_file() and _sha256(target) == sha256:
            return
        ensure_folder(target.parent, Path(target.anchor))
        part = target.with_name(f".{target.name}.{os.urandom(8).hex()}.part")

        def load() -> httpx.Response:
            have = part.stat().st_size if part.exists() else 0
            headers = {"Range": f"bytes={have}-", "If-Range": f'"{sha256}"'} if have else {}
            with client.stream("GET", place, headers=headers) as response:
                if response.is_success:
                    with part.open("ab" if response.status_code == 206 else "wb") as file:
                        for piece in response.iter_bytes():
                            file.write(piece)
                        file.flush()
                        os.fsync(file.fileno())
                else:
                    response.read()
            return response

        try:
            self._asked(client, load)
            if _sha256(part) != sha256:
                raise CorruptError(f"{place}: what was received is not what was published")
            part.replace(target)
        finally:
            part.unlink(missing_ok=True)

    def _get(self, client: httpx.Client, kind: type[_Answer], place: str, query: dict[str, str]) -> _Answer:
        return self._answer(client, kind, lambda: client.get(place, params=query))

    def _post(
        self, client: httpx.Client, kind: type[_Answer], place: str, wish: dict[str, Any], *, once: bool = False
    ) -> _Answer:
        return self._answer(client, kind, lambda: client.post(place, json=wish), once=once)

    def _answer(
        self, client: httpx.Client, kind: type[_Answer], ask: Callable[[], httpx.Response], *, once: bool = False
    ) -> _Answer:
        return kind.from_json(self._asked(client, ask, once=once).content, self.url)

    def _asked(self, client: httpx.Client, ask: Callable[[], httpx.Response], *, once: bool = False) -> httpx.Response:
        """Ask until there is an answer that more asking would not change. Raises what the service refuses."""
        last, reason = 1 if once else self.attempts, ""
        for attempt in range(1, last + 1):
            wait = self.pause * 2**attempt * random.uniform(0.25, 0.75)
            try:
                response = ask()
            except httpx.HTTPError as error:
                reason = f"{type(error).__name__}: {error}"
            else:
                if response.status_code not in _AGAIN or _kind(response) is not None:
                    return _refused(response)
                reason = f"{response.status_code} {_detail(response)}"
                wait = max(wait, _retry_after(response))
            if attempt < last:
                time.sleep(wait)
        raise UnreachableError(f"{self.url}: no answer after {last} attempts: {reason}")

    def _client(self) -> httpx.Client:
        headers = {"Authorization": f"Bearer {self.token}"} if self.token else {}
        timeout = httpx.Timeout(60.0, connect=10.0)
        return httpx.Client(base_url=self.url, headers=headers, timeout=timeout, transport=self.transport)


_JSON = {"Content-Type": "application/json"}


def _pair(user: str, modality: str) -> str:
    return f"/v1/models/{parse_user(user)}/{parse_modality(modality)}"


def _published(answer: PublishedAnswer) -> Published:
    entry = answer.entry
    folder = Path(entry.model_artifact_path).parent
    return Published(entry.user_id, entry.modality, entry.version, folder, entry, answer.created)


def _refused(response: httpx.Response) -> httpx.Response:
    if response.is_success:
        return response
    if response.status_code in (401, 403):
        raise ConflictError(f"{_detail(response)}: set {TOKEN_VARIABLE} to a token with the scope that is needed")
    raise (_kind(response) or RegistryError)(_detail(response))


def _kind(response: httpx.Response) -> type[RegistryError] | None:
    """Return which of the registry's errors an answer reports, if it is one: asking again would not change it."""
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


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
