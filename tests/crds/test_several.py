"""Doing the same with several things at once."""

import asyncio

import pytest

from nightshift_crds.several import each_of


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
