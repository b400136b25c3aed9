"""Connections that ask for too much, too slowly, or for nothing at all."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import uvloop

from tests.api.forms import PURPOSE, TYPE, form, part
from tests.api.serving import AUTHORIZATION, Line, Served, open_served
from tests.builders import a_line, jsonl

MAX_BYTES = 2_048
GET = b"GET /healthz HTTP/1.1\r\n"
POST = b"POST /v1/files HTTP/1.1\r\n" + AUTHORIZATION + f"content-type: {TYPE['content-type']}\r\n".encode()
CHUNKED = POST + b"transfer-encoding: chunked\r\nexpect: 100-continue\r\n\r\n"
SOON: dict[str, Any] = {"header_timeout_s": 0.1, "body_stall_s": 0.1, "send_stall_s": 0.1}


@pytest.fixture
async def narrow(tmp_path: Path) -> AsyncIterator[Served]:
    async with open_served(tmp_path, max_header_bytes=MAX_BYTES, max_headers=20) as served:
        yield served


@pytest.fixture
async def impatient(tmp_path: Path) -> AsyncIterator[Served]:
    async with open_served(tmp_path, keep_alive_s=1, **SOON) as served:
        yield served


async def start_upload(served: Served) -> Line:
    """Send what stands before a body; returns once the server waits for that."""
    line = await served.connect()
    await line.send(CHUNKED)
    assert (await line.answer()).status == 100
    return line


# --- headers ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "pieces",
    [
        [b"GET /" + b"x" * MAX_BYTES],
        [b"GET /" + b"x" * 50_000 + b" HTTP/1.1\r\n\r\n"],
        [GET, b"a: " + b"x" * MAX_BYTES],
        [GET, *[b"a: b\r\n"] * 21, b"\r\n"],
        [GET, *[b"a" * 100 + b": " + b"b" * 100 + b"\r\n"] * 11],
        [b"\r\n" * MAX_BYTES],
    ],
    ids=["line", "line at once", "endless header", "many headers", "long headers", "blank lines"],
)
async def test_headers_that_are_too_large_are_refused_while_they_come(narrow: Served, pieces: list[bytes]) -> None:
    line = await narrow.connect()
    await line.send(*pieces)
    answer = await line.answer()
    assert answer.status == 431
    assert (answer.error["type"], answer.error["code"]) == ("invalid_request_error", None)
    assert answer.headers["connection"] == "close"
    assert await line.rest() == b""


async def test_headers_may_be_as_large_as_the_limit_says_on_each_request_of_a_connection(narrow: Served) -> None:
    whole = GET + b"a: "
    whole += b"x" * (MAX_BYTES - len(whole) - 4) + b"\r\n\r\n"
    line = await narrow.connect()
    for _ in range(3):
        await line.send(whole)
        assert (await line.answer()).status == 200
    await line.send(whole.replace(b"a: ", b"a: x"))
    assert (await line.answer()).status == 431


async def test_a_request_may_have_as_many_headers_as_the_limit_says(narrow: Served) -> None:
    line = await narrow.connect()
    await line.send(GET, b"a: b\r\n" * 20, b"\r\n")
    assert (await line.answer()).status == 200


async def test_a_body_is_no_header(narrow: Served) -> None:
    body = form(PURPOSE, part("file", jsonl(*(a_line(f"row-{n}") for n in range(5000))), "in.jsonl"))
    line = await narrow.connect()
    await line.send(POST, f"content-length: {len(body)}\r\n\r\n".encode(), body)
    assert (await line.answer()).status == 200
    line = await start_upload(narrow)
    await line.send(
        *(b"1\r\n%c\r\n" % byte for byte in body[:500]), b"%x\r\n%s\r\n0\r\n\r\n" % (len(body) - 500, body[500:])
    )
    assert (await line.answer()).status == 200
    assert len(await narrow.api.ids("files")) == 2


@pytest.mark.parametrize(
    "endless",
    [b"0\r\na: " + b"x" * 2 * MAX_BYTES, b"0\r\n" + b"a: b\r\n" * 21 + b"\r\n", b"5;" + b"x" * 2 * MAX_BYTES],
    ids=["trailer", "trailers", "extension of a chunk"],
)
async def test_what_stands_between_or_behind_the_pieces_of_a_body_has_the_same_limits(
    narrow: Served, endless: bytes
) -> None:
    line = await start_upload(narrow)
    await line.send(endless)
    assert await line.rest() == b""
    assert await narrow.api.stored_keys() == []


async def test_what_is_no_http_is_told_so_in_the_shape_of_every_error(narrow: Served) -> None:
    line = await narrow.connect()
    await line.send(b"EHLO api\r\n")
    answer = await line.answer()
    assert (answer.status, answer.error["type"]) == (400, "invalid_request_error")
    assert await line.rest() == b""


# --- slow clients -----------------------------------------------------------------------------------------------------


async def test_a_connection_without_a_request_is_closed(impatient: Served) -> None:
    assert await (await impatient.connect()).rest() == b""


@pytest.mark.parametrize("sent", [b"G", GET + b"a: ", b"\r\n"])
async def test_headers_that_do_not_end_are_refused(impatient: Served, sent: bytes) -> None:
    line = await impatient.connect()
    await line.send(sent)
    answer = await line.answer()
    assert (answer.status, answer.error["type"]) == (408, "invalid_request_error")
    assert await line.rest() == b""


async def test_headers_that_come_byte_by_byte_are_refused_too(impatient: Served) -> None:
    line = await impatient.connect()
    await line.send(GET, b"a: ")
    async with dripping(line):
        assert (await line.answer()).status == 408


@asynccontextmanager
async def dripping(line: Line) -> AsyncIterator[None]:
    """Send a byte now and then."""

    async def drip() -> None:
        with suppress(ConnectionError):
            while True:
                await line.send(b"x")
                await asyncio.sleep(0.01)  # being slow is what is tested

    task = asyncio.create_task(drip())
    try:
        yield
    finally:
        task.cancel()
        await asyncio.wait([task])


async def test_a_connection_is_kept_for_a_while_after_an_answer(impatient: Served) -> None:
    line = await impatient.connect()
    assert (await line.get("/v1/models")).status == 200
    assert (await line.get("/v1/models")).status == 200
    assert await line.rest() == b""


async def test_blank_lines_do_not_keep_a_connection(impatient: Served) -> None:
    line = await impatient.connect()
    await line.get("/v1/models")
    await line.send(b"\r\n")
    assert (await line.answer()).status == 408


async def test_a_body_that_stalls_is_refused_and_nothing_of_it_stays(impatient: Served) -> None:
    line = await start_upload(impatient)
    piece = form(PURPOSE, part("file", b"x" * 9_000, "in.jsonl"))[:8_000]
    await line.send(b"%x\r\n%s\r\n" % (len(piece), piece))
    answer = await line.answer()
    assert (answer.status, answer.error["type"]) == (408, "invalid_request_error")
    assert answer.headers["connection"] == "close"
    assert await line.rest() == b""
    assert await impatient.api.stored_keys() == []


async def test_the_rest_of_a_body_that_was_answered_early_is_waited_for_as_short_as_headers(impatient: Served) -> None:
    line = await impatient.connect()
    await line.send(b"POST /v1/files HTTP/1.1\r\ncontent-length: 1000000000\r\n\r\n")
    assert (await line.answer()).status == 401
    async with dripping(line):
        assert await line.rest() == b""


@pytest.mark.parametrize("kept", [b"", b"connection: close\r\n"])
async def test_an_answer_that_nobody_reads_costs_little_and_ends(impatient: Served, kept: bytes) -> None:
    file = await impatient.api.upload(b"x" * (30 << 20))
    line = await impatient.connect(receive_bytes=4_096)
    await line.send(f"GET /v1/files/{file['id']}/content HTTP/1.1\r\n".encode(), AUTHORIZATION, kept, b"\r\n")
    await line.reader.readuntil(b"\r\n\r\n")
    connection = await impatient.connection_of(line)
    (task,) = impatient.server.server_state.tasks
    assert connection.transport.get_write_buffer_size() < 4 << 20
    await asyncio.wait_for(asyncio.wait([task]), 30)
    assert connection not in impatient.server.server_state.connections
    assert len(await line.rest()) < 30 << 20


async def test_the_last_of_an_answer_is_not_waited_for_for_ever_either(tmp_path: Path) -> None:
    async with open_served(tmp_path, send_bytes=1, **SOON) as served:
        file = await served.api.upload(b"x" * 60_000)
        line = await served.connect(receive_bytes=1)
        ask = f"GET /v1/files/{file['id']}/content HTTP/1.1\r\nconnection: close\r\n".encode()
        await line.send(ask, AUTHORIZATION, b"\r\n")
        await line.reader.readexactly(1)
        connection = await served.connection_of(line)
        (task,) = served.server.server_state.tasks
        await asyncio.wait_for(asyncio.wait([task]), 30)
        assert not connection.flow.write_paused
        assert connection.transport.get_write_buffer_size() > 0
        async with asyncio.timeout(30):
            while connection in served.server.server_state.connections:  # noqa: ASYNC110 - who reads goes on
                await asyncio.sleep(0.01)
        assert len(await line.rest()) < 60_000


async def test_an_answer_that_is_read_in_time_comes_whole(impatient: Served) -> None:
    content = b"x" * (8 << 20)
    file = await impatient.api.upload(content)
    line = await impatient.connect(receive_bytes=65_536)
    assert (await line.get(f"/v1/files/{file['id']}/content")).body == content


# --- too many ---------------------------------------------------------------------------------------------------------


async def test_a_connection_too_many_takes_the_place_of_the_one_that_was_idle_for_longest(tmp_path: Path) -> None:
    async with open_served(tmp_path, max_connections=3) as served:
        busy, first, second = await start_upload(served), await served.connect(), await served.connect()
        for line in (second, first):
            assert (await line.get("/v1/models")).status == 200
        assert (await (await served.connect()).get("/v1/models")).status == 200
        assert await second.rest() == b""
        assert (await first.get("/v1/models")).status == 200
        await busy.send(b"0\r\n\r\n")
        assert (await busy.answer()).status == 400


async def test_where_all_are_busy_one_too_many_is_told_to_come_back_and_probes_are_answered(tmp_path: Path) -> None:
    async with open_served(tmp_path, max_connections=1) as served:
        busy = await start_upload(served)
        answer = await (await served.connect()).get("/v1/models")
        assert (answer.status, answer.error["type"]) == (503, "server_error")
        assert (answer.headers["retry-after"], answer.headers["connection"]) == ("1", "close")
        for probe in ("/healthz", "/openapi.json"):
            assert (await (await served.connect()).get(probe)).status == 200
        await busy.send(b"0\r\n\r\n")
        assert (await busy.answer()).status == 400
        assert (await (await served.connect()).get("/v1/models")).status == 200


@pytest.mark.parametrize(
    "test",
    [
        test_a_connection_without_a_request_is_closed,
        test_headers_that_come_byte_by_byte_are_refused_too,
        test_a_connection_is_kept_for_a_while_after_an_answer,
        test_a_body_that_stalls_is_refused_and_nothing_of_it_stays,
        test_the_rest_of_a_body_that_was_answered_early_is_waited_for_as_short_as_headers,
        partial(test_an_answer_that_nobody_reads_costs_little_and_ends, kept=b""),
        test_an_answer_that_is_read_in_time_comes_whole,
    ],
)
def test_the_same_holds_on_the_event_loop_that_the_role_runs_on(
    test: Callable[[Served], Awaitable[None]], tmp_path: Path
) -> None:
    async def run() -> None:
        async with open_served(tmp_path, keep_alive_s=1, **SOON) as served:
            await test(served)

    uvloop.run(run())
