"""The stream of events: what is told, to whom, and when it ends. On a real port: an ASGI client knows no streams."""

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from nightshift_api.console.messages import render_event
from nightshift_api.news import News
from nightshift_crds.keys import render_keys
from nightshift_crds.lifecycle import Phase
from tests.api.given import SliceLog, a_batch_in, move
from tests.api.harness import KEY, OTHER_KEY, OTHER_NAMESPACE, Api
from tests.api.serving import Served, open_served
from tests.api.test_auth import replace
from tests.builders import NAMESPACE

OURS = {"nightshift-console": "1", "sec-fetch-site": "same-origin"}
QUICK: dict[str, Any] = {"console_poll_s": 0.05}


@dataclass
class Reader:
    """Somebody who reads a stream."""

    content: aiohttp.StreamReader

    async def next(self, name: str) -> Any:
        """Read on until an event of that name; gives its data."""
        async with asyncio.timeout(10):
            while True:
                lines = (await self.content.readuntil(b"\n\n")).decode().strip().split("\n")
                told = dict(line.split(": ", 1) for line in lines)
                if told.get("event") == name:
                    return json.loads(told["data"])

    async def rest(self) -> bytes:
        async with asyncio.timeout(10):
            return await self.content.read()


@asynccontextmanager
async def signed_in(served: Served, key: str = KEY) -> AsyncIterator[aiohttp.ClientSession]:
    jar = aiohttp.CookieJar(unsafe=True)  # also of an address that is a number
    async with aiohttp.ClientSession(f"http://127.0.0.1:{served.port}", headers=OURS, cookie_jar=jar) as session:
        async with session.post("/console/session", json={"key": key}) as answer:
            assert answer.status == 200
        yield session


@asynccontextmanager
async def reading(session: aiohttp.ClientSession, **query: str) -> AsyncIterator[Reader]:
    async with session.get("/console/events", params=query) as answer:
        assert answer.status == 200
        assert answer.headers["content-type"].startswith("text/event-stream")
        yield Reader(answer.content)


async def test_changes_are_told_as_they_happen(tmp_path: Path) -> None:
    async with open_served(tmp_path, **QUICK) as served, signed_in(served) as session, reading(session) as reader:
        assert (await reader.next("hello"))["totals"] == {}
        batch_id = (await served.api.create_batch())["id"]
        assert (await reader.next("batch"))["id"] == batch_id
        assert await reader.next("totals") == {"validating": 1}
        await move(served.api, batch_id, Phase.IN_PROGRESS)
        assert (await reader.next("batch"))["status"] == "in_progress"


async def test_other_namespaces_are_not_told_of(tmp_path: Path) -> None:
    async with (
        open_served(tmp_path, **QUICK) as served,
        signed_in(served, OTHER_KEY) as other,
        reading(other) as theirs,
        signed_in(served) as session,
        reading(session) as ours,
    ):
        await served.api.create_batch()
        await ours.next("totals")
        replace(served.api.keys_file, render_keys({}))
        assert b"batch" not in await theirs.rest()


async def test_the_batch_in_detail_is_told_with_what_the_bucket_knows(tmp_path: Path) -> None:
    async with open_served(tmp_path, **QUICK) as served, signed_in(served) as session:
        batch = await a_batch_in(served.api, Phase.IN_PROGRESS, counts={"total": 5, "completed": 0, "failed": 0})
        async with reading(session, batch=batch.id) as reader:
            assert (await reader.next("detail"))["request_counts"]["completed"] == 0
            await SliceLog(served.api.bucket, batch.metadata.uid).append([b"{}\n", b"{}\n"])
            assert (await reader.next("detail"))["request_counts"]["completed"] == 2
            await move(served.api, batch.id, Phase.FINALIZING, Phase.COMPLETED)
            while (await reader.next("detail"))["status"] != "completed":
                pass


