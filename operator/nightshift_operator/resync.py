"""Put every open batch on the queue again and again: events are hints, this list is the truth (design 6).

It runs beside either shell.
"""

import asyncio
from dataclasses import dataclass

import structlog

from nightshift_crds.cluster.port import BATCH_JOB, Cluster, each
from nightshift_crds.errors import Refused, Stale, Unavailable
from nightshift_operator.controller import Key
from nightshift_operator.follow import UNSETTLED, key_of_batch
from nightshift_operator.queue import WorkQueue

_log = structlog.get_logger()


@dataclass(frozen=True)
class Resync:
    """Lists the batches of one installation that something is left to do for."""

    cluster: Cluster
    queue: WorkQueue[Key]
    interval_s: float

    async def run(self) -> None:
        """Make a pass every interval, until cancelled; the shell's own list is the first."""
        while True:
            await asyncio.sleep(self.interval_s)
            try:
                async for manifest in each(self.cluster, BATCH_JOB, UNSETTLED):
                    self.queue.add(key_of_batch(manifest))
            except (Refused, Stale, Unavailable) as error:
                _log.warning("resync.unavailable", problem=str(error))
