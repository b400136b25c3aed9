"""What a batch is besides OpenAI's object: `x_details` (contract 15).

Pure.
"""

from dataclasses import dataclass
from datetime import datetime
from math import ceil

from nightshift_api.wire import BatchCondition, BatchCost, BatchDetails, RequestCounts, ResourceName
from nightshift_crds import names
from nightshift_crds.lifecycle import TIMESTAMPS, Phase, is_terminal
from nightshift_crds.models import BatchJob, BatchJobStatus, Condition, TokenUsage
from nightshift_crds.names import IdKind
from nightshift_crds.receipts import cost_of, cost_per_million
from nightshift_crds.records import State

_WORKS = ("Scheduled", "True")


@dataclass(frozen=True)
class Live:
    """What a running batch has come to by the bucket.

    Attributes:
        rate: lines a second, over all slices.
        at: when that was read.
    """

    state: State
    rate: float
    at: datetime


def render_details(batch: BatchJob, counts: RequestCounts, usage: TokenUsage | None, live: Live | None) -> BatchDetails:
    """Show the details of a batch with the counts and the usage that are shown of it."""
    status = batch.status
    remaining = counts.total - counts.completed - counts.failed
    rate = live.rate if live and _is_at_work(batch) else None
    return BatchDetails(
        name=names.display_name(batch.spec.metadata),
        resource=ResourceName(namespace=batch.metadata.namespace, name=batch.metadata.name),
        suspended=batch.spec.suspend,
        conditions=[_render_condition(condition) for condition in status.conditions],
        gpu_type=status.gpu_type,
        instance_type=status.instance_type,
        attempt=status.attempt,
        failed_attempts=status.failed_attempts,
        started_at=int(status.in_progress_at.timestamp()) if status.in_progress_at else None,
        duration_s=_duration_s(batch, live),
        remaining=remaining,
        rate=rate,
        eta_s=ceil(remaining / rate) if rate else None,
        gpu_seconds=status.gpu_seconds,
        cost=_render_cost(status, usage, live),
        rerun_of=_rerun_of(batch),
        reused=batch.reused,
    )


def _is_at_work(batch: BatchJob) -> bool:
    """A rate is that of the last report: once the processor is gone it tells nothing."""
    is_open = batch.phase is Phase.IN_PROGRESS and not batch.spec.cancel_requested
    return is_open and _WORKS in {(condition.type, condition.status) for condition in batch.status.conditions}


def _render_condition(condition: Condition) -> BatchCondition:
    since = int(condition.last_transition_time.timestamp())
    return BatchCondition(**condition.model_dump(exclude={"last_transition_time"}), last_transition_time=since)


def _duration_s(batch: BatchJob, live: Live | None) -> int | None:
    started = batch.status.in_progress_at
    ended = getattr(batch.status, TIMESTAMPS[batch.phase]) if is_terminal(batch.phase) else live.at if live else None
    return max(int((ended - started).total_seconds()), 0) if started and ended else None


def _render_cost(status: BatchJobStatus, usage: TokenUsage | None, live: Live | None) -> BatchCost | None:
    cost = cost_of(status.pricing, usage, status.gpu_seconds) if live and status.pricing else status.cost
    if cost is None:
        return None
    per_million = cost_per_million(cost, usage)
    return BatchCost(currency=cost.currency, total=float(cost.total), per_million_tokens=per_million)


def _rerun_of(batch: BatchJob) -> str | None:
    """The id of the batch that is run again; of one that a person has named it is known from validation on."""
    if batch.status.rerun_of:
        return batch.status.rerun_of
    shown = names.id_of(IdKind.BATCH, batch.spec.input.rerun_of or "", "")
    return shown if names.parse_id(IdKind.BATCH, shown) else None
