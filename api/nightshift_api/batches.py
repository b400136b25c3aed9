"""The Batches API: create, get, list, cancel (contract 4)."""

from collections.abc import Mapping
from contextlib import suppress
from functools import partial

from starlette.requests import Request
from starlette.responses import Response

from nightshift_api.bodies import read_body
from nightshift_api.caller import namespace_of
from nightshift_api.context import Context
from nightshift_api.details import Live
from nightshift_api.idempotency import claim, find_claimed, hash_asked, parse_key
from nightshift_api.index import Query
from nightshift_api.joining import Joining
from nightshift_api.paging import parse_cursor, render_page
from nightshift_api.parsing import parse_body, parse_fields
from nightshift_api.progress import is_running
from nightshift_api.rendering import render_batch, visible_phase
from nightshift_api.responses import respond, respond_page
from nightshift_api.wire import (
    ENDPOINTS,
    BatchObject,
    CreateBatch,
    ListBatches,
)
from nightshift_crds import names
from nightshift_crds.cluster.port import BATCH_JOB, STORED_FILE
from nightshift_crds.errors import AlreadyExists, Conflict, Missing, NotFound, Rejected, Stale, Unavailable
from nightshift_crds.lifecycle import Phase, Sealing, is_terminal
from nightshift_crds.models import BatchInput, BatchJob, BatchJobSpec, FilePhase, StoredFile
from nightshift_crds.names import IdKind
from nightshift_crds.records import Progress, sum_states
from nightshift_crds.slicelog import read_progress

_CANCEL_TRIES = 10
_LOST = frozenset({Sealing.EXPIRED, Sealing.FAILED})


