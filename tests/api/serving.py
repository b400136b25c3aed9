"""The API on a real port, and a client that speaks bytes to it: one that HTTP libraries would not be."""

import asyncio
import json
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import uvicorn

from nightshift_api.main import Server, build_config
from tests.api.harness import KEY, Api, make_settings, open_api

AUTHORIZATION = f"Authorization: Bearer {KEY}\r\n".encode()


@asynccontextmanager
async def serving(
    config: uvicorn.Config, send_bytes: int | None = None, closing: asyncio.Event | None = None
) -> AsyncIterator[tuple[int, uvicorn.Server]]:
    """Serve on a free port; gives it. The kernel may hold so many bytes of an answer."""
    server = Server(config, closing or asyncio.Event())
    with socket.create_server(("127.0.0.1", 0)) as listening:
        if send_bytes:
            listening.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, send_bytes)
        task = asyncio.create_task(server.serve(sockets=[listening]))
        try:
            yield listening.getsockname()[1], server
        finally:
            server.should_exit = True
            await task


@dataclass(frozen=True)
class Answer:
    status: int
    headers: dict[str, str]
    body: bytes

    @property
    def error(self) -> dict[str, Any]:
        """The error, held against what contract 1.3 and 1.4 promise of each."""
        assert self.headers["content-type"] == "application/json"
        assert self.headers["x-request-id"].startswith("req_")
        error: dict[str, Any] = json.loads(self.body)["error"]
        assert error.keys() == {"message", "type", "param", "code"}
        return error


@dataclass(frozen=True)
class Line:
    """A connection."""

    reader: asyncio.StreamReader
    writer: asyncio.StreamWriter

    async def send(self, *pieces: bytes) -> None:
        for piece in pieces:
            self.writer.write(piece)
            await self.writer.drain()

    async def get(self, path: str) -> Answer:
        await self.send(f"GET {path} HTTP/1.1\r\n".encode(), AUTHORIZATION, b"\r\n")
        return await self.answer()

    async def answer(self) -> Answer:
        """Read one answer."""
        async with asyncio.timeout(5):
            head = (await self.reader.readuntil(b"\r\n\r\n")).decode()
            status, *lines = head.strip().split("\r\n")
            headers = {name.lower(): value for name, _, value in (line.partition(": ") for line in lines)}
            body = await self.reader.readexactly(int(headers.get("content-length", "0")))
            return Answer(int(status.split()[1]), headers, body)

    async def rest(self) -> bytes:
        """Read until the server closes or cuts the connection."""
        received = bytearray()
        async with asyncio.timeout(5):
            try:
                while chunk := await self.reader.read(65536):
                    received += chunk
            except ConnectionError:
                pass
        return bytes(received)


@dataclass
class Served:
    """An API behind a port."""

    api: Api
    port: int
    server: uvicorn.Server
    lines: list[Line] = field(default_factory=list)

    async def connect(self, receive_bytes: int | None = None) -> Line:
        """Connect; the kernel may hold so many bytes that were not read."""
        connecting = socket.socket()
        connecting.setblocking(False)
        if receive_bytes:
            connecting.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_bytes)
        await asyncio.get_running_loop().sock_connect(connecting, ("127.0.0.1", self.port))
        self.lines.append(Line(*await asyncio.open_connection(sock=connecting, limit=receive_bytes or 65536)))
        return self.lines[-1]

    async def connection_of(self, line: Line) -> Any:
        """Give the server's end of a connection."""
        name = line.writer.get_extra_info("sockname")
        (found,) = (c for c in self.server.server_state.connections if getattr(c, "client", None) == tuple(name))
        return found


@asynccontextmanager
async def open_served(folder: Path, send_bytes: int | None = None, **settings: Any) -> AsyncIterator[Served]:
    """Start the API on a port."""
    async with (
        open_api(folder, **settings) as api,
        serving(build_config(api.app, make_settings(folder, **settings), api.metrics), send_bytes, api.closing) as (
            port,
            server,
        ),
    ):
        served = Served(api, port, server)
        try:
            yield served
        finally:
            for line in served.lines:
                line.writer.transport.abort()
