"""`run`: send the lines of a pod's slices to the model server and write what comes back to the slices' logs.

Workers share the numbers of the lines that the logs do not hold yet: a line is read only when a worker is free, so
memory does not grow with the input. Whatever ends the run early (SIGTERM, the deadline, another writer) stops the
intake, aborts what is in flight and makes durable what has arrived. Which slices are a pod's is `share`'s to say.
"""

import asyncio
from contextlib import closing

import structlog

from nightshift_crds.bucket.port import Bucket
from nightshift_crds.errors import Missing
from nightshift_crds.exits import Exit
from nightshift_crds.metrics import showing
from nightshift_processor.client import open_client
from nightshift_processor.metrics import RunPage
from nightshift_processor.pacing import paced
from nightshift_processor.settings import RunSettings
from nightshift_processor.share import open_share
from nightshift_processor.spool import InputChanged, Spool, fill_spool
from nightshift_processor.stopping import unless, wait_until_over
from nightshift_processor.tally import Tally
from nightshift_processor.working import work_all
from nightshift_processor.writer import Fenced

_log = structlog.get_logger()


async def run(settings: RunSettings, bucket: Bucket, stop: asyncio.Event) -> Exit:
    """Run slices until there is none left, or until `stop` is set or the deadline has come."""
    tally = Tally(asyncio.get_running_loop().time())
    over = asyncio.create_task(wait_until_over(stop, settings.deadline), name="over")
    try:
        with showing(RunPage(tally, settings), settings):
            return await _run(settings, bucket, tally, over)
    finally:
        over.cancel()


async def _run(settings: RunSettings, bucket: Bucket, tally: Tally, over: "asyncio.Task[Exit]") -> Exit:
    fetch = fill_spool(bucket, settings.input_key, settings.input_crc32c, settings.scratch_dir, settings.order)
    try:
        spool = await unless(fetch, over)
    except (Missing, InputChanged) as error:
        _log.error("input.unusable", problem=type(error).__name__)
        return Exit.BAD_INPUT
    if spool is None:
        return await over
    with closing(spool):
        try:
            return await _work_on(settings, bucket, spool, tally, over)
        except Fenced as fenced:
            _log.warning("slice.fenced", problem=str(fenced))
            return Exit.INTERRUPTED


async def _work_on(
    settings: RunSettings, bucket: Bucket, spool: Spool, tally: Tally, over: "asyncio.Task[Exit]"
) -> Exit:
    async with open_share(settings, bucket, spool, tally) as share:
        has_work = await unless(share.claim(), over)
        if not has_work:
            return await over if has_work is None else Exit.DONE
        async with open_client(settings) as unpaced, paced(settings, unpaced, tally) as client:
            is_done = await unless(work_all(settings, spool, share, client, tally), share.broken, over)
    end = Exit.DONE if is_done else await over
    _log.info("run.left", exit=end.name)
    return end
