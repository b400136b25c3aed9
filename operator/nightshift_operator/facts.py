"""What is known of a batch when it is decided about: frozen values, read live by `observe`.

Pure. Missing is a value here, not an exception.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from enum import StrEnum

from nightshift_crds.models import BatchJob, HostedModel, StoredFile, Verdict
from nightshift_crds.records import BatchManifest, State


class JobState(StrEnum):
    """How far a Job is; only its terminal conditions count (kubernetes.md 5.1)."""

    ACTIVE = "active"
    COMPLETE = "complete"
    FAILED = "failed"


class Trouble(StrEnum):
    """What keeps a pod from working."""

    NO_NODE = "no node"
    """No node can take it."""
    IMAGE_PULL = "image pull"
    """An image cannot be pulled."""
    MISCONFIGURED = "misconfigured"
    """A container cannot be made: a Secret is missing, a volume, a user other than root."""
    OUT_OF_MEMORY = "out of memory"
    """A container was killed for its memory."""
    MODEL_LOADING = "model loading"
    """The model server beside the processor does not answer yet."""
    MODEL_CRASHED = "model crashed"
    """The model server beside the processor has ended and is started again."""


@dataclass(frozen=True)
class Node:
    """What a node is made of, as its labels say."""

    instance_type: str | None = None
    gpu_type: str | None = None


@dataclass(frozen=True)
class Pod:
    """A pod of a Job.

    Attributes:
        exit_code: of the container `processor`, once it has ended.
        trouble: what keeps it from working.
        message: the same in words.
        running: the container `processor` has started.
        deleting_at: when its deletion was asked for, grace included.
        node: where it runs; empty as long as it has no node.
        scheduled_at: when it got its node.
        model_restarts: how often the model server beside the processor was started again.
        gpus: that it holds from its start to its end.
        started_at: when its node took it in.
        ended_at: when its last container ended.
    """

    name: str
    uid: str
    exit_code: int | None = None
    trouble: Trouble | None = None
    message: str = ""
    running: bool = False
    deleting_at: datetime | None = None
    node: str = ""
    scheduled_at: datetime | None = None
    model_restarts: int = 0
    gpus: int = 0
    started_at: datetime | None = None
    ended_at: datetime | None = None

    @property
    def is_working(self) -> bool:
        """Whether its processor runs and nothing is wrong with its model server."""
        return self.running and self.trouble is None

    @property
    def is_open(self) -> bool:
        """Whether it may still do something."""
        return self.exit_code is None and self.deleting_at is None

    def gpu_seconds(self, now: datetime) -> int:
        """Count the GPUs times the whole seconds that it has held them."""
        if self.started_at is None:
            return 0
        return max(int((self.ended_at or now).timestamp()) - int(self.started_at.timestamp()), 0) * self.gpus

    def is_lost(self, now: datetime, patience: timedelta) -> bool:
        """Tell whether a pod should have been gone long ago."""
        return self.deleting_at is not None and now > self.deleting_at + patience


@dataclass(frozen=True)
class Job:
    """A Job of a batch and its pods.

    Attributes:
        closes_at: when the window of its model closes.
        ended_at: when it became complete or failed, as its condition has it.
    """

    name: str
    uid: str
    created_at: datetime
    state: JobState = JobState.ACTIVE
    message: str = ""
    suspended: bool = False
    deleting_at: datetime | None = None
    closes_at: datetime | None = None
    ended_at: datetime | None = None
    pods: tuple[Pod, ...] = ()

    @property
    def exit_codes(self) -> frozenset[int]:
        """How its pods have ended."""
        return frozenset(pod.exit_code for pod in self.pods if pod.exit_code is not None)

    @property
    def over_since(self) -> datetime:
        """When it ended, or the nearest to it that is known: the end of its last pod, its own creation."""
        return self.ended_at or max((pod.ended_at for pod in self.pods if pod.ended_at), default=self.created_at)


@dataclass(frozen=True)
class Sealed:
    """A manifest and when the bucket took it in."""

    manifest: BatchManifest
    at: datetime


@dataclass(frozen=True)
class Origin:
    """The batch that a rerun runs again, and what of it is needed.

    Attributes:
        input_file: the StoredFile that it names; None also if it is not there.
        input_key: where its input lies in the bucket; None if its URI is not allowed.
        output_file: None also if it is not there.
    """

    batch: BatchJob
    input_file: StoredFile | None = None
    input_key: str | None = None
    output_file: StoredFile | None = None


@dataclass(frozen=True)
class Answer:
    """What came of sending a webhook, in words without a URL.

    Attributes:
        is_final: it need not be sent again, though it was not taken.
    """

    text: str
    is_taken: bool = False
    is_final: bool = False


@dataclass(frozen=True)
class Attempt:
    """An attempt of this process to deliver a webhook; without an answer it is under way."""

    number: int
    answer: Answer | None = None


@dataclass(frozen=True)
class Observed:
    """All that a decision rests on. What a phase does not ask for is not read and stays at its default.

    Attributes:
        input_file: the StoredFile that the batch names; None also if it is not there.
        input_key: where the input lies in the bucket, or will; None if its URI is not allowed.
        origin: the batch that this one runs again; None also if it is not there.
        verdict: what is known of the input's lines; None if nobody has looked yet.
        models: the namespace's catalogue.
        run, seal, inspect: the Jobs of the steps.
        node: where the run Job works; None also if nobody may know.
        ended_at: when the last slice ended, by the bucket's clock; None while one has not.
        progress: what the slices have come to.
        sealed: the manifest.
        listeners: names of the endpoints that are told of the batches of its namespace.
        attempts: the last attempt to tell an endpoint, by its name.
    """

    batch: BatchJob
    input_file: StoredFile | None = None
    input_key: str | None = None
    origin: Origin | None = None
    verdict: Verdict | None = None
    models: tuple[HostedModel, ...] = ()
    run: Job | None = None
    seal: Job | None = None
    inspect: Job | None = None
    node: Node | None = None
    ended_at: datetime | None = None
    progress: State | None = None
    sealed: Sealed | None = None
    listeners: tuple[str, ...] = ()
    attempts: Mapping[str, Attempt] = field(default_factory=dict)

    @property
    def jobs(self) -> tuple[Job, ...]:
        """The Jobs that there are."""
        return tuple(job for job in (self.run, self.seal, self.inspect) if job)
