"""Where bytes live: the port, its adapters, and the one place that chooses between them."""

from contextlib import AbstractAsyncContextManager
from pathlib import Path

from nightshift_crds.bucket.directory import open_directory
from nightshift_crds.bucket.port import Bucket
from nightshift_crds.errors import Rejected


def open_bucket(url: str) -> AbstractAsyncContextManager[Bucket]:
    """Open the bucket that a setting names: `gs://NAME` or `file:///PATH`.

    Raises:
        Rejected: no adapter is for this URL.
    """
    scheme, _, rest = url.partition("://")
    if scheme == "file":
        return open_directory(Path(rest))
    if scheme == "gs" and rest.strip("/"):
        from nightshift_crds.bucket.gcs import open_gcs  # noqa: PLC0415 - 40 MB that other buckets never need

        return open_gcs(rest.strip("/"))
    raise Rejected(f"Expected a bucket URL like gs://NAME or file:///PATH, got {url!r}.")
