"""Ports that are interrupted: what a test plans happens just before a call, or fails it by raising."""

from collections import deque
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable
from contextlib import aclosing
from dataclasses import dataclass, replace
from typing import Any, TypeVar

from nightshift_crds.bucket.port import Bucket, ObjectInfo
from nightshift_crds.cluster.around import AroundCluster
from nightshift_crds.cluster.port import (
    EVENT,
    EVERYTHING,
    LEASE,
    PAGE_SIZE,
    Change,
    Cluster,
    Kind,
    Manifest,
    Page,
    Selector,
)
from tests.api.harness import Api

_T = TypeVar("_T")
Deed = Callable[[], Awaitable[Any]]


class _Plan:
    """What is going to happen before which call."""

    def __init__(self) -> None:
        self._deeds: dict[str, deque[Deed]] = {}

    def before(self, call: str, *deeds: Deed) -> None:
        """Do one of the deeds before each of the next calls of that name."""
        self._deeds[call] = deque(deeds)

    async def _interrupt(self, call: str) -> None:
        deeds = self._deeds.get(call)
        if deeds:
            await deeds.popleft()()


class InterruptedCluster(_Plan, AroundCluster):
    """The `Cluster` port over another one; every call about a Lease is a `lease`."""

    def __init__(self) -> None:
        super().__init__()
        self.page_size = PAGE_SIZE
        self._alter: Callable[[Manifest], Manifest] = _as_it_is

    def around(self, inner: Cluster) -> Cluster:
        self.inner = inner
        return self

    def alter_lists(self, alter: Callable[[Manifest], Manifest]) -> None:
        """Show other manifests in lists and watches than there are, as a cluster does whose schema was another once."""
        self._alter = alter

    async def _pass(self, verb: str, kind: Kind, call: Callable[[], Awaitable[_T]]) -> _T:
        if kind is not EVENT:
            await self._interrupt("lease" if kind is LEASE else verb)
        return await call()

    async def list(
        self, kind: Kind, selector: Selector = EVERYTHING, *, limit: int = PAGE_SIZE, after: str | None = None
    ) -> Page:
        page = await super().list(kind, selector, limit=min(limit, self.page_size), after=after)
        return Page([self._alter(item) for item in page.items], page.after, page.resource_version)

    async def watch(self, kind: Kind, selector: Selector, since: str) -> AsyncGenerator[Change, None]:
        async with aclosing(super().watch(kind, selector, since)) as changes:
            async for change in changes:
                await self._interrupt("change")
                yield replace(change, manifest=self._alter(change.manifest))


def _as_it_is(manifest: Manifest) -> Manifest:
    return manifest


class InterruptedBucket(_Plan):
    """The `Bucket` port over another one.

    Besides its calls there are `chunk`, in the middle of a stream that is put, and `answer`, when a put is done and its
    caller does not know it yet.
    """

    inner: Bucket
    bytes_read = 0

    def around(self, inner: Bucket) -> Bucket:
        self.inner = inner
        return self

    @property
    def url(self) -> str:
        return self.inner.url

    async def put(self, key: str, data: bytes | AsyncIterator[bytes], *, create_only: bool) -> ObjectInfo:
        await self._interrupt("put")
        info = await self.inner.put(
            key, data if isinstance(data, bytes) else self._go_by(data), create_only=create_only
        )
        await self._interrupt("answer")
        return info

    async def _go_by(self, data: AsyncIterator[bytes]) -> AsyncIterator[bytes]:
        async for chunk in data:
            await self._interrupt("chunk")
            yield chunk

    async def read(self, key: str, start: int = 0, end: int | None = None) -> AsyncGenerator[bytes, None]:
        await self._interrupt("read")
        async with aclosing(self.inner.read(key, start, end)) as chunks:
            async for chunk in chunks:
                self.bytes_read += len(chunk)
                yield chunk

    async def head(self, key: str) -> ObjectInfo | None:
        await self._interrupt("head")
        return await self.inner.head(key)

    async def checksum(self, key: str) -> int:
        return await self.inner.checksum(key)

    async def list(self, prefix: str, *, after: str = "") -> AsyncGenerator[ObjectInfo, None]:
        await self._interrupt("list")
        async with aclosing(self.inner.list(prefix, after=after)) as infos:
            async for info in infos:
                yield info

    async def delete(self, key: str) -> None:
        await self._interrupt("delete")
        await self.inner.delete(key)


@dataclass(frozen=True)
class Weak:
    """An API whose ports fail on demand."""

    api: Api
    bucket: InterruptedBucket
    cluster: InterruptedCluster


def failing(error: Exception) -> Deed:
    """A deed that fails the call before which it is planned."""

    async def fail() -> None:
        raise error

    return fail
