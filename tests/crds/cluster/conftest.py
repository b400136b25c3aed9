"""Every cluster adapter, by name: the conformance suite runs on each."""

from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from pathlib import Path

import pytest

from nightshift_crds.cluster import open_cluster
from nightshift_crds.cluster.port import Cluster
from tests.crds.cluster.scoped import ScopedCluster

Opener = Callable[[Path], AbstractAsyncContextManager[Cluster]]


def _open_sqlite(folder: Path) -> AbstractAsyncContextManager[Cluster]:
    return open_cluster(f"sqlite://{folder / 'cluster.db'}")


@pytest.fixture(params=["sqlite", pytest.param("kube", marks=pytest.mark.cluster)])
def opener(request: pytest.FixtureRequest) -> Opener:
    """Open the same cluster again, as another process would."""
    return _open_sqlite if request.param == "sqlite" else request.getfixturevalue(f"open_{request.param}")


@pytest.fixture
def open_kube(kubeconfig: Path, namespace: str, monkeypatch: pytest.MonkeyPatch) -> Opener:
    @asynccontextmanager
    async def open_scoped(_: Path) -> AsyncIterator[Cluster]:
        monkeypatch.setenv("KUBECONFIG", str(kubeconfig))
        async with open_cluster(f"kubernetes://{namespace}?requests_per_s=1000") as opened:
            yield ScopedCluster(opened, namespace)

    return open_scoped


@pytest.fixture
async def cluster(opener: Opener, tmp_path: Path) -> AsyncIterator[Cluster]:
    async with opener(tmp_path) as opened:
        yield opened
