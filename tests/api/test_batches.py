"""`POST` and `GET /batches`: what is taken, what is refused first, and what is shown (contract 4.1 to 4.4, 14)."""

import asyncio
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from nightshift_crds.cluster.port import BATCH_JOB, Propagation
from nightshift_crds.errors import Unavailable
from nightshift_crds.lifecycle import Phase
from nightshift_crds.lines import CHAT, EMBEDDINGS
from nightshift_crds.models import BatchJob
from nightshift_crds.names import ResultKind
from tests.api.faults import Weak, failing
from tests.api.given import SliceLog, a_batch_in, clear_scratch, move
from tests.api.harness import Api, batch_name, error_of, json_of, open_api
from tests.builders import NAMESPACE, a_batch_manifest

SENT = {"endpoint": CHAT, "completion_window": "24h"}


async def read_batch(api: Api, batch_id: str) -> BatchJob:
    return BatchJob.parse(await api.cluster.get(BATCH_JOB, NAMESPACE, batch_name(batch_id)))


# --- create -----------------------------------------------------------------------------------------------------------


async def test_a_new_batch_is_shown_as_contract_4_1_has_it(api: Api) -> None:
    file = await api.upload()
    batch = await api.create_batch(input_file_id=file["id"])
    never = ["in_progress", "finalizing", "completed", "failed", "expired", "cancelling", "cancelled"]
    assert batch == {
        "id": batch["id"],
        "object": "batch",
        "endpoint": CHAT,
        "model": None,
        "errors": None,
        "input_file_id": file["id"],
        "completion_window": "24h",
        "status": "validating",
        "output_file_id": None,
        "error_file_id": None,
        "created_at": batch["created_at"],
        "expires_at": batch["created_at"] + 86_400,
        **{f"{status}_at": None for status in never},
        "request_counts": {"total": 0, "completed": 0, "failed": 0},
        "usage": None,
        "metadata": None,
        "x_details": batch["x_details"],
    }
    assert await api.get(f"batches/{batch['id']}") == batch
    assert (await api.get("batches"))["data"] == [batch]


async def test_a_batch_is_one_resource_with_what_was_asked(api: Api) -> None:
    expiry = {"anchor": "created_at", "seconds": 3600}
    batch = await api.create_batch(endpoint=EMBEDDINGS, metadata={"team": "blue"}, output_expires_after=expiry)
    spec = (await read_batch(api, batch["id"])).spec
    assert (spec.input.file_id, spec.endpoint, spec.completion_window) == (batch["input_file_id"], EMBEDDINGS, "24h")
    assert (spec.metadata, spec.output_expires_after_seconds) == ({"team": "blue"}, 3600)


async def test_the_window_of_an_installation_is_shown_before_the_operator_has_seen_a_batch(api: Api) -> None:
    async with open_api(api.keys_file.parent, completion_window_s=60) as quick:
        batch = await quick.create_batch()
        assert batch["expires_at"] == batch["created_at"] + 60


@pytest.mark.parametrize(
    "extra", [{"model": "m"}, {"nonsense": {"a": [1]}}, {"metadata": None}, {"output_expires_after": None}]
)
async def test_what_nobody_knows_and_what_is_null_is_as_if_it_were_not_there(api: Api, extra: dict[str, Any]) -> None:
    batch = await api.create_batch(**extra)
    assert batch["metadata"] is None


async def test_the_last_of_two_equal_keys_counts(api: Api) -> None:
    file = await api.upload()
    body = f'{{"input_file_id":1,"input_file_id":"{file["id"]}","endpoint":"{CHAT}","completion_window":"24h"}}'
    for kind in ("application/json", "text/plain", "application/x-www-form-urlencoded"):
        answer = await api.client.post("batches", content=body, headers={"content-type": kind})
        assert json_of(answer, 200)["input_file_id"] == file["id"]


async def test_an_endpoint_is_allowed_by_the_settings(api: Api) -> None:
    async with open_api(api.keys_file.parent, endpoints=("/v1/responses",)) as other:
        assert (await other.create_batch(endpoint="/v1/responses"))["endpoint"] == "/v1/responses"
        file = await other.upload()
        answer = await other.client.post("batches", json=SENT | {"input_file_id": file["id"]})
        assert error_of(answer, 400) == ("invalid_value", "endpoint")


async def test_a_body_has_a_limit(api: Api) -> None:
    async with open_api(api.keys_file.parent, max_body_bytes=100) as strict:
        for size, refusal in ((100, 404), (101, 413)):
            body = f'{{"input_file_id":"x","endpoint":"{CHAT}","completion_window":"24h"}}'.ljust(size)
            assert (await strict.client.post("batches", content=body)).status_code == refusal


