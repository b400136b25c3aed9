"""Read the logs of a running batch through the bucket port: their tails, their lines, the progress.

It never writes: the processor does. The API serves content of a growing file from here, the operator asks whether all
slices have ended, the processor finds out where to go on.
"""

from collections.abc import AsyncGenerator
from contextlib import aclosing
from dataclasses import dataclass
from datetime import datetime

from nightshift_crds import names
from nightshift_crds.bucket.port import Bucket, get
from nightshift_crds.errors import Missing
from nightshift_crds.names import ResultKind
from nightshift_crds.records import Header, Progress, RecordKind, decode_header, decode_progress


@dataclass(frozen=True)
class Tail:
    """The last record of a log and when the bucket took it in."""

    seq: int
    header: Header
    written: datetime


async def read_tail(bucket: Bucket, batch_uid: str, slice_no: int) -> Tail | None:
    """Find the last record of a log; None if it has none."""
    last = None
    async with aclosing(bucket.list(names.log_prefix(batch_uid, slice_no))) as infos:
        async for info in infos:
            last = info
    if last is None:
        return None
    header, _ = await read_header(bucket, last.key)
    return Tail(int(last.key.rpartition("/")[2]), header, last.written)


async def read_header(bucket: Bucket, key: str) -> tuple[Header, int]:
    """Read a record's header and where its lines begin. Raises `Missing`."""
    held = b""
    async with aclosing(bucket.read(key)) as chunks:
        async for chunk in chunks:
            held += chunk
            if b"\n" in chunk:
                break
    line, _, _ = held.partition(b"\n")
    return decode_header(line), len(line) + 1


async def read_lines(bucket: Bucket, key: str, kind: ResultKind) -> AsyncGenerator[bytes, None]:
    """Stream the output or the error lines of a record. Raises `Missing`."""
    header, start = await read_header(bucket, key)
    first = start if kind is ResultKind.OUTPUT else start + header.output_length
    length = header.output_length if kind is ResultKind.OUTPUT else header.error_length
    if not length:
        return
    async with aclosing(bucket.read(key, first, first + length)) as chunks:
        async for chunk in chunks:
            yield chunk


async def read_progress(bucket: Bucket, batch_uid: str) -> dict[int, Progress]:
    """Read the newest progress of every slice that has one: that of its highest claim."""
    newest: dict[int, str] = {}
    async with aclosing(bucket.list(names.progress_prefix(batch_uid))) as infos:
        async for info in infos:
            newest[int(info.key.split("/")[-2])] = info.key
    found: dict[int, Progress] = {}
    for slice_no, key in newest.items():
        try:
            found[slice_no] = decode_progress(await get(bucket, key))
        except Missing:  # scratch is being cleared: the batch has ended
            continue
    return found


async def last_end(bucket: Bucket, batch_uid: str, slices: int) -> datetime | None:
    """Tell when the last slice ended, by the bucket's clock; None while one has not."""
    newest: datetime | None = None
    for slice_no in range(slices):
        ended = await _end_of(bucket, batch_uid, slice_no)
        if ended is None:
            return None
        newest = max(newest, ended) if newest else ended
    return newest


async def _end_of(bucket: Bucket, batch_uid: str, slice_no: int) -> datetime | None:
    tail = await read_tail(bucket, batch_uid, slice_no)
    if tail is None:
        return None
    if tail.header.kind is RecordKind.END:
        return tail.written
    if tail.header.kind is not RecordKind.CLOSE or tail.seq == 0:
        return None
    before = names.record_key(batch_uid, slice_no, tail.seq - 1)  # a seal that was begun closes logs that had ended
    header, _ = await read_header(bucket, before)
    info = await bucket.head(before)
    return info.written if info and header.kind is RecordKind.END else None
