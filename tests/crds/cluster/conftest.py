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
def kube(kubeconfig: Path, namespace: str) -> Opener:
    return lambda _: open_scoped(kubeconfig, namespace)


@pytest.fixture
def kube_faults(request: pytest.FixtureRequest, kubeconfig: Path, namespace: str) -> Opener:
    weather = bad_weather(request.node.name)

    @asynccontextmanager
    async def open_proxied(folder: Path) -> AsyncIterator[Cluster]:
        async with (
            proxied_kubernetes(kubeconfig, folder, weather) as (_, through),
            open_scoped(through, namespace) as opened,
        ):
            yield opened

    return open_proxied


@asynccontextmanager
async def open_scoped(kubeconfig: Path, namespace: str) -> AsyncIterator[Cluster]:
    """Open one namespace of a Kubernetes, under the name that the builders use."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("KUBECONFIG", str(kubeconfig))
        async with open_cluster(f"kubernetes://{namespace}?requests_per_s=1000") as opened:
            yield ScopedCluster(opened, namespace)


@pytest.fixture
async def cluster(opener: Opener, tmp_path: Path) -> AsyncIterator[Cluster]:
    async with opener(tmp_path) as opened:
        yield opened
