"""Whole lives of batches under the reconcile loop, on a real cluster and bucket; the test plays Job and processor.

Each is lived once in peace, and once by an operator that dies at every single call and starts again: both must come
to the same end.
"""

from collections.abc import Awaitable, Callable
from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest

from nightshift_crds.cluster.port import BATCH_JOB, JOB, STORED_FILE, Propagation
from nightshift_crds.exits import Exit
from nightshift_crds.lifecycle import Phase, Sealing
from nightshift_crds.names import ResultKind, Step
from nightshift_crds.records import RecordKind
from nightshift_operator.controller import Key
from tests.operator.world import Crash, Fuse, World

Pass = Callable[[World, Key], Awaitable[float | None]]


async def calmly(world: World, key: Key) -> float | None:
    """Make one pass."""
    return await world.operator().reconcile(key)


async def dying_before_each_call(world: World, key: Key) -> float | None:
    """Make one pass that is cut short before its first call, then before its second, until it comes through."""
    return await _dying(world, key, loses_answer=False)


async def dying_before_each_answer(world: World, key: Key) -> float | None:
    """The same, but the other side has done what it was asked."""
    return await _dying(world, key, loses_answer=True)


async def _dying(world: World, key: Key, *, loses_answer: bool) -> float | None:
    for calls in range(100):
        try:
            return await world.operator(Fuse(calls, loses_answer)).reconcile(key)
        except Crash:
            continue
    raise AssertionError("a pass never came through")


async def rest(world: World, key: Key, once: Pass = calmly) -> float | None:
    """Make passes until the operator wants to wait; gives for how long."""
    for _ in range(20):
        wait_s = await once(world, key)
        if wait_s != 0:
            return wait_s
    raise AssertionError("the operator never comes to rest")


PACES = pytest.mark.parametrize("once", [calmly, dying_before_each_call, dying_before_each_answer])


async def started(world: World, once: Pass = calmly, **spec: Any) -> Key:
    """Bring a batch to where its processor runs."""
    await world.add_model()
    await world.add_input()
    key = await world.add_batch(**spec)
    await rest(world, key, once)
    return key


async def cleared(world: World, key: Key, once: Pass) -> None:
    """Let the time pass for which logs are kept; pods that are told to go do."""
    for _ in range(10):
        await rest(world, key, once)
        await world.reap_pods()
    world.clock.offset += timedelta(seconds=world.settings.scratch_retention_s + 1)
    assert await rest(world, key, once) is None


async def check_that_nothing_is_left(world: World, key: Key) -> None:
    batch = await world.batch(key)
    assert batch.status.settled
    assert await world.all(JOB) == []
    assert await world.keys(f"openai/batches/{batch.metadata.uid}/") == [
        f"openai/batches/{batch.metadata.uid}/manifest.json"
    ]


@PACES
async def test_a_batch_lives_from_its_creation_to_its_files(world: World, once: Pass) -> None:
    key = await started(world, once)
    batch = await world.batch(key)
    assert (batch.phase, batch.status.job_uid) == (Phase.IN_PROGRESS, (await world.job(key))["metadata"]["uid"])
    assert (await world.result(key, ResultKind.OUTPUT)).status.bytes == 0

    await world.log(key, RecordKind.PART, completed=3, failed=1)
    await rest(world, key, once)
    assert (await world.batch(key)).status.counts.completed == 3
    assert (await world.result(key, ResultKind.OUTPUT)).status.bytes == 30

    await world.log(key, RecordKind.END, completed=8, failed=2, seq=1)
    await world.end_job(key)
    await rest(world, key, once)
    assert (await world.batch(key)).phase is Phase.FINALIZING

    await world.seal(key, completed=8, failed=2)
    await world.end_job(key, Step.SEAL)
    await rest(world, key, once)
    batch = await world.batch(key)
    assert (batch.phase, batch.status.counts.completed, batch.status.counts.failed) == (Phase.COMPLETED, 8, 2)
    output = await world.result(key, ResultKind.OUTPUT)
    assert (output.id, output.status.bytes, output.status.phase) == (batch.status.output_file_id, 24, "Ready")
    assert output.status.expires_at

    await cleared(world, key, once)
    await check_that_nothing_is_left(world, key)


@PACES
async def test_a_cancelled_batch_keeps_what_ran(world: World, once: Pass) -> None:
    key = await started(world, once)
    await world.log(key, RecordKind.PART, completed=4, failed=1)
    await world.cancel(key)
    await rest(world, key, once)
    assert (await world.batch(key)).phase is Phase.CANCELLING
    await world.seal(key, completed=4, failed=1)
    await rest(world, key, once)
    batch = await world.batch(key)
    assert (batch.phase, batch.status.counts.completed, batch.status.counts.failed) == (Phase.CANCELLED, 4, 1)
    assert (await world.result(key, ResultKind.ERROR)).status.bytes == 18
    await cleared(world, key, once)
    await check_that_nothing_is_left(world, key)


