"""The bytes of a file: of one that is whole, and of a result file while its batch runs (contract 3.5, design 5)."""

from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import aclosing
from dataclasses import dataclass

from nightshift_crds import names
from nightshift_crds.bucket.port import Bucket
from nightshift_crds.errors import Missing
from nightshift_crds.models import FileSource
from nightshift_crds.names import ResultKind
from nightshift_crds.records import Progress, State
from nightshift_crds.slicelog import read_lines, read_progress


@dataclass(frozen=True)
class Content:
    """A snapshot: so many bytes, whole lines."""

    size: int
    chunks: AsyncIterator[bytes]


async def sealed_content(bucket: Bucket, key: str) -> Content:
    """Open a file that changes no more. Raises `Missing`."""
    info = await bucket.head(key)
    if info is None:
        raise Missing(key)
    return Content(info.size, bucket.read(key))


async def growing_content(bucket: Bucket, source: FileSource) -> Content:
    """Open what a running batch has made durable so far: the logs of its slices up to their progress."""
    if source.batch_uid is None or source.kind is None:
        raise Missing("a file that no batch writes")
    progress = await read_progress(bucket, source.batch_uid)
    size = sum(size_of(source.kind, found.state) for found in progress.values())
    return Content(size, _lines_so_far(bucket, source.batch_uid, source.kind, progress))


def size_of(kind: ResultKind, state: State) -> int:
    """Tell how large a result file is in a state of its batch. Pure."""
    return state.output_bytes if kind is ResultKind.OUTPUT else state.error_bytes


async def _lines_so_far(
    bucket: Bucket, batch_uid: str, kind: ResultKind, progress: dict[int, Progress]
) -> AsyncGenerator[bytes, None]:
    for slice_no, found in sorted(progress.items()):
        for seq in range(found.seq + 1):
            key = names.record_key(batch_uid, slice_no, seq)
            async with aclosing(read_lines(bucket, key, kind)) as chunks:
                async for chunk in chunks:
                    yield chunk
