"""`POST /batches/{id}/rerun`: what is copied, what is refused, and how a batch shows that has taken rows over."""

from pathlib import Path
from typing import Any

import pytest

from nightshift_crds import names
from nightshift_crds.cluster.port import BATCH_JOB, STORED_FILE, Propagation
from nightshift_crds.lifecycle import TERMINAL, Phase
from nightshift_crds.models import BatchJob
from nightshift_crds.names import ResultKind
from tests.api.faults import Weak
from tests.api.given import SliceLog, a_batch_in, add_result_file, clear_scratch, move, seal_file
from tests.api.harness import Api, batch_name, error_of, file_name, json_of, open_api
from tests.builders import NAMESPACE, a_batch_manifest

COUNTS = {"total": 300, "completed": 270, "failed": 30}
IN_USE = ("file_in_use", "id")
OLD, NEW, BAD = (b'{"n": "%b"}\n' % word for word in (b"old", b"new", b"bad"))


async def an_ended_batch(api: Api, phase: Phase = Phase.COMPLETED, **status: Any) -> BatchJob:
    """Make a batch that has ended with an output file."""
    running = await a_batch_in(api, Phase.IN_PROGRESS)
    file_id = await add_result_file(api, running, ResultKind.OUTPUT)
    await seal_file(api, file_id, OLD * 2)
    ways = {
        Phase.COMPLETED: (Phase.FINALIZING, Phase.COMPLETED),
        Phase.CANCELLED: (Phase.CANCELLING, Phase.CANCELLED),
    }
    return await move(api, running.id, *ways.get(phase, (phase,)), counts=COUNTS, outputFileId=file_id, **status)


async def rerun(api: Api, origin: BatchJob, **how: Any) -> dict[str, Any]:
    return json_of(await api.client.post(f"batches/{origin.id}/rerun", **how), 200)


async def resource(api: Api, batch_id: str) -> BatchJob:
    return BatchJob.parse(await api.cluster.get(BATCH_JOB, NAMESPACE, batch_name(batch_id)))


async def delete_file(api: Api, file_id: str | None) -> None:
    name = file_name(file_id or "")
    await api.cluster.delete(STORED_FILE, NAMESPACE, name, propagation=Propagation.BACKGROUND)


# --- what is made -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("phase", sorted(TERMINAL))
async def test_a_batch_that_has_ended_is_run_again_as_it_was(api: Api, phase: Phase) -> None:
    origin = await an_ended_batch(api, phase)
    shown = await rerun(api, origin)
    assert (shown["status"], shown["input_file_id"]) == ("validating", origin.spec.input.file_id)
    assert shown["request_counts"] == {"total": 0, "completed": 0, "failed": 0}
    assert await api.get(f"batches/{shown['id']}") == shown
    spec = (await resource(api, shown["id"])).spec
    assert spec == origin.spec.model_copy(update={"input": spec.input})
    assert spec.input.rerun_of == origin.metadata.name


async def test_what_was_asked_of_the_first_batch_holds_unless_something_else_is(api: Api) -> None:
    asked = {"metadata": {"team": "blue"}, "output_expires_after": {"anchor": "created_at", "seconds": 7_200}}
    batch_id = (await api.create_batch(**asked))["id"]
    origin = await move(api, batch_id, Phase.FAILED)
    await api.cluster.patch(BATCH_JOB, NAMESPACE, origin.metadata.name, {"spec": {"suspend": True}})
    found = [
        (spec.metadata, spec.output_expires_after_seconds, spec.suspend)
        for body in (None, {}, {"metadata": {}, "output_expires_after": {"anchor": "created_at", "seconds": 3_600}})
        for spec in [(await resource(api, (await rerun(api, origin, **({"json": body} if body else {})))["id"])).spec]
    ]
    assert found == [({"team": "blue"}, 7_200, False), ({"team": "blue"}, 7_200, False), ({}, 3_600, False)]


async def test_a_cancel_is_not_copied(api: Api) -> None:
    origin = await a_batch_in(api, Phase.IN_PROGRESS)
    json_of(await api.client.post(f"batches/{origin.id}/cancel"), 200)
    await move(api, origin.id, Phase.CANCELLING, Phase.CANCELLED)
    assert (await rerun(api, origin))["status"] == "validating"


async def test_a_batch_that_a_person_has_named_is_run_again_by_its_name(api: Api) -> None:
    file = await api.upload()
    manifest = a_batch_manifest(name="nightly", input={"fileId": file["id"]})
    created = BatchJob.parse(await api.cluster.create(BATCH_JOB, manifest))
    patch = {"status": {"phase": "FAILED", "failedAt": "2026-11-24T00:00:00Z"}}
    await api.cluster.patch_status(BATCH_JOB, NAMESPACE, "nightly", patch)
    await api.get("batches")
    shown = await rerun(api, created)
    assert (await resource(api, shown["id"])).spec.input.rerun_of == "nightly"


