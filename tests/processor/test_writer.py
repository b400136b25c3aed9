"""The commit protocol of a slice's log (design 5), over a bucket that refuses, loses answers and holds writes up."""

import asyncio
import random
from contextlib import suppress
from typing import Any

import pytest

from nightshift_crds import names
from nightshift_crds.bucket.port import Bucket
from nightshift_crds.errors import Unavailable
from nightshift_crds.records import Claimant, Header, RecordKind, encode_record
from nightshift_crds.slicelog import read_progress
from nightshift_processor.outcome import Outcome
from nightshift_processor.writer import Fenced, SliceLog, SliceWriter, pumping
from tests.builders import BATCH_UID
from tests.processor.faults import Fault, FaultyBucket
from tests.processor.given import a_failure, a_success, check_log, kinds, read_log

ITEMS = 12
ME = Claimant(1, 0)
CLAIM, PART, END = RecordKind.CLAIM, RecordKind.PART, RecordKind.END


@pytest.fixture(autouse=True)
def no_backoff(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(random, "uniform", lambda low, _: low)


@pytest.fixture
def faulty(bucket: Bucket) -> FaultyBucket:
    return FaultyBucket(bucket)


def a_writer(bucket: Bucket, **values: Any) -> SliceWriter:
    """Write a log that flushes when it is told to and not before."""
    defaults: dict[str, Any] = {
        "slice_no": 0,
        "by": ME,
        "items": ITEMS,
        "flush_interval_s": 60,
        "flush_bytes": 1 << 20,
        "give_up_after_s": 60,
    }
    return SliceWriter(SliceLog(bucket=bucket, batch_uid=BATCH_UID, **(defaults | values)))


async def a_claimed(bucket: Bucket, **values: Any) -> SliceWriter:
    writer = a_writer(bucket, **values)
    assert await writer.claim(None)
    return writer


def outcome_of(item: int) -> Outcome:
    return a_failure(item) if item % 3 == 2 else a_success(item, tokens=item)


async def feed(writer: SliceWriter, item: int) -> None:
    writer.add(item, outcome_of(item))
    await writer.wait_for_room()


async def write(writer: SliceWriter, *items: int, ended: bool = False) -> None:
    """Add results and make them durable."""
    async with pumping(writer):
        for item in items:
            await feed(writer, item)
        writer.close(ended=ended)


def key(seq: int) -> str:
    return names.record_key(BATCH_UID, 0, seq)


# --- records ----------------------------------------------------------------------------------------------------------


async def test_a_slice_begins_with_a_claim_and_ends_with_its_last_results(bucket: Bucket) -> None:
    await write(await a_claimed(bucket), *range(ITEMS), ended=True)
    records = await read_log(bucket)
    assert kinds(records) == [CLAIM, END]
    assert check_log(records, ITEMS) == set(range(ITEMS))
    assert (len(records[1].outputs), len(records[1].errors)) == (8, 4)


async def test_a_slice_without_lines_ends_too(bucket: Bucket) -> None:
    await write(await a_claimed(bucket, items=0), ended=True)
    assert kinds(await read_log(bucket)) == [CLAIM, END]


async def test_a_writer_that_is_left_without_results_writes_nothing_more(bucket: Bucket) -> None:
    await write(await a_claimed(bucket))
    assert kinds(await read_log(bucket)) == [CLAIM]


async def test_an_end_stays_one_when_the_writer_is_left(bucket: Bucket) -> None:
    writer = await a_claimed(bucket)
    async with pumping(writer):
        writer.close(ended=True)
        writer.close(ended=False)
    assert kinds(await read_log(bucket)) == [CLAIM, END]


@pytest.mark.parametrize("values", [{"flush_interval_s": 0.01}, {"flush_bytes": 1}])
async def test_results_are_made_durable_after_a_time_or_a_size(bucket: Bucket, values: dict[str, Any]) -> None:
    faulty = FaultyBucket(bucket)
    writer = await a_claimed(faulty, **values)
    faulty.fail_put(key(1), Fault.HOLD)
    async with pumping(writer):
        await feed(writer, 0)
        await faulty.held.wait()
        faulty.release.set()
    records = await read_log(bucket)
    assert kinds(records) == [CLAIM, PART]
    assert check_log(records, ITEMS) == {0}


async def test_a_resuming_writer_goes_on_where_the_log_stops(bucket: Bucket) -> None:
    await write(await a_claimed(bucket), 0, 1, 2)
    second = await a_claimed(bucket)
    assert list(second.left_of(range(ITEMS))) == list(range(3, ITEMS))
    await write(second, 3, 4, ended=True)
    records = await read_log(bucket)
    assert kinds(records) == [CLAIM, PART, CLAIM, END]
    assert check_log(records, ITEMS) == {0, 1, 2, 3, 4}


async def test_a_slice_that_has_ended_is_not_claimed(bucket: Bucket) -> None:
    await write(await a_claimed(bucket), 0, ended=True)
    assert not await a_writer(bucket).claim(None)
    assert kinds(await read_log(bucket)) == [CLAIM, END]


async def test_a_log_that_is_closed_is_not_claimed(bucket: Bucket) -> None:
    await write(await a_claimed(bucket), 0)
    await put_close(bucket, 2)
    with pytest.raises(Fenced):
        await a_writer(bucket).claim(None)
    assert len(await read_log(bucket)) == 3


async def put_close(bucket: Bucket, seq: int) -> None:
    state = (await read_log(bucket))[-1].header.state
    record = encode_record(Header(kind=RecordKind.CLOSE, writer="seal", state=state))
    await bucket.put(key(seq), record, create_only=True)


# --- backpressure -----------------------------------------------------------------------------------------------------


async def test_feeders_wait_while_too_much_is_not_durable_and_what_they_brought_is_kept(faulty: FaultyBucket) -> None:
    size = len(outcome_of(0).line)
    writer = await a_claimed(faulty, flush_bytes=size)
    faulty.fail_put(key(1), Fault.HOLD)
    async with pumping(writer):
        await feed(writer, 0)
        await faulty.held.wait()
        await feed(writer, 1)
        waiting = asyncio.create_task(feed(writer, 3))
        _, pending = await asyncio.wait({waiting}, timeout=0.05)
        assert pending == {waiting}
        waiting.cancel()  # as SIGTERM does: the answer has arrived, so it must not be asked for again
        faulty.release.set()
    assert check_log(await read_log(faulty), ITEMS) == {0, 1, 3}


async def test_feeders_go_on_once_the_bucket_does(faulty: FaultyBucket) -> None:
    writer = await a_claimed(faulty, flush_bytes=1)
    faulty.fail_put(key(1), Fault.HOLD)
    async with pumping(writer):
        feeders = [asyncio.create_task(feed(writer, item)) for item in range(ITEMS)]
        await faulty.held.wait()
        faulty.release.set()
        await asyncio.gather(*feeders)
    assert check_log(await read_log(faulty), ITEMS) == set(range(ITEMS))


async def fail_after(writer: SliceWriter, item: int) -> None:
    async with pumping(writer):
        await feed(writer, item)
        raise ZeroDivisionError


async def test_results_are_durable_even_if_their_feeder_fails(bucket: Bucket) -> None:
    writer = await a_claimed(bucket)
    with pytest.raises(ZeroDivisionError):
        await fail_after(writer, 0)
    assert check_log(await read_log(bucket), ITEMS) == {0}


# --- a bucket that fails ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("fault", [Fault.LOSE, Fault.REFUSE])
async def test_every_write_may_fail_once_and_nothing_is_lost_or_doubled(faulty: FaultyBucket, fault: Fault) -> None:
    faulty.fail_put("", *[fault, Fault.NONE] * 100)
    await write(await a_claimed(faulty), 0, 1, 2)
    await write(await a_claimed(faulty), 3, 4, ended=True)
    records = await read_log(faulty.inner)
    assert kinds(records) == [CLAIM, PART, CLAIM, END]
    assert check_log(records, ITEMS) == {0, 1, 2, 3, 4}


async def test_a_lost_answer_is_a_success_even_if_the_record_cannot_be_read_at_first(faulty: FaultyBucket) -> None:
    writer = await a_claimed(faulty)
    faulty.fail_put(key(1), Fault.LOSE)
    faulty.fail_read(key(1), Fault.REFUSE, Fault.REFUSE)
    await write(writer, 0, ended=True)
    assert kinds(await read_log(faulty.inner)) == [CLAIM, END]


async def test_progress_that_cannot_be_written_holds_nothing_up(faulty: FaultyBucket) -> None:
    faulty.fail_put("progress/", *[Fault.REFUSE] * 100)
    await write(await a_claimed(faulty), 0, ended=True)
    assert check_log(await read_log(faulty.inner), ITEMS) == {0}
    assert await read_progress(faulty, BATCH_UID) == {}


async def test_a_bucket_that_stays_away_ends_the_writer(faulty: FaultyBucket) -> None:
    writer = await a_claimed(faulty, give_up_after_s=0.01)
    faulty.fail_put(key(1), *[Fault.REFUSE] * 100_000)
    with pytest.raises(Unavailable):
        await write(writer, 0, ended=True)
    assert kinds(await read_log(faulty.inner)) == [CLAIM]
    assert writer.state.completed == 0


async def test_what_is_reported_is_what_is_durable(bucket: Bucket) -> None:
    writer = await a_claimed(bucket)
    assert (await read_progress(bucket, BATCH_UID))[0].state.completed == 0
    await write(writer, 0, 1, 2)
    progress = (await read_progress(bucket, BATCH_UID))[0]
    assert (progress.seq, progress.state.completed, progress.state.failed) == (1, 2, 1)
    assert progress.state.usage == writer.state.usage
    await write(await a_claimed(bucket), 3)
    assert (await read_progress(bucket, BATCH_UID))[0].state.completed == 3


async def test_progress_counts_nothing_before_it_is_durable_and_never_falls(faulty: FaultyBucket) -> None:
    await write(await a_claimed(faulty), 0, 1)
    second = await a_claimed(faulty)
    faulty.fail_put(key(3), Fault.HOLD)
    pumped = asyncio.create_task(write(second, 3, 4))
    await faulty.held.wait()
    assert (await read_progress(faulty, BATCH_UID))[0].state.completed == 2
    faulty.release.set()
    await pumped
    assert (await read_progress(faulty, BATCH_UID))[0].state.completed == 4


# --- two writers ------------------------------------------------------------------------------------------------------


async def test_a_writer_whose_log_was_claimed_is_fenced_and_adds_nothing(bucket: Bucket) -> None:
    first = await a_claimed(bucket)
    second = await a_claimed(bucket)
    with pytest.raises(Fenced):
        await write(first, 0, 1, ended=True)
    await write(second, 1, 3, ended=True)
    records = await read_log(bucket)
    assert kinds(records) == [CLAIM, CLAIM, END]
    assert check_log(records, ITEMS) == {1, 3}


async def test_nobody_waits_for_a_writer_that_is_fenced(bucket: Bucket) -> None:
    first = await a_claimed(bucket, flush_bytes=1)
    await a_claimed(bucket)
    with pytest.raises(Fenced):
        await write(first, *range(ITEMS))
    assert kinds(await read_log(bucket)) == [CLAIM, CLAIM]


async def test_a_write_that_was_held_up_while_another_claimed_is_fenced(faulty: FaultyBucket) -> None:
    first = await a_claimed(faulty)
    faulty.fail_put(key(1), Fault.HOLD)
    stale = asyncio.create_task(write(first, 0))
    await faulty.held.wait()
    second = await a_claimed(faulty.inner)
    faulty.release.set()
    with pytest.raises(Fenced):
        await stale
    await write(second, 0, ended=True)
    assert check_log(await read_log(faulty.inner), ITEMS) == {0}


@pytest.mark.parametrize("ended", [False, True])
async def test_a_claim_that_comes_behind_a_record_takes_it_in(faulty: FaultyBucket, ended: bool) -> None:
    first = await a_claimed(faulty.inner)
    faulty.fail_put(key(1), Fault.HOLD)
    second = a_writer(faulty)
    claiming = asyncio.create_task(second.claim(None))
    await faulty.held.wait()
    await write(first, 0, ended=ended)
    faulty.release.set()
    assert await claiming is not ended
    assert ended or 0 not in second.left_of(range(ITEMS))
    assert check_log(await read_log(faulty.inner), ITEMS) == {0}


async def test_a_claim_that_comes_behind_seals_is_fenced(faulty: FaultyBucket) -> None:
    await write(await a_claimed(faulty.inner), 0)
    faulty.fail_put(key(2), Fault.HOLD)
    claiming = asyncio.create_task(a_writer(faulty).claim(None))
    await faulty.held.wait()
    await put_close(faulty.inner, 2)
    faulty.release.set()
    with pytest.raises(Fenced):
        await claiming
    assert len(await read_log(faulty.inner)) == 3


async def test_of_many_that_claim_at_once_only_the_last_can_write(bucket: Bucket) -> None:
    writers = [a_writer(bucket) for _ in range(6)]
    assert all(await asyncio.gather(*(writer.claim(None) for writer in writers)))
    ends = await asyncio.gather(*(write(writer, 0) for writer in writers), return_exceptions=True)
    assert sorted(map(repr, ends)) == sorted([repr(None), *[repr(Fenced("another writer has slice 0"))] * 5])
    records = await read_log(bucket)
    assert kinds(records) == [CLAIM] * 6 + [PART]
    assert check_log(records, ITEMS) == {0}


async def come_and_go(bucket: Bucket, luck: random.Random) -> set[int]:
    """Be three writers one after the other, that write some of what is left; gives what they were told is durable."""
    durable: set[int] = set()
    for _ in range(3):
        writer = await a_claimed(bucket, flush_bytes=luck.choice([1, 600, 1 << 20]))
        left = list(writer.left_of(range(ITEMS)))
        some = luck.sample(left, len(left) // 3)
        with suppress(Fenced):
            await write(writer, *some)
            durable.update(some)
    return durable


@pytest.mark.parametrize("seed", range(10))
async def test_writers_that_come_and_go_over_a_bad_bucket_keep_one_true_log(faulty: FaultyBucket, seed: int) -> None:
    luck = random.Random(seed)
    faulty.fail_put("", *luck.choices([Fault.NONE, Fault.LOSE, Fault.REFUSE], k=1000))
    durable = set[int]().union(*await asyncio.gather(*(come_and_go(faulty, luck) for _ in range(3))))
    last = await a_claimed(faulty)
    assert durable <= set(range(ITEMS)) - set(last.left_of(range(ITEMS)))
    await write(last, *last.left_of(range(ITEMS)), ended=True)
    assert check_log(await read_log(faulty.inner), ITEMS) == set(range(ITEMS))


async def test_a_record_behind_which_the_next_is_due_is_reported_with_that_one(faulty: FaultyBucket) -> None:
    size = len(outcome_of(0).line)
    writer = await a_claimed(faulty, flush_bytes=size)
    faulty.fail_put(key(1), Fault.HOLD)
    async with pumping(writer):
        await feed(writer, 0)
        await faulty.held.wait()
        await feed(writer, 1)
        faulty.fail_put(key(2), Fault.HOLD)
        faulty.held.clear()
        faulty.release.set()
        faulty.release.clear()
        await faulty.held.wait()
        assert writer.state.completed == 1
        assert (await read_progress(faulty, BATCH_UID))[0].state.completed == 0
        faulty.release.set()
    assert (await read_progress(faulty, BATCH_UID))[0].state.completed == 2
