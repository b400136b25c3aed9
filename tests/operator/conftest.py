"""The single-machine cluster and bucket that the operator's own tests run on."""

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from nightshift_crds.bucket import open_bucket
from nightshift_crds.bucket.port import Bucket
from nightshift_crds.cluster import open_cluster
from nightshift_crds.cluster.port import Cluster
from nightshift_operator.settings import Settings
from tests.operator.world import World


@pytest.fixture
async def cluster(tmp_path: Path) -> AsyncIterator[Cluster]:
    async with open_cluster(f"sqlite://{tmp_path / 'cluster.db'}") as opened:
        yield opened


@pytest.fixture
async def bucket(tmp_path: Path) -> AsyncIterator[Bucket]:
    async with open_bucket(f"file://{tmp_path / 'bucket'}") as opened:
        yield opened


@pytest.fixture
def world(cluster: Cluster, bucket: Bucket, tmp_path: Path) -> World:
    url = f"sqlite://{tmp_path / 'cluster.db'}"
    settings = Settings(cluster=url, bucket=bucket.url, uri_prefixes=("team-a=shared/a",))
    return World(cluster, bucket, settings)
