"""The Uploads API: a file in parts is the file that the same bytes would have been in one (contract 7)."""

import asyncio
import json
import tracemalloc
from hashlib import md5
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from nightshift_crds import names
from nightshift_crds.bucket.port import get
from nightshift_crds.lines import CHAT
from nightshift_crds.names import IdKind
from tests.api.faults import Weak
from tests.api.forms import END, PURPOSE, TYPE, form, part, stream
from tests.api.given import an_id
from tests.api.harness import Api, error_of, json_of, key_of, open_api
from tests.api.parts import CONTENT, PIECES, add, announce, begin, cancel, complete, file_keys, part_keys, send_part
from tests.builders import NAMESPACE, T0, a_line, jsonl

MD5 = md5(CONTENT, usedforsecurity=False).hexdigest()
NOT_PENDING = ("upload_not_pending", "upload_id")
UNKNOWN = (None, "upload_id")


# --- the way it goes --------------------------------------------------------------------------------------------------


async def test_an_upload_is_shown_as_contract_7_has_it(api: Api) -> None:
    upload = await begin(api)
    created_at = int(api.clock.now.timestamp())
    assert upload == {
        "id": upload["id"],
        "object": "upload",
        "bytes": len(CONTENT),
        "created_at": created_at,
        "expires_at": created_at + 3600,
        "filename": "in.jsonl",
        "purpose": "batch",
        "status": "pending",
        "file": None,
    }
    assert names.parse_id(IdKind.UPLOAD, upload["id"])
    sent = json_of(await send_part(api, upload["id"], CONTENT), 200)
    assert sent == {
        "id": sent["id"],
        "object": "upload.part",
        "created_at": created_at,
        "upload_id": upload["id"],
    }
    assert await api.ids("files") == []
    ended = json_of(await complete(api, upload["id"], [sent["id"]]), 200)
    assert ended == upload | {"status": "completed", "file": await api.get(f"files/{ended['file']['id']}")}


async def test_its_file_is_the_one_that_an_upload_in_one_piece_makes(api: Api) -> None:
    upload = await begin(api, expires_after={"anchor": "created_at", "seconds": 3600}, filename="dir/IN.JSONL")
    part_ids = await add(api, upload["id"], *PIECES)
    by_parts = json_of(await complete(api, upload["id"], part_ids, md5=MD5.upper()), 200)["file"]
    expiry = {"expires_after[anchor]": "created_at", "expires_after[seconds]": "3600"}
    at_once = await api.upload(CONTENT, filename="dir/IN.JSONL", **expiry)
    assert by_parts == at_once | {name: by_parts[name] for name in ("id", "created_at", "expires_at")}
    assert by_parts["expires_at"] - by_parts["created_at"] == 3600
    one, other = await api.stored_files()
    assert one.status.model_dump(exclude={"expires_at"}) == other.status.model_dump(exclude={"expires_at"})
    assert (await api.client.get(f"files/{by_parts['id']}/content")).content == CONTENT
    await api.create_batch(input_file_id=by_parts["id"])


async def test_who_completes_tells_the_order_and_what_is_left_out(api: Api) -> None:
    upload = await begin(api)
    second, twice, first, third = await add(api, upload["id"], PIECES[1], PIECES[1], PIECES[0], PIECES[2])
    file = json_of(await complete(api, upload["id"], [first, second, third]), 200)["file"]
    assert await get(api.bucket, key_of(file["id"])) == CONTENT
    assert twice not in {first, second, third}


async def test_parts_may_come_at_the_same_time(api: Api) -> None:
    upload = await begin(api)
    answers = await asyncio.gather(*(send_part(api, upload["id"], piece) for piece in PIECES))
    part_ids = [json_of(answer, 200)["id"] for answer in answers]
    file = json_of(await complete(api, upload["id"], part_ids), 200)["file"]
    assert await get(api.bucket, key_of(file["id"])) == CONTENT


