"""Holding a Lease: one at a time, taken over when its holder is gone, told when it is lost."""

import asyncio
import selectors
import sqlite3
from collections.abc import Awaitable, Callable
from contextlib import aclosing, closing
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from nightshift_crds.cluster import open_cluster
from nightshift_crds.cluster.lease import DURATION_S, holding_lease, is_held
from nightshift_crds.cluster.port import LEASE, Cluster, Manifest, Propagation, Selector
from nightshift_crds.errors import Missing
from tests.builders import NAMESPACE, T0

NAME = "operator"
SPEED = 50
"""How fast the clock of `hurry` runs: a lease of 15 s is over in 0.3 s. SQLite keeps its own pace."""


def micro_time(moment: datetime) -> str:
    return moment.isoformat(timespec="microseconds").replace("+00:00", "Z")


def a_lease(holder: str | None, renewed: datetime | None = T0, duration_s: int = DURATION_S) -> Manifest:
    spec = {"holderIdentity": holder, "leaseDurationSeconds": duration_s, "renewTime": renewed and micro_time(renewed)}
    return {
        "apiVersion": LEASE.api_version,
        "kind": LEASE.kind,
        "metadata": {"name": NAME, "namespace": NAMESPACE},
        "spec": {key: value for key, value in spec.items() if value is not None},
    }


class _HurriedSelector(selectors.DefaultSelector):
    def select(self, timeout: float | None = None) -> list[tuple[selectors.SelectorKey, int]]:
        return super().select(timeout / SPEED if timeout else timeout)


class _HurriedLoop(asyncio.SelectorEventLoop):
    def __init__(self) -> None:
        super().__init__(_HurriedSelector())

    def time(self) -> float:
        return super().time() * SPEED


def hurry(story: Callable[[Cluster], Awaitable[None]], folder: Path) -> None:
    """Play a story on a loop whose clock runs fast."""

    async def play() -> None:
        async with asyncio.timeout(30 * SPEED), open_cluster(f"sqlite://{folder / 'cluster.db'}") as cluster:
            await story(cluster)

    with asyncio.Runner(loop_factory=_HurriedLoop) as runner:
        runner.run(play())


# --- who holds it -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("lease", "age_s", "held"),
    [
        (a_lease("a"), 0, True),
        (a_lease("a"), 14.9, True),
        (a_lease("a"), 15, False),
        (a_lease("a", duration_s=60), 59, True),
        (a_lease(None), 0, False),
        (a_lease("a", renewed=None), 0, False),
    ],
)
def test_a_lease_is_held_for_as_long_as_it_says_after_its_renewal(lease: Manifest, age_s: float, held: bool) -> None:
    assert is_held(lease, T0 + timedelta(seconds=age_s)) is held


async def holder_of(cluster: Cluster) -> str | None:
    lease = await cluster.get(LEASE, NAMESPACE, NAME)
    return str(lease["spec"]["holderIdentity"]) if is_held(lease, datetime.now(UTC)) else None


def never() -> None:
    raise AssertionError("the lease was lost")


async def test_a_lease_is_ours_inside_and_free_behind(cluster: Cluster) -> None:
    async with holding_lease(cluster, NAMESPACE, NAME, "a", never):
        assert await holder_of(cluster) == "a"
    assert await holder_of(cluster) is None


@pytest.mark.parametrize(
    "found", [a_lease("gone"), a_lease(None, renewed=None), a_lease("me", renewed=datetime.now(UTC), duration_s=3_600)]
)
async def test_a_lease_that_is_free_expired_or_ours_is_taken_at_once(cluster: Cluster, found: Manifest) -> None:
    await cluster.create(LEASE, found)
    async with asyncio.timeout(5), holding_lease(cluster, NAMESPACE, NAME, "me", never):
        assert await holder_of(cluster) == "me"


@pytest.mark.parametrize("found", [[], [a_lease("gone")]])
async def test_of_two_that_come_at_once_one_waits_for_the_other(cluster: Cluster, found: list[Manifest]) -> None:
    for lease in found:
        await cluster.create(LEASE, lease)
    inside: list[str] = []

    async def work(holder: str) -> None:
        async with holding_lease(cluster, NAMESPACE, NAME, holder, never):
            inside.append(holder)
            assert len(inside) == 1
            await asyncio.sleep(0)
            inside.remove(holder)

    await asyncio.gather(work("a"), work("b"))


