"""The Batches API: create, get, list, cancel (contract 4), and what is ours besides: rerun, suspend, resume."""

from collections.abc import Awaitable, Callable, Mapping
from contextlib import suppress
from functools import partial

from starlette.requests import Request
from starlette.responses import Response
from structlog.contextvars import bind_contextvars

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
from nightshift_api.rendering import is_live, render_batch
from nightshift_api.responses import respond, respond_page
from nightshift_api.specs import build_rerun, build_spec, refuse_for, refuse_unended
from nightshift_api.wire import (
    ENDPOINTS,
    BatchObject,
    CreateBatch,
    ListBatches,
    RerunBatch,
    Wire,
)
from nightshift_crds import names, tracing
from nightshift_crds.asking import ask_to_cancel, ask_to_resume, ask_to_suspend
from nightshift_crds.cluster.port import BATCH_JOB, STORED_FILE, Manifest
from nightshift_crds.errors import AlreadyExists, Missing, NotFound, Rejected, Stale, Unavailable
from nightshift_crds.models import BatchJob, BatchJobSpec, FilePhase, StoredFile
from nightshift_crds.names import IdKind
from nightshift_crds.records import Progress, sum_states
from nightshift_crds.reruns import find_missing, find_obstacle
from nightshift_crds.slicelog import read_progress

