"""Uploads by parts while cluster or bucket fail, and while several end one at once (contract 7, design 5)."""

import asyncio
from pathlib import Path

import pytest

from nightshift_crds import names
from nightshift_crds.cluster.port import STORED_FILE, Propagation
from nightshift_crds.errors import Unavailable
from tests.api.faults import Weak, failing
from tests.api.harness import error_of, file_name, json_of, key_of, open_api
from tests.api.parts import CONTENT, PIECES, add, begin, cancel, complete, file_keys, part_keys, send_part
from tests.builders import NAMESPACE

DOWN = failing(Unavailable("down"))
NOT_PENDING = ("upload_not_pending", "upload_id")


async def ready(weak: Weak) -> tuple[str, list[str]]:
    """An upload of which all parts are there."""
    upload = await begin(weak.api)
    return upload["id"], await add(weak.api, upload["id"], *PIECES)


# --- failures ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("moment", ["put", "chunk", "answer"])
async def test_a_part_that_the_bucket_does_not_take_is_not_there(weak: Weak, moment: str) -> None:
    upload = await begin(weak.api)
    weak.bucket.before(moment, DOWN)
    assert error_of(await send_part(weak.api, upload["id"], b"x"), 503) == (None, None)
    assert await part_keys(weak.api.bucket, upload["id"]) == []


@pytest.mark.parametrize(
    ("port", "moment"),
    [
        ("bucket", "list"),
        ("bucket", "read"),
        ("bucket", "put"),
        ("bucket", "chunk"),
        ("bucket", "answer"),
        ("bucket", "head"),
        ("cluster", "create"),
        ("cluster", "patch_status"),
    ],
)
async def test_after_a_failure_at_any_step_nothing_is_visible_and_a_second_complete_ends_the_same(
    weak: Weak, port: str, moment: str
) -> None:
    upload_id, part_ids = await ready(weak)
    getattr(weak, port).before(moment, DOWN)
    assert error_of(await complete(weak.api, upload_id, part_ids), 503) == (None, None)
    assert await weak.api.ids("files") == []
    ended = json_of(await complete(weak.api, upload_id, part_ids), 200)
    assert ended["status"] == "completed"
    assert await weak.api.ids("files") == [ended["file"]["id"]]
    assert await file_keys(weak.api.bucket) == [key_of(ended["file"]["id"])]
    assert (await weak.api.client.get(f"files/{ended['file']['id']}/content")).content == CONTENT


async def test_a_complete_whose_outcome_was_written_and_not_answered_keeps_its_bytes(weak: Weak) -> None:
    upload_id, part_ids = await ready(weak)

    async def nothing() -> None:
        """The answer about the bytes comes."""

    weak.bucket.before("answer", nothing, DOWN)
    assert error_of(await complete(weak.api, upload_id, part_ids), 503) == (None, None)
    (key,) = await file_keys(weak.api.bucket)
    assert error_of(await cancel(weak.api, upload_id), 400) == NOT_PENDING
    assert key_of(json_of(await complete(weak.api, upload_id, part_ids), 200)["file"]["id"]) == key


async def test_a_complete_that_dies_before_its_outcome_leaves_what_the_sweep_takes(weak: Weak) -> None:
    upload_id, part_ids = await ready(weak)
    reached = asyncio.Event()

    async def nothing() -> None:
        """The bytes are put."""

    async def die() -> None:
        reached.set()
        await asyncio.Event().wait()

    weak.bucket.before("put", nothing, die)
    completing = asyncio.create_task(complete(weak.api, upload_id, part_ids))
    await reached.wait()
    completing.cancel()
    with pytest.raises(asyncio.CancelledError):
        await completing
    assert len(await file_keys(weak.api.bucket)) == 1
    assert await weak.api.stored_files() == []
    assert json_of(await cancel(weak.api, upload_id), 200)["status"] == "cancelled"


async def test_bytes_of_a_loser_that_cannot_be_taken_away_stay_without_a_file(weak: Weak) -> None:
    upload_id, part_ids = await ready(weak)

    async def cancel_first() -> None:
        weak.bucket.before("delete", DOWN)
        json_of(await cancel(weak.api, upload_id), 200)

    weak.bucket.before("answer", cancel_first)
    assert error_of(await complete(weak.api, upload_id, part_ids), 400) == NOT_PENDING
    assert len(await file_keys(weak.api.bucket)) == 1
    assert await weak.api.stored_files() == []