async def test_a_key_makes_one_rerun_whatever_becomes_of_the_batch_meanwhile(api: Api) -> None:
    origin = await an_ended_batch(api)
    path, headers = f"batches/{origin.id}/rerun", {"Idempotency-Key": "once"}
    first = json_of(await api.client.post(path, headers=headers), 200)
    await delete_file(api, origin.status.output_file_id)
    assert json_of(await api.client.post(path, headers=headers), 200)["id"] == first["id"]
    other = await api.client.post(path, headers=headers, json={"metadata": {"a": "b"}})
    assert error_of(other, 409) == ("idempotency_key_reuse", "Idempotency-Key")


async def test_a_key_that_has_made_a_batch_makes_no_rerun(api: Api) -> None:
    first, second = [await an_ended_batch(api) for _ in range(2)]
    headers = {"Idempotency-Key": "once"}
    await rerun(api, first, headers=headers)
    answer = await api.client.post(f"batches/{second.id}/rerun", headers=headers)
    assert error_of(answer, 409) == ("idempotency_key_reuse", "Idempotency-Key")


async def test_a_rerun_counts_as_a_batch_that_is_created(tmp_path: Path) -> None:
    async with open_api(tmp_path, max_creates_per_hour=2) as api:
        origin = await an_ended_batch(api)
        await rerun(api, origin)
        answer = await api.client.post(f"batches/{origin.id}/rerun")
        assert error_of(answer, 429) == ("rate_limit_exceeded", None)


# --- what is refused --------------------------------------------------------------------------------------------------


async def refusal(api: Api, batch_id: str, status: int, **how: Any) -> tuple[str | None, str | None]:
    return error_of(await api.client.post(f"batches/{batch_id}/rerun", **how), status)


@pytest.mark.parametrize("phase", sorted(set(Phase) - TERMINAL))
async def test_a_batch_that_has_not_ended_cannot_be_run_again(api: Api, phase: Phase) -> None:
    assert await refusal(api, (await a_batch_in(api, phase)).id, 409) == (None, None)


async def test_a_batch_without_a_row_to_run_cannot_be_run_again(api: Api) -> None:
    origin = await an_ended_batch(api)
    whole = {"counts": {"total": 270, "completed": 270, "failed": 0}}
    await api.cluster.patch_status(BATCH_JOB, NAMESPACE, origin.metadata.name, {"status": whole})
    assert await refusal(api, origin.id, 409) == ("nothing_to_rerun", None)


async def test_a_rerun_that_took_nothing_over_cannot_be_run_again(api: Api) -> None:
    refused = (await rerun(api, await an_ended_batch(api)))["id"]
    await move(api, refused, Phase.FAILED)
    assert await refusal(api, refused, 409) == ("rerun_never_began", None)


@pytest.mark.parametrize("param", ["input_file_id", "output_file_id"])
@pytest.mark.parametrize("way", ["deleted", "expired"])
async def test_a_batch_of_which_a_file_is_gone_cannot_be_run_again(api: Api, param: str, way: str) -> None:
    origin = await an_ended_batch(api)
    file_id = origin.spec.input.file_id if param == "input_file_id" else origin.status.output_file_id
    if way == "deleted":
        await delete_file(api, file_id)
    else:
        status = {"status": {"expiresAt": "2020-01-01T00:00:00Z"}}
        await api.cluster.patch_status(STORED_FILE, NAMESPACE, file_name(file_id or ""), status)
    assert await refusal(api, origin.id, 409) == ("file_missing", param)


async def test_a_batch_that_is_not_there_or_another_team_s_cannot_be_run_again(api: Api) -> None:
    origin = await an_ended_batch(api)
    for batch_id in ("batch_0192f0c2-0000-7000-8000-000000000000", "nonsense"):
        assert await refusal(api, batch_id, 404) == (None, None)
    assert error_of(await api.stranger.post(f"batches/{origin.id}/rerun"), 404) == (None, None)


@pytest.mark.parametrize(
    ("how", "error"),
    [
        ({"content": b"{"}, (None, None)),
        ({"content": b"[]"}, (None, None)),
        ({"json": {"metadata": {"a": 1}}}, ("invalid_type", "metadata.a")),
        ({"json": {"metadata": {str(n): "x" for n in range(17)}}}, ("object_above_max_properties", "metadata")),
        (
            {"json": {"output_expires_after": {"anchor": "created_at", "seconds": 1}}},
            ("integer_below_min_value", "output_expires_after.seconds"),
        ),
    ],
)
async def test_a_body_that_is_there_is_held_against_the_limits_of_a_create(
    api: Api, how: dict[str, Any], error: tuple[str | None, str | None]
) -> None:
    assert await refusal(api, (await an_ended_batch(api)).id, 400, **how) == error


# --- what is shown ----------------------------------------------------------------------------------------------------


