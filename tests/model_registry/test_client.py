"""The client against a running service: lost answers, cut connections, slow and many clients."""

from __future__ import annotations

import http.client
import json
import socket
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from urllib.parse import urlparse

import httpx
import pytest

from model_registry.client import RemoteRegistry
from model_registry.errors import ConflictError, CorruptError, NotFoundError, RefusedBundleError, UnreachableError
from model_registry.location import open_writable_registry
from model_registry.service.limits import Limits
from model_registry.storage.tokens import add_token, tokens_file
from model_registry.store import Registry
from tests.model_registry.bundles import make_bundle, make_encoder
from tests.model_registry.service.serving import served

GENEROUS = Limits(requests_a_minute=1_000_000, silence_seconds=1.0)


@pytest.fixture
def store(tmp_path: Path) -> Registry:
    return Registry(tmp_path / "registry")


@pytest.fixture
def secret(store: Registry) -> str:
    return add_token(tokens_file(store.created()), "all", ("admin",))


@pytest.fixture
def address(store: Registry, secret: str) -> Iterator[str]:
    with served(store, GENEROUS) as url:
        yield url


class Unlucky(httpx.BaseTransport):
    """Carries requests out, but loses the answers whose numbers are given: the client sees a cut connection."""

    def __init__(self, lost: set[int]) -> None:
        self.inner = httpx.HTTPTransport()
        self.lost = lost
        self.count = -1

    def handle_request(self, request: httpx.Request) -> httpx.Response:
        self.count += 1
        response = self.inner.handle_request(request)
        if self.count in self.lost:
            response.read()
            raise httpx.ReadError("the answer was lost", request=request)
        return response


def remote(address: str, secret: str, **options: object) -> RemoteRegistry:
    return RemoteRegistry(address, secret, pause=0.0, **options)  # type: ignore[arg-type]


@pytest.mark.slow
def test_publish_resolve_fetch_promote_rollback(address: str, secret: str, store: Registry, tmp_path: Path) -> None:
    registry = remote(address, secret)
    ref = make_encoder(tmp_path)
    first = registry.publish(make_bundle(tmp_path, run="r1", encoder_refs=[ref]))
    assert first.created and first.version == 1 and first.entry.status == "active"
    assert registry.publish(make_bundle(tmp_path, run="r2"), promote=False).entry.status == "candidate"
    assert not registry.publish(tmp_path / "gesture_user123_r1").created
    assert registry.promote("user123", "gesture", 2) == 1
    assert registry.rollback("user123", "gesture", "worse") == (2, 1)
    fetched = registry.fetch("user123", "gesture", tmp_path / "cache")
    assert fetched.files["model"].read_bytes() == b"model of r1" and fetched.version == 1
    assert (fetched.encoders["minilm"] / "tokenizer.json").read_bytes() == b"{}"
    assert not list((tmp_path / "cache").rglob(".*"))
    fetched.files["model"].write_bytes(b"model of rX")
    again = registry.fetch("user123", "gesture", tmp_path / "cache")
    assert again.files["model"].read_bytes() == b"model of r1"
    assert [entry.model_version for entry in registry.entries(user="user123")] == ["v1", "v2"]


@pytest.mark.slow
def test_every_lost_answer_still_publishes_once(address: str, secret: str, store: Registry, tmp_path: Path) -> None:
    counting = Unlucky(set())
    bundle = make_bundle(tmp_path, run="r", encoder_refs=[make_encoder(tmp_path)])
    remote(address, secret, transport=counting).publish(bundle)
    total = counting.count + 1
    assert total == 11
    for lost in range(total):
        ref = make_encoder(tmp_path, network=f"network {lost}".encode())
        bundle = make_bundle(tmp_path, run=f"r{lost}", encoder_refs=[ref])
        done = remote(address, secret, transport=Unlucky({lost})).publish(bundle)
        assert done.version == lost + 2
    assert len(list(store.entries())) == total + 1
    assert store.doctor() == []


