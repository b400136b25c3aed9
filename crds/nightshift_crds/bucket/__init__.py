"""Where bytes live: the port, its adapters, and the one place that chooses between them."""

from contextlib import AbstractAsyncContextManager
from pathlib import Path

from nightshift_crds.bucket.directory import open_directory
from nightshift_crds.bucket.port import Bucket
from nightshift_crds.errors import Rejected


def open_bucket(url: str) -> AbstractAsyncContextManager[Bucket]:
    """Open the bucket that a setting names: `file:///PATH`.

    Raises:
        Rejected: no adapter is for this URL.
    """
    scheme, _, path = url.partition("://")
    if scheme == "file":
        return open_directory(Path(path))
    raise Rejected(f"Expected a bucket URL like file:///PATH, got the scheme {scheme!r}.")
