"""`run`: send the lines of a slice to the model server and write what comes back to the slice's log.

Worker loops share the numbers of the lines that the log does not hold yet: a line is read only when a worker is free,
so memory does not grow with the input. Whatever ends the run early (SIGTERM, the deadline, another writer) stops the
intake, aborts what is in flight and makes durable what has arrived.
"""

import asyncio
import random
from collections import deque
from contextlib import closing
from dataclasses import dataclass, field

import structlog

from nightshift_crds import names
from nightshift_crds.bucket.port import Bucket
from nightshift_crds.errors import Missing
from nightshift_crds.exits import Exit
from nightshift_crds.lines import parse_item
from nightshift_processor.client import Answer, ModelClient, NoAnswer, open_client
from nightshift_processor.outcome import Asked, conclude
from nightshift_processor.pacing import paced
from nightshift_processor.retry import Tries, is_turn_over, next_delay
from nightshift_processor.settings import RunSettings
from nightshift_processor.spool import InputChanged, Spool, fill_spool
from nightshift_processor.stopping import unless, wait_until_over
from nightshift_processor.writer import Fenced, SliceLog, SliceWriter, pumping

_log = structlog.get_logger()


def slice_of(items: int, slices: int, slice_no: int) -> range:
    """Name the items of a slice: equal runs of the input, in its order. Pure."""
    return range(items * slice_no // slices, items * (slice_no + 1) // slices)


async def run(settings: RunSettings, bucket: Bucket, stop: asyncio.Event) -> Exit:
    """Run a slice to its end, or until `stop` is set or the deadline has come."""
    over = asyncio.create_task(wait_until_over(stop, settings.deadline), name="over")
    try:
        return await _run(settings, bucket, over)
    finally:
        over.cancel()


async def _run(settings: RunSettings, bucket: Bucket, over: "asyncio.Task[Exit]") -> Exit:
    fetch = fill_spool(bucket, settings.input_key, settings.input_crc32c, settings.scratch_dir)
    try:
        spool = await unless(fetch, over)
    except (Missing, InputChanged) as error:
        _log.error("input.unusable", problem=type(error).__name__)
        return Exit.BAD_INPUT
    if spool is None:
        return await over
    with closing(spool):
        try:
            return await _write_slice(settings, bucket, spool, over)
        except Fenced:
            _log.warning("slice.fenced", slice=settings.slice_no)
            return Exit.INTERRUPTED


async def _write_slice(settings: RunSettings, bucket: Bucket, spool: Spool, over: "asyncio.Task[Exit]") -> Exit:
    writer = SliceWriter(_slice_log(settings, bucket, len(spool)))
    is_open = await unless(writer.claim(), over)
    if not is_open:
        return await over if is_open is None else Exit.DONE
    todo = [i for i in slice_of(len(spool), settings.slices, settings.slice_no) if not writer.is_done(i)]
    _log.info("slice.claimed", slice=settings.slice_no, lines=len(todo))
    async with open_client(settings) as unpaced, paced(settings, unpaced) as client, pumping(writer) as pump:
        is_done = await unless(_Dispatch(settings, spool, writer, client, deque(todo)).work_all(), pump, over)
        if is_done:
            writer.close(ended=True)
    end = Exit.DONE if is_done else await over
    _log.info("slice.left", slice=settings.slice_no, exit=end.name, completed=writer.state.completed)
    return end


def _slice_log(settings: RunSettings, bucket: Bucket, items: int) -> SliceLog:
    return SliceLog(
        bucket=bucket,
        batch_uid=settings.batch_uid,
        slice_no=settings.slice_no,
        items=items,
        flush_interval_s=settings.flush_interval_s,
        flush_bytes=settings.flush_bytes,
        give_up_after_s=settings.give_up_after_s,
    )


@dataclass(frozen=True)
class _Dispatch:
    """The worker loops of a slice.

    Attributes:
        todo: the items that have no result and that no worker has in hand.
        tries: what those of them have been through that gave way to others.
    """

    settings: RunSettings
    spool: Spool
    writer: SliceWriter
    client: ModelClient
    todo: deque[int]
    tries: dict[int, Tries] = field(default_factory=dict)

    async def work_all(self) -> bool:
        """Have as many workers as there may be requests in flight; True when every item has its result."""
        async with asyncio.TaskGroup() as group:
            for _ in range(min(len(self.todo), self.settings.max_concurrency)):
                group.create_task(self._work())
        return True

    async def _work(self) -> None:
        while self.todo:
            item = self.todo.popleft()
            line = parse_item(self.spool.read(item))
            result = await self._ask(item, bytes(line.body))
            if result is None:
                self.todo.append(item)
                continue
            asked = Asked(names.line_id(self.settings.batch_uid, item), line.custom_id)
            await self.writer.add(item, conclude(asked, result, self.settings.error_line_format))

    async def _ask(self, item: int, body: bytes) -> Answer | NoAnswer | None:
        """Send a line until its result stands; None if others shall go first meanwhile."""
        tries = self.tries.pop(item, Tries())
        while True:
            result = await self._post(body)
            tries = tries.after(result)
            delay_s = next_delay(result, tries, self.settings.max_tries, random.random())  # noqa: S311 - jitter
            if delay_s is None:
                return result
            await asyncio.sleep(delay_s)
            if is_turn_over(tries):
                self.tries[item] = tries
                return None

    async def _post(self, body: bytes) -> Answer | NoAnswer:
        try:
            return await self.client.post(body)
        except NoAnswer as no_answer:
            return no_answer
