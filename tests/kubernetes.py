"""The Kubernetes that the tests run on: found or started, and never one that people work with.

In this order: the one of NIGHTSHIFT_TEST_KUBECONFIG, `kind` where Docker runs, the `cluster` tool of this repository.
What was started stays up for the next run, except where CI=true. `python -m tests.kubernetes` (`make cluster`) starts
it where its progress can be seen: the first time there is a Kubernetes to build.
"""

import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from uuid import uuid4

import yaml
from kubernetes.client import ApiClient, CoreV1Api, V1Namespace, V1ObjectMeta
from kubernetes.config import new_client_from_config

_HERE = Path(__file__).parent
_TOOL = (sys.executable, str(_HERE / "cluster" / "cluster"))  # in our own Python, which has pip
_CRDS = _HERE.parent / "crds"
KIND = "nightshift"
_KIND_CONFIG = _HERE.parent / "build" / "kind.kubeconfig"
_CONTEXTS = ("kind-", "nightshift")
"""How the name of a context begins that tests may fill and empty."""


@dataclass(frozen=True)
class Kubernetes:
    """A cluster for tests; `stop` is the command that ends it, empty if it is not ours to end."""

    kubeconfig: Path
    stop: tuple[str, ...] = ()

    @property
    def is_kind(self) -> bool:
        """Whether images come to the nodes by way of Docker."""
        return self.stop[:1] == ("kind",)

    def tool(self, *arguments: str | Path) -> str:
        """Run the `cluster` tool; gives what it printed."""
        return _output(*_TOOL, *arguments)

    def kubectl(self, *arguments: str | Path) -> str:
        """Run kubectl; gives what it printed."""
        return _output(tools() / "kubectl", f"--kubeconfig={self.kubeconfig}", *arguments)


def find_or_start() -> Kubernetes:
    """Give the cluster that tests shall use, running."""
    if named := os.environ.get("NIGHTSHIFT_TEST_KUBECONFIG"):
        return Kubernetes(check_context(Path(named)))
    if _has_kind():
        return Kubernetes(_start_kind(), ("kind", "delete", "cluster", f"--name={KIND}"))
    kubeconfig = Path(_output(*_TOOL, "up").strip())
    return Kubernetes(kubeconfig, (*_TOOL, "down", "--wipe"))


def check_context(kubeconfig: Path) -> Path:
    """Give a kubeconfig back if its current context may be a test's. Raises ValueError."""
    context = str(yaml.safe_load(kubeconfig.read_text()).get("current-context", ""))
    if not context.startswith(_CONTEXTS):
        allowed = " or ".join(f"{start}*" for start in _CONTEXTS)
        raise ValueError(
            f"NIGHTSHIFT_TEST_KUBECONFIG: tests create and delete things, so its current context must be called "
            f"{allowed}, not {context!r}"
        )
    return kubeconfig


def tools() -> Path:
    """Give the folder of kubectl, Helm and fake-gcs-server."""
    return Path(_output(*_TOOL, "tools").strip())


def _has_kind() -> bool:
    if not (shutil.which("kind") and shutil.which("docker")):
        return False
    return subprocess.run(["docker", "info"], capture_output=True, check=False).returncode == 0


def _start_kind() -> Path:
    _KIND_CONFIG.parent.mkdir(exist_ok=True)
    where = (f"--name={KIND}", f"--kubeconfig={_KIND_CONFIG}")
    if KIND in _output("kind", "get", "clusters").split():
        _output("kind", "export", "kubeconfig", *where)
    else:
        _output("kind", "create", "cluster", "--wait=2m", *where)
    return _KIND_CONFIG


def _output(*command: str | Path) -> str:
    """Run a command that must succeed; what it says on standard error goes through."""
    return subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout


def install_crds(kubernetes: Kubernetes) -> None:
    """Bring the cluster's CRDs up to those of this checkout."""
    kubernetes.kubectl("apply", "--server-side", "--force-conflicts", "-f", _CRDS)
    kubernetes.kubectl("wait", "--for=condition=Established", "--timeout=60s", "-f", _CRDS)


@contextmanager
def connected(kubernetes: Kubernetes) -> Iterator[CoreV1Api]:
    """Talk to the cluster, beside the code under test."""
    with new_client_from_config(str(kubernetes.kubeconfig)) as client:  # type: ignore[no-untyped-call]  # partly typed
        assert isinstance(client, ApiClient)
        yield CoreV1Api(client)


@contextmanager
def fresh_namespace(api: CoreV1Api) -> Iterator[str]:
    """Make a namespace; its end does not wait until all in it is gone."""
    name = f"test-{uuid4().hex[:12]}"
    api.create_namespace(V1Namespace(metadata=V1ObjectMeta(name=name)))
    try:
        yield name
    finally:
        api.delete_namespace(name)


if __name__ == "__main__":
    try:
        tools()
        sys.stdout.write(f"{find_or_start().kubeconfig}\n")
    except (ValueError, OSError, subprocess.CalledProcessError) as error:
        sys.exit(f"there is no cluster for the tests: {error}")
