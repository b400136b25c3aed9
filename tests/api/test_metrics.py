"""What the API counts, request by request, and that nothing that a client makes up becomes a label."""

from pathlib import Path

import pytest
from structlog.contextvars import merge_contextvars
from structlog.testing import capture_logs

from nightshift_api.app import PREFIXES
from nightshift_api.metrics import Metrics, Templates
from nightshift_crds.metrics import OTHER
from tests.api.harness import BASE, Api, call, open_api
from tests.api.serving import open_served
from tests.api.test_connection import CHUNKED, start_upload
from tests.builders import a_line, jsonl

PATHS = ["/healthz", "/files", "/files/{file_id}", "/files/{file_id}/content", "/models/{model:path}"]


def counted(metrics: Metrics, name: str) -> dict[tuple[str, ...], float]:
    samples = [s for f in metrics.page.registry.collect() for s in f.samples if s.name == f"nightshift_{name}"]
    return {tuple(sample.labels.values()): sample.value for sample in samples}


@pytest.mark.parametrize(("path", "template"), [
    ("/v1/files", "/files"),
    ("/openai/v1/files", "/files"),
    ("/v1/files/file_1", "/files/{file_id}"),
    ("/v1/files/file_1/content", "/files/{file_id}/content"),
    ("/v1/models/org/llama:8b", "/models/{model}"),
    ("/healthz", "/healthz"),
    ("/v1/files/file_1/else", OTHER),
    ("/v1/made-up", OTHER),
    ("/", OTHER),
])  # fmt: skip
def test_a_path_is_counted_by_its_template(path: str, template: str) -> None:
    assert Templates(PREFIXES, PATHS).of(path) == template


async def test_requests_are_counted_with_their_bytes_however_they_end(api: Api) -> None:
    content = jsonl(a_line())
    file = await api.upload(content)
    await api.client.get(f"files/{file['id']}/content")
    await api.client.get("files/file_of_nobody")
    await api.client.get(f"{BASE}/v1/files", headers={"Authorization": "Bearer nobody"})
    requests = counted(api.metrics, "http_requests_total")
    assert requests["POST", "/files", "200"] == 1
    assert requests["GET", "/files/{file_id}/content", "200"] == 1
    assert requests["GET", "/files/{file_id}", "404"] == 1
    assert requests["GET", "/files", "401"] == 1
    assert counted(api.metrics, "http_request_seconds_count")["POST", "/files"] == 1
    assert counted(api.metrics, "http_sent_bytes_total")["/files/{file_id}/content",] == len(content)
    assert counted(api.metrics, "http_received_bytes_total")["/files",] > len(content)
    assert counted(api.metrics, "http_requests_in_flight") == {(): 0}


async def test_what_a_client_makes_up_is_other(api: Api) -> None:
    await call(api.app, {"type": "http", "method": "BREW", "path": "/coffee"}, [])
    assert counted(api.metrics, "http_requests_total")[OTHER, OTHER, "404"] == 1


async def test_a_limit_that_is_met_is_counted_by_its_setting(tmp_path: Path) -> None:
    async with open_api(tmp_path, max_creates_per_hour=1, max_reads_per_s=1, max_uploads_per_hour=1) as api:
        batch = await api.create_batch()
        body = {"input_file_id": batch["input_file_id"], "endpoint": "/v1/chat/completions", "completion_window": "24h"}
        await api.client.post("batches", json=body)
        await api.client.post("files", data={"purpose": "batch"}, files={"file": jsonl(a_line())})
        await api.client.get("models")
        await api.client.get("models")
        assert counted(api.metrics, "http_limits_total") == {
            ("max_creates_per_hour",): 1,
            ("max_uploads_per_hour",): 1,
            ("max_reads_per_s",): 1,
        }


@pytest.mark.parametrize("limit", ["max_concurrent_uploads", "max_concurrent_requests"])
async def test_one_at_once_too_many_is_counted_too(tmp_path: Path, limit: str) -> None:
    async with open_served(tmp_path, **{limit: 1}) as served:
        await start_upload(served)
        another = await served.connect()
        await another.send(CHUNKED)
        assert (await another.answer()).status == 429
        assert counted(served.api.metrics, "http_limits_total") == {(limit,): 1}


async def test_a_connection_too_many_is_counted(tmp_path: Path) -> None:
    async with open_served(tmp_path, max_connections=1) as served:
        await start_upload(served)
        assert (await (await served.connect()).get("/v1/models")).status == 503
        assert counted(served.api.metrics, "http_limits_total") == {("max_connections",): 1}
        assert counted(served.api.metrics, "http_requests_total")["GET", OTHER, "503"] == 1


async def test_lines_about_a_batch_say_which(api: Api) -> None:
    with capture_logs(processors=[merge_contextvars]) as logs:
        batch = await api.create_batch()
        await api.get(f"batches/{batch['id']}")
        await api.client.post(f"batches/{batch['id']}/cancel")
        await api.get("batches")
    lines = [(log["path"], log.get("batch")) for log in logs if log["event"] == "http.request"]
    prefix = f"{PREFIXES[0]}/batches"
    about = [(path, batch) for path, batch in lines if path.startswith(prefix)]
    assert about == [
        (prefix, batch["id"]),
        (f"{prefix}/{batch['id']}", batch["id"]),
        (f"{prefix}/{batch['id']}/cancel", batch["id"]),
        (prefix, None),
    ]


async def test_what_is_refused_before_it_is_a_request_is_counted_too(tmp_path: Path) -> None:
    async with open_served(tmp_path, max_header_bytes=2_000) as served:
        line = await served.connect()
        await line.send(b"GET /" + b"x" * 2_000)
        assert (await line.answer()).status == 431
        assert counted(served.api.metrics, "http_requests_total")[OTHER, OTHER, "431"] == 1
