"""What lies between a client and a server: names, addresses that say nothing, and a proxy that tunnels."""

import asyncio
import socket
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager, suppress
from typing import Any

import pytest


class Names:
    """Stands for the DNS, which a test cannot fill: replaces the loop's look-up, by which both clients ask."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.known: dict[str, list[str]] = {}
        self.asked: list[str] = []
        self._loop = asyncio.get_running_loop()
        self._look_up = self._loop.getaddrinfo
        monkeypatch.setattr(self._loop, "getaddrinfo", self._find)

    async def _find(self, host: str, port: int, **options: Any) -> list[Any]:
        self.asked.append(host)
        found = [await self._look_up(address, port, **options) for address in self.known.get(host, [host])]
        return [info for infos in found for info in infos]


@contextmanager
def mute(address: str) -> Iterator[int]:
    """Hold a port that takes no connection and refuses none, as behind a firewall: its queue is full."""
    with socket.socket() as listening, socket.socket() as waiting:
        listening.bind((address, 0))
        listening.listen(0)
        waiting.connect(listening.getsockname())
        yield listening.getsockname()[1]


class Tunnels:
    """A proxy that connects its clients to one server, whatever name they want, once it has said `words`."""

    def __init__(self, port: int, words: bytes) -> None:
        self._port = port
        self._words = words
        self.heads: list[str] = []
        self.url = ""

    async def handle(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with suppress(asyncio.IncompleteReadError, ConnectionError):
            self.heads.append((await reader.readuntil(b"\r\n\r\n")).decode())
            writer.write(self._words)
            if b" 200 " in self._words:
                there, back = await asyncio.open_connection("127.0.0.1", self._port)
                await asyncio.gather(_pipe(reader, back), _pipe(there, writer))
        writer.close()


async def _pipe(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    with suppress(ConnectionError):
        while data := await reader.read(65536):
            writer.write(data)
    writer.close()


@asynccontextmanager
async def tunnelling(port: int, words: bytes = b"HTTP/1.1 200 OK\r\n\r\n") -> AsyncIterator[Tunnels]:
    """Run such a proxy for as long as the context lasts."""
    tunnels = Tunnels(port, words)
    server = await asyncio.start_server(tunnels.handle, "127.0.0.1", 0)
    tunnels.url = f"127.0.0.1:{server.sockets[0].getsockname()[1]}"
    try:
        yield tunnels
    finally:
        server.close()
        await server.wait_closed()
