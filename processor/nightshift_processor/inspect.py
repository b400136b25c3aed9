"""`inspect`: check the lines of an input that did not come through the API, and leave the verdict in the bucket.

The input of a rerun is made first, of what the batch that it runs again has left.
"""

from contextlib import aclosing, suppress

import structlog

from nightshift_crds import names
from nightshift_crds.bucket.port import Bucket
from nightshift_crds.errors import AlreadyExists, Missing
from nightshift_crds.exits import Exit
from nightshift_crds.inspection import Inspection, Limits
from nightshift_crds.models import RestVerdict, Verdict
from nightshift_processor.collecting import collect
from nightshift_processor.settings import InspectSettings
from nightshift_processor.spool import InputChanged

_log = structlog.get_logger()


async def inspect(settings: InspectSettings, bucket: Bucket) -> Exit:
    """Write the verdict; the first one stands, so that a batch is judged once."""
    try:
        verdict = await _find_verdict(settings, bucket)
    except (Missing, InputChanged) as error:
        _log.error("input.unusable", problem=type(error).__name__)
        return Exit.BAD_INPUT
    key = names.verdict_key(settings.batch_uid)
    with suppress(AlreadyExists):
        await bucket.put(key, verdict.model_dump_json(by_alias=True, exclude_none=True).encode(), create_only=True)
    _log.info("input.inspected", lines=verdict.lines, bytes=verdict.bytes)
    return Exit.DONE


async def _find_verdict(settings: InspectSettings, bucket: Bucket) -> Verdict:
    key = settings.origin_input_key or settings.input_key
    info = await bucket.head(key)
    if info is None:
        raise Missing(key)
    if info.size > settings.max_file_bytes:  # refused by its size alone, so it is not read
        return Verdict(lines=0, bytes=info.size, crc32c=0)
    if not settings.origin_input_key:
        return await _read_verdict(settings, bucket)
    reused = await collect(settings, bucket)
    verdict = await _read_verdict(settings, bucket)
    return RestVerdict(**dict(verdict), reused=reused.lines, reused_bytes=reused.size)


async def _read_verdict(settings: InspectSettings, bucket: Bucket) -> Verdict:
    inspection = Inspection((settings.endpoint,), Limits(settings.max_lines, settings.max_line_bytes))
    async with aclosing(bucket.read(settings.input_key)) as chunks:
        async for chunk in chunks:
            inspection.feed(chunk)
    return inspection.finish()
