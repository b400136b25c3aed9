"""Take a file in: its bytes go to the bucket while they arrive, checked on the way.

The parts of a form come in any order (contract 3.2), so the bytes are staged under the file's own key before the other
fields are known, and taken away again if those turn out wrong: until its StoredFile has a status, a file does not
exist.
"""

import unicodedata
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from pathlib import PurePosixPath
from typing import Any

from starlette.requests import Request

from nightshift_api.context import Context
from nightshift_api.forms import FormPart, limited, missing, open_form, second
from nightshift_api.parsing import parse_fields
from nightshift_api.wire import CreateFile
from nightshift_crds.bucket.port import Bucket
from nightshift_crds.errors import NightshiftError, Rejected
from nightshift_crds.inspection import Inspection, Limits
from nightshift_crds.models import Verdict
from nightshift_crds.names import file_key

_MAX_FILENAME_CHARS = 255
_FILE = "file"


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
    form = open_form(request, _FILE, context.settings.max_file_bytes)
    async with taking_back(context.bucket, key):
        while part := await form.next_part():
            await _take(part, received, context, key)
        return _accept(received)


@asynccontextmanager
async def taking_back(bucket: Bucket, key: str) -> AsyncIterator[None]:
    """Take an object away again if what it is put for fails."""
    try:
        yield
    except BaseException:
        with suppress(NightshiftError):  # what cannot be taken away now is swept: nothing owns it
            await bucket.delete(key)
        raise


async def store_inspected(chunks: AsyncIterator[bytes], context: Context, key: str) -> Verdict:
    """Store the bytes of an input and give what was found in them on the way. Raises `AlreadyExists`."""
    settings = context.settings
    inspection = Inspection(settings.endpoints, Limits(settings.max_lines, settings.max_line_bytes))

    async def inspected() -> AsyncIterator[bytes]:
        async for chunk in chunks:
            inspection.feed(chunk)
            yield chunk

    await context.bucket.put(key, inspected(), create_only=True)
    return inspection.finish()


def clean_name(filename: str, param: str) -> str:
    """Strip directories and control characters, and refuse an extension other than `.jsonl`; none is fine. Pure."""
    base = filename.replace("\\", "/").rpartition("/")[2]
    path = PurePosixPath("".join(char for char in base if unicodedata.category(char) != "Cc"))
    if path.suffix and path.suffix.lower() != ".jsonl":
        raise Rejected("Expected a file with the extension '.jsonl'.", code="invalid_file_format", param=param)
    stem = "" if path.name == ".." else path.stem
    return stem[: _MAX_FILENAME_CHARS - len(path.suffix)] + path.suffix or "upload"


async def _take(part: FormPart, received: _Received, context: Context, key: str) -> None:
    if part.name != _FILE:
        received.fields[part.name] = await part.text()
        if part.name == "purpose":  # a wrong one is told before the bytes of the file are read
            parse_fields(CreateFile, {"purpose": received.fields["purpose"]})
    elif part.filename is not None:  # a plain field of that name is no file: the end of the form tells
        if received.filename is not None:
            raise second(_FILE)
        received.filename = clean_name(part.filename, _FILE)
        chunks = limited(part.chunks(), _FILE, context.settings.max_file_bytes)
        received.verdict = await store_inspected(chunks, context, key)


def _accept(received: _Received) -> Upload:
    fields: dict[str, Any] = {key: value for key, value in received.fields.items() if key == "purpose"}
    form = parse_fields(CreateFile, fields | _expiry(received.fields))
    if received.filename is None or received.verdict is None:
        raise missing(_FILE)
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
