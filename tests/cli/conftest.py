"""The single-machine cluster that `nightshift local` runs on, and a server that does what a test says."""

from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest

from nightshift_crds.cluster import open_cluster
from nightshift_crds.cluster.port import Cluster
from tests.cli.stub_api import StubApi, serving


@pytest.fixture
async def cluster(tmp_path: Path) -> AsyncIterator[Cluster]:
    async with open_cluster(f"sqlite://{tmp_path / 'cluster.db'}") as opened:
        yield opened


@pytest.fixture
def api() -> Iterator[StubApi]:
    with serving() as started:
        yield started
