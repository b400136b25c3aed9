"""`run`: send the lines of a pod's slices to the model server and write what comes back to the slices' logs.

Worker loops share the numbers of the lines that the logs do not hold yet: a line is read only when a worker is free,
so memory does not grow with the input. Whatever ends the run early (SIGTERM, the deadline, another writer) stops the
intake, aborts what is in flight and makes durable what has arrived. Which slices are a pod's is `share`'s to say.
"""

import asyncio
import random
from contextlib import closing
from dataclasses import dataclass, field

import structlog

from nightshift_crds import names
from nightshift_crds.bucket.port import Bucket
from nightshift_crds.errors import Missing
from nightshift_crds.exits import Exit
from nightshift_crds.lines import parse_item
from nightshift_crds.metrics import showing
from nightshift_processor.client import Answer, ModelClient, NoAnswer, open_client
from nightshift_processor.metrics import RunPage
from nightshift_processor.outcome import conclude
from nightshift_processor.pacing import paced
from nightshift_processor.retry import Tries, is_served, is_turn_over, next_delay
from nightshift_processor.settings import RunSettings
from nightshift_processor.share import Share, open_share
from nightshift_processor.spool import InputChanged, Spool, fill_spool
from nightshift_processor.stopping import unless, wait_until_over
from nightshift_processor.tally import Tally
from nightshift_processor.writer import Fenced

_log = structlog.get_logger()
_UNTRIED = Tries()


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
            is_done = await unless(_Dispatch(settings, spool, share, client, tally).work_all(), share.broken, over)
    end = Exit.DONE if is_done else await over
    _log.info("run.left", exit=end.name)
    return end


@dataclass(frozen=True)
class _Dispatch:
    """The worker loops of a pod.

    Attributes:
        tries: what items have been through that gave way to others.
    """

    settings: RunSettings
    spool: Spool
    share: Share
    client: ModelClient
    tally: Tally
    tries: dict[int, Tries] = field(default_factory=dict)

    async def work_all(self) -> bool:
        """Have as many workers as there may be requests in flight; True when nothing is left."""
        async with asyncio.TaskGroup() as group:
            for _ in range(min(len(self.spool) or 1, self.settings.max_concurrency)):
                group.create_task(self._work())
        return True

    async def _work(self) -> None:
        settings = self.settings
        while found := self.share.take() or await self.share.find():
            part, item = found
            line = parse_item(self.spool.read(item))
            result = await self._ask(item, bytes(line.body))
            if result is None:
                self.share.give_back(part, item)
                continue
            line_id = names.line_id(settings.batch_uid, item)
            await part.add(item, conclude(line_id, line.custom_id, result, settings.error_line_format))

    async def _ask(self, item: int, body: bytes) -> Answer | NoAnswer | None:
        """Send a line until its result stands; None if others shall go first meanwhile."""
        tries = self.tries.pop(item, _UNTRIED)
        while True:
            try:
                result: Answer | NoAnswer = await self.client.post(body)
            except NoAnswer as no_answer:
                result = no_answer
            if is_served(result):
                return result
            tries = tries.after(result)
            delay_s = next_delay(result, tries, self.settings.max_tries, random.random())  # noqa: S311 - jitter
            if delay_s is None:
                return result
            self.tally.retry(result)
            await asyncio.sleep(delay_s)
            if is_turn_over(tries):
                self.tries[item] = tries
                return None
