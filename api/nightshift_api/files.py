"""The Files API: upload, list, get, content, delete (contract 3)."""

from datetime import UTC, datetime, timedelta
from typing import Literal
from urllib.parse import quote

from starlette.requests import Request
from starlette.responses import Response, StreamingResponse

from nightshift_api.auth import namespace_of
from nightshift_api.content import Content, growing_content, sealed_content
from nightshift_api.context import Context
from nightshift_api.paging import paginate, parse_cursor, render_page
from nightshift_api.parsing import parse_fields
from nightshift_api.progress import batch_of
from nightshift_api.responses import respond
from nightshift_api.upload import Upload, receive_upload
from nightshift_api.wire import DeletedFile, FileObject, ListFiles
from nightshift_crds import names
from nightshift_crds.cluster.port import BATCH_JOB, STORED_FILE, Manifest, Propagation, Selector, each
from nightshift_crds.errors import Conflict, Missing, NotFound
from nightshift_crds.inspection import fit_verdict
from nightshift_crds.lifecycle import is_terminal
from nightshift_crds.models import BatchJob, FilePhase, StoredFile, StoredFileSpec, StoredFileStatus
from nightshift_crds.names import IdKind


def render_file(file: StoredFile, size: int) -> FileObject:
    """Show a file; `size` is what can be read of it now. Pure."""
    status: Literal["uploaded", "processed"] = "processed" if file.status.phase is FilePhase.READY else "uploaded"
    return FileObject(
        id=file.id,
        bytes=size,
        created_at=int(file.created.timestamp()),
        expires_at=int(file.status.expires_at.timestamp()) if file.status.expires_at else None,
        filename=file.spec.filename,
        purpose=file.spec.purpose,
        status=status,
    )


def is_live(file: StoredFile, now: datetime) -> bool:
    """Tell whether a file has come into being and has not expired. Pure."""
    expires_at = file.status.expires_at
    return file.status.phase is not None and not (expires_at and expires_at <= now)


def is_listed(file: StoredFile, now: datetime) -> bool:
    """Tell whether a list shows a file: a result file from its first line on. Pure."""
    return is_live(file, now) and (file.status.phase is FilePhase.READY or file.status.bytes > 0)


class Files:
    """The endpoints under `/files`."""

    def __init__(self, context: Context) -> None:
        self._context = context

    async def create(self, request: Request) -> Response:
        """Upload a file."""
        value = self._context.make_uuid()
        file_id = names.make_id(IdKind.FILE, value)
        upload = await receive_upload(request, self._context, file_id)
        name = names.resource_name(IdKind.FILE, value)
        file = await self._record(upload, namespace_of(request), name)
        return respond(render_file(file, file.status.bytes))

    async def list(self, request: Request) -> Response:
        """List files, newest first."""
        query = parse_fields(ListFiles, request.query_params)
        now = self._context.now()
        selector = Selector(namespace_of(request), fields=f"spec.purpose={query.purpose}" if query.purpose else "")
        files = [StoredFile.parse(manifest) async for manifest in each(self._context.cluster, STORED_FILE, selector)]
        rows = {file.id: (int(file.created.timestamp()), file) for file in files if is_listed(file, now)}
        after = parse_cursor(IdKind.FILE, query.after, lambda id_: rows[id_][0] if id_ in rows else None)
        chosen, has_more = paginate(
            (((at, id_), file) for id_, (at, file) in rows.items()),
            after=after,
            limit=query.limit,
            descending=query.order == "desc",
        )
        objects = [render_file(file, file.status.bytes) for file in chosen]
        return respond(render_page(objects, has_more=has_more, id_of=lambda item: item.id))

    async def get(self, request: Request) -> Response:
        """Show a file."""
        file = await self._find(request)
        size = file.status.bytes if file.status.phase is FilePhase.READY else (await self._open(file)).size
        return respond(render_file(file, size))

    async def content(self, request: Request) -> Response:
        """Download a file, or as much of it as there is."""
        file = await self._find(request)
        content = await self._open(file)
        headers = {"content-length": str(content.size), "content-disposition": _disposition(file.spec.filename)}
        return StreamingResponse(content.chunks, headers=headers, media_type="application/octet-stream")

    async def delete(self, request: Request) -> Response:
        """Delete a file that no unfinished batch uses."""
        file = await self._find(request)
        if file.status.phase is FilePhase.WRITING:
            await self._open(file)
        await self._refuse_if_used(file)
        metadata = file.metadata
        try:
            await self._context.cluster.delete(
                STORED_FILE, metadata.namespace, metadata.name, propagation=Propagation.BACKGROUND, uid=metadata.uid
            )
        except Missing:
            raise _unknown() from None
        await self._context.bucket.delete(names.file_key(file.id))
        return respond(DeletedFile(id=file.id))

    async def _record(self, upload: Upload, namespace: str, name: str) -> StoredFile:
        """Make the file exist, last of all: without its status it does not."""
        expires_after = upload.form.expires_after
        spec = StoredFileSpec(
            filename=upload.filename,
            purpose=upload.form.purpose,
            expires_after_seconds=expires_after.seconds if expires_after else None,
        )
        cluster = self._context.cluster
        created = await cluster.create(STORED_FILE, StoredFile.build({"name": name, "namespace": namespace}, spec))
        life_s = spec.expires_after_seconds or self._context.settings.default_expiry_s
        status = _uploaded_status(upload, StoredFile.parse(created).created + timedelta(seconds=life_s))
        return StoredFile.parse(await cluster.patch_status(STORED_FILE, namespace, name, {"status": status}))

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

    async def _open(self, file: StoredFile) -> Content:
        """Open what can be read of a file; one that is still being written exists once it has a line."""
        try:
            if file.status.phase is FilePhase.READY:
                return await sealed_content(self._context.bucket, names.file_key(file.id))
            content = await growing_content(self._context.bucket, file.spec.source)
        except Missing:
            raise _unknown() from None
        if not content.size:
            raise _unknown()
        return content

    async def _refuse_if_used(self, file: StoredFile) -> None:
        selector = Selector(file.metadata.namespace, fields=f"spec.input.fileId={file.id}")
        users = [BatchJob.parse(m) async for m in each(self._context.cluster, BATCH_JOB, selector)]
        source = await batch_of(self._context.cluster, file)
        if any(not is_terminal(batch.phase) for batch in [*users, *([source] if source else [])]):
            raise Conflict("The file is used by a batch that has not ended.", code="file_in_use", param="id")


def _uploaded_status(upload: Upload, expires_at: datetime) -> Manifest:
    return StoredFileStatus(
        phase=FilePhase.READY,
        bytes=upload.verdict.bytes,
        crc32c=upload.verdict.crc32c,
        expires_at=expires_at,
        expires_day=expires_at.astimezone(UTC).date().isoformat(),
        verdict=fit_verdict(upload.verdict),
    ).dump()


def _unknown() -> NotFound:
    return NotFound("No such file.", param="id")


def _disposition(filename: str) -> str:
    """Name a download as RFC 6266 does: plainly where that is safe, and in UTF-8 besides."""
    plain = "".join(c if c.isascii() and c.isprintable() and c not in '"\\' else "_" for c in filename)
    return f"attachment; filename=\"{plain}\"; filename*=UTF-8''{quote(filename, safe='')}"
