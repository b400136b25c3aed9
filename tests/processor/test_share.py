"""Pods that share the slices of a batch: uneven speed, races, kills, and one attempt after the other."""

import asyncio
from collections import Counter
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest

from nightshift_crds.bucket import open_bucket
from nightshift_crds.bucket.port import Bucket, ObjectInfo
from nightshift_crds.errors import Unavailable
from nightshift_crds.exits import Exit
from nightshift_crds.records import Claimant, RecordKind
from nightshift_crds.slicelog import last_end, read_progress
from nightshift_processor.run import run
from nightshift_processor.seal import seal
from tests.builders import BATCH_UID
from tests.processor.audits import audit
from tests.processor.faults import Crash, Fault, FaultyBucket, MortalBucket
from tests.processor.given import (
    Model,
    chat_lines,
    check_log,
    kinds,
    put_input,
    read_log,
    run_settings,
    seal_settings,
)

CLAIM, PART, END = RecordKind.CLAIM, RecordKind.PART, RecordKind.END


class Pod:
    """A pod that runs."""

    def __init__(self, bucket: Bucket, model: Model, content: bytes, index: int = 0, **values: Any) -> None:
        self.stop = asyncio.Event()
        defaults: dict[str, Any] = {"model_url": model.url, "max_concurrency": 2}
        settings = run_settings(bucket, content, index=index, **(defaults | values))
        self.task = asyncio.create_task(run(settings, bucket, self.stop))

    async def interrupted(self) -> None:
        self.stop.set()
        assert await self.task is Exit.INTERRUPTED

    async def killed(self) -> bool:
        """Wait for its end; tells whether that was a kill."""
        was_killed = False
        try:
            await self.task
        except* Crash:
            was_killed = True
        return was_killed


async def claims_of(bucket: Bucket, slices: int) -> list[list[Claimant | None]]:
    """Give who claimed each slice, in turn."""
    logs = [await read_log(bucket, n) for n in range(slices)]
    return [[record.header.by for record in log if record.header.kind is CLAIM] for log in logs]


async def check_slices(bucket: Bucket, items: int, slices: int) -> set[int]:
    """Prove that no line stands in two logs, nor twice in one; gives those that stand in any."""
    done = [check_log(await read_log(bucket, n), items) for n in range(slices)]
    assert sum(map(len, done)) == len(set[int]().union(*done))
    return set[int]().union(*done)


class TellingBucket(FaultyBucket):
    """Tells when something was written."""

    def __init__(self, inner: Bucket) -> None:
        super().__init__(inner)
        self._news = asyncio.Event()

    async def put(self, key: str, data: bytes | AsyncIterator[bytes], *, create_only: bool) -> ObjectInfo:
        info = await super().put(key, data, create_only=create_only)
        self._news.set()
        return info

    async def until(self, is_so: Callable[[], Awaitable[bool]]) -> None:
        """Wait until what was written makes it so."""
        while True:
            self._news.clear()
            if await is_so():
                return
            await self._news.wait()

    async def has_ended(self, slice_no: int) -> None:
        """Wait until a slice has ended."""

        async def is_so() -> bool:
            return END in kinds(await read_log(self, slice_no))

        await self.until(is_so)

    async def is_claimed(self, *times: int) -> None:
        """Wait until each slice was claimed so often."""

        async def is_so() -> bool:
            return [len(claims) for claims in await claims_of(self, len(times))] == list(times)

        await self.until(is_so)


@pytest.fixture
def telling(bucket: Bucket) -> TellingBucket:
    return TellingBucket(bucket)


# --- even work --------------------------------------------------------------------------------------------------------


async def test_a_pod_that_is_alone_runs_all_slices(bucket: Bucket, model: Model) -> None:
    prompts = [f"row-{n}" for n in range(20)]
    content = chat_lines(*prompts)
    await put_input(bucket, content)
    assert await Pod(bucket, model, content, slices=6, shards=3, index=2).task is Exit.DONE
    assert await check_slices(bucket, 20, 6) == set(range(20))
    assert await claims_of(bucket, 6) == [[Claimant(1, 2)]] * 6
    assert await last_end(bucket, BATCH_UID, 6) is not None
    assert sum(found.state.completed for found in (await read_progress(bucket, BATCH_UID)).values()) == 20


