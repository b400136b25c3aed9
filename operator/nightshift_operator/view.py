"""What was observed, with the clock and the policy that it is judged by: the words in which decisions are written.

Pure. Every status that a decision writes is made here.
"""

from dataclasses import dataclass
from datetime import datetime, timedelta

from nightshift_crds.judgement import Limits
from nightshift_crds.lifecycle import TIMESTAMPS, Phase, Sealing
from nightshift_crds.lines import LineOrder
from nightshift_crds.models import BatchError, BatchJobStatus
from nightshift_operator.conditions import Kind, Reason, Says, seals, with_condition
from nightshift_operator.decisions import Action, Decision, DeleteJob, Event, EventReason, ForceDeletePod
from nightshift_operator.facts import Job, Observed
from nightshift_operator.settings import Settings
from nightshift_operator.webhooks import pauses

SOON_S = 1.0
TEARDOWN_POLL_S = 5.0
INTERNAL = BatchError(code="internal_error", message="The batch could not be processed.")
_REASONS = {
    Phase.COMPLETED: Reason.COMPLETED,
    Phase.FAILED: Reason.FAILED,
    Phase.EXPIRED: Reason.EXPIRED,
    Phase.CANCELLED: Reason.CANCELLED,
}


@dataclass(frozen=True)
class Policy:
    """The settings that decisions depend on; `Settings` tells what each means."""

    limits: Limits
    window: timedelta
    clock_skew: timedelta
    max_attempts: int
    max_model_restarts: int
    stuck_pod: timedelta
    teardown_timeout: timedelta
    lost_pod: timedelta
    scratch_retention: timedelta
    default_expiry: timedelta
    progress_interval_s: float
    slices_per_shard: int
    order: LineOrder
    webhook_pauses: tuple[timedelta, ...]

    @classmethod
    def of(cls, settings: Settings) -> "Policy":
        """Take the policy out of the settings."""
        return cls(
            limits=Limits(settings.max_file_bytes, settings.max_lines, settings.max_embedding_inputs),
            window=timedelta(seconds=settings.completion_window_s),
            clock_skew=timedelta(seconds=settings.clock_skew_s),
            max_attempts=settings.max_attempts,
            max_model_restarts=settings.max_model_restarts,
            stuck_pod=timedelta(seconds=settings.stuck_pod_s),
            teardown_timeout=timedelta(seconds=settings.teardown_timeout_s),
            lost_pod=timedelta(seconds=settings.lost_pod_s),
            scratch_retention=timedelta(seconds=settings.scratch_retention_s),
            default_expiry=timedelta(seconds=settings.default_expiry_s),
            progress_interval_s=settings.progress_interval_s,
            slices_per_shard=settings.slices_per_shard,
            order=LineOrder.PREFIX if settings.prefix_order else LineOrder.FILE,
            webhook_pauses=pauses(settings.webhook_retry_s, settings.webhook_give_up_s),
        )


@dataclass(frozen=True)
class View:
    """One pass over one batch."""

    observed: Observed
    now: datetime
    policy: Policy

    @property
    def status(self) -> BatchJobStatus:
        """The status as it is."""
        return self.observed.batch.status

    @property
    def deadline(self) -> datetime:
        """When the batch is given up; fixed by its first status."""
        return self.status.deadline or self.observed.batch.created + self.policy.window

    @property
    def is_late(self) -> bool:
        """Whether the window has passed, even if our clock is ahead of that of whoever set the deadline."""
        return self.now >= self.deadline + self.policy.clock_skew

    @property
    def until_deadline_s(self) -> float:
        """When to look again if nothing else happens."""
        return max((self.deadline - self.now).total_seconds(), 0) + SOON_S

    # statuses

    def stamped(self) -> BatchJobStatus:
        """The status with what every write of ours carries."""
        generation = self.observed.batch.metadata.generation
        stamp = {"phase": self.observed.batch.phase, "deadline": self.deadline, "observed_generation": generation}
        return self.status.model_copy(update=stamp | self._descent())

    def _descent(self) -> dict[str, str | None]:
        """What a rerun is known by besides its own name, from the first time that its origin is seen."""
        origin = self.observed.origin
        if origin is None or self.status.input_file_id is not None:
            return {}
        return {"rerun_of": self.status.rerun_of or origin.batch.id, "input_file_id": origin.batch.input_file_id}

    def saying(self, status: BatchJobStatus, *conditions: Says) -> BatchJobStatus:
        """A status with conditions set."""
        for says in conditions:
            status = with_condition(status, says, self.now)
        return status

    def sealing(self, reason: Sealing) -> BatchJobStatus:
        """The status with the reason of the sealing fixed."""
        return self.saying(self.stamped().model_copy(update={"sealing": reason}), seals(reason))

    def entering(self, phase: Phase, status: BatchJobStatus, at: datetime | None = None) -> BatchJobStatus:
        """A status that enters a phase: with its time, which is not before any that is set."""
        times = [getattr(status, field) for field in TIMESTAMPS.values()]
        earliest = max(moment for moment in (*times, self.observed.batch.created) if moment)
        return status.model_copy(update={"phase": phase, TIMESTAMPS[phase]: max(at or self.now, earliest)})

    def ending(self, phase: Phase, status: BatchJobStatus, message: str) -> BatchJobStatus:
        """A status that enters a terminal phase: not before the manifest, which can be written while we look."""
        reason = _REASONS[phase]
        is_complete = phase is Phase.COMPLETED
        progressing = Says(Kind.PROGRESSING, holds=False, reason=reason, message=message)
        complete = Says(Kind.COMPLETE, holds=is_complete, reason=reason, message=message)
        sealed = self.observed.sealed
        at = max(self.now, sealed.at.replace(microsecond=0)) if sealed else None
        return self.entering(phase, self.saying(status, progressing, complete), at)

    # decisions

    def to(self, status: BatchJobStatus, *actions: Action, event: Event | None = None) -> Decision:
        """Do, write, tell, and look again at once."""
        return Decision(actions, status, event, requeue_after_s=0)

    def waiting(self, status: BatchJobStatus, *actions: Action, after_s: float) -> Decision:
        """Do, write if anything is new, and look again later."""
        return Decision(actions, status if status != self.status else None, requeue_after_s=after_s)

    def end(self, phase: Phase, status: BatchJobStatus, message: str, *actions: Action) -> Decision:
        """Do, write the last phase, and tell."""
        is_bad = phase in {Phase.FAILED, Phase.EXPIRED}
        event = Event(EventReason(_REASONS[phase]), message, warning=is_bad)
        return self.to(self.ending(phase, status, message), *actions, event=event)

    def tear_down(self, job: Job) -> Decision:
        """Delete a Job and wait until it is gone; pods that outstay every grace are given up."""
        if job.deleting_at is None:
            return self.waiting(self.status, DeleteJob(job.name, job.uid), after_s=TEARDOWN_POLL_S)
        is_forced = self.now > job.deleting_at + self.policy.teardown_timeout
        lost = [pod for pod in job.pods if is_forced or pod.is_lost(self.now, self.policy.lost_pod)]
        return self.waiting(self.status, *(ForceDeletePod(pod.name, pod.uid) for pod in lost), after_s=TEARDOWN_POLL_S)
