"""`GET` and `DELETE /files`: which files there are for a user, and which of them can go (contract 3.3 to 3.6, 11)."""

import asyncio
from typing import Any

import pytest

from nightshift_crds.cluster.port import BATCH_JOB, STORED_FILE, Propagation
from nightshift_crds.errors import Unavailable
from nightshift_crds.lifecycle import TERMINAL, Phase
from nightshift_crds.models import FilePhase
from nightshift_crds.names import IdKind, ResultKind
from tests.api.faults import Weak, failing
from tests.api.given import SliceLog, a_batch_in, add_file, add_result_file, an_id, seal_file
from tests.api.harness import Api, batch_name, error_of, file_name, json_of, key_of
from tests.builders import NAMESPACE

HOUR = {"expires_after[anchor]": "created_at", "expires_after[seconds]": "3600"}
RUNNING = [phase for phase in Phase if phase not in TERMINAL]
GONE = (None, "id")
IN_USE = ("file_in_use", "id")


async def a_result_file(api: Api, phase: Phase, kind: ResultKind = ResultKind.OUTPUT) -> str:
    batch = await a_batch_in(api, phase)
    file_id = await add_result_file(api, batch, kind)
    await seal_file(api, file_id, b"{}\n")
    return file_id


# --- get and list -----------------------------------------------------------------------------------------------------


async def test_a_file_is_shown_the_same_by_upload_get_and_list(api: Api) -> None:
    file = await api.upload()
    assert await api.get(f"files/{file['id']}") == file
    assert (await api.get("files"))["data"] == [file]


async def test_a_list_of_nothing_says_so(api: Api) -> None:
    nothing: dict[str, Any] = {"object": "list", "data": [], "first_id": None, "last_id": None, "has_more": False}
    assert await api.get("files") == nothing


@pytest.mark.parametrize("moment", ["before", "at"])
async def test_an_expired_file_is_gone_for_every_call(api: Api, moment: str) -> None:
    file = await api.upload(None, **HOUR)
    path = f"files/{file['id']}"
    if moment == "before":
        api.clock.advance(seconds=3599)
        assert await api.ids("files") == [file["id"]]
        assert (await api.client.get(f"{path}/content")).status_code == 200
        return
    api.clock.advance(seconds=3600)
    assert await api.ids("files") == []
    for ask in (api.client.get(path), api.client.get(f"{path}/content"), api.client.delete(path)):
        assert error_of(await ask, 404) == GONE


@pytest.mark.parametrize(
    ("purpose", "count"),
    [
        ("batch", 1),
        ("batch_output", 1),
        ("assistants", 0),
        ("", 0),
        ("BATCH", 0),
        ("batch,spec.filename=in.jsonl", 0),
        ("x,spec.purpose=batch", 0),
        ("!=x", 0),
        ("\0", 0),
    ],
)
async def test_a_purpose_selects_the_files_that_have_exactly_it(api: Api, purpose: str, count: int) -> None:
    await a_result_file(api, Phase.COMPLETED)
    assert len(await api.ids("files", purpose=purpose)) == count


@pytest.mark.parametrize("kind", ResultKind)
async def test_a_result_file_is_shown_with_its_purpose_and_the_name_of_its_batch(api: Api, kind: ResultKind) -> None:
    batch = await a_batch_in(api, Phase.COMPLETED)
    file_id = await add_result_file(api, batch, kind)
    await seal_file(api, file_id, b"{}\n")
    file = await api.get(f"files/{file_id}")
    assert (file["purpose"], file["filename"]) == ("batch_output", f"{batch.id}_{kind}.jsonl")
    assert (file["status"], file["bytes"], file["expires_at"] is None) == ("processed", 3, False)
    assert file_id in await api.ids("files")


