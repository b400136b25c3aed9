"""The spans of requests: whose they are, what they say, and how a batch takes the trace along."""

from collections.abc import AsyncIterator
from pathlib import Path

import httpx2
import pytest

from nightshift_crds.cluster.port import BATCH_JOB
from nightshift_crds.lines import CHAT
from nightshift_crds.models import BatchJob
from nightshift_crds.otel import Tracing
from tests.api.faults import InterruptedCluster, failing
from tests.api.harness import BASE, Api, batch_name, json_of, open_api
from tests.builders import NAMESPACE
from tests.collector import Collector, Heard

TRACE, CALLER = "0af7651916cd43dd8448eb211c80319c", "b7ad6b7169203331"
SAMPLED = {"traceparent": f"00-{TRACE}-{CALLER}-01", "tracestate": "vendor=opaque"}


@pytest.fixture
async def traced(tmp_path: Path, tracing: Tracing) -> AsyncIterator[Api]:
    async with open_api(tmp_path, tracing=tracing) as opened:
        yield opened


async def create(api: Api, **headers: str) -> httpx2.Response:
    file = await api.upload()
    body = {"input_file_id": file["id"], "endpoint": CHAT, "completion_window": "24h"}
    return await api.client.post("batches", json=body, headers=headers)


async def annotations_of(api: Api, answer: httpx2.Response) -> dict[str, str]:
    name = batch_name(json_of(answer, 200)["id"])
    return BatchJob.parse(await api.cluster.get(BATCH_JOB, NAMESPACE, name)).metadata.annotations


def sent(tracing: Tracing, collector: Collector, name: str) -> list[Heard]:
    tracing.close()
    return collector.named(name)


async def test_a_batch_takes_the_trace_of_the_request_along(
    traced: Api, tracing: Tracing, collector: Collector
) -> None:
    answer = await create(traced, **SAMPLED)
    annotations = await annotations_of(traced, answer)
    [span] = sent(tracing, collector, "POST /batches")
    assert (span.trace, span.parent, span.span.kind) == (TRACE, CALLER, 2)
    assert annotations["nightshift.dev/traceparent"] == f"00-{TRACE}-{span.id}-01"
    assert annotations["nightshift.dev/tracestate"] == "vendor=opaque"
    assert span.attributes == {
        "http.request.method": "POST",
        "http.route": "/batches",
        "url.scheme": "http",
        "http.response.status_code": 200,
        "nightshift.batch.id": answer.json()["id"],
    }


async def test_a_write_without_a_trace_begins_one(traced: Api, tracing: Tracing, collector: Collector) -> None:
    annotations = await annotations_of(traced, await create(traced))
    [span] = sent(tracing, collector, "POST /batches")
    assert span.parent == ""
    assert annotations["nightshift.dev/traceparent"].startswith(f"00-{span.trace}-{span.id}-")


async def test_reads_have_a_span_only_if_they_bring_a_trace_and_unknown_paths_have_none(
    traced: Api, tracing: Tracing, collector: Collector
) -> None:
    batch = json_of(await create(traced), 200)
    await traced.client.get(f"batches/{batch['id']}")
    await traced.client.get(f"{BASE}/healthz")
    await traced.client.get(f"{BASE}/made-up", headers=SAMPLED)
    await traced.client.get(f"batches/{batch['id']}?note=a-secret", headers=SAMPLED)
    [span] = sent(tracing, collector, "GET /batches/{batch_id}")
    assert span.trace == TRACE
    assert {found.name for found in collector.spans} == {"POST /files", "POST /batches", span.name}
    assert b"a-secret" not in b"".join(collector.bodies)


async def test_a_refusal_is_no_failure_of_ours(traced: Api, tracing: Tracing, collector: Collector) -> None:
    await traced.client.post("batches", json={}, headers=SAMPLED)
    [span] = sent(tracing, collector, "POST /batches")
    assert span.attributes["http.response.status_code"] == 400
    assert not span.is_failed


async def test_a_bug_is_a_failure_that_is_not_told_in_words(
    tmp_path: Path, tracing: Tracing, collector: Collector
) -> None:
    cluster = InterruptedCluster()
    cluster.before("create", failing(RuntimeError("a secret")))
    async with open_api(tmp_path, tracing=tracing, around_cluster=cluster.around) as api:
        form = {"purpose": "batch"}
        answer = await api.client.post("files", data=form, files={"file": ("in.jsonl", b"{}")}, headers=SAMPLED)
    [span] = sent(tracing, collector, "POST /files")
    assert span.attributes["http.response.status_code"] == answer.status_code == 500
    assert span.is_failed
    assert b"a secret" not in b"".join(collector.bodies)


async def test_untraced_nothing_of_a_trace_is_kept(api: Api) -> None:
    assert await annotations_of(api, await create(api, **SAMPLED)) == {}