async def a_running_rerun(api: Api, reused: int = 2) -> BatchJob:
    origin = await an_ended_batch(api)
    batch_id = (await rerun(api, origin))["id"]
    counts = {"total": 5, "completed": reused, "failed": 0}
    seen = {"rerunOf": origin.id, "inputFileId": origin.spec.input.file_id, "reused": reused, "counts": counts}
    batch = await move(api, batch_id, Phase.IN_PROGRESS, **seen)
    if reused:
        await api.bucket.put(names.reused_key(batch.metadata.uid), OLD * reused, create_only=True)
    return batch


async def add_output(api: Api, batch: BatchJob) -> str:
    """Make the output file as the operator does for a rerun."""
    file_id = batch.result_file_id(ResultKind.OUTPUT)
    source = {"batchName": batch.metadata.name, "batchUid": batch.metadata.uid, "kind": "output", "reused": 2}
    manifest = {
        "apiVersion": STORED_FILE.api_version,
        "kind": STORED_FILE.kind,
        "metadata": {"name": file_name(file_id), "namespace": NAMESPACE},
        "spec": {"filename": "out.jsonl", "purpose": "batch_output", "source": source},
    }
    await api.cluster.create(STORED_FILE, manifest)
    await api.cluster.patch_status(STORED_FILE, NAMESPACE, file_name(file_id), {"status": {"phase": "Writing"}})
    return file_id


async def test_what_was_taken_over_counts_and_what_runs_is_added(api: Api) -> None:
    batch = await a_running_rerun(api)
    shown = await api.get(f"batches/{batch.id}")
    assert shown["request_counts"] == {"total": 5, "completed": 2, "failed": 0}
    assert (shown["output_file_id"], shown["usage"]) == (batch.result_file_id(ResultKind.OUTPUT), None)
    await SliceLog(api.bucket, batch.metadata.uid).append([NEW], [BAD], tokens=7)
    shown = await api.get(f"batches/{batch.id}")
    assert shown["request_counts"] == {"total": 5, "completed": 3, "failed": 1}
    assert shown["usage"]["total_tokens"] == 7
    assert [item["input_file_id"] for item in (await api.get("batches"))["data"]] == [shown["input_file_id"]] * 2


async def test_a_rerun_that_took_no_row_over_has_no_output_before_the_first(api: Api) -> None:
    batch = await a_running_rerun(api, reused=0)
    assert (await api.get(f"batches/{batch.id}"))["output_file_id"] is None


async def test_the_growing_file_begins_with_what_was_taken_over(api: Api) -> None:
    batch = await a_running_rerun(api)
    file_id = await add_output(api, batch)
    log = SliceLog(api.bucket, batch.metadata.uid)
    for content in (OLD * 2, OLD * 2 + NEW):
        answer = await api.client.get(f"files/{file_id}/content")
        assert (answer.content, answer.headers["Nightshift-More"]) == (content, "true")
        assert (await api.get(f"files/{file_id}"))["bytes"] == len(content)
        await log.append([NEW])


async def test_a_growing_file_that_is_sealed_and_cleared_meanwhile_is_never_shown_in_part(weak: Weak) -> None:
    batch = await a_running_rerun(weak.api)
    file_id = await add_output(weak.api, batch)
    await SliceLog(weak.api.bucket, batch.metadata.uid).append([NEW])

    async def end() -> None:
        await seal_file(weak.api, file_id, OLD * 2 + NEW)
        await clear_scratch(weak.api.bucket, batch.metadata.uid)

    weak.bucket.before("head", end)
    assert (await weak.api.client.get(f"files/{file_id}/content")).content == OLD * 2 + NEW


# --- files that are needed --------------------------------------------------------------------------------------------


async def test_both_files_are_held_until_the_rows_are_taken_over(api: Api) -> None:
    origin = await an_ended_batch(api)
    again = (await rerun(api, origin))["id"]
    file_ids = (origin.spec.input.file_id, origin.status.output_file_id)
    for file_id in file_ids:
        assert error_of(await api.client.delete(f"files/{file_id}"), 409) == IN_USE
    await move(api, again, Phase.IN_PROGRESS)
    for file_id in file_ids:
        assert (await api.client.delete(f"files/{file_id}")).status_code == 200


async def test_a_file_of_another_batch_is_not_held(api: Api) -> None:
    one, other = [await an_ended_batch(api) for _ in range(2)]
    await rerun(api, one)
    assert (await api.client.delete(f"files/{other.status.output_file_id}")).status_code == 200


async def test_a_rerun_whose_origin_is_gone_before_it_was_seen_still_has_an_answer(api: Api) -> None:
    origin = await an_ended_batch(api)
    again = (await rerun(api, origin))["id"]
    await api.cluster.delete(BATCH_JOB, NAMESPACE, origin.metadata.name, propagation=Propagation.BACKGROUND)
    assert (await api.get(f"batches/{again}"))["input_file_id"] == ""
