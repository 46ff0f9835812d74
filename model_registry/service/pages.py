"""Pages for people: what is published, and the details of each version. Plain HTML, no scripts."""

from __future__ import annotations

from datetime import UTC, datetime
from itertools import groupby
from typing import Annotated

from fastapi import APIRouter, Depends, Query, Request, Response
from fastapi.responses import HTMLResponse
from jinja2 import Environment, PackageLoader, StrictUndefined

from model_registry.service.api_reading import Store, file_response
from model_registry.service.context import needs
from model_registry.storage.tokens import Token
from model_registry.storage.verification import Damage
from model_registry.store import Registry

router = APIRouter(include_in_schema=False)
Reader = Annotated[Token, Depends(needs("read"))]
PAGE = 50  # users a page
_POLICY = "default-src 'none'; style-src 'unsafe-inline'; img-src data:; frame-ancestors 'none'; form-action 'self'"
_templates = Environment(loader=PackageLoader("model_registry.service"), autoescape=True, undefined=StrictUndefined)


def _when(timestamp: str) -> str:
    """Return a timestamp as people read it."""
    return datetime.fromisoformat(timestamp).astimezone(UTC).strftime("%-d %B %Y, %H:%M UTC")


def _size(count: int) -> str:
    """Return a number of bytes as people read it."""
    return f"{count} bytes" if count < 1000 else f"{count / 1000:.1f} kB" if count < 1e6 else f"{count / 1e6:.1f} MB"


_templates.filters.update(when=_when, size=_size)


@router.get("/")
def index(
    store: Store,
    reader: Reader,
    search: Annotated[str, Query(max_length=100)] = "",
    page: Annotated[int, Query(ge=1, le=1_000_000)] = 1,
) -> HTMLResponse:
    """List users and their active versions; `search` looks for a part of the user's id."""
    matching = [user for user in store.users() if search.strip().lower() in user.lower()]
    rows = [(user, _modalities(store, user)) for user in matching[(page - 1) * PAGE : page * PAGE]]
    pages = max(1, -(-len(matching) // PAGE))
    return _page("index.html", search=search, rows=rows, total=len(matching), page=page, pages=pages)


@router.get("/users/{user}/{modality}")
def slot(store: Store, reader: Reader, user: str, modality: str) -> HTMLResponse:
    """List the versions of one user and modality, newest first, with their history."""
    damaged: list[Damage] = []
    entries = list(store.entries(user=user, modality=modality, on_damage=damaged.append))
    events = [] if any(damage.version is None for damage in damaged) else store.history(user, modality)
    reasons = [damage.reason.replace(f"{store.root}/", "") for damage in damaged]
    return _page("slot.html", user=user, modality=modality, entries=entries[::-1], events=events[::-1], damaged=reasons)


@router.get("/users/{user}/{modality}/{version}")
def version(store: Store, reader: Reader, user: str, modality: str, version: str) -> HTMLResponse:
    """Show a version: its facts, its history, its files."""
    record = store.show(user, modality, version)
    files = store.resolve(user, modality, version).stored
    return _page("version.html", entry=record.entry, events=record.events[::-1], files=files)


@router.get("/users/{user}/{modality}/{version}/card")
def card(store: Store, reader: Reader, user: str, modality: str, version: str) -> Response:
    """Show a version's model card. It came from a trainer, so it may run no scripts and load nothing."""
    path = store.resolve(user, modality, version).files.get("model_card")
    if path is None:
        return _page("missing.html", what="This version has no model card.", status=404)
    policy = "default-src 'none'; style-src 'unsafe-inline'; img-src data:; sandbox"
    return HTMLResponse(path.read_bytes(), headers=_headers(policy))


@router.get("/users/{user}/{modality}/{version}/files/{role}")
def page_file(
    store: Store, reader: Reader, request: Request, user: str, modality: str, version: str, role: str
) -> Response:
    """Send one file of a version to the browser."""
    return file_response(request, store.resolve(user, modality, version), role)


def _modalities(store: Registry, user: str) -> list[dict[str, object]]:
    """Return the rows of one user in the index: modality, active version if any, number of versions, damage."""
    damaged: list[Damage] = []
    entries = sorted(store.entries(user=user, on_damage=damaged.append), key=lambda entry: entry.modality)
    slots = {modality: list(group) for modality, group in groupby(entries, key=lambda entry: entry.modality)}
    return [
        {
            "modality": modality,
            "active": next((entry for entry in slots.get(modality, ()) if entry.status == "active"), None),
            "count": len(slots.get(modality, ())),
            "damaged": any(damage.modality == modality for damage in damaged),
        }
        for modality in sorted({*slots, *(damage.modality for damage in damaged)})
    ]


def _page(template: str, *, status: int = 200, **values: object) -> HTMLResponse:
    return HTMLResponse(_templates.get_template(template).render(**values), status, headers=_headers(_POLICY))


def _headers(policy: str) -> dict[str, str]:
    return {
        "Content-Security-Policy": policy,
        "X-Content-Type-Options": "nosniff",
        "Referrer-Policy": "no-referrer",
        "Cache-Control": "no-store",
    }
