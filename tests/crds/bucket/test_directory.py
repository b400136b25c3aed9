"""What a folder as a bucket does beyond the port: what a crash leaves, names, other people's hands in the folder."""

import asyncio
import fcntl
import os
import shutil
import sys
import time
from collections.abc import AsyncIterator, Coroutine
from contextlib import aclosing, suppress
from pathlib import Path
from typing import Any, BinaryIO

import pytest

from nightshift_crds.bucket import open_bucket
from nightshift_crds.bucket.directory import _publish, _sync_folder
from nightshift_crds.bucket.port import Bucket, get
from nightshift_crds.errors import Rejected, Unavailable
from tests.crds.bucket.conftest import Opened

DAY_S = 86_400


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """The folder of the `bucket` fixture."""
    return tmp_path / "bucket"


@pytest.fixture
async def bucket(directory_opened: Opened) -> AsyncIterator[Bucket]:
    async with directory_opened as bucket:
        yield bucket


def objects_in(root: Path) -> set[str]:
    """Every file but the drafts."""
    files = {str(path.relative_to(root)) for path in root.rglob("*") if path.is_file()}
    return {name for name in files if not name.startswith(".unfinished/")}


def names_in(folder: Path) -> set[str]:
    return {path.name for path in folder.iterdir()}


# --- opening ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("url", ["", "s3://bucket", "gs://", "sqlite:///x", "file:/x"])
def test_a_url_that_names_no_bucket_is_refused_by_its_scheme(url: str) -> None:
    with pytest.raises(Rejected, match="Expected a bucket URL"):
        open_bucket(url)


async def test_a_folder_is_made_and_named_by_its_url(tmp_path: Path) -> None:
    async with open_bucket(f"file://{tmp_path / 'a' / 'b'}/") as bucket:
        assert bucket.url == f"file://{tmp_path / 'a' / 'b'}"
        assert (tmp_path / "a" / "b").is_dir()


