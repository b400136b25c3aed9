"""Answer with an object of the contract."""

import gzip

from starlette.requests import Request
from starlette.responses import Response

from nightshift_api.console.guard import HEADER
from nightshift_api.wire import Wire


def respond(body: Wire | bytes) -> Response:
    """Answer 200 with an object, or the JSON of one."""
    content = body if isinstance(body, bytes) else body.model_dump_json()
    return Response(content, media_type="application/json")


def respond_page(request: Request, body: bytes) -> Response:
    """Answer 200 with a page of objects, packed for the console: its network may be slow, that of programs is not."""
    if HEADER not in request.headers or "gzip" not in request.headers.get("accept-encoding", ""):
        return respond(body)
    headers = {"content-encoding": "gzip", "vary": f"accept-encoding, {HEADER}"}
    return Response(gzip.compress(body, compresslevel=5), headers=headers, media_type="application/json")
