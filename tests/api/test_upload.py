"""`POST /files`: what is taken in, under which name, and what stays after a failure (contract 3.2)."""

import json
import tracemalloc
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
from google_crc32c import value as crc32c_of
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from nightshift_crds.bucket.port import get
from nightshift_crds.lines import CHAT
from nightshift_crds.models import FilePhase
from tests.api.forms import BOUNDARY, END, PURPOSE, TYPE, form, part, raw_part, send
from tests.api.harness import KEY, Api, call, error_of, json_of, key_of, open_api
from tests.builders import MODEL, a_line, jsonl

CONTENT = jsonl(a_line())
FILE = part("file", CONTENT, "in.jsonl")
EXPIRY = [part("expires_after[anchor]", "created_at"), part("expires_after[seconds]", "3600")]
SCOPE: dict[str, Any] = {
    "method": "POST",
    "path": "/v1/files",
    "headers": [(b"authorization", f"Bearer {KEY}".encode()), (b"content-type", TYPE["content-type"].encode())],
}


async def nothing_stays(api: Api) -> bool:
    return not await api.stored_keys() and not await api.stored_files()


# --- any form that says the same is the same --------------------------------------------------------------------------


@st.composite
def bodies(draw: st.DrawFn) -> tuple[bytes, list[bytes]]:
    """Make a file, and a form that holds it, its parts in any order, cut anywhere."""
    pieces = st.sampled_from([b"\r\n", b"\r", b"\n", b"--", BOUNDARY.encode()[:-1], b"{}", b"\0", b"\xff", b"\r\n--x"])
    content = b"".join(draw(st.lists(pieces, min_size=1, max_size=12)))
    assume(f"\r\n--{BOUNDARY}".encode() not in b"\r\n" + content)  # a client chooses a boundary that is not in the file
    parts = [PURPOSE, *EXPIRY, part("file", content, "in.jsonl"), part("model", "anything")]
    body = form(*draw(st.permutations(parts)))
    cuts = draw(st.lists(st.integers(0, len(body)), max_size=20))
    return content, [body[a:b] for a, b in pairwise([0, *sorted(cuts), len(body)])]


@pytest.mark.asyncio(loop_scope="module")
@settings(max_examples=60, deadline=None)
@given(bodies())
async def test_parts_come_in_any_order_and_in_any_pieces(lasting_api: Api, sent: tuple[bytes, list[bytes]]) -> None:
    content, chunks = sent
    file = json_of(await send(lasting_api, chunks), 200)
    assert (file["bytes"], file["filename"], file["expires_at"] - file["created_at"]) == (
        len(content),
        "in.jsonl",
        3600,
    )
    assert await get(lasting_api.bucket, key_of(file["id"])) == content


async def test_an_uploaded_file_is_shown_as_contract_3_1_has_it(api: Api) -> None:
    file = json_of(await send(api, form(PURPOSE, FILE)), 200)
    created_at = int(api.clock.now.timestamp())
    assert file == {
        "id": file["id"],
        "object": "file",
        "bytes": len(CONTENT),
        "created_at": created_at,
        "expires_at": created_at + 2_592_000,
        "filename": "in.jsonl",
        "purpose": "batch",
        "status": "processed",
        "status_details": None,
    }


async def test_what_the_checks_found_on_the_way_is_kept_with_the_file(api: Api) -> None:
    content = CONTENT + b"no json\n" + jsonl(a_line("row-2"))
    await api.upload(content)
    (file,) = await api.stored_files()
    verdict = file.status.verdict
    assert verdict is not None
    assert (file.status.phase, file.status.bytes, file.status.crc32c) == (
        FilePhase.READY,
        len(content),
        crc32c_of(content),
    )
    found = verdict.endpoints[CHAT]
    assert (verdict.lines, [e.line for e in found.errors], [m.name for m in found.models]) == (3, [2], [MODEL])


@pytest.mark.parametrize("spelling", ["expires_after[{}]", "expires_after.{}"])
async def test_an_expiry_may_be_spelt_with_brackets_or_a_dot(api: Api, spelling: str) -> None:
    fields = {spelling.format("anchor"): "created_at", spelling.format("seconds"): "3601"}
    file = await api.upload(None, **fields)
    assert file["expires_at"] - file["created_at"] == 3601


async def test_parts_that_nobody_knows_are_ignored(api: Api) -> None:
    others = [part("", "x"), part("attachment", b"\0" * 10, "a.exe"), raw_part("Content-Disposition: form-data", b"x")]
    body = form(*others, PURPOSE, FILE, part("purposes", "x"))
    assert json_of(await send(api, body), 200)["bytes"] == len(CONTENT)


