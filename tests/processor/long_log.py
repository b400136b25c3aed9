"""How long the logs of a day take to list, to download and to seal: `python -m tests.processor.long_log`.

17,000 records are what one processor leaves that writes every five seconds for 24 h. A reading, not a test: it prints
seconds. `STORAGE_EMULATOR_HOST` and `gs://NAME` measure a bucket behind HTTP, a path the directory bucket.
"""

import argparse
import asyncio
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from tempfile import TemporaryDirectory

from nightshift_crds import names
from nightshift_crds.bucket import open_bucket
from nightshift_crds.bucket.port import Bucket
from nightshift_crds.exits import Exit
from nightshift_crds.names import ResultKind
from nightshift_crds.records import Header, Ledger, RecordKind, State, encode_record
from nightshift_crds.slicelog import last_end, read_lines
from nightshift_processor.seal import seal
from tests.builders import BATCH_UID
from tests.processor.given import a_failure, a_success, seal_settings

LINES_OF_A_RECORD = 3
_AT_ONCE = 16


def records_of(records: int, slices: int, line_bytes: int) -> Iterator[tuple[str, bytes]]:
    """Write logs of that many records altogether, each of a few lines; every hundredth has an error."""
    each = records // slices
    items = records * LINES_OF_A_RECORD
    for slice_no in range(slices):
        ledger, state = Ledger(items), State()
        for seq in range(each):
            first = (slice_no * each + seq) * LINES_OF_A_RECORD
            outputs = [a_success(first + n, text="x" * line_bytes).line for n in range(LINES_OF_A_RECORD)]
            errors = [a_failure(first).line] if first % 300 == 297 else []
            ledger.add(range(first, first + LINES_OF_A_RECORD))
            state = State(
                completed=state.completed + len(outputs),
                failed=state.failed + len(errors),
                output_bytes=state.output_bytes + sum(map(len, outputs)),
                error_bytes=state.error_bytes + sum(map(len, errors)),
                done=ledger.pack(),
            )
            kind = RecordKind.CLAIM if not seq else RecordKind.END if seq == each - 1 else RecordKind.PART
            header = Header(
                kind=kind,
                writer="w",
                state=state,
                output_length=sum(map(len, outputs)),
                error_length=sum(map(len, errors)),
            )
            yield names.record_key(BATCH_UID, slice_no, seq), encode_record(header, [*outputs, *errors])


async def fill(bucket: Bucket, records: Iterator[tuple[str, bytes]]) -> None:
    """Put records, several at once."""

    async def put_some() -> None:
        for key, record in records:
            await bucket.put(key, record, create_only=True)

    await asyncio.gather(*(put_some() for _ in range(_AT_ONCE)))


@asynccontextmanager
async def timing(what: str) -> AsyncIterator[None]:
    """Print how long the context took."""
    started = time.perf_counter()
    yield
    print(f"{what:<28} {time.perf_counter() - started:8.2f} s", flush=True)


async def measure(url: str, records: int, slices: int, line_bytes: int) -> None:
    """Fill a bucket and read it in all the ways that there are."""
    async with open_bucket(url) as bucket:
        async with timing(f"write {records:,} records"):
            await fill(bucket, records_of(records, slices, line_bytes))
        async with timing("list"):
            found = [info async for info in bucket.list(names.batch_prefix(BATCH_UID))]
        assert len(found) == records // slices * slices
        async with timing("last end"):
            assert await last_end(bucket, BATCH_UID, slices)
        async with timing("download while it runs"):
            keys = [names.record_key(BATCH_UID, n, seq) for n in range(slices) for seq in range(records // slices)]
            size = 0
            async for chunk in read_lines(bucket, keys, ResultKind.OUTPUT):
                size += len(chunk)
        async with timing(f"seal ({size / 1e6:.0f} MB of output)"):
            with TemporaryDirectory() as scratch:
                assert await seal(seal_settings(bucket, slices=slices, scratch_dir=scratch), bucket) is Exit.DONE


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("url", nargs="?", help="URL of an empty bucket; a folder of its own by default")
    parser.add_argument("--records", type=int, default=17_000)
    parser.add_argument("--slices", type=int, default=1)
    parser.add_argument("--line-bytes", type=int, default=1_000)
    options = parser.parse_args()
    with TemporaryDirectory() as folder:
        where = options.url or f"file://{Path(folder)}"
        asyncio.run(measure(where, options.records, options.slices, options.line_bytes))
