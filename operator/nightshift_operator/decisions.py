"""What can follow from a pass: a closed set of actions, then one status, then one event.

Pure. Every action may be repeated: it is a function of identity, and finds what an earlier try has done.
"""

from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum

from nightshift_crds.models import BatchJobStatus, HostedModel
from nightshift_crds.names import ResultKind, Step
from nightshift_crds.records import SealedFile
from nightshift_operator.conditions import Reason


@dataclass(frozen=True)
class CreateJob:
    """Start a step.

    Attributes:
        closes_at: when it is to be stopped again, because the window of its model closes.
    """

    step: Step
    model: HostedModel | None = None
    closes_at: datetime | None = None


@dataclass(frozen=True)
class DeleteJob:
    """Tear a Job down in the foreground: once it is gone, so are its pods."""

    name: str
    uid: str


@dataclass(frozen=True)
class ForceDeletePod:
    """Give a pod up whose node does not answer; its log is fenced."""

    name: str
    uid: str


@dataclass(frozen=True)
class CreateResultFiles:
    """Make both result files known, still without a line but for those that a rerun has taken over."""

    reused: int = 0


@dataclass(frozen=True)
class ShowResultFile:
    """Let lists show a result file that has got its first line."""

    kind: ResultKind
    bytes: int


@dataclass(frozen=True)
class FinishResultFile:
    """Bring a result file up to what the manifest vouches for."""

    kind: ResultKind
    sealed: SealedFile
    expires_at: datetime


@dataclass(frozen=True)
class DropResultFile:
    """Take a result file away that stayed empty."""

    kind: ResultKind


@dataclass(frozen=True)
class PurgeScratch:
    """Remove the logs and the progress of a sealed batch."""


@dataclass(frozen=True)
class SendWebhook:
    """Begin to tell an endpoint that the batch has ended; its answer is observed by a later pass.

    Attributes:
        attempt: its number, from 1.
    """

    endpoint: str
    attempt: int


Action = (
    CreateJob
    | DeleteJob
    | ForceDeletePod
    | CreateResultFiles
    | ShowResultFile
    | FinishResultFile
    | DropResultFile
    | PurgeScratch
    | SendWebhook
)


class EventReason(StrEnum):
    """What people are told of as a Kubernetes Event."""

    IN_PROGRESS = "InProgress"
    """The input was accepted."""
    FINALIZING = "Finalizing"
    """Every line has an outcome; the result files are made."""
    RETRYING = "Retrying"
    """A Job ended without doing its work, and another one follows; the message says why."""
    EXPIRING = "Expiring"
    """The window has passed; what has not run is given up."""
    FAILING = "Failing"
    """The batch cannot go on, and the message says why; what ran is kept."""
    CANCELLING = "Cancelling"
    """A cancel was asked for."""
    COMPLETED = "Completed"
    """The end: every line has an outcome."""
    FAILED = "Failed"
    """The end: the input was refused, or the batch could not go on."""
    EXPIRED = "Expired"
    """The end: the window has passed."""
    CANCELLED = "Cancelled"
    """The end: somebody cancelled it."""
    WEBHOOK_GIVEN_UP = "WebhookGivenUp"
    """An endpoint was not told of the end; the message says what it answered."""


@dataclass(frozen=True)
class Event:
    """What people are told, once, after the status says so."""

    reason: EventReason
    message: str
    warning: bool = False


@dataclass(frozen=True)
class Decision:
    """The outcome of a pass.

    Attributes:
        status: the whole new status; None leaves it as it is.
        requeue_after_s: when to look again though nothing may have happened.
        is_progress: the status only copies progress, which may wait for its budget.
        retry: why a run Job has come to nothing that another one follows.
    """

    actions: tuple[Action, ...] = ()
    status: BatchJobStatus | None = None
    event: Event | None = None
    requeue_after_s: float | None = None
    is_progress: bool = False
    retry: Reason | None = None
