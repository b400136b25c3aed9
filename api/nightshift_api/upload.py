"""Take a file in: a multipart form whose bytes go to the bucket while they arrive, checked on the way.

Never a temporary file and never the whole in memory. The parts come in any order (contract 3.2), so the bytes are
staged under the file's own key before the other fields are known, and taken away again if those turn out wrong: until
its StoredFile has a status, a file does not exist.
"""

import unicodedata
from collections.abc import AsyncIterator, Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import PurePosixPath
from typing import Any

from multipart import MultipartError, MultipartSegment, PushMultipartParser, parse_options_header
from starlette.requests import Request

from nightshift_api.context import Context
from nightshift_api.parsing import parse_fields
from nightshift_api.settings import Settings
from nightshift_api.wire import CreateFile
from nightshift_crds.errors import NightshiftError, Rejected
from nightshift_crds.inspection import Inspection, Limits
from nightshift_crds.models import Verdict
from nightshift_crds.names import file_key

_MAX_FIELD_BYTES = 64 * 1024
_MAX_PARTS = 32
_MAX_FILENAME_CHARS = 255


@dataclass(frozen=True)
class Upload:
    """A file whose bytes are durable, and what was found in them."""

    filename: str
    form: CreateFile
    verdict: Verdict


@dataclass
class _Received:
    """What has arrived so far of a form."""

    fields: dict[str, str] = field(default_factory=dict)
    filename: str | None = None
    verdict: Verdict | None = None


async def receive_upload(request: Request, context: Context, file_id: str) -> Upload:
    """Store the file of a form under its key and give what came with it; on any failure nothing stays.

    Raises:
        Rejected: the form, the file or a field is not as contract 3.2 and 14 (E15 to E22) want it.
    """
    key = file_key(file_id)
    received = _Received()
    form = _Form(request.stream(), _parser(request, context.settings))
    try:
        while part := await form.next_part():
            await _take(part, received, context, key)
        return _accept(received)
    except BaseException:
        with suppress(NightshiftError):  # what cannot be taken away now is swept: it has no StoredFile
            await context.bucket.delete(key)
        raise


async def _take(part: "_Part", received: _Received, context: Context, key: str) -> None:
    if part.name != "file":
        received.fields[part.name] = await part.text()
        if part.name == "purpose":  # a wrong one is told before the bytes of the file are read
            parse_fields(CreateFile, {"purpose": received.fields["purpose"]})
    elif part.filename is not None:  # a plain field of that name is no file: the end of the form tells
        await _take_file(part, part.filename, received, context, key)


async def _take_file(part: "_Part", filename: str, received: _Received, context: Context, key: str) -> None:
    if received.filename is not None:
        raise Rejected("Expected one 'file' part.", code="invalid_value", param="file")
    received.filename = _clean_name(filename)
    settings = context.settings
    inspection = Inspection(settings.endpoints, Limits(settings.max_lines, settings.max_line_bytes))
    await context.bucket.put(key, _inspected(part, inspection, settings.max_file_bytes), create_only=True)
    received.verdict = inspection.finish()


async def _inspected(part: "_Part", inspection: Inspection, max_bytes: int) -> AsyncIterator[bytes]:
    async for chunk in part.chunks():
        inspection.feed(chunk)
        if inspection.size > max_bytes:
            raise _too_large(max_bytes)
        yield chunk
    if not inspection.size:
        raise Rejected("The file is empty.", code="empty_file", param="file")


def _too_large(max_bytes: int) -> Rejected:
    return Rejected(f"The file is larger than {max_bytes} bytes.", code="file_too_large", param="file", status=413)


