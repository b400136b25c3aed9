"""Parts of a file (RFC 9110, 14): of one that is whole what was asked for, of one that grows all there is."""

from typing import Any

import pytest
from hypothesis import assume, example, given, settings
from hypothesis import strategies as st

from nightshift_crds.lifecycle import Phase
from nightshift_crds.names import ResultKind
from tests.api.faults import Weak, failing
from tests.api.given import SliceLog, a_batch_in, add_result_file, seal_file
from tests.api.harness import Api, error_of

CONTENT = bytes(range(10))
LINES = [b'{"n": %d}\n' % n for n in range(6)]
HUGE = 9 * 10**98


async def ask(api: Api, file_id: str, **headers: str) -> Any:
    return await api.client.get(
        f"files/{file_id}/content", headers={k.replace("_", "-"): v for k, v in headers.items()}
    )


async def a_growing_file(api: Api, *lines: bytes) -> str:
    batch = await a_batch_in(api, Phase.IN_PROGRESS)
    file_id = await add_result_file(api, batch, ResultKind.OUTPUT)
    await SliceLog(api.bucket, batch.metadata.uid).append(lines)
    return file_id


# --- a file that is whole ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "start", "stop"),
    [
        ("bytes=0-", 0, 10),
        ("bytes=0-0", 0, 1),
        ("bytes=3-5", 3, 6),
        ("bytes=003-005", 3, 6),
        ("bytes=9-", 9, 10),
        ("bytes=9-9", 9, 10),
        ("bytes=4-10", 4, 10),
        (f"bytes=4-{HUGE}", 4, 10),
        ("bytes=-1", 9, 10),
        ("bytes=-10", 0, 10),
        ("bytes=-11", 0, 10),
        (f"bytes=-{HUGE}", 0, 10),
        ("BYTES=1-2", 1, 3),
    ],
)
async def test_a_range_is_answered_with_its_bytes(api: Api, text: str, start: int, stop: int) -> None:
    file = await api.upload(CONTENT)
    answer = await ask(api, file["id"], range=text)
    assert (answer.status_code, answer.content) == (206, CONTENT[start:stop])
    assert answer.headers["content-range"] == f"bytes {start}-{stop - 1}/10"
    assert answer.headers["content-length"] == str(stop - start)
    assert answer.headers["content-type"] == "application/octet-stream"


@pytest.mark.parametrize("text", ["bytes=10-", "bytes=10-20", f"bytes={HUGE}-", "bytes=-0"])
async def test_a_range_behind_the_end_is_refused_with_the_size(api: Api, text: str) -> None:
    file = await api.upload(CONTENT)
    answer = await ask(api, file["id"], range=text)
    assert error_of(answer, 416) == ("invalid_value", None)
    assert answer.headers["content-range"] == "bytes */10"


@pytest.mark.parametrize(
    "text",
    [
        "bytes=0-1,4-5",
        "bytes=0-1, -2",
        "lines=0-1",
        "bytes",
        "bytes=",
        "bytes=-",
        "bytes=a-b",
        "bytes=1",
        "bytes=-1-2",
        "bytes=5-3",
        "bytes=1.0-2",
        "bytes=+1-2",
        "bytes=1_0-",
        f"bytes={'9' * 5_000}-",
        "0-1",
        "",
    ],
)
async def test_a_range_that_is_not_one_range_of_bytes_is_ignored(api: Api, text: str) -> None:
    file = await api.upload(CONTENT)
    answer = await ask(api, file["id"], range=text)
    assert (answer.status_code, answer.content) == (200, CONTENT)
    assert "content-range" not in answer.headers


@pytest.mark.asyncio(loop_scope="module")
@settings(max_examples=60, deadline=None)
@given(st.binary(min_size=1, max_size=50), st.integers(0, 60), st.integers(0, 60) | st.none())
@example(bytes(range(256)) * 10_000, (1 << 20) - 1, 1 << 20)
async def test_any_range_of_any_file_is_that_slice_of_it(
    lasting_api: Api, content: bytes, start: int, last: int | None
) -> None:
    assume(last is None or start <= last)
    file = await lasting_api.upload(content)
    answer = await ask(lasting_api, file["id"], range=f"bytes={start}-{'' if last is None else last}")
    part = content[start : None if last is None else last + 1]
    assert (answer.status_code, answer.content) == ((206, part) if part else (416, answer.content))


