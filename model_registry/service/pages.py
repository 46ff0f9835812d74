"""Pages for people: what is published, each version, and two versions compared. Plain HTML, no scripts."""

from __future__ import annotations

import json
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from itertools import groupby
from typing import Annotated, Any, TypeVar

from fastapi import APIRouter, Depends, Query, Request, Response
from fastapi.responses import HTMLResponse
from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup
from starlette.types import ExceptionHandler

from model_registry.errors import CorruptError
from model_registry.languages import CATALOGUES, Language, install, preferred_language, words
from model_registry.messages import marked, sentence
from model_registry.metrics import OF_NO_SESSION, Metric, grouped, metric, metric_keys, metric_name
from model_registry.service.api_reading import Store, file_response
from model_registry.service.charts import pair_chart, versions_chart
from model_registry.service.context import PASSWORD_PROMPT, needs, service_of
from model_registry.service.path_parameters import VersionInQuery
from model_registry.storage.entry import RegistryEntry
from model_registry.storage.evaluation import Evaluation, LabelEvaluation, read_evaluation
from model_registry.storage.tokens import Token
from model_registry.storage.verification import Damage
from model_registry.store import Registry

_Item = TypeVar("_Item")
router = APIRouter(include_in_schema=False)
Reader = Annotated[Token, Depends(needs("read"))]
PageNumber = Annotated[int, Query(ge=1, le=1_000_000)]
USERS_ON_A_PAGE = 25
VERSIONS_ON_A_PAGE = 50
_LABELS_FIRST = 12  # of a version; the others are behind a click
_LABELS_SHOWN = 100
_ROWS_SHOWN = 50  # of each table in which versions are compared
_SETTING = 200  # characters of a setting's value
_POLICY = "default-src 'none'; style-src 'unsafe-inline'; img-src data:; frame-ancestors 'none'; form-action 'self'"
# Status -> heading, and what the reader can do.
_REFUSALS = {
    401: (
        "Sign in",
        "The token that you were given is the password; any name will do. Load the page again to be asked.",
    ),
    403: ("Not allowed", "Your token is not for these models. Ask those who run the registry for another one."),
    404: ("Not there", "It may have been removed, or the address is wrong."),
    422: ("Not understood", "The address is wrong. Begin again at the list of all users."),
    429: ("Too many requests", "Wait a minute, then load the page again."),
    500: (
        "Damaged",
        "What is stored differs from what was published and is not used. Tell those who run the registry.",
    ),
}
_SIGNED_OUT = ("Signed out", "Close the prompt to stay signed out. Your token signs you in again.")
_LATER = ("Not possible now", "Try again later. If it remains so, tell those who run the registry.")
# What templates translate of values, besides metrics and headings: verdicts, statuses, events.
WORDS = (
    *("Good", "Weak", "Insufficient data"),
    *("active", "candidate", "archived", "publish", "promote", "rollback", "archive", "remove"),
    *("This version has no model card.", "Examples of sessions that differ", "Data and code that differ"),
    "Settings that differ",
    *(text for pair in (*_REFUSALS.values(), _LATER, _SIGNED_OUT) for text in pair),
)


def readable(handle: Callable[[Request, Exception], Awaitable[Response]]) -> ExceptionHandler:
    """Return an error's handler that answers a browser with a page in its language, and a program as `handle` does."""

    async def answer(request: Request, error: Exception) -> Response:
        response = await handle(request, error)
        if request.method not in ("GET", "HEAD") or "text/html" not in request.headers.get("accept", ""):
            return response
        detail = json.loads(bytes(response.body))["detail"]
        if not isinstance(detail, str):
            detail = "; ".join(f"{fault['loc'][-1]}: {fault['msg']}" for fault in detail)
        heading, advice = _REFUSALS.get(response.status_code, _LATER)
        values = {"heading": heading, "advice": advice, "detail": detail}
        page = _page(await _language(request), "refused.html", status=response.status_code, **values)
        kept = ("www-authenticate", "retry-after")
        page.headers.update({name: response.headers[name] for name in kept if name in response.headers})
        return page

    return answer


async def _language(request: Request) -> Language:
    return preferred_language(request.headers.get("accept-language", ""))


