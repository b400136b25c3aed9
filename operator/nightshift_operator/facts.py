"""What is known of a batch when it is decided about: frozen values, read live by `observe`.

Pure. Missing is a value here, not an exception.
"""

from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import StrEnum

from nightshift_crds.models import BatchJob, HostedModel, StoredFile, Verdict
from nightshift_crds.records import BatchManifest, State


class JobState(StrEnum):
    """How far a Job is; only its terminal conditions count (kubernetes.md 5.1)."""

    ACTIVE = "active"
    COMPLETE = "complete"
    FAILED = "failed"


@dataclass(frozen=True)
class Pod:
    """A pod of a Job.

    Attributes:
        exit_code: of the container `processor`, once it has ended.
        trouble: what keeps it from running, as Kubernetes calls it: `Unschedulable`, `ImagePullBackOff`, `OOMKilled`.
        message: the same in words.
        running: the container `processor` has started.
        deleting_at: when its deletion was asked for, grace included.
    """

    name: str
    uid: str
    exit_code: int | None = None
    trouble: str = ""
    message: str = ""
    running: bool = False
    deleting_at: datetime | None = None

    def is_lost(self, now: datetime, patience: timedelta) -> bool:
        """Tell whether a pod should have been gone long ago."""
        return self.deleting_at is not None and now > self.deleting_at + patience


@dataclass(frozen=True)
class Job:
    """A Job of a batch and its pods."""

    name: str
    uid: str
    state: JobState = JobState.ACTIVE
    message: str = ""
    suspended: bool = False
    deleting_at: datetime | None = None
    pods: tuple[Pod, ...] = ()

    @property
    def exit_codes(self) -> frozenset[int]:
        """How its pods have ended."""
        return frozenset(pod.exit_code for pod in self.pods if pod.exit_code is not None)


@dataclass(frozen=True)
class Sealed:
    """A manifest and when the bucket took it in."""

    manifest: BatchManifest
    at: datetime


@dataclass(frozen=True)
class Observed:
    """All that a decision rests on. What a phase does not ask for is not read and stays at its default.

    Attributes:
        input_file: the StoredFile that the batch names; None also if it is not there.
        input_key: where the input lies in the bucket; None if its URI is not allowed.
        verdict: what is known of the input's lines; None if nobody has looked yet.
        models: the namespace's catalogue.
        run, seal, inspect: the Jobs of the steps.
        ended_at: when the last slice ended, by the bucket's clock; None while one has not.
        progress: what the slices have come to.
        sealed: the manifest.
    """

    batch: BatchJob
    input_file: StoredFile | None = None
    input_key: str | None = None
    verdict: Verdict | None = None
    models: tuple[HostedModel, ...] = ()
    run: Job | None = None
    seal: Job | None = None
    inspect: Job | None = None
    ended_at: datetime | None = None
    progress: State | None = None
    sealed: Sealed | None = None

    @property
    def jobs(self) -> tuple[Job, ...]:
        """The Jobs that there are."""
        return tuple(job for job in (self.run, self.seal, self.inspect) if job)
