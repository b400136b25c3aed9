"""Any form at all: it is taken in byte by byte, or refused in the contract's shape with nothing left behind.

`harness` holds every answer against `/openapi.json` and contract 1.4.
"""

import re
from itertools import pairwise
from typing import Any
from urllib.parse import unquote

import pytest
from google_crc32c import value as crc32c_of
from hypothesis import given, settings
from hypothesis import strategies as st

from nightshift_crds.bucket.port import get
from tests.api.forms import BOUNDARY, END, PURPOSE, form, part, raw_part, send, stream
from tests.api.harness import KEY, Api, call, error_of, json_of, key_of
from tests.api.parts import begin, part_keys
from tests.builders import a_line, jsonl

pytestmark = pytest.mark.asyncio(loop_scope="module")
SOME = settings(max_examples=settings().max_examples // 4)
"""Each example is a few requests."""
REFUSALS = {400, 413, 415}
NEAR_BOUNDARIES = st.sampled_from(
    [b"\r\n", b"\r", b"\n", b"--", f"--{BOUNDARY}".encode(), f"\r\n--{BOUNDARY[:-1]}".encode(), END, b"\0", b"\xff"]
)
CONTENTS = st.lists(NEAR_BOUNDARIES | st.binary(max_size=8) | st.just(jsonl(a_line())), min_size=1, max_size=8).map(
    b"".join
)
JUNK = st.lists(
    st.sampled_from(
        [
            'Content-Disposition: form-data; name="file"; filename="a"',
            'Content-Disposition: form-data; name="purpose"',
            "Content-Disposition: form-data; name=file; filename*=UTF-8''%e6%97",
            'content-disposition: form-data; name="\\"; filename="\\"',
            "Content-Disposition: attachment",
            "Content-Disposition:",
            "Content-Type: multipart/mixed; boundary=x",
            "Content-Length: 3",
            "Content-Transfer-Encoding: base64",
            " folded",
            ":",
            "\x00: \x7f",
        ]
    )
    | st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\r\n"), max_size=12),
    max_size=3,
).map("\r\n".join)
PARTS = st.one_of(
    st.just(PURPOSE),
    CONTENTS.map(lambda content: part("file", content, "in.jsonl")),
    CONTENTS.map(lambda content: part("data", content, "upload")),
    st.builds(raw_part, JUNK, CONTENTS),
    st.sampled_from([part("expires_after[anchor]", "created_at"), part("expires_after[seconds]", "3600")]),
)


@st.composite
def damaged_forms(draw: st.DrawFn) -> bytes:
    """A form of some parts, a few of its bytes put in place of others, and perhaps cut off."""
    body = form(*draw(st.lists(PARTS, max_size=5)))
    for _ in range(draw(st.integers(0, 2))):
        at = draw(st.integers(0, len(body)))
        body = body[:at] + draw(NEAR_BOUNDARIES | st.binary(max_size=3)) + body[at + draw(st.integers(0, 3)) :]
    return body[: draw(st.none() | st.integers(0, len(body)))]


def pieces(body: bytes, places: list[int]) -> list[bytes]:
    return [body[a:b] for a, b in pairwise([0, *sorted(place % (len(body) + 1) for place in places), len(body)])]


PLACES = st.lists(st.integers(0, 10_000), max_size=12)


async def check_file(api: Api, file: dict[str, Any], body: bytes) -> None:
    """What was taken in stands in the form as it is stored; then leave nothing."""
    stored = await get(api.bucket, key_of(file["id"]))
    assert stored in body
    (found,) = await api.stored_files()
    assert (file["bytes"], found.status.bytes, found.status.crc32c) == (len(stored), len(stored), crc32c_of(stored))
    assert (await api.client.get(f"files/{file['id']}/content")).content == stored
    json_of(await api.client.delete(f"files/{file['id']}"), 200)


@SOME
@given(damaged_forms(), PLACES)
async def test_any_form_is_taken_in_as_it_is_or_leaves_nothing(
    lasting_api: Api, body: bytes, places: list[int]
) -> None:
    answer = await send(lasting_api, pieces(body, places))
    if answer.status_code == 200:
        await check_file(lasting_api, answer.json(), body)
    else:
        assert answer.status_code in REFUSALS
    assert (await lasting_api.stored_keys(), await lasting_api.stored_files()) == ([], [])


@SOME
@given(damaged_forms(), PLACES, PLACES)
async def test_how_a_form_is_cut_changes_nothing(
    lasting_api: Api, body: bytes, places: list[int], others: list[int]
) -> None:
    one, other = [await send(lasting_api, pieces(body, cut)) for cut in (places, others)]
    assert one.status_code == other.status_code
    if one.status_code != 200:
        assert error_of(one, one.status_code) == error_of(other, one.status_code)  # in other words, perhaps
        return
    shown = {"id": ..., "created_at": ..., "expires_at": ...}
    assert one.json() | shown == other.json() | shown
    for file in (one.json(), other.json()):
        json_of(await lasting_api.client.delete(f"files/{file['id']}"), 200)


@SOME
@given(damaged_forms(), PLACES)
async def test_any_form_is_a_part_as_it_is_or_none(lasting_api: Api, body: bytes, places: list[int]) -> None:
    upload = await begin(lasting_api)
    headers = {"content-type": f"multipart/form-data; boundary={BOUNDARY}"}
    answer = await lasting_api.client.post(
        f"uploads/{upload['id']}/parts", content=stream(pieces(body, places)), headers=headers
    )
    keys = await part_keys(lasting_api.bucket, upload["id"])
    if answer.status_code == 200:
        assert [key.rpartition("/")[2] for key in keys] == [answer.json()["id"]]
        assert await get(lasting_api.bucket, keys[0]) in body
    else:
        assert (answer.status_code in REFUSALS, keys) == (True, [])
    for info in [info async for info in lasting_api.bucket.list("")]:
        await lasting_api.bucket.delete(info.key)


@SOME
@given(damaged_forms(), st.integers(0, 10_000))
async def test_a_client_may_go_at_any_byte(lasting_api: Api, body: bytes, place: int) -> None:
    sent = body[: place % (len(body) + 1)]
    headers = [(b"authorization", f"Bearer {KEY}".encode())]
    headers.append((b"content-type", f"multipart/form-data; boundary={BOUNDARY}".encode()))
    scope = {"method": "POST", "path": "/v1/files", "headers": headers}
    start, *_ = await call(lasting_api.app, scope, [{"type": "http.request", "body": sent, "more_body": True}])
    if start["status"] == 200:  # all of the form was there
        (file,) = await lasting_api.stored_files()
        json_of(await lasting_api.client.delete(f"files/{file.id}"), 200)
    else:
        assert start["status"] in REFUSALS | {499}
    assert (await lasting_api.stored_keys(), await lasting_api.stored_files()) == ([], [])


@SOME
@given(st.text(st.characters(exclude_categories=["Cs"], exclude_characters='\r\n"\\'), max_size=300))
async def test_a_file_of_any_name_is_taken_or_refused_and_keeps_it(lasting_api: Api, name: str) -> None:
    answer = await send(lasting_api, form(PURPOSE, part("file", b"{}", name)))
    if answer.status_code != 200:
        assert answer.status_code == 400
        return
    file = answer.json()
    content = await lasting_api.client.get(f"files/{file['id']}/content")
    told = content.headers["content-disposition"]
    assert re.fullmatch(r"""attachment; filename="[ -~]*"; filename\*=UTF-8''[\w.~%-]+""", told)
    assert unquote(told.rpartition("''")[2]) == file["filename"]
    json_of(await lasting_api.client.delete(f"files/{file['id']}"), 200)


@SOME
@given(st.text(st.characters(max_codepoint=255, exclude_characters="\r\n\0"), max_size=90), st.booleans())
async def test_a_form_of_any_boundary_is_taken_in_or_refused(lasting_api: Api, boundary: str, is_quoted: bool) -> None:
    body = form(PURPOSE, part("file", b"{}", "a")).replace(BOUNDARY.encode(), boundary.encode("latin-1"))
    value = f'"{boundary}"' if is_quoted else boundary
    headers = [(b"authorization", f"Bearer {KEY}".encode())]
    headers.append((b"content-type", f"multipart/form-data; boundary={value}".encode("latin-1")))
    scope = {"method": "POST", "path": "/v1/files", "headers": headers}
    start, *_ = await call(lasting_api.app, scope, [{"type": "http.request", "body": body}])
    if start["status"] == 200:
        (file,) = await lasting_api.stored_files()
        json_of(await lasting_api.client.delete(f"files/{file.id}"), 200)
    else:
        assert start["status"] == 400
    assert (await lasting_api.stored_keys(), await lasting_api.stored_files()) == ([], [])
