"""One connection: what may be asked of it before, between and behind the requests that the application sees.

uvicorn's parser takes headers of any size at any pace, and an answer waits for its reader for ever. Here both have
limits, and there are only so many connections. How slowly a body may come is `pace`'s.
"""

from asyncio import BaseTransport, TimerHandle, Transport
from collections.abc import Callable
from typing import Any, cast

from starlette.responses import Response
from starlette.types import ASGIApp, Receive, Scope, Send
from uvicorn.protocols.http.httptools_impl import STATUS_LINE, HttpToolsProtocol

from nightshift_api.errors import respond, retry_after
from nightshift_api.metrics import Metrics, Templates
from nightshift_api.settings import Settings
from nightshift_api.tracing import Trace, make_request_id

_LINGER_S = 2.0
"""For so long what a client still sends is thrown away, so that it gets to read why it was refused."""
_PROBES = frozenset({"/healthz", "/openapi.json"})
"""What Kubernetes asks: a process that is full must not be restarted for that."""


class Full:
    """Answer in place of an application that has enough to do, but for probes."""

    def __init__(self, app: ASGIApp, metrics: Metrics) -> None:
        self._app = app
        self._metrics = metrics
        self._full = Trace(_tell_full, metrics, Templates((), ()))

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request."""
        if scope["path"] in _PROBES:
            await self._app(scope, receive, send)
        else:
            self._metrics.limited("max_connections")
            await self._full(scope, receive, send)


async def _tell_full(scope: Scope, receive: Receive, send: Send) -> None:
    headers = retry_after(1) | {"connection": "close"}
    await respond(503, "The service has too many connections; try again.", headers=headers)(scope, receive, send)


class Connection(HttpToolsProtocol):
    """uvicorn's protocol with limits.

    One timer is for what a client owes us when no request of its is being served: headers, the next request, the rest
    of a body that was answered early. Another is for answers that it does not read.
    """

    def __init__(self, *, settings: Settings, metrics: Metrics, **given: Any) -> None:
        super().__init__(**given)
        self._settings = settings
        self._metrics = metrics
        self._idle_since = self.loop.time()
        self._owed: TimerHandle | None = None
        self._unread_answer: TimerHandle | None = None
        self._fruitless_bytes = 0
        """Received since headers, a body or the end of it came of what was received."""
        self._has_whole_request = True
        self._has_too_many_headers = False
        self._is_refused = False

    @property
    def is_idle(self) -> bool:
        """Whether no request is being served."""
        return self.cycle is None or self.cycle.response_complete

    # --- what asyncio calls -------------------------------------------------------------------------------------------

    def connection_made(self, transport: BaseTransport) -> None:
        """Take a connection; over the limit the one that has been idle for longest must go for it."""
        super().connection_made(cast(Transport, transport))
        if len(self.connections) > self._settings.max_connections and not self._make_room():
            self.app = Full(cast(ASGIApp, self.app), self._metrics)
        self._expect_within(self._settings.header_timeout_s)

    def connection_lost(self, exc: Exception | None) -> None:
        """Forget a connection."""
        super().connection_lost(exc)
        self._expect_nothing()
        self._stop_watching_reader()

    def data_received(self, data: bytes) -> None:
        """Parse what has come, never more than `max_header_bytes` of which nothing comes."""
        while data and not self._is_refused and not self.transport.is_closing():
            room = self._settings.max_header_bytes - self._fruitless_bytes
            if room <= 0:
                self._refuse(431, "The headers of the request are too large.")
                return
            piece, data = data[:room], data[room:]
            self._fruitless_bytes += len(piece)
            super().data_received(piece)

    def pause_writing(self) -> None:
        """Wait for a client to read its answer; not for ever."""
        super().pause_writing()
        self._watch_reader()

    def resume_writing(self) -> None:
        """Go on: the client has read."""
        super().resume_writing()
        self._stop_watching_reader()

    # --- what the parser calls ----------------------------------------------------------------------------------------

    def on_message_begin(self) -> None:
        """Start a request: now its headers are due."""
        super().on_message_begin()
        self._has_whole_request = False
        self._expect_within(self._settings.header_timeout_s)

    def on_header(self, name: bytes, value: bytes) -> None:
        """Take a header, or a trailer of a body in chunks."""
        if len(self.headers) >= self._settings.max_headers:
            self._has_too_many_headers = True
            raise ValueError("too many headers")  # the parser ends, and asks for the answer
        super().on_header(name, value)

    def on_headers_complete(self) -> None:
        """Have the request served; from here on it is the application that waits for the client."""
        self._fruitless_bytes = 0
        self._expect_nothing()
        super().on_headers_complete()

    def on_body(self, body: bytes) -> None:
        """Take a piece of the body."""
        self._fruitless_bytes = 0
        super().on_body(body)

    def on_message_complete(self) -> None:
        """Note that the request is here whole."""
        self._fruitless_bytes = 0
        self._has_whole_request = True
        super().on_message_complete()
        self._expect_next()

    def send_400_response(self, msg: str) -> None:
        """Answer what is no HTTP."""
        if self._has_too_many_headers:
            self._refuse(431, f"Expected at most {self._settings.max_headers} headers.")
        else:
            self._refuse(400, msg)

    # --- what the answer's end calls ----------------------------------------------------------------------------------

    def on_response_complete(self) -> None:
        """Wait for what is owed still, or for the next request."""
        self._idle_since = self.loop.time()
        super().on_response_complete()
        self._expect_next()

    # --- limits -------------------------------------------------------------------------------------------------------

    def _make_room(self) -> bool:
        """Cut off a connection that serves nobody; False if all do."""
        others = [c for c in self.connections if isinstance(c, Connection) and c is not self and c.is_idle]
        if not others:
            return False
        longest = min(others, key=lambda other: other._idle_since)  # noqa: SLF001 - one of us
        self.connections.discard(longest)
        longest.transport.abort()
        return True

    def _expect_next(self) -> None:
        if self.transport.is_closing():
            self._expect_within(self._settings.send_stall_s)  # a close waits until all is read
        elif self.is_idle:
            settings = self._settings
            self._expect_within(settings.keep_alive_s if self._has_whole_request else settings.header_timeout_s)

    def _expect_within(self, delay_s: float, do: Callable[[], None] | None = None) -> None:
        self._expect_nothing()
        self._owed = self.loop.call_later(delay_s, do or self._give_up)

    def _expect_nothing(self) -> None:
        if self._owed:
            self._owed.cancel()

    def _give_up(self) -> None:
        if self._fruitless_bytes and not self.transport.is_closing():
            self._refuse(408, "The headers of the request came too slowly.")
        else:
            self.transport.abort()

    def _refuse(self, status: int, message: str) -> None:
        """Answer for the application, if it is not in the middle of an answer itself, and end the connection."""
        self._is_refused = True
        if not self.is_idle:
            self.transport.abort()
            return
        self._metrics.refused(status)
        self.transport.write(_render(respond(status, message)))
        if self.transport.can_write_eof():  # not over TLS, where the length of the answer tells its end
            self.transport.write_eof()
        self._expect_within(_LINGER_S, self.transport.abort)

    def _watch_reader(self) -> None:
        before = self.transport.get_write_buffer_size()
        self._unread_answer = self.loop.call_later(self._settings.send_stall_s, self._check_reader, before)

    def _check_reader(self, before: int) -> None:
        read = before - self.transport.get_write_buffer_size()
        if read < self._settings.min_bytes_per_s * self._settings.send_stall_s:
            self.transport.abort()
        else:
            self._watch_reader()

    def _stop_watching_reader(self) -> None:
        if self._unread_answer:
            self._unread_answer.cancel()


def _render(response: Response) -> bytes:
    """Write a response as HTTP, with an id as every answer has it."""
    response.headers.update({"x-request-id": make_request_id(), "connection": "close"})
    lines = [STATUS_LINE[response.status_code], *(b"%s: %s\r\n" % header for header in response.raw_headers), b"\r\n"]
    return b"".join(lines) + bytes(response.body)