FAULTS: list[tuple[dict[str, Any], str]] = [
    ({"completion_window": ...}, "completion_window"),
    ({"metadata": "x"}, "metadata"),
    ({"endpoint": "/v1/x"}, "endpoint"),
    ({"metadata": {"team": 7}}, "metadata.team"),
    ({"output_expires_after": {"anchor": "created_at", "seconds": 1}}, "output_expires_after.seconds"),
    ({"input_file_id": "file_x"}, "input_file_id"),
]
"""One fault for each step of the order of contract 14."""


@pytest.mark.parametrize("first", range(len(FAULTS)))
async def test_the_first_fault_in_the_order_of_contract_14_is_told(api: Api, first: int) -> None:
    body: dict[str, Any] = SENT | {"input_file_id": (await api.upload())["id"]}
    for changes, _ in reversed(FAULTS[first:]):
        body |= changes
    sent = {name: value for name, value in body.items() if value is not ...}
    _, param = error_of(await api.client.post("batches", json=sent), 404 if first == 5 else 400)
    assert param == FAULTS[first][1]


@pytest.mark.parametrize("call", ["get", "create"])
async def test_no_batch_is_made_while_the_cluster_does_not_answer(weak: Weak, call: str) -> None:
    file = await weak.api.upload()
    weak.cluster.before(call, failing(Unavailable("down")))
    answer = await weak.api.client.post("batches", json=SENT | {"input_file_id": file["id"]})
    assert error_of(answer, 503) == (None, None)
    assert await weak.api.ids("batches") == []


# --- metadata ---------------------------------------------------------------------------------------------------------

texts = st.text(max_size=64) | st.sampled_from(
    ["", "\0", "\n" * 64, "😀" * 64, "e\u0301" * 32, "[key]", "cast.ai/batch-name"]
)


@pytest.mark.asyncio(loop_scope="module")
@settings(max_examples=40, deadline=None)
@given(st.dictionaries(texts, texts | st.just("😀" * 512), max_size=16))
async def test_metadata_comes_back_as_it_was_sent(lasting_api: Api, metadata: dict[str, str]) -> None:
    batch = await lasting_api.create_batch(metadata=metadata)
    assert batch["metadata"] == metadata
    assert (await lasting_api.get(f"batches/{batch['id']}"))["metadata"] == metadata


@pytest.mark.parametrize(
    "metadata",
    [
        {f"k{n}": "v" for n in range(16)},
        {"😀" * 64: "😀" * 512},
        {"\n" * 64: "\n" * 512},
        {"": ""},
        {},
    ],
)  # fmt: skip
async def test_metadata_may_be_as_large_as_openai_lets_it(api: Api, metadata: dict[str, str]) -> None:
    assert (await api.create_batch(metadata=metadata))["metadata"] == metadata


@pytest.mark.parametrize("metadata", [{"😀" * 65: ""}, {"\n" * 65: ""}, {"k": "😀" * 513}])
async def test_characters_of_metadata_are_code_points(api: Api, metadata: dict[str, str]) -> None:
    file = await api.upload()
    answer = await api.client.post("batches", json=SENT | {"input_file_id": file["id"], "metadata": metadata})
    assert error_of(answer, 400)[0] == "string_above_max_length"


# --- get --------------------------------------------------------------------------------------------------------------


async def test_a_batch_that_a_person_made_is_listed_and_found_under_its_uid(api: Api) -> None:
    file = await api.upload()
    made = [
        BatchJob.parse(await api.cluster.create(BATCH_JOB, a_batch_manifest(name=name, input={"fileId": file["id"]})))
        for name in ("nightly", "batch-nightly", "batch-UPPER".lower())
    ]
    ids = [f"batch_{batch.metadata.uid}" for batch in made]
    assert sorted(await api.ids("batches")) == sorted(ids)
    for batch_id in ids:
        assert (await api.get(f"batches/{batch_id}"))["id"] == batch_id
        assert json_of(await api.client.post(f"batches/{batch_id}/cancel"), 200)["status"] == "cancelling"
        assert (await api.client.get(f"batches/{batch_id.upper()}")).status_code == 404


async def test_a_batch_over_an_object_of_the_bucket_shows_where_that_is(api: Api) -> None:
    uri = "gs://bucket/input.jsonl"
    manifest = a_batch_manifest(name="by-uri", input={"uri": uri})
    batch = BatchJob.parse(await api.cluster.create(BATCH_JOB, manifest))
    assert (await api.get(f"batches/{batch.id}"))["input_file_id"] == uri


