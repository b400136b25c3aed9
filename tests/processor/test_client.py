"""How requests reach a model server, and what becomes of every way in which one can fail to answer."""

import gzip
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nightshift_crds.bucket.port import Bucket
from nightshift_crds.lines import CHAT, ErrorForm
from nightshift_processor.client import Answer, Failure, ModelClient, NoAnswer, join_url, open_client
from nightshift_processor.outcome import Asked, conclude
from tests.processor.canned import CannedServer, Manner, an_answer, serving
from tests.processor.given import run_settings


@asynccontextmanager
async def a_client(bucket: Bucket, server: CannedServer, **values: Any) -> AsyncIterator[ModelClient]:
    async with open_client(run_settings(bucket, model_url=server.url, **values)) as client:
        yield client


async def ask(bucket: Bucket, *answers: bytes | Manner, **values: Any) -> Answer:
    async with serving(*answers) as server, a_client(bucket, server, **values) as client:
        return await client.post(b"{}")


async def failure_of(bucket: Bucket, *answers: bytes | Manner, **values: Any) -> Failure:
    with pytest.raises(NoAnswer) as no_answer:
        await ask(bucket, *answers, **values)
    return no_answer.value.failure


# --- what is sent -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("root", ["http://m:8000", "http://m:8000/", "http://m:8000/v1", "http://m:8000/v1/"])
def test_the_root_of_a_server_may_be_written_with_or_without_v1(root: str) -> None:
    assert join_url(root, CHAT) == "http://m:8000/v1/chat/completions"


@given(st.sampled_from(["", "/a", "/a/b", "/v1beta", "/v10", "/v1/x"]))
def test_what_stands_before_v1_in_a_root_is_kept(path: str) -> None:
    assert join_url(f"https://m{path}/v1", CHAT) == join_url(f"https://m{path}/", CHAT) == f"https://m{path}{CHAT}"


async def test_a_body_is_sent_as_it_is_to_the_endpoint(bucket: Bucket) -> None:
    body = b'{ "a" : 1.10, "b":"\\u00e9\xc3\xa9" }'
    async with serving(an_answer()) as server, a_client(bucket, server) as client:
        await client.post(body)
    (request,) = server.requests
    assert request.head.startswith("POST /v1/chat/completions HTTP/1.1\r\n")
    assert request.body == body
    assert request.header("content-type") == "application/json"
    assert request.header("accept-encoding") == "identity"


@pytest.mark.parametrize(
    ("key", "expected"), [("sk-1\n", "Bearer sk-1"), (" sk-1 ", "Bearer sk-1"), ("\n", None), ("", None)]
)
async def test_a_key_is_sent_if_there_is_one(bucket: Bucket, key: str, expected: str | None) -> None:
    async with serving(an_answer()) as server, a_client(bucket, server, model_api_key=key) as client:
        await client.post(b"{}")
    assert server.requests[0].header("authorization") == expected


async def test_a_cookie_is_not_kept(bucket: Bucket) -> None:
    answer = an_answer(b"{}", "200 OK", b"Set-Cookie: a=b; Path=/")
    async with serving(answer) as server, a_client(bucket, server) as client:
        await client.post(b"{}")
        await client.post(b"{}")
    assert [request.header("cookie") for request in server.requests] == [None, None]


# --- answers ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("status", ["200 OK", "400 Bad Request", "500 Oh", "503 Busy", "204 No Content", "299 "])
async def test_every_status_is_an_answer(bucket: Bucket, status: str) -> None:
    assert (await ask(bucket, an_answer(b"", status))).status == int(status[:3])


@pytest.mark.parametrize(
    "answer",
    [
        an_answer(b'{"a":1}'),
        b'HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\n{"a\r\n4\r\n":1}\r\n0\r\n\r\n',
        b'HTTP/1.1 200 OK\r\nConnection: close\r\n\r\n{"a":1}',
        b"HTTP/1.1 100 Continue\r\n\r\n" + an_answer(b'{"a":1}'),
        an_answer(gzip.compress(b'{"a":1}'), "200 OK", b"Content-Encoding: gzip"),
    ],
    ids=["length", "chunked", "until-close", "after-a-100", "compressed-though-not-asked"],
)  # fmt: skip
async def test_a_body_is_read_however_it_is_framed(bucket: Bucket, answer: bytes) -> None:
    assert (await ask(bucket, answer)).body == b'{"a":1}'


@pytest.mark.parametrize("status", ["301 Moved", "302 Found", "307 Temporary", "308 Permanent"])
async def test_a_redirect_is_an_answer_and_is_not_followed(bucket: Bucket, status: str) -> None:
    async with serving(an_answer()) as elsewhere:
        location = f"Location: {elsewhere.url}/".encode()
        answer = await ask(bucket, an_answer(b"", status, location), model_api_key="sk-1")
    assert answer.status == int(status[:3])
    assert elsewhere.requests == []


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (b"7", 7.0),
        (b"0", 0.0),
        (b"", None),
        (b"-1", None),
        (b"1.5", None),
        (b"soon", None),
        (b"Wed, 21 Oct 2026 07:28:00 GMT", None),
        ("\u0667".encode(), None),
        (b"9" * 400, float("inf")),
    ],
)
async def test_patience_is_asked_for_in_whole_seconds(bucket: Bucket, text: bytes, expected: float | None) -> None:
    answer = await ask(bucket, an_answer(b"", "429 Busy", b"Retry-After: " + text))
    assert answer.retry_after_s == expected


