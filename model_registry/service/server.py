"""The registry over HTTP: `model-trainer registry serve`."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import uvicorn
from anyio import CapacityLimiter, fail_after, to_thread
from fastapi import FastAPI, Request, Response
from fastapi.exception_handlers import http_exception_handler
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from starlette.exceptions import HTTPException

from model_registry.errors import RegistryError
from model_registry.service import api_reading, api_writing, pages
from model_registry.service.connections import protocol
from model_registry.service.context import Service, malformed, refusal
from model_registry.service.field import FieldFile, count_in_use
from model_registry.service.limits import GuardedBody, Limits
from model_registry.service.metrics import RequestMetrics, exposition, log_requests
from model_registry.storage import durable
from model_registry.storage.tokens import tokens_file
from model_registry.store import Registry

_READY_SECONDS = 2.0
_REFUSALS = {
    400: "invalid JSON",
    401: "no token, or an unknown one",
    403: "the token does not have the scope",
    404: "not found",
    409: "contradicts what the registry holds",
    413: "too large",
    422: "malformed",
    429: "too many requests",
    503: "another process holds a lock for too long",
}


def create_app(
    registry: Registry, *, tokens: Path | None = None, limits: Limits | None = None, field: Path | None = None
) -> FastAPI:
    """Return the service for a registry. Nothing is scanned or written.

    `field` is a file that `model-trainer field --json` printed, for what versions do in use.
    """
    in_use = FieldFile(field)
    service = Service(registry, tokens or tokens_file(registry.root), limits or Limits(), in_use=in_use)
    if field is not None:
        count_in_use(in_use, service.metrics)
    app = FastAPI(
        title="Model registry",
        version="1",
        description="Publish, find and withdraw the models of people who communicate by gesture, sound and context.",
        docs_url=None,  # its page would load scripts from elsewhere
        redoc_url=None,
        responses={code: {"description": text} for code, text in _REFUSALS.items()},
    )
    app.state.service = service
    app.add_exception_handler(RegistryError, pages.readable(refusal))
    app.add_exception_handler(RequestValidationError, pages.readable(malformed))
    app.add_exception_handler(HTTPException, pages.readable(_other_refusal))

    @app.get("/health", tags=["operations"])
    async def health() -> dict[str, str]:
        """Report that the service runs. It needs neither the disk nor a thread, so nothing that hangs stops it."""
        return {"status": "ok"}

    reading = CapacityLimiter(1)

    @app.get("/ready", tags=["operations"], responses={503: {"description": "the registry cannot be read"}})
    async def ready() -> JSONResponse:
        """Report whether the registry can be read. Nothing is written."""
        try:
            with fail_after(_READY_SECONDS):
                await to_thread.run_sync(registry.existing, limiter=reading, abandon_on_cancel=True)
        except (RegistryError, OSError, TimeoutError):
            return JSONResponse({"status": "the registry cannot be read"}, 503)
        return JSONResponse({"status": "ok"})

    @app.get("/metrics", tags=["operations"], response_class=Response)
    def metrics() -> Response:
        """Return Prometheus metrics."""
        return Response(exposition(service.metrics), media_type="text/plain; version=0.0.4; charset=utf-8")

    # Routes are tried in turn: those above, which monitoring requests all the time, come before the many others.
    app.include_router(api_reading.router)
    app.include_router(api_writing.router)
    app.include_router(pages.router)
    app.add_middleware(GuardedBody, limits=service.limits)
    app.add_middleware(RequestMetrics, metrics=service.metrics)
    return app


async def _other_refusal(request: Request, error: Exception) -> Response:
    """Report what a route, or the lack of one, refuses."""
    assert isinstance(error, HTTPException)
    return await http_exception_handler(request, error)


def serve(
    registry: Registry,
    host: str,
    port: int,
    limits: Limits,
    *,
    tokens: Path | None = None,
    field: Path | None = None,
) -> None:
    """Handle requests until interrupted. Raises NoRegistryError where the folder holds no registry."""
    log_requests()
    registry.changeable()
    durable.LOCK_SECONDS = limits.lock_seconds  # a request waits less than a command, so that threads stay free
    server_of(create_app(registry, tokens=tokens, limits=limits, field=field), limits, host=host, port=port).run()


def server_of(app: FastAPI, limits: Limits, **options: Any) -> uvicorn.Server:
    """Return the server of a service, which closes connections whose requests do not arrive in time."""
    config = uvicorn.Config(
        app,
        access_log=False,
        limit_concurrency=1000,
        timeout_keep_alive=15,
        http=protocol(limits.header_seconds, limits.waiting_connections),
        **options,
    )
    return uvicorn.Server(config)
