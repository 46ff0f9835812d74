"""How much one client may send and request: body size, time for header and body, requests a minute."""

from __future__ import annotations

import asyncio
import json
import threading
import time
from collections import OrderedDict
from contextlib import suppress
from dataclasses import dataclass, field

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from model_registry.storage.entry import DOCUMENT_LIMIT
from model_registry.storage.publication import ENCODER_LIMIT


@dataclass(frozen=True)
class Limits:
    """What the service allows."""

    document_bytes: int = DOCUMENT_LIMIT
    file_bytes: int = ENCODER_LIMIT
    silence_seconds: float = 30.0  # between two pieces of a request
    header_seconds: float = 10.0  # for a whole header
    waiting_connections: int = 256  # without a whole header; of more, the oldest are closed
    body_seconds: float = 60.0  # for a whole document, and for a file besides what its size takes at the slowest rate
    slowest_bytes_a_second: int = 32_000  # of a file
    lock_seconds: float = 20.0  # that a request waits for a lock
    uploads_at_once: int = 1000  # that have begun
    uploads_bytes: int = 20_000_000_000  # of all uploads that have begun
    person_bytes: int = 20_000_000_000  # of one person's published versions and uploads
    requests_a_minute: int = 1200  # of one token
    failures_a_minute: int = 30  # refused tokens from one address
    remembered: int = 10_000  # clients whose bucket is kept


@dataclass
class RateLimiter:
    """One token bucket for each client: it refills evenly, and holds what one minute allows."""

    a_minute: int
    remembered: int
    _left: OrderedDict[str, tuple[float, float]] = field(default_factory=OrderedDict)
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def wait(self, client: str) -> float:
        """Return 0 if the client may send a request now, else the seconds until it may."""
        now = time.monotonic()
        rate = self.a_minute / 60
        with self._lock:
            left, then = self._left.pop(client, (float(self.a_minute), now))
            left = min(float(self.a_minute), left + (now - then) * rate)
            allowed = left >= 1
            self._left[client] = (left - 1 if allowed else left, now)
            while len(self._left) > self.remembered:
                self._left.popitem(last=False)
        return 0.0 if allowed else (1 - left) / rate


class EndedError(Exception):
    """The body is too large, or no data arrived for too long."""


class GuardedBody:
    """ASGI middleware that ends a request whose body is too large or stalls, before anything of it is kept."""

    def __init__(self, app: ASGIApp, limits: Limits) -> None:
        self.app = app
        self.limits = limits

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Handle one connection."""
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        upload = scope["method"] == "PUT" and scope["path"].startswith("/v1/uploads/")
        limit = self.limits.file_bytes if upload else self.limits.document_bytes
        declared = next((value for name, value in scope["headers"] if name == b"content-length"), b"0")
        if not declared.isdigit() or int(declared) > limit:
            await _refuse(send, 413, f"the body may have at most {limit} bytes")
            return
        received, whole, started, ended = 0, False, False, 0
        size = int(declared) or limit
        allowed = self.limits.body_seconds + (size / self.limits.slowest_bytes_a_second if upload else 0.0)
        deadline = time.monotonic() + allowed

        async def guarded() -> Message:
            nonlocal received, whole, ended
            if whole:
                return await receive()  # waits until the client disconnects
            try:
                left = deadline - time.monotonic()
                message = await asyncio.wait_for(receive(), max(0.0, min(self.limits.silence_seconds, left)))
            except TimeoutError:
                ended = 408
                raise EndedError from None
            received += len(message.get("body", b""))
            whole = not message.get("more_body", False)
            if received > limit:
                ended = 413
                raise EndedError
            return message

        async def watched(message: Message) -> None:
            nonlocal started
            if started or not ended:
                started = True
                await send(message)  # once the body was ended, the application's own response is dropped

        with suppress(EndedError):
            await self.app(scope, guarded, watched)
        if ended and not started:
            text = f"the body may have at most {limit} bytes" if ended == 413 else "the body arrived too slowly"
            await _refuse(send, ended, text)


async def _refuse(send: Send, status: int, detail: str) -> None:
    body = json.dumps({"detail": detail}).encode()
    headers = [(b"content-type", b"application/json"), (b"content-length", str(len(body)).encode())]
    headers.append((b"connection", b"close"))
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": body})