async def test_a_folder_that_cannot_be_made_is_told_as_such(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(Unavailable, match="the bucket folder does not answer"):
        async with open_bucket(f"file://{tmp_path / 'file' / 'below'}"):
            raise AssertionError("it was opened")


# --- crashes ----------------------------------------------------------------------------------------------------------

CRASHING = """
import asyncio, os, sys
from nightshift_crds.bucket import open_bucket

async def half():
    yield b"x" * 3_000_000
    os.kill(os.getpid(), 9)

async def main():
    async with open_bucket(sys.argv[1]) as bucket:
        await bucket.put("whole", b"w", create_only=True)
        await bucket.put("folder/half", half(), create_only=True)

asyncio.run(main())
"""


async def test_a_crash_in_a_write_leaves_a_draft_and_no_object(bucket: Bucket, root: Path) -> None:
    crashing = await asyncio.create_subprocess_exec(sys.executable, "-c", CRASHING, bucket.url)
    assert await crashing.wait() == -9
    assert objects_in(root) == {"whole"}
    assert [info.key async for info in bucket.list("")] == ["whole"]
    assert len(list((root / ".unfinished").iterdir())) == 1
    await bucket.put("folder/half", b"again", create_only=True)
    assert await get(bucket, "folder/half") == b"again"
    async with open_bucket(f"file://{root}"):
        assert list((root / ".unfinished").iterdir()) == []


async def test_an_opening_removes_drafts_of_the_dead_and_none_that_is_being_written(root: Path) -> None:
    drafts = root / ".unfinished"
    drafts.mkdir(parents=True)
    for name, content, age_s in (("dead", b"x", 0), ("newborn", b"", DAY_S - 60), ("stillborn", b"", DAY_S + 60)):
        (drafts / name).write_bytes(content)
        os.utime(drafts / name, (time.time() - age_s,) * 2)
    with (drafts / "written").open("wb") as written:
        fcntl.flock(written, fcntl.LOCK_EX)
        written.write(b"x" * 10_000)
        async with open_bucket(f"file://{root}"):
            assert {path.name for path in drafts.iterdir()} == {"newborn", "written"}


async def test_a_draft_is_locked_until_it_is_published(bucket: Bucket, root: Path) -> None:
    async def slowly() -> AsyncIterator[bytes]:
        yield b"x" * (1 << 20)
        async with open_bucket(f"file://{root}"):
            assert len(list((root / ".unfinished").iterdir())) == 1
        yield b"y"

    assert (await bucket.put("k", slowly(), create_only=True)).size == (1 << 20) + 1


async def test_no_draft_is_left_by_a_write_that_ends(bucket: Bucket, root: Path) -> None:
    await bucket.put("k", b"1", create_only=True)
    await bucket.put("k", b"2", create_only=False)
    assert list((root / ".unfinished").iterdir()) == []


def test_a_draft_that_somebody_took_away_is_missing(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        _publish(tmp_path / "gone", tmp_path / "folder" / "k", "folder/k", create_only=True)


def test_a_folder_that_is_gone_needs_no_sync(tmp_path: Path) -> None:
    _sync_folder(tmp_path / "gone")


# --- names ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("key", ["../x", "a/../../x", "/etc/x", "./x", "a/./b", ".unfinished/x", "a\0b"])
async def test_a_key_that_leaves_the_folder_or_names_a_draft_is_refused_by_every_call(
    bucket: Bucket, root: Path, key: str
) -> None:
    with pytest.raises(ValueError, match=r"not a key|null byte"):
        await bucket.put(key, b"x", create_only=False)
    with pytest.raises(ValueError, match=r"not a key|null byte"):
        await bucket.delete(key)
    for call in (bucket.head, bucket.checksum):
        with pytest.raises(ValueError, match=r"not a key|null byte"):
            await call(key)
    assert objects_in(root.parent) == set()


async def test_drafts_are_in_no_list(bucket: Bucket, root: Path) -> None:
    (root / ".unfinished" / "draft").write_bytes(b"x")
    for prefix in ("", ".", ".unfinished/", ".unfinished/d"):
        assert [info.key async for info in bucket.list(prefix)] == []
    await bucket.put("folder/.unfinished/k", b"", create_only=True)
    assert [info.key async for info in bucket.list("")] == ["folder/.unfinished/k"]


async def test_names_that_no_folder_can_hold_are_unavailable(bucket: Bucket) -> None:
    with pytest.raises(Unavailable):
        await bucket.put("k" * 300, b"", create_only=True)
    await bucket.put("k", b"", create_only=True)
    with pytest.raises(Unavailable):
        await bucket.put("k/below", b"", create_only=True)


async def test_deleting_what_is_no_object_is_fine(bucket: Bucket) -> None:
    await bucket.put("folder/k", b"", create_only=True)
    for key in ("nothing", "folder", "folder/k/below", "other/nothing"):
        await bucket.delete(key)
    assert [info.key async for info in bucket.list("")] == ["folder/k"]


async def test_a_folder_that_gets_empty_goes_and_the_bucket_stays(bucket: Bucket, root: Path) -> None:
    await bucket.put("a/b/c", b"", create_only=True)
    await bucket.put("a/k", b"", create_only=True)
    await bucket.delete("a/b/c")
    assert names_in(root) == {".unfinished", "a"}
    await bucket.delete("a/k")
    assert names_in(root) == {".unfinished"}


# --- while something else happens -------------------------------------------------------------------------------------


async def test_a_folder_that_goes_while_it_is_listed_is_passed_over(bucket: Bucket) -> None:
    for n in range(1_001):
        await bucket.put(f"a/{n:04d}", b"", create_only=False)
    for key in ("b/k", "c/k"):
        await bucket.put(key, b"", create_only=True)
    found = []
    async with aclosing(bucket.list("")) as listed:
        found.append((await anext(listed)).key)
        await bucket.delete("b/k")
        await bucket.delete("a/1000")
        found += [info.key async for info in listed]
    assert found == [*(f"a/{n:04d}" for n in range(1_000)), "c/k"]


async def test_a_bucket_whose_folder_is_taken_away_says_so(bucket: Bucket, root: Path) -> None:
    shutil.rmtree(root)
    with pytest.raises(Unavailable):
        await bucket.put("k", b"", create_only=True)
    assert [info async for info in bucket.list("")] == []
    shutil.copy(__file__, root)
    with pytest.raises(Unavailable):
        await bucket.put("k", b"", create_only=True)


async def test_a_reader_who_stops_early_lets_go_of_the_file(bucket: Bucket) -> None:
    await bucket.put("k", b"x" * 3_000_000, create_only=True)
    before = names_in(Path("/proc/self/fd"))
    async with aclosing(bucket.read("k")) as chunks:
        await anext(chunks)
    assert names_in(Path("/proc/self/fd")) == before


# --- calls that nobody waits for any more -----------------------------------------------------------------------------


async def given_up(*calls: Coroutine[Any, Any, Any]) -> None:
    """Begin calls, and cancel them while a thread is at the first."""
    tasks = [asyncio.create_task(call) for call in calls]
    await asyncio.sleep(0)
    for task in tasks:
        task.cancel()
    assert all(isinstance(end, asyncio.CancelledError) for end in await asyncio.gather(*tasks, return_exceptions=True))


async def is_let_go(pipe: BinaryIO) -> None:
    """Wait until nobody reads from a pipe any more."""
    with suppress(BrokenPipeError):
        while True:
            pipe.write(b"x")
            await asyncio.sleep(0)


async def test_a_file_that_is_opened_for_nobody_is_closed(root: Path) -> None:
    async with open_bucket(f"file://{root}") as bucket:
        os.mkfifo(root / "slow")  # who opens it waits until somebody writes
        await given_up(get(bucket, "slow"), get(bucket, "missing"))
        with await asyncio.to_thread((root / "slow").open, "wb", buffering=0) as pipe:
            async with asyncio.timeout(30):
                await is_let_go(pipe)
