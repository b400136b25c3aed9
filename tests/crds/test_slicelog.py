"""What is read out of logs and progress, whoever writes them meanwhile."""

from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import aclosing
from pathlib import Path

import msgspec
import pytest

from nightshift_crds import names
from nightshift_crds.bucket import open_bucket
from nightshift_crds.bucket.port import Bucket, ObjectInfo
from nightshift_crds.errors import Missing
from nightshift_crds.names import ResultKind
from nightshift_crds.records import Header, Progress, RecordKind, State, encode_progress, encode_record
from nightshift_crds.slicelog import last_end, read_header, read_lines, read_progress, read_tails
from tests.builders import BATCH_UID
from tests.processor.faults import FaultyBucket

CLAIM, PART, END, CLOSE = RecordKind.CLAIM, RecordKind.PART, RecordKind.END, RecordKind.CLOSE
OUTPUT, ERROR = ResultKind.OUTPUT, ResultKind.ERROR


@pytest.fixture
async def bucket(tmp_path: Path) -> AsyncIterator[Bucket]:
    async with open_bucket(f"file://{tmp_path}") as opened:
        yield opened


def a_header(kind: RecordKind, outputs: bytes = b"", errors: bytes = b"", done: bytes = b"") -> Header:
    return Header(
        kind=kind, writer="w", state=State(done=done), output_length=len(outputs), error_length=len(errors)
    )  # fmt: skip


async def put_record(bucket: Bucket, seq: int, header: Header, *lines: bytes, slice_no: int = 0) -> str:
    key = names.record_key(BATCH_UID, slice_no, seq)
    await bucket.put(key, encode_record(header, lines), create_only=True)
    return key


async def put_log(bucket: Bucket, *kinds: RecordKind, slice_no: int = 0) -> None:
    for seq, kind in enumerate(kinds):
        await put_record(bucket, seq, a_header(kind), slice_no=slice_no)


async def put_progress(bucket: Bucket, slice_no: int, claim: int, completed: int) -> None:
    progress = Progress(seq=claim, state=State(completed=completed))
    key = names.progress_key(BATCH_UID, slice_no, claim)
    await bucket.put(key, encode_progress(progress), create_only=False)


async def lines_of(bucket: Bucket, key: str, kind: ResultKind) -> bytes:
    return b"".join([chunk async for chunk in read_lines(bucket, [key], kind)])


# --- tails and lines --------------------------------------------------------------------------------------------------


async def test_a_log_without_records_has_no_tail(bucket: Bucket) -> None:
    await put_log(bucket, CLAIM, slice_no=1)
    assert set(await read_tails(bucket, BATCH_UID)) == {1}


async def test_a_tail_is_the_last_record_even_where_numbers_grow_longer(bucket: Bucket) -> None:
    for seq in (8, 9, 10, 99_999, 100_000):
        await put_record(bucket, seq, a_header(PART))
    tail = (await read_tails(bucket, BATCH_UID))[0]
    assert (tail.seq, tail.header.kind) == (100_000, PART)


async def test_the_tails_of_all_logs_are_found_but_for_those_that_are_known(bucket: Bucket) -> None:
    for slice_no in range(40):
        await put_log(bucket, *[CLAIM, PART][: 1 + slice_no % 2], slice_no=slice_no)
    tails = await read_tails(bucket, BATCH_UID, known={3, 38})
    assert {n: (tail.seq, tail.header.kind) for n, tail in tails.items()} == {
        n: (n % 2, PART if n % 2 else CLAIM) for n in range(40) if n not in {3, 38}
    }


@pytest.mark.parametrize("outputs", [b"", b'{"o":1}\n', b'{"o":1}\n{"o":2}\n'])
@pytest.mark.parametrize("errors", [b"", b'{"e":1}\n'])
@pytest.mark.parametrize("done", [b"", b"x" * 3_000_000], ids=["", "header-over-a-block"])
async def test_the_lines_of_a_record_are_told_apart(bucket: Bucket, outputs: bytes, errors: bytes, done: bytes) -> None:
    header = a_header(PART, outputs, errors, done)
    key = await put_record(bucket, 0, header, outputs, errors)
    assert await read_header(bucket, key) == header
    assert await lines_of(bucket, key, OUTPUT) == outputs
    assert await lines_of(bucket, key, ERROR) == errors


async def test_a_record_that_is_gone_is_missing(bucket: Bucket) -> None:
    with pytest.raises(Missing):
        await read_header(bucket, names.record_key(BATCH_UID, 0, 0))
    with pytest.raises(Missing):
        await lines_of(bucket, names.record_key(BATCH_UID, 0, 0), OUTPUT)


async def test_what_has_no_header_line_is_no_record(bucket: Bucket) -> None:
    await bucket.put("cut", b'{"kind":"part"', create_only=True)
    with pytest.raises(msgspec.DecodeError):
        await read_header(bucket, "cut")


