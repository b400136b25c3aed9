"""Every bucket adapter, by name: the conformance suite runs on each."""

from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager
from pathlib import Path

import pytest

from nightshift_crds.bucket import open_bucket
from nightshift_crds.bucket.port import Bucket

ADAPTERS: dict[str, Callable[[Path], AbstractAsyncContextManager[Bucket]]] = {
    "directory": lambda folder: open_bucket(f"file://{folder / 'bucket'}"),
}


@pytest.fixture(params=sorted(ADAPTERS))
async def bucket(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[Bucket]:
    async with ADAPTERS[request.param](tmp_path) as opened:
        yield opened
