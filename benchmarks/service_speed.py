"""Requests a second of the registry's service, and of plain Starlette for comparison: `make bench-service`.

Eight connections of one client send requests without a pause. The service and the plain application run in a process
each, under the same server; their turns alternate, so that ratios mean something on a busy machine, too. Processor
milliseconds are the server's own and depend less on what else runs. Appends one line to
benchmarks/results/service_speed.jsonl.
"""

from __future__ import annotations

import json
import multiprocessing
import os
import selectors
import socket
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import Annotated, Any

import click
import psutil
import uvicorn
from fastapi import Depends
from rich.console import Console
from rich.table import Table
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse
from starlette.routing import Mount, Route
from starlette.staticfiles import StaticFiles

from benchmarks.real_data import ROOT
from benchmarks.registry_speed import fill, make_bundle
from benchmarks.speed import machine
from model_registry.service.context import needs
from model_registry.service.limits import Limits
from model_registry.service.metrics import log_requests
from model_registry.service.server import create_app, server_of
from model_registry.storage.tokens import Token, add_token, tokens_file
from model_registry.store import Registry

RESULTS = ROOT / "benchmarks" / "results" / "service_speed.jsonl"
CONNECTIONS = 8
USERS, VERSIONS = 50, 4
_OWNER = "user000000"  # whose active version has a model of 1 MB
_STARTING_SECONDS = 30.0


@dataclass(frozen=True)
class Case:
    """A request, the one of the plain application that it is compared with, and the least that is wanted."""

    path: str
    plain: str
    requests_a_second: float | None = None
    ratio: float | None = None  # of the plain application's requests a second


@dataclass(frozen=True)
class Rate:
    """What one turn measured."""

    a_second: float
    processor_ms: float  # of the server, a request


CASES = {
    "health": Case("/health", "/json", requests_a_second=1500),
    "no work, with a token": Case("/nothing", "/json"),
    "resolve": Case("/v1/models/user000003/gesture", "/json", requests_a_second=1000),
    "list of 100 versions": Case("/v1/models?limit=100", "/json", requests_a_second=300),
    "page of 25 users": Case("/", "/json"),
    "model of 1 MB": Case(
        f"/v1/models/{_OWNER}/gesture/versions/{VERSIONS + 1}/files/model", "/files/model", ratio=0.95
    ),
}
SHARED_LAYERS_MS = 0.3  # that token, metrics, log and guards may take of the processor


@click.command()
@click.option("--rounds", default=5, show_default=True, help="Turns of each request; medians are printed.")
@click.option("--seconds", default=1.0, show_default=True, help="Length of a turn.")
@click.option(
    "--case", "names", multiple=True, type=click.Choice(list(CASES)), help="Measure this only; may be repeated."
)
def main(rounds: int, seconds: float, names: tuple[str, ...]) -> None:
    """Measure the service and plain Starlette in one run.

    \b
    Example:
      python -m benchmarks.service_speed --rounds 9 --case resolve
    """
    with tempfile.TemporaryDirectory() as folder, ExitStack() as stack:
        registry, token = _registry(Path(folder))
        service = stack.enter_context(_running(_service, registry.root))
        model = registry.resolve(_OWNER, "gesture").files["model"]
        plain = stack.enter_context(_running(_plain, model.parent))
        time.sleep(2.5)  # files that changed within the last two seconds are read again at every request
        rows = [_row(name, CASES[name], service, plain, model.name, token, rounds, seconds) for name in names or CASES]
    Console(width=120).print(_table(rows))
    layers = next((row for row in rows if row["request"] == "no work, with a token"), None)
    if layers is not None:
        cost = layers["processor_ms"] - layers["plain_processor_ms"]
        click.echo(f"token, metrics, log and guards: {cost:.3f} ms of the processor (target {SHARED_LAYERS_MS:g})")
    RESULTS.parent.mkdir(parents=True, exist_ok=True)
    with RESULTS.open("a") as file:
        file.write(json.dumps({"time": time.strftime("%Y-%m-%d"), "machine": machine(), "rows": rows}) + "\n")
    click.echo(f"appended to {RESULTS.relative_to(ROOT)}")


def _registry(place: Path) -> tuple[Registry, str]:
    """Return a registry of small models and one of 1 MB, and a token that may read it."""
    registry = Registry(place / "registry")
    fill(registry.created(), USERS, VERSIONS)
    registry.publish(make_bundle(place / "bundle", _OWNER, "large"))
    return registry, add_token(tokens_file(registry.root), "bench", ("read",))


def _row(
    name: str, case: Case, service: _Server, plain: _Server, model: str, token: str, rounds: int, seconds: float
) -> dict[str, Any]:
    path = case.plain.replace("/files/model", f"/files/{model}")
    pairs = [
        (
            _rate(service, case.path, seconds, f"Authorization: Bearer {token}\r\n"),
            _rate(plain, path, seconds),
        )
        for _ in range(rounds + 1)
    ][1:]  # the first fills caches
    ours, others = zip(*pairs, strict=True)
    return {
        "request": name,
        "a_second": median(rate.a_second for rate in ours),
        "plain_a_second": median(rate.a_second for rate in others),
        "ratio": median(rate.a_second / other.a_second for rate, other in pairs),
        "processor_ms": median(rate.processor_ms for rate in ours),
        "plain_processor_ms": median(rate.processor_ms for rate in others),
        "wanted_a_second": case.requests_a_second,
        "wanted_ratio": case.ratio,
    }


