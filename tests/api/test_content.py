"""`GET /files/{id}/content`: of a file that is whole, and of one that grows (contract 3.5)."""

from functools import partial
from urllib.parse import unquote

import pytest

from nightshift_crds.errors import Unavailable
from nightshift_crds.lifecycle import Phase
from nightshift_crds.models import BatchJob
from nightshift_crds.names import ResultKind
from tests.api.faults import Weak, failing
from tests.api.forms import PURPOSE, form, part, send
from tests.api.given import SliceLog, a_batch_in, add_result_file, clear_scratch, seal_file
from tests.api.harness import Api, error_of, json_of, key_of

LINES = [b'{"n": %d}\n' % n for n in range(6)]


async def content_of(api: Api, file_id: str) -> bytes:
    answer = await api.client.get(f"files/{file_id}/content")
    assert answer.status_code == 200
    assert int(answer.headers["content-length"]) == len(answer.content)
    return answer.content


async def a_growing_file(api: Api, kind: ResultKind = ResultKind.OUTPUT) -> tuple[BatchJob, str]:
    batch = await a_batch_in(api, Phase.IN_PROGRESS)
    return batch, await add_result_file(api, batch, kind)


async def test_an_upload_comes_back_byte_by_byte(api: Api) -> None:
    content = b'\xef\xbb\xbf{"a": 1}\r\n\r\n\0\xff no last newline'
    file = await api.upload(content)
    answer = await api.client.get(f"files/{file['id']}/content")
    assert answer.content == content
    assert answer.headers["content-type"] == "application/octet-stream"


async def test_a_file_of_many_blocks_comes_back_whole(api: Api) -> None:
    content = bytes(range(256)) * 12_000
    assert await content_of(api, (await api.upload(content))["id"]) == content


@pytest.mark.parametrize(
    ("filename", "plain"),
    [
        ("in.jsonl", "in.jsonl"),
        ("two words.jsonl", "two words.jsonl"),
        ("a%22b.jsonl", "a_b.jsonl"),
        ("ü😀.jsonl", "__.jsonl"),
        ("a;b=c'd.jsonl", "a;b=c'd.jsonl"),
    ],
)
async def test_a_download_has_the_name_of_the_file_whatever_is_in_it(api: Api, filename: str, plain: str) -> None:
    file = json_of(await send(api, form(PURPOSE, part("file", b"{}\n", filename))), 200)
    told = (await api.client.get(f"files/{file['id']}/content")).headers["content-disposition"]
    kind, simple, full = told.rsplit("; ", 2)
    assert (kind, simple) == ("attachment", f'filename="{plain}"')
    assert full.isascii()
    assert unquote(full.removeprefix("filename*=UTF-8''")) == file["filename"]


# --- a file that grows ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ResultKind)
async def test_a_growing_file_is_the_durable_lines_of_its_kind(api: Api, kind: ResultKind) -> None:
    batch, file_id = await a_growing_file(api, kind)
    log = SliceLog(api.bucket, batch.metadata.uid)
    own, other = {ResultKind.OUTPUT: (LINES, [b"error\n"]), ResultKind.ERROR: ([b"output\n"] * 3, LINES)}[kind]
    await log.append(own[:2], other[:2])
    await log.append()
    await log.append(own[2:], other[2:])
    assert await content_of(api, file_id) == b"".join(LINES)


async def test_a_growing_file_is_a_prefix_of_what_it_will_be_and_never_shrinks(api: Api) -> None:
    batch, file_id = await a_growing_file(api)
    log = SliceLog(api.bucket, batch.metadata.uid)
    seen = [b""]
    for line in LINES:
        await log.append([line])
        seen.append(await content_of(api, file_id))
        assert (await api.get(f"files/{file_id}"))["bytes"] == len(seen[-1])
    assert seen == [b"".join(LINES[:n]) for n in range(len(LINES) + 1)]


async def test_a_record_that_no_progress_counts_is_not_shown_yet(api: Api) -> None:
    batch, file_id = await a_growing_file(api)
    log = SliceLog(api.bucket, batch.metadata.uid)
    await log.append(LINES[:1])
    await log.write_record(LINES[1:2], [])
    assert await content_of(api, file_id) == LINES[0]
    await log.report()
    assert await content_of(api, file_id) == b"".join(LINES[:2])