async def test_a_slow_pod_gets_fewer_slices_and_holds_up_only_its_own(bucket: Bucket, model: Model) -> None:
    prompts = [f"row-{n}" for n in range(48)]
    prompts[:2] = ["hold", "hold 2"]
    content = chat_lines(*prompts)
    await put_input(bucket, content)
    share = {"slices": 12, "shards": 3, "max_concurrency": 2}
    slow = Pod(bucket, model, content, index=0, **share)
    await model.stub.was_asked(2)
    quick = [Pod(bucket, model, content, index=n, **share) for n in (1, 2)]
    assert [await pod.task for pod in quick] == [Exit.DONE] * 2, "what is left is another pod's"
    assert await check_slices(bucket, 48, 12) == set(range(4, 48))
    assert await last_end(bucket, BATCH_UID, 12) is None
    model.stub.let_go.set()
    assert await slow.task is Exit.DONE
    by = Counter(claimant for [claimant] in await claims_of(bucket, 12))
    assert by[Claimant(1, 0)] == 1
    assert by.total() == 12
    assert await seal(seal_settings(bucket, content, slices=12), bucket) is Exit.DONE
    assert (await audit(bucket, *prompts)).completed == 48
    assert set(model.stub.asked.values()) == {1}


async def test_a_slice_has_no_lines_and_ends_all_the_same(bucket: Bucket, model: Model) -> None:
    content = chat_lines("a")
    await put_input(bucket, content)
    assert await Pod(bucket, model, content, slices=3).task is Exit.DONE
    assert [kinds(await read_log(bucket, n)) for n in range(3)] == [[CLAIM, END]] * 3


async def test_a_request_that_takes_long_keeps_no_worker_from_the_next_slice(
    telling: TellingBucket, model: Model
) -> None:
    content = chat_lines("hold", "a", "b", "c")
    await put_input(telling, content)
    pod = Pod(telling, model, content, slices=2, flush_interval_s=60)
    await telling.has_ended(1)
    await pod.interrupted()
    assert [kinds(await read_log(telling, n)) for n in range(2)] == [[CLAIM, PART], [CLAIM, END]]
    assert await check_slices(telling, 4, 2) == {1, 2, 3}


async def test_a_stop_keeps_what_has_arrived_of_every_slice_that_is_open(telling: TellingBucket, model: Model) -> None:
    content = chat_lines("a", "hold", "b", "hold 2", "c", "hold 3")
    await put_input(telling, content)
    pod = Pod(telling, model, content, slices=3, max_concurrency=3, flush_interval_s=60)
    await model.stub.was_asked(6)
    await pod.interrupted()
    assert [kinds(await read_log(telling, n)) for n in range(3)] == [[CLAIM, PART]] * 3
    assert await check_slices(telling, 6, 3) == {0, 2, 4}


async def test_a_row_that_cannot_be_served_keeps_no_slice_from_being_claimed(
    telling: TellingBucket, model: Model, no_backoff: None
) -> None:
    content = chat_lines("a", "fail:503 x", "b", "c")
    await put_input(telling, content)
    pod = Pod(telling, model, content, slices=2, max_concurrency=1)
    await telling.has_ended(1)
    await pod.interrupted()
    assert await check_slices(telling, 4, 2) == {0, 2, 3}


async def test_a_pod_whose_server_serves_nothing_does_not_take_slices_from_others(
    bucket: Bucket, model: Model, no_backoff: None
) -> None:
    content = chat_lines(*(f"fail:503 {n}" for n in range(12)))
    await put_input(bucket, content)
    pod = Pod(bucket, model, content, slices=4)
    await model.stub.was_asked(150)
    await pod.interrupted()
    assert [len(claims) for claims in await claims_of(bucket, 4)] == [1, 0, 0, 0]


class CountingBucket(FaultyBucket):
    """Counts what is listed and which records are read."""

    def __init__(self, inner: Bucket) -> None:
        super().__init__(inner)
        self.calls: Counter[str] = Counter()

    def list(self, prefix: str, *, after: str = "") -> AsyncGenerator[ObjectInfo, None]:
        self.calls["list"] += 1
        return super().list(prefix, after=after)

    async def read(self, key: str, start: int = 0, end: int | None = None) -> AsyncGenerator[bytes, None]:
        self.calls["read"] += "/log/" in key
        async for chunk in super().read(key, start, end):
            yield chunk


async def test_slices_that_nobody_has_cost_no_more_than_their_claims(bucket: Bucket, model: Model) -> None:
    content = chat_lines(*(f"row-{n}" for n in range(40)))
    await put_input(bucket, content)
    counting = CountingBucket(bucket)
    assert await Pod(counting, model, content, slices=20).task is Exit.DONE
    assert counting.calls == {"list": 1, "read": 0}


