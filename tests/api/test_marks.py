"""Marks: what one replica has noted every replica reads, and no mark ever falls."""

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from nightshift_api.marks import MarksLease
from nightshift_crds.cluster.local import open_local
from nightshift_crds.cluster.port import BATCH_JOB, LEASE, STORED_FILE, Cluster, Propagation
from tests.api.faults import InterruptedCluster
from tests.builders import NAMESPACE

WHERE = "system/marks"


@pytest.fixture
async def cluster(tmp_path: Path) -> AsyncIterator[Cluster]:
    async with open_local(tmp_path / "cluster.db") as opened:
        yield opened


async def delete_lease(cluster: Cluster) -> None:
    await cluster.delete(LEASE, *WHERE.split("/"), propagation=Propagation.BACKGROUND)


async def test_where_nobody_has_written_the_mark_is_0(cluster: Cluster) -> None:
    assert await MarksLease(cluster, WHERE).read(NAMESPACE, BATCH_JOB) == 0


async def test_each_namespace_and_kind_has_a_mark_that_every_replica_reads(cluster: Cluster) -> None:
    marks = MarksLease(cluster, WHERE)
    await marks.raise_to(NAMESPACE, BATCH_JOB, 7)
    await marks.raise_to(NAMESPACE, STORED_FILE, 9)
    await marks.raise_to("team-b", BATCH_JOB, 11)
    other = MarksLease(cluster, WHERE)
    assert await other.read(NAMESPACE, BATCH_JOB) == 7
    assert await other.read(NAMESPACE, STORED_FILE) == 9
    assert await other.read("team-b", BATCH_JOB) == 11


async def test_a_mark_does_not_fall(cluster: Cluster) -> None:
    marks, other = MarksLease(cluster, WHERE), MarksLease(cluster, WHERE)
    await marks.raise_to(NAMESPACE, BATCH_JOB, 7)
    await other.raise_to(NAMESPACE, BATCH_JOB, 3)
    await marks.raise_to(NAMESPACE, BATCH_JOB, 5)
    assert await other.read(NAMESPACE, BATCH_JOB) == 7


async def test_replicas_that_write_at_once_lose_no_mark(cluster: Cluster) -> None:
    replicas = [MarksLease(cluster, WHERE) for _ in range(3)]
    writes = [
        replica.raise_to(f"team-{n % 5}", BATCH_JOB, 100 * no + n)
        for n in range(50)
        for no, replica in enumerate(replicas)
    ]
    await asyncio.gather(*writes)
    assert [await replicas[0].read(f"team-{n}", BATCH_JOB) for n in range(5)] == [245, 246, 247, 248, 249]


async def test_writes_that_come_while_one_is_noted_are_noted_together(cluster: Cluster) -> None:
    counted = InterruptedCluster()
    calls: list[None] = []

    async def count() -> None:
        calls.append(None)

    counted.before("lease", *[count] * 100)
    marks = MarksLease(counted.around(cluster), WHERE)
    await asyncio.gather(*(marks.raise_to(NAMESPACE, BATCH_JOB, n) for n in range(1, 50)))
    assert len(calls) == 5  # for the first the Lease is looked for, made and patched, for the others read and patched
    assert await MarksLease(cluster, WHERE).read(NAMESPACE, BATCH_JOB) == 49


async def test_a_lease_that_somebody_has_cleared_up_is_made_again(cluster: Cluster) -> None:
    marks = MarksLease(cluster, WHERE)
    await marks.raise_to(NAMESPACE, BATCH_JOB, 7)
    await delete_lease(cluster)
    await marks.raise_to(NAMESPACE, BATCH_JOB, 8)
    assert await marks.read(NAMESPACE, BATCH_JOB) == 8


@pytest.mark.parametrize("calls_before", [0, 1])
async def test_a_mark_is_raised_whatever_another_replica_does_meanwhile(cluster: Cluster, calls_before: int) -> None:
    """Before the Lease is made the other makes it; before it is patched the other has patched it."""
    weak = InterruptedCluster()
    other = MarksLease(cluster, WHERE)

    async def nothing() -> None:
        pass

    async def be_faster() -> None:
        await other.raise_to(NAMESPACE, STORED_FILE, 5)

    weak.before("lease", *[nothing] * (calls_before + 1), be_faster)
    await MarksLease(weak.around(cluster), WHERE).raise_to(NAMESPACE, BATCH_JOB, 7)
    assert (await other.read(NAMESPACE, STORED_FILE), await other.read(NAMESPACE, BATCH_JOB)) == (5, 7)
