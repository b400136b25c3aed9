"""The workers of a pod: each has one line in hand, sends it, hears its result, writes that, and goes on with the next.

A result is heard in a call. A task that waited for it would have to be woken, which costs a twentieth of what a line
does; only what has to wait - for another slice, for room, for another try - is a task.
"""

import asyncio
import random
from dataclasses import dataclass, field

from nightshift_crds import names
from nightshift_crds.lines import parse_item
from nightshift_crds.several import Start, errands
from nightshift_processor.client import ModelClient, Result
from nightshift_processor.outcome import conclude
from nightshift_processor.retry import Tries, is_served, is_turn_over, next_delay
from nightshift_processor.settings import RunSettings
from nightshift_processor.share import Part, Share
from nightshift_processor.spool import Spool
from nightshift_processor.tally import Tally

_UNTRIED = Tries()


async def work_all(settings: RunSettings, spool: Spool, share: Share, client: ModelClient, tally: Tally) -> bool:
    """Have as many workers as there may be requests in flight; True when nothing is left."""
    workers = min(len(spool) or 1, settings.max_concurrency)
    async with errands() as start:
        crew = _Crew(settings, spool, share, client, tally, start, workers)
        try:
            for _ in range(workers):
                _Worker(crew).go_on()
            await crew.end
        finally:
            crew.is_over = True
    return True


@dataclass
class _Crew:
    """What the workers share.

    Attributes:
        at_work: how many workers may still have a line to send.
        end: done when none has, or when one has failed.
        is_over: whether no more is sent; what has been answered all the same is kept.
        tries: what items have been through that gave way to others.
    """

    settings: RunSettings
    spool: Spool
    share: Share
    client: ModelClient
    tally: Tally
    start: Start
    at_work: int
    end: "asyncio.Future[None]" = field(default_factory=lambda: asyncio.get_running_loop().create_future())
    is_over: bool = False
    tries: dict[int, Tries] = field(default_factory=dict)

    def leave(self) -> None:
        """Count one worker less."""
        self.at_work -= 1
        if not self.at_work:
            self.end.set_result(None)

    def fail(self, error: Exception) -> None:
        """End with an error, the first of them."""
        self.is_over = True
        if not self.end.done():
            self.end.set_exception(error)


class _Worker:
    """One of those who share the lines."""

    __slots__ = ("_body", "_crew", "_custom_id", "_item", "_part", "_tries")

    _part: Part
    _item: int
    _custom_id: str
    _body: bytes
    _tries: Tries

    def __init__(self, crew: _Crew) -> None:
        self._crew = crew

    def go_on(self) -> None:
        """Take the next line in hand."""
        if self._crew.is_over:
            return
        found = self._crew.share.take()
        if found is None:
            self._crew.start(self._find())
        else:
            self._begin(*found)

    async def _find(self) -> None:
        found = await self._crew.share.find()
        if found is None:
            self._crew.leave()
        else:
            self._begin(*found)

    def _begin(self, part: Part, item: int) -> None:
        line = parse_item(self._crew.spool.read(item))
        self._part, self._item = part, item
        self._custom_id, self._body = line.custom_id, bytes(line.body)
        self._tries = self._crew.tries.pop(item, _UNTRIED)
        self._send()

    def _send(self) -> None:
        self._crew.client.send(self._body, self._hear)

    def _hear(self, result: Result) -> None:
        try:
            self._judge(result)
        except Exception as error:  # noqa: BLE001 - whoever tells us cannot do anything with it
            self._crew.fail(error)

    def _judge(self, result: Result) -> None:
        """Write a result if it stands, even one that comes while all are being stopped; else send its line again."""
        crew = self._crew
        if is_served(result):
            self._conclude(result)
            return
        self._tries = self._tries.after(result)
        delay_s = next_delay(result, self._tries, crew.settings.max_tries, random.random())  # noqa: S311 - jitter
        if delay_s is None:
            self._conclude(result)
        elif not crew.is_over:
            crew.tally.retry(result)
            crew.start(self._try_again(delay_s))

    def _conclude(self, result: Result) -> None:
        settings, part = self._crew.settings, self._part
        line_id = names.line_id(settings.batch_uid, self._item)
        part.add(self._item, conclude(line_id, self._custom_id, result, settings.error_line_format))
        if part.has_room:
            self.go_on()
        elif not self._crew.is_over:
            self._crew.start(self._wait_for_room())

    async def _wait_for_room(self) -> None:
        await self._part.wait_for_room()
        self.go_on()

    async def _try_again(self, delay_s: float) -> None:
        """Send a line again, unless others shall go first meanwhile."""
        crew = self._crew
        await asyncio.sleep(delay_s)
        if is_turn_over(self._tries):
            crew.tries[self._item] = self._tries
            crew.share.give_back(self._part, self._item)
            self.go_on()
        else:
            self._send()
