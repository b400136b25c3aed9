"""Do what was decided: actions first, then one status write, then the event.

The status write carries the resourceVersion that was observed, so that of two operators, or of a cancel and an end,
one wins and the other looks again. If this stops anywhere, the next pass sees what is and goes on.
"""

from contextlib import suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import assert_never

import structlog

from nightshift_crds import names
from nightshift_crds.bucket.port import Bucket
from nightshift_crds.cluster.port import BATCH_JOB, JOB, POD, STORED_FILE, Cluster, Manifest, Propagation
from nightshift_crds.errors import AlreadyExists, Missing, Stale
from nightshift_crds.models import (
    BatchJob,
    BatchJobStatus,
    FilePhase,
    FileSource,
    StoredFile,
    StoredFileSpec,
    StoredFileStatus,
)
from nightshift_crds.names import IdKind, ResultKind, Step
from nightshift_operator.budget import Budget
from nightshift_operator.courier import Courier
from nightshift_operator.decisions import (
    Action,
    CreateJob,
    CreateResultFiles,
    Decision,
    DeleteJob,
    DropResultFile,
    FinishResultFile,
    ForceDeletePod,
    PurgeScratch,
    SendWebhook,
    ShowResultFile,
)
from nightshift_operator.facts import Observed
from nightshift_operator.jobs import build_job, closing, collecting, telling
from nightshift_operator.metrics import Metrics
from nightshift_operator.settings import Settings
from nightshift_operator.tracing import Traces

_log = structlog.get_logger()
_RESULT_PURPOSE = "batch_output"


