"""What a colleague does with the official OpenAI SDK for Python; each is a function that fails by an assertion.

Run as a program in a process of its own, so that the same scenarios meet different SDK versions (`clients` starts it):
`python -m tests.conformance.sdk_scenarios [NAME...]`, with OPENAI_BASE_URL, OPENAI_API_KEY and MODELS in the
environment, and with STRICT for OpenAI's own validation of every response. `js/scenarios.mjs` tells the same stories.
"""

import hashlib
import io
import json
import os
import sys
import time
import traceback
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import Any

import openai
import pytest
from openai import OpenAI

MODELS = os.environ.get("MODELS", "-").split()
MODEL = MODELS[0]
ENDS = {"completed", "failed", "expired", "cancelled"}
FIELDS = {
    "id", "object", "endpoint", "model", "errors", "input_file_id", "completion_window", "status", "output_file_id",
    "error_file_id", "created_at", "in_progress_at", "expires_at", "finalizing_at", "completed_at", "failed_at",
    "expired_at", "cancelling_at", "cancelled_at", "request_counts", "usage", "metadata", "x_details",
}  # fmt: skip
UNKNOWN = "0192f0c2-0000-7000-8000-000000000000"
_AT_ONCE = 4
Scenario = Callable[[OpenAI], None]
SCENARIOS: dict[str, Scenario] = {}


def scenario(function: Scenario) -> Scenario:
    SCENARIOS[function.__name__] = function
    return function


def lines(prompts: list[str], model: str = MODEL) -> bytes:
    rows = [
        {
            "custom_id": f"row-{n}",
            "method": "POST",
            "url": "/v1/chat/completions",
            "body": {"model": model, "messages": [{"role": "user", "content": prompt}]},
        }
        for n, prompt in enumerate(prompts)
    ]
    return b"".join(json.dumps(row).encode() + b"\n" for row in rows)


def create(client: OpenAI, prompts: list[str], **options: Any) -> Any:
    uploaded = client.files.create(file=("in.jsonl", lines(prompts)), purpose="batch")
    return client.batches.create(
        input_file_id=uploaded.id, endpoint="/v1/chat/completions", completion_window="24h", **options
    )


def wait(client: OpenAI, batch_id: str, until: Callable[[Any], bool] = lambda batch: batch.status in ENDS) -> Any:
    for _ in range(2_400):
        batch = client.batches.retrieve(batch_id)
        if until(batch):
            return batch
        time.sleep(0.1)
    raise AssertionError(f"{batch_id} is still {batch.status}")


def rows(client: OpenAI, file_id: str) -> dict[str, Any]:
    return {row["custom_id"]: row for row in map(json.loads, client.files.content(file_id).text.splitlines())}


def expect(error: type[openai.APIStatusError], call: Callable[[], Any]) -> Any:
    with pytest.raises(error) as raised:
        call()
    assert raised.value.request_id, "every answer has an x-request-id"
    return raised.value


@scenario
def upload_in_every_form(client: OpenAI) -> None:
    content = lines(["hello"])
    for file, name in (
        (("named.jsonl", content), "named.jsonl"),
        (content, "upload"),
        (io.BytesIO(content), "upload"),
    ):
        uploaded = client.files.create(file=file, purpose="batch")
        assert uploaded.filename == name, uploaded.filename
        assert (uploaded.object, uploaded.purpose, uploaded.bytes) == ("file", "batch", len(content))
        assert uploaded.expires_at == uploaded.created_at + 2_592_000
        assert client.files.wait_for_processing(uploaded.id, max_wait_seconds=5).status == "processed"
        assert client.files.retrieve(uploaded.id).id == uploaded.id
        assert client.files.content(uploaded.id).content == content


@scenario
def upload_with_an_expiry(client: OpenAI) -> None:
    expiry: Any = {"anchor": "created_at", "seconds": 3_600}
    uploaded = client.files.create(file=("a.jsonl", lines(["x"])), purpose="batch", expires_after=expiry)
    assert uploaded.expires_at == uploaded.created_at + 3_600


@scenario
def upload_in_parts(client: OpenAI) -> None:
    content = lines([f"question {n}" for n in range(50)])
    digest = hashlib.md5(content, usedforsecurity=False).hexdigest()
    upload = client.uploads.upload_file_chunked(
        file=content,
        filename="parts.jsonl",
        bytes=len(content),
        mime_type="application/jsonl",
        purpose="batch",
        part_size=1_000,
        md5=digest,
    )
    assert (upload.object, upload.status, upload.bytes) == ("upload", "completed", len(content))
    assert upload.expires_at == upload.created_at + 3_600
    assert upload.file is not None
    assert (upload.file.filename, upload.file.status) == ("parts.jsonl", "processed")
    assert client.files.retrieve(upload.file.id) == upload.file
    assert client.files.content(upload.file.id).content == content
    expect(openai.BadRequestError, lambda: client.uploads.cancel(upload.id))


