"""The thin client: connections that are kept and used again, and nothing between a request and its socket.

Requests cost a few microseconds here and a hundred with aiohttp (docs/decisions/0013). It speaks HTTP/1.1 and does
what the port says, no more. A request that meets a connection the server has just given up is `BROKEN` and not sent
again: whether the server worked on it cannot be known.
"""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from functools import partial

from nightshift_crds.several import Start, errands
from nightshift_processor.client.dial import Dialer
from nightshift_processor.client.exchange import Connection, Inbox, Outbox
from nightshift_processor.client.port import (
    CONNECT_TIMEOUT_S,
    IDLE_S,
    Endpoint,
    Failure,
    Hear,
    ModelClient,
    Result,
)
from nightshift_processor.client.route import find_route

_READ_BYTES = 64 << 10
_LIFE_S = 60.0
"""Seconds after which a connection gives way to a new one, so that servers which came later get their share."""


class ThinClient:
    """See the port."""

    def __init__(self, endpoint: Endpoint, start: Start) -> None:
        route = find_route(endpoint)
        self._loop = asyncio.get_running_loop()
        self._timeout_s = endpoint.timeout_s
        self._head = route.head
        self._dialer = Dialer(route)
        self._start = start
        buffer, inbox = memoryview(bytearray(_READ_BYTES)), Inbox(self._tell)
        self._new = partial(Connection, buffer, Outbox(), inbox, endpoint.max_answer_bytes)
        self._idle: list[Connection] = []
        self._open: set[Connection] = set()
        self._is_closed = False

    def send(self, body: bytes, hear: Hear) -> None:
        """See the port."""
        now = self._loop.time()
        expires = now + self._timeout_s
        request = b"%bContent-Length: %d\r\n\r\n%b" % (self._head, len(body), body)
        connection = self._take(now)
        if connection is None:
            self._start(self._dial_and_send(request, expires, hear))
        else:
            connection.exchange(request, expires, hear)

    def close(self) -> None:
        """Abort whatever is open, and tell nobody."""
        self._is_closed = True
        for connection in self._open:
            connection.abort()

    async def _dial_and_send(self, request: bytes, expires: float, hear: Hear) -> None:
        connection = await self._dial(expires)
        if isinstance(connection, Failure):
            hear(connection)
        else:
            connection.exchange(request, expires, hear)

    def _tell(self, connection: Connection, result: Result) -> None:
        if not self._is_closed:
            connection.idle_since = self._loop.time()
            self._idle.append(connection)
            connection.hear(result)

    def _take(self, now: float) -> Connection | None:
        """Take the connection that was used last, if it can be used again."""
        while self._idle:
            connection = self._idle.pop()
            is_fresh = now < connection.idle_since + IDLE_S and now < connection.born + _LIFE_S
            if is_fresh and connection.is_usable():
                return connection
            connection.abort()
            self._open.discard(connection)
        return None

    async def _dial(self, expires: float) -> Connection | Failure:
        patience = min(expires, self._loop.time() + CONNECT_TIMEOUT_S)
        try:
            async with asyncio.timeout_at(patience):
                connection = await self._dialer.dial(self._new)
        except OSError as error:
            is_over = isinstance(error, TimeoutError) and patience == expires
            return Failure.TIMEOUT if is_over else Failure.NOT_CONNECTED
        if not connection.is_usable():  # the server has hung up already, and nothing was sent
            connection.abort()
            return Failure.NOT_CONNECTED
        self._open.add(connection)
        return connection


@asynccontextmanager
async def open_thin(endpoint: Endpoint) -> AsyncIterator[ModelClient]:
    """Open it for as long as the context lasts; leaving it aborts what is in flight."""
    async with errands() as start:
        client = ThinClient(endpoint, start)
        try:
            yield client
        finally:
            client.close()
