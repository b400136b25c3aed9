"""The bytes of a file: of one that is whole, and of a result file while its batch runs (contract 3.5, design 5)."""

from collections.abc import AsyncGenerator, AsyncIterator, Iterator
from contextlib import aclosing
from dataclasses import dataclass, replace

from nightshift_api.ranges import choose_part
from nightshift_api.wire import Ranged
from nightshift_crds import names
from nightshift_crds.bucket.port import Bucket
from nightshift_crds.errors import Missing
from nightshift_crds.models import FilePhase, FileSource, StoredFile
from nightshift_crds.names import ResultKind
from nightshift_crds.records import Progress, State
from nightshift_crds.slicelog import read_lines, read_progress


@dataclass(frozen=True)
class Content:
    """A snapshot: so many bytes, whole lines.

    Attributes:
        size: of the file as it is now.
        chunks: its bytes, or those of `part`.
        part: the range that was asked for; None is all of it.
        is_whole: whether nothing will come to it any more.
        etag: names the bytes of a file that is whole, in HTTP's spelling.
    """

    size: int
    chunks: AsyncIterator[bytes]
    part: range | None = None
    is_whole: bool = False
    etag: str | None = None


EVERYTHING = Ranged()


async def measure(bucket: Bucket, file: StoredFile) -> int:
    """Tell how much can be read of a file; one that is being written exists once it has a line. Raises `Missing`."""
    if file.status.phase is FilePhase.READY:
        return file.status.bytes
    return (await _find_lines(bucket, file.spec.source)).size


async def open_content(bucket: Bucket, file: StoredFile, asked: Ranged = EVERYTHING) -> Content:
    """Open what can be read of a file and read the first of it, so that what fails at once does so here.

    Raises `Missing` and `RangeNotSatisfiable`.
    """
    found = await find_content(bucket, file, asked)
    first = await anext(found.chunks, b"")
    return replace(found, chunks=_go_on(first, found.chunks))


async def _go_on(first: bytes, rest: AsyncIterator[bytes]) -> AsyncGenerator[bytes, None]:
    yield first
    async for chunk in rest:
        yield chunk


async def find_content(bucket: Bucket, file: StoredFile, asked: Ranged = EVERYTHING) -> Content:
    """Find what can be read of a file, and read nothing of it yet.

    A file that grows has no ranges: what is there of it now may have another place in it later.

    Raises `Missing` and `RangeNotSatisfiable`.
    """
    if file.status.phase is not FilePhase.READY:
        return await _find_lines(bucket, file.spec.source)
    key = names.file_key(file.id)
    info = await bucket.head(key)
    if info is None:
        raise Missing(key)
    etag = _etag_of(file)
    part = choose_part(asked, info.size, etag)
    chunks = bucket.read(key, part.start, part.stop) if part else bucket.read(key)
    return Content(info.size, chunks, part, is_whole=True, etag=etag)


def _etag_of(file: StoredFile) -> str | None:
    """Name the bytes of a file; those of one that is whole never change."""
    status = file.status
    return None if status.crc32c is None else f'"{status.crc32c:08x}-{status.bytes:x}"'


async def _find_lines(bucket: Bucket, source: FileSource) -> Content:
    """Find what a running batch has made durable so far: the logs of its slices up to their progress.

    Before them stands what a rerun has taken over. Of all that it is cleared first, so that it is looked for last.
    """
    if source.batch_uid is None or source.kind is None:
        raise Missing("a file that no batch writes")
    progress = await read_progress(bucket, source.batch_uid)
    size = sum(size_of(source.kind, found.state) for found in progress.values())
    lines = read_lines(bucket, _keys_of(source, progress), source.kind)
    if source.reused:
        key = names.reused_key(source.batch_uid)
        info = await bucket.head(key)
        if info is None:
            raise Missing(key)
        return Content(info.size + size, _joined(bucket.read(key), lines))
    if not size:
        raise Missing("a file without a line")
    return Content(size, lines)


async def _joined(*parts: AsyncGenerator[bytes, None]) -> AsyncGenerator[bytes, None]:
    for part in parts:
        async with aclosing(part) as chunks:
            async for chunk in chunks:
                yield chunk


def size_of(kind: ResultKind, state: State) -> int:
    """Tell how large a result file is in a state of its batch. Pure."""
    return state.output_bytes if kind is ResultKind.OUTPUT else state.error_bytes


def _keys_of(source: FileSource, progress: dict[int, Progress]) -> Iterator[str]:
    assert source.batch_uid is not None
    assert source.kind is not None
    for slice_no, found in sorted(progress.items()):
        for seq in range(found.seq + 1 if size_of(source.kind, found.state) else 0):
            yield names.record_key(source.batch_uid, slice_no, seq)