@scenario
def cancel_an_upload_in_parts(client: OpenAI) -> None:
    upload = client.uploads.create(filename="a.jsonl", purpose="batch", bytes=10, mime_type="text/jsonl")
    part = client.uploads.parts.create(upload.id, data=b"0123456789")
    assert (part.object, part.upload_id, upload.status) == ("upload.part", upload.id, "pending")
    assert client.uploads.cancel(upload.id).status == "cancelled"
    late = expect(openai.BadRequestError, lambda: client.uploads.complete(upload.id, part_ids=[part.id]))
    assert late.param == "upload_id"
    expect(openai.NotFoundError, lambda: client.uploads.cancel(f"upload_{UNKNOWN}"))


@scenario
def send_a_create_again(client: OpenAI) -> None:
    uploaded = client.files.create(file=("in.jsonl", lines(["hello"])), purpose="batch")
    headers = {"Idempotency-Key": f"create-{uploaded.id}"}

    def ask(metadata: dict[str, str]) -> Any:
        return client.batches.create(
            input_file_id=uploaded.id,
            endpoint="/v1/chat/completions",
            completion_window="24h",
            metadata=metadata,
            extra_headers=headers,
        )

    first = ask({"try": "one"})
    assert ask({"try": "one"}).id == first.id
    reuse = expect(openai.ConflictError, lambda: ask({"try": "two"}))
    assert (reuse.code, reuse.response.headers["x-should-retry"]) == ("idempotency_key_reuse", "false")
    assert wait(client, first.id).status == "completed"
    assert ask({"try": "one"}).status == "completed"


@scenario
def run_a_batch_to_its_end(client: OpenAI) -> None:
    prompts = [f"question {n}" for n in range(20)] + ["fail:400 please"]
    batch = create(client, prompts, metadata={"cast.ai/batch-name": "My content translation batch"})
    assert (batch.object, batch.status, batch.endpoint) == ("batch", "validating", "/v1/chat/completions")
    assert batch.expires_at == batch.created_at + 86_400
    ended = wait(client, batch.id)
    assert (ended.status, ended.model if hasattr(ended, "model") else MODEL) == ("completed", MODEL)
    assert ended.metadata == {"cast.ai/batch-name": "My content translation batch"}
    assert (ended.request_counts.total, ended.request_counts.completed, ended.request_counts.failed) == (21, 20, 1)
    assert ended.created_at <= ended.in_progress_at <= ended.finalizing_at <= ended.completed_at
    output, errors = rows(client, ended.output_file_id), rows(client, ended.error_file_id)
    assert output["row-3"]["response"]["body"]["choices"][0]["message"]["content"] == "echo question 3"
    assert errors["row-20"]["response"] is None
    assert errors["row-20"]["error"]["message"] == "as you asked"
    assert client.files.retrieve(ended.output_file_id).purpose == "batch_output"
    assert client.files.retrieve(ended.output_file_id).filename == f"{batch.id}_output.jsonl"
    assert client.files.retrieve(ended.error_file_id).filename == f"{batch.id}_error.jsonl"


@scenario
def read_usage(client: OpenAI) -> None:
    ended = wait(client, create(client, ["four", "fives"]).id)
    usage = ended.usage if isinstance(ended.usage, dict) else ended.usage.model_dump()
    assert (usage["input_tokens"], usage["output_tokens"], usage["total_tokens"]) == (9, 4, 13)
    assert usage["input_tokens_details"]["cached_tokens"] == 0
    assert usage["output_tokens_details"]["reasoning_tokens"] == 0


@scenario
def download_while_it_is_in_progress(client: OpenAI) -> None:
    batch = create(client, [f"quick {n}" for n in range(30)] + ["slow:300 one"])
    running = wait(client, batch.id, lambda b: b.output_file_id is not None or b.status in ENDS)
    assert running.status == "in_progress", running.status
    so_far = rows(client, running.output_file_id)
    assert 0 < len(so_far) <= 30
    assert client.files.retrieve(running.output_file_id).status == "uploaded"
    assert expect(openai.ConflictError, lambda: client.files.delete(running.output_file_id)).code == "file_in_use"
    wait(client, batch.id, lambda b: b.request_counts.completed == 30)
    client.batches.cancel(batch.id)
    ended = wait(client, batch.id)
    final = rows(client, ended.output_file_id)
    assert len(final) == 30
    assert ended.output_file_id == running.output_file_id
    assert client.files.retrieve(ended.output_file_id).status == "processed"
    assert all(final[custom_id] == row for custom_id, row in so_far.items())


