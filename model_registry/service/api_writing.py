"""Routes that change something: upload and publish, promote, roll back, archive, erase, gc, doctor, reindex."""

from __future__ import annotations

from dataclasses import replace
from typing import Annotated

from fastapi import APIRouter, Depends, HTTPException, Request
from fastapi.concurrency import run_in_threadpool

from model_registry.http_schemas import (
    ActiveVersionResponse,
    ArchiveRequest,
    CollectRequest,
    CollectResponse,
    EraseRequest,
    EraseResponse,
    FindingResponse,
    PromoteRequest,
    PublishResponse,
    Reason,
    ReindexResponse,
    RollbackRequest,
    UploadResponse,
)
from model_registry.service.api_reading import Store
from model_registry.service.context import needs, require, service_of
from model_registry.service.path_parameters import (
    FileInPath,
    HashInPath,
    ModalityInPath,
    RoleInPath,
    UploadInPath,
    UserInPath,
)
from model_registry.storage import uploads
from model_registry.storage.entry import BundleManifest
from model_registry.storage.publication import Publication
from model_registry.storage.tokens import Token
from model_registry.store import Registry

router = APIRouter(prefix="/v1")
Publisher = Annotated[Token, Depends(needs("publish"))]
AnyPublisher = Annotated[Token, Depends(needs("publish", of_somebody=True))]  # routes look at the upload's user
Admin = Annotated[Token, Depends(needs("admin"))]


@router.post("/uploads", status_code=201, tags=["publish"])
def begin_upload(
    store: Store, publisher: AnyPublisher, request: Request, manifest: BundleManifest, promote: bool = True
) -> UploadResponse:
    """Begin to publish a bundle with its `bundle.json`; the response lists the files to send.

    For a run that was published before the response names its version, and nothing needs to be sent.
    """
    require(publisher, "publish", manifest.user_id)
    known = store.published_before(manifest, promote=promote)
    if known is not None:
        return UploadResponse(id="", missing_files=(), missing_encoders=(), published=_response(known))
    service = service_of(request)
    service.sweep_uploads()
    if uploads.count(store.root) >= service.limits.uploads_at_once:
        raise HTTPException(429, "too many uploads have begun and are not finished", {"Retry-After": "60"})
    with service.quotas.room_for(manifest):
        return _progress(uploads.begin(store.changeable(), manifest.to_json()))


@router.get("/uploads/{upload_id}", tags=["publish"])
def upload_progress(store: Store, publisher: AnyPublisher, upload_id: UploadInPath) -> UploadResponse:
    """Return which files are still missing."""
    return _progress(_upload(store, publisher, upload_id))


@router.put("/uploads/{upload_id}/files/{role}", status_code=204, tags=["publish"])
async def send_file(
    store: Store, publisher: AnyPublisher, request: Request, upload_id: UploadInPath, role: RoleInPath
) -> None:
    """Send the file of a role. It is kept only if size and sha256 are those of `bundle.json`."""
    upload = await run_in_threadpool(_upload, store, publisher, upload_id)
    await uploads.receive(uploads.expected_file(upload, role), request.stream())


@router.put("/uploads/{upload_id}/encoders/{sha256}/{name}", status_code=204, tags=["publish"])
async def send_encoder_file(
    store: Store,
    publisher: AnyPublisher,
    request: Request,
    upload_id: UploadInPath,
    sha256: HashInPath,
    name: FileInPath,
) -> None:
    """Send a file of an encoder that the registry lacks, `encoder.json` first."""
    upload = await run_in_threadpool(_upload, store, publisher, upload_id)
    expected = uploads.expected_encoder_file(upload, sha256, name)
    size = int(request.headers.get("content-length", expected.limit))  # GuardedBody has refused what is no number
    await run_in_threadpool(service_of(request).quotas.check_encoder, size)
    await uploads.receive(replace(expected, limit=min(expected.limit, size)), request.stream())


@router.post("/uploads/{upload_id}/publish", tags=["publish"])
def finish_upload(
    store: Store, publisher: AnyPublisher, upload_id: UploadInPath, promote: bool = True, reason: Reason = ""
) -> PublishResponse:
    """Publish a complete upload; `reason` says why it becomes active or does not."""
    return _response(uploads.finish(_upload(store, publisher, upload_id), promote=promote, reason=reason))


@router.post("/models/{user}/{modality}/promote", tags=["publish"])
def promote_version(
    store: Store, publisher: Publisher, user: UserInPath, modality: ModalityInPath, body: PromoteRequest
) -> ActiveVersionResponse:
    """Make a version the active one."""
    before = store.promote(user, modality, body.version, body.reason)
    return ActiveVersionResponse(before=before, active=int(body.version.removeprefix("v")))


@router.post("/models/{user}/{modality}/rollback", tags=["publish"])
def rollback_version(
    store: Store, publisher: Publisher, user: UserInPath, modality: ModalityInPath, body: RollbackRequest
) -> ActiveVersionResponse:
    """Return to the version that was active before."""
    before, active = store.rollback(user, modality, body.reason)
    return ActiveVersionResponse(before=before, active=active)


@router.post("/models/{user}/{modality}/archive", status_code=204, tags=["publish"])
def archive_version(
    store: Store, publisher: Publisher, user: UserInPath, modality: ModalityInPath, body: ArchiveRequest
) -> None:
    """Take a version out of use."""
    store.archive(user, modality, body.version, body.reason, withdraw=body.withdraw)


@router.post("/users/{user}/erase", tags=["admin"])
def erase_user(store: Store, admin: Admin, user: UserInPath, body: EraseRequest) -> EraseResponse:
    """Remove all of a user's models for good, and pooled models that contain them."""
    erased = store.erase(user, body.reason)
    return EraseResponse(id=erased.id, versions=erased.versions, pooled=erased.pooled, copies=erased.copies)


@router.post("/gc", tags=["admin"])
def collect(store: Store, admin: Admin, body: CollectRequest) -> CollectResponse:
    """Remove archived versions beyond the newest, and encoders that no version names."""
    removed = store.gc(body.keep, dry_run=body.dry_run)
    return CollectResponse(versions=removed.versions, encoders=removed.encoders, bytes=removed.size)


@router.post("/doctor", tags=["admin"])
def doctor(store: Store, admin: Admin) -> list[FindingResponse]:
    """Find and mend what crashes left."""
    return [FindingResponse(what=finding.what, mended=finding.mended) for finding in store.doctor()]


@router.post("/reindex", tags=["admin"])
def reindex(store: Store, admin: Admin) -> ReindexResponse:
    """Rebuild `model_registry.jsonl` from the versions."""
    return ReindexResponse(changed=store.reindex())


def _upload(store: Registry, publisher: Token, upload_id: str) -> uploads.Upload:
    """Return an upload that has begun, if the token may publish for its user."""
    upload = uploads.find(store.root, upload_id)
    require(publisher, "publish", upload.manifest.user_id)
    return upload


def _response(publication: Publication) -> PublishResponse:
    return PublishResponse(entry=publication.entry, created=publication.created)


def _progress(upload: uploads.Upload) -> UploadResponse:
    return UploadResponse(
        id=upload.id,
        missing_files=tuple(upload.missing_files()),
        missing_encoders=tuple(upload.missing_encoders()),
    )
