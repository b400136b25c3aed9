"""Every refusal of contract 14, by its number there; `harness` checks the shape of each on the way (contract 1.4)."""

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any, cast
from uuid import UUID

import httpx2
import pytest

from nightshift_crds.lifecycle import Phase
from nightshift_crds.lines import CHAT
from nightshift_crds.models import FilePhase
from nightshift_crds.names import IdKind
from tests.api.given import a_batch_in, add_file, an_id
from tests.api.harness import OTHER_NAMESPACE, Api, client_of, error_of
from tests.builders import T0

Answer = Awaitable[httpx2.Response]
FORM = {"purpose": "batch"}
FILE = {"file": ("in.jsonl", b"{}\n")}
ABSENT = object()
UNKNOWN = UUID(int=0)


@dataclass(frozen=True)
class Refusal:
    """What is refused, and how."""

    number: str
    ask: Callable[[Api], Answer]
    status: int
    code: str | None
    param: str | None

    def __str__(self) -> str:
        return f"{self.number}-{self.param}-{self.code}"


def create(**changes: Any) -> Callable[[Api], Answer]:
    """Create a batch that is right but for some fields."""

    async def ask(api: Api) -> httpx2.Response:
        body = {"input_file_id": (await api.upload())["id"], "endpoint": CHAT, "completion_window": "24h"} | changes
        return await api.client.post("batches", json={key: value for key, value in body.items() if value is not ABSENT})

    return ask


def create_expiring(**expiry: Any) -> Callable[[Api], Answer]:
    return create(output_expires_after=expiry)


def create_over(phase: FilePhase, **spec: Any) -> Callable[[Api], Answer]:
    async def ask(api: Api) -> httpx2.Response:
        file_id = an_id(IdKind.FILE, api.clock.advance(milliseconds=1))
        await add_file(api, file_id, phase, **spec)
        return await create(input_file_id=file_id)(api)

    return ask


async def create_over_a_foreign_file(api: Api) -> httpx2.Response:
    file_id = an_id(IdKind.FILE, api.clock.advance(milliseconds=1))
    await add_file(api, file_id, FilePhase.READY, namespace=OTHER_NAMESPACE)
    return await create(input_file_id=file_id)(api)


async def create_over_an_expired_file(api: Api) -> httpx2.Response:
    file = await api.upload(None, **{"expires_after[anchor]": "created_at", "expires_after[seconds]": "3600"})
    api.clock.advance(seconds=3600)
    return await create(input_file_id=file["id"])(api)


def upload(fields: dict[str, str], files: dict[str, Any] = FILE) -> Callable[[Api], Answer]:
    return lambda api: api.client.post("files", data=fields, files=files)


def expiry(spelling: str, **fields: str) -> dict[str, str]:
    return FORM | {spelling.format(key): value for key, value in fields.items()}


def send(method: str, path: str, **how: Any) -> Callable[[Api], Answer]:
    return lambda api: api.client.request(method, path, **how)


def anonymous(**headers: str) -> Callable[[Api], Answer]:
    async def ask(api: Api) -> httpx2.Response:
        async with client_of(api.app, description=api.description) as client:
            return await client.get("files", headers=headers)

    return ask


def cancel_in(phase: Phase) -> Callable[[Api], Answer]:
    async def ask(api: Api) -> httpx2.Response:
        batch = await a_batch_in(api, phase)
        return await api.client.post(f"batches/{batch.id}/cancel")

    return ask


async def delete_a_file_in_use(api: Api) -> httpx2.Response:
    batch = await api.create_batch()
    return await api.client.delete(f"files/{batch['input_file_id']}")


MISSING, TYPE, VALUE, LONG = "missing_required_parameter", "invalid_type", "invalid_value", "string_above_max_length"
LOW, HIGH, PAIRS = "integer_below_min_value", "integer_above_max_value", "object_above_max_properties"
NO_FILE, NO_BATCH = an_id(IdKind.FILE, T0), f"batch_{UNKNOWN}"
OUTPUT_EXPIRY, SECONDS = "output_expires_after", "expires_after.seconds"

