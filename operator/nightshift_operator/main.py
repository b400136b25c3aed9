"""`nightshift-operator`: read the settings, hold the Lease, reconcile until SIGTERM."""

import asyncio
import os
import signal
import sys
import time
from contextlib import suppress
from dataclasses import dataclass
from datetime import timedelta

import structlog

from nightshift_crds.bucket import open_bucket
from nightshift_crds.bucket.port import Bucket
from nightshift_crds.cluster import is_kubernetes, open_cluster, parse_namespaces
from nightshift_crds.cluster.lease import holding_lease
from nightshift_crds.cluster.port import BATCH_JOB, Cluster
from nightshift_crds.errors import Missing, Refused, Rejected
from nightshift_crds.logs import configure_logs
from nightshift_crds.metering import MeteredBucket, MeteredCluster
from nightshift_crds.metrics import showing
from nightshift_crds.parent import end_with_parent
from nightshift_crds.several import errands
from nightshift_crds.tracing import open_tracing
from nightshift_operator.apply import Applier
from nightshift_operator.budget import Budget
from nightshift_operator.controller import Controller, Key
from nightshift_operator.courier import Courier, Endpoints
from nightshift_operator.follow import Follower
from nightshift_operator.kopf_shell import KopfShell
from nightshift_operator.metrics import Metrics
from nightshift_operator.observe import Observer
from nightshift_operator.poster import Poster, open_poster
from nightshift_operator.queue import WorkQueue
from nightshift_operator.resync import Resync
from nightshift_operator.settings import Settings
from nightshift_operator.sweep import Sweep
from nightshift_operator.tracing import Traces
from nightshift_operator.view import Policy

_log = structlog.get_logger()


def main() -> None:
    """Run the role; exits with 2 if a setting is wrong or the CRDs are missing, with 1 after any other failure."""
    configure_logs("operator")
    end_with_parent(os.environ)
    try:
        settings = Settings.load(os.environ)
        with open_tracing("operator", os.environ) as tracing:
            asyncio.run(operate(settings, Traces.of(tracing, os.environ, settings.tracing_headers_secret)))
    except Rejected as error:
        sys.stderr.write(f"nightshift-operator: {error.message}\n")
        sys.exit(2)
    except Exception:  # noqa: BLE001 - whatever it is: said once, as a line of the log
        _log.exception("operator.failed")
        sys.exit(1)


async def operate(settings: Settings, traces: Traces) -> None:
    """Reconcile until told to stop."""
    task = asyncio.current_task()
    assert task is not None
    for signal_number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(signal_number, task.cancel)
    with suppress(asyncio.CancelledError):  # by a signal, wherever it finds us: waiting for the Lease, for instance
        endpoints, metrics = Endpoints(settings.webhooks_file), Metrics(settings.metrics_max_models)
        async with (
            open_cluster(settings.cluster) as plain,
            open_bucket(settings.bucket) as bucket,
            open_poster(settings) as poster,
        ):
            cluster = MeteredCluster(plain, metrics.page)
            await _check_crds(cluster)
            namespace, _, name = settings.lease.partition("/")
            _log.info("operator.waiting", lease=settings.lease)
            async with holding_lease(cluster, namespace, name, settings.holder, on_lost=_end_at_once):
                _log.info("operator.started")
                with showing(metrics.page, settings):
                    metered = MeteredBucket(bucket, metrics.page)
                    await _work(Ports(cluster, metered, poster, endpoints, metrics, traces), settings)
    _log.info("operator.stopped")


async def _check_crds(cluster: Cluster) -> None:
    """Raise `Rejected` if batches cannot be read: what a shell would otherwise do is wait for them for ever."""
    try:
        await cluster.list(BATCH_JOB, limit=1)
    except Missing:
        message = (
            "The cluster does not know BatchJobs. Apply the CRDs first: kubectl apply -f crds/ (the chart has them)."
        )
        raise Rejected(message) from None
    except Refused as error:
        raise Rejected(f"The cluster does not let the operator read BatchJobs: {error}") from None


def _end_at_once() -> None:
    """End without another write: somebody else is at work by now."""
    _log.error("operator.lease_lost")
    os._exit(1)


@dataclass(frozen=True)
class Ports:
    """What of the world the operator reads and changes."""

    cluster: Cluster
    bucket: Bucket
    poster: Poster
    endpoints: Endpoints
    metrics: Metrics
    traces: Traces


async def _work(ports: Ports, settings: Settings) -> None:
    cluster, bucket, metrics = ports.cluster, ports.bucket, ports.metrics
    queue: WorkQueue[Key] = WorkQueue(time.monotonic)
    metrics.watch_queue(queue.depth, queue.oldest_s)
    concurrency = settings.webhook_concurrency
    courier = Courier(ports.endpoints, ports.poster, concurrency, lambda *batch: queue.add(Key(*batch)))
    window = timedelta(seconds=settings.completion_window_s)
    budget = Budget(settings.progress_writes_per_s, time.monotonic)
    controller = Controller(
        observer=Observer(cluster, bucket, window, settings.uri_prefixes, settings.gpu_label, courier),
        applier=Applier(cluster, bucket, settings, budget, courier, metrics, ports.traces),
        policy=Policy.of(settings),
        queue=queue,
        metrics=metrics,
    )
    async with errands() as start:
        start(controller.work(settings.workers))
        start(Sweep(cluster, bucket, settings, metrics).run())
        start(Resync(cluster, queue, settings.resync_interval_s).run())
        # kopf takes every task that is born after it for its own, and ends it as it ends.
        await asyncio.sleep(0)
        await _shell(cluster, queue, settings).follow()


def _shell(cluster: Cluster, queue: WorkQueue[Key], settings: Settings) -> Follower | KopfShell:
    if is_kubernetes(settings.cluster):
        return KopfShell(queue, parse_namespaces(settings.cluster), settings.probe_port)
    return Follower(cluster, queue)
