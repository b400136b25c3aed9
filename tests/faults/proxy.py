"""A proxy that does to a client's requests what networks and servers do on a bad day, as a script says.

It stands before the API server or the bucket emulator, which are real: only the way to them is bad.
"""

import asyncio
import ssl
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from io import BytesIO
from typing import assert_never

import aiohttp
from aiohttp import web

_NOT_PASSED_ON = {"connection", "content-length", "keep-alive", "transfer-encoding"}


@dataclass(frozen=True)
class Refuse:
    """Answer in the server's place, which never hears of the request."""

    status: int
    headers: dict[str, str] = field(default_factory=dict)
    body: bytes = b"the server is not well"


@dataclass(frozen=True)
class Drop:
    """Close the connection before the server has heard of the request."""


@dataclass(frozen=True)
class Lose:
    """Let the server do what was asked, and close the connection instead of giving its answer."""


@dataclass(frozen=True)
class Cut:
    """Close the connection in the middle of the answer, after so many bytes of its body."""

    after_bytes: int


@dataclass(frozen=True)
class Delay:
    """Keep the request for a while."""

    seconds: float


Fault = Refuse | Drop | Lose | Cut | Delay


@dataclass(frozen=True)
class Asked:
    """A request as a script sees it."""

    method: str
    target: str

    @classmethod
    def of(cls, request: web.BaseRequest) -> "Asked":
        """Look at a request."""
        return cls(request.method, request.path_qs)

    @property
    def is_watch(self) -> bool:
        """Whether the answer goes on for as long as it can."""
        return "watch=true" in self.target


Script = Callable[[Asked], Fault | None]


def fair(_: Asked) -> None:
    """Let everything through."""


class Proxy:
    """A running proxy.

    Attributes:
        url: where it listens.
        script: asked about every request; may be replaced at any time.
        asked: every request so far.
        faults: how many of them the script spoiled.
    """

    def __init__(self, upstream: str, script: Script) -> None:
        self.url = ""
        self.script = script
        self.asked: list[Asked] = []
        self.faults = 0
        self._upstream = upstream
        self._chunks: dict[tuple[str, str], _Answer] = {}
        """What was said to each chunk of an upload, for when it comes again: the storage knows what it has, the
        emulator would take it for more."""

    async def handle(self, session: aiohttp.ClientSession, request: web.BaseRequest) -> web.StreamResponse:
        """Do to a request what the script says."""
        asked = Asked.of(request)
        self.asked.append(asked)
        fault = self.script(asked)
        self.faults += fault is not None
        body = await request.content.read()
        match fault:
            case None | Lose() | Cut():
                return await self._pass_on(session, request, body, fault)
            case Delay(seconds):
                await asyncio.sleep(seconds)
                return await self._pass_on(session, request, body, None)
            case Refuse(status, headers, answer):
                return web.Response(status=status, headers=headers, body=answer)
            case Drop():
                return _hang_up(request)
            case _:
                assert_never(fault)

    async def _pass_on(
        self, session: aiohttp.ClientSession, request: web.BaseRequest, body: bytes, fault: Lose | Cut | None
    ) -> web.StreamResponse:
        cut = fault.after_bytes if isinstance(fault, Cut) else None
        chunk = (request.path_qs, request.headers.get("Content-Range", ""))
        if chunk in self._chunks:
            return await _give(request, self._chunks[chunk], cut)
        call = session.request(
            request.method,
            self._upstream + request.path_qs,
            headers=_headers(request),
            data=BytesIO(body),
            allow_redirects=False,
        )
        async with call as answer:
            try:
                if Asked.of(request).is_watch:
                    return await _give_on(request, answer, cut)
                whole = _Answer(answer.status, _headers(answer), await answer.read())
            finally:
                if answer.connection and answer.connection.transport:
                    answer.connection.transport.abort()
        if chunk[1]:
            self._chunks[chunk] = whole
        return _hang_up(request) if isinstance(fault, Lose) else await _give(request, whole, cut)


@dataclass(frozen=True)
class _Answer:
    status: int
    headers: dict[str, str]
    body: bytes


def _headers(message: aiohttp.ClientResponse | web.BaseRequest) -> dict[str, str]:
    return {name: text for name, text in message.headers.items() if name.lower() not in _NOT_PASSED_ON}


async def _give(request: web.BaseRequest, answer: _Answer, cut: int | None) -> web.StreamResponse:
    if cut is None or cut >= len(answer.body):
        return web.Response(status=answer.status, headers=answer.headers, body=answer.body)
    given = web.StreamResponse(status=answer.status, headers=answer.headers)
    given.content_length = len(answer.body)
    await given.prepare(request)
    await given.write(answer.body[:cut])
    return _hang_up(request)


async def _give_on(request: web.BaseRequest, answer: aiohttp.ClientResponse, cut: int | None) -> web.StreamResponse:
    """Give an answer as it comes."""
    given = web.StreamResponse(status=answer.status, headers=_headers(answer))
    await given.prepare(request)
    left = cut
    async for data in answer.content.iter_any():
        await given.write(data[:left])
        if left is not None:
            left -= len(data)
            if left <= 0:
                return _hang_up(request)
    await given.write_eof()
    return given


def _hang_up(request: web.BaseRequest) -> web.StreamResponse:
    if request.transport:
        request.transport.close()
    return web.Response()


@asynccontextmanager
async def running_proxy(
    upstream: str, script: Script = fair, tls: ssl.SSLContext | None = None
) -> AsyncIterator[Proxy]:
    """Run a proxy before a server, whose certificate `tls` knows."""
    proxy = Proxy(upstream, script)
    connector = aiohttp.TCPConnector(ssl=tls or True, limit=0)
    async with aiohttp.ClientSession(connector=connector, auto_decompress=False) as session:

        async def handle(request: web.BaseRequest) -> web.StreamResponse:
            return await proxy.handle(session, request)

        runner = web.ServerRunner(web.Server(handle, handler_cancellation=True), shutdown_timeout=0)
        await runner.setup()
        try:
            await web.TCPSite(runner, "127.0.0.1", 0).start()
            host, port = runner.addresses[0][:2]
            proxy.url = f"http://{host}:{port}"
            yield proxy
        finally:
            await runner.cleanup()
