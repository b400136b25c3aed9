"""`inspect`: check the lines of an input that did not come through the API, and leave the verdict in the bucket."""

from contextlib import aclosing, suppress

import structlog

from nightshift_crds import names
from nightshift_crds.bucket.port import Bucket
from nightshift_crds.errors import AlreadyExists, Missing
from nightshift_crds.exits import Exit
from nightshift_crds.inspection import Inspection, Limits
from nightshift_crds.models import Verdict
from nightshift_processor.settings import InspectSettings

_log = structlog.get_logger()


async def inspect(settings: InspectSettings, bucket: Bucket) -> Exit:
    """Write the verdict; the first one stands, so that a batch is judged once."""
    try:
        verdict = await _read_verdict(settings, bucket)
    except Missing:
        _log.error("input.unusable", problem="Missing")
        return Exit.BAD_INPUT
    key = names.verdict_key(settings.batch_uid)
    with suppress(AlreadyExists):
        await bucket.put(key, verdict.model_dump_json(by_alias=True, exclude_none=True).encode(), create_only=True)
    _log.info("input.inspected", lines=verdict.lines, bytes=verdict.bytes)
    return Exit.DONE


async def _read_verdict(settings: InspectSettings, bucket: Bucket) -> Verdict:
    info = await bucket.head(settings.input_key)
    if info is None:
        raise Missing(settings.input_key)
    if info.size > settings.max_file_bytes:  # refused by its size alone, so it is not read
        return Verdict(lines=0, bytes=info.size, crc32c=0)
    inspection = Inspection((settings.endpoint,), Limits(settings.max_lines, settings.max_line_bytes))
    async with aclosing(bucket.read(settings.input_key)) as chunks:
        async for chunk in chunks:
            inspection.feed(chunk)
    return inspection.finish()