async def test_what_is_around_the_form_is_ignored(api: Api) -> None:
    body = b"a preamble\r\n" + form(PURPOSE, FILE) + b"an epilogue"
    assert json_of(await send(api, body), 200)["bytes"] == len(CONTENT)


async def test_a_file_part_of_any_type_is_taken(api: Api) -> None:
    headers = "\r\nContent-Type: application/zip\r\nContent-Transfer-Encoding: binary"
    body = form(PURPOSE, part("file", CONTENT, "in.jsonl", headers))
    assert json_of(await send(api, body), 200)["bytes"] == len(CONTENT)


# --- names ------------------------------------------------------------------------------------------------------------


@pytest.mark.asyncio(loop_scope="module")
@pytest.mark.parametrize(
    ("sent", "shown"),
    [
        ("in.jsonl", "in.jsonl"),
        ("IN.JSONL", "IN.JSONL"),
        ("upload", "upload"),
        ("", "upload"),
        (".jsonl", ".jsonl"),
        ("..", "upload"),
        (".", "upload"),
        ("/", "upload"),
        ("../../etc/passwd", "passwd"),
        ("dir/in.jsonl", "in.jsonl"),
        ("C:\\dir\\in.jsonl", "in.jsonl"),
        ("a.b.jsonl", "a.b.jsonl"),
        ("two words.jsonl", "two words.jsonl"),
        ("\u00fcber \u65e5\u672c\U0001f600.jsonl", "\u00fcber \u65e5\u672c\U0001f600.jsonl"),
        ("at\u202f10\u00a0PM.jsonl", "at\u202f10\u00a0PM.jsonl"),
        ("a\0b\x1b\x7f\x85.jsonl", "ab.jsonl"),
        ("%2e%2e%2f.jsonl", "%2e%2e%2f.jsonl"),
        ("a%0D%0Ab.jsonl", "ab.jsonl"),
        ("n" * 250 + ".jsonl", "n" * 249 + ".jsonl"),
        ("n" * 300, "n" * 255),
    ],
)
async def test_a_file_keeps_its_name_but_for_folders_and_control_characters(
    lasting_api: Api, sent: str, shown: str
) -> None:
    file = json_of(await send(lasting_api, form(PURPOSE, part("file", CONTENT, sent))), 200)
    assert file["filename"] == shown
    assert (await lasting_api.client.get(f"files/{file['id']}/content")).content == CONTENT


# --- limits -----------------------------------------------------------------------------------------------------------


async def test_only_the_bytes_of_the_file_count_towards_its_limit(tmp_path: Path) -> None:
    async with open_api(tmp_path, max_file_bytes=10) as api:
        padding = part("note", "n" * 60_000)
        body = form(padding, PURPOSE, part("file", b"\xc3\xa9" * 5, "in.jsonl"), padding)
        assert json_of(await send(api, body), 200)["bytes"] == 10
        await api.client.delete(f"files/{(await api.ids('files'))[0]}")
        for chunks in ([form(PURPOSE, part("file", b"{" * 11, "in.jsonl"))], [PURPOSE, FILE, END]):
            assert error_of(await send(api, chunks), 413) == ("file_too_large", "file")
        assert await nothing_stays(api)


async def test_a_declared_length_that_cannot_fit_is_refused_before_the_body_comes(api: Api) -> None:
    headers = [*SCOPE["headers"], (b"content-length", b"99999999999")]
    start, body = await call(api.app, SCOPE | {"headers": headers}, [])
    assert (start["status"], json.loads(body["body"])["error"]["code"]) == (413, "file_too_large")


@pytest.mark.parametrize("length", ["x", "", "1.5", "\u00b2", "-1", "9" * 5000])
async def test_a_declared_length_that_is_none_changes_nothing(api: Api, length: str) -> None:
    headers = [*SCOPE["headers"], (b"content-length", length.encode("latin-1"))]
    start, *_ = await call(
        api.app, SCOPE | {"headers": headers}, [{"type": "http.request", "body": form(PURPOSE, FILE)}]
    )
    assert start["status"] == 200


@pytest.mark.parametrize(
    ("body", "status"),
    [
        (form(PURPOSE, part("note", "n" * 65_537), FILE), 413),
        (form(FILE, part("purpose", "n" * 65_537)), 413),
        (form(*[PURPOSE] * 33, FILE), 400),
        (form(PURPOSE, part("file", CONTENT, "n" * 5000)), 400),
        (form(PURPOSE, part("file", CONTENT, "in.jsonl", "\r\nX-A: b" * 9)), 400),
    ],
)
async def test_a_form_has_limits_besides_those_of_its_file(api: Api, body: bytes, status: int) -> None:
    assert error_of(await send(api, body), status) == (None, None)
    assert await nothing_stays(api)


