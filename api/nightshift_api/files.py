"""The Files API: upload, list, get, content, delete (contract 3)."""

from collections.abc import Awaitable, Callable
from contextlib import suppress
from datetime import UTC, datetime
from functools import partial
from typing import TypeVar
from urllib.parse import quote

from starlette.requests import Request
from starlette.responses import Response, StreamingResponse

from nightshift_api.caller import namespace_of
from nightshift_api.content import Content, find_content, measure, open_content
from nightshift_api.context import Context
from nightshift_api.index import Query
from nightshift_api.paging import parse_cursor, render_page
from nightshift_api.parsing import parse_fields
from nightshift_api.progress import batch_of
from nightshift_api.rendering import created_at, is_live, render_file
from nightshift_api.responses import respond
from nightshift_api.upload import Upload, receive_upload
from nightshift_api.wire import MORE, DeletedFile, ListFiles, Ranged
from nightshift_crds import names
from nightshift_crds.bucket.port import Bucket
from nightshift_crds.cluster.port import STORED_FILE, Manifest, Propagation
from nightshift_crds.errors import AlreadyExists, Conflict, Missing, NotFound, Unavailable
from nightshift_crds.holding import is_read
from nightshift_crds.inspection import fit_verdict
from nightshift_crds.lifecycle import is_terminal
from nightshift_crds.models import FilePhase, StoredFile, StoredFileSpec, StoredFileStatus
from nightshift_crds.names import IdKind

_T = TypeVar("_T")
_BYTES = "application/octet-stream"


async def record_file(context: Context, namespace: str, file_id: str, upload: Upload) -> StoredFile:
    """Make a file exist whose bytes are durable, last of all: without its status it does not.

    Doing so again, after a crash in between too, changes nothing and gives the file as it is.
    """
    value = names.parse_id(IdKind.FILE, file_id)
    assert value is not None
    name = names.resource_name(IdKind.FILE, value)
    spec = _uploaded_spec(upload)
    try:
        manifest = await context.cluster.create(
            STORED_FILE, StoredFile.build({"name": name, "namespace": namespace}, spec)
        )
    except AlreadyExists:
        manifest = await context.cluster.get(STORED_FILE, namespace, name)
    file = StoredFile.parse(manifest)
    if file.status.phase is not None:
        return file
    life_s = spec.expires_after_seconds or context.settings.default_expiry_s
    status = _uploaded_status(upload, datetime.fromtimestamp(created_at(file) + life_s, UTC))
    return StoredFile.parse(await context.cluster.patch_status(STORED_FILE, namespace, name, {"status": status}))


def _uploaded_spec(upload: Upload) -> StoredFileSpec:
    expires_after = upload.form.expires_after
    return StoredFileSpec(
        filename=upload.filename,
        purpose=upload.form.purpose,
        expires_after_seconds=expires_after.seconds if expires_after else None,
    )


def _uploaded_status(upload: Upload, expires_at: datetime) -> Manifest:
    return StoredFileStatus(
        phase=FilePhase.READY,
        bytes=upload.verdict.bytes,
        crc32c=upload.verdict.crc32c,
        expires_at=expires_at,
        expires_day=expires_at.astimezone(UTC).date().isoformat(),
        verdict=fit_verdict(upload.verdict),
    ).dump()