async def test_lines_that_parts_cut_are_whole_to_the_checks(api: Api) -> None:
    upload = await begin(api)
    part_ids = await add(api, upload["id"], *PIECES)
    json_of(await complete(api, upload["id"], part_ids), 200)
    (file,) = await api.stored_files()
    assert file.status.verdict is not None
    assert (file.status.verdict.lines, file.status.verdict.endpoints[CHAT].error_count) == (3, 0)


@pytest.mark.asyncio(loop_scope="module")
@settings(max_examples=15, deadline=None)
@given(st.lists(st.binary(min_size=1, max_size=40), min_size=1, max_size=5), st.randoms(use_true_random=False))
async def test_any_bytes_in_any_parts_come_back(lasting_api: Api, pieces: list[bytes], random: Any) -> None:
    whole = b"".join(pieces)
    upload = await begin(lasting_api, bytes=len(whole))
    order = random.sample(range(len(pieces)), len(pieces))
    sent = {n: (await add(lasting_api, upload["id"], pieces[n]))[0] for n in order}
    digest = md5(whole, usedforsecurity=False).hexdigest()
    ended = await complete(lasting_api, upload["id"], [sent[n] for n in range(len(pieces))], md5=digest)
    assert await get(lasting_api.bucket, key_of(json_of(ended, 200)["file"]["id"])) == whole


async def test_a_form_may_hold_more_than_its_part(api: Api) -> None:
    upload = await begin(api)
    body = form(PURPOSE, part("data", "a field of that name"), part("data", CONTENT, "upload"), part("x", "y"))
    answer = await api.client.post(f"uploads/{upload['id']}/parts", content=body, headers=TYPE)
    part_id = json_of(answer, 200)["id"]
    assert json_of(await complete(api, upload["id"], [part_id]), 200)["status"] == "completed"


async def test_the_memory_of_a_complete_does_not_grow_with_the_file(api: Api) -> None:
    piece = jsonl(*(a_line(f"row-{n}", text="x" * 64 * 1024) for n in range(128)))
    upload = await begin(api, bytes=4 * len(piece))
    part_ids = await add(api, upload["id"], *[piece] * 4)
    tracemalloc.start()
    try:
        json_of(await complete(api, upload["id"], part_ids), 200)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert 4 * len(piece) > 30 << 20
    assert peak < 10 << 20


# --- announcing -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["filename", "purpose", "bytes", "mime_type"])
async def test_four_fields_are_required(api: Api, name: str) -> None:
    assert error_of(await announce(api, **{name: ...}), 400) == ("missing_required_parameter", name)
    assert await api.stored_keys() == []


@pytest.mark.parametrize(
    ("fields", "code", "param"),
    [
        ({"bytes": 0}, "integer_below_min_value", "bytes"),
        ({"bytes": "10"}, "invalid_type", "bytes"),
        ({"bytes": 10.5}, "invalid_type", "bytes"),
        ({"filename": 7}, "invalid_type", "filename"),
        ({"filename": "a.txt"}, "invalid_file_format", "filename"),
        ({"mime_type": None}, "invalid_type", "mime_type"),
        ({"purpose": "assistants"}, "invalid_value", "purpose"),
        ({"expires_after": {"anchor": "now", "seconds": 3600}}, "invalid_value", "expires_after.anchor"),
        ({"expires_after": {"anchor": "created_at", "seconds": 1}}, "integer_below_min_value", "expires_after.seconds"),
    ],
)
async def test_a_wrong_field_is_named(api: Api, fields: dict[str, Any], code: str, param: str) -> None:
    assert error_of(await announce(api, **fields), 400) == (code, param)


async def test_an_integer_may_be_spelt_with_a_fraction_of_zero(api: Api) -> None:
    """JSON Schema, and so `/openapi.json`, knows one number 10."""
    upload = await begin(api, bytes=10.0, expires_after={"anchor": "created_at", "seconds": 3.6e3})
    assert upload["bytes"] == 10


@pytest.mark.parametrize("number", [1e400, -1e400, 1e19 + 0.5])
async def test_a_number_beyond_all_files_is_refused(api: Api, number: float) -> None:
    sent = await api.client.post("uploads", content=json.dumps({"bytes": number}).replace("Infinity", "1e400"))
    assert sent.status_code == 400