@pytest.mark.parametrize("size", [10, 200_000, 300_000])
async def test_the_lines_of_many_records_come_in_their_order(bucket: Bucket, size: int) -> None:
    outputs = [b"%03d%s\n" % (n, b"o" * (size * (n % 3))) for n in range(30)]
    errors = [b"%03d\n" % n if n % 4 == 0 else b"" for n in range(30)]
    headers = [a_header(PART, *lines) for lines in zip(outputs, errors, strict=True)]
    keys = [await put_record(bucket, n, header, outputs[n], errors[n]) for n, header in enumerate(headers)]
    found = {kind: [chunk async for chunk in read_lines(bucket, keys, kind)] for kind in ResultKind}
    assert b"".join(found[OUTPUT]) == b"".join(outputs)
    assert b"".join(found[ERROR]) == b"".join(errors)
    assert all(map(all, found.values())), "no chunk is empty"


async def test_no_more_records_are_read_ahead_than_may_be_held(bucket: Bucket) -> None:
    keys = [await put_record(bucket, n, a_header(PART, b"{}\n"), b"{}\n") for n in range(40)]
    reads = CountingBucket(bucket)
    async with aclosing(read_lines(reads, keys, OUTPUT)) as lines:
        async for _ in lines:
            assert len(reads.read_keys) <= 8
            break
    assert reads.read_keys == set(keys[: len(reads.read_keys)])


async def test_a_record_that_is_gone_ends_the_lines_at_its_place(bucket: Bucket) -> None:
    keys = [await put_record(bucket, n, a_header(PART, b"{}\n"), b"{}\n") for n in range(12)]
    await bucket.delete(keys[5])
    lines = read_lines(bucket, keys, OUTPUT)
    assert [await anext(lines) for _ in range(5)] == [b"{}\n"] * 5
    with pytest.raises(Missing):
        await anext(lines)


class CountingBucket(FaultyBucket):
    """Notes what is read."""

    def __init__(self, inner: Bucket) -> None:
        super().__init__(inner)
        self.read_keys: set[str] = set()

    async def read(self, key: str, start: int = 0, end: int | None = None) -> AsyncGenerator[bytes, None]:
        self.read_keys.add(key)
        async for chunk in super().read(key, start, end):
            yield chunk


# --- progress ---------------------------------------------------------------------------------------------------------


async def test_progress_is_that_of_the_highest_claim_of_each_slice(bucket: Bucket) -> None:
    await put_progress(bucket, 0, 10, completed=7)
    await put_progress(bucket, 0, 9, completed=3)
    await put_progress(bucket, 12, 0, completed=1)
    found = await read_progress(bucket, BATCH_UID)
    assert {slice_no: progress.state.completed for slice_no, progress in found.items()} == {0: 7, 12: 1}


async def test_a_batch_that_has_not_begun_has_no_progress(bucket: Bucket) -> None:
    assert await read_progress(bucket, BATCH_UID) == {}


class ClearingBucket(FaultyBucket):
    """Loses each object as soon as it has been listed, as when scratch is cleared meanwhile."""

    async def list(self, prefix: str, *, after: str = "") -> AsyncGenerator[ObjectInfo, None]:
        async for info in super().list(prefix, after=after):
            await self.delete(info.key)
            yield info


async def test_progress_that_is_cleared_meanwhile_is_none(bucket: Bucket) -> None:
    await put_progress(bucket, 0, 0, completed=1)
    assert await read_progress(ClearingBucket(bucket), BATCH_UID) == {}


# --- the end ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("kinds", "ended"),
    [
        ((), False),
        ((CLAIM,), False),
        ((CLAIM, PART), False),
        ((CLAIM, END), True),
        ((CLAIM, PART, CLAIM, END), True),
        ((CLAIM, END, CLOSE), True),
        ((CLAIM, PART, CLOSE), False),
        ((CLAIM, CLOSE), False),
        ((CLOSE,), False),
    ],
)
async def test_a_slice_has_ended_by_its_end_whatever_came_behind(
    bucket: Bucket, kinds: tuple[RecordKind, ...], ended: bool
) -> None:
    await put_log(bucket, *kinds)
    assert (await last_end(bucket, BATCH_UID, 1) is not None) is ended


async def test_the_end_of_a_batch_is_that_of_its_last_slice_by_the_buckets_clock(bucket: Bucket) -> None:
    await put_log(bucket, CLAIM, END, slice_no=1)
    assert await last_end(bucket, BATCH_UID, 2) is None
    await put_log(bucket, CLAIM, END, CLOSE)
    ends = [await bucket.head(names.record_key(BATCH_UID, slice_no, 1)) for slice_no in range(2)]
    assert await last_end(bucket, BATCH_UID, 2) == max(info.written for info in ends if info)


async def test_a_batch_has_not_ended_as_long_as_one_of_many_slices_has_not(bucket: Bucket) -> None:
    for slice_no in range(30):
        await put_log(bucket, CLAIM, END, slice_no=slice_no)
    assert await last_end(bucket, BATCH_UID, 30) is not None
    await put_log(bucket, CLAIM, PART, slice_no=30)
    assert await last_end(bucket, BATCH_UID, 31) is None
