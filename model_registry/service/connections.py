"""Connections whose request does not arrive in time are closed, so that half-sent headers keep nobody else out."""

from __future__ import annotations

import asyncio
from collections import OrderedDict
from dataclasses import dataclass, field
from functools import partial
from typing import Any

from uvicorn.protocols.http.h11_impl import H11Protocol


@dataclass
class Waiting:
    """The connections of one service on which no complete header has arrived yet, oldest first."""

    header_seconds: float
    most: int
    connections: OrderedDict[HeaderTimeoutProtocol, asyncio.TimerHandle] = field(default_factory=OrderedDict)

    def begin(self, connection: HeaderTimeoutProtocol, loop: asyncio.AbstractEventLoop) -> None:
        """Give a connection its time for a header; where too many wait, the oldest is closed."""
        if connection in self.connections:
            return
        self.connections[connection] = loop.call_later(self.header_seconds, self.close, connection)
        while len(self.connections) > self.most:
            self.close(next(iter(self.connections)))

    def end(self, connection: HeaderTimeoutProtocol) -> None:
        """Note that a connection's header is complete, or that the connection is gone."""
        timer = self.connections.pop(connection, None)
        if timer is not None:
            timer.cancel()

    def close(self, connection: HeaderTimeoutProtocol) -> None:
        """Close a connection at once."""
        self.end(connection)
        if not connection.transport.is_closing():
            connection.transport.abort()


class HeaderTimeoutProtocol(H11Protocol):
    """uvicorn's HTTP protocol with a total time for a request's header, from its connection or its first byte."""

    def __init__(self, waiting: Waiting, *arguments: Any, **options: Any) -> None:
        super().__init__(*arguments, **options)
        self._waiting = waiting

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Begin to wait for the first header."""
        super().connection_made(transport)
        self._waiting.begin(self, self.loop)

    def data_received(self, data: bytes) -> None:
        """Take what arrived; a request that is being handled has all the time that its body may take."""
        super().data_received(data)
        if self.cycle is not None and not self.cycle.response_complete:
            self._waiting.end(self)
        elif not self.transport.is_closing():
            self._waiting.begin(self, self.loop)

    def connection_lost(self, exc: Exception | None) -> None:
        """Forget the connection."""
        self._waiting.end(self)
        super().connection_lost(exc)


def protocol(header_seconds: float, most: int) -> Any:
    """Return what uvicorn makes a protocol with for each connection of one service."""
    return partial(HeaderTimeoutProtocol, Waiting(header_seconds, most))
