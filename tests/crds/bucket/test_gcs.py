"""The cloud bucket at the end of a bad way: each kind of fault at the place where it hurts, before a real emulator."""

import asyncio
import gc
from collections.abc import AsyncIterator, Callable
from contextlib import aclosing
from uuid import uuid4

import google_crc32c
import pytest
import requests
from google.api_core.exceptions import Forbidden, NotFound, RetryError, ServiceUnavailable
from google.auth.exceptions import RefreshError
from google.cloud.storage.exceptions import DataCorruption, InvalidResponse
from urllib3.exceptions import ProtocolError

from nightshift_crds.bucket import open_bucket
from nightshift_crds.bucket.gcs import _failing_as_our_own
from nightshift_crds.bucket.port import Bucket, get
from nightshift_crds.errors import AlreadyExists, Missing, NightshiftError, Unavailable
from tests.faults.proxy import Asked, Cut, Delay, Drop, Fault, Lose, Proxy, Refuse, running_proxy
from tests.faults.weather import nth, nths

MIB = 1 << 20
NO_BUCKET = b"The specified bucket does not exist."


@pytest.fixture
async def proxy(gcs: str, gcs_bucket: str, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Proxy]:
    async with running_proxy(gcs) as proxy:
        monkeypatch.setenv("STORAGE_EMULATOR_HOST", proxy.url)
        yield proxy


@pytest.fixture
async def bucket(proxy: Proxy, gcs_bucket: str) -> AsyncIterator[Bucket]:
    """The bucket, through the proxy."""
    async with open_bucket(f"gs://{gcs_bucket}") as opened:
        yield opened


async def stream(*chunks: bytes) -> AsyncIterator[bytes]:
    for chunk in chunks:
        yield chunk


