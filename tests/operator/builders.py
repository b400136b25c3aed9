"""What the operator observes, with defaults: a batch of ten lines an hour after its creation, four done, one failed."""

from dataclasses import replace
from datetime import datetime, timedelta
from typing import Any

from nightshift_crds.lifecycle import Phase, Sealing
from nightshift_crds.lines import CHAT, EMBEDDINGS, Usage
from nightshift_crds.models import BatchJob, BatchJobStatus
from nightshift_crds.names import ResultKind, Step, job_name
from nightshift_crds.records import BatchManifest, SealedFile
from nightshift_operator.decide import decide
from nightshift_operator.decisions import Decision
from nightshift_operator.facts import Job, JobState, Observed, Pod, Sealed
from nightshift_operator.settings import Settings
from nightshift_operator.view import Policy
from tests.builders import BATCH_UID, FILE_ID, MODEL, T0, a_batch, a_file, a_model, a_verdict, timestamp

SETTINGS = Settings.load({"NIGHTSHIFT_CLUSTER": "sqlite:///unused", "NIGHTSHIFT_BUCKET": "file:///unused"})
POLICY = Policy.of(SETTINGS)
NOW = T0 + timedelta(hours=1)
DEADLINE = T0 + POLICY.window
LATE = DEADLINE + timedelta(seconds=5)
TOTAL = 10
COUNTS = {"total": TOTAL, "completed": 4, "failed": 1}
_TIMES = {
    Phase.IN_PROGRESS: ("inProgressAt",),
    Phase.FINALIZING: ("inProgressAt", "finalizingAt"),
    Phase.CANCELLING: ("inProgressAt", "cancellingAt"),
    Phase.COMPLETED: ("inProgressAt", "finalizingAt", "completedAt"),
    Phase.FAILED: ("inProgressAt", "failedAt"),
    Phase.EXPIRED: ("inProgressAt", "expiredAt"),
    Phase.CANCELLED: ("inProgressAt", "cancellingAt", "cancelledAt"),
}
_RUN = {
    "counts": COUNTS,
    "slices": 1,
    "attempt": 1,
    "model": MODEL,
    "jobName": job_name(BATCH_UID, Step.RUN, 1),
    "jobUID": "run-uid",
    "input": {"key": f"openai/files/{FILE_ID}.jsonl", "bytes": 500, "crc32c": 7},
}


def a_status(phase: Phase, sealing: Sealing | None = None, *, ran: bool = True, **more: Any) -> dict[str, Any]:
    """Build the status of a batch in a phase, a minute after the last one; `ran` is whether it has been IN_PROGRESS."""
    times = [field for field in _TIMES.get(phase, ()) if ran or field not in {"inProgressAt", "finalizingAt"}]
    status: dict[str, Any] = {"phase": phase, "deadline": timestamp(DEADLINE), "observedGeneration": 1}
    status |= {field: timestamp(T0 + timedelta(minutes=n + 1)) for n, field in enumerate(times)}
    status |= _RUN if ran and phase is not Phase.VALIDATING else {}
    return status | ({"sealing": sealing} if sealing else {}) | more


def a_job(step: Step = Step.RUN, state: JobState = JobState.ACTIVE, *codes: int, **more: Any) -> Job:
    """Build a Job; each exit code is a pod of its own."""
    pods = tuple(Pod(f"pod-{n}", f"pod-uid-{n}", exit_code=code) for n, code in enumerate(codes))
    name, created_at = job_name(BATCH_UID, step, 1), T0 + timedelta(minutes=10)
    job = Job(name=name, uid=f"{step}-uid", created_at=created_at, state=state, pods=pods)
    return replace(job, **more)


def a_manifest(
    reason: Sealing = Sealing.COMPLETED, *, completed: int = 8, failed: int = 2, errors: int | None = None
) -> BatchManifest:
    """Build a manifest of a batch of ten lines that keeps what contract 10.4 promises, if counts and reason can."""
    unrun = 0 if reason in {Sealing.COMPLETED, Sealing.FAILED} else TOTAL - completed - failed
    lines = {ResultKind.OUTPUT: completed, ResultKind.ERROR: failed + unrun if errors is None else errors}
    batch = a_batch()
    files = {
        kind: SealedFile(file_id=batch.result_file_id(kind), bytes=100 * count, crc32c=count, lines=count)
        for kind, count in lines.items()
        if count
    }
    usage = Usage(input_tokens=3 * completed, output_tokens=completed, total_tokens=4 * completed)
    return BatchManifest(reason=reason, completed=completed, failed=failed, usage=usage, files=files)


def sealed(manifest: BatchManifest | None = None, at: datetime = NOW) -> Sealed:
    return Sealed(manifest or a_manifest(), at)


def observed(
    phase: Phase | None = None,
    sealing: Sealing | None = None,
    *,
    spec: dict[str, Any] | None = None,
    status: dict[str, Any] | None = None,
    **facts: Any,
) -> Observed:
    """Observe a batch in a phase, with a valid upload and one model; say what else is true of it."""
    batch = a_batch(spec=spec, status=status if status is not None else a_status(phase, sealing) if phase else {})
    defaults: dict[str, Any] = {
        "input_file": a_file(status={"phase": "Ready", "bytes": 500}),
        "input_key": f"openai/files/{FILE_ID}.jsonl",
        "verdict": a_verdict(),
        "models": (a_model(),),
    }
    return Observed(batch, **(defaults | facts))


def after(seen: Observed, decision: Decision) -> Observed:
    """See the same facts after the decision's status was written; a new attempt has no Job yet."""
    if decision.status is None:
        return seen
    batch = with_status(seen.batch, decision.status)
    is_new_attempt = decision.status.attempt != seen.batch.status.attempt
    return replace(seen, batch=batch, run=None if is_new_attempt else seen.run)


def with_status(batch: BatchJob, status: BatchJobStatus) -> BatchJob:
    return batch.model_copy(update={"status": status})


def decided(seen: Observed, now: datetime = NOW) -> Decision:
    return decide(seen, now, POLICY)


def status_of(decision: Decision) -> BatchJobStatus:
    assert decision.status is not None
    return decision.status


def refusal(seen: Observed, now: datetime = NOW) -> tuple[str, str | None]:
    """Give code and param of the one error of a batch that fails."""
    status = status_of(decided(seen, now))
    assert status.phase is Phase.FAILED
    assert status.failed_at == now
    [error] = status.errors
    return error.code, error.param


__all__ = ["CHAT", "EMBEDDINGS", "MODEL", "T0"]
