"""The registry over HTTP: `model-trainer registry serve`."""

from __future__ import annotations

import logging
from pathlib import Path

from fastapi import FastAPI, Response
from fastapi.exceptions import RequestValidationError

from model_registry.errors import RegistryError
from model_registry.service import api_reading, api_writing, pages
from model_registry.service.context import Service, malformed, refusal
from model_registry.service.limits import GuardedBody, Limits
from model_registry.service.metrics import RequestMetrics, exposition
from model_registry.storage.tokens import tokens_file
from model_registry.store import Registry

_REFUSALS = {
    400: "invalid JSON",
    401: "no token, or an unknown one",
    403: "the token does not have the scope",
    404: "not found",
    409: "contradicts what the registry holds",
    413: "too large",
    422: "malformed",
    429: "too many requests",
}


def create_app(registry: Registry, *, tokens: Path | None = None, limits: Limits | None = None) -> FastAPI:
    """Return the service for a registry, whose folder is created if there is none. Nothing is scanned."""
    root = registry.created()
    service = Service(registry, tokens or tokens_file(root), limits or Limits())
    app = FastAPI(
        title="Model registry",
        version="1",
        description="Publish, find and withdraw the models of people who communicate by gesture, sound and context.",
        docs_url=None,  # its page would load scripts from elsewhere
        redoc_url=None,
        responses={code: {"description": text} for code, text in _REFUSALS.items()},
    )
    app.state.service = service
    app.include_router(api_reading.router)
    app.include_router(api_writing.router)
    app.include_router(pages.router)
    app.add_exception_handler(RegistryError, refusal)
    app.add_exception_handler(RequestValidationError, malformed)

    @app.get("/health", tags=["operations"])
    def health() -> dict[str, str]:
        """Report that the service runs and its folder can be read."""
        registry.created()
        return {"status": "ok"}

    @app.get("/metrics", tags=["operations"], response_class=Response)
    def metrics() -> Response:
        """Return Prometheus metrics."""
        return Response(exposition(service.metrics), media_type="text/plain; version=0.0.4; charset=utf-8")

    app.add_middleware(GuardedBody, limits=service.limits)
    app.add_middleware(RequestMetrics, metrics=service.metrics)
    return app


def serve(registry: Registry, host: str, port: int, *, tokens: Path | None = None) -> None:
    """Handle requests until interrupted."""
    import uvicorn

    handler = logging.StreamHandler()
    handler.setFormatter(logging.Formatter("%(message)s"))
    log = logging.getLogger("model_registry.access")
    log.addHandler(handler)
    log.setLevel(logging.INFO)
    app = create_app(registry, tokens=tokens)
    uvicorn.run(app, host=host, port=port, access_log=False, limit_concurrency=1000, timeout_keep_alive=15)
