"""What the adapter of a real API server does beyond the port: namespaces, refusals, what is too old."""

import asyncio
from collections.abc import AsyncIterator, Iterator
from contextlib import aclosing, asynccontextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
import yaml

from nightshift_crds.cluster import open_cluster
from nightshift_crds.cluster.port import (
    BATCH_JOB,
    EVENT,
    JOB,
    SECRET,
    STORED_FILE,
    Cluster,
    Kind,
    Manifest,
    Selector,
    each,
)
from nightshift_crds.errors import AlreadyExists, Denied, Missing, Refused, Stale, Unauthenticated, Unavailable
from tests.builders import a_batch_manifest, a_file_manifest

if TYPE_CHECKING:
    from kubernetes.client import CoreV1Api

    from tests.kubernetes import Kubernetes

NOTHING = Kind("nightshift.dev/v1alpha1", "Nothing", "nothings")

pytestmark = pytest.mark.cluster


@asynccontextmanager
async def opened(kubeconfig: Path, *namespaces: str) -> AsyncIterator[Cluster]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("KUBECONFIG", str(kubeconfig))
        async with open_cluster(f"kubernetes://{','.join(namespaces)}") as cluster:
            yield cluster


@pytest.fixture
async def cluster(kubeconfig: Path, namespace: str) -> AsyncIterator[Cluster]:
    async with opened(kubeconfig, namespace) as cluster:
        yield cluster


@pytest.fixture
def other_namespace(kubernetes_api: "CoreV1Api") -> Iterator[str]:
    from tests.kubernetes import fresh_namespace  # noqa: PLC0415 - most tests need no Kubernetes client

    with fresh_namespace(kubernetes_api) as name:
        yield name


def a_batch_in(namespace: str, name: str) -> Manifest:
    manifest = a_batch_manifest(name=name)
    return manifest | {"metadata": manifest["metadata"] | {"namespace": namespace}}


def with_token(kubeconfig: Path, token: str, folder: Path) -> Path:
    """Write a kubeconfig for another user."""
    config = yaml.safe_load(kubeconfig.read_text())
    for user in config["users"]:
        user["user"] = {"token": token}
    other = folder / "other.kubeconfig"
    other.write_text(yaml.safe_dump(config))
    return other


# --- namespaces -------------------------------------------------------------------------------------------------------


async def test_an_installation_lists_the_namespaces_that_it_serves_one_after_the_other(
    kubeconfig: Path, namespace: str, other_namespace: str
) -> None:
    async with opened(kubeconfig, namespace, other_namespace) as cluster:
        wanted = [(place, f"b{n}") for place in (namespace, other_namespace) for n in range(3)]
        for place, name in wanted:
            await cluster.create(BATCH_JOB, a_batch_in(place, name))
        found, after = [], None
        while True:
            page = await cluster.list(BATCH_JOB, limit=2, after=after)
            found += [(item["metadata"]["namespace"], item["metadata"]["name"]) for item in page.items]
            after = page.after
            if after is None:
                break
        assert found == wanted


async def test_an_installation_without_namespaces_serves_them_all(
    kubeconfig: Path, namespace: str, other_namespace: str
) -> None:
    async with opened(kubeconfig) as cluster:
        page = await cluster.list(BATCH_JOB)
        async with aclosing(cluster.watch(BATCH_JOB, Selector(), page.resource_version)) as changes:
            for place in (namespace, other_namespace):
                await cluster.create(BATCH_JOB, a_batch_in(place, "one"))
            told: set[str] = set()
            async with asyncio.timeout(20):
                while not told >= {namespace, other_namespace}:
                    told.add((await anext(changes)).manifest["metadata"]["namespace"])
        listed = {item["metadata"]["namespace"] async for item in each(cluster, BATCH_JOB)}
        assert listed >= {namespace, other_namespace}


async def test_a_watch_after_a_list_of_several_namespaces_misses_nothing_in_any(
    kubeconfig: Path, namespace: str, other_namespace: str
) -> None:
    async with opened(kubeconfig, namespace, other_namespace) as cluster:
        page = await cluster.list(BATCH_JOB)
        await cluster.create(BATCH_JOB, a_batch_in(namespace, "between-the-pages"))
        while page.after is not None:
            page = await cluster.list(BATCH_JOB, after=page.after)
        async with (
            asyncio.timeout(20),
            aclosing(cluster.watch(BATCH_JOB, Selector(), page.resource_version)) as changes,
        ):
            assert (await anext(changes)).manifest["metadata"]["name"] == "between-the-pages"
            await cluster.create(BATCH_JOB, a_batch_in(other_namespace, "behind-the-list"))
            assert (await anext(changes)).manifest["metadata"]["name"] == "behind-the-list"


