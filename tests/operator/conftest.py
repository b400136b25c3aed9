"""The single-machine cluster and bucket that the operator's own tests run on."""

from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from nightshift_crds.bucket import open_bucket
from nightshift_crds.bucket.port import Bucket
from nightshift_crds.cluster import open_cluster
from nightshift_crds.cluster.port import Cluster
from nightshift_operator.settings import Settings
from tests.operator.world import World

if TYPE_CHECKING:
    from tests.operator.real import Real


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


@pytest.fixture
async def real(  # noqa: PLR0917 - fixtures
    kubeconfig: Path,
    namespace: str,
    tmp_path: Path,
    bucket: Bucket,
    unused_tcp_port_factory: Callable[[], int],
    monkeypatch: pytest.MonkeyPatch,
) -> "AsyncIterator[Real]":
    """A namespace of a real cluster in which only pods without any rights may run."""
    from tests.kubernetes import tools  # noqa: PLC0415 - most tests need no Kubernetes client
    from tests.operator.real import Real  # noqa: PLC0415 - as above

    monkeypatch.setenv("KUBECONFIG", str(kubeconfig))
    url = f"kubernetes://{namespace}?requests_per_s=1000"
    async with open_cluster(url) as opened:
        world = World(opened, bucket, Settings(cluster=url, bucket=bucket.url))
        real = Real(opened, world, namespace, kubeconfig, tools() / "kubectl", unused_tcp_port_factory)
        await real.run("label", "namespace", namespace, "pod-security.kubernetes.io/enforce=restricted")
        await real.run("create", "serviceaccount", "nightshift-processor")
        yield real
