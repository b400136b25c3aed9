"""One HTTP/1.1 connection: a request goes out, an answer comes in, one after the other, until one of them spoils it.

What arrives is parsed where it lies, in a buffer that all connections of a client share: each read is used up before
the loop begins the next. The parser is httptools, as lenient as aiohttp's. It calls back for each part of an answer
and knows its length, but not that a body without one ends with the connection.
"""

import asyncio
import zlib
from collections.abc import Callable
from typing import cast

from httptools import HttpParserError, HttpParserUpgrade, HttpResponseParser

from nightshift_processor.client.port import Failure, Hear, Result, build_answer

_MAX_BARREN_BYTES = 32 << 10
"""Bytes in a row that may come without a body growing: head lines, interim answers, trailers."""
_AT_ONCE = 16
"""Requests that wait for each other at most: those of hundreds of answers would wait for milliseconds."""
_SWITCHING = 101
_WANTED = frozenset({b"x-request-id", b"retry-after", b"content-length", b"content-encoding", b"transfer-encoding"})
_WINDOWS = {b"gzip": zlib.MAX_WBITS | 16, b"deflate": zlib.MAX_WBITS}


class Outbox:
    """Requests that go out one right after the other: so many of them, or all that a turn of the loop has brought.

    Answers come in many at a turn, and each is followed by a request. With work between them, each would find the
    server's process asleep, and waking it costs the sender more than sending.
    """

    def __init__(self) -> None:
        self._loop = asyncio.get_running_loop()
        self._waiting: list[tuple[asyncio.Transport, bytes]] = []

    def put(self, transport: asyncio.Transport, request: bytes) -> None:
        """Take a request; it never goes out if its transport is closed by then."""
        if not self._waiting:
            self._loop.call_soon(self._send)
        self._waiting.append((transport, request))
        if len(self._waiting) == _AT_ONCE:
            self._send()

    def _send(self) -> None:
        waiting, self._waiting = self._waiting, []
        for transport, request in waiting:
            transport.write(request)


class Inbox:
    """Results of a turn of the loop, told in the next one: no parser is at work then, and each may bring a request."""

    def __init__(self, tell: "Callable[[Connection, Result], None]") -> None:
        self._loop = asyncio.get_running_loop()
        self._tell = tell
        self._come: list[tuple[Connection, Result]] = []

    def put(self, connection: "Connection", result: Result) -> None:
        """Take what came of a connection's request."""
        if not self._come:
            self._loop.call_soon(self._tell_all)
        self._come.append((connection, result))

    def _tell_all(self) -> None:
        come, self._come = self._come, []
        for connection, result in come:
            self._tell(connection, result)


