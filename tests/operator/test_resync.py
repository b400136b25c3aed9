"""The list that makes events mere hints: all that is open, page by page, again and again."""

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from typing import Any, cast

import pytest

from nightshift_crds.cluster.port import BATCH_JOB, Cluster
from nightshift_crds.errors import Refused, Stale, Unavailable
from nightshift_operator.controller import Key
from nightshift_operator.queue import WorkQueue
from nightshift_operator.resync import Resync
from tests.operator.test_follow import next_of, settle
from tests.operator.world import Fragile, Outage, World

Queue = WorkQueue[Key]


@asynccontextmanager
async def resyncing(cluster: Any) -> AsyncIterator[Queue]:
    queue: Queue = WorkQueue(time.monotonic)
    task = asyncio.create_task(Resync(cast("Cluster", cluster), queue, 0.01).run())
    try:
        yield queue
        assert not task.done()
    finally:
        task.cancel()
        with suppress(asyncio.CancelledError):
            await task


async def test_all_open_batches_come_again_and_again_though_nothing_happens(world: World) -> None:
    keys = {await world.add_batch(name=f"batch-{n}") for n in range(3)}
    async with resyncing(world.cluster) as queue:
        assert {await next_of(queue) for _ in range(9)} == keys


async def test_a_settled_batch_does_not_come_again(world: World) -> None:
    await settle(world, await world.add_batch(name="a-settled"))
    key = await world.add_batch(name="b-open")
    async with resyncing(world.cluster) as queue:
        assert {await next_of(queue) for _ in range(4)} == {key}


async def test_a_batch_that_nobody_understands_comes_like_any_other(world: World) -> None:
    odd = await world.add_batch(name="odd")
    world.write_oddly(BATCH_JOB, "odd", spec=None, status={"phase": 7})
    async with resyncing(world.cluster) as queue:
        assert await next_of(queue) == odd


@pytest.mark.parametrize("error", [Unavailable("away"), Stale("the page is too old"), Refused("not yours")])
async def test_a_resync_that_fails_is_made_again(world: World, error: Exception) -> None:
    key = await world.add_batch()
    async with resyncing(Fragile(world.cluster, Outage(1, error, calls=3))) as queue:
        assert [await next_of(queue) for _ in range(4)] == [key] * 4
