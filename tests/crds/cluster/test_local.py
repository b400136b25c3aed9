"""What the SQLite cluster does beyond the port: one file for several processes, its limits, its faults."""

import asyncio
import json
import sqlite3
import subprocess
import sys
from collections.abc import AsyncGenerator, Callable
from contextlib import aclosing, closing
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nightshift_crds.cluster import open_cluster
from nightshift_crds.cluster.local import merge
from nightshift_crds.cluster.port import (
    BATCH_JOB,
    EVENT,
    JOB,
    POD,
    SECRET,
    Change,
    ChangeType,
    Cluster,
    Manifest,
    Propagation,
    Selector,
    each,
)
from nightshift_crds.errors import Missing, Refused, Rejected, Stale, Unavailable
from tests.builders import NAMESPACE, T0, a_batch_manifest, timestamp
from tests.crds.cluster.conftest import Opener, open_sqlite

HERE = Selector(NAMESPACE)
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=3),
    lambda child: st.lists(child, max_size=3) | st.dictionaries(st.sampled_from("abc"), child, max_size=3),
    max_leaves=8,
)


@pytest.fixture
def opener() -> Opener:
    return open_sqlite


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """The file that the `cluster` fixture opens."""
    return tmp_path / "cluster.db"


def a_secret(name: str, **fields: Any) -> Manifest:
    return {"apiVersion": "v1", "kind": "Secret", "metadata": {"name": name, "namespace": NAMESPACE}, "data": fields}


# --- opening ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("url", ["", "kube", "https://host", "sqlite:/no-such", "file:///x"])
def test_a_url_that_names_no_cluster_is_refused_by_its_scheme(url: str) -> None:
    with pytest.raises(Rejected, match="Expected a cluster URL"):
        open_cluster(url)


@pytest.mark.parametrize("make", [Path.mkdir, lambda path: path.write_text("this is no database " * 100)])
async def test_a_file_that_cannot_be_opened_is_told_as_such(path: Path, make: Callable[[Path], object]) -> None:
    make(path)
    with pytest.raises(Unavailable, match="the local cluster does not answer"):
        async with open_cluster(f"sqlite://{path}"):
            raise AssertionError("it was opened")


# --- faults -----------------------------------------------------------------------------------------------------------


async def test_a_write_waits_for_another_process_that_writes(cluster: Cluster, path: Path) -> None:
    with closing(sqlite3.connect(path, isolation_level=None)) as other:
        other.execute("BEGIN IMMEDIATE")
        waiting = asyncio.create_task(cluster.create(SECRET, a_secret("one")))
        assert (await asyncio.wait({waiting}, timeout=0.2))[0] == set()
        other.execute("COMMIT")
        await waiting


async def test_a_file_that_somebody_has_broken_is_unavailable_and_no_crash(cluster: Cluster, path: Path) -> None:
    with closing(sqlite3.connect(path)) as other:
        other.execute("DROP TABLE objects")
    with pytest.raises(Unavailable, match="no such table"):
        await cluster.get(SECRET, NAMESPACE, "one")
    with pytest.raises(Unavailable, match="no such table"):
        await cluster.create(SECRET, a_secret("one"))


async def test_a_write_that_is_refused_leaves_nothing_of_itself(cluster: Cluster) -> None:
    created = await cluster.create(BATCH_JOB, a_batch_manifest(name="one"))
    refused: list[Manifest] = [{"suspend": True, "endpoint": "/v1/other"}, {"suspend": []}]
    for wrong in refused:
        with pytest.raises(Refused, match="BatchJob one: spec"):
            await cluster.patch(BATCH_JOB, NAMESPACE, "one", {"spec": wrong})
    assert await cluster.get(BATCH_JOB, NAMESPACE, "one") == created


# --- several processes ------------------------------------------------------------------------------------------------


WRITER = """
import asyncio, sys
from nightshift_crds.cluster import open_cluster
from nightshift_crds.cluster.port import SECRET
from nightshift_crds.errors import Stale

async def main(url, namespace, times):
    async with open_cluster(url) as cluster:
        done = 0
        while done < times:
            old = await cluster.get(SECRET, namespace, "counter")
            guard = {"resourceVersion": old["metadata"]["resourceVersion"]}
            try:
                data = {"count": old["data"]["count"] + 1}
                await cluster.patch(SECRET, namespace, "counter", {"metadata": guard, "data": data})
                done += 1
            except Stale:
                pass

asyncio.run(main(sys.argv[1], sys.argv[2], int(sys.argv[3])))
"""


