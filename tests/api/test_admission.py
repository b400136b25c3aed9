"""What one namespace may ask for (contract 13, E30): with its share used up it is told when to come back."""

import asyncio
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import httpx2
import pytest
from openai import AsyncOpenAI, RateLimitError

from nightshift_crds.errors import Unavailable
from nightshift_crds.lines import CHAT
from nightshift_crds.names import IdKind
from tests.api.faults import InterruptedBucket, InterruptedCluster, failing
from tests.api.given import an_id
from tests.api.harness import BASE, KEY, Api, error_of, json_of, make_settings, open_api
from tests.api.parts import CONTENT, add, begin, complete
from tests.builders import T0, a_line, jsonl

TOO_MANY = ("rate_limit_exceeded", None)


def assert_too_many(answer: httpx2.Response, retry_after: str) -> None:
    assert error_of(answer, 429) == TOO_MANY
    assert answer.headers["retry-after"] == retry_after


async def ask_for_batch(api: Api, file_id: str, key: str | None = None) -> httpx2.Response:
    body = {"input_file_id": file_id, "endpoint": CHAT, "completion_window": "24h"}
    return await api.client.post("batches", json=body, headers={"Idempotency-Key": key} if key else {})


# --- batches ----------------------------------------------------------------------------------------------------------


async def test_so_many_batches_an_hour_are_created_and_more_as_time_goes_on(tmp_path: Path) -> None:
    async with open_api(tmp_path, max_creates_per_hour=3) as api:
        file_id = (await api.upload())["id"]
        for _ in range(3):
            json_of(await ask_for_batch(api, file_id), 200)
        assert_too_many(await ask_for_batch(api, file_id), "60")
        api.clock.advance(minutes=19, seconds=30)
        assert_too_many(await ask_for_batch(api, file_id), "30")
        api.clock.advance(seconds=29.5)
        assert_too_many(await ask_for_batch(api, file_id), "1")
        api.clock.advance(seconds=1)
        json_of(await ask_for_batch(api, file_id), 200)
        assert_too_many(await ask_for_batch(api, file_id), "60")
        assert len(await api.ids("batches")) == 4


async def test_each_namespace_has_a_share_of_its_own(tmp_path: Path) -> None:
    async with open_api(tmp_path, max_creates_per_hour=1, max_uploads_per_hour=1) as api:
        await api.create_batch()
        uploaded = await api.stranger.post("files", data={"purpose": "batch"}, files={"file": jsonl(a_line())})
        body = {"input_file_id": json_of(uploaded, 200)["id"], "endpoint": CHAT, "completion_window": "24h"}
        json_of(await api.stranger.post("batches", json=body), 200)
        assert_too_many(await api.stranger.post("batches", json=body), "60")


async def test_0_is_no_limit_and_the_default_is_openais(tmp_path: Path) -> None:
    assert make_settings(tmp_path).max_creates_per_hour == 2_000
    async with open_api(tmp_path, max_creates_per_hour=0, max_uploads_per_hour=0) as api:
        for _ in range(3):
            await api.create_batch()


async def test_a_request_that_is_sent_again_and_creates_nothing_counts_for_nothing(tmp_path: Path) -> None:
    async with open_api(tmp_path, max_creates_per_hour=2) as api:
        file_id = (await api.upload())["id"]
        first = json_of(await ask_for_batch(api, file_id, "a key"), 200)
        for _ in range(3):
            assert json_of(await ask_for_batch(api, file_id, "a key"), 200)["id"] == first["id"]
        second = json_of(await ask_for_batch(api, file_id, "another"), 200)
        assert_too_many(await ask_for_batch(api, file_id, "a third"), "60")
        assert json_of(await ask_for_batch(api, file_id, "another"), 200)["id"] == second["id"]
        api.clock.advance(hours=1)
        json_of(await ask_for_batch(api, file_id, "a third"), 200)
        assert len(await api.ids("batches")) == 3


async def test_requests_with_one_key_at_once_count_as_the_one_batch_that_they_create(tmp_path: Path) -> None:
    async with open_api(tmp_path, max_creates_per_hour=6) as api:
        file_id = (await api.upload())["id"]
        answers = await asyncio.gather(*(ask_for_batch(api, file_id, "a key") for _ in range(6)))
        assert {json_of(answer, 200)["id"] for answer in answers} == set(await api.ids("batches"))
        for _ in range(5):
            json_of(await ask_for_batch(api, file_id), 200)
        assert_too_many(await ask_for_batch(api, file_id), "60")


async def test_a_create_that_is_refused_or_fails_counts_for_nothing(tmp_path: Path) -> None:
    cluster = InterruptedCluster()
    async with open_api(tmp_path, max_creates_per_hour=1, around_cluster=cluster.around) as api:
        file_id = (await api.upload())["id"]
        assert error_of(await ask_for_batch(api, an_id(IdKind.FILE, T0)), 404) == (None, "input_file_id")
        cluster.before("create", failing(Unavailable("down")))
        error_of(await ask_for_batch(api, file_id), 503)
        json_of(await ask_for_batch(api, file_id), 200)
        assert_too_many(await ask_for_batch(api, file_id), "60")