@pytest.mark.slow
def test_refusals_are_the_same_as_on_disk(address: str, secret: str, tmp_path: Path) -> None:
    registry = remote(address, secret)
    registry.publish(make_bundle(tmp_path / "a", run="r1"))
    with pytest.raises(ConflictError, match="other content"):
        registry.publish(make_bundle(tmp_path / "b", run="r1", model=b"other"))
    with pytest.raises(NotFoundError):
        registry.fetch("nobody", "gesture", tmp_path / "cache")
    spoilt = make_bundle(tmp_path / "c", run="r2")
    (spoilt / "model.onnx").write_bytes(b"model of rX")
    with pytest.raises(RefusedBundleError, match="sha256"):
        registry.publish(spoilt)
    with pytest.raises(ConflictError, match="MODEL_TRAINER_TOKEN"):
        remote(address, "wrong").publish(make_bundle(tmp_path / "d", run="r3"))


def test_a_damaged_version_is_not_fetched(address: str, secret: str, store: Registry, tmp_path: Path) -> None:
    store.publish(make_bundle(tmp_path))
    store.resolve("user123", "gesture").files["model"].write_bytes(b"model of runX")
    with pytest.raises(CorruptError, match="gesture_model_user123_v1"):
        remote(address, secret).fetch("user123", "gesture", tmp_path / "cache")


