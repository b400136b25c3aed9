"""Give every request an id and one log line: the outermost layer, so that failures have both too."""

import time
from uuid import uuid4

import structlog
from starlette.datastructures import MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send

_log = structlog.get_logger()


def make_request_id() -> str:
    """Make the id of a request."""
    return f"req_{uuid4().hex}"


class Trace:
    """Set `x-request-id` on every response and log method, path, status and duration; never a query or a body."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request."""
        request_id = make_request_id()
        started = time.perf_counter()
        status = 500

        async def send_traced(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                MutableHeaders(scope=message)["x-request-id"] = request_id
            await send(message)

        with structlog.contextvars.bound_contextvars(request_id=request_id):
            try:
                await self._app(scope, receive, send_traced)
            finally:
                duration_ms = round((time.perf_counter() - started) * 1000, 1)
                _log.info("http.request", method=scope["method"], path=scope["path"], status=status, ms=duration_ms)
