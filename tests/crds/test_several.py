"""Doing the same with several things at once."""

import asyncio

import pytest

from nightshift_crds.several import each_of, errands


async def test_results_come_in_the_order_of_the_things_whichever_is_done_first() -> None:
    second = asyncio.Event()

    async def call(n: int) -> int:
        if n == 1:
            await second.wait()
        second.set()
        return n * n

    assert await each_of(call, [1, 2, 3]) == [1, 4, 9]
    assert await each_of(call, []) == []


async def test_no_more_than_sixteen_are_at_it_at_once() -> None:
    at_it, most = 0, 0

    async def call(_: int) -> None:
        nonlocal at_it, most
        at_it += 1
        most = max(most, at_it)
        await asyncio.sleep(0)
        at_it -= 1

    await each_of(call, range(100))
    assert most == 16


async def test_the_first_failure_ends_the_others() -> None:
    ended: list[int] = []

    async def call(n: int) -> None:
        if n == 2:
            raise ZeroDivisionError
        try:
            await asyncio.Event().wait()
        finally:
            ended.append(n)

    with pytest.raises(ZeroDivisionError):
        await each_of(call, range(4))
    assert sorted(ended) == [0, 1, 3]


# --- errands ----------------------------------------------------------------------------------------------------------


async def test_what_still_runs_when_the_body_is_done_is_ended() -> None:
    ends: list[str] = []

    async def errand(until: asyncio.Event, name: str) -> None:
        try:
            await until.wait()
            ends.append(f"{name} is done")
        except asyncio.CancelledError:
            ends.append(f"{name} is ended")
            raise

    soon = asyncio.Event()
    async with errands() as start:
        start(errand(soon, "first"))
        start(errand(asyncio.Event(), "second"))
        soon.set()
        await asyncio.sleep(0)
        await asyncio.sleep(0)
    assert ends == ["first is done", "second is ended"]


async def test_an_errand_that_fails_ends_the_body_and_the_others() -> None:
    async def fail() -> None:
        raise ValueError("of an errand")

    others: list[asyncio.Task[None] | None] = []

    async def wait() -> None:
        others.append(asyncio.current_task())
        await asyncio.Event().wait()

    async def body() -> None:
        async with errands() as start:
            start(wait())
            start(fail())
            await asyncio.Event().wait()

    with pytest.raises(ExceptionGroup) as group:
        await body()
    assert [str(error) for error in group.value.exceptions] == ["of an errand"]
    assert [task and task.cancelled() for task in others] == [True]