async def test_guarded_writes_of_two_processes_never_lose_one(cluster: Cluster, path: Path) -> None:
    await cluster.create(SECRET, a_secret("counter", count=0))
    command = [sys.executable, "-c", WRITER, f"sqlite://{path}", NAMESPACE, "100"]
    writers = [await asyncio.create_subprocess_exec(*command) for _ in range(2)]
    assert [await writer.wait() for writer in writers] == [0, 0]
    assert (await cluster.get(SECRET, NAMESPACE, "counter"))["data"] == {"count": 200}


def test_what_was_written_survives_a_kill(path: Path) -> None:
    code = (
        "import asyncio, json, os, sys\n"
        "from nightshift_crds.cluster import open_cluster\n"
        "from nightshift_crds.cluster.port import SECRET\n"
        "async def main():\n"
        "    async with open_cluster(sys.argv[1]) as cluster:\n"
        "        await cluster.create(SECRET, json.loads(sys.argv[2]))\n"
        "        os.kill(os.getpid(), 9)\n"
        "asyncio.run(main())\n"
    )
    command = [sys.executable, "-c", code, f"sqlite://{path}", json.dumps(a_secret("one"))]
    assert subprocess.run(command, check=False).returncode == -9
    with closing(sqlite3.connect(path)) as file:
        assert file.execute("SELECT name FROM objects").fetchall() == [("one",)]


# --- watches ----------------------------------------------------------------------------------------------------------


def forget(path: Path, deletions: int) -> None:
    """Write what so many deletions leave; made by the port they would take a minute."""
    with closing(sqlite3.connect(path)) as file, file:
        (version,) = file.execute("SELECT version FROM clock").fetchone()
        rows = [(version + n, "Secret", json.dumps(a_secret(str(n)))) for n in range(1, deletions + 1)]
        file.executemany("INSERT INTO deletions VALUES (?, ?, ?)", rows)
        file.execute("UPDATE clock SET version = version + ?", (deletions,))


async def test_a_watch_from_before_what_is_remembered_is_stale(cluster: Cluster, path: Path) -> None:
    since = (await cluster.list(SECRET)).resource_version
    forget(path, 10_000)
    await cluster.create(SECRET, a_secret("one"))
    await cluster.delete(SECRET, NAMESPACE, "one", propagation=Propagation.BACKGROUND)
    async with aclosing(cluster.watch(SECRET, HERE, since)) as changes:
        with pytest.raises(Stale):
            await anext(changes)


async def test_a_list_made_again_is_a_place_to_watch_from(cluster: Cluster, path: Path) -> None:
    forget(path, 10_001)
    page = await cluster.list(SECRET)
    async with aclosing(cluster.watch(SECRET, HERE, page.resource_version)) as changes:
        await cluster.create(SECRET, a_secret("one"))
        assert (await next_of(changes)).type is ChangeType.ADDED


async def next_of(changes: AsyncGenerator[Change, None]) -> Change:
    async with asyncio.timeout(10):
        return await anext(changes)


async def test_a_watch_is_silent_about_what_was_never_selected(cluster: Cluster) -> None:
    selector = Selector(NAMESPACE, labels=(("a", "b"),))
    page = await cluster.list(SECRET, selector)
    await cluster.create(SECRET, labelled("first"))
    async with aclosing(cluster.watch(SECRET, selector, page.resource_version)) as told:
        assert (await next_of(told)).manifest["metadata"]["name"] == "first"
        await cluster.create(SECRET, a_secret("other"))
        await cluster.patch(SECRET, NAMESPACE, "other", {"data": {"k": "v"}})
        await cluster.create(SECRET, labelled("second"))
        assert (await next_of(told)).manifest["metadata"]["name"] == "second"


def labelled(name: str) -> Manifest:
    secret = a_secret(name)
    return secret | {"metadata": secret["metadata"] | {"labels": {"a": "b"}}}


async def test_a_watch_that_is_cancelled_leaves_the_cluster_usable(cluster: Cluster) -> None:
    watching = asyncio.create_task(anext(cluster.watch(SECRET, HERE, "1")))
    await asyncio.wait({watching}, timeout=0.1)
    watching.cancel()
    await asyncio.wait({watching})
    await cluster.create(SECRET, a_secret("one"))


async def test_all_of_many_objects_are_read_page_by_page(cluster: Cluster) -> None:
    names = {f"s{n}" for n in range(501)}
    await asyncio.gather(*(cluster.create(SECRET, a_secret(name)) for name in names))
    assert {secret["metadata"]["name"] async for secret in each(cluster, SECRET, HERE)} == names


