"""Write the log of a slice by the commit protocol (design 5): claim it, append results, end it.

There is never more than one writer's future. Every record is a create-only upload under the next number; one that is
there already is either our own (its answer was lost: success) or another writer's (we are fenced: stop, write nothing
more). A record that was begun is tried again with the same bytes until it stands or we are fenced, and never given up
half-way, so that its number always means the same.
"""

import asyncio
import random
import time
from array import array
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import TypeVar
from uuid import uuid4

import structlog

from nightshift_crds import names
from nightshift_crds.bucket.port import Bucket
from nightshift_crds.errors import AlreadyExists, NightshiftError, Unavailable
from nightshift_crds.lines import Usage
from nightshift_crds.records import (
    Claimant,
    Header,
    Ledger,
    Progress,
    RecordKind,
    State,
    encode_progress,
    encode_record,
)
from nightshift_crds.slicelog import Tail, read_header
from nightshift_processor.choosing import Standing, judge
from nightshift_processor.outcome import Outcome
from nightshift_processor.tally import Tally

_log = structlog.get_logger()
_T = TypeVar("_T")
_RETRY_S = 0.2
_RETRY_CAP_S = 10.0


class Fenced(NightshiftError):
    """Another writer has the log: nothing that we write can count any more."""


@dataclass(frozen=True)
class SliceLog:
    """Which log it is, who writes it, and how often."""

    bucket: Bucket
    batch_uid: str
    slice_no: int
    by: Claimant
    items: int
    flush_interval_s: float
    flush_bytes: int
    give_up_after_s: float
    tally: Tally = field(default_factory=Tally)


@dataclass
class _Pending:
    """Results that are not durable yet."""

    outputs: list[bytes] = field(default_factory=list)
    errors: list[bytes] = field(default_factory=list)
    items: list[int] = field(default_factory=list)
    usage: Usage = field(default_factory=Usage)
    size: int = 0


