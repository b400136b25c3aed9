"""Read the logs of a running batch through the bucket port: their tails, their lines, the progress.

It never writes: the processor does. The API serves content of a growing file from here, the operator asks whether all
slices have ended, the processor finds out where to go on. A batch may have a thousand slices and tens of thousands of
records: logs are listed once for all slices, and read several at a time.
"""

import asyncio
from collections import deque
from collections.abc import AsyncGenerator, Collection, Iterable, Iterator
from contextlib import aclosing
from dataclasses import dataclass
from datetime import datetime

from nightshift_crds import names
from nightshift_crds.bucket.port import Bucket, ObjectInfo, get
from nightshift_crds.errors import Missing
from nightshift_crds.names import ResultKind
from nightshift_crds.records import Header, Progress, RecordKind, decode_header, decode_progress
from nightshift_crds.several import drop, each_of

_HEADER_BYTES = 1 << 14
"""Read of a record whose header is wanted: more than a header has with 50,000 lines."""
_OPENING_BYTES = 1 << 18
"""Read of a record whose lines are wanted: most records are smaller, so that one request is all."""
_AHEAD = 8
"""Records whose beginning is read before it is their turn."""


@dataclass(frozen=True)
class Tail:
    """The last record of a log and when the bucket took it in."""

    seq: int
    header: Header
    written: datetime


@dataclass(frozen=True)
class _Opening:
    """The beginning of a record.

    Attributes:
        start: where its lines begin.
        held: its first bytes, which may be all.
    """

    header: Header
    start: int
    held: bytes


# --- tails ------------------------------------------------------------------------------------------------------------


async def read_tails(bucket: Bucket, batch_uid: str, known: Collection[int] = ()) -> dict[int, Tail]:
    """Find the last record of every log that has one, but for the slices that are `known`."""
    lasts = {n: infos[-1] for n, infos in (await _list_lasts(bucket, batch_uid)).items() if n not in known}
    headers = await each_of(lambda info: read_header(bucket, info.key), lasts.values())
    return {
        n: Tail(_number_of(info), header, info.written)
        for (n, info), header in zip(lasts.items(), headers, strict=True)
    }


async def _list_lasts(bucket: Bucket, batch_uid: str) -> dict[int, deque[ObjectInfo]]:
    """List the last two records of every log."""
    lasts: dict[int, deque[ObjectInfo]] = {}
    async with aclosing(bucket.list(names.logs_prefix(batch_uid))) as infos:
        async for info in infos:
            lasts.setdefault(_slice_of(info), deque(maxlen=2)).append(info)
    return lasts


def _slice_of(info: ObjectInfo) -> int:
    return int(info.key.split("/")[-2])


def _number_of(info: ObjectInfo) -> int:
    return int(info.key.rpartition("/")[2])


async def last_end(bucket: Bucket, batch_uid: str, slices: int) -> datetime | None:
    """Tell when the last slice ended, by the bucket's clock; None while one has not."""
    lasts = await _list_lasts(bucket, batch_uid)
    if len(lasts) < slices:
        return None
    ends = await each_of(lambda infos: _end_of(bucket, infos), lasts.values())
    times = [end for end in ends if end is not None]
    return max(times) if len(times) == len(ends) else None


async def _end_of(bucket: Bucket, infos: Iterable[ObjectInfo]) -> datetime | None:
    *before, last = infos
    header = await read_header(bucket, last.key)
    if header.kind is RecordKind.CLOSE and before:  # a seal that was begun closes logs that had ended
        last = before[0]
        header = await read_header(bucket, last.key)
    return last.written if header.kind is RecordKind.END else None


# --- records ----------------------------------------------------------------------------------------------------------


async def read_header(bucket: Bucket, key: str) -> Header:
    """Read a record's header. Raises `Missing`."""
    return (await _open(bucket, key, _HEADER_BYTES)).header


async def _open(bucket: Bucket, key: str, size: int) -> _Opening:
    held = b""
    while b"\n" not in held:
        block = await _read(bucket, key, len(held), size)
        if not block:
            break
        held += block
    line, _, _ = held.partition(b"\n")
    return _Opening(decode_header(line), len(line) + 1, held)


async def _read(bucket: Bucket, key: str, start: int, size: int) -> bytes:
    async with aclosing(bucket.read(key, start, start + size)) as chunks:
        return b"".join([chunk async for chunk in chunks])


async def read_lines(bucket: Bucket, keys: Iterable[str], kind: ResultKind) -> AsyncGenerator[bytes, None]:
    """Stream the output or the error lines of records, in their order. Raises `Missing`.

    The beginnings of those that come next are read meanwhile; what is held does not grow with their number or size.
    """
    rest = iter(keys)
    ahead: deque[tuple[str, asyncio.Task[_Opening]]] = deque()
    try:
        while True:
            ahead.extend(_open_some(bucket, rest, _AHEAD - len(ahead)))
            if not ahead:
                return
            key, opening = ahead[0]
            async with aclosing(_lines_of(bucket, key, await opening, kind)) as chunks:
                async for chunk in chunks:
                    yield chunk
            ahead.popleft()
    finally:
        await drop(opening for _, opening in ahead)


def _open_some(bucket: Bucket, keys: Iterator[str], number: int) -> Iterator[tuple[str, "asyncio.Task[_Opening]"]]:
    for _, key in zip(range(number), keys, strict=False):
        yield key, asyncio.create_task(_open(bucket, key, _OPENING_BYTES), name="read ahead")


async def _lines_of(bucket: Bucket, key: str, opening: _Opening, kind: ResultKind) -> AsyncGenerator[bytes, None]:
    header, is_output = opening.header, kind is ResultKind.OUTPUT
    start = opening.start if is_output else opening.start + header.output_length
    end = start + (header.output_length if is_output else header.error_length)
    held = opening.held[start:end]
    if held:
        yield held
    behind = max(start, len(opening.held))
    if behind < end:
        async with aclosing(bucket.read(key, behind, end)) as chunks:
            async for chunk in chunks:
                yield chunk


# --- progress ---------------------------------------------------------------------------------------------------------


async def read_progress(bucket: Bucket, batch_uid: str) -> dict[int, Progress]:
    """Read the newest progress of every slice that has one: that of its highest claim."""
    newest: dict[int, str] = {}
    async with aclosing(bucket.list(names.progress_prefix(batch_uid))) as infos:
        async for info in infos:
            newest[_slice_of(info)] = info.key
    found = await each_of(lambda key: _progress_of(bucket, key), newest.values())
    return {n: progress for n, progress in zip(newest, found, strict=True) if progress}


async def _progress_of(bucket: Bucket, key: str) -> Progress | None:
    try:
        return decode_progress(await get(bucket, key))
    except Missing:  # scratch is being cleared: the batch has ended
        return None
