"""Routes that read: resolve, list, show, compare, verify, download, export."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from itertools import islice
from pathlib import Path
from typing import Annotated

from anyio import to_thread
from fastapi import APIRouter, Depends, Query, Request, Response
from fastapi.responses import FileResponse
from pydantic import JsonValue
from starlette.background import BackgroundTask

from model_registry.errors import NotFoundError
from model_registry.http_schemas import (
    Change,
    DamageResponse,
    DiffResponse,
    ListResponse,
    ResolveResponse,
    VerifyResponse,
    VersionResponse,
)
from model_registry.messages import printable
from model_registry.names import parse_modality, parse_user, parse_version
from model_registry.service.context import needs, service_of
from model_registry.service.path_parameters import (
    FileInPath,
    HashInPath,
    ModalityInPath,
    RoleInPath,
    StoredFileInPath,
    UserInPath,
    VersionInPath,
    VersionInQuery,
)
from model_registry.storage.durable import temporary_folder
from model_registry.storage.encoders import SPEC_FILE
from model_registry.storage.entry import Document, ExportForm, Status
from model_registry.storage.listing import ListedVersion
from model_registry.storage.resolution import ResolvedVersion
from model_registry.storage.tokens import Token
from model_registry.storage.verification import Damage, checked_sha256, published_encoder
from model_registry.store import Registry

router = APIRouter(prefix="/v1", tags=["read"])
Reader = Annotated[Token, Depends(needs("read"))]
AnyReader = Annotated[Token, Depends(needs("read", of_somebody=True))]
_VERSION = "/models/{user}/{modality}/versions/{version}"
_PAGE = 1000
_PIECE = 256 << 10  # bytes of a file that are read and sent at a time: each takes a turn in another thread


async def registry_of(request: Request) -> Registry:
    """Return the registry that a request is about. Were it no coroutine, it would take another thread."""
    return service_of(request).registry


Store = Annotated[Registry, Depends(registry_of)]


@router.get("/models", response_model=ListResponse)
async def list_versions(
    request: Request,
    store: Store,
    reader: Reader,
    user: str | None = None,
    modality: str | None = None,
    status: Status | None = None,
    verdict: str | None = None,
    after: str | None = None,
    limit: Annotated[int, Query(ge=1, le=_PAGE)] = 100,
) -> Response:
    """List published versions by user, modality and version, a page at a time."""

    def listed() -> Response:
        damaged: list[Damage] = []
        versions = store.listed(
            user=user, modality=modality, status=status, verdict=verdict, after=_place(after), on_damage=damaged.append
        )
        return _list_page(store, list(islice(versions, limit + 1)), damaged, limit)

    return await to_thread.run_sync(listed, limiter=service_of(request).listing)


def _list_page(store: Registry, versions: Sequence[ListedVersion], damaged: Sequence[Damage], limit: int) -> Response:
    """Return a page of at most `limit` versions; one more says that others follow."""
    page, following = versions[:limit], None
    if len(versions) > limit:
        last = page[-1].entry
        following = f"{last.user_id}/{last.modality}/{last.model_version}"
    return _list_response(
        page,
        ListResponse(
            entries=(),
            next=following,
            damaged=tuple(
                DamageResponse(
                    user_id=damage.user,
                    modality=damage.modality,
                    version=damage.version,
                    reason=damage.reason.replace(f"{store.root}/", ""),
                )
                for damage in damaged
            ),
        ),
    )


@router.get("/models/{user}/{modality}", response_model=ResolveResponse)
def resolve(
    store: Store, reader: Reader, user: UserInPath, modality: ModalityInPath, version: VersionInQuery | None = None
) -> Response:
    """Return the active version, or `version`, after checking every file of it."""
    resolved = store.resolve(user, modality, version)
    return _json(
        ResolveResponse(
            user_id=resolved.user,
            fallback=resolved.fallback,
            entry=resolved.entry,
            files=dict(resolved.stored),
            encoders={folder.name: _encoder_files(folder) for folder in resolved.encoders.values()},
        )
    )


@router.get("/models/{user}/{modality}/diff")
def diff(
    store: Store,
    reader: Reader,
    user: UserInPath,
    modality: ModalityInPath,
    before: VersionInQuery,
    after: VersionInQuery,
) -> DiffResponse:
    """Compare two versions."""
    difference = store.diff(user, modality, before, after)
    return DiffResponse(
        before=difference.before.model_version,
        after=difference.after.model_version,
        metrics=_changes(difference.metrics),
        labels_gained=difference.labels_gained,
        labels_lost=difference.labels_lost,
        config=_changes(difference.config),
        facts=_changes(difference.facts),
        sessions=_changes(difference.sessions),
    )


def _changes(values: Mapping[str, tuple[JsonValue, JsonValue]]) -> dict[str, Change]:
    return {name: Change(before=before, after=after) for name, (before, after) in values.items()}


@router.get(_VERSION)
def show(
    store: Store, reader: Reader, user: UserInPath, modality: ModalityInPath, version: VersionInPath
) -> VersionResponse:
    """Return a version's entry and what happened to it."""
    record = store.show(user, modality, version)
    return VersionResponse(entry=record.entry, history=record.events)