@pytest.mark.parametrize("mime_type", ["", "application/jsonl", "no/such;type"])
async def test_a_type_is_free_text(api: Api, mime_type: str) -> None:
    await begin(api, mime_type=mime_type)


async def test_a_file_that_is_announced_too_large_is_refused(tmp_path: Path) -> None:
    async with open_api(tmp_path, max_file_bytes=100) as api:
        await begin(api, bytes=100)
        for size in (101, 10**40):
            assert error_of(await announce(api, bytes=size), 413) == ("file_too_large", "bytes")


# --- parts ------------------------------------------------------------------------------------------------------------


async def test_a_part_has_a_size(tmp_path: Path) -> None:
    async with open_api(tmp_path, max_upload_part_bytes=10) as api:
        upload = await begin(api, bytes=10)
        assert error_of(await send_part(api, upload["id"], b"{" * 11), 413) == ("file_too_large", "data")
        chunks = stream([part("data", b"{" * 11, "upload"), END])
        answer = await api.client.post(f"uploads/{upload['id']}/parts", content=chunks, headers=TYPE)
        assert error_of(answer, 413) == ("file_too_large", "data")
        assert await part_keys(api.bucket, upload["id"]) == []
        (part_id,) = await add(api, upload["id"], b"{" * 10)
        json_of(await complete(api, upload["id"], [part_id]), 200)


async def test_parts_have_a_number(tmp_path: Path) -> None:
    async with open_api(tmp_path, max_upload_parts=2) as api:
        upload = await begin(api)
        await add(api, upload["id"], *PIECES[:2])
        assert error_of(await send_part(api, upload["id"], PIECES[2]), 400) == ("invalid_value", "data")


@pytest.mark.parametrize(
    ("body", "headers", "status", "refusal"),
    [
        (b"{}", {"content-type": "application/json"}, 415, (None, None)),
        (form(part("other", b"x", "upload")), TYPE, 400, ("missing_required_parameter", "data")),
        (form(part("data", b"x")), TYPE, 400, ("missing_required_parameter", "data")),
        (form(), TYPE, 400, ("missing_required_parameter", "data")),
        (form(part("data", b"", "upload")), TYPE, 400, ("empty_file", "data")),
        (form(part("data", b"x", "a"), part("data", b"y", "b")), TYPE, 400, ("invalid_value", "data")),
        (form(part("data", b"x", "a"), part("note", "n" * 65_537)), TYPE, 413, (None, None)),
        (form(part("data", b"x", "a"))[:-20], TYPE, 400, (None, None)),
        (part("data", b"x", "a"), TYPE, 400, (None, None)),
    ],
)
async def test_a_part_that_is_not_sent_as_one_is_refused_and_leaves_nothing(
    api: Api, body: bytes, headers: dict[str, str], status: int, refusal: tuple[str | None, str | None]
) -> None:
    upload = await begin(api)
    answer = await api.client.post(f"uploads/{upload['id']}/parts", content=body, headers=headers)
    assert error_of(answer, status) == refusal
    assert await part_keys(api.bucket, upload["id"]) == []


