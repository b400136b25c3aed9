"""Lists are never behind what a client was told: by the same replica, or by another one that writes."""

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

import httpx2
import pytest
from structlog.testing import capture_logs

from nightshift_api.app import build_app
from nightshift_api.auth import Keyring
from nightshift_api.context import Context
from nightshift_api.index import Row
from nightshift_crds.cluster import open_cluster
from nightshift_crds.cluster.port import BATCH_JOB, HOSTED_MODEL, Cluster, Propagation, Selector
from nightshift_crds.errors import Refused, Unavailable
from nightshift_crds.lifecycle import Phase
from tests.api.faults import Deed, InterruptedCluster, Weak, failing
from tests.api.given import a_batch_in
from tests.api.harness import KEY, Api, batch_name, client_of, error_of, filled_lists, json_of, make_settings, open_api
from tests.builders import NAMESPACE, a_model_manifest

DOWN = failing(Unavailable("down"))


@dataclass(frozen=True)
class Replicas:
    """Two APIs over one cluster and bucket, as behind one Service."""

    first: Api
    second: httpx2.AsyncClient
    around_second: InterruptedCluster

    async def ids(self, path: str) -> list[str]:
        """List at the second."""
        return [item["id"] for item in json_of(await self.second.get(path), 200)["data"]]


@asynccontextmanager
async def two_replicas(folder: Path) -> AsyncIterator[Replicas]:
    async with open_api(folder) as first:
        loaded = make_settings(folder)
        around = InterruptedCluster()
        async with open_cluster(loaded.cluster) as cluster, filled_lists(around.around(cluster), loaded) as lists:
            context = Context(lists, first.bucket, loaded, now=first.clock)
            app = build_app(context, Keyring(loaded.api_keys_file))
            async with client_of(app, KEY, first.description) as client:
                yield Replicas(first, client, around)


@pytest.fixture
async def replicas(tmp_path: Path) -> AsyncIterator[Replicas]:
    async with two_replicas(tmp_path) as opened:
        yield opened


async def test_what_one_replica_has_answered_another_one_lists(replicas: Replicas) -> None:
    kept: list[str] = []
    for n in range(10):
        file_id = (await replicas.first.upload())["id"]
        assert await replicas.ids("files") == [file_id, *kept]
        if n % 2:
            assert (await replicas.first.client.delete(f"files/{file_id}")).status_code == 200
        else:
            kept.insert(0, file_id)
        assert await replicas.ids("files") == kept
        batch_id = (await replicas.first.create_batch(input_file_id=kept[0]))["id"]
        assert (await replicas.ids("batches"))[0] == batch_id


async def test_a_cancel_that_one_replica_has_answered_another_one_shows(replicas: Replicas) -> None:
    batch_id = (await replicas.first.create_batch())["id"]
    await replicas.first.client.post(f"batches/{batch_id}/cancel")
    (batch,) = json_of(await replicas.second.get("batches"), 200)["data"]
    assert batch["status"] == "cancelling"


async def test_a_list_waits_for_a_write_that_its_own_watch_has_not_told_of(replicas: Replicas) -> None:
    told = asyncio.Event()
    replicas.around_second.before("change", told.wait)
    file_id = (await replicas.first.upload())["id"]
    listing = asyncio.create_task(replicas.ids("files"))
    await asyncio.sleep(0)
    assert not listing.done()
    told.set()
    assert await listing == [file_id]


async def test_a_list_waits_for_a_deletion_too(replicas: Replicas) -> None:
    file_id = (await replicas.first.upload())["id"]
    assert await replicas.ids("files") == [file_id]
    told = asyncio.Event()
    replicas.around_second.before("change", told.wait)
    await replicas.first.client.delete(f"files/{file_id}")
    listing = asyncio.create_task(replicas.ids("files"))
    await asyncio.sleep(0)
    told.set()
    assert await listing == []


async def test_a_list_is_not_older_than_a_batch_that_was_shown_before(weak: Weak) -> None:
    """Whoever wrote that, the operator here, has noted nothing."""
    batch = await a_batch_in(weak.api, Phase.VALIDATING)
    await weak.api.get("batches")
    told = asyncio.Event()
    weak.cluster.before("change", told.wait)
    patch = {"status": {"phase": "IN_PROGRESS", "inProgressAt": "2026-11-24T00:00:00Z"}}
    await weak.cluster.inner.patch_status(BATCH_JOB, NAMESPACE, batch_name(batch.id), patch)
    assert (await weak.api.get(f"batches/{batch.id}"))["status"] == "in_progress"
    listing = asyncio.create_task(weak.api.get("batches"))
    await asyncio.sleep(0)
    told.set()
    assert [item["status"] for item in (await listing)["data"]] == ["in_progress"]


@pytest.mark.parametrize("path", ["files", "batches"])
async def test_a_list_that_cannot_ask_how_far_it_must_be_is_not_given(weak: Weak, path: str) -> None:
    weak.cluster.before("lease", DOWN)
    assert error_of(await weak.api.client.get(path), 503) == (None, None)


async def test_a_list_that_stays_behind_is_not_given(tmp_path: Path) -> None:
    cluster = InterruptedCluster()
    async with open_api(tmp_path, around_cluster=cluster.around, list_patience_s=0.05) as api:
        cluster.before("change", asyncio.Event().wait)
        await api.upload()
        assert error_of(await api.client.get("files"), 503) == (None, None)


