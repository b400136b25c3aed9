"""A run from its input to the log of its slice, against the stub model."""

import asyncio
import random
from base64 import b64encode
from hashlib import sha256
from typing import Any

import pytest

from nightshift_crds.bucket.port import Bucket
from nightshift_crds.exits import Exit
from nightshift_crds.names import ResultKind
from nightshift_crds.records import RecordKind
from nightshift_processor.run import run
from nightshift_processor.seal import seal
from tests.builders import a_line, jsonl
from tests.processor.audits import audit
from tests.processor.canned import an_answer, serving
from tests.processor.given import (
    Model,
    chat_lines,
    check_log,
    kinds,
    put_input,
    read_log,
    read_result,
    run_settings,
    seal_settings,
)

CLAIM, PART, END = RecordKind.CLAIM, RecordKind.PART, RecordKind.END


async def run_all(bucket: Bucket, url: str, content: bytes, **values: Any) -> Exit:
    """Run an input to whatever end it comes to by itself."""
    await put_input(bucket, content)
    return await run(run_settings(bucket, content, model_url=url, **values), bucket, asyncio.Event())


def codes_of(errors: list[dict[str, Any]]) -> list[str]:
    return [line["error"]["code"] for line in errors]


# --- to the end -------------------------------------------------------------------------------------------------------


async def test_a_run_asks_every_line_once_and_ends_its_slice(bucket: Bucket, model: Model) -> None:
    prompts = [f"row-{n}" for n in range(200)] + ["fail:400", "not-json", "pretty"]
    content = chat_lines(*prompts)
    assert await run_all(bucket, model.url, content) is Exit.DONE
    assert set(model.stub.asked.values()) == {1}
    records = await read_log(bucket)
    assert records[-1].header.kind is END
    assert check_log(records, len(prompts)) == set(range(len(prompts)))
    await seal(seal_settings(bucket, content), bucket)
    manifest = await audit(bucket, *prompts)
    assert (manifest.completed, manifest.failed) == (201, 2)


async def test_a_batch_of_which_all_fails_is_done(bucket: Bucket, model: Model) -> None:
    assert await run_all(bucket, model.url, chat_lines("fail:400 a", "fail:422 b")) is Exit.DONE
    assert check_log(await read_log(bucket), 2) == {0, 1}


async def test_an_input_without_lines_ends_at_once(bucket: Bucket, model: Model) -> None:
    assert await run_all(bucket, model.url, b"\n \n") is Exit.DONE
    assert kinds(await read_log(bucket)) == [CLAIM, END]


async def test_a_slice_that_has_ended_is_not_run_again(bucket: Bucket, model: Model) -> None:
    await run_all(bucket, model.url, chat_lines("a", "b"))
    assert await run_all(bucket, model.url, chat_lines("a", "b")) is Exit.DONE
    assert model.stub.asked == {"a": 1, "b": 1}
    assert kinds(await read_log(bucket)).count(END) == 1


async def test_no_more_requests_are_in_flight_than_may_be(bucket: Bucket, model: Model) -> None:
    content = chat_lines(*(f"hold {n}" for n in range(20)))
    running = asyncio.create_task(run_all(bucket, model.url, content, max_concurrency=4))
    await model.stub.was_asked(4)
    model.stub.let_go.set()
    assert await running is Exit.DONE
    assert model.stub.most_in_flight == 4


async def test_a_body_reaches_the_server_as_the_user_wrote_it(bucket: Bucket) -> None:
    body = b'{"model":"m", "seed":12345678901234567890123, "t":1.10,"messages":[ "\xe2\x82\xac\\u20ac" ], "t":2E0}'
    content = b'{"custom_id":"a","method":"POST","url":"/v1/chat/completions","body":%b}\n' % body
    async with serving(an_answer()) as server:
        await run_all(bucket, server.url, content)
    assert [request.body for request in server.requests] == [body]


async def test_pictures_and_sound_reach_the_server_as_the_user_wrote_them(bucket: Bucket, model: Model) -> None:
    picture = b'{"type":"image_url", "image_url":{"url":"data:image\\/png;base64,%b"}}' % b64encode(
        random.randbytes(3_000_000)
    )
    sound = b'{"type":"input_audio","input_audio":{"data":"%b","format":"wav"}}' % b64encode(random.randbytes(300_000))
    content = b'[{"role":"system","content":[%b, %b]},{"role":"user","content":"look"}]' % (picture, sound)
    body = b'{"messages":%b,"mm_processor_kwargs":{"num_crops":4.0},"model":"m"}' % content
    line = b'{"custom_id":"a","method":"POST","url":"/v1/chat/completions","body":%b}\n' % body
    assert await run_all(bucket, model.url, line) is Exit.DONE
    assert model.stub.digests == {"look": sha256(body).hexdigest()}


