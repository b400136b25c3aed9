"""Answer with an object of the contract."""

from starlette.responses import Response

from nightshift_api.wire import Wire


def respond(body: Wire) -> Response:
    """Answer 200 with an object as JSON."""
    return Response(body.model_dump_json(), media_type="application/json")