@pytest.mark.parametrize("deed", [DOWN, failing(Refused("forbidden"))])
async def test_what_is_written_is_answered_although_it_cannot_be_noted(weak: Weak, deed: Deed) -> None:
    with capture_logs() as logs:
        weak.cluster.before("lease", *[deed] * 9)
        file = await weak.api.upload()
        assert (await weak.api.client.delete(f"files/{file['id']}")).status_code == 200
    assert [line["event"] for line in logs if line["log_level"] == "error"] == ["write.not_noted"] * 3


async def test_a_deletion_that_no_watch_tells_of_is_answered(tmp_path: Path) -> None:
    cluster = InterruptedCluster()
    async with open_api(tmp_path, around_cluster=cluster.around, list_patience_s=0.05) as api:
        file = await api.upload()
        cluster.before("change", asyncio.Event().wait)
        assert (await api.client.delete(f"files/{file['id']}")).status_code == 200
        assert error_of(await api.client.get(f"files/{file['id']}"), 404) == (None, "id")


async def test_what_is_not_listed_is_written_and_deleted_as_it_was(api: Api) -> None:
    await api.add_model(a_model_manifest("m"))
    await api.cluster.delete(HOSTED_MODEL, NAMESPACE, "m", propagation=Propagation.BACKGROUND)
    assert await api.ids("models") == []


async def test_events_and_watches_go_through(api: Api) -> None:
    batch = await api.create_batch()
    manifest = await api.cluster.get(BATCH_JOB, NAMESPACE, batch_name(batch["id"]))
    await api.cluster.record_event(manifest, warning=False, reason="Seen", message="It was seen.")
    since = str(int(manifest["metadata"]["resourceVersion"]) - 1)
    assert await first_name(api.cluster, since) == batch_name(batch["id"])


async def first_name(cluster: Cluster, since: str) -> str:
    changes = cluster.watch(BATCH_JOB, Selector(NAMESPACE), since)
    change = await anext(changes)
    await changes.aclose()
    name: str = change.manifest["metadata"]["name"]
    return name


async def test_batches_are_narrowed_by_status(api: Api) -> None:
    made = {phase: (await a_batch_in(api, phase)).id for phase in (Phase.COMPLETED, Phase.FAILED, Phase.IN_PROGRESS)}
    assert await api.ids("batches", status="failed") == [made[Phase.FAILED]]
    assert await api.ids("batches", status="in_progress,completed") == [made[Phase.IN_PROGRESS], made[Phase.COMPLETED]]
    assert await api.ids("batches", status="expired") == []


@pytest.mark.parametrize("status", ["", "done", "failed,", "COMPLETED", "failed, completed"])
async def test_a_status_that_there_is_not_is_told(api: Api, status: str) -> None:
    assert error_of(await api.client.get("batches", params={"status": status}), 400) == ("invalid_value", "status")


async def test_batches_are_searched_by_name_model_and_id(api: Api) -> None:
    tide = await api.create_batch(metadata={"cast.ai/batch-name": "Spring Tide"})
    await api.create_batch(metadata={"batch-name": "neap"})
    nameless = await api.create_batch()
    assert await api.ids("batches", search="spring t") == [tide["id"]]
    assert await api.ids("batches", search=nameless["id"][-12:].upper()) == [nameless["id"]]
    asked = await a_batch_in(api, Phase.IN_PROGRESS, model="Qwen3:32b")
    assert await api.ids("batches", search="qwen3") == [asked.id]
    assert await api.ids("batches", search="%") == []
    assert await api.ids("batches", search="spring", status="failed") == []


@pytest.mark.parametrize(("search", "code"), [("", "invalid_value"), ("x" * 101, "string_above_max_length")])
async def test_a_search_has_a_length(api: Api, search: str, code: str) -> None:
    assert error_of(await api.client.get("batches", params={"search": search}), 400) == (code, "search")


async def test_a_search_looks_at_so_many_and_says_where_it_goes_on(tmp_path: Path) -> None:
    async with open_api(tmp_path, max_searched_batches=2) as api:
        wanted = await api.create_batch(metadata={"batch-name": "wanted"})
        others = [await api.create_batch() for _ in range(3)]
        first = await api.get("batches", search="wanted")
        assert (first["data"], first["has_more"], first["last_id"]) == ([], True, others[1]["id"])
        second = await api.get("batches", search="wanted", after=first["last_id"])
        assert ([b["id"] for b in second["data"]], second["has_more"]) == ([wanted["id"]], False)


async def test_a_list_and_a_search_of_10_000_batches_take_less_than_200_ms(api: Api) -> None:
    index = api.lists.followers[BATCH_JOB].index
    shown = b'{"id":"x","metadata":{"batch-name":"%s"}}' % (b"x" * 1500)
    for n in range(10_000):
        index.put(NAMESPACE, Row(n, f"batch_{n}", shown, f"b{n}", ("completed", "failed")[n % 2], words=f"name {n}"))
    async with client_of(api.app, KEY) as client:
        for query in ("limit=50", "limit=50&status=failed", "limit=50&search=no such name"):
            started = time.perf_counter()
            assert (await client.get(f"batches?{query}")).status_code == 200
            assert time.perf_counter() - started < 0.2