async def test_slices_that_others_have_are_looked_at_once(bucket: Bucket, model: Model) -> None:
    content = chat_lines(*(f"row-{n}" for n in range(40)))
    await put_input(bucket, content)
    assert await Pod(bucket, model, content, slices=20).task is Exit.DONE
    counting = CountingBucket(bucket)
    assert await Pod(counting, model, content, slices=20, index=1).task is Exit.DONE
    assert counting.calls == {"list": 1, "read": 20}


# --- two pods, one slice ----------------------------------------------------------------------------------------------


async def test_of_two_pods_that_want_a_slice_one_goes_on_to_another_and_fences_nobody(
    bucket: Bucket, model: Model
) -> None:
    content = chat_lines("hold", "a", "b", "c")
    await put_input(bucket, content)
    late = FaultyBucket(bucket)
    late.fail_put("log/0000/00000000", Fault.HOLD)
    loser = Pod(late, model, content, index=1, slices=2)  # both start at the first slice
    await late.held.wait()
    winner = Pod(bucket, model, content, index=0, slices=2, max_concurrency=1)
    await model.stub.was_asked(1)
    late.release.set()
    assert await loser.task is Exit.DONE
    model.stub.let_go.set()
    assert await winner.task is Exit.DONE
    assert await claims_of(bucket, 2) == [[Claimant(1, 0)], [Claimant(1, 1)]]
    assert await check_slices(bucket, 4, 2) == {0, 1, 2, 3}


async def test_a_pod_that_replaces_one_goes_on_with_its_slices_and_fences_it(
    telling: TellingBucket, model: Model
) -> None:
    content = chat_lines("a", "hold", "hold 2", "b")
    await put_input(telling, content)
    zombie = Pod(telling, model, content, index=1, slices=2, shards=2, max_concurrency=4, flush_bytes=1)
    await model.stub.was_asked(4)
    replacement = Pod(telling, model, content, index=1, slices=2, shards=2, max_concurrency=4)
    await telling.is_claimed(2, 2)
    model.stub.let_go.set()
    assert await zombie.task is Exit.INTERRUPTED
    assert await replacement.task is Exit.DONE
    assert await check_slices(telling, 4, 2) == {0, 1, 2, 3}


async def test_what_a_pod_has_begun_is_left_to_its_replacement(bucket: Bucket, model: Model) -> None:
    content = chat_lines("hold", "a", "b", "c")
    await put_input(bucket, content)
    gone = Pod(bucket, model, content, index=0, slices=2, shards=2, max_concurrency=1)
    await model.stub.was_asked(1)
    await gone.interrupted()
    assert await Pod(bucket, model, content, index=1, slices=2, shards=2).task is Exit.DONE
    assert await check_slices(bucket, 4, 2) == {2, 3}
    model.stub.let_go.set()
    assert await Pod(bucket, model, content, index=0, slices=2, shards=2).task is Exit.DONE
    assert await check_slices(bucket, 4, 2) == {0, 1, 2, 3}
    assert await claims_of(bucket, 2) == [[Claimant(1, 0)] * 2, [Claimant(1, 1)]]


async def test_a_later_attempt_takes_over_what_earlier_ones_have_left_with_fewer_pods_too(
    bucket: Bucket, model: Model
) -> None:
    content = chat_lines("a", "hold", "b", "hold 2", "c", "d")
    await put_input(bucket, content)
    gone = [Pod(bucket, model, content, index=n, slices=3, shards=3) for n in (0, 1)]
    await model.stub.was_asked(4)
    for pod in gone:
        await pod.interrupted()
    model.stub.let_go.set()
    before = await check_slices(bucket, 6, 3)
    assert await Pod(bucket, model, content, slices=3, attempt=2).task is Exit.DONE
    assert await check_slices(bucket, 6, 3) == set(range(6))
    prompts = ["a", "hold", "b", "hold 2", "c", "d"]
    assert all(model.stub.asked[prompts[item]] == 1 for item in before)


async def test_a_pod_of_an_earlier_attempt_takes_nothing_back(bucket: Bucket, model: Model) -> None:
    content = chat_lines("hold", "a")
    await put_input(bucket, content)
    pod = Pod(bucket, model, content, attempt=2)
    await model.stub.was_asked(1)
    assert await Pod(bucket, model, content, attempt=1).task is Exit.INTERRUPTED
    model.stub.let_go.set()
    assert await pod.task is Exit.DONE
    assert await claims_of(bucket, 1) == [[Claimant(2, 0)]]


