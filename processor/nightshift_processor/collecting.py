"""What a rerun is made of: the results that it takes over from the batch that it runs again, and the rows left of it.

Both become objects of the rerun's own, so that whatever happens to the files of the other batch later changes nothing.
They are written create-only, and what counts is what stands there: a pod that follows one that was killed goes on with
it. Nothing is held but a line and the digests of the ids of the rows that have a result.
"""

from collections.abc import AsyncGenerator, Iterator
from contextlib import aclosing, suppress
from dataclasses import dataclass, field
from hashlib import blake2b

import msgspec
from google_crc32c import extend

from nightshift_crds import names
from nightshift_crds.bucket.port import Bucket
from nightshift_crds.errors import AlreadyExists
from nightshift_crds.lines import LineFault, LineSplitter, parse_item, parse_result_id, request_of
from nightshift_processor.settings import InspectSettings
from nightshift_processor.spool import InputChanged

_ANY_LENGTH = 1 << 62
"""Lines were measured when they were validated, or are looked at when they are inspected."""


@dataclass
class Reused:
    """Output lines that are taken over.

    Attributes:
        digests: of their custom_ids.
    """

    size: int = 0
    lines: int = 0
    digests: set[bytes] = field(default_factory=set)

    def add(self, line: bytes) -> None:
        """Count a line without its newline."""
        self.size += len(line) + 1
        self.lines += 1
        self.digests.add(_digest(parse_result_id(line)))


async def collect(settings: InspectSettings, bucket: Bucket) -> Reused:
    """Write both objects.

    Raises:
        Missing: a file of the other batch is gone.
        InputChanged: its input is not what was validated.
    """
    reused = await _take_over(settings, bucket) if settings.origin_output_key else Reused()
    async with aclosing(_rest_of(settings, bucket, reused.digests)) as rest:
        with suppress(AlreadyExists):
            await bucket.put(settings.input_key, rest, create_only=True)
    return reused


async def _take_over(settings: InspectSettings, bucket: Bucket) -> Reused:
    key = names.reused_key(settings.batch_uid)
    async with aclosing(bucket.read(settings.origin_output_key)) as chunks:
        with suppress(AlreadyExists):
            await bucket.put(key, chunks, create_only=True)
    reused, splitter = Reused(), LineSplitter(_ANY_LENGTH)
    async with aclosing(bucket.read(key)) as chunks:
        async for chunk in chunks:
            for line in splitter.feed(chunk):
                assert line is not None
                reused.add(line)
    return reused


async def _rest_of(settings: InspectSettings, bucket: Bucket, digests: set[bytes]) -> AsyncGenerator[bytes, None]:
    """Stream the input with nothing in the place of lines that have a result, so that the others keep their numbers."""
    found, is_first, splitter = 0, True, LineSplitter(_ANY_LENGTH)
    async with aclosing(bucket.read(settings.origin_input_key)) as chunks:
        async for chunk in chunks:
            found = extend(found, chunk)
            if not digests:
                yield chunk
                continue
            lines = list(_left(splitter.feed(chunk), digests, is_first=is_first))
            is_first = is_first and not lines
            yield b"".join(lines)
    yield b"".join(_left(splitter.finish(), digests, is_first=is_first))
    if settings.origin_input_crc32c not in {None, found}:
        raise InputChanged(f"{settings.origin_input_key} is not what was validated")


def _left(lines: Iterator[bytes | None], digests: set[bytes], *, is_first: bool) -> Iterator[bytes]:
    for number, line in enumerate(lines):
        assert line is not None
        has_result = _has_result(request_of(line, is_first=is_first and number == 0), digests)
        yield b"\n" if has_result else line + b"\n"


def _has_result(request: bytes, digests: set[bytes]) -> bool:
    """Tell whether a line is one of those; what is no request line has none, and is not what was validated."""
    try:
        return bool(request) and _digest(parse_item(request).custom_id) in digests
    except (msgspec.DecodeError, KeyError, LineFault, RecursionError):
        return False


def _digest(custom_id: str) -> bytes:
    return blake2b(custom_id.encode(), digest_size=16).digest()
