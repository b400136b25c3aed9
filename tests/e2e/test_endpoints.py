"""Batches on each endpoint that an administrator may allow, with the SDK, from `nightshift local` to the stub model."""

import base64
import hashlib
import json
import urllib.request
from collections.abc import Iterator
from typing import Any

import pytest
from openai.types import Batch

from tests.e2e.installation import MODEL, Installation, Stub

CHAT = "/v1/chat/completions"
BODIES: dict[str, dict[str, Any]] = {
    "/v1/completions": {"prompt": "Once upon"},
    "/v1/responses": {"input": "Once upon", "background": False},
    "/v1/rerank": {"query": "what", "documents": ["that", "this one"]},
    "/v1/score": {"text_1": "what", "text_2": ["that", "this one"]},
}
USAGES = {  # per line, by how the stub counts: input, cached, output, reasoning, total
    "/v1/completions": (9, 0, 2, 0, 11),
    "/v1/responses": (9, 1, 5, 3, 14),
    "/v1/rerank": (16, 0, 0, 0, 16),
    "/v1/score": (16, 0, 0, 0, 16),
}
OBJECTS = {"/v1/completions": "text_completion", "/v1/responses": "response", "/v1/score": "list", "/v1/rerank": None}


@pytest.fixture(scope="module")
def installation(tmp_path_factory: pytest.TempPathFactory, stub: Stub) -> Iterator[Installation]:
    """One that allows all of them."""
    environ = {"NIGHTSHIFT_ENDPOINTS": ",".join([CHAT, *BODIES])}
    started = Installation(tmp_path_factory.mktemp("endpoints") / "data", stub.url, environ=environ)
    started.start()
    yield started
    assert started.stop() == 0


def a_line(custom_id: str, endpoint: str, body: dict[str, Any]) -> bytes:
    line = {"custom_id": custom_id, "method": "POST", "url": endpoint, "body": {"model": MODEL} | body}
    return json.dumps(line).encode() + b"\n"


def tokens_of(batch: Batch) -> tuple[int, ...]:
    usage = batch.usage
    assert usage is not None
    cached, reasoning = usage.input_tokens_details.cached_tokens, usage.output_tokens_details.reasoning_tokens
    return usage.input_tokens, cached, usage.output_tokens, reasoning, usage.total_tokens


def test_a_batch_runs_on_every_endpoint_that_is_allowed(installation: Installation) -> None:
    files = {url: b"".join(a_line(f"row-{n}", url, body) for n in range(3)) for url, body in BODIES.items()}
    batches = {url: installation.submit(lines, url) for url, lines in files.items()}
    for url, batch in batches.items():
        ended = installation.wait(batch.id)
        assert (ended.status, ended.endpoint, ended.errors) == ("completed", url, None)
        rows = installation.content(ended.output_file_id)
        assert sorted(row["custom_id"] for row in rows) == ["row-0", "row-1", "row-2"]
        assert {row["response"]["body"].get("object") for row in rows} == {OBJECTS[url]}
        assert tokens_of(ended) == tuple(3 * count for count in USAGES[url])


def test_what_an_endpoint_does_not_do_in_a_batch_fails_its_validation(installation: Installation) -> None:
    lines = a_line("a", "/v1/responses", {"input": "x", "background": True}) + a_line("b", "/v1/rerank", {"query": "x"})
    ended = installation.wait(installation.submit(lines, "/v1/responses").id)
    assert ended.status == "failed"
    assert ended.errors is not None
    found = [(error.line, error.code, error.param) for error in ended.errors.data or []]
    assert found == [(1, "invalid_request", "body.background"), (2, "invalid_url", "url")]


def test_a_picture_reaches_the_model_byte_by_byte(installation: Installation, stub: Stub) -> None:
    url = f"data:image/png;base64,{base64.b64encode(bytes(range(256)) * 4_000).decode()}"
    content = [{"type": "image_url", "image_url": {"url": url}}, {"type": "text", "text": "What is it?"}]
    messages = [{"role": "user", "content": content}, {"role": "user", "content": "a picture"}]
    line = a_line("a", CHAT, {"messages": messages})
    ended = installation.wait(installation.submit(line).id)
    assert ended.status == "completed"
    with urllib.request.urlopen(f"{stub.url}/digests") as response:
        digest = json.load(response)["a picture"]
    body = line[line.index(b'{"model"') : -2]
    assert digest == hashlib.sha256(body).hexdigest()


def test_a_download_goes_on_where_it_broke_off(installation: Installation) -> None:
    client = installation.client()
    content = b"".join(a_line(f"row-{n}", CHAT, {"messages": []}) for n in range(1_000))
    uploaded = client.files.create(file=("in.jsonl", content), purpose="batch")
    whole = client.files.with_raw_response.content(uploaded.id)
    headers = {"Range": "bytes=70000-", "If-Range": whole.headers["etag"]}
    rest = client.files.with_raw_response.content(uploaded.id, extra_headers=headers)
    assert (whole.status_code, rest.status_code) == (200, 206)
    assert rest.headers["content-range"] == f"bytes 70000-{len(content) - 1}/{len(content)}"
    assert whole.content == content
    assert content[:70_000] + rest.content == content
