"""The reconcile loop: take a name, observe, decide, apply; come back when told, and after a failure in a while.

Which shell puts the names on the queue, kopf's watches or the local cluster's, makes no difference here.
"""

import asyncio
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import NamedTuple

import structlog
from structlog.contextvars import bind_contextvars, bound_contextvars, unbind_contextvars

from nightshift_crds import names
from nightshift_crds.errors import Missing, Stale, Unavailable
from nightshift_crds.names import IdKind
from nightshift_operator.apply import Applier
from nightshift_operator.decide import decide
from nightshift_operator.metrics import Metrics
from nightshift_operator.observe import Observer
from nightshift_operator.queue import WorkQueue
from nightshift_operator.view import Policy

_log = structlog.get_logger()


class Key(NamedTuple):
    """Which BatchJob."""

    namespace: str
    name: str

    @property
    def batch_id(self) -> str:
        """What the API calls the batch, as far as that can be known before it is read; else its name."""
        given = names.id_of(IdKind.BATCH, self.name, "")
        return self.name if given == f"{IdKind.BATCH}_" else given


def _now() -> datetime:
    return datetime.now(UTC)


@dataclass(frozen=True)
class Controller:
    """Reconciles the batches of one installation."""

    observer: Observer
    applier: Applier
    policy: Policy
    queue: WorkQueue[Key]
    now: Callable[[], datetime] = _now
    metrics: Metrics = field(default_factory=Metrics)

    async def work(self, workers: int) -> None:
        """Reconcile whatever comes, until cancelled."""
        async with asyncio.TaskGroup() as group:
            for number in range(workers):
                group.create_task(self._work(), name=f"worker {number}")

    async def reconcile(self, key: Key) -> float | None:
        """Make one pass over a batch; gives the seconds after which to look again."""
        now = self.now()  # one for both: what is read depends on whether the deadline has passed
        try:
            observed = await self.observer.observe(key.namespace, key.name, now)
        except Missing:
            self.metrics.forget(key.namespace, key.name)
            return None
        bind_contextvars(batch=observed.batch.id, **self.applier.traces.ids_of(observed.batch))
        self.metrics.saw(observed.batch)
        decision = decide(observed, now, self.policy)
        await self.applier.apply(observed, decision)
        return decision.requeue_after_s

    async def _work(self) -> None:
        while True:
            key = await self.queue.take()
            try:
                await self._pass(key)
            finally:
                self.queue.done(key)

    async def _pass(self, key: Key) -> None:
        started = time.monotonic()
        with bound_contextvars(namespace=key.namespace, name=key.name, batch=key.batch_id):
            result = await self._try(key)
        unbind_contextvars("trace_id")  # which became known with the batch
        self.metrics.reconciled(result, time.monotonic() - started)

    async def _try(self, key: Key) -> str:
        try:
            requeue_after_s = await self.reconcile(key)
        except (Stale, Missing):  # somebody else wrote or deleted: what was decided may no longer follow
            self.queue.fail(key)
            return "conflict"
        except Unavailable as error:
            _log.warning("reconcile.unavailable", problem=str(error))
            self.queue.fail(key, error.delay_s)
            return "unavailable"
        except Exception:  # noqa: BLE001 - a bug, or a write that the cluster refuses: the other batches go on
            _log.exception("reconcile.failed")
            self.queue.fail(key)
            return "failed"
        self.queue.succeed(key, requeue_after_s)
        return "done"
