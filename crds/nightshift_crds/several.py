"""Do the same with several things at once, but not with all: a bucket answers one call in tens of milliseconds."""

import asyncio
from collections.abc import Awaitable, Callable, Iterable
from typing import TypeVar

_A = TypeVar("_A")
_B = TypeVar("_B")
_AT_ONCE = 16
"""As many as an adapter of a bucket has threads."""


async def each_of(call: Callable[[_A], Awaitable[_B]], things: Iterable[_A]) -> list[_B]:
    """Give the results of a call for each of the things, in their order. The first failure ends the others."""
    slots = asyncio.Semaphore(_AT_ONCE)

    async def do(thing: _A) -> _B:
        async with slots:
            return await call(thing)

    tasks = [asyncio.create_task(do(thing), name="one of several") for thing in things]
    try:
        return list(await asyncio.gather(*tasks))
    finally:
        await drop(tasks)


async def drop(tasks: Iterable["asyncio.Task[_B]"]) -> None:
    """End tasks whose results nobody wants any more; returns when they have ended."""
    tasks = list(tasks)
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)