async def test_a_batch_that_its_schema_does_not_allow_breaks_no_list(weak: Weak) -> None:
    good, bad = await weak.api.create_batch(), await weak.api.create_batch()
    name = batch_name(bad["id"])
    weak.cluster.alter_lists(lambda m: m | {"status": {"phase": "DREAMING"}} if m["metadata"]["name"] == name else m)
    await weak.api.cluster.patch(BATCH_JOB, NAMESPACE, name, {"metadata": {"labels": {"touched": "yes"}}})
    assert await weak.api.ids("batches") == [good["id"]]


async def test_a_running_batch_shows_what_is_durable_before_its_status_knows(api: Api) -> None:
    batch = await a_batch_in(api, Phase.IN_PROGRESS, counts={"total": 9})
    log = SliceLog(api.bucket, batch.metadata.uid)
    await log.append([b"{}\n"] * 3, [b"{}\n"], tokens=7)
    shown = await api.get(f"batches/{batch.id}")
    assert shown["request_counts"] == {"total": 9, "completed": 3, "failed": 1}
    assert shown["usage"]["input_tokens"] == 7
    assert shown["output_file_id"] == batch.result_file_id(ResultKind.OUTPUT)
    assert shown["error_file_id"] == batch.result_file_id(ResultKind.ERROR)


async def test_those_who_poll_a_batch_at_once_share_its_reads(weak: Weak) -> None:
    batch = await a_batch_in(weak.api, Phase.IN_PROGRESS, counts={"total": 9})
    log = SliceLog(weak.api.bucket, batch.metadata.uid)
    await log.append([b"{}\n"] * 3)
    reads: list[None] = []

    async def count() -> None:
        reads.append(None)

    weak.bucket.before("list", *[count] * 20)
    answers = await asyncio.gather(*(weak.api.get(f"batches/{batch.id}") for _ in range(20)))
    assert [answer["request_counts"]["completed"] for answer in answers] == [3] * 20
    assert len(reads) < 10


async def test_slices_and_their_later_writers_are_counted_once(api: Api) -> None:
    batch = await a_batch_in(api, Phase.IN_PROGRESS, counts={"total": 9}, slices=2)
    first, second = (SliceLog(api.bucket, batch.metadata.uid, slice_no) for slice_no in range(2))
    await first.append([b"{}\n"])
    await second.append([b"{}\n"] * 2)
    second.claim = 3
    await second.append([b"{}\n"])
    assert (await api.get(f"batches/{batch.id}"))["request_counts"]["completed"] == 4


@pytest.mark.parametrize("call", ["list", "read"])
@pytest.mark.parametrize("slices", [1, 2])
async def test_a_batch_that_ends_while_it_is_read_is_shown_as_it_ended(weak: Weak, slices: int, call: str) -> None:
    api = weak.api
    batch = await a_batch_in(api, Phase.FINALIZING, counts={"total": slices}, slices=slices)
    for slice_no in range(slices):
        await SliceLog(api.bucket, batch.metadata.uid, slice_no).append([b"{}\n"])
    output_id = batch.result_file_id(ResultKind.OUTPUT)

    async def end() -> None:
        counts = {"total": slices, "completed": slices}
        await move(api, batch.id, Phase.COMPLETED, counts=counts, outputFileId=output_id)
        await clear_scratch(api.bucket, batch.metadata.uid)

    weak.bucket.before(call, end)
    shown = await api.get(f"batches/{batch.id}")
    assert (shown["status"], shown["request_counts"]["completed"]) == ("completed", slices)
    assert shown["output_file_id"] == output_id


async def test_a_batch_that_is_deleted_while_it_is_read_is_gone(weak: Weak) -> None:
    batch = await a_batch_in(weak.api, Phase.IN_PROGRESS)

    async def delete() -> None:
        await weak.api.cluster.delete(BATCH_JOB, NAMESPACE, batch.metadata.name, propagation=Propagation.BACKGROUND)

    weak.bucket.before("list", delete)
    assert error_of(await weak.api.client.get(f"batches/{batch.id}"), 404) == (None, None)


async def test_a_running_batch_needs_the_bucket_to_be_shown_and_an_ended_one_does_not(weak: Weak) -> None:
    batch = await a_batch_in(weak.api, Phase.IN_PROGRESS)
    weak.bucket.before("list", failing(Unavailable("down")))
    assert error_of(await weak.api.client.get(f"batches/{batch.id}"), 503) == (None, None)
    await move(weak.api, batch.id, Phase.CANCELLING, Phase.CANCELLED)
    weak.bucket.before("list", failing(Unavailable("down")))
    assert (await weak.api.get(f"batches/{batch.id}"))["status"] == "cancelled"