@pytest.mark.parametrize(
    ("header", "expected"),
    [
        (b"X-Request-ID: req-1", "req-1"),
        (b"X-Request-ID:", "req_1"),
        (b"X-Other: 1", "req_1"),
        (b"X-Request-ID: caf\xc3\xa9", "caf\u00e9"),
        (b"X-Request-ID: caf\xe9", "caf\ufffd"),
    ],
)
async def test_whatever_a_request_id_is_it_can_stand_in_a_line(bucket: Bucket, header: bytes, expected: str) -> None:
    answer = await ask(bucket, an_answer(b"{}", "200 OK", header))
    line = conclude(Asked("batch_req_1", "c"), answer, ErrorForm.SEED).line
    assert f'"request_id":"{expected}"'.encode() in line


# --- no answer --------------------------------------------------------------------------------------------------------


async def test_a_server_that_is_down_took_nothing(bucket: Bucket) -> None:
    async with serving(an_answer()) as server:
        pass
    async with a_client(bucket, server) as client:
        with pytest.raises(NoAnswer) as no_answer:
            await client.post(b"{}")
    assert no_answer.value.failure is Failure.NOT_CONNECTED


async def test_a_server_whose_name_nobody_knows_took_nothing(bucket: Bucket) -> None:
    async with open_client(run_settings(bucket, model_url="http://model.invalid")) as client:
        with pytest.raises(NoAnswer) as no_answer:
            await client.post(b"{}")
    assert no_answer.value.failure is Failure.NOT_CONNECTED


@pytest.mark.parametrize(
    "answer",
    [
        Manner.ABORT,
        b"HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 9\r\n\r\n{}",
        b"HTTP/1.1 200 OK\r\nConnection: close\r\nTransfer-Encoding: chunked\r\n\r\n5\r\n{}",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n{}\r\n",
        b"SSH-2.0-OpenSSH_9.2\r\nConnection: close\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nContent-Length: two\r\n\r\n{}",
        b"HTTP/1.1 200 OK\r\nX-Long: " + b"x" * 100_000 + b"\r\n\r\n{}",
        an_answer(b"not compressed", "200 OK", b"Content-Encoding: gzip"),
        b"HTTP/1.1 200 OK\r\nConnection: close\r\n",
    ],
    ids=["reset", "short", "chunk-short", "chunk-wrong", "no-http", "length-wrong", "header-long", "gzip-wrong", "cut"],
)  # fmt: skip
async def test_an_answer_that_breaks_off_or_is_no_http_is_none(bucket: Bucket, answer: bytes | Manner) -> None:
    assert await failure_of(bucket, answer) is Failure.BROKEN


@pytest.mark.parametrize("answer", [Manner.HANG, b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\n{}", b"HTTP/1.1 200"])
async def test_an_answer_that_does_not_end_in_time_is_none_and_the_server_learns_of_it(
    bucket: Bucket, answer: bytes | Manner
) -> None:
    async with serving(answer) as server, a_client(bucket, server, request_timeout_s=0.05) as client:
        with pytest.raises(NoAnswer) as no_answer:
            await client.post(b"{}")
        await server.left.wait()
    assert no_answer.value.failure is Failure.TIMEOUT


@pytest.mark.parametrize(
    "frame",
    [
        b"Content-Length: 1001\r\n\r\n" + b" " * 1001,
        b"Content-Length: 99999999999\r\n\r\n" + b" " * 1001,
        b"Transfer-Encoding: chunked\r\n\r\n" + b"1f5\r\n" + b" " * 501 + b"\r\n1f5\r\n" + b" " * 501 + b"\r\n",
        b"Connection: close\r\n\r\n" + b" " * 5000,
        b"Content-Encoding: gzip\r\nConnection: close\r\n\r\n" + gzip.compress(b" " * 1001),
    ],
    ids=["length", "promised", "chunked", "until-close", "inflated"],
)
async def test_an_answer_over_the_limit_is_given_up_on_the_way(bucket: Bucket, frame: bytes) -> None:
    assert await failure_of(bucket, b"HTTP/1.1 200 OK\r\n" + frame, max_answer_bytes=1000) is Failure.TOO_LARGE


async def test_an_answer_of_just_the_limit_is_one(bucket: Bucket) -> None:
    assert len((await ask(bucket, an_answer(b" " * 1000), max_answer_bytes=1000)).body) == 1000


async def test_after_a_failure_the_next_request_has_a_connection_of_its_own(bucket: Bucket) -> None:
    async with (
        serving(an_answer(b" " * 2000), an_answer(b"{}")) as server,
        a_client(bucket, server, max_answer_bytes=1000) as client,
    ):
        with pytest.raises(NoAnswer):
            await client.post(b"{}")
        assert (await client.post(b"{}")).body == b"{}"
