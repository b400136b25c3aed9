"""Multipart forms, pulled piece by piece out of the body of a request: never a temporary file, nor the whole in memory.

What the parts mean is not known here: `upload` and `uploads` read them.
"""

from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass

from multipart import MultipartError, MultipartSegment, PushMultipartParser, parse_options_header
from starlette.requests import Request

from nightshift_crds.errors import Rejected

_MAX_FIELD_BYTES = 64 * 1024
_MAX_PARTS = 32


class Form:
    """A form while it arrives."""

    def __init__(self, body: AsyncIterator[bytes], parser: PushMultipartParser) -> None:
        self._body = body
        self._parser = parser
        self._events: Iterator[MultipartSegment | bytes | None] = iter(())

    async def next_part(self) -> "FormPart | None":
        """Skip what is left of the last part and go to the next one; None at the end of the form."""
        while True:
            event = await self.next_event()
            if isinstance(event, MultipartSegment):
                return FormPart(event.name or "", event.filename, self)
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
class FormPart:
    """One part of a form while it arrives."""

    name: str
    filename: str | None
    form: Form

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


def open_form(request: Request, param: str, max_bytes: int) -> Form:
    """Start to read the form of a request, in which one part, `param`, is a file of at most that many bytes.

    Raises:
        Rejected: it is no form, or declares a length that cannot fit.
    """
    kind, options = parse_options_header(request.headers.get("content-type", ""))  # type: ignore[no-untyped-call]
    if kind != "multipart/form-data":
        raise Rejected("Expected the request to be multipart/form-data.", status=415)
    if _declared_bytes(request) > max_bytes + _MAX_FIELD_BYTES * _MAX_PARTS:
        raise too_large(param, max_bytes)
    try:
        parser = PushMultipartParser(options.get("boundary", ""), max_segment_count=_MAX_PARTS)
    except MultipartError as error:
        raise _broken(error) from None
    return Form(request.stream(), parser)


async def limited(chunks: AsyncIterator[bytes], param: str, max_bytes: int) -> AsyncIterator[bytes]:
    """Pass bytes on that must be there and must not be too many. Raises `Rejected`, in the middle or at the end."""
    size = 0
    async for chunk in chunks:
        size += len(chunk)
        if size > max_bytes:
            raise too_large(param, max_bytes)
        yield chunk
    if not size:
        raise Rejected("The file is empty.", code="empty_file", param=param)


def too_large(param: str, max_bytes: int) -> Rejected:
    """Refuse a file for its size (contract 14, E21). Pure."""
    return Rejected(f"The file is larger than {max_bytes} bytes.", code="file_too_large", param=param, status=413)


def missing(param: str) -> Rejected:
    """Refuse a form without its file (contract 14, E17). Pure."""
    message = f"Invalid '{param}': a file part is required."
    return Rejected(message, code="missing_required_parameter", param=param)


def second(param: str) -> Rejected:
    """Refuse a form with two files. Pure."""
    return Rejected(f"Expected one '{param}' part.", code="invalid_value", param=param)


def _declared_bytes(request: Request) -> int:
    try:
        return int(request.headers.get("content-length", "0"))
    except ValueError:  # whoever declares nonsense declares nothing: bytes are counted as they come
        return 0


def _broken(error: MultipartError) -> Rejected:
    return Rejected(f"The multipart form is not valid: {error.args[0]}.")
