"""The two files and the manifest that seal makes of the logs (design 5)."""

import asyncio
from typing import Any

import pytest

from nightshift_crds import names
from nightshift_crds.bucket.port import Bucket, get
from nightshift_crds.exits import Exit
from nightshift_crds.lifecycle import Sealing
from nightshift_crds.names import ResultKind
from nightshift_crds.records import Claimant, RecordKind, decode_manifest
from nightshift_crds.slicelog import last_end
from nightshift_processor.seal import seal
from nightshift_processor.writer import Fenced, SliceLog, SliceWriter, pumping
from tests.builders import BATCH_UID
from tests.processor.audits import audit
from tests.processor.faults import Fault, FaultyBucket
from tests.processor.given import (
    ERROR_ID,
    INPUT_KEY,
    OUTPUT_ID,
    a_failure,
    a_success,
    chat_lines,
    kinds,
    put_input,
    read_log,
    read_result,
    seal_settings,
)

ROWS = tuple(f"row-{n}" for n in range(6))
CONTENT = chat_lines(*ROWS)
CLAIM, PART, END, CLOSE = RecordKind.CLAIM, RecordKind.PART, RecordKind.END, RecordKind.CLOSE


async def a_claimed(bucket: Bucket, slice_no: int = 0) -> SliceWriter:
    writer = SliceWriter(SliceLog(bucket, BATCH_UID, slice_no, Claimant(1, 0), len(ROWS), 60, 1 << 20, 60))
    assert await writer.claim(None)
    return writer


async def given_log(bucket: Bucket, *items: int, slice_no: int = 0, ended: bool = False) -> None:
    """Write a log that has these items, of which every third failed."""
    writer = await a_claimed(bucket, slice_no)
    async with pumping(writer):
        for item in items:
            writer.add(item, a_failure(item) if item % 3 == 2 else a_success(item, tokens=item))
        writer.close(ended=ended)


async def sealed(bucket: Bucket, **values: Any) -> Exit:
    return await seal(seal_settings(bucket, CONTENT, **values), bucket)


def codes(errors: list[dict[str, Any]]) -> dict[str, str]:
    return {line["custom_id"]: line["error"]["code"] for line in errors}


async def test_a_completed_batch_has_the_lines_of_its_log_in_their_order(bucket: Bucket) -> None:
    await given_log(bucket, 3, 0, 5)
    await given_log(bucket, 4, 1, 2, ended=True)
    assert await sealed(bucket) is Exit.DONE
    assert [line["custom_id"] for line in await read_result(bucket, ResultKind.OUTPUT)] == [
        f"row-{n}" for n in (3, 0, 4, 1)
    ]
    manifest = await audit(bucket, *ROWS)
    assert (manifest.reason, manifest.completed, manifest.failed) == (Sealing.COMPLETED, 4, 2)


@pytest.mark.parametrize(("items", "missing"), [((2, 5), ResultKind.OUTPUT), ((0, 1, 3, 4), ResultKind.ERROR)])
async def test_a_file_that_would_be_empty_is_not_made(
    bucket: Bucket, items: tuple[int, ...], missing: ResultKind
) -> None:
    await given_log(bucket, *items, ended=True)
    assert await sealed(bucket) is Exit.DONE
    manifest = await audit(bucket, *(ROWS[item] for item in items))
    assert set(ResultKind) - set(manifest.files) == {missing}


@pytest.mark.parametrize(("reason", "code"), [("cancelled", "batch_cancelled"), ("expired", "batch_expired")])
async def test_rows_that_never_ran_say_why_and_are_not_counted_as_failed(
    bucket: Bucket, reason: str, code: str
) -> None:
    await put_input(bucket, CONTENT)
    await given_log(bucket, 0, 2)
    await given_log(bucket, 4, slice_no=1, ended=True)
    assert await sealed(bucket, reason=reason, slices=3) is Exit.DONE
    manifest = await audit(bucket, *ROWS)
    assert (manifest.reason, manifest.completed, manifest.failed) == (reason, 2, 1)
    errors = await read_result(bucket, ResultKind.ERROR)
    assert codes(errors) == {"row-2": "invalid_request", "row-1": code, "row-3": code, "row-5": code}
    assert all(line["response"] is None for line in errors)


@pytest.mark.parametrize("reason", ["cancelled", "expired"])
async def test_a_batch_of_which_nothing_ran_has_a_row_for_every_line(bucket: Bucket, reason: str) -> None:
    await put_input(bucket, CONTENT)
    assert await sealed(bucket, reason=reason) is Exit.DONE
    manifest = await audit(bucket, *ROWS)
    assert (manifest.completed, manifest.failed, set(manifest.files)) == (0, 0, {ResultKind.ERROR})
    assert kinds(await read_log(bucket)) == [CLOSE]


@pytest.mark.parametrize("reason", ["completed", "cancelled", "failed"])
async def test_lines_that_were_taken_over_stand_before_those_that_ran(bucket: Bucket, reason: str) -> None:
    taken = b'{"custom_id":"old-1"}\n{"custom_id":"old-2"}\n'
    await bucket.put(names.reused_key(BATCH_UID), taken, create_only=True)
    await put_input(bucket, CONTENT)
    await given_log(bucket, 1, 0, 2, ended=True)
    for _ in range(2):
        assert await sealed(bucket, reason=reason, reused=2) is Exit.DONE
    rows = [line["custom_id"] for line in await read_result(bucket, ResultKind.OUTPUT)]
    assert rows == ["old-1", "old-2", "row-1", "row-0"]
    manifest = decode_manifest(await get(bucket, names.manifest_key(BATCH_UID)))
    assert (manifest.completed, manifest.failed, manifest.files[ResultKind.OUTPUT].lines) == (4, 1, 4)
    assert manifest.usage.input_tokens == 1, "of the rows that ran"


