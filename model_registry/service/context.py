"""What every route needs: the registry, who may use it, and how errors become responses."""

from __future__ import annotations

import base64
import binascii
import json
import logging
import math
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated

from anyio import CapacityLimiter
from fastapi import Depends, HTTPException, Request, Response
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from fastapi.security import HTTPAuthorizationCredentials, HTTPBearer
from prometheus_client import CollectorRegistry

from model_registry.errors import (
    ConflictError,
    CorruptError,
    DocumentError,
    InvalidNameError,
    LockedError,
    NotFoundError,
    QuotaError,
    RefusedBundleError,
    RegistryError,
    StorageError,
)
from model_registry.service.field import FieldFile
from model_registry.service.limits import Limits, RateLimiter
from model_registry.service.quotas import Quotas
from model_registry.storage.tokens import Scope, Token, read_tokens, token_hash
from model_registry.storage.uploads import remove_abandoned_uploads
from model_registry.store import Registry

_LOG = logging.getLogger("model_registry")
_SWEEP_SECONDS = 600.0
_STATUS: tuple[tuple[type[RegistryError], int], ...] = (
    (InvalidNameError, 422),
    (NotFoundError, 404),
    (DocumentError, 422),
    (RefusedBundleError, 422),
    (QuotaError, 413),
    (ConflictError, 409),
    (CorruptError, 500),
    (LockedError, 503),
    (StorageError, 507),
)


@dataclass
class Service:
    """One running service. The only state that is not on disk: rate limits and the tokens of the last second."""

    registry: Registry
    tokens_path: Path
    limits: Limits
    metrics: CollectorRegistry = field(default_factory=CollectorRegistry)
    in_use: FieldFile = field(default_factory=lambda: FieldFile(None))
    # Lists are Python at work: more threads at once would only wait for each other, and double what a list takes.
    listing: CapacityLimiter = field(default_factory=lambda: CapacityLimiter(2))

    def __post_init__(self) -> None:
        self._requests = RateLimiter(self.limits.requests_a_minute, self.limits.remembered)
        self._failures = RateLimiter(self.limits.failures_a_minute, self.limits.remembered)
        self._swept = -math.inf
        self.quotas = Quotas(self.registry.root, self.limits)
        self._tokens: tuple[float, dict[str, Token]] = (-math.inf, {})

    def sweep_uploads(self) -> None:
        """Remove abandoned uploads, at most every few minutes: it reads the folder of each."""
        if time.monotonic() - self._swept > _SWEEP_SECONDS:
            self._swept = time.monotonic()
            remove_abandoned_uploads(self.registry.root)

    def token(self, secret: str) -> Token | None:
        """Return the token that `secret` is, if it is one. The file is read again every second."""
        read, known = self._tokens
        if time.monotonic() - read > 1.0:
            try:
                known = {token.sha256: token for token in read_tokens(self.tokens_path).tokens}
            except (RegistryError, OSError) as error:  # those of the last second keep their rights
                _LOG.error("the tokens cannot be read: %s", error)
                if math.isinf(read):
                    raise HTTPException(503, "the service's tokens cannot be read") from None
            self._tokens = (time.monotonic(), known)
        return known.get(token_hash(secret))

    def authorise(self, secret: str | None, address: str, challenge: str) -> Token:
        """Return the token that a secret is, if it may be used now.

        Raises HTTPException 401, with `challenge` as the way to sign in, or 429.
        """
        token = None if secret is None else self.token(secret)
        if token is None:
            if secret is not None and (wait := self._failures.wait(address)) > 0:
                raise _later(wait)
            raise HTTPException(401, "a token is required", {"WWW-Authenticate": challenge})
        if (wait := self._requests.wait(token.name)) > 0:
            raise _later(wait)
        return token


def require(token: Token, scope: Scope, user: str | None) -> None:
    """Raise HTTPException 403 unless a token may be used for `scope` on the models of `user`, or on everybody's."""
    if not token.allows(scope, user):
        wanted = scope if user is None else f"{scope}:{user}"
        raise HTTPException(403, f"the token does not have the scope {wanted!r}")


def _later(seconds: float) -> HTTPException:
    return HTTPException(429, "too many requests", {"Retry-After": str(math.ceil(seconds))})


# Alone: of several challenges in one header Chromium shows no password prompt.
PASSWORD_PROMPT = 'Basic realm="registry", charset="UTF-8"'
_bearer = HTTPBearer(auto_error=False, description="A token made with `model-trainer registry token add`.")


def service_of(request: Request) -> Service:
    """Return the service that handles a request."""
    service: Service = request.app.state.service
    return service


def needs(scope: Scope, *, of_somebody: bool = False) -> Callable[..., Awaitable[Token]]:
    """Return a dependency that lets a request pass only with a token of `scope` for the user that it names.

    With `of_somebody` a token for anybody passes: for what is nobody's, and where the route itself calls `require`.

    A browser may send the token as a password, but only to read: browsers add passwords to requests by themselves, so
    any other site's page could otherwise change something.
    """

    async def check(
        request: Request, bearer: Annotated[HTTPAuthorizationCredentials | None, Depends(_bearer)]
    ) -> Token:
        secret = bearer.credentials if bearer is not None else None
        challenge = 'Bearer realm="registry"'
        if request.method in ("GET", "HEAD"):
            challenge = PASSWORD_PROMPT
            secret = secret or _password(request.headers.get("authorization", ""))
        address = request.client.host if request.client is not None else ""
        token = service_of(request).authorise(secret, address, challenge)
        request.state.token = token.name
        if not (of_somebody and token.allows_for_somebody(scope)):
            require(token, scope, request.path_params.get("user") or request.query_params.get("user"))
        return token

    return check


def _password(header: str) -> str | None:
    scheme, _, value = header.partition(" ")
    if scheme.lower() != "basic":
        return None
    try:
        return base64.b64decode(value, validate=True).decode().partition(":")[2]
    except (binascii.Error, UnicodeDecodeError):
        return None


async def refusal(request: Request, error: Exception) -> JSONResponse:
    """Report what the registry refuses, without naming its folder on the disk."""
    status = next((code for kind, code in _STATUS if isinstance(error, kind)), 422)
    detail = str(error).replace(f"{service_of(request).registry.root}/", "")
    return JSONResponse({"detail": detail, "error": type(error).__name__}, status)


async def malformed(request: Request, error: Exception) -> Response:
    """Report every fault of a malformed request, without repeating what was sent: it may not be valid JSON."""
    assert isinstance(error, RequestValidationError)
    faults = [{"loc": list(fault["loc"]), "msg": str(fault["msg"])} for fault in error.errors()]
    return Response(json.dumps({"detail": faults}), 422, media_type="application/json")