def _clean_name(filename: str) -> str:
    """Strip directories and control characters, and refuse an extension other than `.jsonl`; none is fine."""
    base = filename.replace("\\", "/").rpartition("/")[2]
    path = PurePosixPath("".join(char for char in base if unicodedata.category(char) != "Cc"))
    if path.suffix and path.suffix.lower() != ".jsonl":
        raise Rejected("Expected a file with the extension '.jsonl'.", code="invalid_file_format", param="file")
    stem = "" if path.name == ".." else path.stem
    return stem[: _MAX_FILENAME_CHARS - len(path.suffix)] + path.suffix or "upload"


def _accept(received: _Received) -> Upload:
    fields: dict[str, Any] = {key: value for key, value in received.fields.items() if key == "purpose"}
    form = parse_fields(CreateFile, fields | _expiry(received.fields))
    if received.filename is None or received.verdict is None:
        raise Rejected("Invalid 'file': a file part is required.", code="missing_required_parameter", param="file")
    return Upload(received.filename, form, received.verdict)


def _expiry(fields: dict[str, str]) -> dict[str, Any]:
    """Read `expires_after`, spelt with brackets or, as Azure's clients do, with a dot."""
    found = {
        key: fields[name]
        for key in ("anchor", "seconds")
        for name in (f"expires_after[{key}]", f"expires_after.{key}")
        if name in fields
    }
    return {"expires_after": found} if found else {}


# --- the form ---------------------------------------------------------------------------------------------------------


class _Form:
    """A form, pulled piece by piece out of the body of a request."""

    def __init__(self, body: AsyncIterator[bytes], parser: PushMultipartParser) -> None:
        self._body = body
        self._parser = parser
        self._events: Iterator[MultipartSegment | bytes | None] = iter(())

    async def next_part(self) -> "_Part | None":
        """Skip what is left of the last part and go to the next one; None at the end of the form."""
        while True:
            event = await self.next_event()
            if isinstance(event, MultipartSegment):
                return _Part(event.name or "", event.filename, self)
            if event is _END:
                return None

    async def next_event(self) -> object:
        """Give the next segment, bytes of it, None at its end, or `_END`. Raises `Rejected` if the form is broken."""
        try:
            while (event := next(self._events, _END)) is _END and not self._parser.closed:
                self._events = self._parser.parse(await anext(self._body, b""))
        except MultipartError as error:
            raise _broken(error) from None
        return event


_END = object()


@dataclass(frozen=True)
class _Part:
    """One part of a form while it arrives."""

    name: str
    filename: str | None
    form: _Form

    async def chunks(self) -> AsyncIterator[bytes]:
        """Stream the bytes of the part."""
        while isinstance(event := await self.form.next_event(), bytes):
            yield event

    async def text(self) -> str:
        """Read a small field whole."""
        held = bytearray()
        async for chunk in self.chunks():
            held += chunk
            if len(held) > _MAX_FIELD_BYTES:
                raise Rejected(f"Expected a field of at most {_MAX_FIELD_BYTES} bytes.", status=413)
        try:
            return held.decode()
        except UnicodeDecodeError:
            raise Rejected("Expected the fields of the form to be UTF-8.") from None


def _parser(request: Request, settings: Settings) -> PushMultipartParser:
    kind, options = parse_options_header(request.headers.get("content-type", ""))  # type: ignore[no-untyped-call]
    if kind != "multipart/form-data":
        raise Rejected("Expected the request to be multipart/form-data.", status=415)
    if _declared_bytes(request) > settings.max_file_bytes + _MAX_FIELD_BYTES * _MAX_PARTS:
        raise _too_large(settings.max_file_bytes)
    try:
        return PushMultipartParser(options.get("boundary", ""), max_segment_count=_MAX_PARTS)
    except MultipartError as error:
        raise _broken(error) from None


def _declared_bytes(request: Request) -> int:
    try:
        return int(request.headers.get("content-length", "0"))
    except ValueError:  # whoever declares nonsense declares nothing: bytes are counted as they come
        return 0


def _broken(error: MultipartError) -> Rejected:
    return Rejected(f"The multipart form is not valid: {error.args[0]}.")
