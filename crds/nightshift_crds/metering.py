"""Both ports, counted: around whichever adapter a role has opened, so that the figures mean the same everywhere.

What is counted is calls of the ports as they end for a role, with the status that Kubernetes gives to such an end; what
an adapter tries again meanwhile is one call.
"""

from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable
from typing import TypeVar

from prometheus_client import Counter

from nightshift_crds.bucket.port import Bucket, ObjectInfo
from nightshift_crds.cluster.around import AroundCluster
from nightshift_crds.cluster.port import Change, Cluster, Kind, Selector
from nightshift_crds.errors import (
    AlreadyExists,
    Denied,
    Missing,
    NightshiftError,
    Refused,
    Stale,
    Unauthenticated,
    Unavailable,
)
from nightshift_crds.metrics import Page as MetricsPage

_T = TypeVar("_T")
_CODES: dict[type[NightshiftError], str] = {
    Missing: "404",
    AlreadyExists: "409",
    Stale: "409",
    Denied: "403",
    Refused: "422",
    Unauthenticated: "401",
    Unavailable: "503",
}
"""Of two kinds of which one is the other too, the narrower comes first."""


async def _counted(counter: Counter, call: Awaitable[_T], *labels: str) -> _T:
    """Wait for a call and count how it ended; one that its caller gives up has not."""
    try:
        result = await call
    except tuple(_CODES) as error:
        code = next(code for kind, code in _CODES.items() if isinstance(error, kind))
        counter.labels(*labels, code).inc()
        raise
    counter.labels(*labels, "200").inc()
    return result


class MeteredCluster(AroundCluster):
    """The `Cluster` port over another one, counted."""

    def __init__(self, inner: Cluster, page: MetricsPage) -> None:
        super().__init__(inner)
        self._calls = page.counter(
            "kubernetes_calls_total",
            "Calls of the cluster by what they do, to which resource, and how they ended: 409 is a conflict, 401"
            " and 403 a missing right, 422 another refusal, 503 no answer after all tries.",
            "verb",
            "resource",
            "code",
        )

    async def _pass(self, verb: str, kind: Kind, call: Callable[[], Awaitable[_T]]) -> _T:
        return await _counted(self._calls, call(), verb, kind.plural)

    def watch(self, kind: Kind, selector: Selector, since: str) -> AsyncGenerator[Change, None]:
        """See the port. Counted as it begins: its changes are many, and nothing stands between them and the reader."""
        self._calls.labels("watch", kind.plural, "200").inc()
        return super().watch(kind, selector, since)


class MeteredBucket:
    """The `Bucket` port over another one, counted."""

    def __init__(self, inner: Bucket, page: MetricsPage) -> None:
        self._inner = inner
        self._calls = page.counter(
            "bucket_calls_total",
            "Calls of the bucket by what they do and how they ended, in the same codes; reads and lists are counted as"
            " they begin.",
            "operation",
            "code",
        )
        self._written = page.counter("bucket_written_bytes_total", "Bytes written to the bucket.")

    @property
    def url(self) -> str:
        """See the port."""
        return self._inner.url

    async def put(self, key: str, data: bytes | AsyncIterator[bytes], *, create_only: bool) -> ObjectInfo:
        """See the port."""
        info = await _counted(self._calls, self._inner.put(key, data, create_only=create_only), "put")
        self._written.inc(info.size)
        return info

    def read(self, key: str, start: int = 0, end: int | None = None) -> AsyncGenerator[bytes, None]:
        """See the port."""
        self._calls.labels("read", "200").inc()
        return self._inner.read(key, start, end)

    async def head(self, key: str) -> ObjectInfo | None:
        """See the port."""
        return await _counted(self._calls, self._inner.head(key), "head")

    async def checksum(self, key: str) -> int:
        """See the port."""
        return await _counted(self._calls, self._inner.checksum(key), "checksum")

    def list(self, prefix: str, *, after: str = "") -> AsyncGenerator[ObjectInfo, None]:
        """See the port."""
        self._calls.labels("list", "200").inc()
        return self._inner.list(prefix, after=after)

    async def delete(self, key: str) -> None:
        """See the port."""
        await _counted(self._calls, self._inner.delete(key), "delete")
