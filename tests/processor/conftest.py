"""What the processor's tests work with: a real bucket in a folder, and the stub model on a free port."""

import asyncio
import gc
import random
from collections.abc import AsyncIterator, Callable, Iterator, Mapping
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
import uvloop
from aiohttp import web

from nightshift_crds.bucket import open_bucket
from nightshift_crds.bucket.port import Bucket
from nightshift_processor.settings import HttpClient
from tests.processor.caller import Caller
from tests.processor.given import Model
from tests.stub_model import StubModel


def pytest_asyncio_loop_factories(item: pytest.Item) -> Mapping[str, Callable[[], asyncio.AbstractEventLoop]]:
    """Test clients on the loop that the processor has and on the standard one; the rest on the latter."""
    loops: dict[str, Callable[[], asyncio.AbstractEventLoop]] = {"asyncio": asyncio.new_event_loop}
    is_of_clients = isinstance(item, pytest.Function) and "caller" in item.fixturenames
    return loops | {"uvloop": uvloop.new_event_loop} if is_of_clients else loops


@pytest.fixture(params=list(HttpClient))
def caller(request: pytest.FixtureRequest, bucket: Bucket) -> Iterator[Caller]:
    """Give each client in turn. On uvloop aiohttp leaves sockets to the garbage collector when TLS has failed."""
    if request.param is HttpClient.AIOHTTP:
        request.node.add_marker(pytest.mark.filterwarnings("ignore:unclosed <socket:ResourceWarning"))
    yield Caller(request.param, bucket)
    gc.collect()


@pytest.fixture
async def bucket(tmp_path: Path) -> AsyncIterator[Bucket]:
    async with open_bucket(f"file://{tmp_path / 'bucket'}") as opened:
        yield opened


@pytest.fixture
async def model() -> AsyncIterator[Model]:
    stub = StubModel(latency_s=0)
    runner = web.AppRunner(stub.build_app(), access_log=None, shutdown_timeout=1)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    yield Model(stub, f"http://127.0.0.1:{runner.addresses[0][1]}")
    stub.let_go.set()
    await runner.cleanup()


@pytest.fixture
def soon() -> str:
    """Give a deadline that a run will see."""
    return (datetime.now(UTC) + timedelta(seconds=0.4)).isoformat()


@pytest.fixture
def no_backoff(monkeypatch: pytest.MonkeyPatch) -> None:
    """Have luck that never waits: neither for the model server nor for the bucket."""
    monkeypatch.setattr(random, "random", lambda: 0.0)
    monkeypatch.setattr(random, "uniform", lambda low, _: low)