@PACES
async def test_a_batch_that_runs_out_of_time_keeps_what_ran_and_drops_the_file_that_is_empty(
    world: World, once: Pass
) -> None:
    key = await started(world, once)
    world.clock.offset += timedelta(hours=25)
    await rest(world, key, once)
    assert (await world.batch(key)).status.sealing is Sealing.EXPIRED
    await world.seal(key, completed=0, failed=0)
    await rest(world, key, once)
    batch = await world.batch(key)
    assert (batch.phase, batch.status.output_file_id) == (Phase.EXPIRED, None)
    assert len(await world.all(STORED_FILE)) == 2
    await cleared(world, key, once)
    await check_that_nothing_is_left(world, key)


@PACES
async def test_a_batch_whose_input_changed_fails_with_what_it_has(world: World, once: Pass) -> None:
    key = await started(world, once)
    await world.log(key, RecordKind.PART, completed=2, failed=0)
    await world.end_job(key, how="Failed", exit_code=Exit.BAD_INPUT)
    await rest(world, key, once)
    await world.seal(key, completed=2, failed=0)
    await rest(world, key, once)
    batch = await world.batch(key)
    assert (batch.phase, [e.code for e in batch.status.errors]) == (Phase.FAILED, ["invalid_request"])
    assert (await world.result(key, ResultKind.OUTPUT)).status.bytes == 6
    await cleared(world, key, once)
    await check_that_nothing_is_left(world, key)


@PACES
async def test_a_job_that_is_lost_three_times_fails_the_batch(world: World, once: Pass) -> None:
    key = await started(world, once)
    for attempt in (1, 2, 3):
        assert (await world.batch(key)).status.attempt == attempt
        await world.end_job(key, how="Failed", exit_code=1)
        await rest(world, key, once)
        await world.reap_pods()
        await rest(world, key, once)
    batch = await world.batch(key)
    assert (batch.status.sealing, batch.status.attempt) == (Sealing.FAILED, 3)


@PACES
async def test_a_batch_that_is_suspended_and_resumed_runs_on_in_another_job(world: World, once: Pass) -> None:
    key = await started(world, once)
    await world.ask(key, suspend=True)
    await rest(world, key, once)
    assert await world.all(JOB) == []
    await world.ask(key, suspend=False)
    await rest(world, key, once)
    batch = await world.batch(key)
    assert (batch.phase, batch.status.attempt) == (Phase.IN_PROGRESS, 2)
    assert (await world.job(key))["metadata"]["uid"] == batch.status.job_uid


@PACES
async def test_an_input_by_uri_is_inspected_and_an_early_cancel_takes_the_inspection_along(
    world: World, once: Pass
) -> None:
    await world.add_model()
    key = await world.add_batch(input={"uri": f"{world.bucket.url}/shared/a/in.jsonl"})
    await rest(world, key, once)
    assert (await world.job(key, Step.INSPECT))["metadata"]["name"].endswith("-inspect")
    await world.cancel(key)
    await rest(world, key, once)
    await rest(world, key, once)
    batch = await world.batch(key)
    assert (batch.phase, batch.status.counts.total, batch.status.settled) == (Phase.CANCELLED, 0, True)
    assert await world.all(JOB) == await world.all(STORED_FILE) == []


async def test_a_batch_that_is_gone_is_forgotten(world: World) -> None:
    key = await started(world)
    await world.cluster.delete(BATCH_JOB, *key, propagation=Propagation.BACKGROUND)
    assert await world.operator().reconcile(key) is None
    assert await world.all(JOB) == []


async def test_people_are_told_of_every_step_once(world: World) -> None:
    key = await started(world)
    await world.log(key, RecordKind.END, completed=10, failed=0)
    await world.end_job(key)
    await rest(world, key)
    await world.seal(key, completed=10, failed=0)
    await rest(world, key)
    assert sorted(await world.events()) == ["Completed", "Finalizing", "InProgress"]


async def test_the_end_of_the_slices_and_the_deadline_are_judged_by_one_clock(world: World) -> None:
    """A pass that reads just before the deadline must not decide that it has passed: it has not looked for an end."""
    key = await started(world)
    await world.log(key, RecordKind.END, completed=10, failed=0)
    deadline = (await world.batch(key)).status.deadline
    assert deadline is not None
    moments = iter([deadline - timedelta(seconds=1), deadline + timedelta(seconds=1)])
    await replace(world.operator(), now=lambda: next(moments)).reconcile(key)
    assert (await world.batch(key)).status.sealing is None
