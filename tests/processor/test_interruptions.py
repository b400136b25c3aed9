"""What ends a run early, and a kill at every single write: nothing is lost, nothing durable is paid for twice."""

import asyncio
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from nightshift_crds.bucket import open_bucket
from nightshift_crds.bucket.port import Bucket, get
from nightshift_crds.errors import Unavailable
from nightshift_crds.exits import Exit
from nightshift_crds.records import Claimant, RecordKind
from nightshift_processor.run import run
from nightshift_processor.seal import seal
from nightshift_processor.writer import SliceLog, SliceWriter
from tests.builders import BATCH_UID
from tests.processor.audits import audit
from tests.processor.faults import Crash, Fault, FaultyBucket, MortalBucket
from tests.processor.given import (
    INPUT_KEY,
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
FIRST = "log/0000/00000001"


@pytest.fixture
def faulty(bucket: Bucket) -> FaultyBucket:
    return FaultyBucket(bucket)


class Running:
    """A run that can be told to stop; one request at a time, and no flush until it ends."""

    def __init__(self, bucket: Bucket, model: Model, content: bytes, **values: Any) -> None:
        self.stop = asyncio.Event()
        defaults: dict[str, Any] = {"model_url": model.url, "max_concurrency": 1, "flush_interval_s": 60}
        self.settings = run_settings(bucket, content, **(defaults | values))
        self.task = asyncio.create_task(run(self.settings, bucket, self.stop))

    async def interrupted(self) -> None:
        self.stop.set()
        assert await self.task is Exit.INTERRUPTED


# --- told to stop -----------------------------------------------------------------------------------------------------


async def test_a_stop_keeps_what_has_arrived_and_aborts_what_is_in_flight(bucket: Bucket, model: Model) -> None:
    content = chat_lines("a", "fail:400", "hold", "b")
    await put_input(bucket, content)
    running = Running(bucket, model, content)
    await model.stub.was_asked(3)
    await running.interrupted()
    records = await read_log(bucket)
    assert kinds(records) == [CLAIM, PART]
    assert check_log(records, 4) == {0, 1}
    model.stub.let_go.set()
    assert await Running(bucket, model, content).task is Exit.DONE
    assert model.stub.asked == {"a": 1, "fail:400": 1, "hold": 2, "b": 1}


async def test_a_stop_before_anything_began_asks_nothing_and_writes_nothing(bucket: Bucket, model: Model) -> None:
    await put_input(bucket, chat_lines("a"))
    await Running(bucket, model, chat_lines("a")).interrupted()
    assert model.stub.asked == {}
    assert await read_log(bucket) == []


async def test_a_stop_does_not_wait_for_the_input(faulty: FaultyBucket, model: Model) -> None:
    await put_input(faulty, chat_lines("a"))
    faulty.fail_read(INPUT_KEY, Fault.HOLD)
    running = Running(faulty, model, chat_lines("a"))
    await faulty.held.wait()
    await running.interrupted()
    assert await read_log(faulty) == []


async def test_a_stop_does_not_wait_for_a_claim_that_cannot_be_written(faulty: FaultyBucket, model: Model) -> None:
    await put_input(faulty, chat_lines("a"))
    faulty.fail_put("log/", Fault.HOLD)
    running = Running(faulty, model, chat_lines("a"))
    await faulty.held.wait()
    await running.interrupted()
    assert model.stub.asked == {}


async def test_a_stop_while_the_last_results_are_written_does_not_unmake_the_end(
    faulty: FaultyBucket, model: Model
) -> None:
    await put_input(faulty, chat_lines("a"))
    faulty.fail_put(FIRST, Fault.HOLD)
    running = Running(faulty, model, chat_lines("a"))
    await faulty.held.wait()
    running.stop.set()
    faulty.release.set()
    assert await running.task is Exit.DONE
    assert kinds(await read_log(faulty)) == [CLAIM, END]


async def test_a_deadline_that_is_over_asks_nothing_and_writes_nothing(bucket: Bucket, model: Model) -> None:
    await put_input(bucket, chat_lines("a"))
    over = Running(bucket, model, chat_lines("a"), deadline="2026-01-01T00:00:00Z")
    assert await over.task is Exit.DEADLINE
    assert model.stub.asked == {}
    assert await read_log(bucket) == []


# --- the input, the bucket, another writer, a bug ---------------------------------------------------------------------


async def test_an_input_that_is_gone_is_not_run(bucket: Bucket, model: Model) -> None:
    assert await Running(bucket, model, chat_lines("a")).task is Exit.BAD_INPUT
    assert await read_log(bucket) == []


async def test_an_input_that_is_not_what_was_validated_is_not_run(bucket: Bucket, model: Model) -> None:
    await put_input(bucket, chat_lines("b"))
    assert await Running(bucket, model, chat_lines("a")).task is Exit.BAD_INPUT
    assert (model.stub.asked, await read_log(bucket)) == ({}, [])


async def test_a_bucket_that_stays_away_ends_the_run_and_its_requests(faulty: FaultyBucket, model: Model) -> None:
    content = chat_lines("a", *(f"hold {n}" for n in range(3)))
    await put_input(faulty, content)
    faulty.fail_put(FIRST, *[Fault.REFUSE] * 1_000)
    running = Running(faulty, model, content, max_concurrency=4, flush_bytes=1, give_up_after_s=0.01)
    with pytest.raises(Unavailable):
        await running.task
    assert kinds(await read_log(faulty)) == [CLAIM]


async def claim_for_another(bucket: Bucket, items: int) -> None:
    log = SliceLog(bucket, BATCH_UID, 0, Claimant(2, 0), items, flush_interval_s=60, flush_bytes=1, give_up_after_s=60)
    assert await SliceWriter(log).claim(None)


async def test_a_run_whose_slice_was_claimed_stops_and_adds_nothing(bucket: Bucket, model: Model) -> None:
    content = chat_lines("hold", "a", *(f"row-{n}" for n in range(50)))
    await put_input(bucket, content)
    running = Running(bucket, model, content, flush_bytes=1)
    await model.stub.was_asked(1)
    await claim_for_another(bucket, 52)
    model.stub.let_go.set()
    assert await running.task is Exit.INTERRUPTED
    assert kinds(await read_log(bucket)) == [CLAIM, CLAIM]
    assert model.stub.asked.total() < 10


async def test_a_run_whose_log_is_sealed_stops(bucket: Bucket, model: Model) -> None:
    content = chat_lines("a", "hold")
    await put_input(bucket, content)
    running = Running(bucket, model, content)
    await model.stub.was_asked(2)
    await seal(seal_settings(bucket, content, reason="cancelled"), bucket)
    model.stub.let_go.set()
    assert await running.task is Exit.INTERRUPTED
    assert await Running(bucket, model, content).task is Exit.INTERRUPTED
    manifest = await audit(bucket, "a", "hold")
    assert (manifest.completed, manifest.failed) == (0, 0)


async def test_a_bug_in_one_line_ends_the_run_as_failed_and_keeps_what_has_arrived(
    bucket: Bucket, model: Model
) -> None:
    content = chat_lines("a", "b") + b"no line that validation lets through\n" + chat_lines("c")
    await put_input(bucket, content)
    with pytest.raises(ExceptionGroup):
        await Running(bucket, model, content).task
    assert check_log(await read_log(bucket), 4) == {0, 1}


# --- killed at every write --------------------------------------------------------------------------------------------

PROMPTS = ("a", "b", "fail:400 c", "d", "e")
CONTENT = chat_lines(*PROMPTS)


async def killed_at(bucket: Bucket, model: Model, at: int, *, takes_effect: bool, **values: Any) -> bool:
    """Run with a kill at a write; False if the run is over before it comes to that write."""
    mortal = MortalBucket(bucket, at, takes_effect=takes_effect)
    try:
        await Running(mortal, model, CONTENT, flush_bytes=1, **values).task
    except Crash:
        return True
    return False


async def audit_after_kill(bucket: Bucket, model: Model) -> None:
    durable = {PROMPTS[item] for item in check_log(await read_log(bucket), len(PROMPTS))}
    before = Counter(model.stub.asked)
    assert await Running(bucket, model, CONTENT, flush_bytes=1).task is Exit.DONE
    asked_again = {prompt for prompt, times in model.stub.asked.items() if times > before[prompt]}
    assert asked_again == set(PROMPTS) - durable
    assert check_log(await read_log(bucket), len(PROMPTS)) == set(range(len(PROMPTS)))
    assert await seal(seal_settings(bucket, CONTENT), bucket) is Exit.DONE
    manifest = await audit(bucket, *PROMPTS)
    assert (manifest.completed, manifest.failed) == (4, 1)


@pytest.mark.parametrize("takes_effect", [False, True])
@pytest.mark.parametrize("max_concurrency", [1, 3])
async def test_a_run_may_be_killed_at_any_write_and_pays_for_nothing_durable_twice(
    tmp_path: Path, model: Model, max_concurrency: int, takes_effect: bool
) -> None:
    for at in range(1, 100):
        async with open_bucket(f"file://{tmp_path / str(at)}") as bucket:
            await put_input(bucket, CONTENT)
            model.stub.asked.clear()
            if not await killed_at(bucket, model, at, takes_effect=takes_effect, max_concurrency=max_concurrency):
                break
            await audit_after_kill(bucket, model)
    assert at > 4  # a claim, its progress, an end at least


@pytest.mark.parametrize("reason", ["completed", "cancelled", "expired", "failed"])
@pytest.mark.parametrize("takes_effect", [False, True])
async def test_a_seal_may_be_killed_at_any_write_and_seals_the_same(
    tmp_path: Path, model: Model, reason: str, takes_effect: bool
) -> None:
    sealed: list[dict[str, bytes]] = []
    for at in range(1, 100):
        async with open_bucket(f"file://{tmp_path / str(at)}") as bucket:
            await put_input(bucket, CONTENT)
            await Running(bucket, model, CONTENT, slices=2, index=0).task
            settings = seal_settings(bucket, CONTENT, slices=2, reason=reason)
            try:
                await seal(settings, MortalBucket(bucket, at, takes_effect=takes_effect))
            except Crash:
                assert await seal(settings, bucket) is Exit.DONE
            else:
                break
            sealed.append(await sealed_objects(bucket))
    assert len(sealed) >= 4
    assert all(objects == sealed[0] for objects in sealed)


async def sealed_objects(bucket: Bucket) -> dict[str, bytes]:
    infos = [info async for info in bucket.list("openai/")]
    return {
        info.key: await get(bucket, info.key)
        for info in infos
        if "/log/" not in info.key and "progress/" not in info.key
    }
