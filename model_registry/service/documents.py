"""The shapes of the service's answers and questions, for its OpenAPI document and its client."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field, JsonValue, StringConstraints

from model_registry.storage.entry import Document, Event, RegistryEntry, Sha256, StoredFile

Reason = Annotated[str, StringConstraints(max_length=500)]
GivenReason = Annotated[str, StringConstraints(min_length=1, max_length=500)]
VersionName = Annotated[str, StringConstraints(pattern=r"^v?[1-9][0-9]{0,8}$")]


class PublishedAnswer(Document):
    """What a bundle was published as."""

    entry: RegistryEntry
    created: bool


class UploadAnswer(Document):
    """An upload that has begun, or what its run was published as before."""

    id: str
    missing_files: tuple[str, ...]  # roles
    missing_encoders: tuple[Sha256, ...]
    published: PublishedAnswer | None = None


class ResolvedAnswer(Document):
    """The version to use."""

    user_id: str
    fallback: bool
    entry: RegistryEntry
    files: dict[str, StoredFile]  # role -> file; download from …/versions/<version>/files/<role>
    encoders: dict[str, dict[str, Sha256]]  # sha256 -> file name -> sha256; download from /v1/encoders/<sha256>/<name>


class ShownAnswer(Document):
    """A version and what happened to it."""

    entry: RegistryEntry
    history: tuple[Event, ...]


class ListAnswer(Document):
    """One page of versions; `next` is what to give as `after` for the following one."""

    entries: tuple[RegistryEntry, ...]
    next: str | None


class Change(Document):
    """A value in both versions; null where a version has none."""

    before: JsonValue
    after: JsonValue


class DiffAnswer(Document):
    """What changed from one version to another."""

    before: str
    after: str
    metrics: dict[str, Change]
    labels_gained: tuple[str, ...]
    labels_lost: tuple[str, ...]
    config: dict[str, Change]
    facts: dict[str, Change]
    sessions: dict[str, Change]


class VerifiedAnswer(Document):
    """How many versions were checked, and what differs: version -> what is wrong."""

    checked: int
    faults: dict[str, str]


class ServingAnswer(Document):
    """Which version serves now, and which did before."""

    before: int | None
    active: int | None


class RemovedAnswer(Document):
    """What a clean-up removed, or would remove."""

    versions: tuple[str, ...]
    encoders: tuple[Sha256, ...]
    bytes: int


class FindingAnswer(Document):
    """One thing that doctor found."""

    what: str
    mended: bool


class ErasedAnswer(Document):
    """That a user's models were removed."""

    id: str
    versions: int


class ChangedAnswer(Document):
    """Whether anything had to be changed."""

    changed: bool


class PromoteRequest(Document):
    """Which version to let serve."""

    version: VersionName
    reason: Reason = ""


class RollbackRequest(Document):
    """Why to roll back."""

    reason: GivenReason


class ArchiveRequest(Document):
    """Which version to take out of use."""

    version: VersionName
    reason: Reason = ""
    withdraw: bool = False


class EraseRequest(Document):
    """Why to erase, without naming the person."""

    reason: GivenReason


class CollectRequest(Document):
    """How many archived versions to keep of each user and modality."""

    keep: Annotated[int, Field(ge=0, le=1_000_000)] = 5
    dry_run: bool = False
