"""How requests reach a model server, and what becomes of every answer and of every failure to give one: both clients.

What becomes of their connections is in `test_client_connections`.
"""

import gzip
import zlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nightshift_crds.lines import CHAT, ErrorForm
from nightshift_processor.client import Failure, join_url
from nightshift_processor.outcome import conclude
from nightshift_processor.settings import HttpClient
from tests.processor.caller import Caller, failure_of, post
from tests.processor.canned import Canned, Manner, Then, an_answer, serving

# --- what is sent -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("root", ["http://m:8000", "http://m:8000/", "http://m:8000/v1", "http://m:8000/v1/"])
def test_the_root_of_a_server_may_be_written_with_or_without_v1(root: str) -> None:
    assert join_url(root, CHAT) == "http://m:8000/v1/chat/completions"


@given(st.sampled_from(["", "/a", "/a/b", "/v1beta", "/v10", "/v1/x"]))
def test_what_stands_before_v1_in_a_root_is_kept(path: str) -> None:
    assert join_url(f"https://m{path}/v1", CHAT) == join_url(f"https://m{path}/", CHAT) == f"https://m{path}{CHAT}"


async def test_a_body_is_sent_as_it_is_to_the_endpoint(caller: Caller) -> None:
    body = b'{ "a" : 1.10, "b":"\\u00e9\xc3\xa9" }'
    async with serving(an_answer()) as server, caller.client(server.url) as client:
        await post(client, body)
    (request,) = server.requests
    assert request.head.startswith("POST /v1/chat/completions HTTP/1.1\r\n")
    assert request.body == body
    assert request.header("content-type") == "application/json"
    assert request.header("accept-encoding") == "identity"


@pytest.mark.parametrize(
    ("key", "expected"), [("sk-1\n", "Bearer sk-1"), (" sk-1 ", "Bearer sk-1"), ("\n", None), ("", None)]
)
async def test_a_key_is_sent_if_there_is_one(caller: Caller, key: str, expected: str | None) -> None:
    async with serving(an_answer()) as server, caller.client(server.url, model_api_key=key) as client:
        await post(client, b"{}")
    assert server.requests[0].header("authorization") == expected


async def test_a_cookie_is_not_kept(caller: Caller) -> None:
    answer = an_answer(b"{}", "200 OK", b"Set-Cookie: a=b; Path=/")
    async with serving(answer) as server, caller.client(server.url) as client:
        await post(client, b"{}")
        await post(client, b"{}")
    assert [request.header("cookie") for request in server.requests] == [None, None]


# --- answers ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("status", ["200 OK", "400 Bad Request", "500 Oh", "503 Busy", "204 No Content", "299 "])
async def test_every_status_is_an_answer(caller: Caller, status: str) -> None:
    assert (await caller.ask(an_answer(b"", status))).status == int(status[:3])


@pytest.mark.parametrize(
    "answer",
    [
        an_answer(b'{"a":1}'),
        b'HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\n{"a\r\n4\r\n":1}\r\n0\r\n\r\n',
        b'HTTP/1.1 200 OK\r\nConnection: close\r\n\r\n{"a":1}',
        b"HTTP/1.1 100 Continue\r\n\r\n" + an_answer(b'{"a":1}'),
        b"HTTP/1.1 102 Processing\r\nX-Request-ID: no\r\nContent-Length: 5\r\n\r\n" * 3 + an_answer(b'{"a":1}'),
        an_answer(gzip.compress(b'{"a":1}'), "200 OK", b"Content-Encoding: gzip"),
        an_answer(zlib.compress(b'{"a":1}'), "200 OK", b"Content-Encoding: deflate"),
        an_answer(zlib.compress(b'{"a":1}')[2:-4], "200 OK", b"Content-Encoding: deflate"),
        an_answer(b'{"a":1}', "200 OK", b"Content-Encoding: identity"),
        b'HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n7;x=y\r\n{"a":1}\r\n0\r\nX-Request-ID: no\r\n\r\n',
        b'HTTP/1.0 200 OK\r\nContent-Length: 7\r\n\r\n{"a":1}',
        Then(b'HTTP/1.0 200 OK\r\n\r\n{"a":1}', Manner.END),
        Then(b'HTTP/1.1 200 OK\r\n\r\n{"a":1}', Manner.END),
        b'HTTP/1.1 200 OK\nContent-Length: 7\n\n{"a":1}',
    ],
    ids=[
        "length", "chunked", "until-close", "after-a-100", "after-others", "gzip", "deflate", "raw-deflate", "identity",
        "trailers", "1.0", "1.0-until-close", "until-end", "newlines",
    ],
)  # fmt: skip
async def test_a_body_is_read_however_it_is_framed(caller: Caller, answer: bytes) -> None:
    given_answer = await caller.ask(answer)
    assert (given_answer.body, given_answer.request_id) == (b'{"a":1}', None)


