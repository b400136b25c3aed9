"""What a model server says of its load: pages as vLLM, SGLang and llama.cpp write them, and how they are asked for."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest
from aiohttp import web
from hypothesis import given
from hypothesis import strategies as st

from nightshift_crds.bucket.port import Bucket
from nightshift_processor.flow import Flow, Load, Rules
from nightshift_processor.load import parse_load, watch_load
from tests.processor.given import run_settings

VLLM = """\
# HELP vllm:num_requests_running Number of requests in model execution batches.
# TYPE vllm:num_requests_running gauge
vllm:num_requests_running{engine="0",model_name="org/a model {1}"} 12.0
# TYPE vllm:num_requests_waiting gauge
vllm:num_requests_waiting{engine="0",model_name="org/a model {1}"} 3.0
vllm:num_requests_waiting_by_reason{engine="0",reason="capacity"} 99.0
vllm:kv_cache_usage_perc{engine="0",model_name="org/a model {1}"} 0.25
"""
SGLANG = """\
sglang:num_running_reqs{model_name="m"} 5.0
sglang:num_queue_reqs{model_name="m"} 2.0
sglang:token_usage{model_name="m"} 0.28
"""
LLAMA_CPP = """\
llamacpp:requests_processing 4
llamacpp:requests_deferred 1
"""


# --- reading ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("page", "load"),
    [
        (VLLM, Load(12, 3, 0.25)),
        (VLLM.replace("kv_cache", "gpu_cache"), Load(12, 3, 0.25)),
        (VLLM.replace("\n", "\r\n"), Load(12, 3, 0.25)),
        (VLLM + VLLM.replace('"0"', '"1"').replace("0.25", "0.75"), Load(24, 6, 0.75)),
        (SGLANG, Load(5, 2, 0.28)),
        (LLAMA_CPP, Load(4, 1, 0.0)),
        (LLAMA_CPP.replace("4", "4 1700000000000"), Load(4, 1, 0.0)),
        (VLLM.replace("0.25", "NaN"), Load(12, 3, 0.0)),
        (VLLM.replace("12.0", "lots"), None),
        (VLLM.replace("12.0", "+Inf"), None),
        (VLLM.replace("12.0", "-1"), None),
        ("vllm:num_requests_running 1\n", None),
        ("<html>not found</html>", None),
        ("", None),
    ],
)
def test_a_page_is_read_as_its_server_writes_it(page: str, load: Load | None) -> None:
    assert parse_load(page) == load


@given(st.text())
def test_no_page_is_too_strange(page: str) -> None:
    assert parse_load(page) is None


# --- asking -----------------------------------------------------------------------------------------------------------


class Page:
    """A page of metrics that is as it was set, and how often it was asked for."""

    def __init__(self) -> None:
        self.status = 200
        self.text = VLLM
        self.asked = asyncio.Event()
        self.keys: list[str | None] = []
        self.url = ""

    async def show(self, request: web.Request) -> web.Response:
        self.keys.append(request.headers.get("authorization"))
        self.asked.set()
        return web.Response(status=self.status, text=self.text)

    async def was_asked_again(self) -> None:
        """Wait until an answer that was begun after this call is past."""
        for _ in range(2):
            self.asked.clear()
            await self.asked.wait()


@asynccontextmanager
async def watched(bucket: Bucket, page: Page, flow: Flow) -> AsyncIterator["asyncio.Task[None]"]:
    """Have a flow told of a page, served at the root beside `/v1`."""
    app = web.Application()
    app.router.add_get("/metrics", page.show)
    runner = web.AppRunner(app, access_log=None, shutdown_timeout=1)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    page.url = f"http://127.0.0.1:{runner.addresses[0][1]}/v1"
    settings = run_settings(bucket, model_url=page.url, load_interval_s=0.001, model_api_key="sk-1")
    watching = asyncio.create_task(watch_load(settings, flow))
    yield watching
    watching.cancel()
    await asyncio.wait([watching])
    await runner.cleanup()


def a_shared_flow() -> Flow:
    """Give a flow that follows what it learns at once: it has all of its 8 requests in flight, and a share of 2."""
    flow = Flow(Rules(8, share=0.25, is_shared=False))
    while flow.enter(0.0):
        pass
    return flow


async def test_a_flow_is_told_of_the_load_again_and_again(bucket: Bucket) -> None:
    page, flow = Page(), a_shared_flow()
    page.text = "vllm:num_requests_running 8\nvllm:num_requests_waiting 0\n"
    async with watched(bucket, page, flow):
        await page.was_asked_again()
        assert flow.limit == 8
        page.text = VLLM
        await page.was_asked_again()
        assert flow.limit == 2
    assert set(page.keys) == {"Bearer sk-1"}


@pytest.mark.parametrize(
    ("status", "text"),
    [(404, ""), (401, ""), (302, VLLM), (200, "<html>"), (200, ""), (200, "x" * (5 << 20))],
    ids=["absent", "forbidden", "elsewhere", "a page for people", "empty", "endless"],
)
async def test_a_server_that_tells_nothing_is_not_asked_again(bucket: Bucket, status: int, text: str) -> None:
    page, flow = Page(), a_shared_flow()
    page.status, page.text = status, text
    async with watched(bucket, page, flow) as watching:
        await watching
    assert len(page.keys) == 1
    assert flow.limit == 8


async def test_a_server_in_trouble_is_asked_again(bucket: Bucket) -> None:
    page, flow = Page(), a_shared_flow()
    page.status = 503
    async with watched(bucket, page, flow):
        await page.was_asked_again()
        assert flow.limit == 8
        page.status = 200
        await page.was_asked_again()
        assert flow.limit == 2


async def test_a_server_that_is_not_there_is_waited_for(bucket: Bucket) -> None:
    told = asyncio.Event()

    class Told(Flow):
        def go_blind(self) -> None:
            told.set()

    settings = run_settings(bucket, model_url="http://127.0.0.1:9", load_interval_s=0.001)
    watching = asyncio.create_task(watch_load(settings, Told(Rules(8))))
    await told.wait()
    told.clear()
    await told.wait()
    watching.cancel()
    await asyncio.wait([watching])
