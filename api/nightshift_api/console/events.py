"""What happens, as it happens: one stream of server-sent events for each console that is open.

It tells of the namespace's batches as lists show them, of one batch as it is now, and what it cannot tell it says: then
the page reads again. So nothing is kept for a reader but the ids of what has changed (`news`).
"""

from collections.abc import AsyncGenerator
from contextlib import aclosing
from dataclasses import dataclass, field

from starlette.requests import Request
from starlette.responses import StreamingResponse
from starlette.types import Receive, Scope, Send

from nightshift_api.batches import Batches
from nightshift_api.console.cookies import Session
from nightshift_api.console.messages import BEAT, render_event
from nightshift_api.console.sessions import Sessions
from nightshift_api.context import Context
from nightshift_api.following import Follower
from nightshift_api.news import News
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

    @property
    def is_running(self) -> bool:
        return self.batch_id is not None and self.status in _RUNNING


@dataclass
class _Reader:
    """One open console."""

    session: Session
    namespace: str
    last_seen: str | None
    watch: _Watch
    silent_s: float = field(default=0.0)


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
        reader = _Reader(session, namespace, request.query_params.get("seen"), watch)
        return _Stream(self._places, session.key_hash, self._tell(reader))

    async def _tell(self, reader: _Reader) -> AsyncGenerator[bytes, None]:
        follower = self._context.lists.followers[BATCH_JOB]
        with follower.listening(reader.namespace) as news:
            yield self._hello(reader, follower)
            while not self._context.closing.is_set():
                ids = await self._wait(reader, news)
                if self._sessions.namespace_of(reader.session) != reader.namespace:
                    yield render_event("signed-out", {})
                    return
                said = [part async for part in self._news(reader, follower, ids)]
                said += [part async for part in self._look(reader, ids)]
                if beat := self._beat(reader, said):
                    yield beat

    async def _wait(self, reader: _Reader, news: News) -> list[str] | None:
        poll_s = self._context.settings.console_poll_s
        reader.silent_s += poll_s
        return await news.take(poll_s)

    def _beat(self, reader: _Reader, said: list[bytes]) -> bytes:
        """Join what is said; now and then a word where there is nothing to say, so that no proxy takes us for dead."""
        if said or reader.silent_s >= _BEAT_S:
            reader.silent_s = 0
            return b"".join(said) or BEAT
        return b""

    def _hello(self, reader: _Reader, follower: Follower) -> bytes:
        version = str(follower.version_of(reader.namespace))
        totals = follower.index.totals(reader.namespace)
        return render_event("hello", {"missed": reader.last_seen != version, "totals": totals}, version)

    async def _news(self, reader: _Reader, follower: Follower, ids: list[str] | None) -> AsyncGenerator[bytes, None]:
        version, totals = str(follower.version_of(reader.namespace)), follower.index.totals(reader.namespace)
        if ids is None:
            yield render_event("missed", {"totals": totals}, version)
            return
        for id_ in ids:
            row = follower.index.find(reader.namespace, id_)
            yield render_event("batch", row.shown, version) if row else render_event("gone", {"id": id_}, version)
        if ids:
            yield render_event("totals", totals, version)

    async def _look(self, reader: _Reader, ids: list[str] | None) -> AsyncGenerator[bytes, None]:
        """Tell of the batch in detail: its status is behind the bucket while it runs."""
        watch = reader.watch
        if watch.batch_id is None or not (watch.is_running or ids is None or watch.batch_id in ids):
            return
        try:
            found = await self._batches.look(reader.namespace, watch.batch_id)
        except (NotFound, Unavailable):
            watch.status = ""
            return
        watch.status, json = found.status, found.model_dump_json().encode()
        if json != watch.told:
            watch.told = json
            yield render_event("detail", json)


class _Stream:
    """The answer that holds a place while it lasts. Raises `TooMany` before it has begun."""

    def __init__(self, places: Places, who: str, events: AsyncGenerator[bytes, None]) -> None:
        self._places = places
        self._who = who
        self._events = events

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Send until the reader goes."""
        with self._places.hold(self._who, "So many consoles are open with this key already."):
            async with aclosing(self._events) as events:
                response = StreamingResponse(events, headers=_HEADERS, media_type="text/event-stream")
                await response(scope, receive, send)