@pytest.mark.parametrize("status", ["204 No Content", "304 Not Modified"])
async def test_an_answer_that_can_have_no_body_has_none(caller: Caller, status: str) -> None:
    async with serving(f"HTTP/1.1 {status}\r\n\r\n".encode()) as server, caller.client(server.url) as client:
        assert [(await post(client, b"{}")).body for _ in range(2)] == [b"", b""]
    assert server.connections == 1


@pytest.mark.parametrize("is_chunked", [False, True])
async def test_large_bodies_go_both_ways_as_they_are(caller: Caller, is_chunked: bool) -> None:
    body = bytes(range(256)) * (3 << 10)
    chunks = b"".join(b"%x\r\n%b\r\n" % (1 << 15, body[n : n + (1 << 15)]) for n in range(0, len(body), 1 << 15))
    head = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"
    answer = head + chunks + b"0\r\n\r\n" if is_chunked else an_answer(body)
    async with serving(answer) as server, caller.client(server.url) as client:
        for _ in range(2):
            assert (await post(client, body)).body == body
    assert [request.body == body for request in server.requests] == [True, True]
    assert server.connections == 1


async def test_an_answer_that_switches_protocols_is_one_without_a_body(caller: Caller) -> None:
    answer = b"HTTP/1.1 101 Switching\r\nUpgrade: h2c\r\nConnection: upgrade, close\r\n\r\n"
    assert (await caller.ask(answer)).status == 101


@pytest.mark.parametrize("status", ["301 Moved", "302 Found", "307 Temporary", "308 Permanent"])
async def test_a_redirect_is_an_answer_and_is_not_followed(caller: Caller, status: str) -> None:
    async with serving(an_answer()) as elsewhere:
        location = f"Location: {elsewhere.url}/".encode()
        answer = await caller.ask(an_answer(b"", status, location), model_api_key="sk-1")
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
async def test_patience_is_asked_for_in_whole_seconds(caller: Caller, text: bytes, expected: float | None) -> None:
    answer = await caller.ask(an_answer(b"", "429 Busy", b"Retry-After: " + text))
    assert answer.retry_after_s == expected


@pytest.mark.parametrize(
    ("header", "expected"),
    [
        (b"X-Request-ID: req-1", "req-1"),
        (b"X-Request-ID:", "req_1"),
        (b"X-Other: 1", "req_1"),
        (b"x-request-id:   req-1 \t", "req-1"),
        (b"X-Request-ID: req-1\r\nX-Request-ID: req-2", "req-1"),
        (b"X-Request-ID: caf\xc3\xa9", "caf\u00e9"),
        (b"X-Request-ID: caf\xe9", "caf\ufffd"),
    ],
)
async def test_whatever_a_request_id_is_it_can_stand_in_a_line(caller: Caller, header: bytes, expected: str) -> None:
    answer = await caller.ask(an_answer(b"{}", "200 OK", header))
    line = conclude("batch_req_1", "c", answer, ErrorForm.SEED).line
    assert f'"request_id":"{expected}"'.encode() in line


# --- no answer --------------------------------------------------------------------------------------------------------


async def test_a_server_that_is_down_took_nothing(caller: Caller) -> None:
    async with serving(an_answer()) as server:
        pass
    async with caller.client(server.url) as client:
        assert await failure_of(client) is Failure.NOT_CONNECTED


