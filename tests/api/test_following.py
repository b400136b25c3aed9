"""An index that follows its cluster: what was written is in it once it has come that far, also over broken watches."""

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from structlog.testing import capture_logs

from nightshift_api.following import Follower
from nightshift_api.index import Query
from nightshift_api.lists import FILES
from nightshift_crds.cluster.local import open_local
from nightshift_crds.cluster.port import STORED_FILE, Cluster, Manifest, Propagation
from nightshift_crds.errors import Stale, Unavailable
from nightshift_crds.models import FilePhase
from nightshift_crds.names import IdKind
from tests.api.faults import InterruptedCluster, failing
from tests.api.given import an_id
from tests.api.harness import file_name
from tests.builders import NAMESPACE, T0, a_file_manifest

IDS = [an_id(IdKind.FILE, T0, n) for n in range(4)]


class Followed:
    """A follower that runs, and the cluster that it follows."""

    def __init__(self, inner: Cluster, patience_s: float = 5) -> None:
        self.inner = inner
        self.cluster = InterruptedCluster()
        self.follower = Follower(self.cluster.around(inner), FILES, patience_s)

    async def add(self, id_: str, **status: Any) -> int:
        """Make a file that has content, and give the version of that."""
        await self.inner.create(STORED_FILE, a_file_manifest(name=file_name(id_)))
        return await self.write(id_, **{"phase": FilePhase.READY} | status)

    async def write(self, id_: str, **status: Any) -> int:
        return version_of(await self.inner.patch_status(STORED_FILE, NAMESPACE, file_name(id_), {"status": status}))

    async def delete(self, id_: str) -> None:
        name = file_name(id_)
        await self.inner.delete(STORED_FILE, NAMESPACE, name, propagation=Propagation.BACKGROUND)

    def ids(self) -> list[str]:
        return [row.id for row in self.follower.index.page(NAMESPACE, Query(100, 0))[0]]


def version_of(manifest: Manifest) -> int:
    return int(manifest["metadata"]["resourceVersion"])


@pytest.fixture
async def followed(tmp_path: Path) -> AsyncIterator[Followed]:
    async with open_local(tmp_path / "cluster.db") as cluster:
        yield Followed(cluster)


@pytest.fixture
async def running(followed: Followed) -> AsyncIterator[Followed]:
    await followed.add(IDS[0])
    task = asyncio.create_task(followed.follower.run())
    await followed.follower.reach(NAMESPACE, 0)
    yield followed
    assert task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task


async def test_it_is_not_ready_before_all_has_been_read_once(followed: Followed) -> None:
    with pytest.raises(Unavailable):
        followed.follower.check_ready()


async def test_what_was_there_before_is_there(running: Followed) -> None:
    running.follower.check_ready()
    assert running.ids() == IDS[:1]


async def test_it_reads_all_pages_of_a_list(followed: Followed) -> None:
    for id_ in IDS:
        await followed.add(id_)
    followed.cluster.page_size = 1
    task = asyncio.create_task(followed.follower.run())
    await followed.follower.reach(NAMESPACE, 0)
    assert followed.ids() == IDS[::-1]
    task.cancel()


async def test_what_is_written_is_there_once_its_version_is_reached(running: Followed) -> None:
    await running.follower.reach(NAMESPACE, await running.add(IDS[1], bytes=1))
    assert running.ids() == [IDS[1], IDS[0]]
    await running.follower.reach(NAMESPACE, await running.write(IDS[1], bytes=2))
    row = running.follower.index.find(NAMESPACE, IDS[1])
    assert row is not None
    assert b'"bytes":2' in row.shown


async def test_what_can_no_longer_be_read_leaves_the_list(running: Followed) -> None:
    await running.follower.reach(NAMESPACE, await running.write(IDS[0], phase=FilePhase.WRITING, bytes=0))
    assert running.ids() == []


async def test_a_deletion_ends_with_a_version_at_which_the_row_is_gone(running: Followed) -> None:
    with running.follower.awaiting_end(NAMESPACE, IDS[0]) as end:
        await running.delete(IDS[0])
        version = await running.follower.reach_end(end)
    assert running.ids() == []
    await running.follower.reach(NAMESPACE, version)


@pytest.mark.parametrize("error", [Stale("too old"), Unavailable("down")])
async def test_a_watch_that_breaks_loses_nothing(running: Followed, error: Exception) -> None:
    """The change that it breaks at is not told, and neither is what happens until the list is read again."""
    broken = asyncio.Event()

    async def break_off() -> None:
        await running.add(IDS[2])
        broken.set()
        raise error

    running.cluster.before("change", break_off)
    with running.follower.awaiting_end(NAMESPACE, IDS[0]) as end, capture_logs() as logs:
        await running.delete(IDS[0])
        await broken.wait()
        version = await running.add(IDS[1])
        await running.follower.reach_end(end)
    await running.follower.reach(NAMESPACE, version)
    assert running.ids() == [IDS[2], IDS[1]]
    assert [line["event"] for line in logs] == ["index.restarted"]


async def test_a_list_that_fails_is_tried_again(followed: Followed) -> None:
    version = await followed.add(IDS[0])
    followed.cluster.before("list", failing(Unavailable("down")))
    task = asyncio.create_task(followed.follower.run())
    await followed.follower.reach(NAMESPACE, version)
    assert followed.ids() == IDS[:1]
    task.cancel()


async def test_whoever_waits_for_what_does_not_come_is_told_to_come_back(tmp_path: Path) -> None:
    async with open_local(tmp_path / "cluster.db") as cluster:
        follower = Followed(cluster, patience_s=0.01).follower
        with pytest.raises(Unavailable):
            await follower.reach(NAMESPACE, 0)
        with follower.awaiting_end(NAMESPACE, IDS[0]) as end, pytest.raises(Unavailable):
            await follower.reach_end(end)
