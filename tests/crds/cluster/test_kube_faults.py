"""A real API server at the end of a bad way: each kind of fault at the place where it hurts."""

import asyncio
import json
from collections.abc import AsyncIterator, Callable
from contextlib import aclosing
from pathlib import Path

import pytest

from nightshift_crds.cluster.port import BATCH_JOB, JOB, ChangeType, Cluster, Manifest, Propagation, Selector
from nightshift_crds.errors import AlreadyExists, Missing, Stale, Unavailable
from tests.builders import NAMESPACE, a_batch_manifest
from tests.crds.cluster.conftest import open_scoped
from tests.crds.cluster.test_conformance import a_job
from tests.faults.kubernetes import proxied_kubernetes
from tests.faults.proxy import Asked, Cut, Delay, Drop, Fault, Lose, Proxy, Refuse
from tests.faults.weather import nth, nths

HERE = Selector(NAMESPACE)
TRIES = 6
EXPIRED = {"kind": "Status", "status": "Failure", "reason": "Expired", "code": 410, "message": "too old"}

pytestmark = pytest.mark.cluster


@pytest.fixture
async def way(kubeconfig: Path, tmp_path: Path) -> AsyncIterator[tuple[Proxy, Path]]:
    async with proxied_kubernetes(kubeconfig, tmp_path) as proxied:
        yield proxied


@pytest.fixture
def proxy(way: tuple[Proxy, Path]) -> Proxy:
    return way[0]


@pytest.fixture
async def cluster(way: tuple[Proxy, Path], namespace: str) -> AsyncIterator[Cluster]:
    """The cluster, through the proxy."""
    async with open_scoped(way[1], namespace) as opened:
        yield opened


@pytest.fixture
async def direct(kubeconfig: Path, namespace: str) -> AsyncIterator[Cluster]:
    """The same cluster, as somebody else sees it."""
    async with open_scoped(kubeconfig, namespace) as opened:
        yield opened


def by(method: str) -> Callable[[Asked], bool]:
    return lambda asked: asked.method == method


def count(proxy: Proxy, method: str) -> int:
    return sum(asked.method == method for asked in proxy.asked)


def guarded(manifest: Manifest, **patch: Manifest) -> Manifest:
    return {"metadata": {"resourceVersion": manifest["metadata"]["resourceVersion"]}} | patch


# --- the answer is lost -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("fault", [Lose(), Cut(20)])
@pytest.mark.parametrize("kind", [BATCH_JOB, JOB])
async def test_a_create_whose_answer_is_lost_gives_the_object(
    proxy: Proxy, cluster: Cluster, fault: Fault, kind: object
) -> None:
    manifest, kind = (a_job("one"), JOB) if kind is JOB else (a_batch_manifest(name="one"), BATCH_JOB)
    proxy.script = nth(1, fault, of=by("POST"))
    created = await cluster.create(kind, manifest)
    assert count(proxy, "POST") == 2
    assert created == await cluster.get(kind, NAMESPACE, "one")


async def test_a_create_that_may_have_been_lost_is_not_taken_for_somebody_elses(
    proxy: Proxy, cluster: Cluster, direct: Cluster
) -> None:
    await direct.create(BATCH_JOB, a_batch_manifest(name="one", metadata={"made": "by another"}))
    proxy.script = nth(1, Drop(), of=by("POST"))
    with pytest.raises(AlreadyExists):
        await cluster.create(BATCH_JOB, a_batch_manifest(name="one", metadata={"made": "by us"}))


async def test_a_create_that_may_have_been_lost_is_not_taken_for_what_is_being_deleted(
    proxy: Proxy, cluster: Cluster, direct: Cluster
) -> None:
    job = a_job("one", finalizers=["nightshift.dev/held"])
    await direct.create(JOB, job)
    await direct.delete(JOB, NAMESPACE, "one", propagation=Propagation.BACKGROUND)
    proxy.script = nth(1, Drop(), of=by("POST"))
    with pytest.raises(AlreadyExists):
        await cluster.create(JOB, job)
    await direct.patch(JOB, NAMESPACE, "one", {"metadata": {"finalizers": None}})


