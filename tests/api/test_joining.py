"""Equal reads at the same time are one, and each begins after it was asked for."""

import asyncio

import pytest

from nightshift_api.joining import Joining


class Source:
    """Something to read whose every read waits to be let through; gives how many reads have begun."""

    def __init__(self) -> None:
        self.begun = 0
        self.began = asyncio.Event()
        self.through = asyncio.Semaphore(0)

    async def read(self) -> int:
        self.begun += 1
        self.began.set()
        mine = self.begun
        await self.through.acquire()
        return mine


async def until_begun(source: Source, reads: int) -> None:
    while source.begun < reads:
        await source.began.wait()
        source.began.clear()


async def test_who_comes_while_a_read_is_under_way_shares_the_next_one() -> None:
    joining, source = Joining[int](), Source()
    first = asyncio.create_task(joining.read("a", source.read))
    await until_begun(source, 1)
    others = [asyncio.create_task(joining.read("a", source.read)) for _ in range(50)]
    source.through.release()
    assert await first == 1
    await until_begun(source, 2)
    source.through.release()
    assert await asyncio.gather(*others) == [2] * 50
    assert source.begun == 2


async def test_other_keys_do_not_wait() -> None:
    joining, source = Joining[int](), Source()
    tasks = [asyncio.create_task(joining.read(key, source.read)) for key in "abc"]
    await until_begun(source, 3)
    for _ in tasks:
        source.through.release()
    assert sorted(await asyncio.gather(*tasks)) == [1, 2, 3]


async def test_who_goes_away_takes_the_read_from_nobody() -> None:
    joining, source = Joining[int](), Source()
    leaving, staying = (asyncio.create_task(joining.read("a", source.read)) for _ in range(2))
    await until_begun(source, 1)
    leaving.cancel()
    source.through.release()
    assert await staying == 1
    assert leaving.cancelled()


async def test_a_failure_is_every_asker_s_and_the_next_read_is_a_new_one() -> None:
    joining = Joining[int]()

    async def fail() -> int:
        raise ZeroDivisionError

    for task in [asyncio.create_task(joining.read("a", fail)) for _ in range(3)]:
        with pytest.raises(ZeroDivisionError):
            await task
    source = Source()
    source.through.release()
    assert await joining.read("a", source.read) == 1


async def test_a_failure_that_nobody_waits_for_is_no_warning() -> None:
    joining, ready = Joining[int](), asyncio.Event()

    async def fail_later() -> int:
        await ready.wait()
        raise ZeroDivisionError

    asker = asyncio.create_task(joining.read("a", fail_later))
    await asyncio.sleep(0)
    asker.cancel()
    ready.set()
    with pytest.raises(asyncio.CancelledError):
        await asker