@pytest.mark.parametrize(
    "wrap",
    [
        lambda line: b"\xef\xbb\xbf" + line + b"\n",
        lambda line: line + b"\r\n",
        lambda line: b"\n\r\n  \n" + line + b"\n\n",
        lambda line: line,
        lambda line: b'{"custom_id":7,' + line[1:] + b"\n",
        lambda line: b'{"body":[],"custom_id":"old",' + line[1:] + b"\n",
    ],
    ids=["bom", "crlf", "blank-lines", "no-newline", "id-twice", "body-twice"],
)
async def test_whatever_surrounds_a_line_it_runs(bucket: Bucket, model: Model, wrap: Any) -> None:
    assert await run_all(bucket, model.url, wrap(chat_lines("a").rstrip())) is Exit.DONE
    assert model.stub.asked == {"a": 1}
    assert [line["custom_id"] for line in (await read_log(bucket))[-1].outputs] == ["a"]


async def test_a_request_id_that_is_no_text_does_not_spoil_a_batch(bucket: Bucket) -> None:
    answer = an_answer(b'{"usage":{"prompt_tokens":1,"completion_tokens":1}}', "200 OK", b"X-Request-Id: \xff\xfe")
    async with serving(answer) as server:
        assert await run_all(bucket, server.url, chat_lines("a")) is Exit.DONE
    assert check_log(await read_log(bucket), 1) == {0}


# --- trying again -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("fault", ["fail-once:503", "fail-once:429", "fail-once:500", "drop"])
async def test_a_passing_failure_is_not_the_lines_result(
    bucket: Bucket, model: Model, no_backoff: None, fault: str
) -> None:
    assert await run_all(bucket, model.url, chat_lines(fault)) is Exit.DONE
    assert model.stub.asked[fault] == 2
    assert (await read_log(bucket))[-1].header.state.completed == 1


async def test_a_poison_row_is_given_up_after_its_tries(bucket: Bucket, model: Model, no_backoff: None) -> None:
    content = chat_lines("fail:500 x", "a")
    assert await run_all(bucket, model.url, content, max_tries=7, max_concurrency=1) is Exit.DONE
    assert model.stub.asked == {"fail:500 x": 7, "a": 1}
    records = await read_log(bucket)
    assert check_log(records, 2) == {0, 1}
    assert [code for record in records for code in codes_of(record.errors)] == ["server_error"]


async def test_rows_that_cannot_be_served_keep_no_other_from_being_sent(
    bucket: Bucket, model: Model, no_backoff: None
) -> None:
    content = chat_lines("fail:503 x", "fail:503 y", "a", "b", "hold")
    await put_input(bucket, content)
    stop = asyncio.Event()
    settings = run_settings(bucket, content, model_url=model.url, max_concurrency=2)
    running = asyncio.create_task(run(settings, bucket, stop))
    while not {"a", "b", "hold"} <= set(model.stub.asked):
        await model.stub.was_asked(model.stub.asked.total() + 1)
    stop.set()
    assert await running is Exit.INTERRUPTED
    assert check_log(await read_log(bucket), 5) == {2, 3}


async def test_a_server_that_is_down_is_waited_for_until_the_deadline(
    bucket: Bucket, no_backoff: None, soon: str
) -> None:
    assert await run_all(bucket, "http://127.0.0.1:9", chat_lines("a", "b"), deadline=soon) is Exit.DEADLINE
    assert kinds(await read_log(bucket)) == [CLAIM]


async def test_no_patience_that_a_server_asks_for_goes_beyond_the_deadline(bucket: Bucket, soon: str) -> None:
    async with serving(an_answer(b"{}", "429 Busy", b"Retry-After: 86400")) as server:
        assert await run_all(bucket, server.url, chat_lines("a"), deadline=soon) is Exit.DEADLINE
    assert len(server.requests) == 1


async def test_what_arrived_before_the_deadline_is_kept(bucket: Bucket, model: Model, soon: str) -> None:
    content = chat_lines("a", "fail:400", "hold")
    end = await run_all(bucket, model.url, content, deadline=soon, flush_interval_s=60, max_concurrency=1)
    assert end is Exit.DEADLINE
    assert check_log(await read_log(bucket), 3) == {0, 1}


async def test_in_openais_form_an_http_error_is_a_line_of_the_error_file_with_a_response(
    bucket: Bucket, model: Model
) -> None:
    content = jsonl(a_line("c", messages=[{"role": "user", "content": "fail:400"}]))
    await run_all(bucket, model.url, content, error_line_format="openai")
    await seal(seal_settings(bucket, content), bucket)
    (line,) = await read_result(bucket, ResultKind.ERROR)
    assert (line["response"]["status_code"], line["error"]) == (400, None)
