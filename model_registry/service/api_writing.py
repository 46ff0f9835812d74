"""Routes that change something: upload and publish, promote, roll back, archive, erase, clean up, mend."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Depends, Request
from fastapi.concurrency import run_in_threadpool

from model_registry.service.api_reading import Store
from model_registry.service.context import needs
from model_registry.service.documents import (
    ArchiveRequest,
    ChangedAnswer,
    CollectRequest,
    ErasedAnswer,
    EraseRequest,
    FindingAnswer,
    PromoteRequest,
    PublishedAnswer,
    Reason,
    RemovedAnswer,
    RollbackRequest,
    ServingAnswer,
    UploadAnswer,
)
from model_registry.service.path_parameters import (
    FileInPath,
    HashInPath,
    ModalityInPath,
    RoleInPath,
    UploadInPath,
    UserInPath,
)
from model_registry.service.tokens import Token
from model_registry.storage import uploads
from model_registry.storage.entry import BundleManifest
from model_registry.storage.publication import Published

router = APIRouter(prefix="/v1")
Publisher = Annotated[Token, Depends(needs("publish"))]
Admin = Annotated[Token, Depends(needs("admin"))]


@router.post("/uploads", status_code=201, tags=["publish"])
def begin_upload(store: Store, publisher: Publisher, manifest: BundleManifest, promote: bool = True) -> UploadAnswer:
    """Begin to publish a bundle with its `bundle.json`; the answer says which files to send.

    A run that was published before is answered with its version, and nothing needs to be sent.
    """
    known = store.published_before(manifest, promote=promote)
    if known is not None:
        return UploadAnswer(id="", missing_files=(), missing_encoders=(), published=_published(known))
    return _progress(uploads.begin(store.created(), manifest.to_json()))


@router.get("/uploads/{upload_id}", tags=["publish"])
def upload_progress(store: Store, publisher: Publisher, upload_id: UploadInPath) -> UploadAnswer:
    """Say what has still to be sent."""
    return _progress(uploads.find(store.root, upload_id))


@router.put("/uploads/{upload_id}/files/{role}", status_code=204, tags=["publish"])
async def send_file(
    store: Store, publisher: Publisher, request: Request, upload_id: UploadInPath, role: RoleInPath
) -> None:
    """Send the file of a role. It is kept only if size and sha256 are those of `bundle.json`."""
    upload = await run_in_threadpool(uploads.find, store.root, upload_id)
    await uploads.receive(uploads.expected_file(upload, role), request.stream())


@router.put("/uploads/{upload_id}/encoders/{sha256}/{name}", status_code=204, tags=["publish"])
async def send_encoder_file(
    store: Store, publisher: Publisher, request: Request, upload_id: UploadInPath, sha256: HashInPath, name: FileInPath
) -> None:
    """Send a file of an encoder that the registry lacks, `encoder.json` first."""
    upload = await run_in_threadpool(uploads.find, store.root, upload_id)
    await uploads.receive(uploads.expected_encoder_file(upload, sha256, name), request.stream())


@router.post("/uploads/{upload_id}/publish", tags=["publish"])
def finish_upload(
    store: Store, publisher: Publisher, upload_id: UploadInPath, promote: bool = True, reason: Reason = ""
) -> PublishedAnswer:
    """Publish an upload that is complete; `reason` says why it serves or does not."""
    return _published(uploads.finish(uploads.find(store.root, upload_id), promote=promote, reason=reason))


@router.post("/models/{user}/{modality}/promote", tags=["publish"])
def promote_version(
    store: Store, publisher: Publisher, user: UserInPath, modality: ModalityInPath, wish: PromoteRequest
) -> ServingAnswer:
    """Let a version serve."""
    before = store.promote(user, modality, wish.version, wish.reason)
    return ServingAnswer(before=before, active=int(wish.version.removeprefix("v")))


@router.post("/models/{user}/{modality}/rollback", tags=["publish"])
def rollback_version(
    store: Store, publisher: Publisher, user: UserInPath, modality: ModalityInPath, wish: RollbackRequest
) -> ServingAnswer:
    """Let the version serve again that served before."""
    before, active = store.rollback(user, modality, wish.reason)
    return ServingAnswer(before=before, active=active)


@router.post("/models/{user}/{modality}/archive", status_code=204, tags=["publish"])
def archive_version(
    store: Store, publisher: Publisher, user: UserInPath, modality: ModalityInPath, wish: ArchiveRequest
) -> None:
    """Take a version out of use."""
    store.archive(user, modality, wish.version, wish.reason, withdraw=wish.withdraw)


@router.post("/users/{user}/erase", tags=["admin"])
def erase_user(store: Store, admin: Admin, user: UserInPath, wish: EraseRequest) -> ErasedAnswer:
    """Remove all of a user's models for good."""
    done = store.erase(user, wish.reason)
    return ErasedAnswer(id=done.id, versions=done.versions)


@router.post("/gc", tags=["admin"])
def collect(store: Store, admin: Admin, wish: CollectRequest) -> RemovedAnswer:
    """Remove archived versions beyond the newest, and encoders that no version names."""
    done = store.gc(wish.keep, dry_run=wish.dry_run)
    return RemovedAnswer(versions=done.versions, encoders=done.encoders, bytes=done.size)


@router.post("/doctor", tags=["admin"])
def doctor(store: Store, admin: Admin) -> list[FindingAnswer]:
    """Find and mend what crashes left."""
    return [FindingAnswer(what=finding.what, mended=finding.mended) for finding in store.doctor()]


@router.post("/reindex", tags=["admin"])
def reindex(store: Store, admin: Admin) -> ChangedAnswer:
    """Rebuild `model_registry.jsonl` from the versions."""
    return ChangedAnswer(changed=store.reindex())


def _published(done: Published) -> PublishedAnswer:
    return PublishedAnswer(entry=done.entry, created=done.created)


def _progress(upload: uploads.Upload) -> UploadAnswer:
    return UploadAnswer(
        id=upload.id,
        missing_files=tuple(upload.missing_files()),
        missing_encoders=tuple(upload.missing_encoders()),
    )
