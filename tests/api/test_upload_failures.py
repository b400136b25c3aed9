"""An upload while cluster or bucket fail: what a crash between two steps leaves does not exist for users (design 5)."""

import asyncio

import pytest

from nightshift_crds.errors import Unavailable
from nightshift_crds.lines import CHAT
from tests.api.faults import Weak, failing
from tests.api.forms import PURPOSE, form, part, send
from tests.api.harness import error_of
from tests.builders import a_line, jsonl

BODY = form(PURPOSE, part("file", jsonl(a_line()), "in.jsonl"))
DOWN = failing(Unavailable("down"))


@pytest.mark.parametrize("moment", ["put", "chunk", "answer"])
async def test_a_bucket_that_fails_is_told_and_nothing_stays(weak: Weak, moment: str) -> None:
    weak.bucket.before(moment, DOWN)
    assert error_of(await send(weak.api, BODY), 503) == (None, None)
    assert await weak.api.stored_keys() == []
    assert await weak.api.stored_files() == []


async def test_what_cannot_even_be_taken_away_is_left_without_a_file(weak: Weak) -> None:
    weak.bucket.before("answer", DOWN)
    weak.bucket.before("delete", DOWN)
    assert error_of(await send(weak.api, BODY), 503) == (None, None)
    assert len(await weak.api.stored_keys()) == 1
    assert await weak.api.stored_files() == []


async def test_an_upload_that_a_shutdown_cuts_off_leaves_nothing(weak: Weak) -> None:
    reached = asyncio.Event()

    async def hold() -> None:
        reached.set()
        await asyncio.Event().wait()

    weak.bucket.before("chunk", hold)
    upload = asyncio.create_task(send(weak.api, BODY))
    await reached.wait()
    upload.cancel()
    with pytest.raises(asyncio.CancelledError):
        await upload
    assert await weak.api.stored_keys() == []
    assert await weak.api.stored_files() == []


async def test_a_cluster_that_fails_before_the_file_is_recorded_leaves_no_file(weak: Weak) -> None:
    weak.cluster.before("create", DOWN)
    assert error_of(await send(weak.api, BODY), 503) == (None, None)
    assert await weak.api.stored_files() == []


async def test_a_file_whose_last_step_never_came_does_not_exist(weak: Weak) -> None:
    weak.cluster.before("patch_status", DOWN)
    assert error_of(await send(weak.api, BODY), 503) == (None, None)
    (orphan,) = await weak.api.stored_files()
    client = weak.api.client
    assert await weak.api.ids("files") == []
    assert error_of(await client.get(f"files/{orphan.id}"), 404) == (None, "id")
    assert error_of(await client.get(f"files/{orphan.id}/content"), 404) == (None, "id")
    assert error_of(await client.delete(f"files/{orphan.id}"), 404) == (None, "id")
    batch = {"input_file_id": orphan.id, "endpoint": CHAT, "completion_window": "24h"}
    assert error_of(await client.post("batches", json=batch), 404) == (None, "input_file_id")


async def test_an_upload_can_be_repeated_after_any_failure(weak: Weak) -> None:
    for port, moment in ((weak.bucket, "put"), (weak.bucket, "answer"), (weak.cluster, "create")):
        port.before(moment, DOWN)
        assert (await send(weak.api, BODY)).status_code == 503
    assert (await send(weak.api, BODY)).status_code == 200
    assert len(await weak.api.ids("files")) == 1
