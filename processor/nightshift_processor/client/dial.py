"""How a connection comes about: a name becomes addresses, one of them takes the call, a proxy and TLS may follow.

Behind a headless Service a name has an address for each server, so every call begins at the next one; if that does not
take it, another does.
"""

import asyncio
import random
import re
import socket
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TypeVar, cast

from nightshift_processor.client.exchange import Connection
from nightshift_processor.client.route import Route

_NAME_LIFE_S = 10.0
"""Seconds for which the addresses of a name are used, as aiohttp does: servers come and go."""
_HEAD_START_S = 0.25
"""Seconds after which the next address is tried beside one that says nothing (RFC 8305, 5)."""
_MAX_TUNNEL_HEAD_BYTES = 32 << 10
_IS_OPEN = re.compile(rb"HTTP/1\.[01] 2\d\d[ \r]")
_P = TypeVar("_P", bound=asyncio.BaseProtocol)
_Call = asyncio.Task[tuple[asyncio.BaseTransport, _P]]
Address = tuple[str, int]
"""A numeric address and a port."""


@dataclass
class Addresses:
    """The addresses of a name, in turn."""

    host: str
    port: int
    _found: list[Address] = field(default_factory=list)
    _until: float = 0.0
    _turn: int = field(default_factory=lambda: random.randrange(1 << 16))  # noqa: S311 - many processors, many starts
    _lock: asyncio.Lock = field(default_factory=asyncio.Lock)

    async def in_turn(self) -> list[Address]:
        """Give all of them, beginning with another one each time. Raises `OSError` if nobody knows the name."""
        loop = asyncio.get_running_loop()
        async with self._lock:
            if loop.time() >= self._until:
                found = await loop.getaddrinfo(self.host, self.port, type=socket.SOCK_STREAM)
                self._found = list(dict.fromkeys((str(info[4][0]), self.port) for info in found))
                self._until = loop.time() + _NAME_LIFE_S
        self._turn += 1
        first = self._turn % len(self._found)
        return self._found[first:] + self._found[:first]


class Dialer:
    """Makes connections of one route."""

    def __init__(self, route: Route) -> None:
        self._route = route
        self._addresses = Addresses(route.host, route.port)

    async def dial(self, new: Callable[[], Connection]) -> Connection:
        """Connect. Raises `OSError`: nobody is there, or it is not who it should be."""
        addresses = await self._addresses.in_turn()
        if self._route.tls is None:
            return await connect_any(addresses, new)
        start = await connect_any(addresses, _Start)
        try:
            return await self._secure(start, new())
        except BaseException:
            start.transport.abort()
            raise

    async def _secure(self, start: "_Start", connection: Connection) -> Connection:
        route, loop = self._route, asyncio.get_running_loop()
        assert route.tls is not None
        if route.tunnel is not None:
            await start.open_tunnel(route.tunnel)
        if start.transport.is_closing():
            raise ConnectionResetError("the server hung up")
        transport = await loop.start_tls(start.transport, connection, route.tls, server_hostname=route.server_name)
        if transport is None:
            raise ConnectionResetError("the server hung up while TLS began")
        connection.connection_made(transport)
        return connection


class _Start(asyncio.Protocol):
    """Holds a connection until TLS begins. We speak first, so it hears what a proxy answers and nothing else."""

    transport: asyncio.Transport

    def __init__(self) -> None:
        self._head = b""
        self._opening: asyncio.Future[None] | None = None

    async def open_tunnel(self, request: bytes) -> None:
        """Have a proxy connect us. Raises `OSError`: it does not."""
        self._opening = asyncio.get_running_loop().create_future()
        self.transport.write(request)
        await self._opening
        self._opening = None
        if not _IS_OPEN.match(self._head):
            raise ConnectionRefusedError("the proxy refused")

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast("asyncio.Transport", transport)

    def data_received(self, data: bytes) -> None:
        self._head += data
        if self._opening is None or len(self._head) > _MAX_TUNNEL_HEAD_BYTES:
            self.transport.abort()
        elif self._head.endswith(b"\r\n\r\n") and not self._opening.done():
            self._opening.set_result(None)

    def connection_lost(self, exc: Exception | None) -> None:
        if self._opening is not None and not self._opening.done():
            self._opening.set_exception(exc or ConnectionResetError("the proxy broke off"))


async def connect_any(addresses: list[Address], new: Callable[[], _P]) -> _P:
    """Connect to the first of some addresses that takes it. Raises the `OSError` of the last one if none does.

    The loop opens the sockets: uvloop may close one that it was given without telling it.
    """
    waiting, calls = deque(addresses), list[_Call[_P]]()
    winner: _Call[_P] | None = None
    try:
        while winner is None:
            if waiting:
                calls.append(asyncio.create_task(_connect(waiting.popleft(), new), name="connect"))
            ringing = [call for call in calls if not call.done()]
            if not ringing:
                break
            head_start_s = _HEAD_START_S if waiting else None
            await asyncio.wait(ringing, timeout=head_start_s, return_when=asyncio.FIRST_COMPLETED)
            winner = next((call for call in calls if call.done() and call.exception() is None), None)
        return (winner or calls[-1]).result()[1]
    finally:
        for call in calls:
            if call is not winner:
                _hang_up(call)


def _hang_up(call: _Call[_P]) -> None:
    if not call.cancel() and call.exception() is None:  # it got through beside the winner
        cast("asyncio.Transport", call.result()[0]).abort()


async def _connect(address: Address, new: Callable[[], _P]) -> tuple[asyncio.BaseTransport, _P]:
    return await asyncio.get_running_loop().create_connection(new, *address)
