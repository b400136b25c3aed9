"""What tests marked `cluster` stand on: a Kubernetes and a bucket emulator, a namespace and a bucket for each test.

And a collector of traces, for whoever makes some.
"""

import os
import subprocess
from collections.abc import Iterator
from contextlib import nullcontext
from pathlib import Path
from typing import TYPE_CHECKING
from uuid import uuid4

import hypothesis
import pytest

from nightshift_crds.otel import Tracing
from tests.collector import Collector, collecting, tracing_to
from tests.gcs import running_gcs

if TYPE_CHECKING:
    from kubernetes.client import CoreV1Api

    from tests.cluster.release import Release
    from tests.kubernetes import Kubernetes


# How long an example takes says more about the neighbours on this machine than about our code.
hypothesis.settings.register_profile("busy", deadline=None)
hypothesis.settings.register_profile("deep", deadline=None, max_examples=2_000)  # for `make fuzz`
hypothesis.settings.load_profile("busy")
_ON_A_CLUSTER = (Path(__file__).parent / "cluster", Path(__file__).parent / "charts")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark what stands in the folders of the cluster tier."""
    for item in items:
        if any(item.path.is_relative_to(folder) for folder in _ON_A_CLUSTER):
            item.add_marker("cluster")


def pytest_collection_finish(session: pytest.Session) -> None:
    """Start the cluster before the first test that needs one: it may have to be built, which takes long and says so."""
    if session.config.option.collectonly or not any(item.get_closest_marker("cluster") for item in session.items):
        return
    from tests.kubernetes import find_or_start  # noqa: PLC0415 - most runs need no Kubernetes client

    capture = session.config.pluginmanager.getplugin("capturemanager")
    with capture.global_and_fixture_disabled() if capture else nullcontext():
        try:
            find_or_start()
        except (ValueError, OSError, subprocess.CalledProcessError) as error:
            pytest.exit(f"there is no cluster for the tests: {error}", returncode=pytest.ExitCode.USAGE_ERROR)


@pytest.fixture(scope="session")
def kubernetes() -> "Iterator[Kubernetes]":
    """A running cluster with our CRDs."""
    from tests.kubernetes import find_or_start, install_crds  # noqa: PLC0415 - most tests need no Kubernetes client

    found = find_or_start()
    install_crds(found)
    yield found
    if found.stop and os.environ.get("CI") == "true":
        subprocess.run(found.stop, check=True)


@pytest.fixture(scope="session")
def kubeconfig(kubernetes: "Kubernetes") -> Path:
    """How to reach the cluster, as its administrator."""
    return kubernetes.kubeconfig


@pytest.fixture(scope="session")
def kubernetes_api(kubernetes: "Kubernetes") -> "Iterator[CoreV1Api]":
    """The cluster, beside the code under test."""
    from tests.kubernetes import connected  # noqa: PLC0415 - as above

    with connected(kubernetes) as api:
        yield api


@pytest.fixture
def namespace(kubernetes_api: "CoreV1Api") -> Iterator[str]:
    """A namespace of the test's own."""
    from tests.kubernetes import fresh_namespace  # noqa: PLC0415 - as above

    with fresh_namespace(kubernetes_api) as name:
        yield name


@pytest.fixture(scope="session")
def images(kubernetes: "Kubernetes") -> None:
    """The image of the roles, on the node."""
    from tests.cluster.release import load_images  # noqa: PLC0415 - as above

    load_images(kubernetes)


@pytest.fixture(scope="session")
def release(kubernetes: "Kubernetes", kubernetes_api: "CoreV1Api", images: None) -> "Iterator[Release]":
    """An installation of the chart that every test leaves running."""
    from tests.cluster.release import installed  # noqa: PLC0415 - as above
    from tests.kubernetes import fresh_namespace  # noqa: PLC0415 - as above

    with fresh_namespace(kubernetes_api) as namespace, installed(kubernetes, namespace, owns_crds=True) as made:
        yield made


@pytest.fixture(scope="session")
def gcs() -> Iterator[str]:
    """The URL of a bucket emulator."""
    from tests.kubernetes import tools  # noqa: PLC0415 - as above

    with running_gcs(tools() / "fake-gcs-server") as url:
        yield url


@pytest.fixture
def gcs_bucket(gcs: str, monkeypatch: pytest.MonkeyPatch) -> str:
    """The name of a new bucket in the emulator, which Google's client finds from here on."""
    from google.cloud import storage  # noqa: PLC0415 - most tests need no bucket client

    monkeypatch.setenv("STORAGE_EMULATOR_HOST", gcs)
    name = f"test-{uuid4().hex[:12]}"
    client = storage.Client()
    client.create_bucket(name)
    client.close()
    return name


@pytest.fixture
def collector() -> Iterator[Collector]:
    """Collect traces."""
    with collecting() as found:
        yield found


@pytest.fixture
def tracing(collector: Collector, monkeypatch: pytest.MonkeyPatch) -> Iterator[Tracing]:
    """Make spans that go there."""
    with tracing_to(collector, monkeypatch) as found:
        yield found
