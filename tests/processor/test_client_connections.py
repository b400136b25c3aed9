"""The connections of both clients: how they come about, are used again, and break."""

import asyncio
from contextlib import AsyncExitStack
from pathlib import Path

import pytest

from nightshift_processor.client import Failure, Result
from nightshift_processor.settings import HttpClient
from tests.processor.caller import Caller, failure_of, post
from tests.processor.canned import Canned, CannedServer, Manner, Then, an_answer, running, serving
from tests.processor.certificates import Authority
from tests.processor.networks import Names, mute, tunnelling

HEAD = b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n"
LARGE = b"x" * 900_000
"""More than a server's socket takes unread; over a MiB aiohttp warns of its own slowness."""


@pytest.fixture(autouse=True)
def no_proxies(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("http_proxy", "https_proxy", "no_proxy", "HTTP_PROXY", "HTTPS_PROXY", "NO_PROXY"):
        monkeypatch.delenv(name, raising=False)


@pytest.fixture
def authority(tmp_path: Path) -> Authority:
    return Authority(tmp_path)


# --- used again -------------------------------------------------------------------------------------------------------


async def test_a_connection_is_used_again(caller: Caller) -> None:
    async with serving(an_answer()) as server, caller.client(server.url) as client:
        for _ in range(5):
            await post(client, b"{}")
    assert (len(server.requests), server.connections) == (5, 1)


async def test_there_are_no_more_connections_than_requests_at_once(caller: Caller) -> None:
    async with serving(an_answer()) as server, caller.client(server.url) as client:
        for _ in range(3):
            await asyncio.gather(*(post(client, b"{}") for _ in range(8)))
    assert len(server.requests) == 24
    assert server.connections <= 8


@pytest.mark.parametrize(
    "answer",
    [
        an_answer(b"{}", "200 OK", b"Connection: close"),
        b"HTTP/1.0 200 OK\r\nContent-Length: 2\r\n\r\n{}",
        Then(b"HTTP/1.1 200 OK\r\n\r\n{}", Manner.END),
    ],
    ids=["close", "1.0", "until-end"],
)
async def test_a_connection_that_the_server_gives_up_is_not_used_again(caller: Caller, answer: Canned) -> None:
    async with serving(answer) as server, caller.client(server.url) as client:
        assert [(await post(client, b"{}")).body for _ in range(3)] == [b"{}"] * 3
    assert server.connections == 3


async def test_a_connection_that_ended_while_it_was_idle_is_not_used_again(caller: Caller) -> None:
    async with serving(Then(an_answer(), Manner.END), an_answer()) as server, caller.client(server.url) as client:
        await post(client, b"{}")
        await server.left.wait()
        assert (await post(client, b"{}")).status == 200
    assert server.connections == 2


@pytest.mark.parametrize("manner", [Manner.ABORT, Manner.RESET])
async def test_a_request_that_meets_the_end_of_a_used_connection_is_broken_and_not_sent_again(
    caller: Caller, manner: Manner
) -> None:
    async with serving(an_answer(), manner, an_answer()) as server, caller.client(server.url) as client:
        await post(client, b"{}")
        assert await failure_of(client) is Failure.BROKEN
        assert len(server.requests) == 2
        assert (await post(client, b"{}")).status == 200


@pytest.mark.parametrize("more", [an_answer(b"other"), b"garbage"])
async def test_what_stands_behind_an_answer_is_never_the_next_one(caller: Caller, more: bytes) -> None:
    async with serving(an_answer(b"1") + more, an_answer(b"2")) as server, caller.client(server.url) as client:
        if caller.kind is HttpClient.THIN:
            assert (await post(client, b"{}")).body == b"1"
        else:
            await asyncio.gather(post(client, b"{}"), return_exceptions=True)  # aiohttp may refuse both
        assert (await post(client, b"{}")).body == b"2"
    assert server.connections == 2


async def test_an_answer_before_the_request_is_heard_ends_the_connection(caller: Caller) -> None:
    canned = CannedServer(an_answer(b"", "413 Too Large"), has_patience=False)
    async with running(canned) as server, caller.client(server.url) as client:
        for _ in range(2):
            assert (await post(client, LARGE * 8 if caller.kind is HttpClient.THIN else LARGE)).status == 413
    assert server.connections == 2


# --- breaks -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("manner", [Manner.ABORT, Manner.RESET])
@pytest.mark.parametrize(
    "words",
    [
        b"", b"HTTP/1.1 2", HEAD, HEAD + b"\r\n", HEAD + b"\r\n{}", b"HTTP/1.1 100 Continue\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\n{}",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\n{}\r\n",
    ],
    ids=["nothing", "status", "head", "whole-head", "body", "interim", "chunk", "chunks"],
)  # fmt: skip
async def test_a_connection_that_ends_before_the_answer_does_gives_none(
    caller: Caller, words: bytes, manner: Manner
) -> None:
    assert await caller.failure_of(Then(words, manner)) is Failure.BROKEN


async def test_a_body_without_a_length_is_whole_only_if_the_connection_ends_well(caller: Caller) -> None:
    if caller.kind is HttpClient.AIOHTTP:
        pytest.skip("aiohttp takes any end for a good one")
    assert await caller.failure_of(Then(b"HTTP/1.1 200 OK\r\n\r\n{}", Manner.RESET)) is Failure.BROKEN


@pytest.mark.parametrize("manner", [Manner.ABORT, Manner.RESET])
async def test_a_request_that_was_sent_in_part_is_broken(caller: Caller, manner: Manner) -> None:
    async with running(CannedServer(manner, has_patience=False)) as server, caller.client(server.url) as client:
        assert await failure_of(client, LARGE) is Failure.BROKEN


@pytest.mark.parametrize("manner", [Manner.ABORT, Manner.RESET])
async def test_a_server_that_hangs_up_at_once_gives_no_answer(caller: Caller, manner: Manner) -> None:
    canned = CannedServer(an_answer(), greeting=Then(b"", manner))
    async with running(canned) as server, caller.client(server.url) as client:
        assert await failure_of(client) in {Failure.BROKEN, Failure.NOT_CONNECTED}
    assert server.requests == []


async def test_closing_the_client_aborts_what_is_in_flight_and_tells_nobody(caller: Caller) -> None:
    heard: list[Result] = []
    async with serving(Then(b"HTTP/1.1 200 OK\r\n\r\n{}", Manner.HANG)) as server:
        async with caller.client(server.url) as client:
            client.send(b"{}", heard.append)
            await server.asked.wait()
        await server.left.wait()
        await asyncio.sleep(0)
    assert heard == []


# --- names and addresses ----------------------------------------------------------------------------------------------


async def test_connections_spread_over_the_addresses_of_a_name(caller: Caller, monkeypatch: pytest.MonkeyPatch) -> None:
    names = Names(monkeypatch)
    names.known["model.test"] = ["127.0.0.1", "127.0.0.2", "127.0.0.3"]
    async with AsyncExitStack() as stack:
        servers = [await stack.enter_async_context(running(CannedServer(an_answer())))]
        port = servers[0].port
        others = [running(CannedServer(an_answer()), host, port) for host in names.known["model.test"][1:]]
        servers += [await stack.enter_async_context(other) for other in others]
        client = await stack.enter_async_context(caller.client(f"http://model.test:{port}"))
        await asyncio.gather(*(post(client, b"{}") for _ in range(9)))
        counts = [server.connections for server in servers]
    assert min(counts) >= 1
    assert max(counts) - min(counts) <= 1, "nine, or fewer if an early answer has freed one"
    assert servers[0].requests[0].header("host") == f"model.test:{port}"
    assert names.asked.count("model.test") == 1


async def test_an_address_that_refuses_is_passed_over(caller: Caller, monkeypatch: pytest.MonkeyPatch) -> None:
    Names(monkeypatch).known["model.test"] = ["127.0.0.2", "::1", "127.0.0.1"]
    async with serving(an_answer()) as server, caller.client(f"http://model.test:{server.port}") as client:
        for _ in range(3):
            await asyncio.gather(post(client, b"{}"), post(client, b"{}"))


async def test_an_address_that_says_nothing_is_passed_over(caller: Caller, monkeypatch: pytest.MonkeyPatch) -> None:
    Names(monkeypatch).known["model.test"] = ["127.0.0.2", "127.0.0.1"]
    with mute("127.0.0.2") as port:
        async with (
            running(CannedServer(an_answer()), port=port),
            caller.client(f"http://model.test:{port}", request_timeout_s=8) as client,
        ):
            await asyncio.gather(post(client, b"{}"), post(client, b"{}"))


async def test_a_name_whose_addresses_all_refuse_took_nothing(caller: Caller, monkeypatch: pytest.MonkeyPatch) -> None:
    Names(monkeypatch).known["model.test"] = ["127.0.0.2", "127.0.0.3"]
    async with serving() as server, caller.client(f"http://model.test:{server.port}") as client:
        assert await failure_of(client) is Failure.NOT_CONNECTED


async def test_a_server_may_have_an_ipv6_address(caller: Caller) -> None:
    async with (
        running(CannedServer(an_answer()), "::1") as server,
        caller.client(f"http://[::1]:{server.port}") as client,
    ):
        assert (await post(client, b"{}")).status == 200
    assert server.requests[0].header("host") == f"[::1]:{server.port}"


async def test_a_server_that_does_not_take_the_call_in_time_is_a_timeout(caller: Caller) -> None:
    with mute("127.0.0.1") as port:
        async with caller.client(f"http://127.0.0.1:{port}", request_timeout_s=0.1) as client:
            assert await failure_of(client) is Failure.TIMEOUT


# --- TLS --------------------------------------------------------------------------------------------------------------


async def test_a_server_is_trusted_by_ssl_cert_file_and_hears_its_name(
    caller: Caller, authority: Authority, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SSL_CERT_FILE", str(authority.ca_file))
    Names(monkeypatch).known["model.test"] = ["127.0.0.1"]
    asked: list[str | None] = []
    tls = authority.server_context("model.test", asked)
    async with (
        running(CannedServer(an_answer(LARGE)), tls=tls) as server,
        caller.client(f"https://model.test:{server.port}") as client,
    ):
        for _ in range(3):
            assert (await post(client, LARGE)).body == LARGE
    assert asked == ["model.test"]
    assert [request.body == LARGE for request in server.requests] == [True] * 3
    assert server.requests[0].header("host") == f"model.test:{server.port}"


@pytest.mark.parametrize(("name", "is_trusted"), [("model.test", False), ("other.test", True)])
async def test_a_server_that_is_not_who_it_should_be_is_sent_nothing(
    caller: Caller, authority: Authority, monkeypatch: pytest.MonkeyPatch, name: str, is_trusted: bool
) -> None:
    if is_trusted:
        monkeypatch.setenv("SSL_CERT_FILE", str(authority.ca_file))
    Names(monkeypatch).known["model.test"] = ["127.0.0.1"]
    async with (
        running(CannedServer(an_answer()), tls=authority.server_context(name, [])) as server,
        caller.client(f"https://model.test:{server.port}") as client,
    ):
        assert await failure_of(client) is Failure.NOT_CONNECTED
    assert server.requests == []


@pytest.mark.parametrize(
    ("greeting", "expected"),
    [
        (Then(an_answer(), Manner.HANG), Failure.NOT_CONNECTED),
        (Manner.RESET, Failure.NOT_CONNECTED),
        (Manner.HANG, Failure.TIMEOUT),
    ],
    ids=["plain", "reset", "silence"],
)
async def test_a_server_that_does_not_speak_tls_is_sent_nothing(
    caller: Caller, greeting: Then | Manner, expected: Failure
) -> None:
    canned = CannedServer(greeting=greeting if isinstance(greeting, Then) else Then(b"", greeting))
    async with (
        running(canned) as server,
        caller.client(server.url.replace("http:", "https:"), request_timeout_s=0.5) as client,
    ):
        assert await failure_of(client) is expected


async def test_a_secure_answer_that_breaks_off_is_none(
    caller: Caller, authority: Authority, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SSL_CERT_FILE", str(authority.ca_file))
    canned = CannedServer(Then(HEAD + b"\r\n{}", Manner.RESET))
    async with (
        running(canned, tls=authority.server_context("localhost", [])) as server,
        caller.client(f"https://localhost:{server.port}") as client,
    ):
        assert await failure_of(client) is Failure.BROKEN


# --- proxies ----------------------------------------------------------------------------------------------------------


async def test_a_proxy_is_asked_for_the_whole_url(caller: Caller, monkeypatch: pytest.MonkeyPatch) -> None:
    async with serving(an_answer()) as proxy:
        monkeypatch.setenv("http_proxy", proxy.url.replace("://", "://me:s%3Acret@"))
        async with caller.client("http://model.test:8000/a") as client:
            await post(client, b"{}")
            await post(client, b"{}")
    assert proxy.connections == 1
    request = proxy.requests[1]
    assert request.target == "http://model.test:8000/a/v1/chat/completions"
    assert request.header("host") == "model.test:8000"
    assert request.header("proxy-authorization") == "Basic bWU6czpjcmV0"


async def test_a_proxy_tunnels_to_a_server_that_speaks_tls(
    caller: Caller, authority: Authority, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SSL_CERT_FILE", str(authority.ca_file))
    tls = authority.server_context("model.test", [])
    async with running(CannedServer(an_answer(LARGE)), tls=tls) as server, tunnelling(server.port) as proxy:
        monkeypatch.setenv("https_proxy", f"http://me:secret@{proxy.url}")
        async with caller.client("https://model.test", model_api_key="sk-1") as client:
            for _ in range(2):
                assert (await post(client, LARGE)).body == LARGE
    (head,) = proxy.heads
    assert head.startswith("CONNECT model.test:443 HTTP/1.1\r\n")
    assert "proxy-authorization: basic bwu6c2vjcmv0" in head.lower()
    assert "sk-1" not in head
    assert server.requests[0].target == "/v1/chat/completions"
    assert (server.requests[0].header("host"), server.requests[0].header("proxy-authorization")) == ("model.test", None)


@pytest.mark.parametrize("words", [b"HTTP/1.1 403 No\r\nContent-Length: 0\r\n\r\n", b"HTTP/1.1 503 Busy\r\n\r\n"])
async def test_a_proxy_that_does_not_tunnel_took_nothing(
    caller: Caller, monkeypatch: pytest.MonkeyPatch, words: bytes
) -> None:
    async with tunnelling(9, words) as proxy:
        monkeypatch.setenv("https_proxy", f"http://{proxy.url}")
        async with caller.client("https://model.test") as client:
            assert await failure_of(client) is Failure.NOT_CONNECTED


async def test_a_proxy_that_is_down_took_nothing(caller: Caller, monkeypatch: pytest.MonkeyPatch) -> None:
    async with serving() as server:
        pass
    monkeypatch.setenv("http_proxy", server.url)
    async with caller.client("http://model.test") as client:
        assert await failure_of(client) is Failure.NOT_CONNECTED


@pytest.mark.parametrize("variable", [("no_proxy", "other.test,127.0.0.1"), ("http_proxy", "https://127.0.0.1:9")])
async def test_a_proxy_that_is_not_for_this_server_is_not_asked(
    caller: Caller, monkeypatch: pytest.MonkeyPatch, variable: tuple[str, str]
) -> None:
    async with serving() as server:
        monkeypatch.setenv("http_proxy", server.url)
    monkeypatch.setenv(*variable)
    assert (await caller.ask(an_answer())).status == 200
