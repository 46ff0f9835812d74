"""Routes that read: resolve, list, show, compare, verify, download, export."""

from __future__ import annotations

import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Literal

from fastapi import APIRouter, Depends, Query, Request, Response
from fastapi.responses import FileResponse
from pydantic import JsonValue
from starlette.background import BackgroundTask

from model_registry.errors import NotFoundError
from model_registry.names import parse_modality, parse_user, parse_version, shown
from model_registry.service.context import needs, service_of
from model_registry.service.documents import Change, DiffAnswer, ListAnswer, ResolvedAnswer, ShownAnswer, VerifiedAnswer
from model_registry.service.path_parameters import (
    FileInPath,
    HashInPath,
    ModalityInPath,
    RoleInPath,
    UserInPath,
    VersionInPath,
    VersionInQuery,
)
from model_registry.service.tokens import Token
from model_registry.storage.encoders import read_encoder
from model_registry.storage.entry import RegistryEntry, Status
from model_registry.storage.verification import sha256_of
from model_registry.store import Registry, Resolved

router = APIRouter(prefix="/v1", tags=["read"])
Reader = Annotated[Token, Depends(needs("read"))]
_VERSION = "/models/{user}/{modality}/versions/{version}"
_PAGE = 1000


def registry_of(request: Request) -> Registry:
    """Return the registry that a request is about."""
    return service_of(request).registry


Store = Annotated[Registry, Depends(registry_of)]


@router.get("/models")
def list_versions(
    store: Store,
    reader: Reader,
    user: str | None = None,
    modality: str | None = None,
    status: Status | None = None,
    verdict: str | None = None,
    after: str | None = None,
    limit: Annotated[int, Query(ge=1, le=_PAGE)] = 100,
) -> ListAnswer:
    """List published versions by user, modality and version, a page at a time."""
    place = _place(after)
    found: list[RegistryEntry] = []
    for entry in store.entries(user=user, modality=modality, status=status, verdict=verdict, after=place):
        if len(found) == limit:
            last = found[-1]
            return ListAnswer(entries=tuple(found), next=f"{last.user_id}/{last.modality}/{last.model_version}")
        found.append(entry)
    return ListAnswer(entries=tuple(found), next=None)


@router.get("/models/{user}/{modality}")
def resolve(
    store: Store, reader: Reader, user: UserInPath, modality: ModalityInPath, version: VersionInQuery | None = None
) -> ResolvedAnswer:
    """Return the version that serves, or `version`, after checking every file of it."""
    found = store.resolve(user, modality, version)
    return ResolvedAnswer(
        user_id=found.user,
        fallback=found.fallback,
        entry=found.entry,
        files={role: file for role, file in found.manifest.files.items() if role in found.files},
        encoders={folder.name: _encoder_files(folder) for folder in found.encoders.values()},
    )


@router.get("/models/{user}/{modality}/diff")
def diff(
    store: Store,
    reader: Reader,
    user: UserInPath,
    modality: ModalityInPath,
    before: VersionInQuery,
    after: VersionInQuery,
) -> DiffAnswer:
    """Compare two versions."""
    found = store.diff(user, modality, before, after)
    return DiffAnswer(
        before=found.before.model_version,
        after=found.after.model_version,
        metrics=_changes(found.metrics),
        labels_gained=found.labels_gained,
        labels_lost=found.labels_lost,
        config=_changes(found.config),
        facts=_changes(found.facts),
        sessions=_changes(found.sessions),
    )


def _changes(values: Mapping[str, tuple[JsonValue, JsonValue]]) -> dict[str, Change]:
    return {name: Change(before=before, after=after) for name, (before, after) in values.items()}


@router.get(_VERSION)
def show(
    store: Store, reader: Reader, user: UserInPath, modality: ModalityInPath, version: VersionInPath
) -> ShownAnswer:
    """Return a version's entry and what happened to it."""
    found = store.show(user, modality, version)
    return ShownAnswer(entry=found.entry, history=found.events)