async def test_a_result_file_does_not_exist_before_its_first_line(api: Api) -> None:
    batch = await a_batch_in(api, Phase.IN_PROGRESS)
    file_id = await add_result_file(api, batch, ResultKind.OUTPUT)
    log = SliceLog(api.bucket, batch.metadata.uid)
    await log.append(errors=[b"{}\n"])
    assert file_id not in await api.ids("files")
    for method, path in (
        ("GET", f"files/{file_id}"),
        ("GET", f"files/{file_id}/content"),
        ("DELETE", f"files/{file_id}"),
    ):
        assert error_of(await api.client.request(method, path), 404) == GONE
    await log.append(outputs=[b"{}\n"])
    file = await api.get(f"files/{file_id}")
    assert (file["status"], file["bytes"], file["expires_at"]) == ("uploaded", 3, None)


async def test_a_result_file_that_grows_is_listed_once_its_status_counts_a_line(api: Api) -> None:
    batch = await a_batch_in(api, Phase.IN_PROGRESS)
    file_id = await add_result_file(api, batch, ResultKind.OUTPUT)
    await api.cluster.patch_status(STORED_FILE, NAMESPACE, file_name(file_id), {"status": {"bytes": 12}})
    listed = [file for file in (await api.get("files"))["data"] if file["id"] == file_id]
    assert [(file["status"], file["bytes"]) for file in listed] == [("uploaded", 12)]


@pytest.mark.parametrize("source", [{}, {"batchUid": "u"}, {"kind": "output"}])
async def test_a_file_that_nobody_writes_does_not_exist(api: Api, source: dict[str, Any]) -> None:
    file_id = an_id(IdKind.FILE, api.clock.now)
    await add_file(api, file_id, FilePhase.WRITING, source=source)
    assert error_of(await api.client.get(f"files/{file_id}"), 404) == GONE


async def test_a_file_that_its_schema_does_not_allow_breaks_no_list(weak: Weak) -> None:
    good, bad = await weak.api.upload(), await weak.api.upload()
    name = file_name(bad["id"])
    weak.cluster.alter_lists(lambda m: m | {"spec": {}} if m["metadata"]["name"] == name else m)
    await weak.api.cluster.patch(STORED_FILE, NAMESPACE, name, {"metadata": {"labels": {"touched": "yes"}}})
    assert await weak.api.ids("files") == [good["id"]]


@pytest.mark.parametrize("name", ["my-file", "file-x", "batch-0192f0c2-0000-7000-8000-000000000000"])
async def test_a_file_that_was_made_by_hand_does_not_exist_for_the_api(api: Api, name: str) -> None:
    spec = {"filename": "in.jsonl", "purpose": "batch"}
    metadata = {"name": name, "namespace": NAMESPACE}
    manifest = {"apiVersion": STORED_FILE.api_version, "kind": "StoredFile", "metadata": metadata, "spec": spec}
    await api.cluster.create(STORED_FILE, manifest)
    assert await api.ids("files") == []


# --- delete -----------------------------------------------------------------------------------------------------------


async def test_a_deleted_file_is_gone_with_its_bytes(api: Api) -> None:
    file = await api.upload()
    path = f"files/{file['id']}"
    assert json_of(await api.client.delete(path), 200) == {"id": file["id"], "object": "file", "deleted": True}
    for ask in (api.client.get(path), api.client.get(f"{path}/content"), api.client.delete(path)):
        assert error_of(await ask, 404) == GONE
    assert await api.stored_keys() == []
    assert await api.stored_files() == []


@pytest.mark.parametrize("phase", RUNNING)
async def test_the_input_of_a_batch_that_runs_cannot_be_deleted(api: Api, phase: Phase) -> None:
    batch = await a_batch_in(api, phase)
    file_id = batch.spec.input.file_id
    assert error_of(await api.client.delete(f"files/{file_id}"), 409) == IN_USE
    assert (await api.client.get(f"files/{file_id}/content")).status_code == 200


@pytest.mark.parametrize("phase", sorted(TERMINAL))
async def test_all_files_of_a_batch_that_has_ended_can_be_deleted(api: Api, phase: Phase) -> None:
    batch = await a_batch_in(api, phase)
    result = await add_result_file(api, batch, ResultKind.ERROR)
    await seal_file(api, result, b"{}\n")
    for file_id in (batch.spec.input.file_id, result):
        assert (await api.client.delete(f"files/{file_id}")).status_code == 200
    assert (await api.get(f"batches/{batch.id}"))["input_file_id"] == batch.spec.input.file_id


