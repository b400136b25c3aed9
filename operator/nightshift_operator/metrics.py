"""What the operator counts: batches that it looks after, their moves and ends, its own work and that of the sweep.

A processor is gone before long; what must outlive it is in the status of its batch, and is counted here once that ends.
Everything is counted after the write that made it true.
"""

from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime

from nightshift_crds.lifecycle import Phase, is_terminal
from nightshift_crds.metrics import ModelLabels, Page, Values
from nightshift_crds.models import BatchJob, BatchJobStatus
from nightshift_operator.conditions import Reason

_QUICK = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30)
_WAITS = (0.5, 1, 2, 5, 10, 30, 60, 300, 900, 3_600, 4 * 3_600)
_MARGINS = (0, 60, 300, 900, 3_600, 2 * 3_600, 4 * 3_600, 8 * 3_600, 12 * 3_600, 16 * 3_600, 20 * 3_600, 86_400)
_NEAR = 4
"""Near its deadline is a batch in the last of so many parts of its window."""


def _now() -> datetime:
    return datetime.now(UTC)


@dataclass(frozen=True)
class Standing:
    """What is kept of a batch that is looked after."""

    phase: Phase
    model: str
    created: datetime
    deadline: datetime | None
    begun: datetime | None
    done: int
    total: int

    @classmethod
    def of(cls, batch: BatchJob, model: str) -> "Standing":
        """Take it from a batch."""
        status = batch.status
        done = status.counts.completed + status.counts.failed
        begun = status.in_progress_at
        return cls(batch.phase, model, batch.created, status.deadline, begun, done, status.counts.total)


def is_behind(standing: Standing, now: datetime) -> bool:
    """Tell whether a batch is near its deadline and, as fast as it has been, will not be done by then. Pure."""
    deadline, begun = standing.deadline, standing.begun
    if deadline is None or standing.phase not in {Phase.VALIDATING, Phase.IN_PROGRESS}:
        return False
    left = deadline - now
    if left * _NEAR > deadline - standing.created:
        return False
    if begun is None or not standing.done:
        return True
    return (standing.total - standing.done) * (now - begun) > standing.done * left