@dataclass(frozen=True)
class Applier:
    """Acts for one installation."""

    cluster: Cluster
    bucket: Bucket
    settings: Settings
    progress_budget: Budget
    courier: Courier
    metrics: Metrics = field(default_factory=Metrics)
    traces: Traces = field(default_factory=Traces)

    async def apply(self, observed: Observed, decision: Decision) -> None:
        """Carry a decision out. Raises `Stale` if the batch has changed since it was observed."""
        batch = observed.batch
        if decision.is_progress and not self.progress_budget.take():
            return
        for action in decision.actions:
            await self._act(action, observed)
        if decision.status is not None and decision.status != batch.status:
            written = await self._write_status(batch, decision.status)
            self._note(batch, decision)
            if decision.event:
                event = decision.event
                await self.cluster.record_event(
                    written, warning=event.warning, reason=event.reason, message=event.message
                )

    def _note(self, batch: BatchJob, decision: Decision) -> None:
        assert decision.status is not None
        _log_transition(batch, decision.status)
        self.metrics.moved(batch, decision.status)
        self.traces.moved(batch, decision.status)
        if decision.retry:
            self.metrics.retried(decision.retry)

    async def _write_status(self, batch: BatchJob, status: BatchJobStatus) -> Manifest:
        metadata = batch.metadata
        patch = {
            "metadata": {"resourceVersion": metadata.resource_version},
            "status": replacing(batch.status.dump(), status.dump()),
        }
        return await self.cluster.patch_status(BATCH_JOB, metadata.namespace, metadata.name, patch)

    async def _act(self, action: Action, observed: Observed) -> None:
        batch = observed.batch
        namespace = batch.metadata.namespace
        match action:
            case CreateJob():
                await self._create_job(action, observed)
            case DeleteJob():
                await self._delete_job(namespace, action)
            case ForceDeletePod():
                await self._force_delete_pod(namespace, action)
            case CreateResultFiles():
                await self._create_result_files(batch, action.reused)
            case ShowResultFile():
                await self._patch_result_file(batch, action.kind, {"bytes": action.bytes})
            case FinishResultFile():
                await self._finish_result_file(batch, action)
            case DropResultFile():
                await self._drop_result_file(batch, action.kind)
            case PurgeScratch():
                await self._purge_scratch(batch)
            case SendWebhook():
                self.courier.send(batch, action.endpoint, action.attempt)
            case _:
                assert_never(action)

    # Jobs

    async def _create_job(self, action: CreateJob, observed: Observed) -> None:
        batch = observed.batch
        checked = batch.status.input
        input_key = checked.key if checked else observed.input_key or ""
        job = closing(build_job(batch, action.step, action.model, input_key, self.settings), action.closes_at)
        job = telling(collecting(job, observed.origin), before=self.traces.variables_for(batch))
        try:
            await self.cluster.create(JOB, job)
        except AlreadyExists:
            await self._refuse_stranger(batch, job["metadata"]["name"])
            return
        _log.info("job.created", job=job["metadata"]["name"])
        if action.step is Step.RUN:
            self.metrics.started(batch.status.model)

    async def _refuse_stranger(self, batch: BatchJob, name: str) -> None:
        """A Job of that name is ours, made by an earlier pass, or it is somebody else's and stays."""
        with suppress(Missing):
            found = await self.cluster.get(JOB, batch.metadata.namespace, name)
            owners = {owner["uid"] for owner in found["metadata"].get("ownerReferences", [])}
            if batch.metadata.uid not in owners:
                raise Stale(f"Job {name} belongs to somebody else")

    async def _delete_job(self, namespace: str, action: DeleteJob) -> None:
        with suppress(Missing, Stale):  # gone, or replaced: the next pass sees which
            await self.cluster.delete(JOB, namespace, action.name, propagation=Propagation.FOREGROUND, uid=action.uid)
            _log.info("job.deleted", job=action.name)

    async def _force_delete_pod(self, namespace: str, action: ForceDeletePod) -> None:
        with suppress(Missing, Stale):
            await self.cluster.delete(
                POD, namespace, action.name, propagation=Propagation.BACKGROUND, uid=action.uid, grace_s=0
            )
            _log.warning("pod.given_up", pod=action.name)

    # result files

    async def _create_result_files(self, batch: BatchJob, reused: int) -> None:
        for kind in ResultKind:
            await self._ensure_result_file(batch, kind, reused)

    async def _ensure_result_file(self, batch: BatchJob, kind: ResultKind, reused: int) -> StoredFile:
        name = _result_name(batch, kind)
        spec = StoredFileSpec(
            filename=names.result_filename(batch.id, kind),
            purpose=_RESULT_PURPOSE,
            expires_after_seconds=batch.spec.output_expires_after_seconds,
            source=FileSource(
                batch_name=batch.metadata.name,
                batch_uid=batch.metadata.uid,
                kind=kind,
                reused=reused or None if kind is ResultKind.OUTPUT else None,
            ),
        )
        namespace = batch.metadata.namespace
        manifest = StoredFile.build({"name": name, "namespace": namespace}, spec)
        try:
            file = StoredFile.parse(await self.cluster.create(STORED_FILE, manifest))
        except AlreadyExists:
            file = StoredFile.parse(await self.cluster.get(STORED_FILE, namespace, name))
        if file.status.phase is None:
            return await self._patch_result_file(batch, kind, {"phase": FilePhase.WRITING}) or file
        return file

    async def _patch_result_file(self, batch: BatchJob, kind: ResultKind, status: Manifest) -> StoredFile | None:
        name = _result_name(batch, kind)
        try:
            patched = await self.cluster.patch_status(STORED_FILE, batch.metadata.namespace, name, {"status": status})
        except Missing:  # deleted by hand: sealing makes it again
            return None
        return StoredFile.parse(patched)

    async def _finish_result_file(self, batch: BatchJob, action: FinishResultFile) -> None:
        await self._ensure_result_file(batch, action.kind, batch.reused)
        status = StoredFileStatus(
            phase=FilePhase.READY,
            bytes=action.sealed.bytes,
            crc32c=action.sealed.crc32c,
            expires_at=action.expires_at.replace(microsecond=0),
            expires_day=action.expires_at.astimezone(UTC).date().isoformat(),
        )
        await self._patch_result_file(batch, action.kind, status.dump())

    async def _drop_result_file(self, batch: BatchJob, kind: ResultKind) -> None:
        name = _result_name(batch, kind)
        with suppress(Missing):
            await self.cluster.delete(STORED_FILE, batch.metadata.namespace, name, propagation=Propagation.BACKGROUND)

    async def _purge_scratch(self, batch: BatchJob) -> None:
        for prefix in names.scratch_prefixes(batch.metadata.uid):
            async for info in self.bucket.list(prefix):
                await self.bucket.delete(info.key)


def _result_name(batch: BatchJob, kind: ResultKind) -> str:
    value = names.parse_id(IdKind.FILE, batch.result_file_id(kind))
    assert value is not None
    return names.resource_name(IdKind.FILE, value)


def replacing(old: Manifest, new: Manifest) -> Manifest:
    """Write a merge patch that makes one object into another: what is gone becomes null. Pure."""
    gone = {key: None for key in old if key not in new}
    return gone | {
        key: replacing(old[key], value) if isinstance(value, dict) and isinstance(old.get(key), dict) else value
        for key, value in new.items()
        if old.get(key) != value
    }


def _log_transition(batch: BatchJob, status: BatchJobStatus) -> None:
    if status.phase != batch.status.phase:
        _log.info(
            "batch.phase_changed",
            before=batch.status.phase,
            after=status.phase,
            lag_s=round((datetime.now(UTC) - batch.created).total_seconds(), 1),
        )