class Files:
    """The endpoints under `/files`."""

    def __init__(self, context: Context) -> None:
        self._context = context

    async def create(self, request: Request) -> Response:
        """Upload a file."""
        value = self._context.make_uuid()
        file_id = names.make_id(IdKind.FILE, value)
        upload = await receive_upload(request, self._context, file_id)
        file = await record_file(self._context, namespace_of(request), file_id, upload)
        return respond(render_file(file, file.status.bytes))

    async def list(self, request: Request) -> Response:
        """List files, newest first."""
        query = parse_fields(ListFiles, request.query_params)
        namespace = namespace_of(request)
        index = await self._context.lists.index(STORED_FILE, namespace)
        after = parse_cursor(IdKind.FILE, query.after, partial(index.find, namespace))
        now = self._context.now().timestamp()
        purposes = None if query.purpose is None else frozenset({query.purpose})
        wanted = Query(query.limit, now, after, purposes, is_descending=query.order == "desc")
        rows, has_more = index.page(namespace, wanted)
        return respond(render_page(rows, has_more=has_more))

    async def get(self, request: Request) -> Response:
        """Show a file."""
        file, size = await self._look(request, measure)
        return respond(render_file(file, size))

    async def content(self, request: Request) -> Response:
        """Download a file or a part of it, or as much of it as there is."""
        if request.method == "HEAD":  # has no ranges, and needs no bytes
            file, content = await self._look(request, find_content)
            return Response(headers=_describe(file, content), media_type=_BYTES)
        asked = Ranged.model_validate({name: request.headers.get(name) for name in ("Range", "If-Range")})
        file, content = await self._look(request, partial(open_content, asked=asked))
        headers = _describe(file, content)
        return StreamingResponse(content.chunks, 206 if content.part else 200, headers, media_type=_BYTES)

    async def delete(self, request: Request) -> Response:
        """Delete a file that no unfinished batch uses."""
        file, _ = await self._look(request, measure)
        await self._refuse_if_used(file)
        metadata = file.metadata
        try:
            await self._context.cluster.delete(
                STORED_FILE, metadata.namespace, metadata.name, propagation=Propagation.BACKGROUND, uid=metadata.uid
            )
        except Missing:
            raise _unknown() from None
        with suppress(Unavailable):  # the file is gone for its owner; the sweep takes bytes without a StoredFile
            await self._context.bucket.delete(names.file_key(file.id))
        return respond(DeletedFile(id=file.id))

    async def _find(self, request: Request) -> StoredFile:
        """Find the file that the path names."""
        value = names.parse_id(IdKind.FILE, request.path_params["file_id"])
        if value is None:
            raise _unknown()
        name = names.resource_name(IdKind.FILE, value)
        try:
            file = StoredFile.parse(await self._context.cluster.get(STORED_FILE, namespace_of(request), name))
        except Missing:
            raise _unknown() from None
        if not is_live(file, self._context.now()):
            raise _unknown()
        return file

    async def _look(
        self, request: Request, read: Callable[[Bucket, StoredFile], Awaitable[_T]]
    ) -> tuple[StoredFile, _T]:
        """Find the file that the path names and read of its bytes.

        While we look it may be sealed, and the logs that it grew in cleared: then a second look finds it whole.
        """
        for _ in range(2):
            file = await self._find(request)
            with suppress(Missing):
                return file, await read(self._context.bucket, file)
        raise _unknown()

    async def _refuse_if_used(self, file: StoredFile) -> None:
        source = await batch_of(self._context.cluster, file)
        if (source and not is_terminal(source.phase)) or await is_read(self._context.cluster, file):
            raise Conflict("The file is used by a batch that has not ended.", code="file_in_use", param="id")


def _unknown() -> NotFound:
    return NotFound("No such file.", param="id")


def _describe(file: StoredFile, content: Content) -> dict[str, str]:
    """Write the headers of a download. Pure."""
    headers = {
        "content-length": str(content.size if content.part is None else len(content.part)),
        "content-disposition": _disposition(file.spec.filename),
        "accept-ranges": "bytes" if content.is_whole else "none",
        "x-content-type-options": "nosniff",  # what a model wrote is never a page of ours
        MORE: "false" if content.is_whole else "true",
    }
    if content.etag:
        headers["etag"] = content.etag
    if content.part:
        headers["content-range"] = f"bytes {content.part.start}-{content.part.stop - 1}/{content.size}"
    return headers


def _disposition(filename: str) -> str:
    """Name a download as RFC 6266 does: plainly where that is safe, and in UTF-8 besides."""
    plain = "".join(c if c.isascii() and c.isprintable() and c not in '"\\' else "_" for c in filename)
    return f"attachment; filename=\"{plain}\"; filename*=UTF-8''{quote(filename, safe='')}"
