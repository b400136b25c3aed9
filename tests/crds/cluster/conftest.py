"""Every cluster adapter, by name: the conformance suite runs on each."""

from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from pathlib import Path

import pytest

from nightshift_crds.cluster import open_cluster
from nightshift_crds.cluster.port import Cluster
from tests.crds.cluster.scoped import ScopedCluster
from tests.faults.kubernetes import proxied_kubernetes
from tests.faults.weather import bad_weather

Opener = Callable[[Path], AbstractAsyncContextManager[Cluster]]


def open_sqlite(folder: Path) -> AbstractAsyncContextManager[Cluster]:
    """Open a cluster of the test's own."""
    return open_cluster(f"sqlite://{folder / 'cluster.db'}")


@pytest.fixture(
    params=[
        "sqlite",
        pytest.param("kube", marks=pytest.mark.cluster),
        pytest.param("kube-faults", marks=pytest.mark.cluster),
    ]
)
def opener(request: pytest.FixtureRequest) -> Opener:
    """Open the same cluster again, as another process would."""
    if request.param == "sqlite":
        return open_sqlite
    opener: Opener = request.getfixturevalue(request.param.replace("-", "_"))
    return opener


@pytest.fixture
def kube(kubeconfig: Path, namespace: str, monkeypatch: pytest.MonkeyPatch) -> Opener:
    @asynccontextmanager
    async def open_kube(_: Path) -> AsyncIterator[Cluster]:
        monkeypatch.setenv("KUBECONFIG", str(kubeconfig))
        async with open_cluster(f"kubernetes://{namespace}?requests_per_s=1000") as opened:
            yield ScopedCluster(opened, namespace)

    return open_kube


@pytest.fixture
def kube_faults(
    request: pytest.FixtureRequest, kubeconfig: Path, namespace: str, monkeypatch: pytest.MonkeyPatch
) -> Opener:
    weather = bad_weather(request.node.name)

    @asynccontextmanager
    async def open_kube(folder: Path) -> AsyncIterator[Cluster]:
        async with proxied_kubernetes(kubeconfig, folder, weather) as (_, through):
            monkeypatch.setenv("KUBECONFIG", str(through))
            async with open_cluster(f"kubernetes://{namespace}?requests_per_s=1000") as opened:
                yield ScopedCluster(opened, namespace)

    return open_kube


@pytest.fixture
async def cluster(opener: Opener, tmp_path: Path) -> AsyncIterator[Cluster]:
    async with opener(tmp_path) as opened:
        yield opened
