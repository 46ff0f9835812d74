"""The service: every operation, who may do it, and what hostile or unlucky clients achieve."""

from __future__ import annotations

import base64
import json
import os
import shutil
import socket
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, suppress
from datetime import datetime
from functools import lru_cache
from pathlib import Path

import httpx
import pytest
from fastapi import FastAPI
from fastapi.testclient import TestClient

from model_registry.http_schemas import ListResponse
from model_registry.service.limits import Limits
from model_registry.service.server import create_app
from model_registry.storage import durable, file_cache
from model_registry.storage.tokens import add_token, remove_token, tokens_file
from model_registry.store import Registry
from tests.model_registry.bundles import FILES, all_bytes, make_bundle, make_encoder
from tests.model_registry.service.serving import routes, served
from tests.soak import SOAK, Tally

PATH = "/v1/models/user123/gesture"


@pytest.fixture
def store(tmp_path: Path) -> Registry:
    store = Registry(tmp_path / "registry")
    for run in ("r1", "r2"):
        store.publish(make_bundle(tmp_path, run=run))
    return store


@pytest.fixture
def tokens(store: Registry) -> dict[str, str]:
    return {scope: add_token(tokens_file(store.root), scope, (scope,)) for scope in ("read", "publish", "admin")}  # type: ignore[arg-type]


def client_of(store: Registry, token: str | None, **limits: float) -> TestClient:
    headers = {"Content-Type": "application/json"} | ({} if token is None else {"Authorization": f"Bearer {token}"})
    return TestClient(app_of(store, Limits(**limits)), headers=headers, raise_server_exceptions=False)  # type: ignore[arg-type]


@lru_cache(maxsize=2)
def app_of(store: Registry, limits: Limits) -> FastAPI:
    return create_app(store, limits=limits)


@pytest.fixture
def admin(store: Registry, tokens: dict[str, str]) -> TestClient:
    return client_of(store, tokens["admin"])


def upload(client: TestClient, bundle: Path) -> httpx.Response:
    begun = client.post("/v1/uploads", content=(bundle / "bundle.json").read_bytes())
    if begun.status_code != 201 or begun.json()["published"]:
        return begun
    place = f"/v1/uploads/{begun.json()['id']}"
    for role in begun.json()["missing_files"]:
        sent = client.put(f"{place}/files/{role}", content=(bundle / FILES[role]).read_bytes())
        if sent.status_code != 204:
            return sent
    return client.post(f"{place}/publish")


def test_resolve_list_show_diff_verify(admin: TestClient) -> None:
    answer = admin.get(PATH).json()
    assert answer["entry"]["model_version"] == "v2" and answer["fallback"] is False
    assert set(answer["files"]) == set(FILES)
    assert admin.get(PATH, params={"version": "v1"}).json()["entry"]["status"] == "archived"
    assert [e["model_version"] for e in admin.get("/v1/models").json()["entries"]] == ["v1", "v2"]
    assert admin.get("/v1/models", params={"status": "active"}).json()["entries"][0]["model_version"] == "v2"
    assert admin.get(f"{PATH}/versions/v1").json()["history"][0]["event"] == "publish"
    assert admin.get(f"{PATH}/diff", params={"before": "v1", "after": "v2"}).json()["facts"] == {}
    assert admin.get(f"{PATH}/versions/v1/verify").json() == {"checked": 1, "faults": {}}
    assert admin.get("/v1/verify").json() == {"checked": 2, "faults": {}}


def test_a_list_comes_in_pages(admin: TestClient, store: Registry, tmp_path: Path) -> None:
    for user in ("anna", "zoe"):
        store.publish(make_bundle(tmp_path, user=user))
    found, query = [], {"limit": "1"}
    while True:
        page = admin.get("/v1/models", params=query).json()
        found += [(entry["user_id"], entry["model_version"]) for entry in page["entries"]]
        if page["next"] is None:
            break
        query["after"] = page["next"]
    assert found == [("anna", "v1"), ("user123", "v1"), ("user123", "v2"), ("zoe", "v1")]