async def test_a_rerun_without_a_new_success_has_the_lines_that_it_took_over(bucket: Bucket) -> None:
    await bucket.put(names.reused_key(BATCH_UID), b'{"custom_id":"old"}\n', create_only=True)
    await given_log(bucket, 2, 5, ended=True)
    assert await sealed(bucket, reused=1) is Exit.DONE
    assert await get(bucket, names.file_key(OUTPUT_ID)) == b'{"custom_id":"old"}\n'


async def test_a_failed_batch_keeps_what_ran_and_adds_nothing(bucket: Bucket) -> None:
    await put_input(bucket, CONTENT)
    await given_log(bucket, 0, 2)
    assert await sealed(bucket, reason="failed") is Exit.DONE
    assert (await audit(bucket, "row-0", "row-2")).reason is Sealing.FAILED


async def test_a_batch_without_lines_has_a_manifest_and_no_files(bucket: Bucket) -> None:
    await given_log(bucket, ended=True)
    assert await seal(seal_settings(bucket), bucket) is Exit.DONE
    assert (await audit(bucket)).files == {}


@pytest.mark.parametrize("content", [None, CONTENT + b"\n"])
async def test_a_batch_ends_even_if_its_input_is_gone_or_changed(bucket: Bucket, content: bytes | None) -> None:
    if content is not None:
        await put_input(bucket, content)
    await given_log(bucket, 0, 2)
    assert await sealed(bucket, reason="cancelled") is Exit.DONE
    await audit(bucket, "row-0", "row-2")


async def test_an_input_that_is_not_needed_is_not_read(bucket: Bucket) -> None:
    faulty = FaultyBucket(bucket)
    faulty.fail_read(INPUT_KEY, *[Fault.REFUSE] * 10)
    await given_log(bucket, *range(6), ended=True)
    assert await seal(seal_settings(bucket, CONTENT, reason="expired"), faulty) is Exit.DONE
    await audit(bucket, *ROWS)


async def test_sealing_twice_changes_nothing(bucket: Bucket) -> None:
    await put_input(bucket, CONTENT)
    await given_log(bucket, 0, 2)
    assert await sealed(bucket, reason="expired") is Exit.DONE
    before = [info async for info in bucket.list("openai/")]
    assert await sealed(bucket, reason="expired") is Exit.DONE
    assert [info async for info in bucket.list("openai/")] == before


async def test_two_seals_at_once_make_one(bucket: Bucket) -> None:
    await put_input(bucket, CONTENT)
    await given_log(bucket, 0, 2)
    assert await asyncio.gather(*(sealed(bucket, reason="expired") for _ in range(4))) == [Exit.DONE] * 4
    await audit(bucket, *ROWS)
    assert kinds(await read_log(bucket)) == [CLAIM, PART, CLOSE]


@pytest.mark.parametrize("file_id", [OUTPUT_ID, ERROR_ID])
async def test_a_file_that_is_not_what_the_logs_hold_is_never_overwritten(bucket: Bucket, file_id: str) -> None:
    await given_log(bucket, *range(6), ended=True)
    await bucket.put(names.file_key(file_id), b"other\n", create_only=True)
    assert await sealed(bucket) is Exit.CONFLICT
    assert await get(bucket, names.file_key(file_id)) == b"other\n"
    assert await bucket.head(names.manifest_key(BATCH_UID)) is None


async def test_a_reason_never_changes(bucket: Bucket) -> None:
    await given_log(bucket, *range(6), ended=True)
    assert await sealed(bucket) is Exit.DONE
    assert await sealed(bucket, reason="failed") is Exit.CONFLICT
    assert (await audit(bucket, *ROWS)).reason is Sealing.COMPLETED


async def test_a_writer_that_comes_late_adds_nothing_to_what_is_sealed(bucket: Bucket) -> None:
    await put_input(bucket, CONTENT)
    late = await a_claimed(bucket)
    assert await sealed(bucket, reason="cancelled") is Exit.DONE
    with pytest.raises(Fenced):
        async with pumping(late):
            late.add(0, a_success(0))
    await audit(bucket, *ROWS)
    assert await sealed(bucket, reason="cancelled") is Exit.DONE


async def test_a_record_that_comes_just_before_the_close_is_sealed_with_the_rest(bucket: Bucket) -> None:
    await put_input(bucket, CONTENT)
    writer = await a_claimed(bucket)
    faulty = FaultyBucket(bucket)
    faulty.fail_put("log/0000/00000001", Fault.HOLD)
    sealing = asyncio.create_task(seal(seal_settings(bucket, CONTENT, reason="cancelled"), faulty))
    await faulty.held.wait()
    async with pumping(writer):
        writer.add(0, a_success(0))
    faulty.release.set()
    assert await sealing is Exit.DONE
    assert (await audit(bucket, *ROWS)).completed == 1


async def test_closing_a_log_does_not_hide_when_its_slice_ended(bucket: Bucket) -> None:
    await given_log(bucket, *range(6), ended=True)
    ended_at = await last_end(bucket, BATCH_UID, 1)
    await sealed(bucket)
    assert await last_end(bucket, BATCH_UID, 1) == ended_at is not None
