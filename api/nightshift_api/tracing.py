"""Give every request an id, one log line and a place in the metrics.

It is the outermost layer, so that failures have them too.
"""

import time
from uuid import uuid4

import structlog
from starlette.datastructures import MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from nightshift_api.metrics import Metrics, Templates

_log = structlog.get_logger()


def make_request_id() -> str:
    """Make the id of a request."""
    return f"req_{uuid4().hex}"


class Trace:
    """Set `x-request-id` on every response, log method, path, status and duration; never a query or a body."""

    def __init__(self, app: ASGIApp, metrics: Metrics, templates: Templates) -> None:
        self._app = app
        self._metrics = metrics
        self._templates = templates

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
        with structlog.contextvars.bound_contextvars(request_id=request_id):
            try:
                await self._app(scope, receive_counted, send_traced)
            finally:
                took_s = time.perf_counter() - started
                method, path = scope["method"], scope["path"]
                route = self._templates.of(path)
                self._metrics.in_flight -= 1
                self._metrics.served(method, route, status, took_s)
                self._metrics.carried(route, received, sent)
                _log.info("http.request", method=method, path=path, status=status, ms=round(took_s * 1000, 1))
                structlog.contextvars.unbind_contextvars("batch")  # bound by whoever found out which one it is