@router.get(_VERSION + "/verify")
def verify(
    store: Store, reader: Reader, user: UserInPath, modality: ModalityInPath, version: VersionInPath
) -> VerifyResponse:
    """Compare every file of a version with what was published."""
    store.show(user, modality, version)
    results = dict(store.verify_all(user=user, modality=modality, version=version))
    return VerifyResponse(checked=len(results), faults={name: fault for name, fault in results.items() if fault})


@router.get("/verify")
def verify_all(
    store: Store, admin: Annotated[Token, Depends(needs("admin"))], user: str | None = None
) -> VerifyResponse:
    """Compare every file of all versions, or of one user's, with what was published."""
    results = dict(store.verify_all(user=user))
    return VerifyResponse(checked=len(results), faults={name: fault for name, fault in results.items() if fault})


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
    """Send one file of a version, checked before; ranges and If-None-Match are supported. The ETag is the sha256."""
    return file_response(request, store.resolve(user, modality, version), role)


@router.get("/models/{user}/{modality}/history", response_class=Response)
def download_history(store: Store, reader: Reader, user: UserInPath, modality: ModalityInPath) -> Response:
    """Send what happened to the versions of a user and modality, as it is stored: for clients that check signatures."""
    return Response(store.stored_history(user, modality), media_type="application/jsonl")


@router.get(_VERSION + "/stored/{name}", response_class=FileResponse)
def download_stored(
    store: Store,
    reader: Reader,
    request: Request,
    user: UserInPath,
    modality: ModalityInPath,
    version: VersionInPath,
    name: StoredFileInPath,
) -> Response:
    """Send a file of a version by its stored name, manifest and signature included: for clients that check both."""
    path = store.resolve(user, modality, version).folder / name
    if not path.is_file():
        raise NotFoundError(f"{printable(name)}: this version has no such file")
    return _file_response(request, path, checked_sha256(path))


@router.get("/encoders/{sha256}/{name}", response_class=FileResponse)
@router.head("/encoders/{sha256}/{name}", include_in_schema=False)
def download_encoder(
    store: Store, reader: AnyReader, request: Request, sha256: HashInPath, name: FileInPath
) -> Response:
    """Send one file of a shared encoder."""
    path = store.encoder_file(sha256, name)
    return _file_response(request, path, checked_sha256(path))


@router.get(_VERSION + "/export", response_class=FileResponse)
def export(
    store: Store,
    reader: Reader,
    user: UserInPath,
    modality: ModalityInPath,
    version: VersionInPath,
    form: ExportForm = "tar",
) -> FileResponse:
    """Send a version as one file: a tar of everything, or one ONNX network that includes its encoders."""
    name = f"{parse_user(user)}_{parse_modality(modality)}_v{parse_version(version)}.{form}"
    with ExitStack() as stack:
        path = stack.enter_context(temporary_folder()) / name
        store.export(user, modality, path, version=version, form=form)
        sent = stack.pop_all()
    return FileResponse(path, filename=name, background=BackgroundTask(sent.close))


def file_response(request: Request, version: ResolvedVersion, role: str) -> Response:
    """Return the response that sends the file of a role. Raises NotFoundError."""
    if role not in version.files:
        raise NotFoundError(f"role {printable(role)}: this version has no such file")
    return _file_response(request, version.files[role], version.stored[role].sha256)


def _file_response(request: Request, path: Path, sha256: str) -> Response:
    headers = {
        "ETag": f'"{sha256}"',
        "Cache-Control": "private, no-cache",  # may be cached, but must be revalidated: the user may be erased
        "X-Content-Type-Options": "nosniff",
    }
    known = [tag.strip().removeprefix("W/") for tag in request.headers.get("if-none-match", "").split(",")]
    if f'"{sha256}"' in known or "*" in known:
        return Response(status_code=304, headers=headers)
    response = FileResponse(path, headers=headers, filename=path.name, stat_result=path.stat())
    response.chunk_size = _PIECE
    return response


def _list_response(versions: Sequence[ListedVersion], others: ListResponse) -> Response:
    """Return a list with these versions; each was written as JSON once."""
    begin, _, rest = others.model_dump_json().encode().partition(b"[]")
    entries = b",".join(version.json for version in versions)
    return Response(begin + b"[" + entries + b"]" + rest, media_type="application/json")


def _json(document: Document) -> Response:
    """Return a document as a response, made in the thread that read it: FastAPI would check it in another one."""
    return Response(document.model_dump_json(), media_type="application/json")


def _encoder_files(folder: Path) -> dict[str, str]:
    sha256 = checked_sha256(folder / SPEC_FILE)
    return {**published_encoder(folder, sha256).files, SPEC_FILE: sha256}


def _place(after: str | None) -> tuple[str, str, int] | None:
    """Return the version after which a page begins."""
    if after is None:
        return None
    user, _, rest = after.partition("/")
    modality, _, version = rest.partition("/")
    return parse_user(user), parse_modality(modality), parse_version(version)