def test_a_holder_that_died_is_waited_for_until_its_lease_is_over(tmp_path: Path) -> None:
    renewed = datetime.now(UTC)

    async def story(cluster: Cluster) -> None:
        await cluster.create(LEASE, a_lease("dead", renewed=renewed, duration_s=1))
        async with holding_lease(cluster, NAMESPACE, NAME, "next", never):
            assert datetime.now(UTC) >= renewed + timedelta(seconds=1)
            assert await holder_of(cluster) == "next"

    hurry(story, tmp_path)


# --- while it is held -------------------------------------------------------------------------------------------------


async def until_renewed(cluster: Cluster) -> None:
    """Wait for the next renewal."""
    page = await cluster.list(LEASE)
    async with aclosing(cluster.watch(LEASE, Selector(NAMESPACE), page.resource_version)) as changes:
        assert (await anext(changes)).manifest["spec"]["renewTime"]


def test_a_lease_is_renewed_while_it_is_held(tmp_path: Path) -> None:
    async def story(cluster: Cluster) -> None:
        async with holding_lease(cluster, NAMESPACE, NAME, "a", never):
            await until_renewed(cluster)
            await until_renewed(cluster)

    hurry(story, tmp_path)


def test_a_lease_that_somebody_deletes_is_made_again(tmp_path: Path) -> None:
    async def story(cluster: Cluster) -> None:
        async with holding_lease(cluster, NAMESPACE, NAME, "a", never):
            await cluster.delete(LEASE, NAMESPACE, NAME, propagation=Propagation.BACKGROUND)
            await until_renewed(cluster)
            assert await holder_of(cluster) == "a"

    hurry(story, tmp_path)


def test_a_lease_that_another_has_taken_is_lost_once_and_left_to_it(tmp_path: Path) -> None:
    async def story(cluster: Cluster) -> None:
        lost: asyncio.Queue[None] = asyncio.Queue()
        async with holding_lease(cluster, NAMESPACE, NAME, "a", lambda: lost.put_nowait(None)):
            await cluster.patch(LEASE, NAMESPACE, NAME, {"spec": a_lease("b", renewed=datetime.now(UTC))["spec"]})
            await lost.get()
            await asyncio.sleep(2 * DURATION_S)
            assert lost.empty()
        assert await holder_of(cluster) == "b"

    hurry(story, tmp_path)


def test_a_lease_that_cannot_be_renewed_for_its_whole_duration_is_lost(tmp_path: Path) -> None:
    async def story(cluster: Cluster) -> None:
        lost = asyncio.Event()
        async with holding_lease(cluster, NAMESPACE, NAME, "a", lost.set):
            since = asyncio.get_running_loop().time()
            break_file(tmp_path)
            await lost.wait()
            assert asyncio.get_running_loop().time() - since > DURATION_S

    hurry(story, tmp_path)


def test_a_short_outage_loses_nothing(tmp_path: Path) -> None:
    async def story(cluster: Cluster) -> None:
        async with holding_lease(cluster, NAMESPACE, NAME, "a", never):
            break_file(tmp_path)
            await asyncio.sleep(DURATION_S / 2)
            mend_file(tmp_path)
            await until_renewed(cluster)

    hurry(story, tmp_path)


def break_file(folder: Path) -> None:
    with closing(sqlite3.connect(folder / "cluster.db")) as file:
        file.execute("ALTER TABLE objects RENAME TO elsewhere")


def mend_file(folder: Path) -> None:
    with closing(sqlite3.connect(folder / "cluster.db")) as file:
        file.execute("ALTER TABLE elsewhere RENAME TO objects")


async def test_a_lease_that_is_gone_at_the_end_is_no_trouble(cluster: Cluster) -> None:
    async with holding_lease(cluster, NAMESPACE, NAME, "a", never):
        await cluster.delete(LEASE, NAMESPACE, NAME, propagation=Propagation.BACKGROUND)
    with pytest.raises(Missing):
        await holder_of(cluster)
