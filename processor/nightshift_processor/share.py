"""The slices of one pod: it claims one after the other, hands their lines to workers, and ends each.

The next slice is claimed once every line of the last one is in hand, not once it is done: a request that takes long
keeps no worker idle. So several slices may be open, each with a writer of its own; what was handed out and comes back
without a result stays here.
"""

import asyncio
from array import array
from collections import deque
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field

import structlog

from nightshift_crds.bucket.port import Bucket
from nightshift_crds.errors import NightshiftError
from nightshift_crds.records import Claimant
from nightshift_crds.slicelog import Tail, read_tails
from nightshift_processor.choosing import Standing, choose, judge, slice_of
from nightshift_processor.outcome import Outcome
from nightshift_processor.settings import RunSettings
from nightshift_processor.spool import Spool
from nightshift_processor.tally import Tally
from nightshift_processor.writer import SliceLog, SliceWriter, insist, pumping

_log = structlog.get_logger()


class Part:
    """A slice that this pod has claimed."""

    def __init__(self, writer: SliceWriter, lines: int) -> None:
        self._writer = writer
        self._left = self._lines = lines

    @property
    def is_served(self) -> bool:
        """Whether a line has its result, or none needs one: if not, the model server may be down."""
        return self._left < self._lines or not self._lines

    @property
    def has_room(self) -> bool:
        """Whether more can be taken; if not, too much is not durable yet."""
        return self._writer.has_room

    async def wait_for_room(self) -> None:
        """Wait until more can be taken, or until nothing will be."""
        await self._writer.wait_for_room()

    def add(self, item: int, outcome: Outcome) -> None:
        """Take a result. The last line's ends the slice."""
        self._writer.add(item, outcome)
        self._left -= 1
        if not self._left:
            self._writer.close(ended=True)


@dataclass
class Share:
    """See `open_share`.

    Attributes:
        broken: done once a slice cannot be written, or none be claimed, any more: nothing helps.
    """

    settings: RunSettings
    bucket: Bucket
    spool: Spool
    tally: Tally
    writers: AsyncExitStack
    broken: "asyncio.Future[None]"
    _fresh: "array[int]" = field(default_factory=lambda: array("I"))
    """Lines that have not been in hand, the next one last: as objects they would take ten times the memory."""
    _again: deque[tuple[Part, int]] = field(default_factory=deque)
    _newest: Part | None = None
    _begun: list[SliceWriter] = field(default_factory=list)
    _is_exhausted: bool = False
    _is_stale: bool = True
    _tails: dict[int, Tail] = field(default_factory=dict)
    _settled: set[int] = field(default_factory=set)
    _turn: asyncio.Lock = field(default_factory=asyncio.Lock)

    def take(self) -> tuple[Part, int] | None:
        """Give the next line of the newest slice; None if all of them have been in hand."""
        return (self._newest, self._fresh.pop()) if self._newest and self._fresh else None

    async def find(self) -> tuple[Part, int] | None:
        """Give the next line, of a further slice if need be; None if there is nothing left to do for one more."""
        async with self._turn:
            while not self._fresh and self._wants_more() and await self._can_claim():
                pass
        return self.take() or (self._again.popleft() if self._again else None)

    def give_back(self, part: Part, item: int) -> None:
        """Take a line back that others shall go before."""
        self._again.append((part, item))

    def _wants_more(self) -> bool:
        """Tell whether a further slice is of use here.

        Not where lines wait whose slice has no result at all: a pod with a server that is down must not have them all.
        """
        return not self._is_exhausted and (not self._again or self._newest is None or self._newest.is_served)

    async def _can_claim(self) -> bool:
        try:
            return await self.claim()
        except NightshiftError as error:
            if not self.broken.done():
                self.broken.set_exception(error)
            return False

    async def claim(self) -> bool:
        """Claim the next slice that can be had; False if there is none left.

        Raises:
            Fenced: seal has closed the logs, or a later attempt is at work.
            Unavailable: the bucket did not answer for too long.
        """
        while (slice_no := await self._choose()) is not None:
            self._settled.add(slice_no)  # whoever has it now
            writer = SliceWriter(self._log_of(slice_no))
            if await writer.claim(self._tails.get(slice_no)):
                await self._begin(slice_no, writer)
                return True
            self._is_stale = True  # others are further than was known
        self._is_exhausted = True
        return False

    def stop(self) -> None:
        """Have all slices write at once what has arrived; leaving the share waits for it."""
        for writer in self._begun:
            writer.close(ended=False)

    async def _choose(self) -> int | None:
        settings = self.settings
        if self._is_stale:
            await self._look()
        lasts = {n: tail.header for n, tail in self._tails.items()}
        start = settings.slices * settings.index // settings.shards
        return choose(lasts, self._settled, settings.slices, self._me, start)

    async def _look(self) -> None:
        """Read what the logs have come to, but for slices that are settled: they stay so."""
        uid, give_up_after_s = self.settings.batch_uid, self.settings.give_up_after_s
        self._tails = await insist(lambda: read_tails(self.bucket, uid, self._settled), "log/", give_up_after_s)
        self._settled |= {n for n, tail in self._tails.items() if judge(tail.header, self._me) is Standing.SETTLED}
        self._is_stale = False

    @property
    def _me(self) -> Claimant:
        return Claimant(self.settings.attempt, self.settings.index)

    def _log_of(self, slice_no: int) -> SliceLog:
        return SliceLog(
            bucket=self.bucket,
            batch_uid=self.settings.batch_uid,
            slice_no=slice_no,
            by=self._me,
            items=len(self.spool),
            flush_interval_s=self.settings.flush_interval_s,
            flush_bytes=self.settings.flush_bytes,
            give_up_after_s=self.settings.give_up_after_s,
            tally=self.tally,
        )

    async def _begin(self, slice_no: int, writer: SliceWriter) -> None:
        run = slice_of(len(self.spool), self.settings.slices, slice_no)
        self._fresh = writer.left_of(reversed(self.spool.order[run]))
        self._newest = Part(writer, len(self._fresh))
        _log.info("slice.claimed", slice=slice_no, lines=len(self._fresh))
        self._begun.append(writer)
        pump = await self.writers.enter_async_context(pumping(writer))
        pump.add_done_callback(self._on_pumped)
        if not self._fresh:
            writer.close(ended=True)

    def _on_pumped(self, pump: "asyncio.Task[None]") -> None:
        if (pump.cancelled() or pump.exception()) and not self.broken.done():
            self.broken.set_result(None)  # who closes the writer gets the reason


@asynccontextmanager
async def open_share(settings: RunSettings, bucket: Bucket, spool: Spool, tally: Tally) -> AsyncIterator[Share]:
    """Open the share of a pod. Leaving it makes durable what has arrived, and ends no slice that is not done.

    Raises:
        Fenced: on leaving, another writer has a slice of ours.
        Unavailable: on leaving, the bucket did not answer for too long.
    """
    broken: asyncio.Future[None] = asyncio.get_running_loop().create_future()
    async with AsyncExitStack() as writers:
        share = Share(settings, bucket, spool, tally, writers, broken)
        try:
            yield share
        finally:
            share.stop()
        if broken.done():
            broken.result()
