"""Resources as the objects of the contract: what of a batch or a file is shown, and when (contract 3.1, 4.1).

Pure.
"""

from datetime import datetime, timedelta
from typing import Literal, cast

from nightshift_api.details import Live, render_details
from nightshift_api.wire import (
    BatchObject,
    BatchStatus,
    BatchUsage,
    FileObject,
    InputDetails,
    LineProblem,
    LineProblems,
    OutputDetails,
    RequestCounts,
)
from nightshift_crds import names
from nightshift_crds.lifecycle import Phase
from nightshift_crds.models import BatchJob, BatchJobStatus, FilePhase, StoredFile, TokenUsage
from nightshift_crds.names import IdKind, ResultKind
from nightshift_crds.records import State, counts_of, usage_of

# --- a batch ----------------------------------------------------------------------------------------------------------


def render_batch(batch: BatchJob, live: Live | None, window_s: int, origin: BatchJob | None = None) -> BatchObject:
    """Show a batch. `live` is what it has come to by the bucket, or None where its status is the truth.

    `origin` is the batch that it runs again, if its status does not say yet what that one's input is.
    """
    status, state = batch.status, live.state if live else None
    shown, counts, usage = batch.visible_phase, _render_counts(batch, state), _larger_usage(status, state)
    return BatchObject(
        id=batch.id,
        endpoint=batch.spec.endpoint,
        model=status.model,
        errors=_render_errors(status) if shown is Phase.FAILED else None,
        input_file_id=batch.input_file_id or (origin.input_file_id if origin else None) or "",
        completion_window=batch.spec.completion_window,
        status=cast(BatchStatus, shown.lower()),
        output_file_id=_file_id(batch, state, ResultKind.OUTPUT),
        error_file_id=_file_id(batch, state, ResultKind.ERROR),
        created_at=_seconds(batch.created),
        in_progress_at=_optional_seconds(status.in_progress_at),
        expires_at=_seconds(status.deadline or batch.created + timedelta(seconds=window_s)),
        finalizing_at=_optional_seconds(status.finalizing_at),
        completed_at=_optional_seconds(status.completed_at),
        failed_at=_optional_seconds(status.failed_at),
        expired_at=_optional_seconds(status.expired_at),
        cancelling_at=_optional_seconds(status.cancelling_at or _cancel_asked(batch)),
        cancelled_at=_optional_seconds(status.cancelled_at),
        request_counts=counts,
        usage=_render_tokens(usage) if usage else None,
        metadata=batch.spec.metadata,
        x_details=render_details(batch, counts, usage, live),
    )


def _cancel_asked(batch: BatchJob) -> datetime | None:
    return batch.spec.cancel_requested_at if batch.visible_phase is Phase.CANCELLING else None


def _render_errors(status: BatchJobStatus) -> LineProblems:
    return LineProblems(
        data=[LineProblem(code=e.code, message=e.message, param=e.param, line=e.line) for e in status.errors]
    )


def _file_id(batch: BatchJob, state: State | None, kind: ResultKind) -> str | None:
    """A result file has an id from its first durable line on, and keeps it."""
    fixed = batch.status.output_file_id if kind is ResultKind.OUTPUT else batch.status.error_file_id
    if fixed or state is None:
        return fixed
    has_lines = state.output_bytes or batch.reused if kind is ResultKind.OUTPUT else state.error_bytes
    return batch.result_file_id(kind) if has_lines else None


def _render_counts(batch: BatchJob, state: State | None) -> RequestCounts:
    counts = batch.status.counts
    fresh = counts_of(state, counts.total, batch.reused) if state else counts
    return RequestCounts(
        total=counts.total,
        completed=max(counts.completed, fresh.completed),
        failed=max(counts.failed, fresh.failed),
    )


def _larger_usage(status: BatchJobStatus, state: State | None) -> TokenUsage | None:
    has_lines = state is not None and state.completed + state.failed > 0
    fresh = usage_of(state.usage) if state and has_lines else None
    return max((u for u in (status.usage, fresh) if u), key=lambda u: u.total_tokens, default=None)


def _render_tokens(usage: TokenUsage) -> BatchUsage:
    return BatchUsage(
        input_tokens=usage.input_tokens,
        input_tokens_details=InputDetails(cached_tokens=usage.cached_tokens),
        output_tokens=usage.output_tokens,
        output_tokens_details=OutputDetails(reasoning_tokens=usage.reasoning_tokens),
        total_tokens=usage.total_tokens,
    )


def _seconds(moment: datetime) -> int:
    return int(moment.timestamp())


def _optional_seconds(moment: datetime | None) -> int | None:
    return _seconds(moment) if moment else None


# --- a file -----------------------------------------------------------------------------------------------------------


def render_file(file: StoredFile, size: int) -> FileObject:
    """Show a file; `size` is what can be read of it now."""
    status: Literal["uploaded", "processed"] = "processed" if file.status.phase is FilePhase.READY else "uploaded"
    return FileObject(
        id=file.id,
        bytes=size,
        created_at=created_at(file),
        expires_at=int(file.status.expires_at.timestamp()) if file.status.expires_at else None,
        filename=file.spec.filename,
        purpose=file.spec.purpose,
        status=status,
    )


def created_at(file: StoredFile) -> int:
    """Tell when a file came into being, in seconds.

    It is the time that is in its id: a resource may be made much later (a long upload, a batch that queues), and a list
    that went by that could not go on behind a file that has been deleted.
    """
    value = names.parse_id(IdKind.FILE, file.id)
    milliseconds = names.uuid7_ms(value) if value else None
    return int(file.created.timestamp()) if milliseconds is None else milliseconds // 1000


def is_live(file: StoredFile, now: datetime) -> bool:
    """Tell whether a file has come into being and has not expired."""
    expires_at = file.status.expires_at
    return file.status.phase is not None and not (expires_at and expires_at <= now)


def has_content(file: StoredFile) -> bool:
    """Tell whether a list shows a file until it expires: a result file from its first line on."""
    return file.status.phase is FilePhase.READY or file.status.bytes > 0
