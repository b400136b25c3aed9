"""What every bucket must do, whoever makes it: the comments of `bucket/port.py` as tests."""

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import aclosing
from datetime import UTC, datetime, timedelta
from typing import cast

import google_crc32c
import pytest

from nightshift_crds.bucket.port import Bucket, ObjectInfo, get, put_first
from nightshift_crds.errors import AlreadyExists, Missing, Unavailable


async def stream(*chunks: bytes) -> AsyncIterator[bytes]:
    for chunk in chunks:
        yield chunk


async def keys(bucket: Bucket, prefix: str, after: str = "") -> list[str]:
    return [info.key async for info in bucket.list(prefix, after=after)]


async def test_what_was_put_is_read_back(bucket: Bucket) -> None:
    info = await bucket.put("a/b.jsonl", b"one\ntwo\n", create_only=True)
    assert (info.key, info.size) == ("a/b.jsonl", 8)
    assert await get(bucket, "a/b.jsonl") == b"one\ntwo\n"


async def test_a_stream_is_stored_whole_and_in_order(bucket: Bucket) -> None:
    chunks = [bytes([n % 256]) * 300_000 for n in range(20)]
    info = await bucket.put("big", stream(*chunks), create_only=True)
    assert info.size == 6_000_000
    assert await get(bucket, "big") == b"".join(chunks)


async def test_an_empty_object_is_an_object(bucket: Bucket) -> None:
    await bucket.put("empty", b"", create_only=True)
    await bucket.put("empty-stream", stream(), create_only=True)
    assert [await get(bucket, "empty"), await get(bucket, "empty-stream")] == [b"", b""]


async def test_create_only_lets_the_first_writer_win_for_ever(bucket: Bucket) -> None:
    await bucket.put("k", b"first", create_only=True)
    with pytest.raises(AlreadyExists):
        await bucket.put("k", b"second", create_only=True)
    with pytest.raises(AlreadyExists):
        await bucket.put("k", stream(b"third"), create_only=True)
    assert await get(bucket, "k") == b"first"


async def test_of_many_create_only_writers_exactly_one_wins(bucket: Bucket) -> None:
    async def write(n: int) -> int | None:
        try:
            await bucket.put("race", str(n).encode(), create_only=True)
        except AlreadyExists:
            return None
        return n

    winners = [n for n in await asyncio.gather(*map(write, range(20))) if n is not None]
    assert len(winners) == 1
    assert await get(bucket, "race") == str(winners[0]).encode()


async def test_of_many_that_write_first_all_see_the_same(bucket: Bucket) -> None:
    seen = await asyncio.gather(*(put_first(bucket, "first", str(n).encode()) for n in range(10)))
    assert set(seen) == {await get(bucket, "first")}
    assert await put_first(bucket, "first", b"late") == seen[0]


class Vanishing:
    """A bucket whose object is taken just when it stood in the way."""

    def __init__(self, inner: Bucket) -> None:
        self._inner = inner

    async def put(self, key: str, data: bytes, *, create_only: bool) -> ObjectInfo:
        try:
            return await self._inner.put(key, data, create_only=create_only)
        finally:
            await self._inner.delete(key)

    def read(self, key: str) -> AsyncGenerator[bytes, None]:
        return self._inner.read(key)


async def test_what_goes_while_it_is_seen_is_to_be_written_again(bucket: Bucket) -> None:
    await bucket.put("gone", b"x", create_only=True)
    with pytest.raises(Unavailable):
        await put_first(cast(Bucket, Vanishing(bucket)), "gone", b"y")


async def test_a_plain_put_replaces_what_was_there(bucket: Bucket) -> None:
    await bucket.put("k", b"a long first version", create_only=False)
    await bucket.put("k", b"short", create_only=False)
    assert await get(bucket, "k") == b"short"


async def test_a_stream_that_fails_leaves_nothing_behind(bucket: Bucket) -> None:
    async def broken() -> AsyncIterator[bytes]:
        yield b"x" * 2_000_000
        raise ConnectionResetError

    with pytest.raises(ConnectionResetError):
        await bucket.put("k", broken(), create_only=True)
    assert await bucket.head("k") is None
    assert await keys(bucket, "") == []


async def test_nothing_of_an_object_is_seen_before_its_put_returns(bucket: Bucket) -> None:
    arrived, go_on = asyncio.Event(), asyncio.Event()

    async def slow() -> AsyncIterator[bytes]:
        yield b"x" * 2_000_000
        arrived.set()
        await go_on.wait()

    writing = asyncio.create_task(bucket.put("k", slow(), create_only=True))
    await arrived.wait()
    assert await bucket.head("k") is None
    assert await keys(bucket, "") == []
    go_on.set()
    await writing
    assert await keys(bucket, "") == ["k"]


@pytest.mark.parametrize(
    ("start", "end", "expected"),
    [(0, None, b"0123456789"), (3, None, b"3456789"), (3, 5, b"34"), (8, 99, b"89"), (10, None, b""), (4, 4, b"")],
)
async def test_a_range_is_half_open_and_ends_with_the_object(
    bucket: Bucket, start: int, end: int | None, expected: bytes
) -> None:
    await bucket.put("k", b"0123456789", create_only=True)
    assert b"".join([chunk async for chunk in bucket.read("k", start, end)]) == expected