class Batches:
    """The endpoints under `/batches`."""

    def __init__(self, context: Context) -> None:
        self._context = context
        self._progress: Joining[dict[int, Progress]] = Joining()

    async def create(self, request: Request) -> Response:
        """Create a batch; its content is checked later."""
        settings = self._context.settings
        raw = await read_body(request, settings.max_body_bytes)
        body = parse_body(CreateBatch, raw, {ENDPOINTS: settings.endpoints})
        key = parse_key(request.headers)
        namespace = namespace_of(request)
        if key is not None:
            return respond(await self._create_once(namespace, body, names.idempotency_key(namespace, key)))
        await self._check_input(namespace, body.input_file_id)
        return respond(self._show(await self._create(namespace, self._make_id(), body), None))

    async def list(self, request: Request) -> Response:
        """List batches, newest first, as their status has them."""
        query = parse_fields(ListBatches, request.query_params)
        namespace = namespace_of(request)
        index = await self._context.lists.index(BATCH_JOB, namespace)
        after = parse_cursor(IdKind.BATCH, query.after, partial(index.find, namespace))
        statuses = frozenset(query.status.split(",")) if query.status else None
        wanted = Query(query.limit, self._context.now().timestamp(), after, statuses)
        if query.search:
            most = self._context.settings.max_searched_batches
            found = index.search(namespace, wanted, query.search.casefold(), most)
            return respond_page(request, render_page(found.rows, has_more=found.has_more, looked_at=found.last_id))
        rows, has_more = index.page(namespace, wanted)
        return respond_page(request, render_page(rows, has_more=has_more))

    async def get(self, request: Request) -> Response:
        """Show a batch as it is now."""
        return respond(await self._show_live(await self._named(request)))

    async def look(self, namespace: str, batch_id: str) -> BatchObject:
        """Give a batch as it is now. Raises `NotFound` and `Unavailable`."""
        return await self._show_live(await self._find(namespace, batch_id))

    async def cancel(self, request: Request) -> Response:
        """Ask for a cancel. Its body is empty, whatever its type says, and is not read."""
        for _ in range(_CANCEL_TRIES):
            batch = await self._named(request)
            try:
                batch = await self._ask_to_cancel(batch)
            except (Stale, Missing):
                continue  # somebody wrote in between: look again whether a cancel is still possible
            return respond(await self._show_live(batch))
        raise Unavailable("the batch changes faster than it can be cancelled", delay_s=1)

    async def _create(self, namespace: str, batch_id: str, body: CreateBatch) -> BatchJob:
        value = names.parse_id(IdKind.BATCH, batch_id)
        assert value is not None
        metadata = {"name": names.resource_name(IdKind.BATCH, value), "namespace": namespace}
        manifest = BatchJob.build(metadata, _build_spec(body))
        with self._context.admission.creating(namespace):
            return BatchJob.parse(await self._context.cluster.create(BATCH_JOB, manifest))

    async def _create_once(self, namespace: str, body: CreateBatch, at: str) -> BatchObject:
        """Create the batch of an idempotency key, or show the one that an earlier request with it has created.

        The key is claimed behind all checks, so that a request that was refused may be put right and sent again.
        """
        asked = hash_asked("POST /batches", body)
        claimed = await find_claimed(self._context.bucket, at, asked)
        if claimed:
            with suppress(NotFound):  # between claim and batch the first request ended
                return await self._show_live(await self._find(namespace, claimed))
        await self._check_input(namespace, body.input_file_id)
        batch_id = claimed or await claim(self._context.bucket, at, asked, self._make_id())
        with suppress(AlreadyExists):
            return self._show(await self._create(namespace, batch_id, body), None)
        return await self._show_live(await self._find(namespace, batch_id))

    def _make_id(self) -> str:
        return names.make_id(IdKind.BATCH, self._context.make_uuid())

    async def _ask_to_cancel(self, batch: BatchJob) -> BatchJob:
        if visible_phase(batch) in {Phase.CANCELLING, Phase.CANCELLED}:
            return batch
        if is_terminal(batch.phase) or batch.status.sealing in _LOST:
            raise Conflict(f"A batch that is {visible_phase(batch).lower()} cannot be cancelled.")
        asked = self._context.now().replace(microsecond=0).isoformat().replace("+00:00", "Z")
        metadata = batch.metadata
        patch = {
            "metadata": {"resourceVersion": metadata.resource_version},
            "spec": {"cancelRequested": True, "cancelRequestedAt": asked},
        }
        return BatchJob.parse(await self._context.cluster.patch(BATCH_JOB, metadata.namespace, metadata.name, patch))

    async def _show_live(self, batch: BatchJob) -> BatchObject:
        """Show a batch with its progress. Where that has gaps it may be being cleared: look again, it has ended."""
        if not is_running(batch):
            return self._show(batch, None)
        uid = batch.metadata.uid
        progress = await self._progress.read(uid, partial(read_progress, self._context.bucket, uid))
        if len(progress) < (batch.status.slices or 1):
            batch = await self._find(batch.metadata.namespace, batch.id)
        return self._show(batch, self._sum(progress) if is_running(batch) else None)

    def _sum(self, progress: Mapping[int, Progress]) -> Live:
        found = progress.values()
        rate = round(sum(slice_.rate for slice_ in found), 1)
        return Live(sum_states(slice_.state for slice_ in found), rate, self._context.now())

    def _show(self, batch: BatchJob, live: Live | None) -> BatchObject:
        return render_batch(batch, live, self._context.settings.completion_window_s)

    async def _check_input(self, namespace: str, file_id: str) -> None:
        value = names.parse_id(IdKind.FILE, file_id)
        file = await self._find_input(namespace, names.resource_name(IdKind.FILE, value)) if value else None
        expires_at = file.status.expires_at if file else None
        if file is None or file.status.phase is None or (expires_at and expires_at <= self._context.now()):
            raise NotFound("No such file.", param="input_file_id")
        if file.spec.purpose != "batch":
            message = "Expected a file with the purpose 'batch'."
            raise Rejected(message, code="invalid_purpose", param="input_file_id")
        if file.status.phase is not FilePhase.READY:
            raise Rejected("The file is not ready.", code="file_not_ready", param="input_file_id")

    async def _find_input(self, namespace: str, name: str) -> StoredFile | None:
        try:
            return StoredFile.parse(await self._context.cluster.get(STORED_FILE, namespace, name))
        except Missing:
            return None

    async def _named(self, request: Request) -> BatchJob:
        return await self._find(namespace_of(request), request.path_params["batch_id"])

    async def _find(self, namespace: str, batch_id: str) -> BatchJob:
        """Find a batch: by the name that its id implies, else by the uid that it is. Raises `NotFound`."""
        value = names.parse_id(IdKind.BATCH, batch_id)
        if value is None:
            raise _unknown()
        name = names.resource_name(IdKind.BATCH, value)
        if names.uuid7_ms(value) is None:  # not of our making: the uid of a batch that a person has named
            index = await self._context.lists.index(BATCH_JOB, namespace)
            row = index.find(namespace, batch_id)
            name = row.name if row else name
        try:
            return BatchJob.parse(await self._context.cluster.get(BATCH_JOB, namespace, name))
        except Missing:
            raise _unknown() from None


def _build_spec(body: CreateBatch) -> BatchJobSpec:
    return BatchJobSpec(
        input=BatchInput(file_id=body.input_file_id),
        endpoint=body.endpoint,
        metadata=body.metadata,
        output_expires_after_seconds=body.output_expires_after.seconds if body.output_expires_after else None,
    )


def _unknown() -> NotFound:
    return NotFound("No such batch.")