async def test_a_growing_file_has_the_lines_of_all_slices(api: Api) -> None:
    batch, file_id = await a_growing_file(api)
    for slice_no, line in enumerate(LINES):
        await SliceLog(api.bucket, batch.metadata.uid, slice_no).append([line])
    assert sorted((await content_of(api, file_id)).splitlines(keepends=True)) == LINES


async def test_a_sealed_file_is_read_from_where_seal_has_put_it(api: Api) -> None:
    batch, file_id = await a_growing_file(api)
    await SliceLog(api.bucket, batch.metadata.uid).append(LINES[:1])
    await seal_file(api, file_id, b"".join(LINES))
    assert await content_of(api, file_id) == b"".join(LINES)


# --- while others clear up --------------------------------------------------------------------------------------------


async def nothing() -> None:
    """Let a call be."""


async def seal(api: Api, batch: BatchJob, file_id: str) -> None:
    await seal_file(api, file_id, b"".join(LINES))
    await clear_scratch(api.bucket, batch.metadata.uid)


@pytest.mark.parametrize(("call", "calls_before"), [("list", 0), ("read", 0), ("read", 1), ("read", 2)])
async def test_a_file_that_is_sealed_while_it_is_opened_is_whole(weak: Weak, call: str, calls_before: int) -> None:
    batch, file_id = await a_growing_file(weak.api)
    await SliceLog(weak.api.bucket, batch.metadata.uid).append(LINES[:1])
    weak.bucket.before(call, *[nothing] * calls_before, partial(seal, weak.api, batch, file_id))
    assert await content_of(weak.api, file_id) in {b"".join(LINES), LINES[0]}


async def test_a_growing_file_is_found_although_it_is_sealed_meanwhile(weak: Weak) -> None:
    batch, file_id = await a_growing_file(weak.api)
    await SliceLog(weak.api.bucket, batch.metadata.uid).append(LINES[:1])
    weak.bucket.before("list", partial(seal, weak.api, batch, file_id))
    file = await weak.api.get(f"files/{file_id}")
    assert (file["status"], file["bytes"]) == ("processed", len(b"".join(LINES)))


@pytest.mark.parametrize("moment", ["head", "read"])
async def test_a_file_that_is_deleted_while_it_is_opened_is_gone(weak: Weak, moment: str) -> None:
    file = await weak.api.upload()

    async def delete() -> None:
        assert (await weak.api.client.delete(f"files/{file['id']}")).status_code == 200

    weak.bucket.before(moment, delete)
    assert error_of(await weak.api.client.get(f"files/{file['id']}/content"), 404) == (None, "id")


async def test_bytes_that_are_gone_behind_our_back_are_a_file_that_is_gone(api: Api) -> None:
    file = await api.upload()
    await api.bucket.delete(key_of(file["id"]))
    assert error_of(await api.client.get(f"files/{file['id']}/content"), 404) == (None, "id")


@pytest.mark.parametrize("moment", ["head", "read"])
async def test_a_bucket_that_does_not_answer_is_told_before_a_byte_is_sent(weak: Weak, moment: str) -> None:
    file = await weak.api.upload()
    weak.bucket.before(moment, failing(Unavailable("down")))
    assert error_of(await weak.api.client.get(f"files/{file['id']}/content"), 503) == (None, None)
    assert await content_of(weak.api, file["id"])


@pytest.mark.parametrize("moment", ["list", "read"])
async def test_a_bucket_that_does_not_answer_for_a_growing_file_is_told(weak: Weak, moment: str) -> None:
    batch, file_id = await a_growing_file(weak.api)
    await SliceLog(weak.api.bucket, batch.metadata.uid).append(LINES)
    weak.bucket.before(moment, failing(Unavailable("down")))
    assert error_of(await weak.api.client.get(f"files/{file_id}/content"), 503) == (None, None)


async def test_lines_that_go_while_they_are_sent_are_never_passed_off_as_the_whole(weak: Weak) -> None:
    """The server breaks the connection of an answer that is shorter than it says, and the client asks again."""
    batch, file_id = await a_growing_file(weak.api)
    log = SliceLog(weak.api.bucket, batch.metadata.uid)
    await log.append(LINES[:3])
    await log.append(LINES[3:])
    read_before = [nothing] * 2  # the progress, and the first record
    weak.bucket.before("read", *read_before, partial(seal, weak.api, batch, file_id))
    answer = await weak.api.client.get(f"files/{file_id}/content")
    assert answer.content == b"".join(LINES[:3])
    assert int(answer.headers["content-length"]) == len(b"".join(LINES))
    assert await content_of(weak.api, file_id) == b"".join(LINES)
