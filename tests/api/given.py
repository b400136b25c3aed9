"""Batches and files as operator and processor bring them to be."""

from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import Any

from pydantic.alias_generators import to_camel

from nightshift_crds import names
from nightshift_crds.bucket.port import Bucket
from nightshift_crds.cluster.port import BATCH_JOB, STORED_FILE, Manifest
from nightshift_crds.lifecycle import TIMESTAMPS, Phase
from nightshift_crds.lines import Usage
from nightshift_crds.models import BatchJob, FilePhase
from nightshift_crds.names import IdKind, ResultKind
from nightshift_crds.records import Header, Progress, RecordKind, State, encode_progress, encode_record
from tests.api.harness import Api, batch_name, file_name
from tests.builders import BATCH_UID, NAMESPACE, a_file_manifest, timestamp

WAYS: dict[Phase, tuple[Phase, ...]] = {
    Phase.VALIDATING: (),
    Phase.IN_PROGRESS: (Phase.IN_PROGRESS,),
    Phase.FINALIZING: (Phase.IN_PROGRESS, Phase.FINALIZING),
    Phase.CANCELLING: (Phase.IN_PROGRESS, Phase.CANCELLING),
    Phase.COMPLETED: (Phase.IN_PROGRESS, Phase.FINALIZING, Phase.COMPLETED),
    Phase.FAILED: (Phase.FAILED,),
    Phase.EXPIRED: (Phase.IN_PROGRESS, Phase.EXPIRED),
    Phase.CANCELLED: (Phase.IN_PROGRESS, Phase.CANCELLING, Phase.CANCELLED),
}
"""A legal way to every phase."""


async def move(api: Api, batch_id: str, *phases: Phase, **status: Any) -> BatchJob:
    """Take a batch through phases, as the operator would, and write `status` with the last of them."""
    manifest: Manifest = await api.cluster.get(BATCH_JOB, NAMESPACE, batch_name(batch_id))
    for phase in phases:
        stamp = {"phase": phase, to_camel(TIMESTAMPS[phase]): timestamp(api.clock.advance(seconds=1))}
        patch = stamp | (status if phase is phases[-1] else {})
        manifest = await api.cluster.patch_status(BATCH_JOB, NAMESPACE, batch_name(batch_id), {"status": patch})
    return BatchJob.parse(manifest)


async def a_batch_in(api: Api, phase: Phase, **status: Any) -> BatchJob:
    """Create a batch through the API and take it to a phase."""
    batch_id = (await api.create_batch())["id"]
    return await move(api, batch_id, *WAYS[phase], **status)


async def add_file(api: Api, file_id: str, phase: FilePhase | None, *, namespace: str = NAMESPACE, **spec: Any) -> None:
    """Make the StoredFile of an id as another role than the API would; without a phase it has no status."""
    manifest = a_file_manifest(name=file_name(file_id), **spec)
    manifest["metadata"]["namespace"] = namespace
    await api.cluster.create(STORED_FILE, manifest)
    if phase:
        await api.cluster.patch_status(STORED_FILE, namespace, file_name(file_id), {"status": {"phase": phase}})


async def add_result_file(api: Api, batch: BatchJob, kind: ResultKind) -> str:
    """Make a result file of a batch as the operator does before the first line, and give its id."""
    file_id = batch.result_file_id(kind)
    source = {"batchName": batch.metadata.name, "batchUid": batch.metadata.uid, "kind": kind}
    filename = names.result_filename(batch.id, kind)
    await add_file(api, file_id, FilePhase.WRITING, purpose="batch_output", filename=filename, source=source)
    return file_id


async def seal_file(api: Api, file_id: str, content: bytes, expires_at: datetime | None = None) -> None:
    """Make a result file whole, as seal and operator do."""
    await api.bucket.put(names.file_key(file_id), content, create_only=True)
    expires_at = expires_at or api.clock.now + timedelta(days=30)
    status = {"phase": FilePhase.READY, "bytes": len(content), "expiresAt": timestamp(expires_at)}
    await api.cluster.patch_status(STORED_FILE, NAMESPACE, file_name(file_id), {"status": status})


async def clear_scratch(bucket: Bucket, batch_uid: str) -> None:
    for prefix in names.scratch_prefixes(batch_uid):
        for key in [info.key async for info in bucket.list(prefix)]:
            await bucket.delete(key)


def an_id(kind: IdKind, when: datetime, n: int = 0) -> str:
    """An id as the API makes them."""
    return names.make_id(kind, names.make_uuid7(int(when.timestamp() * 1000), n.to_bytes(10, "big")))


class SliceLog:
    """The log of a slice and its progress, as a processor writes them."""

    def __init__(
        self,
        bucket: Bucket,
        batch_uid: str = BATCH_UID,
        slice_no: int = 0,
        claim: int = 0,
        *,
        rate: float = 0.0,
    ) -> None:
        self._bucket = bucket
        self._batch_uid = batch_uid
        self._slice_no = slice_no
        self.claim = claim
        self._rate = rate
        self._seq = 0
        self.state = State()

    async def append(self, outputs: Sequence[bytes] = (), errors: Sequence[bytes] = (), *, tokens: int = 0) -> None:
        """Append a record, and count it in the progress."""
        await self.write_record(outputs, errors, tokens=tokens)
        await self.report()

    async def write_record(self, outputs: Sequence[bytes], errors: Sequence[bytes], *, tokens: int = 0) -> None:
        """Append a record that no progress counts yet."""
        output_length, error_length = len(b"".join(outputs)), len(b"".join(errors))
        self.state = State(
            completed=self.state.completed + len(outputs),
            failed=self.state.failed + len(errors),
            usage=self.state.usage + Usage(input_tokens=tokens, total_tokens=tokens),
            output_bytes=self.state.output_bytes + output_length,
            error_bytes=self.state.error_bytes + error_length,
        )
        header = Header(
            kind=RecordKind.PART,
            writer="w",
            state=self.state,
            output_length=output_length,
            error_length=error_length,
        )
        key = names.record_key(self._batch_uid, self._slice_no, self._seq)
        await self._bucket.put(key, encode_record(header, [*outputs, *errors]), create_only=True)
        self._seq += 1

    async def report(self) -> None:
        key = names.progress_key(self._batch_uid, self._slice_no, self.claim)
        progress = encode_progress(Progress(seq=self._seq - 1, state=self.state, rate=self._rate))
        await self._bucket.put(key, progress, create_only=False)