# --- completing -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("choose", "fields", "refusal"),
    [
        ([0, 1], {}, ("invalid_value", "part_ids")),
        ([], {}, ("invalid_value", "part_ids")),
        ([0, 0, 2], {}, ("invalid_value", "part_ids")),
        ([0, 1, 2, an_id(IdKind.PART, T0)], {}, ("invalid_value", "part_ids")),
        ([0, 1, 2, "../session.json"], {}, ("invalid_value", "part_ids")),
        ([0, 1, 2, ""], {}, ("invalid_value", "part_ids")),
        ([0, 1, 2, 7], {}, ("invalid_type", "part_ids.3")),
        ([0, 1, 2], {"md5": "0" * 32}, ("invalid_value", "md5")),
        ([0, 1, 2], {"md5": ""}, ("invalid_value", "md5")),
        ([0, 1, 2], {"md5": 5}, ("invalid_type", "md5")),
        ([1, 0, 2], {"md5": MD5}, ("invalid_value", "md5")),
    ],
)
async def test_a_complete_that_is_wrong_is_refused_and_may_be_put_right(
    api: Api, choose: list[Any], fields: dict[str, Any], refusal: tuple[str, str]
) -> None:
    upload = await begin(api)
    part_ids = await add(api, upload["id"], *PIECES)
    chosen = [part_ids[n] if n in {0, 1, 2} else n for n in choose]
    assert error_of(await complete(api, upload["id"], chosen, **fields), 400) == refusal
    assert (await file_keys(api.bucket), await api.stored_files()) == ([], [])
    json_of(await complete(api, upload["id"], part_ids, md5=MD5), 200)


@pytest.mark.parametrize(("body", "code"), [({}, "missing_required_parameter"), ({"part_ids": None}, "invalid_type")])
async def test_a_complete_names_its_parts(api: Api, body: dict[str, Any], code: str) -> None:
    upload = await begin(api)
    answer = await api.client.post(f"uploads/{upload['id']}/complete", json=body)
    assert error_of(answer, 400) == (code, "part_ids")


async def test_parts_of_another_upload_are_unknown(api: Api) -> None:
    one, other = await begin(api), await begin(api)
    part_ids = await add(api, other["id"], *PIECES)
    assert error_of(await complete(api, one["id"], part_ids), 400) == ("invalid_value", "part_ids")


@pytest.mark.parametrize("call", ["", "/complete"])
async def test_a_body_has_a_limit(tmp_path: Path, call: str) -> None:
    async with open_api(tmp_path, max_body_bytes=200) as api:
        upload = await begin(api)
        path = f"uploads/{upload['id']}{call}" if call else "uploads"
        assert error_of(await api.client.post(path, content=b"{}".ljust(201)), 413) == (None, None)


# --- ended ------------------------------------------------------------------------------------------------------------


async def test_a_complete_that_is_sent_again_shows_the_same_file(api: Api) -> None:
    upload = await begin(api)
    part_ids = await add(api, upload["id"], *PIECES)
    first = json_of(await complete(api, upload["id"], part_ids, md5=MD5), 200)
    assert json_of(await complete(api, upload["id"], part_ids), 200) == first
    api.clock.advance(seconds=3600)
    assert json_of(await complete(api, upload["id"], part_ids, md5=MD5), 200) == first
    assert error_of(await complete(api, upload["id"], part_ids, md5="0" * 32), 400) == ("invalid_value", "md5")
    assert error_of(await complete(api, upload["id"], part_ids[::-1]), 400) == NOT_PENDING
    assert await api.ids("files") == [first["file"]["id"]]
    assert await file_keys(api.bucket) == [key_of(first["file"]["id"])]


async def test_a_file_that_has_gone_since_is_not_brought_back(api: Api) -> None:
    upload = await begin(api)
    part_ids = await add(api, upload["id"], *PIECES)
    file = json_of(await complete(api, upload["id"], part_ids), 200)["file"]
    json_of(await api.client.delete(f"files/{file['id']}"), 200)
    again = json_of(await complete(api, upload["id"], part_ids), 200)
    assert (again["status"], again["file"], await api.stored_files()) == ("completed", None, [])


async def test_a_file_that_has_expired_since_is_not_shown(api: Api) -> None:
    upload = await begin(api, expires_after={"anchor": "created_at", "seconds": 3600})
    part_ids = await add(api, upload["id"], *PIECES)
    json_of(await complete(api, upload["id"], part_ids), 200)
    api.clock.advance(seconds=3600)
    assert json_of(await complete(api, upload["id"], part_ids), 200)["file"] is None


