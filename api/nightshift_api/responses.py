"""Answer with an object of the contract."""

from starlette.responses import Response

from nightshift_api.wire import Wire


def respond(body: Wire | bytes) -> Response:
    """Answer 200 with an object, or the JSON of one."""
    content = body if isinstance(body, bytes) else body.model_dump_json()
    return Response(content, media_type="application/json")
