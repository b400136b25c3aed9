"""A model client that sends no more at once than its flow allows; whoever is too many waits in line.

`flow` decides, this lets in. It costs a request two looks at the clock as long as nobody waits.
"""

import asyncio
from collections import deque
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from functools import partial

from nightshift_processor.client import Failure, Hear, ModelClient, Result
from nightshift_processor.flow import Flow, Rules
from nightshift_processor.load import watch_load
from nightshift_processor.settings import RunSettings
from nightshift_processor.tally import Tally

_REFUSALS = frozenset({429, 503})
_UNSERVED = frozenset({Failure.NOT_CONNECTED, Failure.TIMEOUT})


class PacedClient:
    """A client before which requests wait for their turn."""

    def __init__(self, client: ModelClient, flow: Flow, tally: Tally) -> None:
        self._client = client
        self._flow = flow
        self._tally = tally
        self._loop = asyncio.get_running_loop()
        self._waiting: deque[tuple[bytes, Hear]] = deque()
        self._timer: asyncio.TimerHandle | None = None
        self._refused: dict[int, int] = {}
        """By the hash of a body that was refused: how many had been answered then."""

    def send(self, body: bytes, hear: Hear) -> None:
        """See the interface."""
        now = self._loop.time()
        if not self._waiting and self._flow.enter(now):
            self._send(body, hear, now)
        else:
            self._waiting.append((body, hear))
            self._let_in()

    def close(self) -> None:
        """Send nobody who still waits."""
        self._waiting.clear()

    def _send(self, body: bytes, hear: Hear, now: float) -> None:
        self._tally.send(now)
        self._client.send(body, partial(self._hear, body, hear, now))

    def _hear(self, body: bytes, hear: Hear, sent_at: float, result: Result) -> None:
        self._note(body, sent_at, result)
        self._flow.leave()
        if self._waiting:
            self._let_in()
        hear(result)

    def _note(self, body: bytes, sent_at: float, result: Result) -> None:
        if isinstance(result, Failure):
            self._tally.fail(result)
            if result in _UNSERVED:
                self._refuse(body, sent_at, None)
            return
        now = self._loop.time()
        self._tally.answer(result.status, now - sent_at)
        if result.status in _REFUSALS:
            self._refuse(body, sent_at, result.retry_after_s)
        else:
            self._flow.answer(sent_at, now, len(result.body) if result.status == 200 else 0)

    def _refuse(self, body: bytes, sent_at: float, retry_after_s: float | None) -> None:
        """Tell the flow.

        A line that is refused again, though others were served meanwhile, says nothing of the server: one that nobody
        can serve must not slow a whole batch down.
        """
        key = hash(body)
        is_news = self._refused.get(key, self._flow.answers) == self._flow.answers
        self._refused[key] = self._flow.answers
        self._flow.refuse(sent_at, self._loop.time(), retry_after_s, is_news=is_news)

    def _let_in(self) -> None:
        """Let in whoever may go now, and come back when a hold ends."""
        now = self._loop.time()
        while self._waiting and self._flow.enter(now):
            body, hear = self._waiting.popleft()
            self._send(body, hear, now)
        if self._waiting and self._timer is None and self._flow.held_until > now:
            self._timer = self._loop.call_at(self._flow.held_until, self._end_hold)

    def _end_hold(self) -> None:
        self._timer = None
        self._let_in()


@asynccontextmanager
async def paced(settings: RunSettings, client: ModelClient, tally: Tally) -> AsyncIterator[ModelClient]:
    """Pace a client for as long as the context lasts."""
    flow = Flow(
        Rules(settings.max_concurrency, settings.batch_share, settings.latency_tolerance, settings.model_is_shared)
    )
    tally.flow = flow
    watching = asyncio.create_task(watch_load(settings, flow), name="load") if settings.model_is_shared else None
    paced_client = PacedClient(client, flow, tally)
    try:
        yield paced_client
    finally:
        paced_client.close()
        if watching is not None:
            watching.cancel()
            with suppress(asyncio.CancelledError):
                await watching
