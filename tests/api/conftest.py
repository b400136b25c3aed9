"""The API that most tests talk to, with the default settings."""

from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import pytest_asyncio

from tests.api.faults import InterruptedBucket, InterruptedCluster, Weak
from tests.api.harness import Api, open_api


@pytest.fixture
async def api(tmp_path: Path) -> AsyncIterator[Api]:
    async with open_api(tmp_path) as opened:
        yield opened


@pytest.fixture
async def weak(tmp_path: Path) -> AsyncIterator[Weak]:
    bucket, cluster = InterruptedBucket(), InterruptedCluster()
    async with open_api(tmp_path, around_bucket=bucket.around, around_cluster=cluster.around) as api:
        yield Weak(api, bucket, cluster)


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def lasting_api(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Api]:
    """One for all tests of a module that run in its loop: for tables, and for what Hypothesis makes up."""
    async with open_api(tmp_path_factory.mktemp("api")) as opened:
        yield opened