Reading = Annotated[Language, Depends(_language)]


def _size(count: int) -> str:
    """Return a number of bytes as people read it."""
    return f"{count} bytes" if count < 1000 else f"{count / 1000:.1f} kB" if count < 1e6 else f"{count / 1e6:.1f} MB"


def _accuracy(entry: RegistryEntry) -> Metric | None:
    """Return a version's accuracy; without an interval where the data say too little of other days."""
    accuracy = metric(entry.metrics, "accuracy")
    if accuracy is None or entry.verdict != "insufficient data":
        return accuracy
    return replace(accuracy, low=None, high=None)


@lru_cache
def _environment(language: Language) -> Environment:
    """Return the templates in a language."""
    environment = Environment(
        loader=PackageLoader("model_registry.service"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    install(environment, words(language, CATALOGUES))
    environment.filters |= {
        **{"size": _size, "sentence": sentence, "marked": marked},
        **{"metric": metric, "metric_name": metric_name, "accuracy": _accuracy},
    }
    return environment


@router.get("/")
def index(
    store: Store,
    reader: Reader,
    language: Reading,
    search: Annotated[str, Query(max_length=100)] = "",
    page: PageNumber = 1,
) -> HTMLResponse:
    """List users and their active versions; `search` looks for a part of the user's id."""
    matching = [user for user in store.users() if search.strip().lower() in user.lower()]
    rows = [(user, _slots(store, user, language)) for user in _on_page(matching, page, USERS_ON_A_PAGE)]
    pages = _page_count(len(matching), USERS_ON_A_PAGE)
    return _page(language, "index.html", search=search, rows=rows, total=len(matching), page=page, pages=pages)


@router.get("/sign-out")
def sign_out(language: Reading) -> HTMLResponse:
    """Make a browser forget its token: it drops a password with which it is refused, and asks for another."""
    heading, advice = _SIGNED_OUT
    page = _page(language, "refused.html", status=401, heading=heading, advice=advice, detail="")
    page.headers["WWW-Authenticate"] = PASSWORD_PROMPT
    return page


@router.get("/users/{user}")
def user_page(store: Store, reader: Reader, language: Reading, user: str) -> HTMLResponse:
    """Show one user's modalities: the active version of each, and the accuracy of all versions."""
    return _page(language, "user.html", user=user, slots=_slots(store, user, language))


@router.get("/users/{user}/{modality}")
def slot(
    store: Store, reader: Reader, language: Reading, user: str, modality: str, page: PageNumber = 1
) -> HTMLResponse:
    """List the versions of one user and modality, newest first, with their accuracy and history."""
    damaged: list[Damage] = []
    entries = list(store.entries(user=user, modality=modality, on_damage=damaged.append))
    events = [] if any(damage.version is None for damage in damaged) else store.history(user, modality)
    versions = [entry.model_version for entry in entries[::-1]]
    return _page(
        language,
        "slot.html",
        user=user,
        modality=modality,
        entries=_on_page(entries[::-1], page, VERSIONS_ON_A_PAGE),
        versions=versions[:VERSIONS_ON_A_PAGE],
        pair=versions[1::-1] if len(versions) > 1 else None,
        chart=_chart(_on_page(entries[::-1], page, VERSIONS_ON_A_PAGE)[::-1], language),
        events=_on_page(events[::-1], page, VERSIONS_ON_A_PAGE),
        older=0,
        damaged=_reasons(store, damaged),
        page=page,
        pages=_page_count(max(len(entries), len(events)), VERSIONS_ON_A_PAGE),
    )


@router.get("/users/{user}/{modality}/compare")
def compare(
    store: Store,
    reader: Reader,
    language: Reading,
    user: str,
    modality: str,
    before: VersionInQuery,
    after: VersionInQuery,
) -> HTMLResponse:
    """Compare two versions: verdicts, recall of each label, metrics, data and settings."""
    difference = store.diff(user, modality, before, after)
    old, new = difference.before, difference.after
    evaluations = [_evaluation(store, entry) for entry in (old, new)]
    labels = _label_changes(*evaluations)
    facts = {name: pair for name, pair in difference.facts.items() if name not in ("verdict", "examples", "sessions")}
    events = store.history(user, modality)
    published = [f"v{event.version}" for event in reversed(events) if event.event == "publish"][:VERSIONS_ON_A_PAGE]
    return _page(
        language,
        "compare.html",
        old=old,
        new=new,
        pair=(old.model_version, new.model_version),
        versions=sorted({*published, old.model_version, new.model_version}, key=lambda name: -int(name[1:])),
        gained=difference.labels_gained,
        lost=difference.labels_lost,
        labels=labels[:_LABELS_SHOWN],
        more_labels=max(len(labels) - _LABELS_SHOWN, 0),
        groups=grouped(metric_keys({**old.metrics, **new.metrics})),
        tables=[
            (heading, [(name, map(_short, pair)) for name, pair in list(values.items())[:_ROWS_SHOWN]], more)
            for heading, values in (
                ("Examples of sessions that differ", difference.sessions),
                ("Data and code that differ", facts),
                ("Settings that differ", difference.config),
            )
            for more in [max(len(values) - _ROWS_SHOWN, 0)]
        ],
    )


@router.get("/users/{user}/{modality}/{version}")
def version(
    store: Store, reader: Reader, language: Reading, request: Request, user: str, modality: str, version: str
) -> HTMLResponse:
    """Show a version: verdict, accuracy, labels and advice first, then its metrics, history and files."""
    record = store.show(user, modality, version)
    files = store.resolve(user, modality, version).stored
    evaluation = _evaluation(store, record.entry)
    labels = list(evaluation.labels)
    if len(labels) > _LABELS_FIRST:
        labels.sort(key=lambda row: row.recall)
    events = record.events[::-1]
    return _page(
        language,
        "version.html",
        entry=record.entry,
        evaluation=evaluation,
        weakest=labels[:_LABELS_FIRST],
        others=labels[_LABELS_FIRST:_LABELS_SHOWN],
        before=_version_before(store, record.entry),
        in_use=service_of(request).in_use.of(user, record.entry.modality, record.entry.model_version),
        groups=_metric_groups(record.entry, evaluation),
        events=events[:_ROWS_SHOWN],
        older=max(len(events) - _ROWS_SHOWN, 0),
        files=files,
    )


@router.get("/users/{user}/{modality}/{version}/card")
def card(store: Store, reader: Reader, language: Reading, user: str, modality: str, version: str) -> Response:
    """Show a version's model card. It came from a trainer, so it may run no scripts and load nothing."""
    path = store.resolve(user, modality, version).files.get("model_card")
    if path is None:
        return _page(language, "missing.html", what="This version has no model card.", status=404)
    policy = "default-src 'none'; style-src 'unsafe-inline'; img-src data:; sandbox"
    return HTMLResponse(path.read_bytes(), headers=_headers(policy))


@router.get("/users/{user}/{modality}/{version}/files/{role}")
def page_file(
    store: Store, reader: Reader, request: Request, user: str, modality: str, version: str, role: str
) -> Response:
    """Send one file of a version to the browser."""
    return file_response(request, store.resolve(user, modality, version), role)


@dataclass(frozen=True)
class _Slot:
    """One modality of a user, as lists show it."""

    modality: str
    active: RegistryEntry | None
    count: int
    chart: Markup
    damaged: tuple[str, ...]


@dataclass(frozen=True)
class _LabelChange:
    """A label's recall in two versions; none where a version does not have the label."""

    label: str
    before: Metric | None
    after: Metric | None

    @property
    def change(self) -> float | None:
        return None if self.before is None or self.after is None else self.after.value - self.before.value

    @property
    def chart(self) -> Markup:
        return pair_chart(self.before, self.after)


def _slots(store: Registry, user: str, language: Language) -> list[_Slot]:
    """Return the modalities of one user, sorted, those that are damaged included."""
    damaged: list[Damage] = []
    entries = sorted(store.entries(user=user, on_damage=damaged.append), key=lambda entry: entry.modality)
    slots = {modality: list(group) for modality, group in groupby(entries, key=lambda entry: entry.modality)}
    return [
        _Slot(
            modality=modality,
            active=next((entry for entry in slots.get(modality, ()) if entry.status == "active"), None),
            count=len(slots.get(modality, ())),
            chart=_chart(slots.get(modality, ()), language),
            damaged=tuple(_reasons(store, [damage for damage in damaged if damage.modality == modality])),
        )
        for modality in sorted({*slots, *(damage.modality for damage in damaged)})
    ]


def _chart(entries: Sequence[RegistryEntry], language: Language) -> Markup:
    """Return a chart of the newest versions' accuracy, oldest first; nothing where fewer than two have one."""
    known = [(entry, accuracy) for entry in entries if (accuracy := _accuracy(entry)) is not None]
    known = sorted(known, key=lambda pair: pair[0].version)[-VERSIONS_ON_A_PAGE:]
    if len(known) < 2:
        return Markup("")
    active = next((entry.model_version for entry, _ in known if entry.status == "active"), None)
    return _versions_chart(tuple((entry.model_version, accuracy) for entry, accuracy in known), active, language)


@lru_cache(maxsize=10_000)
def _versions_chart(versions: tuple[tuple[str, Metric], ...], active: str | None, language: Language) -> Markup:
    """Return `versions_chart`, which takes longer than all else of a page; the same chart is drawn once."""
    return versions_chart(versions, active, words(language, CATALOGUES))


def _reasons(store: Registry, damaged: Sequence[Damage]) -> list[str]:
    return [damage.reason.replace(f"{store.root}/", "") for damage in damaged]


def _evaluation(store: Registry, entry: RegistryEntry) -> Evaluation:
    return read_evaluation(store.training_log(entry.user_id, entry.modality, entry.version))


def _metric_groups(entry: RegistryEntry, evaluation: Evaluation) -> dict[str, list[Metric]]:
    """Return heading -> a version's metrics; without intervals of days that it was not tested on."""
    found = {key: metric(entry.metrics, key) for key in metric_keys(entry.metrics)}
    return {
        heading: [
            each if evaluation.on_unseen or key in OF_NO_SESSION else replace(each, low=None, high=None)
            for key in keys
            if (each := found[key]) is not None
        ]
        for heading, keys in grouped(list(found)).items()
    }


def _version_before(store: Registry, entry: RegistryEntry) -> str | None:
    """Return the newest published version with a lower number that is still there."""
    try:
        events = store.history(entry.user_id, entry.modality)
    except CorruptError:
        return None
    gone = {event.version for event in events if event.event == "remove"}
    numbers = [event.version for event in events if event.event == "publish" and event.version not in gone]
    return max(
        (f"v{number}" for number in numbers if number < entry.version), key=lambda name: int(name[1:]), default=None
    )


def _label_changes(before: Evaluation, after: Evaluation) -> list[_LabelChange]:
    """Return the labels of both versions: those whose recall fell most first, then those of one version only."""
    old, new = ({row.label: _recall(row, each) for row in each.labels} for each in (before, after))
    changes = [_LabelChange(label, old.get(label), new.get(label)) for label in {**new, **old}]
    return sorted(changes, key=lambda row: (row.change is None, row.change or 0.0, row.label))


def _recall(row: LabelEvaluation, evaluation: Evaluation) -> Metric:
    if not evaluation.on_unseen:
        return Metric("recall", row.recall)
    return Metric("recall", row.recall, row.recall_low, row.recall_high)


def _short(value: object) -> object:
    text = str(value)
    return value if len(text) <= _SETTING else f"{text[:_SETTING]}…"


def _on_page(items: Sequence[_Item], page: int, most: int) -> Sequence[_Item]:
    return items[(page - 1) * most : page * most]


def _page_count(items: int, most: int) -> int:
    return max(1, -(-items // most))


def _page(language: Language, template: str, *, status: int = 200, **values: Any) -> HTMLResponse:
    page = _environment(language).get_template(template).render(**values)
    headers = {**_headers(_POLICY), "Content-Language": language, "Vary": "Accept-Language"}
    return HTMLResponse(page, status, headers=headers)


def _headers(policy: str) -> Mapping[str, str]:
    return {
        "Content-Security-Policy": policy,
        "X-Content-Type-Options": "nosniff",
        "Referrer-Policy": "no-referrer",
        "Cache-Control": "no-store",
    }