_TRIES = 10
_SpecMaker = Callable[[], Awaitable[BatchJobSpec]]
"""Checks what a batch is asked to be made of, and writes its spec. Raises `Rejected`."""


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
        make_spec = partial(self._spec_of_new, namespace_of(request), body)
        return respond(await self._make(request, "POST /batches", body, make_spec))

    async def rerun(self, request: Request) -> Response:
        """Create a batch of the rows of another one that have no success."""
        raw = await read_body(request, self._context.settings.max_body_bytes)
        body = parse_body(RerunBatch, raw or b"{}")
        call = f"POST /batches/{request.path_params['batch_id']}/rerun"
        return respond(await self._make(request, call, body, partial(self._spec_of_rerun, request, body)))

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
        """Ask for a cancel. Like that of the next two, its body is empty, whatever its type says, and is not read."""
        return respond(await self._ask(request, partial(ask_to_cancel, now=self._context.now())))

    async def suspend(self, request: Request) -> Response:
        """Ask that nothing of a batch runs until it is resumed."""
        return respond(await self._ask(request, ask_to_suspend))

    async def resume(self, request: Request) -> Response:
        """Ask that a batch goes on that was suspended."""
        return respond(await self._ask(request, ask_to_resume))

    async def _ask(self, request: Request, patch_for: Callable[[BatchJob], Manifest | None]) -> BatchObject:
        """Patch a spec as a batch allows it, and show the batch."""
        for _ in range(_TRIES):
            batch = await self._named(request)
            patch, metadata = patch_for(batch), batch.metadata
            if patch is None:
                return await self._show_live(batch)
            try:
                patched = await self._context.cluster.patch(BATCH_JOB, metadata.namespace, metadata.name, patch)
            except (Stale, Missing):
                continue  # somebody wrote in between: look again whether it is still possible
            return await self._show_live(BatchJob.parse(patched))
        raise Unavailable("the batch changes faster than it can be written to", delay_s=1)

    async def _make(self, request: Request, call: str, body: Wire, make_spec: _SpecMaker) -> BatchObject:
        """Create a batch, once if the request has a key."""
        key, namespace = parse_key(request.headers), namespace_of(request)
        if key is None:
            spec = await make_spec()
            return await self._show(await self._create(namespace, self._make_id(), spec), None)
        at, asked = names.idempotency_key(namespace, key), hash_asked(call, body)
        return await self._make_once(namespace, at, asked, make_spec)

    async def _create(self, namespace: str, batch_id: str, spec: BatchJobSpec) -> BatchJob:
        value = names.parse_id(IdKind.BATCH, batch_id)
        assert value is not None
        bind_contextvars(batch=batch_id)
        metadata: Manifest = {"name": names.resource_name(IdKind.BATCH, value), "namespace": namespace}
        if carrier := tracing.current():
            metadata["annotations"] = tracing.to_annotations(carrier)
        with self._context.admission.creating(namespace):
            return BatchJob.parse(await self._context.cluster.create(BATCH_JOB, BatchJob.build(metadata, spec)))

    async def _make_once(self, namespace: str, at: str, asked: str, make_spec: _SpecMaker) -> BatchObject:
        """Create the batch of an idempotency key, or show the one that an earlier request with it has created.

        The key is claimed behind all checks, so that a request that was refused may be put right and sent again.
        """
        claimed = await find_claimed(self._context.bucket, at, asked)
        if claimed:
            with suppress(NotFound):  # between claim and batch the first request ended
                return await self._show_live(await self._find(namespace, claimed))
        spec = await make_spec()
        batch_id = claimed or await claim(self._context.bucket, at, asked, self._make_id())
        with suppress(AlreadyExists):
            return await self._show(await self._create(namespace, batch_id, spec), None)
        return await self._show_live(await self._find(namespace, batch_id))

    def _make_id(self) -> str:
        return names.make_id(IdKind.BATCH, self._context.make_uuid())

    async def _show_live(self, batch: BatchJob) -> BatchObject:
        """Show a batch with its progress. Where that has gaps it may be being cleared: look again, it has ended."""
        if not is_running(batch):
            return await self._show(batch, None)
        uid = batch.metadata.uid
        progress = await self._progress.read(uid, partial(read_progress, self._context.bucket, uid))
        if len(progress) < (batch.status.slices or 1):
            batch = await self._find(batch.metadata.namespace, batch.id)
        return await self._show(batch, self._sum(progress) if is_running(batch) else None)

    def _sum(self, progress: Mapping[int, Progress]) -> Live:
        found = progress.values()
        rate = round(sum(slice_.rate for slice_ in found), 1)
        return Live(sum_states(slice_.state for slice_ in found), rate, self._context.now())

    async def _show(self, batch: BatchJob, live: Live | None) -> BatchObject:
        origin = None if batch.input_file_id else await self._origin_of(batch)
        return render_batch(batch, live, self._context.settings.completion_window_s, origin)

    async def _origin_of(self, rerun: BatchJob) -> BatchJob | None:
        """Find the batch that another one runs again; None if it is not there."""
        namespace, name = rerun.metadata.namespace, rerun.spec.input.rerun_of or ""
        try:
            return BatchJob.parse(await self._context.cluster.get(BATCH_JOB, namespace, name))
        except Missing:
            return None

    async def _spec_of_new(self, namespace: str, body: CreateBatch) -> BatchJobSpec:
        await self._check_input(namespace, body.input_file_id)
        return build_spec(body)

    async def _spec_of_rerun(self, request: Request, body: RerunBatch) -> BatchJobSpec:
        origin = await self._named(request)
        refuse_unended(origin)
        refuse_for(find_obstacle(origin))
        file_ids = (origin.spec.input.file_id, origin.status.output_file_id)
        input_file, output_file = [await self._find_file(origin.metadata.namespace, file_id) for file_id in file_ids]
        refuse_for(find_missing(origin, input_file, output_file))
        return build_rerun(origin, body)

    async def _check_input(self, namespace: str, file_id: str) -> None:
        file = await self._find_file(namespace, file_id)
        if file is None:
            raise NotFound("No such file.", param="input_file_id")
        if file.spec.purpose != "batch":
            message = "Expected a file with the purpose 'batch'."
            raise Rejected(message, code="invalid_purpose", param="input_file_id")
        if file.status.phase is not FilePhase.READY:
            raise Rejected("The file is not ready.", code="file_not_ready", param="input_file_id")

    async def _find_file(self, namespace: str, file_id: str | None) -> StoredFile | None:
        """Find a file that its owner can see; None if there is no such one."""
        value = names.parse_id(IdKind.FILE, file_id or "")
        if value is None:
            return None
        name = names.resource_name(IdKind.FILE, value)
        try:
            file = StoredFile.parse(await self._context.cluster.get(STORED_FILE, namespace, name))
        except Missing:
            return None
        return file if is_live(file, self._context.now()) else None

    async def _named(self, request: Request) -> BatchJob:
        return await self._find(namespace_of(request), request.path_params["batch_id"])

    async def _find(self, namespace: str, batch_id: str) -> BatchJob:
        """Find a batch: by the name that its id implies, else by the uid that it is. Raises `NotFound`."""
        value = names.parse_id(IdKind.BATCH, batch_id)
        if value is None:
            raise _unknown()
        bind_contextvars(batch=batch_id)
        name = names.resource_name(IdKind.BATCH, value)
        if names.uuid7_ms(value) is None:  # not of our making: the uid of a batch that a person has named
            index = await self._context.lists.index(BATCH_JOB, namespace)
            row = index.find(namespace, batch_id)
            name = row.name if row else name
        try:
            return BatchJob.parse(await self._context.cluster.get(BATCH_JOB, namespace, name))
        except Missing:
            raise _unknown() from None


def _unknown() -> NotFound:
    return NotFound("No such batch.")
