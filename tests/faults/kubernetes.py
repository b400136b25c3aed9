"""The proxy before an API server: a kubeconfig that leads through it."""

import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import yaml
from kubernetes.aio.client import Configuration
from kubernetes.aio.config import load_kube_config

from tests.faults.proxy import Proxy, Script, fair, running_proxy


@asynccontextmanager
async def proxied_kubernetes(
    kubeconfig: Path, folder: Path, script: Script = fair
) -> AsyncIterator[tuple[Proxy, Path]]:
    """Run a proxy before a cluster; gives it with the kubeconfig that leads through it.

    The client speaks plain HTTP to it, and its token goes through; a client certificate the proxy shows in its place.
    """
    real = Configuration()
    await load_kube_config(str(kubeconfig), client_configuration=real)  # type: ignore[no-untyped-call]  # partly typed
    tls = ssl.create_default_context(cafile=real.ssl_ca_cert)
    if real.cert_file:
        tls.load_cert_chain(real.cert_file, real.key_file)
    async with running_proxy(str(real.host), script, tls) as proxy:
        yield proxy, _lead_to(proxy.url, kubeconfig, folder)


def _lead_to(url: str, kubeconfig: Path, folder: Path) -> Path:
    config = yaml.safe_load(kubeconfig.read_text())
    for cluster in config["clusters"]:
        cluster["cluster"] = {"server": url}
    through = folder / f"through-{url.rpartition(':')[2]}.kubeconfig"
    through.write_text(yaml.safe_dump(config))
    return through