async def test_a_file_that_is_deleted_while_it_is_recorded_is_not_shown(weak: Weak) -> None:
    upload_id, part_ids = await ready(weak)

    async def delete() -> None:
        (file,) = await weak.api.stored_files()
        await weak.api.cluster.delete(STORED_FILE, NAMESPACE, file_name(file.id), propagation=Propagation.BACKGROUND)

    weak.cluster.before("patch_status", delete)
    assert json_of(await complete(weak.api, upload_id, part_ids), 200)["file"] is None


# --- races ------------------------------------------------------------------------------------------------------------


async def test_of_complete_and_cancel_at_once_one_wins_for_all(tmp_path: Path) -> None:
    async with open_api(tmp_path) as one, open_api(tmp_path) as other:
        winners = set()
        for n in range(12):
            upload = await begin(one)
            part_ids = await add(one, upload["id"], CONTENT)
            asked = [complete(one, upload["id"], part_ids), cancel(other, upload["id"])]
            answers = await asyncio.gather(*(asked if n % 2 else asked[::-1]))
            won = [json_of(answer, 200)["status"] for answer in answers if answer.status_code == 200]
            assert [error_of(answer, 400) for answer in answers if answer.status_code != 200] == [NOT_PENDING]
            winners |= set(won)
            files = await one.ids("files")
            assert len(files) == len(await file_keys(one.bucket)) == (1 if won == ["completed"] else 0)
            for file_id in files:
                json_of(await one.client.delete(f"files/{file_id}"), 200)
        assert winners


@pytest.mark.parametrize("is_first", [True, False])
async def test_a_cancel_just_before_the_outcome_wins_and_one_just_after_loses(weak: Weak, is_first: bool) -> None:
    upload_id, part_ids = await ready(weak)
    answers = []

    async def cancel_now() -> None:
        answers.append(await cancel(weak.api, upload_id))

    async def nothing() -> None:
        """The bytes are put."""

    if is_first:
        weak.bucket.before("put", nothing, cancel_now)
    else:
        weak.bucket.before("head", cancel_now)
    completed = await complete(weak.api, upload_id, part_ids)
    assert (answers[0].status_code, completed.status_code) == ((200, 400) if is_first else (400, 200))
    assert len(await weak.api.ids("files")) == len(await file_keys(weak.api.bucket)) == (0 if is_first else 1)


async def test_of_many_completes_at_once_all_show_one_file(tmp_path: Path) -> None:
    async with open_api(tmp_path) as one, open_api(tmp_path) as other:
        upload = await begin(one)
        part_ids = await add(one, upload["id"], *PIECES)
        answers = await asyncio.gather(*(complete(api, upload["id"], part_ids) for api in [one, other] * 3))
        (file_id,) = {json_of(answer, 200)["file"]["id"] for answer in answers}
        assert await one.ids("files") == [file_id]
        assert await file_keys(one.bucket) == [key_of(file_id)]


async def test_of_two_completes_in_another_order_one_wins(weak: Weak) -> None:
    upload_id, part_ids = await ready(weak)
    other = []

    async def complete_backwards() -> None:
        other.append(await complete(weak.api, upload_id, part_ids[::-1]))

    weak.bucket.before("answer", complete_backwards)
    assert error_of(await complete(weak.api, upload_id, part_ids), 400) == NOT_PENDING
    file_id = json_of(other[0], 200)["file"]["id"]
    assert await file_keys(weak.api.bucket) == [key_of(file_id)]
    assert (await weak.api.client.get(f"files/{file_id}/content")).content == b"".join(PIECES[::-1])


async def test_a_part_that_comes_while_its_upload_ends_is_of_no_use_and_does_no_harm(weak: Weak) -> None:
    upload_id, part_ids = await ready(weak)

    async def complete_now() -> None:
        json_of(await complete(weak.api, upload_id, part_ids), 200)

    weak.bucket.before("chunk", complete_now)
    json_of(await send_part(weak.api, upload_id, b"late"), 200)
    assert len(await weak.api.ids("files")) == 1
    assert len(await part_keys(weak.api.bucket, upload_id)) == len(part_ids) + 1


async def test_an_outcome_that_the_sweep_takes_while_it_is_lost_is_to_be_asked_again(weak: Weak) -> None:
    upload_id, _ = await ready(weak)
    key = names.outcome_key(NAMESPACE, upload_id)

    async def be_quicker() -> None:
        await weak.bucket.inner.put(key, b"{}", create_only=True)
        weak.bucket.before("read", vanish)

    async def vanish() -> None:
        await weak.bucket.inner.delete(key)

    weak.bucket.before("put", be_quicker)
    assert error_of(await cancel(weak.api, upload_id), 503) == (None, None)
