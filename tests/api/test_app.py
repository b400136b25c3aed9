"""What holds for every answer (contract 1.1, 1.3 and 1.4); `harness` checks most of it on each answer of every test."""

import json
import time

import pytest
import structlog
from structlog.testing import capture_logs

from nightshift_api.app import PREFIXES
from nightshift_api.context import Context
from nightshift_api.errors import respond
from nightshift_crds.errors import Unavailable
from nightshift_crds.names import uuid7_ms
from tests.api.faults import Weak, failing
from tests.api.harness import BASE, KEY, Api, call, error_of, make_settings

AUTHORIZATION = (b"authorization", f"Bearer {KEY}".encode())
SCOPE = {"path": "/v1/files", "headers": [AUTHORIZATION]}


@pytest.mark.parametrize("prefix", PREFIXES)
async def test_every_prefix_serves_the_same_objects(api: Api, prefix: str) -> None:
    file = await api.upload()
    answer = await api.client.get(f"{BASE}{prefix}/files/{file['id']}")
    assert answer.json() == file


async def test_every_answer_has_a_request_id_of_its_own(api: Api) -> None:
    answers = [await api.client.get(path) for path in ("models", "models", "nothing", "files?limit=0")]
    assert len({answer.headers["x-request-id"] for answer in answers}) == 4


@pytest.mark.parametrize("accept", ["application/binary", "text/html", "nonsense", "*/*;q=0"])
async def test_nothing_is_refused_for_what_it_accepts(api: Api, accept: str) -> None:
    file = await api.upload()
    for path in ("files", f"files/{file['id']}/content"):
        assert (await api.client.get(path, headers={"Accept": accept})).status_code == 200


async def test_a_method_that_a_path_has_not_is_told_with_those_that_it_has(api: Api) -> None:
    answer = await api.client.put("files")
    assert error_of(answer, 405) == (None, None)
    assert set(answer.headers["allow"].split(", ")) == {"GET", "HEAD", "POST"}


@pytest.mark.parametrize("path", ["", "/", "/openai", "/openai/v2/files", "/healthz/", "/v1"])
async def test_a_path_outside_of_the_prefixes_is_an_error_of_the_same_shape(api: Api, path: str) -> None:
    assert error_of(await api.client.get(f"{BASE}{path}"), 404) == (None, None)


@pytest.mark.parametrize("host", [b"[::", b"a b", b"\xff", b"x:y:z", b""])
async def test_a_host_header_can_hold_anything(api: Api, host: bytes) -> None:
    scope = SCOPE | {"method": "GET", "path": "/v1/nothing", "headers": [AUTHORIZATION, (b"host", host)]}
    assert (await call(api.app, scope, []))[0]["status"] == 404


async def test_a_query_can_hold_anything(api: Api) -> None:
    file = await api.upload()
    assert await api.ids("files", nobody="knows", x="") == [file["id"]]
    for query in (b"%ff=%ff", b"&&=&", b"limit=x&limit=1", b"%00"):
        assert (await call(api.app, SCOPE | {"method": "GET", "query_string": query}, []))[0]["status"] == 200


@pytest.mark.parametrize("path", ["files", "batches", "models", f"{BASE}/healthz", f"{BASE}/openapi.json"])
async def test_a_head_is_answered_as_the_get_that_it_stands_for(api: Api, path: str) -> None:
    assert (await api.client.head(path)).status_code == (await api.client.get(path)).status_code == 200


async def test_a_bug_is_told_without_what_it_was(weak: Weak) -> None:
    weak.cluster.before("list", failing(ZeroDivisionError("secret")))
    answer = await weak.api.client.get("models")
    assert error_of(answer, 500) == (None, None)
    assert "secret" not in answer.text
    assert "Traceback" not in answer.text


@pytest.mark.parametrize(("delay_s", "told"), [(0, "1"), (0.4, "1"), (5, "5"), (59.6, "60"), (60, "60"), (3600, "60")])
async def test_who_is_told_to_come_back_is_told_when(weak: Weak, delay_s: float, told: str) -> None:
    weak.cluster.before("list", failing(Unavailable("secret", delay_s=delay_s)))
    answer = await weak.api.client.get("models")
    assert error_of(answer, 503) == (None, None)
    assert answer.headers["retry-after"] == told
    assert "secret" not in answer.text


@pytest.mark.parametrize(
    ("statuses", "kind"),
    [
        ((400, 401, 403, 404, 405, 409, 413, 415), "invalid_request_error"),
        ((429,), "rate_limit_error"),
        ((500, 502, 503, 504), "server_error"),
    ],
)
def test_the_type_of_an_error_follows_its_status(statuses: tuple[int, ...], kind: str) -> None:
    for status in statuses:
        answer = respond(status, "m")
        assert answer.status_code == status
        assert json.loads(bytes(answer.body)) == {"error": {"message": "m", "type": kind, "param": None, "code": None}}


async def test_without_a_test_the_clock_is_the_world_s_and_ids_are_made_of_it(api: Api) -> None:
    context = Context(api.lists, api.bucket, make_settings(api.keys_file.parent))
    before = time.time_ns() // 1_000_000
    ids = {context.make_uuid() for _ in range(100)}
    times = [uuid7_ms(value) for value in ids]
    assert len(ids) == 100
    assert all(before <= (ms or 0) <= time.time_ns() // 1_000_000 for ms in times)


async def test_a_request_is_one_line_in_the_log_and_no_payload_is_in_it(api: Api) -> None:
    with capture_logs([structlog.contextvars.merge_contextvars]) as logs:
        answer = await api.client.get("files?after=secret")
    (line,) = logs
    assert line.pop("ms") >= 0
    assert line == {
        "event": "http.request",
        "log_level": "info",
        "request_id": answer.headers["x-request-id"],
        "method": "GET",
        "path": "/openai/v1/files",
        "status": 400,
    }


async def test_a_bug_is_in_the_log_with_its_status(weak: Weak) -> None:
    weak.cluster.before("list", failing(ZeroDivisionError()))
    with capture_logs() as logs:
        await weak.api.client.get("models")
    assert [(line["event"], line["status"]) for line in logs] == [("http.request", 500)]