@pytest.mark.parametrize("fault", [Lose(), Cut(20)])
async def test_a_delete_whose_answer_is_lost_has_deleted(proxy: Proxy, cluster: Cluster, fault: Fault) -> None:
    batch = await cluster.create(BATCH_JOB, a_batch_manifest(name="one"))
    proxy.script = nth(1, fault, of=by("DELETE"))
    uid = batch["metadata"]["uid"]
    await cluster.delete(BATCH_JOB, NAMESPACE, "one", propagation=Propagation.BACKGROUND, uid=uid)
    assert count(proxy, "DELETE") == 2
    with pytest.raises(Missing):
        await cluster.get(BATCH_JOB, NAMESPACE, "one")


@pytest.mark.parametrize("fault", [Lose(), Cut(20)])
async def test_a_guarded_patch_whose_answer_is_lost_has_been_made_once(
    proxy: Proxy, cluster: Cluster, fault: Fault
) -> None:
    batch = await cluster.create(BATCH_JOB, a_batch_manifest(name="one"))
    proxy.script = nth(1, fault, of=by("PATCH"))
    patched = await cluster.patch(BATCH_JOB, NAMESPACE, "one", guarded(batch, spec={"suspend": True}))
    assert patched["spec"]["suspend"] is True
    assert patched["metadata"]["generation"] == 2

    proxy.script = nth(1, fault, of=by("PATCH"))
    status = {"phase": "VALIDATING", "jobName": None}
    patched = await cluster.patch_status(BATCH_JOB, NAMESPACE, "one", guarded(patched, status=status))
    assert patched["status"]["phase"] == "VALIDATING"
    assert count(proxy, "PATCH") == 4
    assert patched == await cluster.get(BATCH_JOB, NAMESPACE, "one")


@pytest.mark.parametrize("is_ours", [True, False])
async def test_a_guarded_patch_that_another_has_overtaken_is_stale_whether_it_was_made_or_not(
    proxy: Proxy, cluster: Cluster, direct: Cluster, is_ours: bool
) -> None:
    batch = await cluster.create(BATCH_JOB, a_batch_manifest(name="one"))
    arrived, overtaken = asyncio.Event(), False

    def until_overtaken(asked: Asked) -> Fault | None:
        if asked.method != "PATCH" or overtaken:
            return None
        if arrived.is_set():
            return Refuse(503)
        arrived.set()
        return Lose() if is_ours else Drop()

    proxy.script = until_overtaken
    ours = asyncio.create_task(cluster.patch_status(BATCH_JOB, NAMESPACE, "one", guarded(batch, status={"attempt": 1})))
    await arrived.wait()
    async with asyncio.timeout(5):
        while is_ours and "status" not in await direct.get(BATCH_JOB, NAMESPACE, "one"):
            pass
    await direct.patch_status(BATCH_JOB, NAMESPACE, "one", {"status": {"attempt": 2}})
    overtaken = True
    with pytest.raises(Stale):
        await ours
    assert (await direct.get(BATCH_JOB, NAMESPACE, "one"))["status"]["attempt"] == 2


# --- the server is not well -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("fault", [*map(Refuse, (401, 429, 500, 502, 503, 504)), Drop(), Cut(20), Delay(0.2)], ids=str)
async def test_what_passes_is_waited_for(proxy: Proxy, cluster: Cluster, fault: Fault) -> None:
    proxy.script = nths(range(1, 3), fault)
    await cluster.create(BATCH_JOB, a_batch_manifest(name="one"))
    proxy.script = nths(range(1, 3), fault)
    assert (await cluster.get(BATCH_JOB, NAMESPACE, "one"))["metadata"]["name"] == "one"


async def test_a_server_that_asks_for_time_gets_it(proxy: Proxy, cluster: Cluster) -> None:
    proxy.script = nth(1, Refuse(429, {"Retry-After": "1"}))
    began = asyncio.get_running_loop().time()
    await cluster.list(BATCH_JOB)
    assert asyncio.get_running_loop().time() - began >= 1


