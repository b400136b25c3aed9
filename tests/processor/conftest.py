"""What the processor's tests work with: a real bucket in a folder, and the stub model on a free port."""

import random
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from aiohttp import web

from nightshift_crds.bucket import open_bucket
from nightshift_crds.bucket.port import Bucket
from tests.processor.given import Model
from tests.stub_model import StubModel


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
