"""A receiver of webhooks over real HTTPS: does what each request is answered with, and keeps all that came in."""

import asyncio
import base64
import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from aiohttp import web

from tests.processor.certificates import Authority

HANG = "hang"
SECRET = f"whsec_{base64.b64encode(b'signed by Nightshift for a test!').decode()}"
NAME = "localhost"


@dataclass(frozen=True)
class Heard:
    """A request that came in."""

    path: str
    headers: dict[str, str]
    body: bytes
    answer: int | str

    @property
    def id(self) -> str:
        return self.headers["webhook-id"]

    @property
    def event(self) -> Any:
        return json.loads(self.body)


@dataclass
class Receiver:
    """Answers as it is told, one request after another, and 200 once that runs out; `HANG` never answers."""

    authority: Authority
    answers: list[int | str] = field(default_factory=list)
    heard: list[Heard] = field(default_factory=list)
    always: dict[str, int] = field(default_factory=dict)
    """Answers by path that do not change."""
    port: int = 0

    @property
    def url(self) -> str:
        return self.url_of("/hook")

    def url_of(self, path: str) -> str:
        return f"https://{NAME}:{self.port}{path}?token=hidden"

    def taken(self) -> list[Heard]:
        """What was answered with a yes."""
        return [heard for heard in self.heard if heard.answer == 200]

    async def _handle(self, request: web.Request) -> web.StreamResponse:
        answer = self.always.get(request.path) or (self.answers.pop(0) if self.answers else 200)
        headers = {name.lower(): value for name, value in request.headers.items()}
        self.heard.append(Heard(request.path, headers, await request.read(), answer))
        if answer == HANG:
            await asyncio.Event().wait()
        status = int(answer)
        if status in range(300, 400):
            return web.Response(status=status, headers={"Location": f"https://{NAME}:{self.port}/elsewhere"})
        return web.Response(status=status, body=b"x" * (1 << 20) if status == 507 else b"thanks")

    async def start(self) -> web.AppRunner:
        """Listen, on the same port as before if there was one."""
        app = web.Application()
        app.router.add_route("*", "/{path:.*}", self._handle)
        runner = web.AppRunner(app, handler_cancellation=True, shutdown_timeout=0.1)
        await runner.setup()
        context = self.authority.server_context(NAME, [])
        site = web.TCPSite(runner, "127.0.0.1", self.port, ssl_context=context, reuse_address=True)
        await site.start()
        self.port = runner.addresses[0][1]
        return runner


@contextmanager
def serving(receiver: Receiver) -> Iterator[None]:
    """Let a receiver listen in a thread of its own, for tests that wait for other processes."""
    loop = asyncio.new_event_loop()
    runner = loop.run_until_complete(receiver.start())
    thread = threading.Thread(target=loop.run_forever, name="receiver")
    thread.start()
    try:
        yield
    finally:
        asyncio.run_coroutine_threadsafe(runner.cleanup(), loop).result(timeout=20)
        loop.call_soon_threadsafe(loop.stop)
        thread.join()
        loop.close()


def write_endpoints(path: Path, *endpoints: dict[str, Any]) -> Path:
    """Write a file of endpoints, whole or not at all."""
    draft = path.with_suffix(".draft")
    draft.write_text(json.dumps({"webhooks": endpoints}))
    return draft.replace(path)
