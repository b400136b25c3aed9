"""Where the input of a batch lies in the bucket, and whether its namespace may read it there (design 8).

Pure. A processor reads with the installation's rights, so a manifest is not trusted: a URI must have the bucket's own
URL and lie below a prefix that the settings allow for the namespace, never below `openai/`.
"""

from collections.abc import Collection

_OWN = "openai/"


def key_of_uri(uri: str, bucket_url: str, namespace: str, prefixes: Collection[str]) -> str | None:
    """Give the key that a URI names; None if the namespace may not read it.

    `prefixes` are entries `namespace=prefix`. A path that could be read in two ways is refused, not normalised.
    """
    base, key = f"{bucket_url}/", uri.removeprefix(f"{bucket_url}/")
    if not uri.startswith(base) or not _is_plain(key) or key.startswith(_OWN):
        return None
    allowed = [prefix for owner, _, prefix in (entry.partition("=") for entry in prefixes) if owner == namespace]
    return key if any(prefix and key.startswith(f"{prefix.rstrip('/')}/") for prefix in allowed) else None


def _is_plain(key: str) -> bool:
    parts = key.split("/")
    # Kubernetes would expand a `$` in the environment of a Job.
    return all(parts) and not {".", ".."} & set(parts) and not set("%?#$\\") & set(key) and key.isprintable()
