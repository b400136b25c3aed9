"""`Idempotency-Key`: whatever happens between, a key makes one batch (contract 1.5, design 5)."""

import asyncio
from pathlib import Path
from typing import Any

import httpx2
import pytest

from nightshift_api.wire import MAX_IDEMPOTENCY_KEY_CHARS
from nightshift_crds import names
from nightshift_crds.cluster.port import BATCH_JOB, Propagation
from nightshift_crds.errors import Unavailable
from nightshift_crds.lifecycle import Phase
from nightshift_crds.lines import CHAT
from tests.api.faults import Weak, failing
from tests.api.given import an_id, move
from tests.api.harness import batch_name, error_of, json_of, open_api
from tests.builders import NAMESPACE, T0

DOWN = failing(Unavailable("down"))
KEY = "nightly 2026-08-21 / ünïcode?".encode("latin-1")
AT = names.idempotency_key(NAMESPACE, KEY.decode("latin-1"))


@pytest.fixture
async def body(weak: Weak) -> dict[str, Any]:
    """What is asked for, over a file that is there."""
    file = await weak.api.upload()
    return {"input_file_id": file["id"], "endpoint": CHAT, "completion_window": "24h", "metadata": {"b": "2", "a": "1"}}


async def ask(
    client: httpx2.AsyncClient, body: dict[str, Any], key: bytes | str = KEY, path: str = "batches"
) -> httpx2.Response:
    return await client.post(
        path, json=body, headers=[(b"Idempotency-Key", key if isinstance(key, bytes) else key.encode())]
    )


async def test_a_request_that_is_sent_again_is_answered_with_the_batch_as_it_is_now(
    weak: Weak, body: dict[str, Any]
) -> None:
    first = json_of(await ask(weak.api.client, body), 200)
    assert json_of(await ask(weak.api.client, body), 200) == first
    await move(weak.api, first["id"], Phase.IN_PROGRESS)
    again = json_of(await ask(weak.api.client, body), 200)
    assert (again["id"], again["status"]) == (first["id"], "in_progress")
    assert await weak.api.ids("batches") == [first["id"]]


async def test_it_is_answered_even_when_a_new_batch_over_its_file_would_be_refused(
    weak: Weak, body: dict[str, Any]
) -> None:
    first = json_of(await ask(weak.api.client, body), 200)
    await move(weak.api, first["id"], Phase.FAILED)
    json_of(await weak.api.client.delete(f"files/{body['input_file_id']}"), 200)
    assert json_of(await ask(weak.api.client, body), 200)["status"] == "failed"


async def test_the_same_request_may_be_spelt_otherwise(weak: Weak, body: dict[str, Any]) -> None:
    first = json_of(await ask(weak.api.client, body), 200)
    other = dict(reversed(body.items())) | {"metadata": {"a": "1", "b": "2"}, "output_expires_after": None, "more": 1}
    assert json_of(await ask(weak.api.client, other), 200)["id"] == first["id"]
    assert json_of(await ask(weak.api.client, other, path="http://api/v1/batches"), 200)["id"] == first["id"]


@pytest.mark.parametrize(
    "change",
    [
        {"metadata": None},
        {"metadata": {"a": "1"}},
        {"endpoint": "/v1/embeddings"},
        {"output_expires_after": {"anchor": "created_at", "seconds": 3600}},
        {"input_file_id": an_id(names.IdKind.FILE, T0)},
    ],
)
async def test_a_key_is_for_one_request_and_refuses_any_other(
    weak: Weak, body: dict[str, Any], change: dict[str, Any]
) -> None:
    json_of(await ask(weak.api.client, body), 200)
    refusal = await ask(weak.api.client, body | change)
    assert error_of(refusal, 409) == ("idempotency_key_reuse", "Idempotency-Key")
    assert len(await weak.api.ids("batches")) == 1


async def test_other_keys_none_and_those_of_other_tenants_are_apart(weak: Weak, body: dict[str, Any]) -> None:
    api = weak.api
    made = {json_of(await ask(api.client, body, key), 200)["id"] for key in (b"one", b"two", b"ONE", b"one ../two")}
    made |= {json_of(await api.client.post("batches", json=body), 200)["id"] for _ in range(2)}
    assert len(made) == 6
    answer = await api.stranger.post("files", data={"purpose": "batch"}, files={"file": ("in.jsonl", b"{}\n")})
    theirs = json_of(await ask(api.stranger, body | {"input_file_id": json_of(answer, 200)["id"]}, b"one"), 200)
    assert theirs["id"] not in made