@pytest.mark.asyncio(loop_scope="module")
@settings(max_examples=30, deadline=None)
@given(st.binary(min_size=1, max_size=50), st.integers(1, 60))
async def test_any_end_of_any_file_is_that_end_of_it(lasting_api: Api, content: bytes, size: int) -> None:
    file = await lasting_api.upload(content)
    answer = await ask(lasting_api, file["id"], range=f"bytes=-{size}")
    assert (answer.status_code, answer.content) == (206, content[-size:])


async def test_of_the_bucket_no_more_is_read_than_is_sent(weak: Weak) -> None:
    file = await weak.api.upload(bytes(3 << 20))
    assert (await ask(weak.api, file["id"], range="bytes=1048576-1048579")).status_code == 206
    assert weak.bucket.bytes_read == 4


# --- which version of it ----------------------------------------------------------------------------------------------


async def test_a_file_that_is_whole_says_so_and_has_a_name_for_its_bytes(api: Api) -> None:
    first, second, other = [await api.upload(content) for content in (CONTENT, CONTENT, CONTENT[::-1])]
    answers = [await ask(api, file["id"]) for file in (first, second, other)]
    for answer in answers:
        assert (answer.headers["accept-ranges"], answer.headers["nightshift-more"]) == ("bytes", "false")
    tags = [answer.headers["etag"] for answer in answers]
    assert tags[0] == tags[1] != tags[2]
    assert all(tag.startswith('"') and tag.endswith('"') for tag in tags)


async def test_a_part_of_another_version_is_not_given(api: Api) -> None:
    file = await api.upload(CONTENT)
    etag = (await ask(api, file["id"])).headers["etag"]
    answer = await ask(api, file["id"], range="bytes=3-", if_range=etag)
    assert (answer.status_code, answer.content, answer.headers["etag"]) == (206, CONTENT[3:], etag)
    for other in ('"00000000-a"', f"W/{etag}", etag.strip('"'), "Mon, 23 Nov 2026 08:00:00 GMT", ""):
        answer = await ask(api, file["id"], range="bytes=3-", if_range=other)
        assert (answer.status_code, answer.content) == (200, CONTENT)


async def test_a_file_without_a_checksum_has_parts_but_no_name_for_its_bytes(api: Api) -> None:
    file_id = await a_growing_file(api, LINES[0])
    await seal_file(api, file_id, CONTENT)
    answer = await ask(api, file_id, range="bytes=3-")
    assert (answer.status_code, answer.content) == (206, CONTENT[3:])
    assert "etag" not in answer.headers
    assert (await ask(api, file_id, range="bytes=3-", if_range='"x"')).status_code == 200


# --- a file that grows ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("text", ["bytes=3-", "bytes=1000000-", "bytes=-1"])
async def test_a_file_that_grows_is_given_as_it_is_and_says_that_more_will_come(api: Api, text: str) -> None:
    file_id = await a_growing_file(api, *LINES)
    answer = await ask(api, file_id, range=text)
    assert (answer.status_code, answer.content) == (200, b"".join(LINES))
    assert (answer.headers["accept-ranges"], answer.headers["nightshift-more"]) == ("none", "true")
    assert "etag" not in answer.headers


async def test_a_file_says_that_no_more_will_come_once_it_is_sealed(api: Api) -> None:
    file_id = await a_growing_file(api, *LINES[:2])
    told = [(await ask(api, file_id)).headers["nightshift-more"]]
    await seal_file(api, file_id, b"".join(LINES))
    answer = await ask(api, file_id, range="bytes=20-")
    told.append(answer.headers["nightshift-more"])
    assert told == ["true", "false"]
    assert (answer.status_code, answer.content) == (206, b"".join(LINES)[20:])


# --- the headers alone ------------------------------------------------------------------------------------------------


async def test_head_tells_what_get_would_and_reads_nothing(weak: Weak) -> None:
    file = await weak.api.upload(CONTENT)
    path = f"files/{file['id']}/content"
    got = await weak.api.client.get(path)
    weak.bucket.before("read", failing(AssertionError("no bytes are needed")))
    head = await weak.api.client.head(path, headers={"Range": "bytes=3-"})
    assert (head.status_code, head.content) == (200, b"")
    told = [{k: v for k, v in answer.headers.items() if k != "x-request-id"} for answer in (head, got)]
    assert told[0] == told[1]
    assert told[0]["content-length"] == "10"


async def test_head_of_a_file_that_grows_and_of_none(api: Api) -> None:
    head = await api.client.head(f"files/{await a_growing_file(api, *LINES)}/content")
    assert (head.status_code, head.headers["nightshift-more"]) == (200, "true")
    assert head.headers["content-length"] == str(len(b"".join(LINES)))
    empty = await a_growing_file(api)
    assert (await api.client.head(f"files/{empty}/content")).status_code == 404
