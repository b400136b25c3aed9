"""The local shell: the cluster port's own watches put names on the queue. On Kubernetes kopf does."""

import asyncio
from collections.abc import Callable
from contextlib import aclosing
from dataclasses import dataclass

import structlog

from nightshift_crds.cluster.port import BATCH_JOB, JOB, Cluster, Kind, Manifest, Selector
from nightshift_crds.errors import Stale, Unavailable
from nightshift_operator.controller import Key
from nightshift_operator.jobs import MANAGED_BY
from nightshift_operator.queue import WorkQueue

_log = structlog.get_logger()
UNSETTLED = Selector(fields="status.settled!=true")
_OUR_JOBS = Selector(labels=tuple(MANAGED_BY.items()))


@dataclass(frozen=True)
class Follower:
    """Follows batches and Jobs, and lists all open batches every now and then."""

    cluster: Cluster
    queue: WorkQueue[Key]
    resync_interval_s: float

    async def follow(self) -> None:
        """Feed the queue until cancelled."""
        async with asyncio.TaskGroup() as group:
            group.create_task(self._watch(BATCH_JOB, UNSETTLED, _own_key), name="watch batches")
            group.create_task(self._watch(JOB, _OUR_JOBS, _owner_key), name="watch jobs")
            group.create_task(self._resync(), name="resync")

    async def _resync(self) -> None:
        while True:
            await asyncio.sleep(self.resync_interval_s)
            try:
                await self._list(BATCH_JOB, UNSETTLED, _own_key)
            except (Stale, Unavailable) as error:
                _log.warning("resync.unavailable", problem=str(error))

    async def _watch(self, kind: Kind, selector: Selector, key_of: Callable[[Manifest], Key | None]) -> None:
        while True:
            try:
                since = await self._list(kind, selector, key_of)
                async with aclosing(self.cluster.watch(kind, selector, since)) as changes:
                    async for change in changes:
                        self._add(key_of(change.manifest))
            except (Stale, Unavailable) as error:
                _log.warning("watch.restarted", kind=kind.kind, problem=str(error))
                await asyncio.sleep(1)

    async def _list(self, kind: Kind, selector: Selector, key_of: Callable[[Manifest], Key | None]) -> str:
        """Put all on the queue; gives the version from which a watch misses nothing."""
        page = await self.cluster.list(kind, selector)
        since = page.resource_version
        while True:
            for manifest in page.items:
                self._add(key_of(manifest))
            if page.after is None:
                return since
            page = await self.cluster.list(kind, selector, after=page.after)

    def _add(self, key: Key | None) -> None:
        if key is not None:
            self.queue.add(key)


def _own_key(manifest: Manifest) -> Key:
    return Key(manifest["metadata"]["namespace"], manifest["metadata"]["name"])


def _owner_key(manifest: Manifest) -> Key | None:
    """Name the batch of a Job; None for a Job that only looks like ours."""
    owners = manifest["metadata"].get("ownerReferences", [])
    name = next((owner["name"] for owner in owners if owner["kind"] == BATCH_JOB.kind), None)
    return Key(manifest["metadata"]["namespace"], name) if name else None
