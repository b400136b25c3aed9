"""A server that writes the body of a request to a new file, and that is all.

`python -m tests.bench.raw_server PORT FILE`; it writes in its event loop, as the fastest servers that were measured do.
"""

import sys
from pathlib import Path

import uvicorn
from starlette.types import Receive, Scope, Send

PORT, TARGET = int(sys.argv[1]), Path(sys.argv[2])


async def store(scope: Scope, receive: Receive, send: Send) -> None:
    """Answer one request."""
    assert scope["type"] == "http"
    TARGET.unlink(missing_ok=True)  # noqa: ASYNC240 - one client, one request
    with TARGET.open("wb") as file:  # noqa: ASYNC230 - the same
        more = True
        while more:
            message = await receive()
            file.write(message.get("body", b""))
            more = message.get("more_body", False)
    await send({"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"0")]})
    await send({"type": "http.response.body"})


uvicorn.run(store, port=PORT, log_config=None, access_log=False, lifespan="off", ws="none")
