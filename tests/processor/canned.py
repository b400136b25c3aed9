"""A model server that answers with bytes as they stand here, so that it can be as wrong as a server can be."""

import asyncio
import os
import re
import socket
import ssl
import struct
from collections import deque
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from enum import Enum, auto


class Manner(Enum):
    """What a server does with a connection once it has said what it says."""

    KEEP = auto()
    """It waits for the next request."""
    ABORT = auto()
    """The connection is closed."""
    RESET = auto()
    """The connection is reset."""
    HANG = auto()
    """Nothing comes."""
    END = auto()
    """It says that it has ended, and listens until the client does the same."""
    DRIP = auto()
    """A byte comes now and then, for ever."""


@dataclass(frozen=True)
class Then:
    """Words, and what follows them."""

    words: bytes
    manner: Manner


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


Canned = bytes | Manner | Then


class CannedServer:
    """Gives its answers one after the other, the last one for ever; whoever asks for its metrics learns of none."""

    def __init__(self, *answers: Canned, greeting: Then | None = None, has_patience: bool = True) -> None:
        self._answers = deque(map(_then, answers))
        self._greeting = greeting
        self._has_patience = has_patience
        self._writers: list[asyncio.StreamWriter] = []
        self.requests: list[Request] = []
        self.asked = asyncio.Event()
        self.left = asyncio.Event()
        self.was_asked_for_metrics = asyncio.Event()
        self.port = 0

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    @property
    def connections(self) -> int:
        return len(self._writers)

    async def handle(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._writers.append(writer)
        with suppress(asyncio.IncompleteReadError, ConnectionError, ssl.SSLError):
            if self._greeting:
                await _say(self._greeting, writer)
            while not writer.is_closing():
                await self._answer(reader, writer)
        self.left.set()
        writer.close()

    async def _answer(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head = (await reader.readuntil(b"\r\n\r\n")).decode()
        length = re.search(r"content-length: (\d+)", head, re.IGNORECASE)
        expected = int(length[1]) if length and self._has_patience else 0
        request = Request(head, await reader.readexactly(expected))
        if request.target == "/metrics":
            self.was_asked_for_metrics.set()
            writer.write(b"HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\n\r\n")
            return
        self.requests.append(request)
        self.asked.set()
        await _say(self._answers[0] if len(self._answers) == 1 else self._answers.popleft(), writer)

    def say(self, words: bytes) -> None:
        """Say something unasked, on every connection."""
        for writer in self._writers:
            writer.write(words)

    def close(self) -> None:
        for writer in self._writers:
            writer.transport.abort()


def _then(answer: Canned) -> Then:
    if isinstance(answer, Manner):
        return Then(b"", answer)
    if isinstance(answer, Then):
        return answer
    return Then(answer, Manner.ABORT if b"connection: close" in answer.lower() else Manner.KEEP)


async def _say(answer: Then, writer: asyncio.StreamWriter) -> None:
    writer.write(answer.words)
    await writer.drain()
    match answer.manner:
        case Manner.ABORT if answer.words:
            writer.close()
        case Manner.ABORT:
            writer.transport.abort()
        case Manner.RESET:
            reset(writer)
        case Manner.END:
            writer.write_eof()
        case Manner.DRIP:
            while not writer.is_closing():
                writer.write(b"x")
                await writer.drain()
                await asyncio.sleep(0.001)  # the server's pace, not a wait
        case Manner.KEEP | Manner.HANG:
            pass


def reset(writer: asyncio.StreamWriter) -> None:
    """Have the connection reset, not just closed: what lingers no time is."""
    with socket.socket(fileno=os.dup(writer.get_extra_info("socket").fileno())) as sock:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    writer.transport.abort()


def an_answer(body: bytes = b"{}", status: str = "200 OK", *headers: bytes) -> bytes:
    """Write an answer with a length and whatever headers more."""
    length = b"Content-Length: %d" % len(body)
    return b"\r\n".join([b"HTTP/1.1 " + status.encode(), length, *headers, b"", body])


@asynccontextmanager
async def running(
    canned: CannedServer, host: str = "127.0.0.1", port: int = 0, tls: ssl.SSLContext | None = None
) -> AsyncIterator[CannedServer]:
    """Run a server for as long as the context lasts, on a free port if none is given."""
    server = await asyncio.start_server(canned.handle, host, port, ssl=tls)
    canned.port = server.sockets[0].getsockname()[1]
    try:
        yield canned
    finally:
        server.close()
        canned.close()
        await server.wait_closed()


@asynccontextmanager
async def serving(*answers: Canned) -> AsyncIterator[CannedServer]:
    """Serve answers on a free port for as long as the context lasts."""
    async with running(CannedServer(*answers)) as canned:
        yield canned
