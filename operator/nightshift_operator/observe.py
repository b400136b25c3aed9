"""Read what is: the batch, and of everything around it what its phase asks for. Reads are live; nothing is cached."""

from dataclasses import dataclass
from datetime import datetime, timedelta

from nightshift_crds import names
from nightshift_crds.bucket.port import Bucket, get
from nightshift_crds.cluster.port import BATCH_JOB, JOB, NODE, POD, STORED_FILE, Cluster, Selector, each
from nightshift_crds.errors import Missing, Refused
from nightshift_crds.lifecycle import Phase, is_terminal
from nightshift_crds.models import BatchJob, HostedModel, RestVerdict, StoredFile, Verdict
from nightshift_crds.names import IdKind, ResultKind, Step, job_name
from nightshift_crds.reading import read_known
from nightshift_crds.records import State, decode_manifest, sum_states
from nightshift_crds.slicelog import last_end, read_progress
from nightshift_operator.courier import Courier
from nightshift_operator.facts import Job, JobState, Node, Observed, Origin, Sealed
from nightshift_operator.pods import parse_job, parse_node
from nightshift_operator.sources import key_of_uri


@dataclass(frozen=True)
class Observer:
    """Reads for one installation; see the settings for what window, prefixes and label mean."""

    cluster: Cluster
    bucket: Bucket
    window: timedelta
    uri_prefixes: tuple[str, ...]
    gpu_label: str
    courier: Courier

    async def observe(self, namespace: str, name: str, now: datetime) -> Observed:
        """Observe a batch. Raises `Missing` if there is none."""
        batch = BatchJob.parse(await self.cluster.get(BATCH_JOB, namespace, name))
        if is_terminal(batch.phase):
            return await self._observe_ended(batch)
        if batch.status.sealing is not None:
            return await self._observe_sealing(batch)
        if batch.phase is Phase.IN_PROGRESS:
            is_late = now >= (batch.status.deadline or batch.created + self.window)
            return await self._observe_running(batch, is_late=is_late)
        if batch.phase is Phase.VALIDATING and not batch.spec.cancel_requested:
            return await self._observe_validating(batch)
        return Observed(batch, inspect=await self._job(batch, Step.INSPECT), origin=await self._origin(batch))

    async def _observe_validating(self, batch: BatchJob) -> Observed:
        file = await self._input_file(batch)
        inspect = await self._job(batch, Step.INSPECT)  # before the verdict that it may leave
        return Observed(
            batch,
            input_file=file,
            input_key=self._input_key(batch),
            origin=await self._origin(batch),
            verdict=await self._verdict(batch, file),
            models=await self._models(batch),
            inspect=inspect,
        )

    async def _origin(self, batch: BatchJob) -> Origin | None:
        """Find the batch that a batch runs again, in the namespace of both, with its files."""
        if batch.spec.input.rerun_of is None:
            return None
        namespace = batch.metadata.namespace
        try:
            origin = BatchJob.parse(await self.cluster.get(BATCH_JOB, namespace, batch.spec.input.rerun_of))
        except Missing:
            return None
        output_file = await self._file(namespace, origin.result_file_id(ResultKind.OUTPUT))
        return Origin(origin, await self._input_file(origin), self._input_key(origin), output_file)

    async def _observe_running(self, batch: BatchJob, *, is_late: bool) -> Observed:
        job = await self._job(batch, Step.RUN)
        is_working = job is not None and job.state is JobState.ACTIVE
        uid, slices = batch.metadata.uid, batch.status.slices or 1
        return Observed(
            batch,
            models=() if job else await self._models(batch),
            run=job,
            node=await self._node(batch, job) if job and is_working else None,
            ended_at=None if is_working and not is_late else await last_end(self.bucket, uid, slices),
            progress=await self._progress(uid) if is_working else None,
        )

    async def _observe_sealing(self, batch: BatchJob) -> Observed:
        # The Job first: a manifest that is looked for after its Job has ended is there or will never be.
        run, seal = await self._job(batch, Step.RUN), await self._job(batch, Step.SEAL)
        return Observed(batch, run=run, seal=seal, sealed=await self._sealed(batch))

    async def _observe_ended(self, batch: BatchJob) -> Observed:
        attempts = self.courier.attempts(batch)
        if batch.status.settled:
            return Observed(batch)
        jobs = [await self._job(batch, step) for step in (Step.RUN, Step.SEAL, Step.INSPECT)]
        return Observed(
            batch,
            run=jobs[0],
            seal=jobs[1],
            inspect=jobs[2],
            sealed=await self._sealed(batch),
            listeners=self.courier.listeners(batch.metadata.namespace),
            attempts=attempts,
        )

    async def _input_file(self, batch: BatchJob) -> StoredFile | None:
        return await self._file(batch.metadata.namespace, batch.spec.input.file_id or "")

    async def _file(self, namespace: str, file_id: str) -> StoredFile | None:
        value = names.parse_id(IdKind.FILE, file_id)
        if value is None:
            return None
        try:
            found = await self.cluster.get(STORED_FILE, namespace, names.resource_name(IdKind.FILE, value))
            return StoredFile.parse(found)
        except Missing:
            return None

    def _input_key(self, batch: BatchJob) -> str | None:
        source = batch.spec.input
        if source.file_id:
            return names.file_key(source.file_id)
        if source.rerun_of:
            return names.rest_key(batch.metadata.uid)
        return key_of_uri(source.uri or "", self.bucket.url, batch.metadata.namespace, self.uri_prefixes)

    async def _verdict(self, batch: BatchJob, file: StoredFile | None) -> Verdict | None:
        """Take the verdict of the upload, or, where that has none for the endpoint, of an `inspect` Job."""
        judged = file.status.verdict if file else None
        if judged and batch.spec.endpoint in judged.endpoints:
            return judged
        model = RestVerdict if batch.spec.input.rerun_of else Verdict
        try:
            return model.model_validate_json(await get(self.bucket, names.verdict_key(batch.metadata.uid)))
        except Missing:
            return judged

    async def _models(self, batch: BatchJob) -> tuple[HostedModel, ...]:
        return tuple(await read_known(self.cluster, HostedModel, Selector(batch.metadata.namespace)))

    async def _job(self, batch: BatchJob, step: Step) -> Job | None:
        """Read a Job of this batch and its pods; a stranger of the same name is none of ours."""
        name = job_name(batch.metadata.uid, step, batch.status.attempt)
        try:
            manifest = await self.cluster.get(JOB, batch.metadata.namespace, name)
        except Missing:
            return None
        owners = {owner["uid"] for owner in manifest["metadata"].get("ownerReferences", [])}
        if batch.metadata.uid not in owners:
            return None
        selector = Selector(batch.metadata.namespace, labels=(("batch.kubernetes.io/job-name", name),))
        return parse_job(manifest, [pod async for pod in each(self.cluster, POD, selector)])

    async def _node(self, batch: BatchJob, job: Job) -> Node | None:
        """Read the node of a run Job, once an attempt; who may not know it, or comes too late, goes on without."""
        name = next((pod.node for pod in job.pods if pod.running), "")
        if not name or batch.status.instance_type or batch.status.gpu_type:
            return None
        try:
            return parse_node(await self.cluster.get(NODE, "", name), self.gpu_label)
        except (Missing, Refused):
            return None

    async def _progress(self, batch_uid: str) -> State:
        return sum_states(found.state for found in (await read_progress(self.bucket, batch_uid)).values())

    async def _sealed(self, batch: BatchJob) -> Sealed | None:
        key = names.manifest_key(batch.metadata.uid)
        info = await self.bucket.head(key)
        return Sealed(decode_manifest(await get(self.bucket, key)), info.written) if info else None
