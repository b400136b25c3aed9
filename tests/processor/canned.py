"""A model server that answers with bytes as they stand here, so that it can be as wrong as a server can be."""

import asyncio
import re
from collections import deque
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from enum import Enum, auto


class Manner(Enum):
    """Ways not to answer."""

    ABORT = auto()
    """The connection is reset once the request has come."""
    HANG = auto()
    """Nothing comes."""


@dataclass(frozen=True)
class Request:
    """A request as it came."""

    head: str
    body: bytes

    @property
    def target(self) -> str:
        return self.head.split()[1]

    def header(self, name: str) -> str | None:
        found = re.search(rf"^{name}: (.*?)\r$", self.head, re.IGNORECASE | re.MULTILINE)
        return found and found[1]


class CannedServer:
    """Gives its answers one after the other, the last one for ever; whoever asks for its metrics learns of none."""

    def __init__(self, *answers: bytes | Manner) -> None:
        self._answers = deque(answers)
        self._writers: list[asyncio.StreamWriter] = []
        self.requests: list[Request] = []
        self.asked = asyncio.Event()
        self.left = asyncio.Event()
        self.was_asked_for_metrics = asyncio.Event()
        self.url = ""

    async def handle(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._writers.append(writer)
        with suppress(asyncio.IncompleteReadError, ConnectionError):
            while not writer.is_closing():
                await self._answer(reader, writer)
        self.left.set()
        writer.close()

    async def _answer(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head = (await reader.readuntil(b"\r\n\r\n")).decode()
        length = re.search(r"content-length: (\d+)", head, re.IGNORECASE)
        request = Request(head, await reader.readexactly(int(length[1]) if length else 0))
        if request.target == "/metrics":
            self.was_asked_for_metrics.set()
            writer.write(b"HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\n\r\n")
            return
        self.requests.append(request)
        self.asked.set()
        answer = self._answers[0] if len(self._answers) == 1 else self._answers.popleft()
        if answer is Manner.ABORT:
            writer.transport.abort()
        elif isinstance(answer, bytes):
            writer.write(answer)
            await writer.drain()
            if b"connection: close" in answer.lower():
                writer.close()

    def close(self) -> None:
        for writer in self._writers:
            writer.transport.abort()


def an_answer(body: bytes = b"{}", status: str = "200 OK", *headers: bytes) -> bytes:
    """Write an answer with a length and whatever headers more."""
    length = b"Content-Length: %d" % len(body)
    return b"\r\n".join([b"HTTP/1.1 " + status.encode(), length, *headers, b"", body])


@asynccontextmanager
async def serving(*answers: bytes | Manner) -> AsyncIterator[CannedServer]:
    """Serve on a free port for as long as the context lasts."""
    canned = CannedServer(*answers)
    server = await asyncio.start_server(canned.handle, "127.0.0.1", 0)
    canned.url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
    try:
        yield canned
    finally:
        server.close()
        canned.close()
        await server.wait_closed()