async def test_a_server_whose_name_nobody_knows_took_nothing(caller: Caller) -> None:
    async with caller.client("http://model.invalid") as client:
        assert await failure_of(client) is Failure.NOT_CONNECTED


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
        b"HTTP/1.1 200 OK\r\n" + b"X-Many: x\r\n" * 10_000 + b"\r\n{}",
        b"HTTP/1.1 200 " + b"x" * 100_000 + b"\r\n\r\n{}",
        b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nContent-Length: 3\r\n\r\n{} ",
        b"HTTP/1.1 200 OK\r\nContent-Length: -2\r\n\r\n{}",
        b"HTTP/1.1 20 OK\r\nContent-Length: 2\r\n\r\n{}",
        b"HTTP/1.1 2000 OK\r\nContent-Length: 2\r\n\r\n{}",
        b"{}",
    ],
    ids=[
        "reset", "short", "chunk-short", "chunk-wrong", "no-http", "length-wrong", "header-long", "gzip-wrong", "cut",
        "headers-many", "reason-long", "lengths-two", "length-minus", "status-short", "status-long",
        "no-head",
    ],
)  # fmt: skip
async def test_an_answer_that_breaks_off_or_is_no_http_is_none(caller: Caller, answer: Canned) -> None:
    assert await caller.failure_of(answer) is Failure.BROKEN


@pytest.mark.parametrize(
    "answer",
    [
        Manner.HANG,
        b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\n{}",
        b"HTTP/1.1 200",
        b"HTTP/1.1 100 Continue\r\n\r\n",
        Then(b"HTTP/1.1 200 OK\r\nX-Slow: ", Manner.DRIP),
        Then(b"HTTP/1.1 200 OK\r\n\r\n{}", Manner.DRIP),
        Then(b"HTTP/1.1 200 OK\r\nContent-Length: 1000000\r\n\r\n", Manner.DRIP),
    ],
    ids=["silence", "short", "head-cut", "interim-only", "head-drips", "open-end-drips", "body-drips"],
)
async def test_an_answer_that_does_not_end_in_time_is_none_and_the_server_learns_of_it(
    caller: Caller, answer: Canned
) -> None:
    async with serving(answer) as server, caller.client(server.url, request_timeout_s=0.05) as client:
        while not server.asked.is_set():  # on a busy machine the time may be over before the server hears of it
            assert await failure_of(client) is Failure.TIMEOUT
        await server.left.wait()


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
async def test_an_answer_over_the_limit_is_given_up_on_the_way(caller: Caller, frame: bytes) -> None:
    assert await caller.failure_of(b"HTTP/1.1 200 OK\r\n" + frame, max_answer_bytes=1000) is Failure.TOO_LARGE


async def test_an_answer_of_just_the_limit_is_one(caller: Caller) -> None:
    assert len((await caller.ask(an_answer(b" " * 1000), max_answer_bytes=1000)).body) == 1000


async def test_after_a_failure_the_next_request_has_a_connection_of_its_own(caller: Caller) -> None:
    async with (
        serving(an_answer(b" " * 2000), an_answer(b"{}")) as server,
        caller.client(server.url, max_answer_bytes=1000) as client,
    ):
        assert await failure_of(client) is Failure.TOO_LARGE
        assert (await post(client, b"{}")).body == b"{}"


@pytest.mark.parametrize("frame", [b"HTTP/1.1 100 Continue\r\n\r\n", b"X-More: 1\r\n"], ids=["interim", "trailers"])
async def test_what_brings_no_body_does_not_come_for_ever(caller: Caller, frame: bytes) -> None:
    if caller.kind is HttpClient.AIOHTTP:
        pytest.skip("aiohttp takes as much of it as comes")
    start = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\n{}\r\n0\r\n" if b"More" in frame else b""
    assert await caller.failure_of(start + frame * 10_000) is Failure.BROKEN


async def test_a_packed_body_that_is_cut_is_none(caller: Caller) -> None:
    if caller.kind is HttpClient.AIOHTTP:
        pytest.skip("aiohttp gives what it could unpack")
    answer = an_answer(gzip.compress(b"{}")[:-9], "200 OK", b"Content-Encoding: gzip")
    assert await caller.failure_of(answer) is Failure.BROKEN
