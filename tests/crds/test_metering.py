"""Both ports with their counters around them: they do what they did, and every call is counted by its end."""

from collections.abc import AsyncIterator
from contextlib import aclosing
from pathlib import Path
from unittest.mock import patch

import pytest

from nightshift_crds.bucket import open_bucket
from nightshift_crds.bucket.port import get
from nightshift_crds.cluster import open_cluster
from nightshift_crds.cluster.port import BATCH_JOB, EVERYTHING, LEASE, STORED_FILE, Propagation
from nightshift_crds.errors import (
    AlreadyExists,
    Denied,
    Missing,
    Refused,
    Rejected,
    Stale,
    Unauthenticated,
    Unavailable,
)
from nightshift_crds.metering import MeteredBucket, MeteredCluster
from nightshift_crds.metrics import Page
from tests.builders import NAMESPACE, a_batch_manifest, a_file_manifest


def counted(page: Page, name: str) -> dict[tuple[str, ...], float]:
    samples = [s for family in page.registry.collect() for s in family.samples if s.name == f"nightshift_{name}"]
    return {tuple(sample.labels.values()): sample.value for sample in samples}


async def test_calls_of_a_cluster_are_counted_by_how_they_end(tmp_path: Path) -> None:
    page = Page()
    async with open_cluster(f"sqlite://{tmp_path / 'cluster.db'}") as plain:
        cluster = MeteredCluster(plain, page)
        made = await cluster.create(BATCH_JOB, a_batch_manifest())
        name = made["metadata"]["name"]
        with pytest.raises(AlreadyExists):
            await cluster.create(BATCH_JOB, a_batch_manifest())
        with pytest.raises(Missing):
            await cluster.get(BATCH_JOB, NAMESPACE, "nobody")
        with pytest.raises(Refused):
            await cluster.patch(BATCH_JOB, NAMESPACE, name, {"spec": {"endpoint": "/v1/embeddings"}})
        stale = {"metadata": {"resourceVersion": "0"}, "status": {"phase": "VALIDATING"}}
        with pytest.raises(Stale):
            await cluster.patch_status(BATCH_JOB, NAMESPACE, name, stale)
        assert (await cluster.list(BATCH_JOB)).items == [made]
        await cluster.record_event(made, warning=False, reason="Tested", message="It was.")
        async with aclosing(cluster.watch(BATCH_JOB, EVERYTHING, "0")) as changes:
            assert (await anext(changes)).manifest["metadata"]["name"] == name
        await cluster.delete(BATCH_JOB, NAMESPACE, name, propagation=Propagation.BACKGROUND)
        await cluster.create(STORED_FILE, a_file_manifest())
        with pytest.raises(Missing):
            await cluster.get(LEASE, NAMESPACE, "nobody")
    assert counted(page, "kubernetes_calls_total") == {
        ("create", "batchjobs", "200"): 1,
        ("create", "batchjobs", "409"): 1,
        ("get", "batchjobs", "404"): 1,
        ("patch", "batchjobs", "422"): 1,
        ("patch_status", "batchjobs", "409"): 1,
        ("list", "batchjobs", "200"): 1,
        ("create", "events", "200"): 1,
        ("watch", "batchjobs", "200"): 1,
        ("delete", "batchjobs", "200"): 1,
        ("create", "storedfiles", "200"): 1,
        ("get", "leases", "404"): 1,
    }


@pytest.mark.parametrize(
    ("error", "code"), [(Denied("no"), "403"), (Unauthenticated("who?"), "401"), (Unavailable("out"), "503")]
)
async def test_who_may_not_or_is_not_known_is_counted_apart(tmp_path: Path, error: Exception, code: str) -> None:
    page = Page()
    async with open_cluster(f"sqlite://{tmp_path / 'cluster.db'}") as plain:
        with patch.object(plain, "get", side_effect=error), pytest.raises(type(error)):
            await MeteredCluster(plain, page).get(BATCH_JOB, NAMESPACE, "one")
    assert counted(page, "kubernetes_calls_total") == {("get", "batchjobs", code): 1}


async def refused() -> AsyncIterator[bytes]:
    yield b"half"
    raise Rejected("too large")


async def test_calls_of_a_bucket_are_counted_and_what_is_written(tmp_path: Path) -> None:
    page = Page()
    async with open_bucket(f"file://{tmp_path}") as plain:
        bucket = MeteredBucket(plain, page)
        assert bucket.url == plain.url
        await bucket.put("a/b", b"12345", create_only=True)
        with pytest.raises(AlreadyExists):
            await bucket.put("a/b", b"1", create_only=True)
        with pytest.raises(Rejected):  # by who asked for it, not by the bucket
            await bucket.put("a/c", refused(), create_only=True)
        assert await get(bucket, "a/b") == b"12345"
        assert await bucket.head("a/c") is None
        assert await bucket.checksum("a/b") == await plain.checksum("a/b")
        assert [info.key async for info in bucket.list("a/")] == ["a/b"]
        await bucket.delete("a/b")
    assert counted(page, "bucket_calls_total") == {
        ("put", "200"): 1,
        ("put", "409"): 1,
        ("read", "200"): 1,
        ("head", "200"): 1,
        ("checksum", "200"): 1,
        ("list", "200"): 1,
        ("delete", "200"): 1,
    }
    assert counted(page, "bucket_written_bytes_total") == {(): 5}