async def test_a_cancelled_upload_takes_nothing_more(api: Api) -> None:
    upload = await begin(api)
    part_ids = await add(api, upload["id"], *PIECES)
    cancelled = json_of(await cancel(api, upload["id"]), 200)
    assert cancelled == upload | {"status": "cancelled"}
    assert json_of(await cancel(api, upload["id"]), 200) == cancelled
    assert error_of(await send_part(api, upload["id"], b"x"), 400) == NOT_PENDING
    assert error_of(await complete(api, upload["id"], part_ids), 400) == NOT_PENDING
    assert await api.ids("files") == []


async def test_a_completed_upload_takes_nothing_more(api: Api) -> None:
    upload = await begin(api)
    part_ids = await add(api, upload["id"], *PIECES)
    json_of(await complete(api, upload["id"], part_ids), 200)
    assert error_of(await send_part(api, upload["id"], b"x"), 400) == NOT_PENDING
    assert error_of(await cancel(api, upload["id"]), 400) == NOT_PENDING
    assert len(await api.ids("files")) == 1


@pytest.mark.parametrize("life_s", [60, 3600])
async def test_an_upload_expires(tmp_path: Path, life_s: int) -> None:
    async with open_api(tmp_path, upload_life_s=life_s) as api:
        upload = await begin(api)
        assert upload["expires_at"] - upload["created_at"] == life_s
        api.clock.advance(seconds=life_s - 1)
        part_ids = await add(api, upload["id"], *PIECES)
        api.clock.advance(seconds=1)
        for answer in (
            await send_part(api, upload["id"], b"x"),
            await complete(api, upload["id"], part_ids),
            await cancel(api, upload["id"]),
        ):
            assert error_of(answer, 400) == NOT_PENDING
        assert await api.ids("files") == []


# --- whose it is ------------------------------------------------------------------------------------------------------

IDS = [an_id(IdKind.UPLOAD, T0), "x", "upload_", an_id(IdKind.FILE, T0), f"upload_{'0' * 8}-0000-4000-8000-{'0' * 12}"]


async def ask_all(api: Api, client: Any, upload_id: str, part_ids: list[str]) -> list[Any]:
    return [
        await client.post(f"uploads/{upload_id}/parts", files={"data": ("upload", b"x")}),
        await client.post(f"uploads/{upload_id}/complete", json={"part_ids": part_ids}),
        await client.post(f"uploads/{upload_id}/cancel"),
    ]


@pytest.mark.parametrize("upload_id", [*IDS, "%00", "..%2F..", "x" * 300])
async def test_an_upload_that_there_is_not_is_unknown(api: Api, upload_id: str) -> None:
    for answer in await ask_all(api, api.client, upload_id, []):
        assert answer.status_code == 404
        assert "%2F" in upload_id or error_of(answer, 404) == UNKNOWN


async def test_an_upload_of_another_tenant_is_answered_as_one_that_never_was(api: Api) -> None:
    upload = await begin(api)
    part_ids = await add(api, upload["id"], *PIECES)
    foreign = await ask_all(api, api.stranger, upload["id"], part_ids)
    never = await ask_all(api, api.stranger, IDS[0], part_ids)
    assert [(answer.status_code, answer.json()) for answer in foreign] == [(404, answer.json()) for answer in never]
    file = json_of(await complete(api, upload["id"], part_ids), 200)["file"]
    assert (await api.stranger.get(f"files/{file['id']}")).status_code == 404


async def test_parts_that_the_sweep_takes_while_they_are_read_make_no_file(weak: Weak) -> None:
    api = weak.api
    upload = await begin(api)
    part_ids = await add(api, upload["id"], *PIECES)

    async def sweep() -> None:
        for key in await part_keys(weak.bucket.inner, upload["id"]):
            await weak.bucket.inner.delete(key)
        await weak.bucket.inner.delete(names.session_key(NAMESPACE, upload["id"]))

    async def nothing() -> None:
        """Let one more read by: of the session, of the outcome, of the first part."""

    weak.bucket.before("read", nothing, nothing, nothing, sweep)
    assert error_of(await complete(api, upload["id"], part_ids), 404) == UNKNOWN
    assert (await file_keys(api.bucket), await api.stored_files()) == ([], [])
