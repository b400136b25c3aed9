"""The shell on Kubernetes: kopf watches batches and their Jobs and puts their names on the queue. It does no more.

Handlers are of the low-level kind: they cost no write, no annotation and no finalizer (kubernetes.md 2.3). What a watch
misses is found by the resync. kopf serves the probe too, and ends the process when a watch cannot go on.
"""

import asyncio
import random
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import kopf
import structlog

from nightshift_crds.cluster.port import BATCH_JOB, JOB
from nightshift_crds.models import GROUP, VERSION
from nightshift_operator.controller import Key
from nightshift_operator.follow import UNSETTLED, batch_of_job
from nightshift_operator.jobs import MANAGED_BY
from nightshift_operator.queue import WorkQueue

_log = structlog.get_logger()
_BATCH_JOBS = (GROUP, VERSION, BATCH_JOB.plural)
_JOBS = ("batch", "v1", JOB.plural)
_PAGE = 500
_OLDEST_S = 300.0
"""A name that has been due for longer than this means that the workers hang."""


@dataclass(frozen=True)
class KopfShell:
    """Follows the batches of the namespaces that an installation serves; none means all."""

    queue: WorkQueue[Key]
    namespaces: tuple[str, ...]
    probe_port: int

    async def follow(self) -> None:
        """Feed the queue until cancelled, or until kopf ends: by a signal, which it takes for itself, or by a failure."""
        stop = asyncio.Event()
        running = asyncio.create_task(self._operate(stop), name="kopf")
        try:
            await asyncio.shield(running)
        except asyncio.CancelledError:
            stop.set()
            await running
            raise

    async def _operate(self, stop: asyncio.Event) -> None:
        await kopf.operator(
            registry=build_registry(self.queue),
            settings=build_settings(),
            standalone=True,
            clusterwide=not self.namespaces,
            namespaces=self.namespaces,
            liveness_endpoint=f"http://0.0.0.0:{self.probe_port}/healthz",
            stop_flag=stop,
        )


def build_registry(queue: WorkQueue[Key]) -> kopf.OperatorRegistry:
    """Register one line for each kind that is watched."""
    registry = kopf.OperatorRegistry()
    kopf.on.event(*_BATCH_JOBS, registry=registry, id="batch")(
        lambda namespace, name, **_: queue.add(Key(namespace, name))
    )
    kopf.on.event(*_JOBS, registry=registry, id="job", labels=MANAGED_BY)(lambda body, **_: _add_batch(queue, body))
    kopf.on.login(registry=registry, id="login")(log_in)
    kopf.on.probe(registry=registry, id="oldest_key_age_s")(lambda **_: check_age(queue.oldest_s()))
    return registry


def _add_batch(queue: WorkQueue[Key], job: Any) -> None:
    key = batch_of_job(job)
    if key:
        queue.add(key)


def log_in(**options: Any) -> kopf.ConnectionInfo | None:
    """Use the pod's ServiceAccount, or outside of a cluster KUBECONFIG."""
    return kopf.login_with_service_account(**options) or kopf.login_with_kubeconfig(**options)


def check_age(oldest_s: float) -> float:
    """Pass the age of the longest-waiting name on to the probe; raises for one that no worker will ever take. Pure."""
    if oldest_s > _OLDEST_S:
        raise kopf.PermanentError(f"a batch has been waiting for {oldest_s:.0f} s")
    return round(oldest_s, 1)


def build_settings(luck: Callable[[], float] = random.random) -> kopf.OperatorSettings:
    """Build kopf's settings; the reason of each is in kubernetes.md 2.6."""
    settings = kopf.OperatorSettings()
    settings.scanning.disabled = True
    settings.posting.enabled = False
    settings.persistence.finalizer = f"{GROUP}/kopf"
    settings.persistence.progress_storage = kopf.AnnotationsProgressStorage(prefix=GROUP)
    settings.persistence.diffbase_storage = kopf.AnnotationsDiffBaseStorage(prefix=GROUP)
    settings.watching.field_selectors[_BATCH_JOBS] = UNSETTLED.fields
    settings.watching.label_selectors[_JOBS] = ",".join(f"{key}={value}" for key, value in MANAGED_BY.items())
    settings.watching.chunk_size = _PAGE
    settings.watching.server_timeout = 300
    settings.watching.connect_timeout = 10
    settings.networking.request_timeout = 30
    settings.networking.error_backoffs = tuple(s * (0.75 + 0.5 * luck()) for s in (1, 2, 5, 10))
    settings.process.ultimate_exiting_timeout = 60
    return settings
