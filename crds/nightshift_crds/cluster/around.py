"""The `Cluster` port over another one: whatever stands around a cluster says only what it does otherwise."""

from collections.abc import AsyncGenerator, Awaitable, Callable
from typing import TypeVar

from nightshift_crds.cluster.port import (
    EVENT,
    EVERYTHING,
    PAGE_SIZE,
    Change,
    Cluster,
    Kind,
    Manifest,
    Page,
    Propagation,
    Selector,
)

_T = TypeVar("_T")


class AroundCluster:
    """Passes every call on. Override a call, or `_pass` for all but `watch`: their verb, their kind, and how to go on.

    An event that is recorded is a `create` of one.
    """

    def __init__(self, inner: Cluster) -> None:
        self.inner = inner

    async def _pass(self, verb: str, kind: Kind, call: Callable[[], Awaitable[_T]]) -> _T:
        del verb, kind
        return await call()

    async def get(self, kind: Kind, namespace: str, name: str) -> Manifest:
        """See the port."""
        return await self._pass("get", kind, lambda: self.inner.get(kind, namespace, name))

    async def list(
        self, kind: Kind, selector: Selector = EVERYTHING, *, limit: int = PAGE_SIZE, after: str | None = None
    ) -> Page:
        """See the port."""
        return await self._pass("list", kind, lambda: self.inner.list(kind, selector, limit=limit, after=after))

    async def create(self, kind: Kind, manifest: Manifest) -> Manifest:
        """See the port."""
        return await self._pass("create", kind, lambda: self.inner.create(kind, manifest))

    async def patch(self, kind: Kind, namespace: str, name: str, patch: Manifest) -> Manifest:
        """See the port."""
        return await self._pass("patch", kind, lambda: self.inner.patch(kind, namespace, name, patch))

    async def patch_status(self, kind: Kind, namespace: str, name: str, patch: Manifest) -> Manifest:
        """See the port."""
        return await self._pass("patch_status", kind, lambda: self.inner.patch_status(kind, namespace, name, patch))

    async def delete(  # noqa: PLR0913 - the port's signature
        self,
        kind: Kind,
        namespace: str,
        name: str,
        *,
        propagation: Propagation,
        uid: str = "",
        grace_s: int | None = None,
    ) -> None:
        """See the port."""

        async def delete() -> None:
            await self.inner.delete(kind, namespace, name, propagation=propagation, uid=uid, grace_s=grace_s)

        await self._pass("delete", kind, delete)

    def watch(self, kind: Kind, selector: Selector, since: str) -> AsyncGenerator[Change, None]:
        """See the port."""
        return self.inner.watch(kind, selector, since)

    async def record_event(self, about: Manifest, *, warning: bool, reason: str, message: str) -> None:
        """See the port."""

        async def record() -> None:
            await self.inner.record_event(about, warning=warning, reason=reason, message=message)

        await self._pass("create", EVENT, record)