@scenario
def cancel_a_running_batch(client: OpenAI) -> None:
    batch = create(client, [f"done {n}" for n in range(10)] + [f"slow:300 {n}" for n in range(10)])
    wait(client, batch.id, lambda b: b.request_counts.completed == 10)
    cancelling = client.batches.cancel(batch.id)
    assert cancelling.status == "cancelling"
    assert cancelling.cancelling_at is not None
    assert client.batches.cancel(batch.id).cancelling_at == cancelling.cancelling_at
    ended = wait(client, batch.id)
    assert (ended.status, ended.cancelling_at) == ("cancelled", cancelling.cancelling_at)
    assert (ended.request_counts.total, ended.request_counts.completed, ended.request_counts.failed) == (20, 10, 0)
    errors = rows(client, ended.error_file_id)
    assert len(rows(client, ended.output_file_id)) == 10
    assert {row["error"]["code"] for row in errors.values()} == {"batch_cancelled"}
    assert len(errors) == 10
    assert client.batches.cancel(batch.id).status == "cancelled"


@scenario
def cancel_what_has_ended(client: OpenAI) -> None:
    ended = wait(client, create(client, ["x"]).id)
    error = expect(openai.ConflictError, lambda: client.batches.cancel(ended.id))
    assert (error.type, error.code, error.param) == ("invalid_request_error", None, None)
    assert error.response.headers["x-should-retry"] == "false"


@scenario
def fail_validation(client: OpenAI) -> None:
    content = lines(["good"]) + b"{not json\n\n" + lines(["other"], model="no-such-model").replace(b"row-0", b"row-9")
    uploaded = client.files.create(file=("bad.jsonl", content), purpose="batch")
    batch = client.batches.create(input_file_id=uploaded.id, endpoint="/v1/chat/completions", completion_window="24h")
    ended = wait(client, batch.id)
    assert ended.status == "failed"
    found = [(error.line, error.code, error.param) for error in ended.errors.data]
    assert found == [(2, "invalid_json_line", None), (4, "model_not_found", "body.model")], found
    assert (ended.request_counts.total, ended.output_file_id, ended.error_file_id) == (0, None, None)


@scenario
def list_with_auto_paging(client: OpenAI) -> None:
    files = [client.files.create(file=("blank.jsonl", b"\n"), purpose="batch").id for _ in range(5)]
    created = [
        client.batches.create(input_file_id=file_id, endpoint="/v1/chat/completions", completion_window="24h").id
        for file_id in files
    ]
    listed = [batch.id for batch in client.batches.list(limit=2)]
    assert [batch_id for batch_id in listed if batch_id in created] == created[::-1]
    assert len(listed) == len(set(listed))
    newest_first = [file.id for file in client.files.list(limit=3, purpose="batch")]
    oldest_first = [file.id for file in client.files.list(limit=3, purpose="batch", order="asc")]
    assert [file_id for file_id in newest_first if file_id in files] == files[::-1]
    assert [file_id for file_id in oldest_first if file_id in files] == files
    assert len(newest_first) == len(set(newest_first))


@scenario
def delete_files(client: OpenAI) -> None:
    ended = wait(client, create(client, ["x"]).id)
    for file_id in (ended.input_file_id, ended.output_file_id):
        deleted = client.files.delete(file_id)
        assert (deleted.id, deleted.object, deleted.deleted) == (file_id, "file", True)
        assert expect(openai.NotFoundError, partial(client.files.delete, file_id)).param == "id"
        assert expect(openai.NotFoundError, partial(client.files.content, file_id)).param == "id"
        assert file_id not in {file.id for file in client.files.list()}
    assert client.batches.retrieve(ended.id).output_file_id == ended.output_file_id


@scenario
def use_models(client: OpenAI) -> None:
    assert {*MODELS} <= {model.id for model in client.models.list()}
    for name in MODELS:
        assert client.models.retrieve(name).id == name
    error = expect(openai.NotFoundError, lambda: client.models.retrieve("some/other:model"))
    assert (error.code, error.param) == ("model_not_found", "model")


def ask(client: OpenAI, **replaced: Any) -> Any:
    """Ask for a batch of a file that there is not."""
    fields: Any = {"input_file_id": f"file_{UNKNOWN}", "completion_window": "24h", "endpoint": "/v1/chat/completions"}
    return client.batches.create(**fields | replaced)


def upload(client: OpenAI, name: str = "a.jsonl", content: bytes = b"x", **replaced: Any) -> Any:
    fields: Any = {"purpose": "batch"}
    return client.files.create(file=(name, content), **fields | replaced)


