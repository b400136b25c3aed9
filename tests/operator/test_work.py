"""The loop around a pass: whatever goes wrong with one batch, it is tried again and the others go on."""

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, replace

import pytest
from structlog.testing import capture_logs

from nightshift_crds.cluster.port import BATCH_JOB, Propagation
from nightshift_crds.errors import Refused, Stale, Unavailable
from nightshift_crds.lifecycle import Phase
from nightshift_operator.apply import Applier
from nightshift_operator.controller import Controller, Key
from nightshift_operator.decisions import Decision
from nightshift_operator.facts import Observed
from nightshift_operator.queue import WorkQueue
from tests.operator.world import Outage, World


def impatient(controller: Controller) -> Controller:
    """Let an operator try again at once, by the real clock."""
    queue: WorkQueue[Key] = WorkQueue(time.monotonic, luck=lambda: -1.0)
    return Controller(controller.observer, controller.applier, controller.policy, queue)


@asynccontextmanager
async def working(controller: Controller, *keys: Key, workers: int = 2) -> AsyncIterator[None]:
    for key in keys:
        controller.queue.add(key)
    task = asyncio.create_task(controller.work(workers))
    try:
        yield
        assert not task.done()
    finally:
        task.cancel()
        with suppress(asyncio.CancelledError):
            await task


@pytest.fixture
async def key(world: World) -> Key:
    await world.add_model()
    await world.add_input()
    return await world.add_batch()


@dataclass(frozen=True)
class Raced(Applier):
    """Acts a moment after somebody has deleted the batch."""

    async def apply(self, observed: Observed, decision: Decision) -> None:
        metadata = observed.batch.metadata
        await self.cluster.delete(BATCH_JOB, metadata.namespace, metadata.name, propagation=Propagation.BACKGROUND)
        await super().apply(observed, decision)


async def test_a_batch_is_taken_as_far_as_it_gets(world: World, key: Key) -> None:
    async with working(impatient(world.operator()), key):
        await world.reaches(key, Phase.IN_PROGRESS)


@pytest.mark.parametrize(
    "error", [Unavailable("The cluster is away.", delay_s=0), Stale("changed"), Refused("no"), RuntimeError("a bug")]
)
async def test_whichever_call_fails_and_however_the_batch_is_tried_again(
    world: World, key: Key, error: Exception
) -> None:
    with capture_logs():  # a traceback a call takes long to write
        for after in range(9):
            another = await world.add_batch(name=f"batch-{after}")
            async with working(impatient(world.operator(Outage(after, error))), another):
                await world.reaches(another, Phase.IN_PROGRESS)


@pytest.mark.parametrize("error", [Unavailable("The cluster is away.", delay_s=0), Stale("changed")])
async def test_what_may_pass_is_not_called_a_bug(world: World, key: Key, error: Exception) -> None:
    with capture_logs() as logs:
        async with working(impatient(world.operator(Outage(0, error))), key):
            await world.reaches(key, Phase.IN_PROGRESS)
    assert not [log for log in logs if log["log_level"] == "error"]


async def test_a_batch_that_is_deleted_in_the_middle_of_a_pass_is_no_bug_either(world: World, key: Key) -> None:
    operator = impatient(world.operator())
    parts = operator.applier
    raced = Raced(parts.cluster, parts.bucket, parts.settings, parts.progress_budget, parts.courier)
    next_one = await world.add_batch(name="next")
    with capture_logs() as logs:
        async with working(replace(operator, applier=raced), key, next_one, workers=1):
            await world.disappears(BATCH_JOB, next_one.name)
    assert not [log for log in logs if log["log_level"] == "error"]


async def test_a_batch_that_cannot_be_read_does_not_stop_the_others(world: World, key: Key) -> None:
    odd = await world.add_batch(name="a-later-version")
    world.write_oddly(BATCH_JOB, odd.name, status={"phase": "PAUSED"})
    async with working(impatient(world.operator()), odd, key, workers=1):
        await world.reaches(key, Phase.IN_PROGRESS)
    left = await world.cluster.get(BATCH_JOB, *odd)
    assert left["status"] == {"phase": "PAUSED"}
