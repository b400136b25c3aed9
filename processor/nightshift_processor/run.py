"""`run`: send the lines of a slice to the model server and write what comes back to the slice's log.

Worker loops share one iterator over the lines that the log does not hold yet: a line is read only when a worker is
free, so memory does not grow with the input. Whatever ends the run early (SIGTERM, the deadline, another writer) stops
the intake, aborts what is in flight and makes durable what has arrived.
"""

import asyncio
import random
from collections.abc import Iterator
from contextlib import closing, suppress
from dataclasses import dataclass
from datetime import UTC, datetime

import structlog

from nightshift_crds import names
from nightshift_crds.bucket.port import Bucket
from nightshift_crds.errors import Missing
from nightshift_crds.exits import Exit
from nightshift_crds.lines import parse_item
from nightshift_processor.client import Answer, ModelClient, NoAnswer, open_client
from nightshift_processor.outcome import Asked, conclude
from nightshift_processor.retry import Tries, next_delay
from nightshift_processor.settings import RunSettings
from nightshift_processor.spool import InputChanged, Spool, fill_spool
from nightshift_processor.writer import Fenced, SliceLog, SliceWriter, pumping

_log = structlog.get_logger()


def slice_of(items: int, slices: int, slice_no: int) -> range:
    """Name the items of a slice: equal runs of the input, in its order. Pure."""
    return range(items * slice_no // slices, items * (slice_no + 1) // slices)


async def run(settings: RunSettings, bucket: Bucket, stop: asyncio.Event) -> Exit:
    """Run a slice to its end, or until `stop` is set or the deadline has come."""
    try:
        spool = await fill_spool(bucket, settings.input_key, settings.input_crc32c, settings.scratch_dir)
    except (Missing, InputChanged) as error:
        _log.error("input.unusable", problem=type(error).__name__)
        return Exit.BAD_INPUT
    with closing(spool):
        try:
            return await _write_slice(settings, bucket, spool, stop)
        except Fenced:
            _log.warning("slice.fenced", slice=settings.slice_no)
            return Exit.INTERRUPTED


async def _write_slice(settings: RunSettings, bucket: Bucket, spool: Spool, stop: asyncio.Event) -> Exit:
    writer = SliceWriter(_slice_log(settings, bucket, len(spool)))
    if not await writer.claim():
        return Exit.DONE
    todo = [i for i in slice_of(len(spool), settings.slices, settings.slice_no) if not writer.is_done(i)]
    _log.info("slice.claimed", slice=settings.slice_no, lines=len(todo))
    async with open_client(settings) as client, pumping(writer) as pump:
        dispatch = _Dispatch(settings, spool, writer, client, iter(todo))
        end = await _until_over(dispatch.work_all(len(todo)), pump, stop, settings.deadline)
        writer.close(ended=end is Exit.DONE)
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


async def _until_over(
    work: "asyncio.Task[None]", pump: "asyncio.Task[None]", stop: asyncio.Event, deadline: datetime
) -> Exit:
    """Wait for whatever ends the run, and see to it that no worker is left."""
    stopping = asyncio.create_task(stop.wait(), name="stop")
    left_s = (deadline - datetime.now(UTC)).total_seconds()
    await asyncio.wait({work, pump, stopping}, timeout=max(left_s, 0), return_when=asyncio.FIRST_COMPLETED)
    stopping.cancel()
    if work.done():
        await work
        return Exit.DONE
    work.cancel()
    with suppress(asyncio.CancelledError):
        await work
    return Exit.INTERRUPTED if stop.is_set() or pump.done() else Exit.DEADLINE


@dataclass(frozen=True)
class _Dispatch:
    """The worker loops of a slice."""

    settings: RunSettings
    spool: Spool
    writer: SliceWriter
    client: ModelClient
    todo: Iterator[int]

    def work_all(self, lines: int) -> "asyncio.Task[None]":
        """Start as many workers as there may be requests in flight."""
        return asyncio.create_task(self._work_all(min(lines, self.settings.max_concurrency)), name="work")

    async def _work_all(self, workers: int) -> None:
        async with asyncio.TaskGroup() as group:
            for _ in range(workers):
                group.create_task(self._work())

    async def _work(self) -> None:
        for item in self.todo:
            line = parse_item(self.spool.read(item))
            asked = Asked(names.line_id(self.settings.batch_uid, item), line.custom_id)
            result = await self._ask(bytes(line.body))
            await self.writer.add(item, conclude(asked, result, self.settings.error_line_format))

    async def _ask(self, body: bytes) -> Answer | NoAnswer:
        """Send a line until its result stands."""
        tries = Tries()
        while True:
            result = await self._post(body)
            tries = tries.after(result)
            delay_s = next_delay(result, tries, self.settings.max_tries, random.random())  # noqa: S311 - jitter
            if delay_s is None:
                return result
            await asyncio.sleep(delay_s)

    async def _post(self, body: bytes) -> Answer | NoAnswer:
        try:
            return await self.client.post(body)
        except NoAnswer as no_answer:
            return no_answer