class Metrics:
    """The operator's page, and what it counts."""

    def __init__(self, max_models: int = 100, now: Callable[[], datetime] = _now) -> None:
        self.page = page = Page()
        self._now = now
        self._labels = ModelLabels(max_models)
        self._standings: dict[tuple[str, str], Standing] = {}
        page.level_of(
            "batches",
            "Batches that are looked after; one that has ended leaves once it is cleared up.",
            ("phase", "model"),
            self._count_phases,
        )
        page.level_of(
            "batches_behind",
            "Batches in the last quarter of their window that, as fast as they have been, will not be done in time.",
            ("model",),
            self._count_behind,
        )
        self._moves = page.counter("batch_transitions_total", "Moves of batches between phases.", "before", "after")
        self._pickup = page.histogram(
            "batch_pickup_seconds", "From the creation of a batch to the start of its run.", _WAITS, "model"
        )
        self._margin = page.histogram(
            "batch_deadline_margin_seconds",
            "What a completed batch has left of its window; 0 is none.",
            _MARGINS,
            "model",
        )
        self._ends = page.counter("batch_ends_total", "Batches that have ended.", "phase", "model")
        self._rows = page.counter(
            "batch_rows_total",
            "Rows of batches that have ended: `completed`, `failed`, or `never_ran`. What a rerun has taken over is not"
            " counted again.",
            "model",
            "outcome",
        )
        self._tokens = page.counter(
            "batch_tokens_total",
            "Tokens of batches that have ended: `input`, of them `cached`; `output`, of them `reasoning`.",
            "model",
            "kind",
        )
        self._gpu_seconds = page.counter(
            "batch_gpu_seconds_total", "GPU-seconds of batches that have ended, over all attempts.", "model"
        )
        self._cost = page.counter(
            "batch_cost_total", "Cost of batches that have ended, whose model has a pricing.", "model", "currency"
        )
        self._attempts = page.counter("batch_attempts_total", "Run Jobs that were created.", "model")
        self._retries = page.counter(
            "batch_retries_total",
            "Run Jobs that ended without doing their work and were followed by another.",
            "reason",
        )
        self._reconciles = page.histogram(
            "reconcile_seconds",
            "Passes over a batch: `done`, `conflict` (somebody else wrote first), `unavailable`, or `failed`.",
            _QUICK,
            "result",
        )
        self._removed = page.counter(
            "sweep_removed_total",
            "What the sweep has removed, or would have in a dry run: `files`, `batches`, `orphans`, or `passed`.",
            "kind",
        )
        self._refusals = page.counter(
            "sweep_refusals_total",
            "Sweeps of orphans that were refused: `not_our_bucket`, or `too_many_orphans`.",
            "reason",
        )
        self._failures = page.counter("sweep_failures_total", "Sweeps that were given up in the middle.")
        self._swept = page.gauge("sweep_last_seconds", "When the last sweep was done, as Unix time.")
        self._orphans = page.gauge("orphans", "Objects of the bucket that belong to nothing any more.")
        self._orphan_bytes = page.gauge("orphan_bytes", "Their size in bytes.")
        self._begin()

    def _begin(self) -> None:
        """Show what has not been counted yet as 0: Prometheus takes the first value that it sees for no increase."""
        for result in ("done", "conflict", "unavailable", "failed"):
            self._reconciles.labels(result)
        for reason in ("not_our_bucket", "too_many_orphans"):
            self._refusals.labels(reason)

    # batches

    def saw(self, batch: BatchJob) -> None:
        """Note how a batch stands; one that is settled is looked after no longer."""
        if batch.status.settled:
            self.forget(batch.metadata.namespace, batch.metadata.name)
        else:
            key = (batch.metadata.namespace, batch.metadata.name)
            self._standings[key] = Standing.of(batch, self._labels.of(batch.status.model))

    def forget(self, namespace: str, name: str) -> None:
        """Note that a batch is gone."""
        self._standings.pop((namespace, name), None)

    def moved(self, batch: BatchJob, status: BatchJobStatus) -> None:
        """Count what a status has changed that was written, `batch` being as it was before."""
        before, after = batch.phase, status.phase
        if after is None or after is before:
            return
        model = self._labels.of(status.model)
        self._moves.labels(before, after).inc()
        if after is Phase.IN_PROGRESS and status.in_progress_at:
            self._pickup.labels(model).observe((status.in_progress_at - batch.created).total_seconds())
        if is_terminal(after):
            self._count_end(model, after, status)

    def _count_end(self, model: str, phase: Phase, status: BatchJobStatus) -> None:
        """Count what a batch has come to: its last status is all that is left of its processors."""
        self._ends.labels(phase, model).inc()
        if phase is Phase.COMPLETED and status.deadline and status.completed_at:
            left_s = (status.deadline - status.completed_at).total_seconds()
            self._margin.labels(model).observe(max(left_s, 0))
        counts, usage = status.counts, status.usage
        never_ran = counts.total - counts.completed - counts.failed
        completed = counts.completed - (status.reused or 0)
        rows = {"completed": completed, "failed": counts.failed, "never_ran": never_ran}
        for outcome, count in rows.items():
            self._rows.labels(model, outcome).inc(count)
        if usage:
            tokens = {"input": usage.input_tokens, "cached": usage.cached_tokens}
            tokens |= {"output": usage.output_tokens, "reasoning": usage.reasoning_tokens}
            for kind, count in tokens.items():
                self._tokens.labels(model, kind).inc(count)
        self._gpu_seconds.labels(model).inc(status.gpu_seconds or 0)
        if status.cost:
            self._cost.labels(model, status.cost.currency).inc(float(status.cost.total))

    def started(self, model: str | None) -> None:
        """Count a run Job that was created."""
        self._attempts.labels(self._labels.of(model)).inc()

    def retried(self, reason: Reason) -> None:
        """Count a run Job that came to nothing."""
        self._retries.labels(reason).inc()

    def _count_phases(self) -> Values:
        standings = list(self._standings.values())  # at once: the loop changes them while a page is made
        return list(Counter((s.phase, s.model) for s in standings).items())

    def _count_behind(self) -> Values:
        standings, now = list(self._standings.values()), self._now()
        behind = Counter(s.model for s in standings if is_behind(s, now))
        return [((model,), behind[model]) for model in {s.model for s in standings}]

    # the operator itself

    def reconciled(self, result: str, took_s: float) -> None:
        """Count a pass over a batch."""
        self._reconciles.labels(result).observe(took_s)

    def watch_queue(self, depth: Callable[[], int], oldest_s: Callable[[], float]) -> None:
        """Show a work queue."""
        self.page.level_of("queue_depth", "Batches that are due and wait for a worker.", (), lambda: [((), depth())])
        self.page.level_of(
            "queue_oldest_seconds",
            "How long the batch that has waited for longest has been due.",
            (),
            lambda: [((), oldest_s())],
        )

    # the sweep

    def swept(self, removed: dict[str, int], at: datetime) -> None:
        """Count what a pass has removed."""
        for kind, count in removed.items():
            self._removed.labels(kind).inc(count)
        self._swept.set(at.timestamp())

    def found_orphans(self, count: int, size: int) -> None:
        """Note what belongs to nothing."""
        self._orphans.set(count)
        self._orphan_bytes.set(size)

    def sweep_refused(self, reason: str) -> None:
        """Count a sweep of orphans that was refused."""
        self._refusals.labels(reason).inc()

    def sweep_failed(self) -> None:
        """Count a sweep that was given up."""
        self._failures.inc()
