"""What only the thin client has to get right by itself: its clock, the way it finds, the bytes that it writes."""

import asyncio
import time
from collections.abc import Callable

import pytest

from nightshift_crds.bucket.port import Bucket
from nightshift_processor.client import Failure, Result, open_client
from nightshift_processor.client.dial import Addresses, Dialer
from nightshift_processor.client.exchange import Connection, Outbox
from nightshift_processor.client.port import Endpoint
from nightshift_processor.client.route import find_route
from nightshift_processor.client.thin import ThinClient, open_thin
from tests.processor.caller import failure_of, post
from tests.processor.canned import Manner, an_answer, serving
from tests.processor.given import run_settings
from tests.processor.networks import Names, tunnelling


class Clock:
    """The loop's, which can be put forward."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.ahead_s = 0.0
        monkeypatch.setattr(asyncio.get_running_loop(), "time", lambda: time.monotonic() + self.ahead_s)


def an_endpoint(url: str, **headers: str) -> Endpoint:
    return Endpoint(url, headers, timeout_s=600, max_answer_bytes=1 << 20)


async def test_it_is_the_client_that_a_processor_has_unless_it_is_told_otherwise(bucket: Bucket) -> None:
    async with open_client(run_settings(bucket)) as client:
        assert isinstance(client, ThinClient)


# --- time -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("idle_s", "connections"), [(3.0, 1), (5.0, 2)])
async def test_a_connection_that_was_idle_for_long_is_not_used_again(
    monkeypatch: pytest.MonkeyPatch, idle_s: float, connections: int
) -> None:
    clock = Clock(monkeypatch)
    async with serving(an_answer()) as server, open_thin(an_endpoint(server.url)) as client:
        await post(client, b"{}")
        clock.ahead_s += idle_s
        await post(client, b"{}")
    assert server.connections == connections


async def test_a_connection_gives_way_to_a_new_one_after_a_minute(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = Clock(monkeypatch)
    async with serving(an_answer()) as server, open_thin(an_endpoint(server.url)) as client:
        for _ in range(30):
            await post(client, b"{}")
            clock.ahead_s += 3
        await post(client, b"{}")
    assert server.connections == 2


async def test_a_name_is_looked_up_again_after_a_while(monkeypatch: pytest.MonkeyPatch) -> None:
    clock, names = Clock(monkeypatch), Names(monkeypatch)
    names.known["model.test"] = ["127.0.0.1"]
    addresses = Addresses("model.test", 80)
    assert [len(await addresses.in_turn()) for _ in range(3)] == [1, 1, 1]
    names.known["model.test"] = ["127.0.0.1", "127.0.0.2", "127.0.0.1"]
    clock.ahead_s += 11
    found = [[address[0] for address in await addresses.in_turn()] for _ in range(2)]
    assert sorted(found) == [["127.0.0.1", "127.0.0.2"], ["127.0.0.2", "127.0.0.1"]]
    assert len(names.asked) == 2


async def test_each_request_has_the_whole_time_for_its_answer(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = Clock(monkeypatch)
    async with serving(an_answer(), Manner.HANG) as server, open_thin(an_endpoint(server.url)) as client:
        await post(client, b"{}")
        server.asked.clear()
        clock.ahead_s += 3
        task = asyncio.create_task(failure_of(client))
        await server.asked.wait()
        clock.ahead_s += 598  # the first request's time is over
        for _ in range(5):
            await asyncio.sleep(0)
        assert not task.done()
        clock.ahead_s += 5
        assert await task is Failure.TIMEOUT
    assert server.connections == 1


# --- connections ------------------------------------------------------------------------------------------------------


async def test_words_that_nobody_asked_for_end_an_idle_connection() -> None:
    async with serving(an_answer(b"1")) as server, open_thin(an_endpoint(server.url)) as client:
        await post(client, b"{}")
        server.say(an_answer(b"", "408 Too Late"))
        await server.left.wait()
        assert (await post(client, b"{}")).body == b"1"
    assert server.connections == 2


async def test_a_connection_that_ended_as_it_was_made_took_nothing_and_is_not_kept(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    dial = Dialer.dial

    async def dial_in_vain(dialer: Dialer, new: Callable[[], Connection]) -> Connection:
        connection = await dial(dialer, new)
        connection.abort()
        return connection

    monkeypatch.setattr(Dialer, "dial", dial_in_vain)
    async with serving(an_answer()) as server, open_thin(an_endpoint(server.url)) as client:
        assert await failure_of(client) is Failure.NOT_CONNECTED
        assert isinstance(client, ThinClient)
        assert not client._open
    assert server.requests == []


async def test_a_client_that_was_closed_while_it_connected_sends_nothing() -> None:
    heard: list[Result] = []
    async with serving(an_answer()) as server, open_thin(an_endpoint(server.url)) as client:
        client.send(b"{}", heard.append)
        await asyncio.sleep(0)
    assert (server.requests, heard) == ([], [])


@pytest.mark.parametrize("words", [b"HTTP/1.1 2", b"HTTP/1.1 501 " + b"x" * 100_000], ids=["cut", "endless"])
async def test_a_proxy_that_says_no_whole_word_took_nothing(monkeypatch: pytest.MonkeyPatch, words: bytes) -> None:
    async with tunnelling(9, words) as proxy:
        monkeypatch.setenv("https_proxy", f"http://{proxy.url}")
        async with open_thin(an_endpoint("https://model.test")) as client:
            assert await failure_of(client) is Failure.NOT_CONNECTED


# --- turns ------------------------------------------------------------------------------------------------------------


class Line(asyncio.Transport):
    """Keeps what is written to it."""

    def __init__(self) -> None:
        super().__init__()
        self.written: list[bytes] = []

    def write(self, data: bytes | bytearray | memoryview) -> None:
        self.written.append(bytes(data))


async def test_requests_of_a_turn_go_out_together_but_none_waits_for_hundreds() -> None:
    outbox, line, requests = Outbox(), Line(), [b"%d" % n for n in range(20)]
    for request in requests[:15]:
        outbox.put(line, request)
    assert line.written == []
    for request in requests[15:]:
        outbox.put(line, request)
    assert line.written == requests[:16]
    await asyncio.sleep(0)
    assert line.written == requests


# --- what is written --------------------------------------------------------------------------------------------------


async def test_a_head_is_what_http_wants_and_the_headers_of_the_endpoint() -> None:
    route = find_route(an_endpoint("https://model.test/a%20b/v1/x?c=d#e", Authorization="Bearer k\u00e9y"))
    assert (route.host, route.port, route.server_name, route.tunnel) == ("model.test", 443, "model.test", None)
    assert route.head == (
        b"POST /a%20b/v1/x?c=d HTTP/1.1\r\nHost: model.test\r\nAccept: */*\r\nAuthorization: Bearer k\xc3\xa9y\r\n"
    )


def test_who_stands_in_the_url_is_told_to_the_server_unless_there_is_a_key() -> None:
    url = "http://me:s%3Acret@model.test/x"
    assert b"\r\nAuthorization: Basic bWU6czpjcmV0\r\n" in find_route(an_endpoint(url)).head
    assert find_route(an_endpoint(url, Authorization="Bearer k")).head.count(b"Authorization: Bearer k") == 1
    assert b"Basic" not in find_route(an_endpoint(url, Authorization="Bearer k")).head
    assert b"\r\nHost: model.test\r\n" in find_route(an_endpoint(url)).head


@pytest.mark.parametrize("text", ["a\r\nX-Other: b", "a\nb", "a\0b"])
def test_a_header_is_one_line(text: str) -> None:
    with pytest.raises(ValueError, match="one line"):
        find_route(an_endpoint("http://model.test/x", Authorization=text))


def test_a_proxy_may_be_named_without_a_scheme(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("http_proxy", "proxy.test:3128")
    route = find_route(an_endpoint("http://model.test/x"))
    assert (route.host, route.port) == ("proxy.test", 3128)
    assert route.head.startswith(b"POST http://model.test:80/x HTTP/1.1\r\nHost: model.test\r\n")
