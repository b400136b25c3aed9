"""Where resources live: the port, its adapters, and the one place that chooses between them."""

from contextlib import AbstractAsyncContextManager
from pathlib import Path
from urllib.parse import parse_qsl, unquote, urlsplit

from nightshift_crds.cluster.port import Cluster
from nightshift_crds.errors import Rejected

_REQUESTS_PER_S = 50.0


def open_cluster(url: str) -> AbstractAsyncContextManager[Cluster]:
    """Open the cluster that a setting names: `kubernetes://NAMESPACE,...?requests_per_s=50`, or `sqlite:///PATH`.

    Without a namespace an installation serves all of them.

    Raises:
        Rejected: no adapter is for this URL.
    """
    parts = urlsplit(url if "://" in url else "")
    if parts.scheme == "sqlite":
        from nightshift_crds.cluster.local import open_local  # noqa: PLC0415 - only `nightshift local` has CEL installed

        return open_local(Path(unquote(parts.path)))
    if parts.scheme == "kubernetes":
        from nightshift_crds.cluster.kube import open_kube  # noqa: PLC0415 - 60 MB that `nightshift local` never needs

        return open_kube(parse_namespaces(url), _parse_rate(parts.query))
    raise Rejected(f"Expected a cluster URL like kubernetes://NAMESPACE or sqlite:///PATH, got {parts.scheme!r}.")


def is_kubernetes(url: str) -> bool:
    """Tell whether a cluster URL is for a real Kubernetes."""
    return urlsplit(url).scheme == "kubernetes"


def parse_namespaces(url: str) -> tuple[str, ...]:
    """Name the namespaces that an installation on Kubernetes serves; none means all."""
    return tuple(name for name in urlsplit(url).netloc.split(",") if name)


def _parse_rate(query: str) -> float:
    text = dict(parse_qsl(query)).get("requests_per_s", str(_REQUESTS_PER_S))
    try:
        rate = float(text)
    except ValueError:
        rate = 0.0
    if not 1 <= rate <= 10_000:
        raise Rejected("Expected requests_per_s in the cluster URL to be a number from 1 to 10000.")
    return rate
