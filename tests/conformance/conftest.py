"""The services that the contract is held against: `nightshift local`, and the chart on a cluster."""

from collections.abc import Iterator
from typing import TYPE_CHECKING

import pytest

from tests.conformance.clients import Sdks, running
from tests.conformance.contract import STATEMENTS
from tests.conformance.findings import Findings, publish
from tests.conformance.local import a_local_target
from tests.conformance.target import Target
from tests.e2e.conftest import stub  # noqa: F401 - a fixture
from tests.e2e.installation import Stub

if TYPE_CHECKING:
    from tests.cluster.release import Release

_SLASHED = "team/stub:1"


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--publish", action="store_true", help="write what was shown into docs/conformance.json")


@pytest.fixture(scope="session")
def findings(request: pytest.FixtureRequest) -> Iterator[Findings]:
    """What this run shows; published at its end if that was asked for."""
    found = Findings()
    yield found
    if request.config.getoption("--publish", default=False):
        publish(STATEMENTS, found)


@pytest.fixture(scope="session")
def local(tmp_path_factory: pytest.TempPathFactory, stub: Stub) -> Iterator[Sdks]:  # noqa: F811 - the fixture
    """`nightshift local`, with what the SDKs find in it."""
    with a_local_target(tmp_path_factory.mktemp("conformance"), stub.url) as target, running(target) as sdks:
        yield sdks


@pytest.fixture(scope="session")
def cluster(release: "Release") -> Iterator[Sdks]:
    """The chart's Service, with what the SDKs find behind it."""
    from tests.cluster.release import KEY, SERVICE_MODEL  # noqa: PLC0415 - most runs need no Kubernetes client

    service = {"url": f"http://stub.{release.namespace}.svc:8000", "maxConcurrency": 8}
    model = {"apiVersion": "nightshift.dev/v1alpha1", "kind": "HostedModel", "metadata": {"name": "slashed"}}
    release.apply(model | {"spec": {"name": _SLASHED, "service": service}})
    with running(Target(release.base_url, KEY, (SERVICE_MODEL, _SLASHED))) as sdks:
        yield sdks
    release.kubectl("delete", "hostedmodel", "slashed")
