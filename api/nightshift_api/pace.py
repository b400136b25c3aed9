"""How slowly a body may come: what it costs to hold a request open is bounded by its size.

Only time in which we wait for the sender counts, so a bucket that is slow cuts nobody off. Headers, connections that
wait for a request, and answers that nobody reads are seen to by `connection`.
"""

import asyncio

from starlette.datastructures import MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from nightshift_api.settings import Settings
from nightshift_crds.errors import Rejected


class Patience:
    """How long a sender is waited for: `stall_s` at most, and each byte earns what it may take at the least rate.

    Whoever keeps that rate is waited for for ever; whoever does not, for `stall_s` and what its bytes have earned in
    all. Pure.
    """

    def __init__(self, stall_s: float, bytes_per_s: float) -> None:
        self._stall_s = stall_s
        self._bytes_per_s = bytes_per_s
        self.left_s = stall_s

    def note(self, waited_s: float, count: int) -> None:
        """Note that so many bytes came after a wait."""
        self.left_s = min(self.left_s - waited_s + count / self._bytes_per_s, self._stall_s)


class Pace:
    """Refuse a body that comes too slowly with 408 and close its connection. SDKs send a request with 408 again."""

    def __init__(self, app: ASGIApp, settings: Settings) -> None:
        self._app = app
        self._settings = settings

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request."""
        patience = Patience(self._settings.body_stall_s, self._settings.min_bytes_per_s)
        is_whole = is_answered = is_late = False

        async def receive_in_time() -> Message:
            nonlocal is_whole, is_late
            if is_whole:  # what comes now is that the client has gone, in its own time
                return await receive()
            asked_at = asyncio.get_running_loop().time()
            try:
                async with asyncio.timeout(patience.left_s):
                    message = await receive()
            except TimeoutError:
                if is_answered:  # who listens for a client to go must not break an answer that is under way
                    return {"type": "http.disconnect"}
                is_late = True
                raise Rejected("The body of the request came too slowly.", status=408) from None
            patience.note(asyncio.get_running_loop().time() - asked_at, len(message.get("body", b"")))
            is_whole = not message.get("more_body", False)
            return message

        async def send_noted(message: Message) -> None:
            nonlocal is_answered
            is_answered = True
            if is_late and message["type"] == "http.response.start":
                MutableHeaders(scope=message)["connection"] = "close"
            await send(message)

        await self._app(scope, receive_in_time, send_noted)