async def test_what_is_wrong_with_a_request_is_told_before_that_it_is_one_too_many(tmp_path: Path) -> None:
    async with open_api(tmp_path, max_creates_per_hour=1) as api:
        await api.create_batch()
        assert error_of(await api.client.post("batches", json={}), 400)[0] == "missing_required_parameter"


# --- uploads and reads ------------------------------------------------------------------------------------------------


async def test_all_that_stores_something_counts_as_an_upload(tmp_path: Path) -> None:
    async with open_api(tmp_path, max_uploads_per_hour=4) as api:
        await api.upload()
        upload = await begin(api)
        json_of(await complete(api, upload["id"], await add(api, upload["id"], CONTENT)), 200)
        for path in ("files", "uploads", f"uploads/{upload['id']}/parts", f"uploads/{upload['id']}/complete"):
            assert_too_many(await api.client.post(path), "60")
        assert error_of(await api.client.post(f"uploads/{upload['id']}/cancel"), 400)[0] == "upload_not_pending"
        assert len(await api.ids("files")) == 2


async def test_reads_are_not_limited_unless_a_setting_says_so(tmp_path: Path) -> None:
    async with open_api(tmp_path) as api:
        for _ in range(300):
            await api.get("models")


async def test_reads_may_be_limited(tmp_path: Path) -> None:
    async with open_api(tmp_path, max_reads_per_s=2) as api:
        await api.get("models")
        assert (await api.client.head("files")).status_code == 200
        assert_too_many(await api.client.get("batches"), "1")
        await api.create_batch()
        api.clock.advance(seconds=0.5)
        await api.get("models")


async def test_whoever_was_not_let_in_takes_nothing_from_anybody(tmp_path: Path) -> None:
    async with open_api(tmp_path, max_reads_per_s=1, max_concurrent_requests=1) as api:
        for key in ("", "Bearer wrong"):
            assert (await api.client.get("models", headers={"Authorization": key})).status_code == 401
        await api.get("models")


# --- at once ----------------------------------------------------------------------------------------------------------


async def while_one_is_held(
    api: Api, bucket: InterruptedBucket, held: Callable[[], Awaitable[Any]], do: Callable[[], Awaitable[None]]
) -> None:
    """Do something while a request waits for the bucket in the middle."""
    reached, released = asyncio.Event(), asyncio.Event()

    async def hold() -> None:
        reached.set()
        await released.wait()

    bucket.before("chunk", hold)
    holding = asyncio.ensure_future(held())
    await reached.wait()
    await do()
    released.set()
    await holding


async def test_so_many_requests_of_a_namespace_are_served_at_once(tmp_path: Path) -> None:
    bucket = InterruptedBucket()
    async with open_api(tmp_path, max_concurrent_requests=1, around_bucket=bucket.around) as api:

        async def refuse() -> None:
            assert_too_many(await api.client.get("models"), "1")
            assert_too_many(await api.client.get("nothing"), "1")
            assert (await api.stranger.get("models")).status_code == 200

        await while_one_is_held(api, bucket, api.upload, refuse)
        await api.get("models")


async def test_so_many_uploads_of_a_namespace_are_taken_at_once_and_the_others_count_for_nothing(
    tmp_path: Path,
) -> None:
    bucket = InterruptedBucket()
    async with open_api(tmp_path, max_concurrent_uploads=1, max_uploads_per_hour=2, around_bucket=bucket.around) as api:

        async def refuse() -> None:
            assert_too_many(await api.client.post("files"), "1")
            assert_too_many(await api.client.post("uploads"), "1")
            assert (await api.stranger.post("files")).status_code == 415
            await api.get("models")

        await while_one_is_held(api, bucket, api.upload, refuse)
        await api.upload()


# --- with the SDK -----------------------------------------------------------------------------------------------------


async def test_the_sdk_waits_as_long_as_it_is_told_and_then_succeeds(tmp_path: Path) -> None:
    async with open_api(tmp_path, max_creates_per_hour=1) as api:
        file_id = (await api.upload())["id"]
        statuses = list[int]()

        async def let_time_pass(answer: httpx2.Response) -> None:
            statuses.append(answer.status_code)
            api.clock.advance(seconds=int(answer.headers.get("retry-after", 0)))

        http = httpx2.AsyncClient(transport=httpx2.ASGITransport(api.app), event_hooks={"response": [let_time_pass]})
        async with AsyncOpenAI(api_key=KEY, base_url=f"{BASE}/v1", http_client=http) as sdk:

            async def create(tries: AsyncOpenAI) -> str:
                return (
                    await tries.batches.create(
                        input_file_id=file_id, endpoint="/v1/chat/completions", completion_window="24h"
                    )
                ).id

            first = await create(sdk)
            with pytest.raises(RateLimitError) as refusal:
                await create(sdk.with_options(max_retries=0))
            assert (refusal.value.code, refusal.value.type) == ("rate_limit_exceeded", "rate_limit_error")
            api.clock.advance(seconds=3_600 - 60 - 1)
            second = await create(sdk)
        assert statuses == [200, 429, 429, 200]
        assert await api.ids("batches") == [second, first]
