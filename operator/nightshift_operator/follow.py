"""The local shell: the cluster port's own watches put names on the queue. On Kubernetes kopf does.

Whose name an object brings is decided here for both shells.
"""

import asyncio
from collections.abc import Callable, Mapping
from contextlib import aclosing
from dataclasses import dataclass
from typing import Any

import structlog

from nightshift_crds.cluster.port import BATCH_JOB, JOB, Cluster, Kind, Selector
from nightshift_crds.errors import Stale, Unavailable
from nightshift_operator.controller import Key
from nightshift_operator.jobs import MANAGED_BY
from nightshift_operator.queue import WorkQueue

_log = structlog.get_logger()
UNSETTLED = Selector(fields="status.settled!=true")
_OUR_JOBS = Selector(labels=tuple(MANAGED_BY.items()))


@dataclass(frozen=True)
class Follower:
    """Follows batches and Jobs."""

    cluster: Cluster
    queue: WorkQueue[Key]

    async def follow(self) -> None:
        """Feed the queue until cancelled."""
        async with asyncio.TaskGroup() as group:
            group.create_task(self._watch(BATCH_JOB, UNSETTLED, key_of_batch), name="watch batches")
            group.create_task(self._watch(JOB, _OUR_JOBS, batch_of_job), name="watch jobs")

    async def _watch(self, kind: Kind, selector: Selector, key_of: Callable[[Mapping[str, Any]], Key | None]) -> None:
        while True:
            try:
                since = await self._list(kind, selector, key_of)
                async with aclosing(self.cluster.watch(kind, selector, since)) as changes:
                    async for change in changes:
                        self._add(key_of(change.manifest))
            except (Stale, Unavailable) as error:
                _log.warning("watch.restarted", kind=kind.kind, problem=str(error))
                await asyncio.sleep(1)

    async def _list(self, kind: Kind, selector: Selector, key_of: Callable[[Mapping[str, Any]], Key | None]) -> str:
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


def key_of_batch(manifest: Mapping[str, Any]) -> Key:
    """Name a batch. Pure."""
    return Key(manifest["metadata"]["namespace"], manifest["metadata"]["name"])


def batch_of_job(manifest: Mapping[str, Any]) -> Key | None:
    """Name the batch of a Job; None for a Job that only looks like ours. Pure."""
    owners = manifest["metadata"].get("ownerReferences", [])
    name = next((owner["name"] for owner in owners if owner["kind"] == BATCH_JOB.kind), None)
    return Key(manifest["metadata"]["namespace"], name) if name else None
