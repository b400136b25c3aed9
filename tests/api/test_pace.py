"""How long a sender is waited for: a stalled one not for long, a steady one for as long as it takes."""

import asyncio
from collections.abc import AsyncIterator, MutableMapping
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from starlette.requests import Request
from starlette.responses import Response, StreamingResponse
from starlette.types import Message, Receive, Scope, Send

from nightshift_api.pace import Pace, Patience
from nightshift_crds.errors import Rejected
from tests.api.harness import make_settings

STALL_S, RATE = 30.0, 1_000.0
SCOPE = {"type": "http", "method": "POST", "path": "/", "headers": []}


def test_a_sender_is_first_waited_for_as_long_as_it_may_stall() -> None:
    assert Patience(STALL_S, RATE).left_s == STALL_S


def test_no_burst_buys_more_time_than_that() -> None:
    patience = Patience(STALL_S, RATE)
    patience.note(1.0, 10_000_000)
    assert patience.left_s == STALL_S


def test_a_drip_buys_next_to_nothing() -> None:
    patience = Patience(STALL_S, RATE)
    for _ in range(29):
        patience.note(1.0, 1)
    assert 1 <= patience.left_s < 1.1


@given(st.lists(st.floats(0, STALL_S), max_size=100))
def test_whoever_keeps_the_pace_is_never_given_up(waits: list[float]) -> None:
    patience = Patience(STALL_S, RATE)
    for waited_s in waits:
        patience.note(waited_s, round(waited_s * RATE) + 1)
        assert patience.left_s > STALL_S - 0.1


@given(st.lists(st.tuples(st.floats(0, 60), st.integers(0, 100_000)), max_size=100))
def test_a_body_takes_no_longer_than_its_size_allows(pieces: list[tuple[float, int]]) -> None:
    patience, waited_s, size = Patience(STALL_S, RATE), 0.0, 0
    for pause_s, count in pieces:
        if pause_s > patience.left_s:
            break
        patience.note(pause_s, count)
        waited_s, size = waited_s + pause_s, size + count
    assert waited_s <= STALL_S + size / RATE + 1e-6


# --- the application's side -------------------------------------------------------------------------------------------


async def serve(folder: Path, app: Any, *messages: Message) -> list[MutableMapping[str, Any]]:
    """Serve one request, of which no more comes than these messages; gives what was sent."""
    incoming, sent = iter(messages), list[MutableMapping[str, Any]]()

    async def receive() -> Message:
        for message in incoming:
            return message
        return await asyncio.Future()

    async def send(message: Message) -> None:
        sent.append(message)

    await Pace(app, make_settings(folder, body_stall_s=0.05, min_bytes_per_s=1_000_000))(SCOPE, receive, send)
    return sent


def piece(body: bytes, *, more_body: bool) -> Message:
    return {"type": "http.request", "body": body, "more_body": more_body}


async def read_all(scope: Scope, receive: Receive, send: Send) -> None:
    try:
        await Request(scope, receive).body()
    except Rejected as error:
        await Response(status_code=error.status)(scope, receive, send)
        return
    await Response()(scope, receive, send)


async def test_what_does_not_come_is_refused_and_the_connection_with_it(tmp_path: Path) -> None:
    start, _ = await serve(tmp_path, read_all, piece(b"x", more_body=True))
    assert start["status"] == 408
    assert (b"connection", b"close") in start["headers"]


async def test_what_comes_is_passed_on(tmp_path: Path) -> None:
    start, _ = await serve(tmp_path, read_all, piece(b"x", more_body=True), piece(b"y", more_body=False))
    assert start["status"] == 200
    assert (b"connection", b"close") not in start["headers"]


async def test_time_in_which_nobody_waits_for_the_sender_does_not_count(tmp_path: Path) -> None:
    async def busy(scope: Scope, receive: Receive, send: Send) -> None:
        await receive()
        await asyncio.sleep(0.1)  # longer than a sender may stall
        assert (await receive())["body"] == b"y"
        await Response()(scope, receive, send)

    start, _ = await serve(tmp_path, busy, piece(b"x", more_body=True), piece(b"y", more_body=False))
    assert start["status"] == 200


@pytest.mark.parametrize("more_body", [True, False])
async def test_an_answer_that_is_under_way_goes_on_unless_its_request_never_ends(
    tmp_path: Path, more_body: bool
) -> None:
    async def chunks() -> AsyncIterator[bytes]:
        yield b"a"
        await asyncio.sleep(0.2)  # longer than a sender may stall
        yield b"b"

    sent = await serve(tmp_path, StreamingResponse(chunks()), piece(b"", more_body=more_body))
    bodies = [message["body"] for message in sent if message["type"] == "http.response.body"]
    assert bodies == ([b"a"] if more_body else [b"a", b"b", b""])