async def test_a_batch_that_there_is_not_ends_no_stream(tmp_path: Path) -> None:
    async with (
        open_served(tmp_path, **QUICK) as served,
        signed_in(served) as session,
        reading(session, batch="batch_nothing") as reader,
    ):
        await reader.next("hello")
        await served.api.create_batch()
        await reader.next("batch")


async def test_who_comes_back_is_told_whether_anything_was_missed(tmp_path: Path) -> None:
    async with open_served(tmp_path, **QUICK) as served, signed_in(served) as session:
        await served.api.create_batch()
        seen = await version_after(session, served.api)
        async with reading(session, seen=seen) as reader:
            assert (await reader.next("hello"))["missed"] is False
        await served.api.create_batch()
        await settled(served.api)
        async with reading(session, seen=seen) as reader:
            assert (await reader.next("hello"))["missed"] is True


async def version_after(session: aiohttp.ClientSession, api: Api) -> str:
    await settled(api)
    async with session.get("/console/events") as answer:
        lines = (await answer.content.readuntil(b"\n\n")).decode().split("\n")
    return next(line for line in lines if line.startswith("id: ")).removeprefix("id: ")


async def settled(api: Api) -> None:
    """Wait until the index has come as far as the last write."""
    await api.get("batches")


async def test_a_stream_ends_when_its_key_is_revoked(tmp_path: Path) -> None:
    async with open_served(tmp_path, **QUICK) as served, signed_in(served) as session, reading(session) as reader:
        await reader.next("hello")
        replace(served.api.keys_file, render_keys({OTHER_KEY: OTHER_NAMESPACE}))
        await reader.next("signed-out")
        assert await reader.rest() == b""


async def test_a_stream_ends_when_its_key_opens_another_namespace(tmp_path: Path) -> None:
    async with open_served(tmp_path, **QUICK) as served, signed_in(served) as session, reading(session) as reader:
        await reader.next("hello")
        replace(served.api.keys_file, render_keys({KEY: OTHER_NAMESPACE, OTHER_KEY: NAMESPACE}))
        await reader.next("signed-out")


async def test_a_key_has_so_many_streams_and_another_key_its_own(tmp_path: Path) -> None:
    async with (
        open_served(tmp_path, max_console_streams=1, **QUICK) as served,
        signed_in(served) as session,
        signed_in(served, OTHER_KEY) as other,
    ):
        async with reading(session) as reader:
            await reader.next("hello")
            assert await status_of(session) == 429
            async with reading(other) as theirs:
                await theirs.next("hello")
        async with asyncio.timeout(10):
            while await status_of(session) == 429:  # the server learns in its own time that a reader has gone
                pass


async def status_of(session: aiohttp.ClientSession) -> int:
    async with session.get("/console/events") as answer:
        return answer.status


async def test_a_stream_does_not_hold_up_the_end_of_the_process(tmp_path: Path) -> None:
    async with open_served(tmp_path, **QUICK) as served, signed_in(served) as session, reading(session) as reader:
        await reader.next("hello")
        served.server.should_exit = True
        assert b"signed-out" not in await reader.rest()


def test_an_event_is_written_as_browsers_read_it() -> None:
    assert render_event("totals", {"a": 1}, "7") == b'event: totals\nid: 7\ndata: {"a": 1}\n\n'
    assert render_event("batch", b'{"a":1}') == b'event: batch\ndata: {"a":1}\n\n'
    with pytest.raises(ValueError, match="middle of its data"):
        render_event("batch", b"{\n}")


async def test_news_are_counted_once_and_only_those_of_ones_own_namespace() -> None:
    news = News("here")
    news.note("here", "a")
    news.note("there", "b")
    news.note("here", "a")
    assert await news.take(1) == ["a"]
    assert await news.take(0) == []


async def test_news_that_nobody_reads_are_forgotten_rather_than_heaped_up() -> None:
    news = News("here")
    for n in range(10_000):
        news.note("here", str(n))
    assert await news.take(1) is None, "the reader is told to look at everything again"
    assert await news.take(0) == []