REFUSALS: list[Refusal] = [
    Refusal("E1", anonymous(), 401, None, None),
    Refusal("E2", anonymous(Authorization="Bearer sk-wrong"), 401, "invalid_api_key", None),
    *(
        Refusal("E3", send("POST", "batches", content=body), 400, None, None)
        for body in (
            b"",
            b"{",
            b"[]",
            b'"x"',
            b"null",
            b"\xff",
            b'{"a": NaN}',
            b'{"a": "\\ud800"}',
            b"[" * 9999,
            b'{"a":' * 300 + b"1" + b"}" * 300,
        )
    ),
    *(
        Refusal("E4", create(**{name: ABSENT}), 400, MISSING, name)
        for name in ("input_file_id", "endpoint", "completion_window")
    ),
    *(
        Refusal("E5", create(**{name: value}), 400, TYPE, name)
        for name, value in [
            ("input_file_id", 7),
            ("input_file_id", None),
            ("endpoint", ["/v1/embeddings"]),
            ("completion_window", 24),
            ("completion_window", None),
            ("metadata", "x"),
            ("metadata", [1]),
            (OUTPUT_EXPIRY, 3600),
        ]
    ),
    *(Refusal("E6", create(endpoint=value), 400, VALUE, "endpoint") for value in ("", "/v1/x", f"/openai{CHAT}")),
    *(
        Refusal("E7", create(completion_window=value), 400, VALUE, "completion_window")
        for value in ("", "48h", "24H", " 24h")
    ),
    *(
        Refusal("E8", create(input_file_id=file_id), 404, None, "input_file_id")
        for file_id in ("", "x", NO_FILE, f"{NO_FILE}\n", NO_FILE.upper(), NO_FILE.replace("_", "-"), NO_BATCH, "\0")
    ),
    Refusal("E8", create_over_a_foreign_file, 404, None, "input_file_id"),
    Refusal("E8", create_over_an_expired_file, 404, None, "input_file_id"),
    Refusal(
        "E9", create_over(FilePhase.READY, purpose="batch_output"), 400, "invalid_purpose", "input_file_id"
    ),
    Refusal("E10", create_over(FilePhase.WRITING), 400, "file_not_ready", "input_file_id"),
    Refusal("E11", create(metadata={f"k{n}": "" for n in range(17)}), 400, PAIRS, "metadata"),
    Refusal("E12", create(metadata={"k" * 65: ""}), 400, LONG, "metadata"),
    Refusal("E13", create(metadata={"team": "v" * 513}), 400, LONG, "metadata.team"),
    Refusal("E13", create(metadata={"[key]": "v" * 513}), 400, LONG, "metadata.[key]"),
    *(
        Refusal("E14", create(metadata={"team": value}), 400, TYPE, "metadata.team")
        for value in cast(tuple[object, ...], (1, None, True, 1.5, {}, []))
    ),
    *(
        Refusal("E15", create_expiring(anchor=anchor, seconds=3600), 400, code, f"{OUTPUT_EXPIRY}.anchor")
        for anchor, code in (("now", VALUE), ("", VALUE), (7, TYPE), (None, TYPE))
    ),
    *(
        Refusal("E16", create_expiring(anchor="created_at", **seconds), 400, code, f"{OUTPUT_EXPIRY}.seconds")
        for seconds, code in (
            ({}, MISSING),
            ({"seconds": 3599}, LOW),
            ({"seconds": -(10**40)}, LOW),
            ({"seconds": 2_592_001}, HIGH),
            ({"seconds": 10**40}, HIGH),
            ({"seconds": "3600"}, TYPE),
            ({"seconds": 3600.5}, TYPE),
            ({"seconds": True}, TYPE),
        )
    ),
    *(
        refusal
        for spelling in ("expires_after[{}]", "expires_after.{}")
        for refusal in (
            Refusal("E15", upload(expiry(spelling, anchor="now", seconds="3600")), 400, VALUE, "expires_after.anchor"),
            Refusal("E15", upload(expiry(spelling, seconds="3600")), 400, MISSING, "expires_after.anchor"),
            Refusal("E16", upload(expiry(spelling, anchor="created_at")), 400, MISSING, SECONDS),
            *(
                Refusal("E16", upload(expiry(spelling, anchor="created_at", seconds=text)), 400, code, SECONDS)
                for text, code in (
                    ("3599", LOW),
                    ("2592001", HIGH),
                    ("9" * 5000, HIGH),
                    ("", TYPE),
                    ("3600.0", TYPE),
                    ("3_600", TYPE),
                    ("+3600", TYPE),
                    (" 3600", TYPE),
                )
            ),
        )
    ),
    Refusal("E17", upload(FORM, {"other": ("in.jsonl", b"{}\n")}), 400, MISSING, "file"),
    Refusal("E17", upload({}), 400, MISSING, "purpose"),
    Refusal("E17", upload(FORM, {"file": (None, b"{}\n")}), 400, MISSING, "file"),
    *(
        Refusal("E18", upload({"purpose": purpose}), 400, VALUE, "purpose")
        for purpose in ("batch_output", "fine-tune", "BATCH", "batch ", "")
    ),
    *(
        Refusal("E19", upload(FORM, {"file": (name, b"")}), 400, "empty_file", "file")
        for name in ("in.jsonl", "upload")
    ),
    *(
        Refusal("E20", upload(FORM, {"file": (name, b"{}\n")}), 400, "invalid_file_format", "file")
        for name in ("a.txt", "a.jsonl.gz", "dir.jsonl/a.json", "n" * 300 + ".txt", "a.jsonl ")
    ),
    *(
        Refusal("E22", send("POST", "files", content=b"{}", headers=headers), 415, None, None)
        for headers in ({}, {"content-type": "application/json"}, {"content-type": "multipart/mixed; boundary=x"})
    ),
    *(
        Refusal("E23", send(method, path.format(file_id)), 404, None, "id")
        for method, path in (("GET", "files/{}"), ("GET", "files/{}/content"), ("DELETE", "files/{}"))
        for file_id in (NO_FILE, "x", NO_FILE.upper(), NO_BATCH, "%00", "file_")
    ),
    *(
        Refusal("E24", send(method, path.format(batch_id)), 404, None, None)
        for method, path in (("GET", "batches/{}"), ("POST", "batches/{}/cancel"))
        for batch_id in (NO_BATCH, an_id(IdKind.BATCH, T0), "x", NO_FILE, "%00")
    ),
    *(
        Refusal("E25", send("GET", f"models/{model}"), 404, "model_not_found", "model")
        for model in ("x", "a/b:c", "a%2Fb", "")
    ),
    *(
        Refusal("E26", cancel_in(phase), 409, None, None)
        for phase in (Phase.COMPLETED, Phase.FAILED, Phase.EXPIRED)
    ),
    Refusal("E27", delete_a_file_in_use, 409, "file_in_use", "id"),
    *(
        Refusal("E28", send("GET", path, params={"limit": limit}), 400, code, "limit")
        for path, most in (("files", 10_000), ("batches", 100))
        for limit, code in (
            ("x", TYPE),
            ("", TYPE),
            ("1.0", TYPE),
            ("1_0", TYPE),
            (" 1", TYPE),
            ("٣", TYPE),
            ("0", LOW),
            ("-1", LOW),
            ("-" + "9" * 30, LOW),
            (str(most + 1), HIGH),
            ("9" * 5000, HIGH),
        )
    ),
    *(Refusal("E28", send("GET", f"files?order={order}"), 400, VALUE, "order") for order in ("ASC", "", "up")),
    *(
        Refusal("E28", send("GET", path, params={"after": after}), 400, VALUE, "after")
        for path in ("files", "batches")
        for after in ("", "x", f"file_{UNKNOWN}", f"batch_{UNKNOWN}")
    ),
    *(
        Refusal("E29", send("GET", path), 404, None, None)
        for path in ("nothing", "files/", "files/x/y", "batches/", "batches/x/cancel/", "uploads/", "", "chat")
    ),
    *(
        Refusal("E29", send(method, path), 405, None, None)
        for method, path in (
            ("PUT", "files"),
            ("PATCH", "files/x"),
            ("POST", "files/x/content"),
            ("DELETE", "batches/x"),
            ("GET", "uploads"),
            ("GET", "uploads/x/parts"),
            ("GET", "batches/x/cancel"),
            ("DELETE", "models/x"),
            ("POST", "models"),
            ("OPTIONS", "models"),
            ("BREW", "batches"),
        )
    ),
]  # fmt: skip


@pytest.mark.asyncio(loop_scope="module")
@pytest.mark.parametrize("refusal", REFUSALS, ids=str)
async def test_what_contract_14_refuses_is_refused_as_it_says(lasting_api: Api, refusal: Refusal) -> None:
    assert error_of(await refusal.ask(lasting_api), refusal.status) == (refusal.code, refusal.param)