def many_lines(count: int, length: int) -> Iterator[bytes]:
    """Write a form with a large file, piece by piece."""
    yield PURPOSE + f'--{BOUNDARY}\r\nContent-Disposition: form-data; name="file"; filename="a"\r\n\r\n'.encode()
    filler = "x" * length
    for n in range(count):
        yield jsonl(a_line(f"row-{n}", text=filler))
    yield b"\r\n" + END


async def test_the_memory_of_an_upload_does_not_grow_with_the_file(api: Api) -> None:
    tracemalloc.start()
    try:
        file = json_of(await send(api, many_lines(count=480, length=64 * 1024)), 200)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert file["bytes"] > 30 << 20
    assert peak < 8 << 20


# --- what is wrong leaves nothing -------------------------------------------------------------------------------------

WHOLE = form(PURPOSE, FILE)
BROKEN = {
    "cut in the file": WHOLE[:-80],
    "cut in the last boundary": WHOLE[:-4],
    "no end": PURPOSE + FILE,
    "nothing": b"",
    "no form": b"custom_id",
    "another boundary": WHOLE.replace(BOUNDARY.encode(), b"y"),
    "no disposition": form(PURPOSE, raw_part("Content-Type: text/plain", b"x"), FILE),
    "another disposition": form(PURPOSE, raw_part('Content-Disposition: inline; name="file"', b"x")),
    "a header without a name": form(FILE, raw_part("nonsense", b"")),
    "a name that is no UTF-8": form(PURPOSE, FILE.replace(b"in.jsonl", b"\xff.jsonl")),
    "a field that is no UTF-8": form(FILE, part("purpose", b"\xff")),
    "line feeds alone": WHOLE.replace(b"\r\n", b"\n"),
    "a part of another length": form(PURPOSE, part("file", CONTENT, "a", "\r\nContent-Length: 3")),
}


@pytest.mark.parametrize("body", BROKEN.values(), ids=BROKEN.keys())
async def test_a_broken_form_is_refused_and_leaves_nothing(api: Api, body: bytes) -> None:
    assert error_of(await send(api, body), 400) == (None, None)
    assert await nothing_stays(api)


@pytest.mark.parametrize("options", ["", "; boundary=", '; boundary="a\nb"', "; boundary=\u00e9", "; charset=utf-8"])
async def test_a_form_without_a_boundary_is_refused(api: Api, options: str) -> None:
    kind = f"multipart/form-data{options}".encode("latin-1")
    scope = SCOPE | {"headers": [SCOPE["headers"][0], (b"content-type", kind)]}
    start, *_ = await call(api.app, scope, [{"type": "http.request", "body": WHOLE}])
    assert start["status"] == 400


@pytest.mark.parametrize(
    ("parts", "refusal"),
    [
        ([FILE], ("missing_required_parameter", "purpose")),
        ([FILE, part("purpose", "other")], ("invalid_value", "purpose")),
        ([FILE, PURPOSE, part("expires_after[seconds]", "1")], ("missing_required_parameter", "expires_after.anchor")),
        ([FILE, PURPOSE, FILE], ("invalid_value", "file")),
        ([PURPOSE, part("file", b"", "a.jsonl")], ("empty_file", "file")),
    ],
)
async def test_a_file_whose_form_turns_out_wrong_is_taken_away(
    api: Api, parts: list[bytes], refusal: tuple[str, str]
) -> None:
    assert error_of(await send(api, form(*parts)), 400) == refusal
    assert await nothing_stays(api)


async def test_a_wrong_purpose_is_told_before_the_file_has_come(api: Api) -> None:
    begun = part("purpose", "fine-tune") + FILE[:60]
    start, body = await call(api.app, SCOPE, [{"type": "http.request", "body": begun, "more_body": True}])
    assert (start["status"], json.loads(body["body"])["error"]["param"]) == (400, "purpose")


@pytest.mark.parametrize("length", [0, len(PURPOSE), len(PURPOSE + FILE) - 20, len(WHOLE) - 2])
async def test_a_client_that_goes_in_the_middle_leaves_nothing(api: Api, length: int) -> None:
    await call(api.app, SCOPE, [{"type": "http.request", "body": WHOLE[:length], "more_body": True}])
    assert await nothing_stays(api)
