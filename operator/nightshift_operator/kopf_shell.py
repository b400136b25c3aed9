"""The shell on Kubernetes: kopf watches batches and their Jobs and puts their names on the queue. It does no more.

Handlers are of the low-level kind: they cost no write, no annotation and no finalizer (kubernetes.md 2.3). What a watch
misses is found by the resync. kopf serves the probe too, and ends the process when a watch cannot go on.
"""

import asyncio
import logging
import random
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any

import kopf

from nightshift_crds.cluster.port import BATCH_JOB, JOB
from nightshift_crds.models import GROUP, VERSION
from nightshift_operator.controller import Key
from nightshift_operator.follow import UNSETTLED, batch_of_job, key_of_batch
from nightshift_operator.jobs import MANAGED_BY
from nightshift_operator.queue import WorkQueue

_BATCH_JOBS = (GROUP, VERSION, BATCH_JOB.plural)
_JOBS = ("batch", "v1", JOB.plural)
_PAGE = 500
_OLDEST_S = 300.0
"""A name that has been due for longer than this means that the workers hang."""
_TALKATIVE = ("kopf", "aiohttp.access")
"""Loggers that have a line for every event and every probe."""


@dataclass(frozen=True)
class KopfShell:
    """Follows the batches of the namespaces that an installation serves; none means all."""

    queue: WorkQueue[Key]
    namespaces: tuple[str, ...]
    probe_port: int

    async def follow(self) -> None:
        """Feed the queue until cancelled, or until kopf ends: by a signal, which it takes for itself, or a failure."""
        for name in _TALKATIVE:
            logging.getLogger(name).setLevel(logging.WARNING)
        stop = asyncio.Event()
        running = asyncio.create_task(self._operate(stop), name="kopf")
        try:
            await asyncio.shield(running)
        except asyncio.CancelledError:  # kopf ends cleanly by its flag only (kubernetes.md 2.7)
            stop.set()
            await running
            raise

    async def _operate(self, stop: asyncio.Event) -> None:
        registry = build_registry(self.queue)

        @kopf.on.cleanup(registry=registry, id="stop")
        async def end_the_wait_for_the_flag(**_: Any) -> None:
            stop.set()  # after a signal kopf would wait 5 s for its own task that waits for the flag

        await kopf.operator(
            registry=registry,
            settings=build_settings(),
            standalone=True,
            clusterwide=not self.namespaces,
            namespaces=self.namespaces,
            liveness_endpoint=f"http://0.0.0.0:{self.probe_port}/healthz",
            stop_flag=stop,
        )


def build_registry(queue: WorkQueue[Key]) -> kopf.OperatorRegistry:
    """Register a handler for each kind that is watched, and one for the probe.

    They are coroutines: kopf runs a plain function in a thread, and the queue belongs to the loop.
    """
    registry = kopf.OperatorRegistry()
    kopf.on.event(*_BATCH_JOBS, registry=registry, id="batch")(partial(see, queue, key_of_batch))
    kopf.on.event(*_JOBS, registry=registry, id="job", labels=MANAGED_BY)(partial(see, queue, batch_of_job))
    kopf.on.probe(registry=registry, id="oldest_s")(partial(probe, queue))
    kopf.on.login(registry=registry, id="login")(log_in)
    return registry


async def see(
    queue: WorkQueue[Key], key_of: Callable[[Mapping[str, Any]], Key | None], body: Mapping[str, Any], **_: Any
) -> None:
    """Put the batch on the queue that an object is about; what kopf shows of it may be old."""
    if key := key_of(body):
        queue.add(key)


async def probe(queue: WorkQueue[Key], **_: Any) -> float:
    """Tell how long a name has waited; raises if no worker will ever take it."""
    return check_age(queue.oldest_s())


def log_in(**options: Any) -> kopf.ConnectionInfo | None:
    """Use what KUBECONFIG names, as the rest of the operator does, or else the pod's ServiceAccount."""
    return kopf.login_with_kubeconfig(**options) or kopf.login_with_service_account(**options)


def check_age(oldest_s: float) -> float:
    """Round the age of the name that has waited longest; raises `PermanentError` beyond all that is normal. Pure."""
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
