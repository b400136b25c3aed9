"""`nightshift-operator`: read the settings, hold the Lease, reconcile until SIGTERM."""

import asyncio
import os
import signal
import sys
import time
from datetime import timedelta

import structlog

from nightshift_crds.bucket import open_bucket
from nightshift_crds.bucket.port import Bucket
from nightshift_crds.cluster import open_cluster
from nightshift_crds.cluster.lease import holding_lease
from nightshift_crds.cluster.port import Cluster
from nightshift_crds.errors import Rejected
from nightshift_crds.logs import configure_logs
from nightshift_crds.parent import end_with_parent
from nightshift_operator.apply import Applier
from nightshift_operator.budget import Budget
from nightshift_operator.controller import Controller, Key
from nightshift_operator.follow import Follower
from nightshift_operator.observe import Observer
from nightshift_operator.queue import WorkQueue
from nightshift_operator.settings import Settings
from nightshift_operator.sweep import Sweep
from nightshift_operator.view import Policy

_log = structlog.get_logger()


def main() -> None:
    """Run the role; exits with 2 if a setting is wrong."""
    configure_logs("operator")
    end_with_parent(os.environ)
    try:
        asyncio.run(operate(Settings.load(os.environ)))
    except Rejected as error:
        sys.stderr.write(f"nightshift-operator: {error.message}\n")
        sys.exit(2)


async def operate(settings: Settings) -> None:
    """Reconcile until told to stop, or until the Lease is lost."""
    stop = asyncio.Event()
    for signal_number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(signal_number, stop.set)
    async with open_cluster(settings.cluster) as cluster, open_bucket(settings.bucket) as bucket:
        namespace, _, name = settings.lease.partition("/")
        async with holding_lease(cluster, namespace, name, settings.holder, on_lost=stop.set):
            _log.info("operator.started")
            await _work_until(stop, cluster, bucket, settings)
    _log.info("operator.stopped")


async def _work_until(stop: asyncio.Event, cluster: Cluster, bucket: Bucket, settings: Settings) -> None:
    queue: WorkQueue[Key] = WorkQueue(time.monotonic)
    window = timedelta(seconds=settings.completion_window_s)
    controller = Controller(
        observer=Observer(cluster, bucket, window, settings.uri_prefixes),
        applier=Applier(cluster, bucket, settings, Budget(settings.progress_writes_per_s, time.monotonic)),
        policy=Policy.of(settings),
        queue=queue,
    )
    async with asyncio.TaskGroup() as group:
        parts = [
            group.create_task(Follower(cluster, queue, settings.resync_interval_s).follow(), name="follow"),
            group.create_task(controller.work(settings.workers), name="work"),
            group.create_task(Sweep(cluster, bucket, settings).run(), name="sweep"),
        ]
        await stop.wait()
        for part in parts:
            part.cancel()