async def test_an_input_that_an_ended_and_a_running_batch_share_cannot_be_deleted(api: Api) -> None:
    ended = await a_batch_in(api, Phase.COMPLETED)
    await api.create_batch(input_file_id=ended.spec.input.file_id)
    assert error_of(await api.client.delete(f"files/{ended.spec.input.file_id}"), 409) == IN_USE


@pytest.mark.parametrize("phase", [Phase.FINALIZING, Phase.CANCELLING])
async def test_a_result_file_of_a_batch_that_runs_cannot_be_deleted_even_if_it_is_whole(api: Api, phase: Phase) -> None:
    file_id = await a_result_file(api, phase)
    assert error_of(await api.client.delete(f"files/{file_id}"), 409) == IN_USE


async def test_a_result_file_that_grows_cannot_be_deleted(api: Api) -> None:
    batch = await a_batch_in(api, Phase.IN_PROGRESS)
    file_id = await add_result_file(api, batch, ResultKind.OUTPUT)
    await SliceLog(api.bucket, batch.metadata.uid).append(outputs=[b"{}\n"])
    assert error_of(await api.client.delete(f"files/{file_id}"), 409) == IN_USE


async def test_a_result_file_whose_batch_is_gone_can_be_deleted(api: Api) -> None:
    batch = await a_batch_in(api, Phase.IN_PROGRESS)
    file_id = await add_result_file(api, batch, ResultKind.OUTPUT)
    await seal_file(api, file_id, b"{}\n")
    await api.cluster.delete(BATCH_JOB, NAMESPACE, batch.metadata.name, propagation=Propagation.BACKGROUND)
    assert (await api.client.delete(f"files/{file_id}")).status_code == 200


async def test_a_result_file_is_not_kept_by_another_batch_that_took_the_name_of_its_own(api: Api) -> None:
    batch = await a_batch_in(api, Phase.IN_PROGRESS)
    file_id = await add_result_file(api, batch, ResultKind.OUTPUT)
    await seal_file(api, file_id, b"{}\n")
    manifest = await api.cluster.get(BATCH_JOB, NAMESPACE, batch_name(batch.id))
    await api.cluster.delete(BATCH_JOB, NAMESPACE, batch.metadata.name, propagation=Propagation.BACKGROUND)
    await api.cluster.create(BATCH_JOB, manifest)
    assert (await api.client.delete(f"files/{file_id}")).status_code == 200


async def test_of_two_who_delete_a_file_at_once_one_has_deleted_it(api: Api) -> None:
    path = f"files/{(await api.upload())['id']}"
    answers = await asyncio.gather(*(api.client.delete(path) for _ in range(4)))
    assert sorted(answer.status_code for answer in answers) == [200, 404, 404, 404]


async def test_a_file_is_deleted_although_its_bytes_cannot_be_taken_away_now(weak: Weak) -> None:
    file = await weak.api.upload()
    weak.bucket.before("delete", failing(Unavailable("down")))
    assert (await weak.api.client.delete(f"files/{file['id']}")).status_code == 200
    assert error_of(await weak.api.client.get(f"files/{file['id']}"), 404) == GONE
    assert await weak.api.stored_keys() == [key_of(file["id"])]


@pytest.mark.parametrize("call", ["get", "list", "delete"])
async def test_a_file_stays_whole_if_the_cluster_fails_while_it_is_deleted(weak: Weak, call: str) -> None:
    file = await weak.api.upload()
    weak.cluster.before(call, failing(Unavailable("down")))
    assert error_of(await weak.api.client.delete(f"files/{file['id']}"), 503) == (None, None)
    assert (await weak.api.client.get(f"files/{file['id']}/content")).status_code == 200


async def test_a_batch_that_its_schema_does_not_allow_still_keeps_its_input(weak: Weak) -> None:
    batch = await weak.api.create_batch()
    weak.cluster.alter_lists(lambda manifest: manifest | {"spec": {}})
    assert error_of(await weak.api.client.delete(f"files/{batch['input_file_id']}"), 409) == IN_USE
