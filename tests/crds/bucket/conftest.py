"""Every bucket adapter, by name: the conformance suite runs on each."""

from collections.abc import AsyncIterator
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from pathlib import Path

import pytest

from nightshift_crds.bucket import open_bucket
from nightshift_crds.bucket.port import Bucket
from tests.faults.proxy import running_proxy
from tests.faults.weather import bad_weather

Opened = AbstractAsyncContextManager[Bucket]


@pytest.fixture(
    params=[
        "directory",
        pytest.param("gcs", marks=pytest.mark.cluster),
        pytest.param("gcs-faults", marks=pytest.mark.cluster),
    ]
)
async def bucket(request: pytest.FixtureRequest) -> AsyncIterator[Bucket]:
    opened: Opened = request.getfixturevalue(f"{request.param.replace('-', '_')}_opened")
    async with opened as bucket:
        yield bucket


@pytest.fixture
def directory_opened(tmp_path: Path) -> Opened:
    return open_bucket(f"file://{tmp_path / 'bucket'}")


@pytest.fixture
def gcs_opened(gcs_bucket: str) -> Opened:
    return open_bucket(f"gs://{gcs_bucket}")


@pytest.fixture
def gcs_faults_opened(
    request: pytest.FixtureRequest, gcs: str, gcs_bucket: str, monkeypatch: pytest.MonkeyPatch
) -> Opened:
    weather = bad_weather(request.node.name)

    @asynccontextmanager
    async def opened() -> AsyncIterator[Bucket]:
        async with running_proxy(gcs, weather) as proxy:
            monkeypatch.setenv("STORAGE_EMULATOR_HOST", proxy.url)
            async with open_bucket(f"gs://{gcs_bucket}") as bucket:
                yield bucket

    return opened()
