"""Read your own writes, whichever replica answers: how far an index must have come before a list is cut from it.

Whoever has written an object notes its version in one Lease before it answers; whoever lists reads the Lease first and
waits until its own index has come as far. The Lease holds one number for each namespace and kind, which only rises.
"""

import asyncio
from collections.abc import Mapping
from contextlib import suppress

from nightshift_crds.cluster.port import LEASE, Cluster, Kind, Manifest
from nightshift_crds.errors import AlreadyExists, Missing, Stale

Marks = Mapping[str, int]


def key_of(namespace: str, kind: Kind) -> str:
    """Name the annotation that holds a mark. Pure."""
    return f"{namespace}/{kind.plural}"


def marks_of(lease: Manifest) -> Marks:
    """Read the marks of a Lease. Pure."""
    return {key: int(text) for key, text in lease["metadata"].get("annotations", {}).items() if text.isdecimal()}


class MarksLease:
    """The marks of an installation; `lease` is the `namespace/name` of the Lease."""

    def __init__(self, cluster: Cluster, lease: str) -> None:
        self._cluster = cluster
        self._namespace, self._name = lease.split("/")
        self._wanted: dict[str, int] = {}
        self._written: dict[str, int] = {}
        self._writing = asyncio.Lock()

    async def read(self, namespace: str, kind: Kind) -> int:
        """Give the version of the last write that somebody was told of. Raises `Unavailable`."""
        try:
            lease = await self._cluster.get(LEASE, self._namespace, self._name)
        except Missing:
            return 0
        return marks_of(lease).get(key_of(namespace, kind), 0)

    async def raise_to(self, namespace: str, kind: Kind, version: int) -> None:
        """Note a write. Writes that come while one is being noted are noted together. Raises `Unavailable`."""
        key = key_of(namespace, kind)
        self._wanted[key] = max(version, self._wanted.get(key, 0))
        async with self._writing:
            if self._written.get(key, 0) < version:
                await self._write(dict(self._wanted))

    async def _write(self, wanted: dict[str, int]) -> None:
        while True:
            lease = await self._find_or_make()
            found = marks_of(lease)
            risen = {key: str(version) for key, version in wanted.items() if version > found.get(key, 0)}
            guard = {"resourceVersion": lease["metadata"]["resourceVersion"]}
            with suppress(Stale, Missing):  # another replica was faster, or somebody cleared up: look again
                if risen:
                    patch = {"metadata": guard | {"annotations": risen}}
                    await self._cluster.patch(LEASE, self._namespace, self._name, patch)
                self._written = wanted
                return

    async def _find_or_make(self) -> Manifest:
        with suppress(Missing):
            return await self._cluster.get(LEASE, self._namespace, self._name)
        metadata = {"name": self._name, "namespace": self._namespace}
        lease = {"apiVersion": LEASE.api_version, "kind": LEASE.kind, "metadata": metadata, "spec": {}}
        with suppress(AlreadyExists):
            return await self._cluster.create(LEASE, lease)
        return await self._cluster.get(LEASE, self._namespace, self._name)