# --- patches ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("target", "patch", "result"),
    [
        ({"a": "b"}, {"a": "c"}, {"a": "c"}),
        ({"a": "b"}, {"b": "c"}, {"a": "b", "b": "c"}),
        ({"a": "b"}, {"a": None}, {}),
        ({"a": "b", "b": "c"}, {"a": None}, {"b": "c"}),
        ({"a": ["b"]}, {"a": "c"}, {"a": "c"}),
        ({"a": "c"}, {"a": ["b"]}, {"a": ["b"]}),
        ({"a": {"b": "c"}}, {"a": {"b": "d", "c": None}}, {"a": {"b": "d"}}),
        ({"a": [{"b": "c"}]}, {"a": [1]}, {"a": [1]}),
        (["a", "b"], ["c", "d"], ["c", "d"]),
        ({"a": "b"}, ["c"], ["c"]),
        ({"a": "foo"}, None, None),
        ({"a": "foo"}, "bar", "bar"),
        ({"e": None}, {"a": 1}, {"e": None, "a": 1}),
        ([1, 2], {"a": "b", "c": None}, {"a": "b"}),
        ({}, {"a": {"bb": {"ccc": None}}}, {"a": {"bb": {}}}),
    ],
)
def test_a_merge_patch_does_what_the_rfc_shows(target: Any, patch: Any, result: Any) -> None:
    assert merge(target, patch) == result


@given(JSON, JSON)
def test_a_merge_patch_twice_is_once_and_changes_nothing_in_place(target: Any, patch: Any) -> None:
    before = json.dumps([target, patch])
    once = merge(target, patch)
    assert merge(once, patch) == once
    assert json.dumps([target, patch]) == before


async def test_a_patch_changes_no_identity(cluster: Cluster) -> None:
    created = await cluster.create(SECRET, a_secret("one"))
    mine = {"uid": "mine", "name": "two", "creationTimestamp": "2000-01-01T00:00:00Z", "labels": {"a": "b"}}
    patched = await cluster.patch(SECRET, NAMESPACE, "one", {"kind": "Pod", "metadata": mine})
    assert patched["metadata"]["labels"] == {"a": "b"}
    assert patched["kind"] == "Secret"
    for field in ("uid", "name", "creationTimestamp"):
        assert patched["metadata"][field] == created["metadata"][field]


async def test_a_kind_without_a_status_of_its_own_is_written_whole(cluster: Cluster) -> None:
    await cluster.create(SECRET, a_secret("one") | {"status": {"a": 1}})
    patched = await cluster.patch(SECRET, NAMESPACE, "one", {"status": {"b": 2}})
    assert patched["status"] == {"a": 1, "b": 2}


# --- deletion ---------------------------------------------------------------------------------------------------------


async def a_job_with_a_pod(cluster: Cluster) -> None:
    job = await cluster.create(JOB, {"kind": "Job", "metadata": {"name": "job", "namespace": NAMESPACE}, "spec": {}})
    owner = {"kind": "Job", "name": "job", "uid": job["metadata"]["uid"], "controller": True}
    metadata = {"name": "pod", "namespace": NAMESPACE, "ownerReferences": [owner]}
    await cluster.create(POD, {"kind": "Pod", "metadata": metadata, "spec": {}})


async def test_a_deletion_that_is_under_way_is_not_begun_again(cluster: Cluster) -> None:
    await a_job_with_a_pod(cluster)
    for _ in range(2):
        await cluster.delete(JOB, NAMESPACE, "job", propagation=Propagation.FOREGROUND)
    version = (await cluster.list(POD)).resource_version
    await cluster.delete(POD, NAMESPACE, "pod", propagation=Propagation.BACKGROUND)
    assert (await cluster.list(POD)).resource_version == version


async def test_a_pod_that_is_gone_does_not_take_a_job_along_that_nobody_deletes(cluster: Cluster) -> None:
    await a_job_with_a_pod(cluster)
    await cluster.delete(POD, NAMESPACE, "pod", propagation=Propagation.BACKGROUND, grace_s=0)
    await cluster.get(JOB, NAMESPACE, "job")


async def test_a_pod_whose_job_is_gone_can_still_be_removed(cluster: Cluster) -> None:
    await a_job_with_a_pod(cluster)
    await cluster.delete(JOB, NAMESPACE, "job", propagation=Propagation.BACKGROUND)
    await cluster.delete(POD, NAMESPACE, "pod", propagation=Propagation.BACKGROUND, grace_s=0)
    with pytest.raises(Missing):
        await cluster.get(POD, NAMESPACE, "pod")


# --- events -----------------------------------------------------------------------------------------------------------


async def test_events_are_forgotten_after_an_hour(cluster: Cluster) -> None:
    batch = await cluster.create(BATCH_JOB, a_batch_manifest(name="one"))
    old = {"kind": "Event", "metadata": {"name": "old", "namespace": NAMESPACE}, "lastTimestamp": timestamp(T0)}
    await cluster.create(EVENT, old | {"lastTimestamp": timestamp(T0 - timedelta(days=365))})
    await cluster.record_event(batch, warning=False, reason="InProgress", message="on its way")
    assert [event["message"] async for event in each(cluster, EVENT, HERE)] == ["on its way"]