@router.get(_VERSION + "/verify")
def verify(
    store: Store, reader: Reader, user: UserInPath, modality: ModalityInPath, version: VersionInPath
) -> VerifiedAnswer:
    """Compare every file of a version with what was published."""
    store.show(user, modality, version)
    results = dict(store.verify_all(user=user, modality=modality, version=version))
    return VerifiedAnswer(checked=len(results), faults={name: fault for name, fault in results.items() if fault})


@router.get("/verify")
def verify_all(
    store: Store, admin: Annotated[Token, Depends(needs("admin"))], user: str | None = None
) -> VerifiedAnswer:
    """Compare every file of all versions, or of one user's, with what was published."""
    results = dict(store.verify_all(user=user))
    return VerifiedAnswer(checked=len(results), faults={name: fault for name, fault in results.items() if fault})


@router.get(_VERSION + "/files/{role}", response_class=FileResponse)
@router.head(_VERSION + "/files/{role}", include_in_schema=False)
def download(
    store: Store,
    reader: Reader,
    request: Request,
    user: UserInPath,
    modality: ModalityInPath,
    version: VersionInPath,
    role: RoleInPath,
) -> Response:
    """Send one file of a version, checked before; ranges and If-None-Match are understood. The ETag is the sha256."""
    return file_answer(request, store.resolve(user, modality, version), role)


@router.get("/encoders/{sha256}/{name}", response_class=FileResponse)
@router.head("/encoders/{sha256}/{name}", include_in_schema=False)
def download_encoder(store: Store, reader: Reader, request: Request, sha256: HashInPath, name: FileInPath) -> Response:
    """Send one file of a shared encoder."""
    path = store.encoder_file(sha256, name)
    return _file_answer(request, path, sha256_of(path)[0])


@router.get(_VERSION + "/export", response_class=FileResponse)
def export(
    store: Store,
    reader: Reader,
    user: UserInPath,
    modality: ModalityInPath,
    version: VersionInPath,
    form: Literal["tar", "onnx"] = "tar",
) -> FileResponse:
    """Send a version as one file: a tar of everything, or one ONNX network that holds its encoders too."""
    folder = Path(tempfile.mkdtemp(prefix="model-registry-"))
    name = f"{parse_user(user)}_{parse_modality(modality)}_v{parse_version(version)}.{form}"
    try:
        store.export(user, modality, folder / name, version=version, form=form)
    except BaseException:
        _forget(folder)
        raise
    return FileResponse(folder / name, filename=name, background=BackgroundTask(_forget, folder))


def file_answer(request: Request, version: Resolved, role: str) -> Response:
    """Return the answer that sends the file of a role. Raises NotFoundError."""
    if role not in version.files:
        raise NotFoundError(f"role {shown(role)}: this version has no such file")
    return _file_answer(request, version.files[role], version.manifest.files[role].sha256)


def _file_answer(request: Request, path: Path, sha256: str) -> Response:
    headers = {
        "ETag": f'"{sha256}"',
        "Cache-Control": "private, no-cache",  # may be kept, but is asked for again: the user may be erased
        "X-Content-Type-Options": "nosniff",
    }
    known = [tag.strip().removeprefix("W/") for tag in request.headers.get("if-none-match", "").split(",")]
    if f'"{sha256}"' in known or "*" in known:
        return Response(status_code=304, headers=headers)
    return FileResponse(path, headers=headers, filename=path.name)


def _encoder_files(folder: Path) -> dict[str, str]:
    return {**read_encoder(folder).files, "encoder.json": sha256_of(folder / "encoder.json")[0]}


def _place(after: str | None) -> tuple[str, str, int] | None:
    """Return the version that a page begins behind."""
    if after is None:
        return None
    user, _, rest = after.partition("/")
    modality, _, version = rest.partition("/")
    return parse_user(user), parse_modality(modality), parse_version(version)


def _forget(folder: Path) -> None:
    for path in folder.iterdir():
        path.unlink()
    folder.rmdir()