@pytest.mark.slow
def test_lists_and_pages_show_what_another_process_has_just_done(
    admin: TestClient, store: Registry, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(file_cache, "_SETTLED_SECONDS", 0.05)
    for command, active in ((["promote", "user123", "gesture", "v1"], "v1"), (["erase", "user123", "--yes"], None)):
        time.sleep(0.1)
        for _ in range(2):  # everything is remembered now
            assert admin.get("/v1/models").json()["entries"] and "user123" in admin.get("/").text
        words = [*command, "--reason", "because", "--registry", str(store.root)]
        subprocess.run([sys.executable, "-m", "model_registry", *words], check=True, capture_output=True)
        entries = admin.get("/v1/models").json()["entries"]
        assert [e["model_version"] for e in entries if e["status"] == "active"] == ([active] if active else [])
        assert (f"/users/user123/gesture/{active}" in admin.get("/").text) == (active is not None)
        assert admin.get(PATH).status_code == (200 if active else 404)


def test_a_list_is_what_its_schema_says(admin: TestClient, store: Registry) -> None:
    """It is put together of entries that were written as JSON before."""
    answer = admin.get("/v1/models", params={"limit": 1})
    first = next(store.entries())
    written = ListResponse(entries=(first,), next="user123/gesture/v1").model_dump_json()
    assert answer.text == written and answer.headers["content-type"] == "application/json"
    (store.root / first.folder / "manifest.json").write_bytes(b"{}")
    damaged = admin.get("/v1/models").text
    assert ListResponse.from_json(damaged.encode(), "list").damaged[0].version == 1
    assert [entry.version for entry in ListResponse.from_json(damaged.encode(), "list").entries] == [2]


def test_downloads_know_etags_and_ranges(admin: TestClient, store: Registry) -> None:
    place = f"{PATH}/versions/v2/files/model"
    whole = admin.get(place)
    assert whole.content == b"model of r2"
    etag = whole.headers["etag"]
    assert etag == f'"{store.resolve("user123", "gesture").stored["model"].sha256}"'
    assert admin.get(place, headers={"If-None-Match": etag}).status_code == 304
    part = admin.get(place, headers={"Range": "bytes=6-7"})
    assert (part.status_code, part.content) == (206, b"of")
    assert admin.get(place, headers={"Range": "bytes=6-7", "If-Range": '"other"'}).content == b"model of r2"
    assert admin.get(place, headers={"Range": "bytes=99-"}).status_code == 416
    assert admin.head(place).headers["content-length"] == "11"
    assert admin.get(f"{PATH}/versions/v2/files/poem").status_code == 404


def test_a_damaged_file_is_not_sent(admin: TestClient, store: Registry) -> None:
    path = store.resolve("user123", "gesture").files["model"]
    path.write_bytes(b"model of rX")
    answer = admin.get(f"{PATH}/versions/v2/files/model")
    assert answer.status_code == 500 and answer.json()["error"] == "CorruptError"
    assert path.name in answer.json()["detail"] and str(store.root) not in answer.text
    assert admin.get(f"{PATH}/versions/v2/verify").json()["faults"].keys() == {"user123/gesture v2"}


def test_the_damage_of_one_person_hides_nobody_else(admin: TestClient, store: Registry, tmp_path: Path) -> None:
    store.publish(make_bundle(tmp_path, user="ana"))
    history = store.root / "users/user123/gesture/history.jsonl"
    history.write_bytes(history.read_bytes().replace(b"publish", b"Publish", 1))
    page = admin.get("/v1/models").json()
    assert [entry["user_id"] for entry in page["entries"]] == ["ana"]
    (damage,) = page["damaged"]
    assert (damage["user_id"], damage["modality"], damage["version"]) == ("user123", "gesture", None)
    assert damage["reason"].startswith("users/user123/gesture/history.jsonl:1: ")
    index = admin.get("/")
    assert index.status_code == 200 and "ana" in index.text and "damaged" in index.text
    assert "history.jsonl:1" in admin.get("/users/user123/gesture").text
    history.write_bytes(history.read_bytes().replace(b"Publish", b"publish", 1))
    assert "damaged" not in admin.get("/v1/models").json()


def test_an_upload_becomes_a_version_once(store: Registry, tokens: dict[str, str], tmp_path: Path) -> None:
    client = client_of(store, tokens["publish"])
    ref = make_encoder(tmp_path)
    bundle = make_bundle(tmp_path, run="r3", encoder_refs=[ref])
    begun = client.post("/v1/uploads", content=(bundle / "bundle.json").read_bytes()).json()
    assert begun["missing_encoders"] == [ref["sha256"]]
    place = f"/v1/uploads/{begun['id']}"
    network = tmp_path / "encoders" / ref["sha256"]
    early = client.put(f"{place}/encoders/{ref['sha256']}/model.onnx", content=b"network")
    assert early.status_code == 409 and "send encoder.json first" in early.json()["detail"]
    for name in ("encoder.json", "model.onnx", "tokenizer.json"):
        sent = client.put(f"{place}/encoders/{ref['sha256']}/{name}", content=(network / name).read_bytes())
        assert sent.status_code == 204
    incomplete = client.post(f"{place}/publish")
    assert incomplete.status_code == 409 and "model_card" in incomplete.json()["detail"]
    for role in begun["missing_files"]:
        assert client.put(f"{place}/files/{role}", content=(bundle / FILES[role]).read_bytes()).status_code == 204
    assert client.get(place).json()["missing_files"] == []
    done = client.post(f"{place}/publish").json()
    assert done["created"] and done["entry"]["model_version"] == "v3"
    assert client.post(f"{place}/publish").status_code == 404
    again = client.post("/v1/uploads", content=(bundle / "bundle.json").read_bytes()).json()
    assert again["published"]["entry"]["model_version"] == "v3" and not again["published"]["created"]
    assert store.resolve("user123", "gesture").version == 3
    assert list((store.root / "uploads").iterdir()) == []


def test_a_file_that_differs_is_refused_before_anything_is_visible(
    store: Registry, tokens: dict[str, str], tmp_path: Path
) -> None:
    client = client_of(store, tokens["publish"])
    bundle = make_bundle(tmp_path, run="r3")
    begun = client.post("/v1/uploads", content=(bundle / "bundle.json").read_bytes()).json()
    place = f"/v1/uploads/{begun['id']}/files/model"
    assert "sha256" in client.put(place, content=b"model of rX").json()["detail"]
    assert "more than 11 bytes" in client.put(place, content=b"model of r3 and more").json()["detail"]
    assert client.put(place, content=b"").status_code == 422
    assert client.get(f"/v1/uploads/{begun['id']}").json()["missing_files"] == begun["missing_files"]
    assert store.resolve("user123", "gesture").version == 2
    assert not list(store.root.rglob(".*.tmp"))


def test_promote_rollback_archive_erase_and_upkeep(admin: TestClient, store: Registry) -> None:
    assert admin.post(f"{PATH}/promote", json={"version": "v1"}).json() == {"before": 2, "active": 1}
    assert admin.post(f"{PATH}/rollback", json={"reason": "worse"}).json() == {"before": 1, "active": 2}
    assert admin.post(f"{PATH}/archive", json={"version": "v2"}).status_code == 409
    assert admin.post(f"{PATH}/archive", json={"version": "v1", "reason": "old"}).status_code == 204
    assert admin.post("/v1/gc", json={"keep": 0}).json()["versions"] == ["user123/gesture v1"]
    assert admin.post("/v1/doctor").json() == [] and admin.post("/v1/reindex").json() == {"changed": False}
    assert admin.post("/v1/users/user123/erase", json={"reason": "user123 asked"}).status_code == 409
    assert admin.post("/v1/users/user123/erase", json={"reason": "asked for"}).json()["versions"] == 1
    assert admin.get(PATH).status_code == 404
    assert not [path for path, data in all_bytes(store.root).items() if "user123" in path or b"user123" in data]


def test_erasure_takes_unfinished_uploads_too(admin: TestClient, store: Registry, tmp_path: Path) -> None:
    bundle = make_bundle(tmp_path, run="r3")
    begun = admin.post("/v1/uploads", content=(bundle / "bundle.json").read_bytes()).json()
    admin.put(f"/v1/uploads/{begun['id']}/files/model", content=b"model of r3")
    admin.post("/v1/users/user123/erase", json={"reason": "asked for"})
    assert not [path for path, data in all_bytes(store.root).items() if b"user123" in data or b"model of r3" in data]


def test_export_sends_one_file(admin: TestClient) -> None:
    answer = admin.get(f"{PATH}/versions/v1/export", params={"form": "tar"})
    assert answer.status_code == 200 and b"gesture_model_user123_v1.onnx" in answer.content
    assert 'filename="user123_gesture_v1.tar"' in answer.headers["content-disposition"]


VERSION = "/v1/models/{user}/{modality}/versions/{version}"
PAGE = "/users/{user}/{modality}"
SCOPES = {  # (method, path) -> scope; what is not here needs no token
    ("GET", "/v1/models"): "read",
    ("GET", "/v1/models/{user}/{modality}"): "read",
    ("GET", "/v1/models/{user}/{modality}/diff"): "read",
    ("GET", "/v1/models/{user}/{modality}/history"): "read",
    ("GET", f"{VERSION}/stored/{{name}}"): "read",
    ("GET", VERSION): "read",
    ("GET", f"{VERSION}/verify"): "read",
    ("GET", f"{VERSION}/files/{{role}}"): "read",
    ("HEAD", f"{VERSION}/files/{{role}}"): "read",
    ("GET", f"{VERSION}/export"): "read",
    ("GET", "/v1/encoders/{sha256}/{name}"): "read",
    ("HEAD", "/v1/encoders/{sha256}/{name}"): "read",
    ("GET", "/"): "read",
    ("GET", "/users/{user}"): "read",
    ("GET", PAGE): "read",
    ("GET", f"{PAGE}/compare"): "read",
    ("GET", f"{PAGE}/{{version}}"): "read",
    ("GET", f"{PAGE}/{{version}}/card"): "read",
    ("GET", f"{PAGE}/{{version}}/files/{{role}}"): "read",
    ("POST", "/v1/uploads"): "publish",
    ("GET", "/v1/uploads/{upload_id}"): "publish",
    ("PUT", "/v1/uploads/{upload_id}/files/{role}"): "publish",
    ("PUT", "/v1/uploads/{upload_id}/encoders/{sha256}/{name}"): "publish",
    ("POST", "/v1/uploads/{upload_id}/publish"): "publish",
    ("POST", "/v1/models/{user}/{modality}/promote"): "publish",
    ("POST", "/v1/models/{user}/{modality}/rollback"): "publish",
    ("POST", "/v1/models/{user}/{modality}/archive"): "publish",
    ("GET", "/v1/verify"): "admin",
    ("POST", "/v1/users/{user}/erase"): "admin",
    ("POST", "/v1/gc"): "admin",
    ("POST", "/v1/doctor"): "admin",
    ("POST", "/v1/reindex"): "admin",
}
OPEN = {("GET", "/health"), ("GET", "/ready"), ("GET", "/metrics"), ("GET", "/openapi.json"), ("HEAD", "/openapi.json")}
OPEN |= {("GET", "/sign-out")}
IN_PATH = {
    "user": "user123", "modality": "gesture", "version": "v1", "role": "model", "upload_id": "0" * 32,
    "sha256": "0" * 64, "name": "model.onnx",
}  # fmt: skip


def test_every_route_has_the_scope_that_is_expected_of_it(store: Registry) -> None:
    found = [(method, route.path) for route in routes(create_app(store)) for method in route.methods or ()]
    assert sorted(found) == sorted([*SCOPES, *OPEN])


def test_one_person_may_not_fill_the_disk(store: Registry, tokens: dict[str, str], tmp_path: Path) -> None:
    """What is published counts, what is being uploaded counts, and nobody else is refused."""
    client = client_of(store, tokens["publish"], person_bytes=1_000_000)
    first, second = (make_bundle(tmp_path, run=run, model=b"m" * 600_000) for run in ("big1", "big2"))
    for bundle, code in ((first, 201), (second, 413)):
        answer = client.post("/v1/uploads", content=(bundle / "bundle.json").read_bytes())
        assert answer.status_code == code
    assert "0.600 MB in uploads, and this bundle has 0.600 MB; one person may have 1.000 MB" in answer.json()["detail"]
    shutil.rmtree(store.root / "uploads")
    store.publish(first)
    answer = client.post("/v1/uploads", content=(second / "bundle.json").read_bytes())
    assert answer.status_code == 413 and answer.json()["error"] == "QuotaError"
    assert "MB in published versions" in answer.json()["detail"]
    assert "registry gc --keep 1" in answer.json()["detail"]
    other = make_bundle(tmp_path, user="user456", run="big3", model=b"m" * 600_000)
    assert client.post("/v1/uploads", content=(other / "bundle.json").read_bytes()).status_code == 201


def test_all_uploads_together_may_not_fill_the_disk(store: Registry, tokens: dict[str, str], tmp_path: Path) -> None:
    """Encoders, whose sizes no bundle says, are refused when they are sent."""
    client = client_of(store, tokens["publish"], uploads_bytes=1_000_000)
    bundles = [make_bundle(tmp_path, user=user, model=b"m" * 600_000) for user in ("one", "two")]
    ref = make_encoder(tmp_path, network=b"n" * 999_000)
    bundles.append(make_bundle(tmp_path, user="three", encoder_refs=[ref]))
    begun = [client.post("/v1/uploads", content=(bundle / "bundle.json").read_bytes()) for bundle in bundles]
    assert [answer.status_code for answer in begun] == [201, 429, 201]
    assert "together they may have 1.000 MB" in begun[1].json()["detail"] and begun[1].headers["retry-after"]
    place = f"/v1/uploads/{begun[2].json()['id']}/encoders/{ref['sha256']}"
    folder = tmp_path / "encoders" / ref["sha256"]
    assert client.put(f"{place}/encoder.json", content=(folder / "encoder.json").read_bytes()).status_code == 204
    for content in (b"n" * 999_000, iter([b"n" * 999_000])):
        assert client.put(f"{place}/model.onnx", content=content).status_code == 429


@pytest.mark.slow
@pytest.mark.parametrize(("method", "path"), SCOPES)
def test_nobody_gets_in_without_the_scope(store: Registry, tokens: dict[str, str], method: str, path: str) -> None:
    scope, path = SCOPES[method, path], path.format(**IN_PATH)
    before = all_bytes(store.root)
    body = {"version": "v1", "reason": "x", "keep": 0}
    assert client_of(store, None).request(method, path, json=body).status_code == 401
    assert client_of(store, "wrong").request(method, path, json=body).status_code == 401
    for other in {"read", "publish"} - {scope}:
        assert client_of(store, tokens[other]).request(method, path, json=body).status_code == 403
    assert all_bytes(store.root) == before
    for allowed in (scope, "admin"):
        assert client_of(store, tokens[allowed]).request(method, path, json=body).status_code not in (401, 403)


def test_every_route_of_the_api_says_in_its_document_that_it_needs_a_token(store: Registry) -> None:
    documented = create_app(store).openapi()["paths"]
    assert len(documented) > 20
    for path, methods in documented.items():
        for method, operation in methods.items():
            assert (method.upper(), path) in OPEN or operation.get("security"), (method, path)


def test_a_browser_may_read_with_the_token_as_password_but_change_nothing(
    store: Registry, tokens: dict[str, str]
) -> None:
    basic = base64.b64encode(f"anyone:{tokens['admin']}".encode()).decode()
    client = client_of(store, None)
    headers = {"Authorization": f"Basic {basic}"}
    assert client.get("/", headers=headers).status_code == 200
    assert client.post(f"{PATH}/rollback", headers=headers, json={"reason": "x"}).status_code == 401
    assert client.get("/", headers={"Authorization": "Basic ?"}).status_code == 401


def test_only_hashes_of_tokens_are_kept_and_a_removed_one_is_refused(store: Registry, tokens: dict[str, str]) -> None:
    path = tokens_file(store.root)
    assert tokens["read"] not in path.read_text() and path.stat().st_mode & 0o077 == 0
    assert client_of(store, tokens["read"]).get(PATH).status_code == 200
    remove_token(path, "read")
    again = TestClient(create_app(store), headers={"Authorization": f"Bearer {tokens['read']}"})
    assert again.get(PATH).status_code == 401


@pytest.mark.slow
@pytest.mark.parametrize(
    "path",
    [
        "/v1/models/..%2F..%2Fetc/gesture",
        "/v1/models/%2e%2e/gesture",
        "/v1/models/user123/..%2f..%2fetc",
        "/v1/models/user123%00/gesture",
        f"/v1/models/{'x' * 300}/gesture",
        "/v1/models/us%D0%B5r123/gesture",
        "/v1/models/user123/gesture/versions/..%2Fv1",
        "/v1/models/user123/gesture/versions/v1/files/..%2f..%2fregistry.json",
        "/v1/models/user123/gesture/versions/v1/files/registry_entry",
        "/v1/encoders/..%2f..%2fusers/x",
        f"/v1/encoders/{'0' * 64}/model.onnx",
        "/v1/uploads/..%2f..%2fusers%2fuser123",
        "/users/..%2f../gesture",
        "/v1/models?user=../etc",
        "/v1/models?after=../../x/v1",
    ],
)
def test_path_tricks_lead_nowhere(admin: TestClient, path: str) -> None:
    answer = admin.get(path)
    assert answer.status_code in (404, 422), answer.text
    assert "root:" not in answer.text


def test_a_modality_is_any_safe_name_and_a3cps_name_finds_ours(
    store: Registry, admin: TestClient, tmp_path: Path
) -> None:
    assert upload(admin, make_bundle(tmp_path, run="r3", modality="smell")).status_code == 200
    assert upload(admin, make_bundle(tmp_path, run="r4", modality="sound")).status_code == 200
    assert admin.get("/v1/models/user123/smell").json()["entry"]["modality"] == "smell"
    assert admin.get("/v1/models/user123/audio").json()["entry"]["modality"] == "sound"
    assert admin.get("/v1/models/user123/taste").status_code == 404
    page = admin.get("/").text
    places = [page.index(f"/users/user123/{name}") for name in ("gesture", "smell", "sound")]
    assert places == sorted(places)
    refused = upload(admin, make_bundle(tmp_path, run="r5", modality="audio"))
    assert refused.status_code == 422 and "another name for 'sound'" in refused.text
    parameter = admin.get("/openapi.json").json()["paths"]["/v1/models/{user}/{modality}"]["get"]["parameters"][1]
    assert parameter["schema"]["pattern"].startswith("^[a-z]") and "enum" not in parameter["schema"]


def test_a_body_that_is_too_large_or_no_bundle_is_refused(admin: TestClient, store: Registry) -> None:
    before = all_bytes(store.root)
    assert admin.post("/v1/uploads", content=b"x" * (3 << 20)).status_code == 413
    assert admin.post("/v1/uploads", content=iter([b"x" * (1 << 20)] * 3)).status_code == 413
    for body in (b"", b"{}", b"[]", b"[" * 100_000, b'{"user_id": "\\ud800"}', b"\xff"):
        assert admin.post("/v1/uploads", content=body).status_code in (400, 422), body[:10]
    assert all_bytes(store.root) == before


def test_numbers_that_are_none_are_refused(admin: TestClient, tmp_path: Path) -> None:
    bundle = make_bundle(tmp_path, run="r9")
    text = (bundle / "bundle.json").read_text()
    assert admin.post("/v1/uploads", content=text.replace('"seed": 0', '"seed": NaN').encode()).status_code == 422
    assert admin.post("/v1/uploads", content=text.replace('"seed": 0', '"seed": "\\ud800"').encode()).status_code == 422


def test_tokens_that_cannot_be_read_are_no_fault_of_the_client(store: Registry, tokens: dict[str, str]) -> None:
    client = client_of(store, tokens["read"])
    assert client.get("/v1/models").status_code == 200
    for garbage in (b"\xff\x00", b"{}{}", tokens_file(store.root).read_bytes().replace(b'"publish"', b'"admin"', 1)):
        tokens_file(store.root).write_bytes(garbage)
        app_of.cache_clear()
        assert client_of(store, tokens["read"]).get("/v1/models").status_code == 503


def test_too_many_requests_are_put_off(store: Registry, tokens: dict[str, str]) -> None:
    client = client_of(store, tokens["read"], requests_a_minute=3)
    answers = [client.get(PATH) for _ in range(5)]
    assert [answer.status_code for answer in answers] == [200, 200, 200, 429, 429]
    assert int(answers[-1].headers["retry-after"]) >= 1
    guessing = client_of(store, "guess", failures_a_minute=2)
    assert [guessing.get(PATH).status_code for _ in range(4)] == [401, 401, 429, 429]


def test_metrics_and_log_name_routes_and_no_person(admin: TestClient, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("INFO", "model_registry.access")
    admin.get(PATH)
    admin.get("/v1/models/nobody-knows/gesture")
    text = admin.get("/metrics").text
    assert 'registry_requests_total{method="GET",route="/v1/models/{user}/{modality}",status="200"} 1.0' in text
    lines = [json.loads(record.message) for record in caplog.records if record.name == "model_registry.access"]
    assert lines[0]["route"] == "/v1/models/{user}/{modality}" and lines[0]["token"] == "admin"
    for given in ("user123", "nobody-knows", "testclient"):
        assert given not in text and given not in caplog.text
    assert datetime.fromisoformat(lines[0]["time"]).tzinfo is not None


def test_health_and_readiness_are_apart_and_write_nothing(tmp_path: Path) -> None:
    """The volume of a registry may be missing: then the service lives, is not ready, and makes no registry there."""
    client = TestClient(create_app(Registry(tmp_path / "missing")))
    assert client.get("/health").json() == {"status": "ok"}
    assert client.get("/ready").status_code == 503
    assert not (tmp_path / "missing").exists()
    Registry(tmp_path / "missing").created()
    assert client.get("/ready").json() == {"status": "ok"}


def test_a_missing_registry_is_not_made_by_an_upload(store: Registry, tokens: dict[str, str], tmp_path: Path) -> None:
    client = client_of(store, tokens["publish"])
    assert client.get("/v1/uploads/" + "0" * 32).status_code == 404
    shutil.move(store.root, tmp_path / "unmounted")
    assert upload(client, make_bundle(tmp_path, run="r9")).status_code == 404
    assert not store.root.exists()


@pytest.mark.parametrize("scope", ["read", "publish"])
def test_a_token_of_one_person_is_of_no_other(store: Registry, tmp_path: Path, scope: str) -> None:
    for user in ("ana", "_default"):
        store.publish(make_bundle(tmp_path, user=user))
    client = client_of(store, add_token(tokens_file(store.root), "ana_only", (f"{scope}:ana",)))
    allowed = client_of(store, add_token(tokens_file(store.root), "everybody", (scope,)))
    pooled = client_of(store, add_token(tokens_file(store.root), "pooled", ("publish:_default",)))
    if scope == "read":
        assert client.get("/v1/models/ana/gesture").status_code == client.get("/v1/models?user=ana").status_code == 200
        assert client.get("/v1/models/_default/gesture").status_code == 200, "the pooled model stands in for hers"
        for path in (PATH, "/v1/models", "/v1/models?user=user123", "/", "/users/user123/gesture"):
            assert client.get(path).status_code == 403, path
            assert allowed.get(path).status_code == 200, path
    else:
        assert upload(client, make_bundle(tmp_path, user="ana", run="r2")).status_code == 200
        refused = [make_bundle(tmp_path, user=user, run="r5") for user in ("ben", "_default")]
        assert [upload(client, bundle).status_code for bundle in refused] == [403, 403]
        assert client.post(f"{PATH}/rollback", json={"reason": "x"}).status_code == 403
        assert [upload(allowed, bundle).status_code for bundle in refused] == [200, 403], "pooled models are apart"
        begun = allowed.post("/v1/uploads", content=(make_bundle(tmp_path, user="dora") / "bundle.json").read_bytes())
        place = f"/v1/uploads/{begun.json()['id']}"
        assert client.put(f"{place}/files/model", content=b"x").status_code == 403
        assert upload(pooled, refused[1]).status_code == 200


def test_only_so_many_uploads_may_have_begun(store: Registry, tokens: dict[str, str], tmp_path: Path) -> None:
    client = client_of(store, tokens["publish"], uploads_at_once=2)
    descriptions = [(make_bundle(tmp_path, run=f"u{n}") / "bundle.json").read_bytes() for n in range(3)]
    assert [client.post("/v1/uploads", content=each).status_code for each in descriptions] == [201, 201, 429]


@pytest.mark.slow
def test_a_body_has_a_total_time_however_steadily_it_arrives(
    store: Registry, tokens: dict[str, str], tmp_path: Path
) -> None:
    with served(store, Limits(body_seconds=0.5)) as address:
        host, port = address.removeprefix("http://").split(":")
        with socket.create_connection((host, int(port)), timeout=30) as connection:
            head = f"POST /v1/uploads HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {tokens['publish']}\r\n"
            connection.sendall(f"{head}Content-Type: application/json\r\nContent-Length: 1000\r\n\r\n".encode())
            connection.settimeout(0.1)
            answer, until = b"", time.monotonic() + 30
            while not answer and time.monotonic() < until:
                with suppress(TimeoutError):
                    connection.sendall(b" ")
                    answer = connection.recv(100)
        assert answer.startswith(b"HTTP/1.1 408")


@pytest.mark.slow
def test_half_sent_headers_keep_nobody_out(store: Registry, tally: Tally) -> None:
    limits = Limits() if SOAK else Limits(waiting_connections=50)
    with served(store, limits) as address, ExitStack() as held:
        host, port = address.removeprefix("http://").split(":")
        for number in range(1000 if SOAK else 300):
            connection = held.enter_context(socket.create_connection((host, int(port)), timeout=30))
            connection.sendall(b"GET /health HTTP/1.1\r\nX: ")
            if number % 50 == 0:  # in a soak test also within a second: it has the machine for itself
                assert httpx.get(f"{address}/health", timeout=1 if SOAK else 30).status_code == 200
        tally("half-sent headers", number + 1)


@pytest.mark.slow
def test_a_header_has_a_total_time_however_steadily_it_arrives(store: Registry) -> None:
    with served(store, Limits(header_seconds=0.5)) as address:
        host, port = address.removeprefix("http://").split(":")
        with socket.create_connection((host, int(port)), timeout=30) as connection, pytest.raises(OSError):
            connection.sendall(b"GET /health HTTP/1.1\r\n")
            until = time.monotonic() + 30
            while time.monotonic() < until:
                connection.sendall(b"X-Y: z\r\n")
                time.sleep(0.05)
        assert httpx.get(f"{address}/health", timeout=30).status_code == 200


@pytest.mark.slow
def test_locks_that_are_stuck_stop_neither_health_nor_the_service_for_good(
    store: Registry, tokens: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(durable, "LOCK_SECONDS", 0.5)
    with served(store) as address, ThreadPoolExecutor(60) as pool:
        headers = {"Authorization": f"Bearer {tokens['publish']}"}

        def roll_back() -> httpx.Response:
            body = {"reason": "worse"}
            return httpx.post(f"{address}{PATH}/rollback", json=body, headers=headers, timeout=60)

        with durable.locked(store.root / "users/user123/gesture"):
            waiting = [pool.submit(roll_back) for _ in range(60)]
            assert httpx.get(f"{address}/health", timeout=30).status_code == 200
            answers = [future.result() for future in waiting]
        assert {answer.status_code for answer in answers} == {503}
        assert answers[0].json()["error"] == "LockedError" and str(os.getpid()) in answers[0].json()["detail"]
        assert roll_back().status_code == 200
