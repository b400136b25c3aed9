"""The single-machine cluster that `nightshift local` runs on."""

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from nightshift_crds.cluster import open_cluster
from nightshift_crds.cluster.port import Cluster


@pytest.fixture
async def cluster(tmp_path: Path) -> AsyncIterator[Cluster]:
    async with open_cluster(f"sqlite://{tmp_path / 'cluster.db'}") as opened:
        yield opened