async def test_a_request_that_was_refused_leaves_its_key_free(weak: Weak, body: dict[str, Any]) -> None:
    wrong = body | {"input_file_id": an_id(names.IdKind.FILE, T0)}
    assert error_of(await ask(weak.api.client, wrong), 404) == (None, "input_file_id")
    json_of(await ask(weak.api.client, body), 200)


@pytest.mark.parametrize(
    ("key", "code"),
    [
        ("", "invalid_value"),
        ("k" * (MAX_IDEMPOTENCY_KEY_CHARS + 1), "string_above_max_length"),
    ],
)
async def test_a_key_has_a_length(weak: Weak, body: dict[str, Any], key: str, code: str) -> None:
    assert error_of(await ask(weak.api.client, body, key), 400) == (code, "Idempotency-Key")
    json_of(await ask(weak.api.client, body, "k" * MAX_IDEMPOTENCY_KEY_CHARS), 200)


# --- races and crashes ------------------------------------------------------------------------------------------------


async def test_two_replicas_that_are_asked_at_once_make_one_batch(tmp_path: Path) -> None:
    async with open_api(tmp_path) as one, open_api(tmp_path) as other:
        for n in range(5):
            file = await one.upload()
            body = {"input_file_id": file["id"], "endpoint": CHAT, "completion_window": "24h"}
            clients = [one.client, other.client] * 4
            answers = await asyncio.gather(*(ask(client, body, f"key-{n}") for client in clients))
            assert len({json_of(answer, 200)["id"] for answer in answers}) == 1
            assert len(await other.ids("batches")) == n + 1


async def test_of_two_different_requests_at_once_one_is_refused(weak: Weak, body: dict[str, Any]) -> None:
    async def be_quicker() -> None:
        json_of(await ask(weak.api.client, body | {"metadata": None}), 200)

    weak.bucket.before("put", be_quicker)
    assert error_of(await ask(weak.api.client, body), 409)[0] == "idempotency_key_reuse"
    assert len(await weak.api.ids("batches")) == 1


@pytest.mark.parametrize(("port", "moment"), [("bucket", "put"), ("bucket", "answer"), ("cluster", "create")])
async def test_after_a_failure_at_any_step_the_next_try_makes_the_one_batch(
    weak: Weak, body: dict[str, Any], port: str, moment: str
) -> None:
    getattr(weak, port).before(moment, DOWN)
    assert error_of(await ask(weak.api.client, body), 503) == (None, None)
    assert await weak.api.ids("batches") == []
    claimed = AT in await weak.api.stored_keys()
    assert claimed is (moment != "put")
    made = json_of(await ask(weak.api.client, body), 200)
    assert await weak.api.ids("batches") == [made["id"]]
    assert json_of(await ask(weak.api.client, body), 200)["id"] == made["id"]


async def test_a_batch_that_another_makes_between_look_and_create_is_the_one(weak: Weak, body: dict[str, Any]) -> None:
    weak.cluster.before("create", DOWN)
    assert error_of(await ask(weak.api.client, body), 503) == (None, None)
    made: list[str] = []

    async def be_quicker() -> None:
        made.append(json_of(await ask(weak.api.client, body), 200)["id"])

    weak.cluster.before("create", be_quicker)
    assert json_of(await ask(weak.api.client, body), 200)["id"] == made[0]
    assert await weak.api.ids("batches") == made


async def test_a_key_that_is_swept_while_it_is_lost_to_another_is_to_be_sent_again(
    weak: Weak, body: dict[str, Any]
) -> None:
    async def be_quicker() -> None:
        await weak.bucket.inner.put(AT, b"{}", create_only=True)
        weak.bucket.before("read", vanish)

    async def vanish() -> None:
        await weak.bucket.inner.delete(AT)

    weak.bucket.before("put", be_quicker)
    assert error_of(await ask(weak.api.client, body), 503) == (None, None)
    json_of(await ask(weak.api.client, body), 200)


async def test_a_batch_that_a_person_has_deleted_is_made_again_under_its_id(weak: Weak, body: dict[str, Any]) -> None:
    """Nothing tells it from one that a crash kept from being made; only `kubectl` deletes batches."""
    first = json_of(await ask(weak.api.client, body), 200)
    await weak.api.cluster.delete(BATCH_JOB, NAMESPACE, batch_name(first["id"]), propagation=Propagation.BACKGROUND)
    assert json_of(await ask(weak.api.client, body), 200)["id"] == first["id"]
