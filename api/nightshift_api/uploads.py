"""The Uploads API: a file that comes in by parts (contract 7).

A complete stages the bytes of the file under an id of its own, as `POST /files` does, then writes the outcome, then
records the file. A crash before the outcome leaves bytes that the sweep takes; one behind it, a file that whoever
completes again records.
"""

from contextlib import aclosing, suppress

from starlette.requests import Request
from starlette.responses import Response

from nightshift_api.bodies import read_body
from nightshift_api.caller import namespace_of
from nightshift_api.context import Context
from nightshift_api.files import record_file
from nightshift_api.forms import limited, missing, open_form, second, too_large
from nightshift_api.parsing import parse_body
from nightshift_api.rendering import is_live, render_file
from nightshift_api.responses import respond
from nightshift_api.sessions import (
    Announced,
    Assembled,
    Outcome,
    Reader,
    Session,
    announce,
    check_md5,
    check_parts,
    created_at,
    decide,
    find_session,
    measure_parts,
    unknown,
)
from nightshift_api.upload import Upload, clean_name, store_inspected, taking_back
from nightshift_api.wire import (
    CompleteUpload,
    CreateFile,
    CreateUpload,
    FileObject,
    UploadObject,
    UploadPart,
    UploadStatus,
)
from nightshift_crds import names
from nightshift_crds.errors import Missing, NightshiftError, Rejected
from nightshift_crds.inspection import fit_verdict
from nightshift_crds.names import IdKind

_PART = "data"


class Uploads:
    """The endpoints under `/uploads`."""

    def __init__(self, context: Context) -> None:
        self._context = context

    async def create(self, request: Request) -> Response:
        """Announce a file that will come by parts."""
        settings = self._context.settings
        body = parse_body(CreateUpload, await read_body(request, settings.max_body_bytes))
        if body.bytes > settings.max_file_bytes:
            raise too_large("bytes", settings.max_file_bytes)
        form = CreateFile(purpose=body.purpose, expires_after=body.expires_after)
        announced = Announced(filename=clean_name(body.filename, "filename"), bytes=body.bytes, form=form)
        upload_id = names.make_id(IdKind.UPLOAD, self._context.make_uuid())
        session = await announce(self._context.bucket, namespace_of(request), upload_id, announced)
        return respond(self._render(session, "pending"))

    async def add_part(self, request: Request) -> Response:
        """Take a part in; parts may come at the same time, and their order is told by who completes."""
        session = await self._find(request)
        self._refuse_ended(session)
        max_parts = self._context.settings.max_upload_parts
        if len(await measure_parts(self._context.bucket, session)) >= max_parts:
            raise Rejected(f"An upload has at most {max_parts} parts.", code="invalid_value", param=_PART)
        part_id = names.make_id(IdKind.PART, self._context.make_uuid())
        await self._receive(request, f"{names.parts_prefix(session.namespace, session.id)}{part_id}")
        return respond(UploadPart(id=part_id, created_at=created_at(IdKind.PART, part_id), upload_id=session.id))

    async def complete(self, request: Request) -> Response:
        """Make the parts a file; asked again, show the same one."""
        body = parse_body(CompleteUpload, await read_body(request, self._context.settings.max_body_bytes))
        session = await self._find(request)
        outcome = session.outcome
        if outcome is None:
            self._refuse_ended(session)
            outcome = await self._assemble(session, body)
        assembled = outcome.assembled
        if assembled is None or list(assembled.part_ids) != body.part_ids:
            raise _ended("cancelled" if assembled is None else "completed")
        check_md5(body.md5, assembled.md5)
        return respond(self._render(session, "completed", await self._record(session, assembled)))

    async def cancel(self, request: Request) -> Response:
        """Give an upload up. Its body is empty, and is not read."""
        session = await self._find(request)
        outcome = session.outcome
        if outcome is None:
            self._refuse_ended(session)
            outcome = await decide(self._context.bucket, session, Outcome())
        if outcome.assembled is not None:
            raise _ended("completed")
        return respond(self._render(session, "cancelled"))

    async def _find(self, request: Request) -> Session:
        return await find_session(self._context.bucket, namespace_of(request), request.path_params["upload_id"])

    def _refuse_ended(self, session: Session) -> None:
        status = self._status(session)
        if status != "pending":
            raise _ended(status)

    def _status(self, session: Session) -> UploadStatus:
        if session.outcome is not None:
            return "completed" if session.outcome.assembled else "cancelled"
        return "pending" if self._context.now().timestamp() < self._expires_at(session) else "expired"

    def _expires_at(self, session: Session) -> int:
        return session.created_at + self._context.settings.upload_life_s

    def _render(self, session: Session, status: UploadStatus, file: FileObject | None = None) -> UploadObject:
        return UploadObject(
            id=session.id,
            bytes=session.announced.bytes,
            created_at=session.created_at,
            expires_at=self._expires_at(session),
            filename=session.announced.filename,
            purpose=session.announced.form.purpose,
            status=status,
            file=file,
        )

    async def _receive(self, request: Request, key: str) -> None:
        """Store the one file part of a form; on any failure nothing stays."""
        max_bytes = self._context.settings.max_upload_part_bytes
        form = open_form(request, _PART, max_bytes)
        is_stored = False
        async with taking_back(self._context.bucket, key):
            while part := await form.next_part():
                if part.name != _PART or part.filename is None:
                    await part.text()  # nobody knows it: it is ignored, but has a limit
                elif is_stored:
                    raise second(_PART)
                else:
                    await self._context.bucket.put(key, limited(part.chunks(), _PART, max_bytes), create_only=True)
                    is_stored = True
            if not is_stored:
                raise missing(_PART)

    async def _assemble(self, session: Session, body: CompleteUpload) -> Outcome:
        """Make the parts a file that is not recorded yet, and give how the upload has ended by that."""
        bucket = self._context.bucket
        check_parts(body.part_ids, await measure_parts(bucket, session), session.announced.bytes)
        file_id = names.make_id(IdKind.FILE, self._context.make_uuid())
        assembled = await self._stage(session, body, file_id)
        # From here on the bytes may be those of a file: they go only if the outcome that stands names others.
        outcome = await decide(bucket, session, Outcome(assembled=assembled))
        if outcome.assembled is None or outcome.assembled.file_id != file_id:
            with suppress(NightshiftError):
                await bucket.delete(names.file_key(file_id))
        return outcome

    async def _stage(self, session: Session, body: CompleteUpload, file_id: str) -> Assembled:
        key = names.file_key(file_id)
        reader = Reader(self._context.bucket, session, body.part_ids)
        async with taking_back(self._context.bucket, key), aclosing(reader.chunks(body.md5)) as chunks:
            try:
                verdict = await store_inspected(chunks, self._context, key)
            except Missing:  # it has expired long ago, and the sweep is at it
                raise unknown() from None
        return Assembled(file_id=file_id, part_ids=tuple(body.part_ids), md5=reader.md5, verdict=fit_verdict(verdict))

    async def _record(self, session: Session, assembled: Assembled) -> FileObject | None:
        """Make the file exist and show it; None if it has been deleted or has expired since."""
        if await self._context.bucket.head(names.file_key(assembled.file_id)) is None:
            return None
        upload = Upload(session.announced.filename, session.announced.form, assembled.verdict)
        with suppress(Missing):
            file = await record_file(self._context, session.namespace, assembled.file_id, upload)
            return render_file(file, file.status.bytes) if is_live(file, self._context.now()) else None
        return None


def _ended(status: UploadStatus) -> Rejected:
    return Rejected(f"The upload is {status}.", code="upload_not_pending", param="upload_id")