def test_no_service_is_said_after_all_attempts(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    registry = RemoteRegistry(f"http://127.0.0.1:{port}", "x", attempts=3, pause=0.0)
    with pytest.raises(UnreachableError, match="after 3 attempts"):
        registry.publish(make_bundle(tmp_path))


@pytest.mark.slow
def test_a_download_continues_where_it_was_cut(address: str, secret: str, store: Registry, tmp_path: Path) -> None:
    content = bytes(range(256)) * 4000
    store.publish(make_bundle(tmp_path, model=content))
    asked: list[str | None] = []

    class Cutting(httpx.BaseTransport):
        """Cuts the first answer that carries the model after some bytes of it."""

        inner = httpx.HTTPTransport()

        def handle_request(self, request: httpx.Request) -> httpx.Response:
            response = self.inner.handle_request(request)
            if request.url.path.endswith("/files/model"):
                asked.append(request.headers.get("range"))
                if len(asked) == 1:
                    return httpx.Response(200, headers=response.headers, stream=_Cut(response.read()[:100_000]))
            return response

    fetched = remote(address, secret, transport=Cutting()).fetch("user123", "gesture", tmp_path / "cache")
    assert fetched.files["model"].read_bytes() == content
    assert asked == [None, "bytes=100000-"]


class Meddling(httpx.BaseTransport):
    """Lets every request for the model through changed: `change` takes the request and gives its response."""

    def __init__(self, change: Callable[[httpx.HTTPTransport, httpx.Request], httpx.Response]) -> None:
        self.inner = httpx.HTTPTransport()
        self.change = change

    def handle_request(self, request: httpx.Request) -> httpx.Response:
        if request.url.path.endswith("/files/model"):
            return self.change(self.inner, request)
        return self.inner.handle_request(request)


@pytest.mark.slow
def test_a_download_starts_again_where_the_service_does_not_continue_it(
    address: str, secret: str, store: Registry, tmp_path: Path
) -> None:
    content = bytes(range(256)) * 4000
    store.publish(make_bundle(tmp_path, model=content))
    statuses: list[int] = []

    def change(inner: httpx.HTTPTransport, request: httpx.Request) -> httpx.Response:
        request.headers.pop("range", None)
        response = inner.handle_request(request)
        statuses.append(response.status_code)
        if len(statuses) == 1:
            return httpx.Response(200, headers=response.headers, stream=_Cut(response.read()[:100_000]))
        return response

    fetched = remote(address, secret, transport=Meddling(change)).fetch("user123", "gesture", tmp_path / "cache")
    assert fetched.files["model"].read_bytes() == content and statuses == [200, 200]


def test_what_was_changed_on_the_way_is_refused_and_not_kept(
    address: str, secret: str, store: Registry, tmp_path: Path
) -> None:
    store.publish(make_bundle(tmp_path))

    def change(inner: httpx.HTTPTransport, request: httpx.Request) -> httpx.Response:
        response = inner.handle_request(request)
        return httpx.Response(200, content=response.read().replace(b"model", b"m0del"))

    with pytest.raises(CorruptError, match="not what was published"):
        remote(address, secret, transport=Meddling(change)).fetch("user123", "gesture", tmp_path / "cache")
    assert not [path for path in (tmp_path / "cache").rglob("*") if "onnx" in path.name]


class _Cut(httpx.SyncByteStream):
    def __init__(self, content: bytes) -> None:
        self.content = content

    def __iter__(self) -> Iterator[bytes]:
        yield self.content
        raise httpx.ReadError("cut")


@pytest.mark.slow
def test_an_upload_that_stops_or_stalls_leaves_nothing(
    address: str, secret: str, store: Registry, tmp_path: Path
) -> None:
    bundle = make_bundle(tmp_path, model=b"m" * 1_000_000)
    headers = {"Authorization": f"Bearer {secret}", "Content-Type": "application/json"}
    begun = httpx.post(f"{address}/v1/uploads", content=(bundle / "bundle.json").read_bytes(), headers=headers).json()
    url = urlparse(address)
    head = (
        f"PUT /v1/uploads/{begun['id']}/files/model HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {secret}\r\n"
        "Content-Length: 1000000\r\n\r\n"
    ).encode()
    with socket.create_connection((url.hostname, url.port), 10) as cut:
        cut.sendall(head + b"m" * 500_000)
    with socket.create_connection((url.hostname, url.port), 10) as stalled:
        stalled.sendall(head + b"m" * 500_000)
        assert stalled.recv(100).startswith(b"HTTP/1.1 408")
    progress = httpx.get(f"{address}/v1/uploads/{begun['id']}", headers=headers).json()
    assert "model" in progress["missing_files"]
    assert not list(store.root.rglob(".*.tmp")) and list(store.entries()) == []
    assert remote(address, secret).publish(bundle).version == 1


def test_slow_clients_do_not_keep_others_waiting(address: str, secret: str, store: Registry, tmp_path: Path) -> None:
    store.publish(make_bundle(tmp_path))
    url = urlparse(address)
    slow = [socket.create_connection((url.hostname, url.port), 10) for _ in range(50)]
    try:
        for connection in slow:
            connection.sendall(b"POST /v1/uploads HTTP/1.1\r\nHost: x\r\nContent-Length: 100\r\n\r\n{")
        assert remote(address, secret, attempts=1).show("user123", "gesture", 1).entry.status == "active"
    finally:
        for connection in slow:
            connection.close()


@pytest.mark.slow
def test_200_clients_at_once_lose_nothing(address: str, secret: str, store: Registry, tmp_path: Path) -> None:
    bundles = [make_bundle(tmp_path, user=f"user{i % 20}", run=f"r{i}") for i in range(200)]

    def work(bundle: Path) -> tuple[str, int]:
        registry = remote(address, secret, attempts=10)
        done = registry.publish(bundle)
        user = done.entry.user_id
        assert registry.fetch(user, "gesture", bundle / "fetched").version >= done.version
        return user, done.version

    with ThreadPoolExecutor(200) as pool:
        found = list(pool.map(work, bundles))
    assert sorted(found) == sorted((f"user{u}", v) for u in range(20) for v in range(1, 11))
    assert all(fault is None for _, fault in store.verify_all())
    assert store.doctor() == [] and not store.reindex()


def test_the_uploader_takes_a_folder_or_an_address(
    address: str, secret: str, store: Registry, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MODEL_TRAINER_TOKEN", secret)
    assert open_writable_registry(address + "/").publish(make_bundle(tmp_path, run="r1")).version == 1
    assert open_writable_registry(str(store.root)).publish(make_bundle(tmp_path, run="r2")).version == 2


def test_a_smuggled_second_length_is_refused(address: str) -> None:
    url = urlparse(address)
    connection = http.client.HTTPConnection(url.hostname or "", url.port, timeout=10)
    connection.putrequest("POST", "/v1/uploads")
    connection.putheader("Content-Length", "5")
    connection.putheader("Transfer-Encoding", "chunked")
    connection.endheaders(b"0\r\n\r\n")
    answer = connection.getresponse()
    assert answer.status in (400, 401)
    assert json.loads(answer.read() or b"{}") is not None if answer.status == 401 else True
    connection.close()
