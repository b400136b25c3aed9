"""The watches that feed the queue: what is there, what comes, and what only looks like ours."""

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from typing import Any, cast

import pytest

from nightshift_crds.cluster.port import BATCH_JOB, JOB, Cluster, Page
from nightshift_crds.errors import Stale, Unavailable
from nightshift_crds.names import Step
from nightshift_operator.controller import Key
from nightshift_operator.follow import Follower
from nightshift_operator.jobs import MANAGED_BY
from nightshift_operator.queue import WorkQueue
from tests.builders import NAMESPACE
from tests.operator.world import Fragile, Fuse, Outage, World

Queue = WorkQueue[Key]


class SmallPages(Fragile):
    """A cluster whose lists have one object a page."""

    def __init__(self, cluster: Cluster) -> None:
        super().__init__(cluster, Fuse(1_000_000))

    async def list(self, *args: Any, **more: Any) -> Page:
        page: Page = await self._port.list(*args, **more, limit=1)
        return page


@asynccontextmanager
async def following(cluster: Any) -> AsyncIterator[Queue]:
    queue: Queue = WorkQueue(time.monotonic)
    task = asyncio.create_task(Follower(cast("Cluster", cluster), queue).follow())
    try:
        yield queue
        assert not task.done()
    finally:
        task.cancel()
        with suppress(asyncio.CancelledError):
            await task


async def next_of(queue: Queue) -> Key:
    """Take a name and give it back as done."""
    async with asyncio.timeout(10):
        key = await queue.take()
    queue.done(key)
    return key


async def settle(world: World, key: Key) -> None:
    patch = {"status": {"phase": "FAILED", "failedAt": "2026-11-24T00:00:00Z", "settled": True}}
    await world.cluster.patch_status(BATCH_JOB, *key, patch)


async def test_batches_that_are_there_come_first(world: World) -> None:
    keys = {await world.add_batch(name=f"batch-{n}") for n in range(3)}
    async with following(world.cluster) as queue:
        assert {await next_of(queue) for _ in keys} == keys


async def test_no_page_of_a_long_list_is_left_out(world: World) -> None:
    keys = {await world.add_batch(name=f"batch-{n}") for n in range(3)}
    async with following(SmallPages(world.cluster)) as queue:
        assert {await next_of(queue) for _ in keys} == keys


async def test_a_new_batch_and_a_change_of_one_come_when_they_happen(world: World) -> None:
    async with following(world.cluster) as queue:
        key = await world.add_batch()
        assert await next_of(queue) == key
        await world.ask(key, suspend=True)
        assert await next_of(queue) == key


async def test_a_settled_batch_is_not_looked_at_again(world: World) -> None:
    await settle(world, await world.add_batch(name="a-settled"))
    key = await world.add_batch(name="b-open")
    async with following(world.cluster) as queue:
        assert await next_of(queue) == key
        new = await world.add_batch(name="c-new")
        assert await next_of(queue) == new


async def test_a_change_of_a_job_brings_its_batch(world: World) -> None:
    await world.add_model()
    await world.add_input()
    key = await world.add_batch()
    for _ in range(3):
        await world.operator().reconcile(key)
    async with following(world.cluster) as queue:
        await next_of(queue)
        await world.end_job(key, Step.RUN)
        assert await next_of(queue) == key


async def test_a_job_that_only_looks_like_ours_brings_nothing(world: World) -> None:
    metadata = {"name": "stranger", "namespace": NAMESPACE, "labels": MANAGED_BY}
    owner = {"apiVersion": "v1", "kind": "CronJob", "name": "x", "uid": "y"}
    async with following(world.cluster) as queue:
        for n, owners in enumerate(([], [owner])):
            odd = {"metadata": metadata | {"name": f"stranger-{n}", "ownerReferences": owners}, "spec": {}}
            await world.cluster.create(JOB, {"apiVersion": "batch/v1", "kind": "Job"} | odd)
        key = await world.add_batch()
        assert await next_of(queue) == key


async def test_a_batch_that_nobody_understands_does_not_end_the_watch(world: World) -> None:
    odd = await world.add_batch(name="odd")
    async with following(world.cluster) as queue:
        assert await next_of(queue) == odd
        world.write_oddly(BATCH_JOB, "odd", spec=None, status={"phase": 7})
        assert await next_of(queue) == odd
        new = await world.add_batch(name="next")
        assert await next_of(queue) == new


@pytest.mark.parametrize("error", [Unavailable("away"), Stale("version 1 is too old to watch from")])
async def test_a_watch_that_breaks_lists_again_and_goes_on(world: World, error: Exception) -> None:
    key = await world.add_batch()
    async with following(Fragile(world.cluster, Outage(0, error, calls=2))) as queue:
        assert await next_of(queue) == key
