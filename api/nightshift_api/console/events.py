"""What happens, as it happens: one stream of server-sent events for each console that is open.

It tells of the namespace's batches as lists show them, of one batch as it is now, and what it cannot tell it says: then
the page reads again. So nothing is kept for a reader but the ids of what has changed (`news`).
"""

import asyncio
from collections.abc import AsyncGenerator, Iterator
from contextlib import aclosing
from dataclasses import dataclass

from starlette.requests import Request
from starlette.responses import StreamingResponse
from starlette.types import Receive, Scope, Send

from nightshift_api.batches import Batches
from nightshift_api.console.cookies import Session
from nightshift_api.console.messages import BEAT, render_event
from nightshift_api.console.sessions import Sessions
from nightshift_api.context import Context
from nightshift_api.following import Follower
from nightshift_api.quota import Places
from nightshift_crds.cluster.port import BATCH_JOB
from nightshift_crds.errors import NotFound, Unavailable

_BEAT_S = 15.0
"""Less than the minute after which proxies take a silent connection for a dead one."""
_HEADERS = {"cache-control": "no-store", "x-accel-buffering": "no", "x-content-type-options": "nosniff"}
_RUNNING = frozenset({"in_progress", "finalizing", "cancelling"})


@dataclass
class _Watch:
    """The batch that a page shows in detail, and what it was last told of it."""

    batch_id: str | None
    status: str = "in_progress"
    told: bytes = b""
    looked_at: float = float("-inf")

    def is_due(self, ids: list[str] | None, now: float, every_s: float) -> bool:
        """Tell whether to look: it has changed, or it runs, and then the bucket knows more than what we are told."""
        if self.batch_id is None or ids is None or self.batch_id in ids:
            return self.batch_id is not None
        return self.status in _RUNNING and now >= self.looked_at + every_s


@dataclass
class _Reader:
    """One open console."""

    session: Session
    namespace: str
    last_seen: str | None
    watch: _Watch
    told_at: float


class Events:
    """Serves the streams."""

    def __init__(self, context: Context, sessions: Sessions) -> None:
        self._context = context
        self._sessions = sessions
        self._batches = Batches(context)
        self._places = Places(context.settings.max_console_streams)

    async def stream(self, request: Request) -> "_Stream":
        """Tell a console what changes, until it goes, its key is revoked, or this process ends."""
        session = self._sessions.require(request)
        namespace = self._sessions.namespace_of(session)
        assert namespace is not None
        watch = _Watch(request.query_params.get("batch"))
        reader = _Reader(session, namespace, request.query_params.get("seen"), watch, told_at=_now())
        return _Stream(self._places, session.key_hash, self._tell(reader))

    async def _tell(self, reader: _Reader) -> AsyncGenerator[bytes, None]:
        follower = self._context.lists.followers[BATCH_JOB]
        with follower.listening(reader.namespace) as news:
            yield _hello(reader, follower)
            while not self._context.closing.is_set():
                ids = await news.take(self._context.settings.console_poll_s)
                if self._sessions.namespace_of(reader.session) != reader.namespace:
                    yield render_event("signed-out", {})
                    return
                parts = [*_render_news(reader, follower, ids)]  # before anything else can happen: it names a version
                said = b"".join([*parts, *await self._look(reader.watch, reader.namespace, ids)])
                if said or _now() >= reader.told_at + _BEAT_S:
                    reader.told_at = _now()
                    yield said or BEAT

    async def _look(self, watch: _Watch, namespace: str, ids: list[str] | None) -> list[bytes]:
        """Tell of the batch in detail, if there is anything new."""
        if not watch.is_due(ids, _now(), self._context.settings.console_poll_s):
            return []
        assert watch.batch_id is not None
        watch.looked_at = _now()
        try:
            found = await self._batches.look(namespace, watch.batch_id)
        except NotFound:
            watch.status = ""  # until it is heard of again
            return []
        except Unavailable:
            return []
        before, watch.status, watch.told = watch.told, found.status, found.model_dump_json().encode()
        return [render_event("detail", watch.told)] if watch.told != before else []


def _now() -> float:
    return asyncio.get_running_loop().time()


def _hello(reader: _Reader, follower: Follower) -> bytes:
    version, totals = str(follower.version_of(reader.namespace)), follower.index.totals(reader.namespace)
    return render_event("hello", {"missed": reader.last_seen != version, "totals": totals}, version)


def _render_news(reader: _Reader, follower: Follower, ids: list[str] | None) -> Iterator[bytes]:
    version, totals = str(follower.version_of(reader.namespace)), follower.index.totals(reader.namespace)
    if ids is None:
        yield render_event("missed", {"totals": totals}, version)
        return
    for id_ in ids:
        row = follower.index.find(reader.namespace, id_)
        yield render_event("batch", row.shown, version) if row else render_event("gone", {"id": id_}, version)
    if ids:
        yield render_event("totals", totals, version)


class _Stream:
    """The answer that holds a place while it lasts. Raises `TooMany` before it has begun."""

    def __init__(self, places: Places, who: str, events: AsyncGenerator[bytes, None]) -> None:
        self._places = places
        self._who = who
        self._events = events

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Send until the reader goes."""
        with self._places.hold(self._who, "max_console_streams", "So many consoles are open with this key already."):
            async with aclosing(self._events) as events:
                response = StreamingResponse(events, headers=_HEADERS, media_type="text/event-stream")
                await response(scope, receive, send)