async def test_reading_what_is_not_there_is_missing(bucket: Bucket) -> None:
    await bucket.put("folder/k", b"", create_only=True)
    for key in ("nothing", "folder", "folder/k/below"):
        with pytest.raises(Missing):
            await get(bucket, key)
        assert await bucket.head(key) is None
    with pytest.raises(Missing):
        await bucket.checksum("nothing")


async def test_an_object_that_is_deleted_while_it_is_read_is_read_to_its_end_or_missing(bucket: Bucket) -> None:
    await bucket.put("k", b"x" * 5_000_000, create_only=True)
    async with aclosing(bucket.read("k")) as chunks:
        size = len(await anext(chunks))
        await bucket.delete("k")
        try:
            async for chunk in chunks:
                size += len(chunk)
            assert size == 5_000_000
        except Missing:
            pass


async def test_head_tells_size_and_time(bucket: Bucket) -> None:
    before = datetime.now(UTC) - timedelta(seconds=2)
    await bucket.put("k", b"12345", create_only=True)
    info = await bucket.head("k")
    assert info is not None
    assert info.size == 5
    assert before <= info.written <= datetime.now(UTC) + timedelta(seconds=2)


async def test_the_checksum_is_crc32c(bucket: Bucket) -> None:
    data = bytes(range(256)) * 10_000
    await bucket.put("k", data, create_only=True)
    assert await bucket.checksum("k") == google_crc32c.value(data)


async def test_a_list_is_in_order_of_keys_and_by_prefix(bucket: Bucket) -> None:
    everything = ["a", "a.b", "a/b", "a/b.c", "a/b/c", "ab", "b/00000001", "b/00000002", "b/00000010"]
    for key in reversed(everything):
        if key not in {"a", "a/b"}:  # a directory cannot hold both x and x/y, and no key of ours needs it
            await bucket.put(key, b"", create_only=True)
    held = [key for key in everything if key not in {"a", "a/b"}]
    assert await keys(bucket, "") == held
    assert await keys(bucket, "a") == [key for key in held if key.startswith("a")]
    assert await keys(bucket, "a/") == [key for key in held if key.startswith("a/")]
    assert await keys(bucket, "b/0000001") == ["b/00000010"]
    assert await keys(bucket, "nothing/") == []


async def test_a_list_goes_on_behind_a_key(bucket: Bucket) -> None:
    held = ["a.b", "a/b.c", "a/b/c", "ab", "b/1", "b/2"]
    for key in held:
        await bucket.put(key, b"", create_only=True)
    for n, key in enumerate(held):
        assert await keys(bucket, "", after=key) == held[n + 1 :]
    assert await keys(bucket, "b/", after="b/1") == ["b/2"]
    assert await keys(bucket, "b/", after="a") == ["b/1", "b/2"]


async def test_a_long_list_is_whole(bucket: Bucket) -> None:
    wanted = [f"log/{n:08d}" for n in range(2_100)]
    await asyncio.gather(*(bucket.put(key, b"", create_only=True) for key in wanted))
    assert await keys(bucket, "log/") == wanted


async def test_delete_removes_one_object_and_may_be_repeated(bucket: Bucket) -> None:
    await bucket.put("a/1", b"", create_only=True)
    await bucket.put("a/2", b"", create_only=True)
    for _ in range(2):
        await bucket.delete("a/1")
    assert await keys(bucket, "") == ["a/2"]
    await bucket.delete("a/2")
    await bucket.put("a/1", b"again", create_only=True)
    assert await get(bucket, "a/1") == b"again"


async def test_writes_and_deletes_in_one_folder_do_not_disturb_each_other(bucket: Bucket) -> None:
    async def churn(n: int) -> None:
        for _ in range(20):
            await bucket.put(f"folder/{n}", b"x", create_only=True)
            await bucket.delete(f"folder/{n}")

    await asyncio.gather(*map(churn, range(8)))
    assert await keys(bucket, "") == []


@pytest.mark.parametrize("key", ["", "/a", "a//b", "a/../b", "..", "a/"])
async def test_what_is_no_key_is_refused(bucket: Bucket, key: str) -> None:
    with pytest.raises(ValueError, match="not a key"):
        await bucket.put(key, b"", create_only=True)
    with pytest.raises(ValueError, match="not a key"):
        await get(bucket, key)


async def test_what_a_put_tells_is_what_head_tells(bucket: Bucket) -> None:
    assert await bucket.put("one", b"12345", create_only=True) == await bucket.head("one")
    assert await bucket.put("two", stream(b"12", b"345"), create_only=True) == await bucket.head("two")


async def test_an_object_that_is_replaced_while_it_is_read_is_never_a_mix(bucket: Bucket) -> None:
    await bucket.put("k", b"a" * 5_000_000, create_only=False)
    async with aclosing(bucket.read("k")) as chunks:
        read = await anext(chunks)
        await bucket.put("k", b"b" * 5_000_000, create_only=False)
        try:
            async for chunk in chunks:
                read += chunk
            assert read == b"a" * 5_000_000
        except Missing:
            pass