async def test_a_pod_that_is_fenced_in_a_later_slice_says_so(bucket: Bucket, model: Model) -> None:
    content = chat_lines("a", "hold")
    await put_input(bucket, content)
    pod = Pod(bucket, model, content, slices=2, max_concurrency=1)
    await model.stub.was_asked(2)
    await seal(seal_settings(bucket, content, slices=2, reason="cancelled"), bucket)
    model.stub.let_go.set()
    assert await pod.task is Exit.INTERRUPTED
    await audit(bucket, "a", "hold")


@pytest.mark.parametrize("values", [{"max_concurrency": 1}, {"max_concurrency": 8}])
async def test_a_batch_that_is_sealed_before_the_next_slice_ends_the_pod(
    bucket: Bucket, model: Model, values: dict[str, Any]
) -> None:
    content = chat_lines("hold", "a")
    await put_input(bucket, content)
    held = FaultyBucket(bucket)
    held.fail_put("log/0001/00000000", Fault.HOLD)
    pod = Pod(held, model, content, slices=2, **values)
    await model.stub.was_asked(1)
    model.stub.let_go.set()
    await held.held.wait()
    await seal(seal_settings(bucket, content, slices=2, reason="cancelled"), bucket)
    held.release.set()
    assert await pod.task is Exit.INTERRUPTED


# --- a bucket that fails ----------------------------------------------------------------------------------------------


async def test_a_look_at_the_logs_that_fails_is_tried_again(bucket: Bucket, model: Model, no_backoff: None) -> None:
    content = chat_lines("a", "b")
    await put_input(bucket, content)
    assert await Pod(bucket, model, content, slices=2).task is Exit.DONE
    faulty = FaultyBucket(bucket)
    faulty.fail_read("log/", Fault.REFUSE, Fault.REFUSE)
    assert await Pod(faulty, model, content, slices=2).task is Exit.DONE


async def test_a_bucket_that_takes_no_further_claim_ends_the_pod_and_what_has_arrived_is_kept(
    bucket: Bucket, model: Model, no_backoff: None
) -> None:
    content = chat_lines("a", "hold", "b", "c")
    await put_input(bucket, content)
    faulty = FaultyBucket(bucket)
    faulty.fail_put("log/0001/", *[Fault.REFUSE] * 10_000)
    pod = Pod(faulty, model, content, slices=2, max_concurrency=2, give_up_after_s=0.01)
    with pytest.raises(Unavailable):
        await pod.task
    assert await check_slices(bucket, 4, 2) == {0}


# --- killed at every write --------------------------------------------------------------------------------------------

PROMPTS = tuple(f"row-{n}" for n in range(12))
CONTENT = chat_lines(*PROMPTS)
SHARE = {"slices": 4, "shards": 3, "flush_bytes": 1}


async def run_with_a_kill(bucket: Bucket, model: Model, at: int, *, takes_effect: bool) -> bool:
    """Run three pods of which one is killed at its nth write and replaced; tells whether it came to that write."""
    mortal = MortalBucket(bucket, at, takes_effect=takes_effect)
    mortal_pod = Pod(mortal, model, CONTENT, 1, **SHARE)
    at_work = asyncio.create_task(model.stub.was_asked(1))
    await asyncio.wait({mortal_pod.task, at_work}, return_when=asyncio.FIRST_COMPLETED)
    others = [Pod(bucket, model, CONTENT, n, **SHARE) for n in (0, 2)]
    was_killed = await mortal_pod.killed()
    assert [await pod.task for pod in others] == [Exit.DONE] * 2
    await at_work
    durable = {PROMPTS[item] for item in await check_slices(bucket, len(PROMPTS), 4)}
    before = Counter(model.stub.asked)
    assert await Pod(bucket, model, CONTENT, 1, **SHARE).task is Exit.DONE
    again = {prompt for prompt, times in model.stub.asked.items() if times > before[prompt]}
    assert again == set(PROMPTS) - durable
    return was_killed


@pytest.mark.parametrize("takes_effect", [False, True])
async def test_a_pod_may_be_killed_at_any_write_and_nothing_durable_is_paid_for_twice(
    tmp_path: Path, model: Model, takes_effect: bool
) -> None:
    for at in range(1, 100):
        async with open_bucket(f"file://{tmp_path / str(at)}") as bucket:
            await put_input(bucket, CONTENT)
            model.stub.asked.clear()
            was_killed = await run_with_a_kill(bucket, model, at, takes_effect=takes_effect)
            assert await check_slices(bucket, len(PROMPTS), 4) == set(range(len(PROMPTS)))
            assert await seal(seal_settings(bucket, CONTENT, slices=4), bucket) is Exit.DONE
            assert (await audit(bucket, *PROMPTS)).completed == len(PROMPTS)
            if not was_killed:
                break
    assert at > 4  # a claim, its progress, an end at least
