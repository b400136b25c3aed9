"""Read the body of a request."""

from starlette.requests import Request

from nightshift_crds.errors import Rejected


async def read_body(request: Request, max_bytes: int) -> bytes:
    """Read a JSON body whole, up to a limit. Raises `Rejected`."""
    held = bytearray()
    async for chunk in request.stream():
        held += chunk
        if len(held) > max_bytes:
            raise Rejected(f"Expected a body of at most {max_bytes} bytes.", status=413)
    return bytes(held)
