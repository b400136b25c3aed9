"""Several tasks that end together: the same with several things, though not all at once, and errands beside a body."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine, Iterable
from contextlib import asynccontextmanager
from typing import Any, TypeVar

Start = Callable[[Coroutine[Any, Any, None]], None]
"""Starts an errand."""
_A = TypeVar("_A")
_B = TypeVar("_B")
_AT_ONCE = 16
"""As many as an adapter of a bucket has threads; it answers one call in tens of milliseconds."""


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


@asynccontextmanager
async def errands() -> AsyncIterator[Start]:
    """Run tasks beside the body of the context: one that fails ends it, and what still runs when it is left is ended.

    Raises an ExceptionGroup with what a task has raised.
    """
    running: set[asyncio.Task[None]] = set()
    async with asyncio.TaskGroup() as group:

        def start(errand: Coroutine[Any, Any, None]) -> None:
            task = group.create_task(errand, name="errand")
            running.add(task)
            task.add_done_callback(running.discard)

        try:
            yield start
        finally:
            for task in running:
                task.cancel()
