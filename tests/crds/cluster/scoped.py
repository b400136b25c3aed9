"""A cluster whose namespace `team-a`, in which the builders put everything, is a namespace of the test's own.

So one suite runs on adapters that have a database for each test and on a Kubernetes that all tests share.
"""

from collections.abc import AsyncGenerator
from contextlib import aclosing
from dataclasses import replace
from typing import Any, TypeVar, cast

from nightshift_crds.cluster.port import (
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
from tests.builders import NAMESPACE

_T = TypeVar("_T")


class ScopedCluster:
    """The `Cluster` port, with one namespace called otherwise on the way in and on the way out."""

    def __init__(self, cluster: Cluster, namespace: str) -> None:
        self._cluster = cluster
        self._namespace = namespace

    async def get(self, kind: Kind, namespace: str, name: str) -> Manifest:
        return self._out(await self._cluster.get(kind, self._in(namespace), name))

    async def list(
        self, kind: Kind, selector: Selector = EVERYTHING, *, limit: int = PAGE_SIZE, after: str | None = None
    ) -> Page:
        page = await self._cluster.list(kind, self._select(selector), limit=limit, after=after)
        return replace(page, items=self._out(page.items))

    async def create(self, kind: Kind, manifest: Manifest) -> Manifest:
        return self._out(await self._cluster.create(kind, self._in(manifest)))

    async def patch(self, kind: Kind, namespace: str, name: str, patch: Manifest) -> Manifest:
        return self._out(await self._cluster.patch(kind, self._in(namespace), name, patch))

    async def patch_status(self, kind: Kind, namespace: str, name: str, patch: Manifest) -> Manifest:
        return self._out(await self._cluster.patch_status(kind, self._in(namespace), name, patch))

    async def delete(
        self,
        kind: Kind,
        namespace: str,
        name: str,
        *,
        propagation: Propagation,
        uid: str = "",
        grace_s: int | None = None,
    ) -> None:
        await self._cluster.delete(kind, self._in(namespace), name, propagation=propagation, uid=uid, grace_s=grace_s)

    async def watch(self, kind: Kind, selector: Selector, since: str) -> AsyncGenerator[Change, None]:
        async with aclosing(self._cluster.watch(kind, self._select(selector), since)) as changes:
            async for change in changes:
                yield replace(change, manifest=self._out(change.manifest))

    async def record_event(self, about: Manifest, *, warning: bool, reason: str, message: str) -> None:
        await self._cluster.record_event(self._in(about), warning=warning, reason=reason, message=message)

    def _select(self, selector: Selector) -> Selector:
        return replace(selector, namespace=self._in(selector.namespace))

    def _in(self, value: _T) -> _T:
        return _rename(value, NAMESPACE, self._namespace)

    def _out(self, value: _T) -> _T:
        return _rename(value, self._namespace, NAMESPACE)


def _rename(value: _T, old: str, new: str) -> _T:
    """Write another name for a namespace wherever a manifest has it."""
    renamed: Any = new if value == old else value
    if isinstance(value, dict):
        renamed = {key: _rename(inner, old, new) for key, inner in value.items()}
    if isinstance(value, list):
        renamed = [_rename(inner, old, new) for inner in value]
    return cast("_T", renamed)
