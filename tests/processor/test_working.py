"""What becomes of the lines that workers have in hand when the work is stopped, or fails."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass

import pytest

from nightshift_crds.bucket.port import Bucket
from nightshift_processor.client import Answer, Failure, Result
from nightshift_processor.share import open_share
from nightshift_processor.spool import Spool, fill_spool
from nightshift_processor.tally import Tally
from nightshift_processor.working import work_all
from tests.processor.desk import Desk
from tests.processor.given import chat_lines, check_log, put_input, read_log, run_settings

OK = Answer(200, b'{"usage":{"prompt_tokens":3,"completion_tokens":2}}')
PROMPTS = ("a", "b", "c", "d")


@dataclass
class Work:
    """Workers with a desk before them, of whom two may have a line in hand."""

    desk: Desk
    spool: Spool
    task: "asyncio.Task[bool]"

    async def is_in_hand(self, lines: int) -> list[bytes]:
        while len(self.desk.open) < lines:
            await self.desk.is_visited()
        return list(self.desk.open)


@asynccontextmanager
async def at_work(bucket: Bucket) -> AsyncIterator[Work]:
    """Have a slice worked on; what was taken is durable when the context is left."""
    content, tally, desk = chat_lines(*PROMPTS), Tally(), Desk()
    await put_input(bucket, content)
    settings = run_settings(bucket, content, max_concurrency=2)
    spool = await fill_spool(bucket, settings.input_key, settings.input_crc32c, settings.scratch_dir)
    async with open_share(settings, bucket, spool, tally) as share:
        await share.claim()
        yield Work(desk, spool, asyncio.create_task(work_all(settings, spool, share, desk, tally)))
    spool.close()


@pytest.mark.parametrize("result", [OK, Answer(400, b"{}"), Failure.TOO_LARGE], ids=["served", "refused", "too large"])
async def test_a_result_that_comes_while_all_are_stopped_is_kept_and_no_other_line_sent(
    bucket: Bucket, result: Result
) -> None:
    async with at_work(bucket) as work:
        first, second = await work.is_in_hand(2)
        work.task.cancel()
        await asyncio.wait({work.task})
        work.desk.answer(first, result)
        work.desk.answer(second, Answer(503, b""))
        assert work.desk.open == {}
    assert check_log(await read_log(bucket), len(PROMPTS)) == {0}


async def test_work_that_fails_after_an_answer_ends_the_run_and_keeps_what_came(
    bucket: Bucket, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with at_work(bucket) as work:
        first, second = await work.is_in_hand(2)
        monkeypatch.setattr(work.spool, "read", lambda _: b"no line")
        work.desk.answer(first, OK)
        work.desk.answer(second, OK)
        await asyncio.wait({work.task})
        assert isinstance(work.task.exception(), ExceptionGroup)
        assert work.desk.open == {}
    assert check_log(await read_log(bucket), len(PROMPTS)) == {0, 1}