def _table(rows: list[dict[str, Any]]) -> Table:
    table = Table(title=f"{CONNECTIONS} connections, medians; plain Starlette answers with JSON or the same file")
    for name in ("request", "a second", "target", "plain", "ratio", "target ", "CPU ms", "plain CPU ms"):
        table.add_column(name, justify="left" if name == "request" else "right")
    for row in rows:
        table.add_row(
            row["request"],
            f"{row['a_second']:,.0f}",
            "" if row["wanted_a_second"] is None else f"{row['wanted_a_second']:,.0f}",
            f"{row['plain_a_second']:,.0f}",
            f"{row['ratio']:.2f}",
            "" if row["wanted_ratio"] is None else f"{row['wanted_ratio']:.2f}",
            f"{row['processor_ms']:.3f}",
            f"{row['plain_processor_ms']:.3f}",
        )
    return table


# --- servers, each in a process of its own


@dataclass(frozen=True)
class _Server:
    port: int
    process: psutil.Process

    def processor_seconds(self) -> float:
        """Return what all threads of the server have used so far."""
        times = self.process.cpu_times()
        return float(times.user + times.system)


@contextmanager
def _running(serve: Callable[[int, Path], None], folder: Path) -> Iterator[_Server]:
    """Yield a server that runs in another process."""
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    process = multiprocessing.get_context("spawn").Process(target=serve, args=(port, folder), daemon=True)
    process.start()
    try:
        _wait_for(port)
        yield _Server(port, psutil.Process(process.pid))
    finally:
        process.terminate()
        process.join()


def _wait_for(port: int) -> None:
    deadline = time.monotonic() + _STARTING_SECONDS
    while time.monotonic() < deadline:
        try:
            return socket.create_connection(("127.0.0.1", port)).close()
        except ConnectionRefusedError:
            time.sleep(0.05)
    raise click.ClickException("the server did not start")


def _service(port: int, folder: Path) -> None:
    """Run the service, with its log as in use, and one more route that does nothing."""
    sys.stderr = Path(os.devnull).open("w")  # noqa: SIM115 - for as long as the process lives
    limits = Limits(requests_a_minute=10**9)
    app = create_app(Registry(folder), limits=limits)

    @app.get("/nothing")
    async def nothing(token: Annotated[Token, Depends(needs("read"))]) -> dict[str, str]:
        return {"status": "ok"}

    log_requests()
    server_of(app, limits, log_level="warning", port=port).run()


def _plain(port: int, folder: Path) -> None:
    """Run an application that answers with JSON, and serves the files of a folder."""

    async def answer(request: Request) -> JSONResponse:
        return JSONResponse({"status": "ok"})

    app = Starlette(routes=[Route("/json", answer), Mount("/files", StaticFiles(directory=folder))])
    uvicorn.Server(uvicorn.Config(app, http="h11", access_log=False, log_level="warning", port=port)).run()


# --- the client


class _Connection:
    """One connection, which sends the next request as soon as it has the whole response."""

    def __init__(self, port: int, request: bytes) -> None:
        self.socket = socket.create_connection(("127.0.0.1", port))
        self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._request = request
        self._head, self._left = b"", 0

    def send(self) -> None:
        """Send the request."""
        self.socket.sendall(self._request)

    def receive(self) -> bool:
        """Take what has arrived; return whether the response is complete. Raises ClickException unless it is 200."""
        data = self.socket.recv(1 << 20)
        if not data:
            raise click.ClickException(f"{self._request!r}: the server closed the connection")
        if self._left:
            self._left -= len(data)
            return self._left == 0
        self._head += data
        head, end, body = self._head.partition(b"\r\n\r\n")
        if not end:
            return False
        if not head.startswith(b"HTTP/1.1 200"):
            raise click.ClickException(f"{self._request!r}: {self._head[:500]!r}")
        length = head.lower().partition(b"content-length: ")[2].partition(b"\r\n")[0]
        self._head, self._left = b"", int(length) - len(body)
        return self._left == 0


def _rate(server: _Server, path: str, seconds: float, header: str = "") -> Rate:
    """Return how many requests a second the server handles."""
    request = f"GET {path} HTTP/1.1\r\nHost: localhost\r\n{header}\r\n".encode()
    with ExitStack() as stack:
        selector = stack.enter_context(selectors.DefaultSelector())
        before, started = server.processor_seconds(), time.perf_counter()
        for _ in range(CONNECTIONS):
            connection = _Connection(server.port, request)
            stack.enter_context(connection.socket)
            selector.register(connection.socket, selectors.EVENT_READ, connection)
            connection.send()
        handled = 0
        while (elapsed := time.perf_counter() - started) < seconds:
            for key, _ in selector.select(timeout=1.0):
                if key.data.receive():
                    handled += 1
                    key.data.send()
        processor = server.processor_seconds() - before
    return Rate(handled / elapsed, 1000 * processor / max(handled, 1))


if __name__ == "__main__":
    main()