@scenario
def meet_clear_errors(client: OpenAI) -> None:
    wrong = OpenAI(base_url=client.base_url, api_key="sk-wrong")
    assert expect(openai.AuthenticationError, wrong.models.list).code == "invalid_api_key"
    short = {"anchor": "created_at", "seconds": 1}
    refused: list[tuple[Callable[[], Any], str, str]] = [
        (partial(upload, client, content=b""), "empty_file", "file"),
        (partial(upload, client, "a.txt"), "invalid_file_format", "file"),
        (partial(upload, client, purpose="fine-tune"), "invalid_value", "purpose"),
        (partial(upload, client, expires_after=short), "integer_below_min_value", "expires_after.seconds"),
        (partial(ask, client, completion_window="48h"), "invalid_value", "completion_window"),
        (partial(ask, client, endpoint="/v1/nothing"), "invalid_value", "endpoint"),
    ]
    for call, code, param in refused:
        error = expect(openai.BadRequestError, call)
        assert (error.code, error.param, error.type) == (code, param, "invalid_request_error"), error
    missing: list[tuple[Callable[[], Any], str | None]] = [
        (partial(ask, client), "input_file_id"),
        (partial(client.files.retrieve, f"file_{UNKNOWN}"), "id"),
        (partial(client.batches.retrieve, f"batch_{UNKNOWN}"), None),
        (partial(client.batches.cancel, "batch_x"), None),
    ]
    for call, name in missing:
        error = expect(openai.NotFoundError, call)
        assert (error.code, error.param) == (None, name), error


@scenario
def meet_limits_of_metadata(client: OpenAI) -> None:
    for metadata, code, param in (
        ({f"{n}": "x" for n in range(17)}, "object_above_max_properties", "metadata"),
        ({"k" * 65: "x"}, "string_above_max_length", "metadata"),
        ({"team": "x" * 513}, "string_above_max_length", "metadata.team"),
    ):
        error = expect(openai.BadRequestError, partial(ask, client, metadata=metadata))
        assert (error.code, error.param) == (code, param)
    most = {"k" * 63 + f"{n:x}": "\u00e9" * 512 for n in range(16)}
    batch = ask(client, input_file_id=upload(client, content=b"\n").id, metadata=most)
    assert client.batches.retrieve(batch.id).metadata == most


@scenario
def read_a_batch(client: OpenAI) -> None:
    created = create(client, ["x", "fail:400 y"])
    ended = wait(client, created.id)
    for shown in (created, ended, *client.batches.list(limit=5).data):
        assert shown.to_dict().keys() == FIELDS
        assert all(value is None or type(value) is int for name, value in shown if name.endswith("_at"))
    assert (created.status, ended.completion_window, ended.metadata) == ("validating", "24h", None)
    assert ended.failed_at is ended.expired_at is ended.cancelling_at is ended.cancelled_at is ended.errors is None
    assert {ended.input_file_id, ended.output_file_id, ended.error_file_id} <= {file.id for file in client.files.list()}


@scenario
def read_request_ids(client: OpenAI) -> None:
    ids = [client.models.retrieve(MODEL)._request_id for _ in range(2)]
    assert ids[0] != ids[1]
    assert all(found and found.startswith("req_") for found in ids)


@scenario
def send_a_conflict_once(client: OpenAI) -> None:
    batch = ask(client, input_file_id=upload(client, content=b"\n").id)
    assert wait(client, batch.id).status == "failed"
    sent: list[Any] = []
    counting = openai.DefaultHttpxClient(event_hooks={"request": [sent.append]})
    watched = OpenAI(base_url=client.base_url, http_client=counting)
    expect(openai.ConflictError, lambda: watched.batches.cancel(batch.id))
    assert len(sent) == 1


@scenario
def use_v1(client: OpenAI) -> None:
    shorter = OpenAI(base_url=str(client.base_url).replace("/openai/v1", "/v1"))
    assert [model.id for model in shorter.models.list()] == [model.id for model in client.models.list()]


@scenario
def use_a_base_url_with_a_slash(client: OpenAI) -> None:
    for base_url in (str(client.base_url), str(client.base_url).rstrip("/")):
        assert OpenAI(base_url=base_url).models.retrieve(MODEL).id == MODEL


@scenario
def send_headers_of_an_organization(client: OpenAI) -> None:
    assert OpenAI(base_url=client.base_url, organization="org-x", project="x").models.retrieve(MODEL).id == MODEL


def tell(name: str) -> str:
    """Run a scenario; gives the line that says how it ended."""
    client = OpenAI(max_retries=8, _strict_response_validation="STRICT" in os.environ)
    problem = None
    try:
        SCENARIOS[name](client)
    except (Exception, pytest.fail.Exception):  # noqa: BLE001 - whatever it is, it is told
        problem = traceback.format_exc()
    return json.dumps({"scenario": name, "problem": problem})


if __name__ == "__main__":
    with ThreadPoolExecutor(_AT_ONCE) as threads:
        for line in threads.map(tell, sys.argv[1:] or SCENARIOS):
            print(line, flush=True)
