"""Turn every failure into the contract's one error shape (contract 1.4): the only place that makes error bodies."""

import math
from http import HTTPStatus
from typing import Literal

from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response

from nightshift_api.ranges import RangeNotSatisfiable
from nightshift_api.wire import ErrorDetails, ErrorObject
from nightshift_crds.errors import Conflict, Rejected, TooMany, Unavailable

_MAX_RETRY_AFTER_S = 60


def respond(
    status: int,
    message: str,
    *,
    code: str | None = None,
    param: str | None = None,
    headers: dict[str, str] | None = None,
) -> Response:
    """Answer with an error."""
    details = ErrorDetails(message=message, type=_type(status), param=param, code=code)
    body = ErrorObject(error=details).model_dump_json()
    return Response(body, status, headers, media_type="application/json")


def _type(status: int) -> Literal["invalid_request_error", "rate_limit_error", "server_error"]:
    if status == HTTPStatus.TOO_MANY_REQUESTS:
        return "rate_limit_error"
    return "server_error" if status >= HTTPStatus.INTERNAL_SERVER_ERROR else "invalid_request_error"


def on_rejected(_: Request, error: Exception) -> Response:
    """Answer a request that its sender must change; a conflict is for good, and SDKs would retry it otherwise."""
    assert isinstance(error, Rejected)
    headers = {"x-should-retry": "false"} if isinstance(error, Conflict) else {}
    if isinstance(error, RangeNotSatisfiable):
        headers["content-range"] = f"bytes */{error.size}"
    return respond(error.status, error.message, code=error.code, param=error.param, headers=headers)


def on_unavailable(_: Request, error: Exception) -> Response:
    """Answer while cluster or bucket does not; says when to come back."""
    assert isinstance(error, Unavailable)
    message = "The service cannot answer right now; try again."
    return respond(503, message, headers=retry_after(round(error.delay_s)))


def on_too_many(_: Request, error: Exception) -> Response:
    """Answer a client that has had its share; says when there is more, and never too early."""
    assert isinstance(error, TooMany)
    headers = retry_after(math.ceil(round(error.delay_s, 3)))
    return respond(429, f"{error.message} Try again later.", code="rate_limit_exceeded", headers=headers)


def retry_after(delay_s: int) -> dict[str, str]:
    """Say when to come back, within what all SDKs honour (contract 1.5)."""
    return {"Retry-After": str(min(max(delay_s, 1), _MAX_RETRY_AFTER_S))}


def on_http(request: Request, error: Exception) -> Response:
    """Answer what the framework refuses: unknown routes and methods."""
    assert isinstance(error, HTTPException)
    message = f"{error.detail}: {request.method} {request.url.path}"
    return respond(error.status_code, message, headers=dict(error.headers or {}))


def on_disconnect(_: Request, error: Exception) -> Response:
    """Answer nobody: the client has gone in the middle of its upload."""
    assert isinstance(error, ClientDisconnect)
    return Response(status_code=499)


def on_bug(_: Request, __: Exception) -> Response:
    """Answer for a bug of ours; what it was goes to the log, not to the user."""
    return respond(500, "The server had an error while processing your request.")