class SliceWriter:
    """The writer of one slice, from its claim on. `pump` makes results durable while `add` takes them."""

    def __init__(self, log: SliceLog) -> None:
        self._log = log
        self._writer = str(uuid4())
        self._seq = -1
        self._claim = 0
        self._state = State()
        self._ledger = Ledger(log.items)
        self._pending = _Pending()
        self._due = asyncio.Event()
        self._room = asyncio.Event()
        self._room.set()
        self._closing: RecordKind | None = None
        self._reported = time.monotonic()
        self._reported_lines = 0

    async def claim(self, tail: Tail | None) -> bool:
        """Take the log over, behind whatever stands in it; False if its slice has ended or is another pod's.

        `tail` is the last record that is known of; what has come behind it is found.

        Raises:
            Fenced: seal has closed the log, or a later attempt has it.
        """
        header = tail.header if tail else None
        self._seq = tail.seq if tail else -1
        while header is None or self._may_follow(header):
            self._state = header.state if header else State()
            claim = Header(kind=RecordKind.CLAIM, writer=self._writer, by=self._log.by, state=self._state)
            header = await self._append(encode_record(claim))
            if header is None:
                await self._begin()
                return True
        return False

    def _may_follow(self, header: Header) -> bool:
        standing = judge(header, self._log.by)
        if standing is Standing.LOST:
            raise Fenced(f"slice {self._log.slice_no} is closed, or a later attempt has it")
        return standing is not Standing.SETTLED

    async def _begin(self) -> None:
        self._claim = self._seq
        self._ledger = Ledger.unpack(self._state.done, self._log.items)
        self._reported_lines = self._state.completed + self._state.failed
        await self._report()

    def left_of(self, items: Iterable[int]) -> "array[int]":
        """Give those of some items whose results the log had not when it was claimed and has not taken since."""
        return self._ledger.left_of(items)

    @property
    def state(self) -> State:
        """What is durable."""
        return self._state

    @property
    def has_room(self) -> bool:
        """Whether more can be taken; if not, too much is not durable yet."""
        return self._room.is_set()

    async def wait_for_room(self) -> None:
        """Wait until more can be taken, or until nothing will be."""
        await self._room.wait()

    def add(self, item: int, outcome: Outcome) -> None:
        """Take a result."""
        pending = self._pending
        pending.items.append(item)
        pending.size += len(outcome.line)
        if outcome.usage is None:
            pending.errors.append(outcome.line)
        else:
            pending.outputs.append(outcome.line)
            pending.usage += outcome.usage
        if pending.size >= self._log.flush_bytes:
            self._press(pending.size)

    def _press(self, size: int) -> None:
        """Have so much written soon, and take no more if it is too much."""
        self._due.set()
        if size >= 2 * self._log.flush_bytes and self._closing is None:
            self._room.clear()

    async def pump(self) -> None:
        """Make results durable as they come, until the log is closed. Must not be cancelled.

        Raises:
            Fenced: another writer has taken over.
            Unavailable: the bucket did not answer for too long.
        """
        try:
            await self._flush_until_closed()
        finally:
            self.close(ended=False)  # nobody may wait for a pump that has stopped

    async def _flush_until_closed(self) -> None:
        while self._closing is None:
            try:
                async with asyncio.timeout(self._log.flush_interval_s):
                    await self._due.wait()
            except TimeoutError:
                pass
            self._due.clear()
            if self._pending.items and self._closing is None:
                await self._flush(RecordKind.PART)
        if self._pending.items or self._closing is RecordKind.END:
            await self._flush(self._closing)

    def close(self, *, ended: bool) -> None:
        """Have `pump` write what is left and return: as the end of the slice, or for another writer to go on.

        The first call says which.
        """
        self._closing = self._closing or (RecordKind.END if ended else RecordKind.PART)
        self._due.set()
        self._room.set()

    async def _flush(self, kind: RecordKind) -> None:
        pending, self._pending = self._pending, _Pending()
        self._room.set()
        self._ledger.add(pending.items)
        header = Header(
            kind=kind,
            writer=self._writer,
            by=self._log.by,
            state=self._sum(pending),
            output_length=sum(map(len, pending.outputs)),
            error_length=sum(map(len, pending.errors)),
        )
        record = encode_record(header, [*pending.outputs, *pending.errors])
        done = (len(pending.outputs), len(pending.errors), pending.usage)
        del pending  # while it is written the record alone is held
        if await self._append(record) is not None:
            raise Fenced(f"another writer has slice {self._log.slice_no}")
        self._state = header.state
        self._log.tally.flush(*done, len(record))
        if not self._is_pressed():
            await self._report(has_ended=kind is RecordKind.END)

    def _is_pressed(self) -> bool:
        """Tell whether the next record is due already, which can be reported with this one, and not too late."""
        is_next_due = self._pending.size >= self._log.flush_bytes and self._closing is None
        return is_next_due and time.monotonic() - self._reported < self._log.flush_interval_s

    def _sum(self, pending: _Pending) -> State:
        state = self._state
        return State(
            completed=state.completed + len(pending.outputs),
            failed=state.failed + len(pending.errors),
            usage=state.usage + pending.usage,
            output_bytes=state.output_bytes + sum(map(len, pending.outputs)),
            error_bytes=state.error_bytes + sum(map(len, pending.errors)),
            done=self._ledger.pack(),
        )

    async def _append(self, record: bytes) -> Header | None:
        """Write the next record; the header of another writer's record if that stands there instead."""
        seq = self._seq + 1
        key = names.record_key(self._log.batch_uid, self._log.slice_no, seq)
        found = await insist(lambda: self._create(key, record), key, self._log.give_up_after_s)
        self._seq = seq
        return found if found is not None and found.writer != self._writer else None

    async def _create(self, key: str, record: bytes) -> Header | None:
        """Create an object; the header of the one that is there already."""
        try:
            await self._log.bucket.put(key, record, create_only=True)
        except AlreadyExists:
            return await read_header(self._log.bucket, key)
        return None

    async def _report(self, *, has_ended: bool = False) -> None:
        """Rewrite the progress; one that is lost is made up for by the next. Nobody works at what has ended."""
        now = time.monotonic()
        lines = self._state.completed + self._state.failed
        rate = 0.0 if has_ended else (lines - self._reported_lines) / max(now - self._reported, 1e-3)
        self._reported, self._reported_lines = now, lines
        progress = Progress(seq=self._seq, state=self._state, rate=round(rate, 1))
        key = names.progress_key(self._log.batch_uid, self._log.slice_no, self._claim)
        try:
            await self._log.bucket.put(key, encode_progress(progress), create_only=False)
        except Unavailable:
            _log.warning("progress.unavailable", key=key)


async def insist(call: Callable[[], Awaitable[_T]], what: str, give_up_after_s: float) -> _T:
    """Call a bucket, however often it takes. Raises `Unavailable` if it did not answer for too long."""
    give_up_at = time.monotonic() + give_up_after_s
    delay_s = _RETRY_S
    while True:
        try:
            return await call()
        except Unavailable:
            if time.monotonic() > give_up_at:
                raise
            _log.warning("bucket.unavailable", key=what)
            await asyncio.sleep(random.uniform(0, delay_s))  # noqa: S311 - jitter
            delay_s = min(2 * delay_s, _RETRY_CAP_S)


@asynccontextmanager
async def pumping(writer: SliceWriter) -> AsyncIterator["asyncio.Task[None]"]:
    """Run a writer's pump beside its feeders; the context ends when all that was taken is durable, or cannot be."""
    pump = asyncio.create_task(writer.pump(), name="pump")
    try:
        yield pump
    finally:
        writer.close(ended=False)
        await pump