def content(size: int) -> bytes:
    """Make bytes in which no MiB is like another."""
    return b"".join(bytes([n]) * MIB for n in range(size // MIB + 1))[:size]


def by(method: str) -> Callable[[Asked], bool]:
    return lambda asked: asked.method == method


async def keys(bucket: Bucket) -> list[str]:
    return [info.key async for info in bucket.list("")]


# --- writing ----------------------------------------------------------------------------------------------------------


@pytest.mark.cluster
@pytest.mark.parametrize("fault", [Lose(), Cut(10)])
async def test_a_create_whose_answer_is_lost_has_created(proxy: Proxy, bucket: Bucket, fault: Fault) -> None:
    proxy.script = nth(1, fault, of=by("POST"))
    info = await bucket.put("k", b"ours", create_only=True)
    assert info == await bucket.head("k")
    assert proxy.faults == 1
    with pytest.raises(AlreadyExists):
        await bucket.put("k", b"ours", create_only=True)


@pytest.mark.cluster
@pytest.mark.parametrize("fault", [Lose(), Drop()])
async def test_a_create_that_may_have_been_lost_is_not_taken_for_somebody_elses(
    proxy: Proxy, bucket: Bucket, fault: Fault
) -> None:
    await bucket.put("k", b"theirs", create_only=True)
    proxy.script = nth(1, fault, of=by("POST"))
    with pytest.raises(AlreadyExists):
        await bucket.put("k", b"ours", create_only=True)
    assert await get(bucket, "k") == b"theirs"


@pytest.mark.cluster
@pytest.mark.parametrize("fault", [Lose(), Drop(), Cut(10), Refuse(503), Refuse(429)], ids=str)
@pytest.mark.parametrize("number", [1, 2, 3], ids=["first", "middle", "last"])
async def test_a_chunk_that_goes_wrong_is_sent_again_and_the_stream_is_whole(
    proxy: Proxy, bucket: Bucket, fault: Fault, number: int
) -> None:
    data = content(17 * MIB)
    proxy.script = nth(number, fault, of=by("PUT"))
    info = await bucket.put("k", stream(data), create_only=True)
    proxy.script = lambda _: None
    assert proxy.faults == 1
    assert info.size == len(data)
    assert await bucket.checksum("k") == google_crc32c.value(data)
    assert await get(bucket, "k") == data


@pytest.mark.cluster
@pytest.mark.parametrize("size", [8 * MIB - 1, 8 * MIB, 8 * MIB + 1, 16 * MIB])
async def test_a_stream_may_end_with_a_chunk(bucket: Bucket, size: int) -> None:
    data = content(size)
    info = await bucket.put("k", stream(data[:MIB], data[MIB:]), create_only=True)
    assert info == await bucket.head("k")
    assert await get(bucket, "k") == data


@pytest.mark.cluster
async def test_a_stream_that_fails_leaves_nothing_behind_even_if_the_way_is_cut(proxy: Proxy, bucket: Bucket) -> None:
    async def broken() -> AsyncIterator[bytes]:
        yield content(9 * MIB)
        proxy.script = lambda _: Drop()
        raise ConnectionResetError("the caller went away")

    with pytest.raises(ConnectionResetError, match="the caller"):
        await bucket.put("k", broken(), create_only=True)
    proxy.script = lambda _: None
    gc.collect()  # of what was given up
    assert await keys(bucket) == []


@pytest.mark.cluster
async def test_a_stream_that_is_cancelled_leaves_nothing_behind(bucket: Bucket) -> None:
    sent = asyncio.Event()

    async def endless() -> AsyncIterator[bytes]:
        yield content(9 * MIB)
        sent.set()
        await asyncio.Event().wait()

    writing = asyncio.create_task(bucket.put("k", endless(), create_only=True))
    await sent.wait()
    writing.cancel()
    with pytest.raises(asyncio.CancelledError):
        await writing
    gc.collect()
    assert await keys(bucket) == []


@pytest.mark.cluster
async def test_what_goes_wrong_in_the_data_is_the_callers(bucket: Bucket) -> None:
    async def broken() -> AsyncIterator[bytes]:
        yield b"x"
        raise Missing("another object")

    with pytest.raises(Missing, match="another object"):
        await bucket.put("k", broken(), create_only=True)


# --- reading ----------------------------------------------------------------------------------------------------------


@pytest.mark.cluster
@pytest.mark.parametrize("size", [0, 1, 4 * MIB - 1, 4 * MIB, 4 * MIB + 1, 8 * MIB])
async def test_reads_end_with_the_object_wherever_blocks_end(bucket: Bucket, size: int) -> None:
    data = content(size)
    await bucket.put("k", data, create_only=True)
    assert await get(bucket, "k") == data
    for start in (size, size + 1, size + 5 * MIB):
        assert b"".join([block async for block in bucket.read("k", start)]) == b""
        assert b"".join([block async for block in bucket.read("k", start, start + 10)]) == b""


@pytest.mark.cluster
@pytest.mark.parametrize(
    "fault", [Lose(), Drop(), Cut(1), Cut(3 * MIB), Cut(4 * MIB), Refuse(503), Refuse(429), Delay(0.2)], ids=str
)
async def test_a_read_that_breaks_off_goes_on_where_it_was(proxy: Proxy, bucket: Bucket, fault: Fault) -> None:
    data = content(9 * MIB)
    await bucket.put("k", data, create_only=True)
    proxy.script = nths(range(1, 3), fault)
    assert await get(bucket, "k") == data
    assert proxy.faults == 2


@pytest.mark.cluster
async def test_an_object_that_is_replaced_between_two_blocks_is_never_a_mix(bucket: Bucket) -> None:
    await bucket.put("k", b"a" * 9 * MIB, create_only=False)
    async with aclosing(bucket.read("k")) as blocks:
        assert await anext(blocks) == b"a" * 4 * MIB
        await bucket.put("k", b"b" * 9 * MIB, create_only=False)
        with pytest.raises(Missing):
            await anext(blocks)


@pytest.mark.cluster
@pytest.mark.parametrize("fault", [Lose(), Drop(), Cut(10), Refuse(503)], ids=str)
async def test_the_small_calls_are_made_again(proxy: Proxy, bucket: Bucket, fault: Fault) -> None:
    data = b"some bytes"
    await bucket.put("k", data, create_only=True)
    for call in (lambda: bucket.checksum("k"), lambda: keys(bucket)):
        proxy.script = nth(1, fault)
        assert await call() in (google_crc32c.value(data), ["k"])
    proxy.script = nth(1, fault)
    info = await bucket.head("k")
    assert info
    assert info.size == len(data)


@pytest.mark.cluster
@pytest.mark.parametrize("fault", [Lose(), Drop(), Refuse(503)], ids=str)
async def test_a_delete_whose_answer_is_lost_has_deleted(proxy: Proxy, bucket: Bucket, fault: Fault) -> None:
    await bucket.put("k", b"", create_only=True)
    proxy.script = nth(1, fault, of=by("DELETE"))
    await bucket.delete("k")
    assert proxy.faults == 1
    assert await bucket.head("k") is None


# --- what does not pass -----------------------------------------------------------------------------------------------


@pytest.mark.cluster
async def test_a_bucket_that_is_not_there_is_unavailable_and_not_empty(proxy: Proxy) -> None:
    async with open_bucket(f"gs://test-{uuid4().hex}") as nowhere:
        for call in (
            lambda: nowhere.put("k", b"", create_only=True),
            lambda: nowhere.put("k", stream(b"x"), create_only=True),
            lambda: keys(nowhere),
        ):
            with pytest.raises(Unavailable, match=r"404|Not Found"):
                await call()
        proxy.script = lambda _: Refuse(404, body=NO_BUCKET)  # in the words of the real storage
        for look in (
            lambda: get(nowhere, "k"),
            lambda: nowhere.head("k"),
            lambda: nowhere.checksum("k"),
            lambda: nowhere.delete("k"),
        ):
            with pytest.raises(Unavailable, match="does not exist"):
                await look()


async def test_opening_a_bucket_asks_nobody(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("STORAGE_EMULATOR_HOST", "http://127.0.0.1:1")
    async with open_bucket("gs://name") as bucket:
        assert bucket.url == "gs://name"


def answered(status: int) -> requests.Response:
    response = requests.Response()
    response.status_code = status
    return response


@pytest.mark.parametrize(
    ("error", "expected", "words"),
    [
        (NotFound("No such object: b/k"), Missing, "No such object"),
        (NotFound("The specified bucket does not exist."), Unavailable, "does not exist"),
        (Forbidden("no"), Unavailable, "403"),
        (ServiceUnavailable("no"), Unavailable, "503"),
        (InvalidResponse(answered(412)), AlreadyExists, "there already"),
        (InvalidResponse(answered(410)), Unavailable, "410"),
        (RetryError("too long", ServiceUnavailable("no")), Unavailable, "503"),
        (RetryError("too long", requests.ConnectionError("refused")), Unavailable, "refused"),
        (RefreshError("no credentials"), Unavailable, "RefreshError"),
        (requests.ReadTimeout("slow"), Unavailable, "ReadTimeout"),
        (ProtocolError("cut"), Unavailable, "ProtocolError"),
        (DataCorruption(answered(200)), Unavailable, "DataCorruption"),
    ],
)
def test_each_failure_of_the_library_has_its_meaning(
    error: Exception, expected: type[NightshiftError], words: str
) -> None:
    with pytest.raises(expected, match=words), _failing_as_our_own(of_object=True):
        raise error
