"""A registry's service on a port of this machine, in a thread of the test, and its routes."""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from urllib.parse import urlencode

from fastapi import APIRouter, FastAPI
from fastapi.routing import APIRoute
from starlette.routing import Route

from model_registry.service.limits import Limits
from model_registry.service.server import create_app, server_of
from model_registry.store import Registry


def routes(of: FastAPI | APIRouter) -> Iterator[Route]:
    """Yield every route of a service, those of included routers, too."""
    for route in of.routes:
        included = getattr(route, "original_router", None)
        if included is not None:
            yield from routes(included)
        else:
            assert isinstance(route, Route)
            yield route


def page_addresses(values: Mapping[str, str]) -> dict[str, str]:
    """Return the path of each page of the service with `values` for its parameters: route -> path and query.

    Raises KeyError where a page must be asked with something that is not in `values`.
    """
    files = "/users/{user}/{modality}/{version}/files/{role}"  # sent as they are: no pages
    found = {}
    for route in routes(create_app(Registry(Path("nowhere")))):
        if (
            isinstance(route, APIRoute)
            and "GET" in route.methods
            and not route.include_in_schema
            and route.path != files
        ):
            needed = [field.name for field in route.dependant.query_params if field.field_info.is_required()]
            query = urlencode({name: values[name] for name in needed})
            found[route.path] = "?".join(filter(None, (route.path.format(**values), query)))
    return found


@contextmanager
def served(store: Registry, limits: Limits | None = None) -> Iterator[str]:
    """Yield the address of a running service; it is stopped at the end."""
    listening = socket.create_server(("127.0.0.1", 0), backlog=512)
    server = server_of(create_app(store, limits=limits), limits or Limits(), log_level="critical")
    thread = threading.Thread(target=server.run, args=([listening],), daemon=True)
    thread.start()
    deadline = time.monotonic() + 30
    while not server.started:
        assert time.monotonic() < deadline, "the service did not start"
        time.sleep(0.01)
    try:
        yield f"http://127.0.0.1:{listening.getsockname()[1]}"
    finally:
        server.should_exit = True
        thread.join(30)
        listening.close()
