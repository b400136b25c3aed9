"""The thin client: connections that are kept and used again, and nothing between a request and its socket.

Requests cost a few microseconds here and a hundred with aiohttp (docs/decisions/0013). It speaks HTTP/1.1 and does
what the port says, no more. A request that meets a connection the server has just given up is `BROKEN` and not sent
again: whether the server worked on it cannot be known.
"""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from functools import partial

from nightshift_processor.client.dial import Dialer
from nightshift_processor.client.exchange import Connection, Outbox
from nightshift_processor.client.port import (
    CONNECT_TIMEOUT_S,
    IDLE_S,
    Answer,
    Endpoint,
    Failure,
    ModelClient,
    NoAnswer,
)
from nightshift_processor.client.route import find_route

_READ_BYTES = 64 << 10
_LIFE_S = 60.0
"""Seconds after which a connection gives way to a new one, so that servers which came later get their share."""


class ThinClient:
    """See the port."""

    def __init__(self, endpoint: Endpoint) -> None:
        route = find_route(endpoint)
        self._loop = asyncio.get_running_loop()
        self._timeout_s = endpoint.timeout_s
        self._head = route.head
        self._dialer = Dialer(route)
        self._new = partial(Connection, memoryview(bytearray(_READ_BYTES)), Outbox(), endpoint.max_answer_bytes)
        self._idle: list[Connection] = []
        self._open: set[Connection] = set()
        self._is_closed = False

    async def post(self, body: bytes) -> Answer:
        """See the port."""
        expires = self._loop.time() + self._timeout_s
        connection = self._take() or await self._dial(expires)
        try:
            return await connection.exchange(b"%bContent-Length: %d\r\n\r\n%b" % (self._head, len(body), body), expires)
        finally:
            self._give_back(connection)

    def close(self) -> None:
        """Abort whatever is open."""
        self._is_closed = True
        for connection in self._open:
            connection.abort()

    def _take(self) -> Connection | None:
        """Take the connection that was used last, if it can be used again."""
        while self._idle:
            connection = self._idle.pop()
            if connection.is_usable() and self._loop.time() < connection.idle_since + IDLE_S:
                return connection
            self._drop(connection)
        return None

    def _give_back(self, connection: Connection) -> None:
        now = self._loop.time()
        if connection.is_usable() and now < connection.born + _LIFE_S:
            connection.idle_since = now
            self._idle.append(connection)
        else:
            self._drop(connection)

    def _drop(self, connection: Connection) -> None:
        connection.abort()
        self._open.discard(connection)

    async def _dial(self, expires: float) -> Connection:
        patience = min(expires, self._loop.time() + CONNECT_TIMEOUT_S)
        try:
            async with asyncio.timeout_at(patience):
                connection = await self._dialer.dial(self._new)
        except OSError as error:
            is_over = isinstance(error, TimeoutError) and patience == expires
            raise NoAnswer(Failure.TIMEOUT if is_over else Failure.NOT_CONNECTED) from error
        self._open.add(connection)
        if self._is_closed:
            self._drop(connection)
            raise NoAnswer(Failure.NOT_CONNECTED)
        return connection


@asynccontextmanager
async def open_thin(endpoint: Endpoint) -> AsyncIterator[ModelClient]:
    """Open it for as long as the context lasts; leaving it aborts what is in flight."""
    client = ThinClient(endpoint)
    try:
        yield client
    finally:
        client.close()
