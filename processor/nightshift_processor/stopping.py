"""What ends a step before it is done: SIGTERM, or the deadline."""

import asyncio
from collections.abc import Coroutine
from datetime import UTC, datetime
from typing import Any, TypeVar

from nightshift_crds.exits import Exit

_T = TypeVar("_T")


async def wait_until_over(stop: asyncio.Event, deadline: datetime) -> Exit:
    """Wait for whichever comes first, and say how to exit."""
    left_s = (deadline - datetime.now(UTC)).total_seconds()
    if left_s <= 0 and not stop.is_set():
        return Exit.DEADLINE
    try:
        async with asyncio.timeout(left_s):
            await stop.wait()
    except TimeoutError:
        return Exit.DEADLINE
    return Exit.INTERRUPTED


async def unless(work: Coroutine[Any, Any, _T], *ends: "asyncio.Future[Any]") -> _T | None:
    """Work until done; None if one of `ends` came first, with nothing of the work left running."""
    await asyncio.wait(ends, timeout=0)  # one that has come already is seen before anything begins
    if any(end.done() for end in ends):
        work.close()
        return None
    task = asyncio.create_task(work, name="work")
    await asyncio.wait({task, *ends}, return_when=asyncio.FIRST_COMPLETED)
    if not task.done():
        task.cancel()
        await asyncio.wait({task})
    return None if task.cancelled() else task.result()
