"""What operators see: Prometheus metrics and an access log, both without personal data."""

from __future__ import annotations

import json
import logging
import time

from prometheus_client import CollectorRegistry, Counter, Histogram, generate_latest
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from model_registry.timestamps import utc_now

access_log = logging.getLogger("model_registry.access")


class RequestMetrics:
    """ASGI middleware that counts and logs requests by route, never by path: paths hold user ids."""

    def __init__(self, app: ASGIApp, metrics: CollectorRegistry) -> None:
        self.app = app
        labels = ["method", "route", "status"]
        self.requests = Counter("registry_requests", "Requests handled.", labels, registry=metrics)
        self.seconds = Histogram("registry_seconds", "Seconds to respond.", ["method", "route"], registry=metrics)
        self.sent = Counter("registry_sent_bytes", "Bytes of bodies sent.", registry=metrics)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Handle one connection."""
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        start, status, sent = time.perf_counter(), 499, 0

        async def watched(message: Message) -> None:
            nonlocal status, sent
            if message["type"] == "http.response.start":
                status = message["status"]
            sent += len(message.get("body", b""))
            await send(message)

        try:
            await self.app(scope, receive, watched)
        except BaseException:
            status = 500
            raise
        finally:
            seconds = time.perf_counter() - start
            matched = scope.get("route")
            route = getattr(matched, "path", "none")
            method = scope["method"] if matched is not None else "other"
            self.requests.labels(method, route, str(status)).inc()
            self.seconds.labels(method, route).observe(seconds)
            self.sent.inc(sent)
            line = {"method": method, "route": route, "status": status, "seconds": round(seconds, 6), "bytes": sent}
            line = {"time": utc_now()} | line
            access_log.info(json.dumps(line | {"token": scope.get("state", {}).get("token", "")}))


def log_requests() -> None:
    """Write the access log to stderr, one JSON object a line."""
    handler = logging.StreamHandler()
    handler.setFormatter(logging.Formatter("%(message)s"))
    access_log.addHandler(handler)
    access_log.setLevel(logging.INFO)


def exposition(metrics: CollectorRegistry) -> bytes:
    """Return the metrics in Prometheus' text format."""
    return generate_latest(metrics)