async def test_what_does_not_pass_is_unavailable_after_some_tries(proxy: Proxy, cluster: Cluster) -> None:
    proxy.script = lambda _: Refuse(503)
    with pytest.raises(Unavailable, match="does not answer GET"):
        await cluster.get(BATCH_JOB, NAMESPACE, "one")
    assert len(proxy.asked) == TRIES


async def test_a_list_whose_next_page_comes_too_late_begins_again(proxy: Proxy, cluster: Cluster) -> None:
    for name in ("one", "two"):
        await cluster.create(BATCH_JOB, a_batch_manifest(name=name))
    page = await cluster.list(BATCH_JOB, HERE, limit=1)
    proxy.script = nth(1, Refuse(410, body=json.dumps(EXPIRED).encode()))
    with pytest.raises(Unavailable, match="took too long"):
        await cluster.list(BATCH_JOB, HERE, after=page.after)
    assert "continue=" in proxy.asked[-1].target


# --- watches ----------------------------------------------------------------------------------------------------------


def of_watches(asked: Asked) -> bool:
    return asked.is_watch


@pytest.mark.parametrize("after_bytes", [1, 700, 3_000])
async def test_a_watch_that_is_cut_goes_on_without_missing_a_change(
    proxy: Proxy, cluster: Cluster, direct: Cluster, after_bytes: int
) -> None:
    page = await cluster.list(BATCH_JOB, HERE)
    proxy.script = nths(range(1, 5), Cut(after_bytes), of=of_watches)
    wanted = [(ChangeType.ADDED, f"b{n}") for n in range(20)]
    async with asyncio.timeout(30), aclosing(cluster.watch(BATCH_JOB, HERE, page.resource_version)) as changes:
        for _, name in wanted:
            await direct.create(BATCH_JOB, a_batch_manifest(name=name))
        told = [await anext(changes) for _ in wanted]
        assert [(change.type, change.manifest["metadata"]["name"]) for change in told] == wanted
    assert proxy.faults == 4


@pytest.mark.parametrize(
    "fault",
    [
        Refuse(429, {"Retry-After": "1"}),
        Refuse(503),
        Drop(),
        Refuse(200, body=b""),
        Refuse(200, body=b'{"type":"ERROR","object":{"code":500,"message":"etcd is not well"}}\n'),
    ],
    ids=str,
)
async def test_a_watch_that_cannot_go_on_at_once_goes_on_later(
    proxy: Proxy, cluster: Cluster, direct: Cluster, fault: Fault
) -> None:
    page = await cluster.list(BATCH_JOB, HERE)
    proxy.script = nths(range(1, 3), fault, of=of_watches)
    async with asyncio.timeout(20), aclosing(cluster.watch(BATCH_JOB, HERE, page.resource_version)) as changes:
        await direct.create(BATCH_JOB, a_batch_manifest(name="one"))
        assert (await anext(changes)).manifest["metadata"]["name"] == "one"
    assert proxy.faults == 2


async def test_a_watch_that_never_tells_anything_is_unavailable_in_the_end(proxy: Proxy, cluster: Cluster) -> None:
    page = await cluster.list(BATCH_JOB, HERE)
    proxy.script = lambda _: Drop()
    with pytest.raises(Unavailable):
        await anext(cluster.watch(BATCH_JOB, HERE, page.resource_version))
    assert proxy.faults == TRIES


@pytest.mark.parametrize(
    "answer",
    [
        Refuse(410, body=json.dumps(EXPIRED).encode()),
        Refuse(200, body=json.dumps({"type": "ERROR", "object": EXPIRED}).encode() + b"\n"),
    ],
    ids=["status", "line"],
)
async def test_a_watch_that_is_cut_for_too_long_is_stale(
    proxy: Proxy, cluster: Cluster, direct: Cluster, answer: Refuse
) -> None:
    page = await cluster.list(BATCH_JOB, HERE)
    cut, expired = nth(1, Cut(1), of=of_watches), nth(1, answer, of=of_watches)
    proxy.script = lambda asked: cut(asked) or expired(asked)
    await direct.create(BATCH_JOB, a_batch_manifest(name="one"))
    with pytest.raises(Stale, match="too old"):
        await anext(cluster.watch(BATCH_JOB, HERE, page.resource_version))
