"""Every cluster adapter, by name: the conformance suite runs on each."""

from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager
from pathlib import Path

import pytest

from nightshift_crds.cluster import open_cluster
from nightshift_crds.cluster.port import Cluster

Opener = Callable[[Path], AbstractAsyncContextManager[Cluster]]
ADAPTERS: dict[str, Opener] = {
    "sqlite": lambda folder: open_cluster(f"sqlite://{folder / 'cluster.db'}"),
}


@pytest.fixture(params=sorted(ADAPTERS))
def opener(request: pytest.FixtureRequest) -> Opener:
    """Open the same cluster again, as another process would."""
    return ADAPTERS[request.param]


@pytest.fixture
async def cluster(opener: Opener, tmp_path: Path) -> AsyncIterator[Cluster]:
    async with opener(tmp_path) as opened:
        yield opened