async def test_a_create_in_a_namespace_that_is_not_there_is_refused(cluster: Cluster) -> None:
    with pytest.raises(Refused, match="no such namespace"):
        await cluster.create(BATCH_JOB, a_batch_in("of-nobody", "one"))


# --- refusals ---------------------------------------------------------------------------------------------------------


async def test_a_kind_that_the_cluster_does_not_know_is_no_missing_object(cluster: Cluster, namespace: str) -> None:
    with pytest.raises(Unavailable, match="does not know"):
        await cluster.get(NOTHING, namespace, "one")
    with pytest.raises(Missing, match="does not know nothings"):
        await cluster.list(NOTHING)


async def test_what_an_account_may_not_do_is_refused_and_says_what(
    kubernetes: "Kubernetes", namespace: str, tmp_path: Path
) -> None:
    token = kubernetes.kubectl("create", "token", "default", f"--namespace={namespace}").strip()
    async with opened(with_token(kubernetes.kubeconfig, token, tmp_path), namespace) as cluster:
        for call in (
            cluster.get(SECRET, namespace, "one"),
            cluster.list(SECRET),
            cluster.create(BATCH_JOB, a_batch_in(namespace, "one")),
            anext(cluster.watch(SECRET, Selector(), "1")),
        ):
            with pytest.raises(Denied, match="forbidden"):
                await call


async def test_a_token_that_is_not_known_is_no_verdict_on_anything(
    kubeconfig: Path, namespace: str, tmp_path: Path
) -> None:
    async with opened(with_token(kubeconfig, "made-up", tmp_path), namespace) as cluster:
        with pytest.raises(Unauthenticated, match="401"):
            await cluster.get(BATCH_JOB, namespace, "one")


async def test_a_manifest_that_no_kind_allows_is_refused_in_the_servers_words(cluster: Cluster, namespace: str) -> None:
    job = {"apiVersion": "batch/v1", "kind": "Job", "metadata": {"name": "j", "namespace": namespace}, "spec": {}}
    with pytest.raises(Refused, match=r"spec\.template"):
        await cluster.create(JOB, job)


async def test_a_name_is_taken_also_by_an_equal_object(cluster: Cluster, namespace: str) -> None:
    await cluster.create(BATCH_JOB, a_batch_in(namespace, "one"))
    with pytest.raises(AlreadyExists):
        await cluster.create(BATCH_JOB, a_batch_in(namespace, "one"))


# --- what is too old --------------------------------------------------------------------------------------------------


async def test_a_watch_from_before_what_is_remembered_is_stale(cluster: Cluster) -> None:
    with pytest.raises(Stale, match="too old"):
        await anext(cluster.watch(BATCH_JOB, Selector(), "1"))


# --- events -----------------------------------------------------------------------------------------------------------


async def test_an_event_of_any_length_is_recorded(cluster: Cluster, namespace: str) -> None:
    batch = await cluster.create(BATCH_JOB, a_batch_in(namespace, "one"))
    await cluster.record_event(batch, warning=True, reason="Failed", message="x" * 5_000)
    assert [len(event["message"]) async for event in each(cluster, EVENT)] == [1024]


async def test_as_many_watches_as_there_are_namespaces_can_be_open(kubeconfig: Path, namespace: str) -> None:
    """Two kinds are followed in each, as by the API: more connections than calls may have. Ours is opened last."""
    async with opened(kubeconfig, *(f"nowhere-{n}" for n in range(60)), namespace) as cluster:
        since = (await cluster.list(BATCH_JOB)).resource_version
        watches = [cluster.watch(kind, Selector(), since) for kind in (BATCH_JOB, STORED_FILE)]
        following = [asyncio.ensure_future(anext(watch)) for watch in watches]
        file = a_file_manifest(name="one")
        await cluster.create(BATCH_JOB, a_batch_in(namespace, "one"))
        await cluster.create(STORED_FILE, file | {"metadata": file["metadata"] | {"namespace": namespace}})
        async with asyncio.timeout(60):
            told = await asyncio.gather(*following)
        assert [change.manifest["kind"] for change in told] == ["BatchJob", "StoredFile"]
        for watch in watches:
            await watch.aclose()