class Connection(asyncio.BufferedProtocol):
    """A connection to the model server, or to a proxy before it.

    Attributes:
        born: when it was made, by the loop's clock.
        idle_since: when its last answer ended.
        hear: who is to be told what comes of its last request.
    """

    hear: Hear

    def __init__(self, buffer: memoryview, outbox: Outbox, inbox: Inbox, max_answer_bytes: int) -> None:
        self._loop = asyncio.get_running_loop()
        self._buffer = buffer
        self._outbox = outbox
        self._inbox = inbox
        self._max_answer_bytes = max_answer_bytes
        self._parser = HttpResponseParser(self)
        self._parser.set_dangerous_leniencies(
            lenient_headers=True, lenient_optional_cr_before_lf=True, lenient_spaces_after_chunk_size=True
        )
        self._transport: asyncio.Transport | None = None
        self._is_awaited = False
        self._timer: asyncio.TimerHandle | None = None
        self._expires = 0.0
        self._is_spoilt = False
        self._forget()
        self.born = self.idle_since = self._loop.time()

    def _forget(self) -> None:
        """Make ready for an answer."""
        self._status = 0  # until its head has come, which interim answers do not bring
        self._headers: dict[bytes, bytes] = {}
        self._body: list[bytes] = []
        self._size = 0
        self._barren = 0

    # --- what the client calls ----------------------------------------------------------------------------------------

    def is_usable(self) -> bool:
        """Tell whether a request may be sent, as far as is known."""
        transport = self._transport  # closes some time before it tells
        return not self._is_spoilt and transport is not None and not transport.is_closing()

    def exchange(self, request: bytes, expires: float, hear: Hear) -> None:
        """Send a request while usable; its answer counts if it comes before the loop's clock says `expires`."""
        assert self._transport is not None
        self._forget()
        self.hear = hear
        self._is_awaited = True
        self._expires = expires
        if self._timer is None:  # one that runs looks at `_expires` when its time has come
            self._timer = self._loop.call_at(expires, self._check_time)
        self._outbox.put(self._transport, request)

    def abort(self) -> None:
        """Leave the server at once; a request that is open has no answer."""
        self._fail(Failure.BROKEN)

    def _check_time(self) -> None:
        self._timer = None
        if not self._is_awaited:
            return
        if self._loop.time() < self._expires:
            self._timer = self._loop.call_at(self._expires, self._check_time)
        else:
            self._fail(Failure.TIMEOUT)

    def _fail(self, failure: Failure) -> None:
        self._is_spoilt = True
        self._answer(failure)
        if self._transport is not None:
            self._transport.abort()

    def _answer(self, result: Result) -> None:
        if self._is_awaited:
            self._is_awaited = False
            self._body = []
            self._inbox.put(self, result)

    # --- what the loop calls ------------------------------------------------------------------------------------------

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Be ready for a request."""
        self._transport = cast("asyncio.Transport", transport)  # uvloop's are none by their class

    def get_buffer(self, sizehint: int) -> memoryview:
        """Say where to put what arrives."""
        del sizehint
        return self._buffer

    def buffer_updated(self, nbytes: int) -> None:
        """Take what has arrived."""
        size = self._size
        try:
            self._parser.feed_data(self._buffer[:nbytes])
        except (HttpParserError, HttpParserUpgrade):
            self.abort()
        self._barren = self._barren + nbytes if self._size == size else 0
        if self._barren > _MAX_BARREN_BYTES:
            self.abort()

    def eof_received(self) -> None:
        """Take it that the server has said all it will."""
        if self._status and self._headers.keys().isdisjoint((b"content-length", b"transfer-encoding")):
            self._answer(self._build())
        self.abort()

    def connection_lost(self, exc: Exception | None) -> None:
        """Nothing will come any more."""
        if exc is None:
            self.eof_received()
        self.abort()
        if self._timer is not None:
            self._timer.cancel()

    # --- what the parser calls ----------------------------------------------------------------------------------------

    def on_message_begin(self) -> None:
        """An answer begins: if nobody waits for one, what is it?"""
        if not self._is_awaited:
            self.abort()

    def on_header(self, name: bytes, value: bytes) -> None:
        """Of headers that come twice the first one counts, and trailers are none."""
        name = name.lower()
        if name in _WANTED and not self._status:
            self._headers.setdefault(name, value.strip())

    def on_headers_complete(self) -> None:
        """The head is whole, perhaps of an interim answer."""
        status = self._parser.get_status_code()
        if status < 200 and status != _SWITCHING:
            return
        self._status = status
        if int(self._headers.get(b"content-length", 0)) > self._max_answer_bytes:
            self._fail(Failure.TOO_LARGE)

    def on_body(self, body: bytes) -> None:
        """A part of the body has come."""
        self._body.append(body)
        self._size += len(body)
        if self._size > self._max_answer_bytes:
            self._fail(Failure.TOO_LARGE)

    def on_message_complete(self) -> None:
        """The answer is whole, unless it was an interim one."""
        if not self._status:
            self._headers.clear()
            return
        self._answer(self._build())
        # A server that answers before it has heard all may take the rest for another request.
        if not self._parser.should_keep_alive() or (self._transport and self._transport.get_write_buffer_size()):
            self.abort()

    def _build(self) -> Result:
        headers = self._headers
        body: bytes | Failure = b"".join(self._body)
        if b"content-encoding" in headers and body:
            body = _unpack(b"".join(self._body), headers[b"content-encoding"].lower(), self._max_answer_bytes)
        if isinstance(body, Failure):
            return body
        return build_answer(self._status, body, headers.get(b"x-request-id", b""), headers.get(b"retry-after", b""))


def _unpack(body: bytes, encoding: bytes, max_bytes: int) -> bytes | Failure:
    """Unpack a body that was not to be packed; of an encoding that nobody knows it stays as it is. Pure."""
    if encoding not in _WINDOWS:
        return body
    is_raw = encoding == b"deflate" and body[0] & 0xF != 8  # some servers mean this by it
    unpacking = zlib.decompressobj(-zlib.MAX_WBITS if is_raw else _WINDOWS[encoding])
    try:
        unpacked = unpacking.decompress(body, max_bytes + 1)
    except zlib.error:
        return Failure.BROKEN
    if len(unpacked) > max_bytes:
        return Failure.TOO_LARGE
    return unpacked if unpacking.eof else Failure.BROKEN
