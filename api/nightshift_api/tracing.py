"""Give every request an id, one log line, a place in the metrics and, where traces are asked for, a span.

It is the outermost layer, so that failures have them too. Requests that only read, as those do that poll, have a span
if they bring a trace with them.
"""

import time
from contextlib import AbstractContextManager, nullcontext
from typing import TYPE_CHECKING
from uuid import uuid4

import structlog
from starlette.datastructures import Headers, MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from nightshift_api.metrics import Metrics, Templates
from nightshift_crds.metrics import OTHER
from nightshift_crds.tracing import BATCH_ID, FIELDS

if TYPE_CHECKING:
    from opentelemetry.trace import Span

    from nightshift_crds.otel import Tracing

_log = structlog.get_logger()
_WRITES = frozenset({"POST", "DELETE"})


def make_request_id() -> str:
    """Make the id of a request."""
    return f"req_{uuid4().hex}"


class Trace:
    """Set `x-request-id` on every response, log method, path, status and duration; never a query or a body."""

    def __init__(self, app: ASGIApp, metrics: Metrics, templates: Templates, tracing: "Tracing | None" = None) -> None:
        self._app = app
        self._metrics = metrics
        self._templates = templates
        self._tracing = tracing

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request."""
        request_id = make_request_id()
        started = time.perf_counter()
        status, received, sent = 500, 0, 0

        async def receive_counted() -> Message:
            nonlocal received
            message = await receive()
            received += len(message.get("body", b""))
            return message

        async def send_traced(message: Message) -> None:
            nonlocal status, sent
            if message["type"] == "http.response.start":
                status = message["status"]
                MutableHeaders(scope=message)["x-request-id"] = request_id
            sent += len(message.get("body", b""))
            await send(message)

        self._metrics.in_flight += 1
        with self._span(scope) as span, structlog.contextvars.bound_contextvars(request_id=request_id):
            try:
                await self._app(scope, receive_counted, send_traced)
            finally:
                took_s = time.perf_counter() - started
                method, path = scope["method"], scope["path"]
                route = self._templates.of(path)
                self._metrics.in_flight -= 1
                self._metrics.served(method, route, status, took_s)
                self._metrics.carried(route, received, sent)
                if span:
                    self._tell(span, status)
                _log.info("http.request", method=method, path=path, status=status, ms=round(took_s * 1000, 1))
                structlog.contextvars.unbind_contextvars("batch")  # bound by whoever found out which one it is

    def _span(self, scope: Scope) -> "AbstractContextManager[Span | None]":
        if self._tracing is None:
            return nullcontext()
        headers, method, route = Headers(scope=scope), scope["method"], self._templates.of(scope["path"])
        carrier = {name: ",".join(headers.getlist(name)) for name in FIELDS if name in headers}
        if route == OTHER or not (carrier or method in _WRITES):
            return nullcontext()
        attributes = {"http.request.method": method, "http.route": route, "url.scheme": scope["scheme"]}
        return self._tracing.span(f"{method} {route}", carrier, attributes, "SERVER")

    def _tell(self, span: "Span", status: int) -> None:
        span.set_attribute("http.response.status_code", status)
        if batch := structlog.contextvars.get_contextvars().get("batch"):
            span.set_attribute(BATCH_ID, batch)
        if self._tracing and status >= 500:
            self._tracing.fail(span, str(status))
