"""A registry's service on a port of this machine, in a thread of the test."""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager

from model_registry.service.limits import Limits
from model_registry.service.server import create_app, server_of
from model_registry.store import Registry


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
