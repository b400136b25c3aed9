"""Where resources live: the port, its adapters, and the one place that chooses between them."""

from contextlib import AbstractAsyncContextManager
from pathlib import Path

from nightshift_crds.cluster.port import Cluster
from nightshift_crds.errors import Rejected


def open_cluster(url: str) -> AbstractAsyncContextManager[Cluster]:
    """Open the cluster that a setting names: `sqlite:///PATH`.

    Raises:
        Rejected: no adapter is for this URL.
    """
    scheme, _, path = url.partition("://")
    if scheme == "sqlite":
        from nightshift_crds.cluster.local import open_local  # noqa: PLC0415 - only `nightshift local` has CEL installed

        return open_local(Path(path))
    raise Rejected(f"Expected a cluster URL like sqlite:///PATH, got the scheme {scheme!r}.")
