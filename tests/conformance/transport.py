"""What holds for every call: paths, keys, headers, the error body, values, ids (contract 1, 2, 14)."""

import re
import time
from typing import Any

from openai._models import validate_type
from openai.pagination import SyncCursorPage, SyncPage
from openai.types import Batch, FileDeleted, FileObject, Model, Upload
from openai.types.uploads import UploadPart

from tests.conformance.raw import Answer, Part
from tests.conformance.statements import OPEN, Place, differs, superset
from tests.conformance.target import CHAT, NOBODY, Object, Target

paths = Place("Paths and keys")
headers = Place("Headers and errors")
values = Place("Values and ids")
UUID = "[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}"
_TYPES: dict[str, Any] = {
    "batch": Batch, "file": FileObject, "model": Model, "upload": Upload, "upload.part": UploadPart,
}  # fmt: skip
_ERRORS = {400, 401, 404, 405, 409, 413, 415}


def answers(target: Target) -> list[Answer]:
    """Get an answer of every kind, and give all that there have been."""
    assert target.stories
    raw = target.raw
    refused = (
        raw.post("/batches", b"not json"),
        target.with_key(None).get("/files"),
        raw.get("/nothing"),
        raw.ask("PUT", "/files"),
        raw.post(f"/batches/{target.completed.id}/cancel"),
        raw.ask("POST", "/files", Content_Length=str(10**12), Content_Type="multipart/form-data; boundary=x"),
        raw.post("/files", {"purpose": "batch"}),
    )
    assert {answer.status for answer in refused} == _ERRORS
    file_id = target.completed.created["input_file_id"]
    for path in ("/files", "/batches", "/models", f"/models/{target.model}", f"/files/{file_id}/content"):
        assert raw.get(path).status == 200
    upload = raw.post("/uploads", {"filename": "a.jsonl", "purpose": "batch", "bytes": 1, "mime_type": "x"}).ok
    assert raw.send_form(f"/uploads/{upload['id']}/parts", Part("data", b"x", "upload")).ok
    assert raw.delete(f"/files/{target.a_file()['id']}").ok
    return raw.seen


def errors(target: Target) -> list[Answer]:
    return [answer for answer in answers(target) if answer.status >= 400]


# --- paths and keys ---------------------------------------------------------------------------------------------------


@paths.says("1.1", "the calls are at `/openai/v1` and at `/v1`", superset("OpenAI has `/v1` only"), sdk=("use_v1",))
def _(target: Target) -> None:
    found = [target.raw.ask("GET", "/models", prefix=prefix).ok for prefix in ("/openai/v1", "/v1")]
    assert found[0] == found[1] != {}


@paths.says("1.1", "no route has a slash at its end, and none redirects", OPEN)
def _(target: Target) -> None:
    for path in ("/files/", "/batches/", "/uploads/"):
        target.raw.get(path).refuses(404, None, None)


@paths.says("1.1", "a `base_url` may end in a slash or not", sdk=("use_a_base_url_with_a_slash",))
def _(target: Target) -> None:
    assert target.raw.get("/models").ok


@paths.says("1.2", "`Authorization: Bearer KEY` is the key", sdk=("use_models",))
def _(target: Target) -> None:
    assert target.with_key(None).ask("GET", "/models", Authorization=f"Bearer {target.key}").ok


@paths.says("1.2", "so is `api-key: KEY`", superset("Azure's clients send it"))
def _(target: Target) -> None:
    assert target.with_key(None).ask("GET", "/models", api_key=target.key).ok


@paths.says("1.2", "no key is a 401 without a code (E1)")
def _(target: Target) -> None:
    for path in ("/files", "/batches", "/models", f"/batches/batch_{NOBODY}"):
        target.with_key(None).get(path).refuses(401, None, None)


@paths.says("1.2", "a wrong key is a 401 with `invalid_api_key` (E2)", sdk=("meet_clear_errors",))
def _(target: Target) -> None:
    target.with_key("sk-wrong").get("/files").refuses(401, "invalid_api_key", None)


@paths.says("1.2", "no answer shows a key", differs("OpenAI echoes a wrong key in part"))
def _(target: Target) -> None:
    refused = target.with_key("sk-quite-wrong-1234").get("/files")
    assert "1234" not in f"{refused.headers}" + refused.body.decode()


@paths.says(
    "1.2",
    "what belongs to another key's namespace is not there: 404",
    OPEN,
    only_local="the chart of the tests serves one namespace",
)
def _(target: Target) -> None:
    other = target.with_key(target.other_key)
    batch = target.completed.shown[-1]
    assert other.get("/files").ok["data"] == other.get("/batches").ok["data"] == []
    other.get(f"/files/{batch['input_file_id']}").refuses(404, None, "id")
    other.get(f"/files/{batch['output_file_id']}/content").refuses(404, None, "id")
    other.delete(f"/files/{batch['input_file_id']}").refuses(404, None, "id")
    other.get(f"/batches/{batch['id']}").refuses(404, None, None)
    other.post(f"/batches/{batch['id']}/cancel").refuses(404, None, None)
    body = {"input_file_id": batch["input_file_id"], "endpoint": batch["endpoint"], "completion_window": "24h"}
    other.post("/batches", body).refuses(404, None, "input_file_id")


@paths.says("1.2", "headers for OpenAI's own accounting are ignored", sdk=("send_headers_of_an_organization",))
def _(target: Target) -> None:
    extra: Object = {
        "OpenAI_Organization": "org-x",
        "OpenAI_Project": "proj_x",
        "OpenAI_Beta": "x",
        "X_Stainless_Lang": "x",
    }
    assert target.raw.ask("GET", "/models", **extra).ok


@paths.says("14", "an unknown route is a 404, a wrong method a 405 (E29)", OPEN)
def _(target: Target) -> None:
    for method, path in (("GET", "/nothing"), ("POST", "/chat/completions"), ("GET", "/files/x/y/z")):
        assert target.raw.ask(method, path).refuses(404, None, None)
    for method, path in (("PUT", "/files"), ("DELETE", f"/batches/{target.completed.id}"), ("POST", "/models")):
        assert target.raw.ask(method, path).refuses(405, None, None)


# --- headers and errors -----------------------------------------------------------------------------------------------


@headers.says("1.3", "JSON is typed `application/json`", sdk=("read_a_batch",))
def _(target: Target) -> None:
    found = {answer.headers["content-type"] for answer in answers(target) if not answer.path.endswith("/content")}
    assert found == {"application/json"}


@headers.says("1.3", "every answer has an `x-request-id`, and no two the same", sdk=("read_request_ids",))
def _(target: Target) -> None:
    ids = [answer.headers["x-request-id"] for answer in answers(target)]
    assert all(re.fullmatch("req_[0-9a-f]+", found) for found in ids)
    assert len(set(ids)) == len(ids)


@headers.says("1.3", "no `Accept` is refused", sdk=("upload_in_every_form",))
def _(target: Target) -> None:
    for path in ("/models", f"/files/{target.completed.created['input_file_id']}/content"):
        assert target.raw.ask("GET", path, Accept="application/binary").status == 200


@headers.says(
    "1.4",
    "every error is `{error: {message, type, param, code}}`, all four always there",
    superset("OpenAI leaves keys out of some"),
    sdk=("meet_clear_errors",),
)
def _(target: Target) -> None:
    for answer in errors(target):
        assert answer.json.keys() == {"error"}
        error = answer.json["error"]
        assert error.keys() == {"message", "type", "param", "code"}
        assert type(error["message"]) is type(error["type"]) is str
        assert error["message"]
        assert all(error[name] is None or type(error[name]) is str for name in ("param", "code"))


@headers.says("1.4", "the `type` of a 4xx is `invalid_request_error`", sdk=("meet_clear_errors",))
def _(target: Target) -> None:
    found = {answer.json["error"]["type"] for answer in errors(target) if answer.status in _ERRORS}
    assert found == {"invalid_request_error"}


@headers.says("1.4", "no answer is a 422 or a 500")
def _(target: Target) -> None:
    assert not {answer.status for answer in answers(target)} & {422, 500}


@headers.says(
    "1.5",
    "a 409 says `x-should-retry: false`, and the SDKs send it once",
    superset("without it both SDKs send a request three times that cannot succeed"),
    sdk=("send_a_conflict_once",),
)
def _(target: Target) -> None:
    conflicts = [answer for answer in answers(target) if answer.status == 409]
    assert {answer.headers["x-should-retry"] for answer in conflicts} == {"false"}


@headers.says(
    "14",
    "a store that does not answer is a 503 with a `Retry-After` of 60 s at most (E31)",
    OPEN,
    only_local="it takes the bucket away",
)
def _(target: Target) -> None:
    assert target.inside
    with target.inside.apart() as other:
        assert other.inside
        with other.inside.without_bucket():
            refused = other.raw.upload(b"x")
        assert refused.refuses(503, None, None).json["error"]["type"] == "server_error"
        assert 1 <= int(refused.headers["retry-after"]) <= 60
        assert other.raw.upload(b"x").ok


@headers.says(
    "14",
    "too many requests are a 429 `rate_limit_exceeded` with a `Retry-After` of 60 s at most (E30)",
    only_local="it takes an installation with a limit that a test can reach",
)
def _(target: Target) -> None:
    assert target.inside
    with target.inside.apart(NIGHTSHIFT_MAX_CREATES_PER_HOUR=1) as other:
        file = other.a_file()
        asked = {"input_file_id": file["id"], "endpoint": CHAT, "completion_window": "24h"}
        assert other.raw.post("/batches", asked).ok
        refused = other.raw.post("/batches", asked).refuses(429, "rate_limit_exceeded", None)
        assert refused.json["error"]["type"] == "rate_limit_error"
        assert 1 <= int(refused.headers["retry-after"]) <= 60
        assert other.raw.get("/batches").ok


# --- values and ids ---------------------------------------------------------------------------------------------------


@values.says("1.4", "OpenAI's own response validation (strict) accepts every response", sdk=("read_a_batch",))
def _(target: Target) -> None:
    checked = [_validate(answer.json) for answer in answers(target) if _is_object(answer)]
    assert {type(found) for found in checked} >= {*_TYPES.values(), FileDeleted}


def _is_object(answer: Answer) -> bool:
    return answer.status == 200 and answer.headers["content-type"] == "application/json"


def _validate(value: Any) -> object:
    if value["object"] != "list":
        return validate_type(type_=FileDeleted if "deleted" in value else _TYPES[value["object"]], value=value)
    kind = _TYPES[value["data"][0]["object"]] if value["data"] else Batch
    page: Any = SyncPage if kind is Model else SyncCursorPage
    return validate_type(type_=page[kind], value=value)


@values.says("1.7", "times are whole seconds, and what is not set is null and there", sdk=("read_a_batch",))
def _(target: Target) -> None:
    times = [(o, name) for answer in answers(target) if _is_object(answer) for o in _flat(answer.json) for name in o]
    for found, name in times:
        if name.endswith("_at") or name == "created":
            assert found[name] is None or type(found[name]) is int, (name, found)
            assert found[name] is None or found[name] > 1.7e9


def _flat(value: dict[str, Any]) -> list[dict[str, Any]]:
    return [value, *value["data"]] if value["object"] == "list" else [value]


@values.says("1.7", "fields of a request that nobody knows are ignored", OPEN)
def _(target: Target) -> None:
    file = target.a_file(colour="red")
    assert target.raw.get("/files", colour="red", limit=1).ok
    target.create(file["id"], colour="red", completion_window="12h").refuses(400, "invalid_value", "completion_window")
    batch = target.create(file["id"], colour="red").ok
    assert "colour" not in batch
    assert target.raw.post(f"/batches/{batch['id']}/cancel").status in {200, 409}


@values.says("2", "the id of a file is `file_` and a UUID", differs("OpenAI's is `file-...`"))
def _(target: Target) -> None:
    assert re.fullmatch(f"file_{UUID}", target.a_file()["id"])


@values.says("2", "the id of a batch is `batch_` and a UUID", differs("OpenAI's has no UUID"))
def _(target: Target) -> None:
    assert re.fullmatch(f"batch_{UUID}", target.completed.id)


@values.says("2", "ids sort by the time of their making", superset("OpenAI promises nothing of the kind"))
def _(target: Target) -> None:
    first = target.a_file()["id"]
    time.sleep(0.002)  # the grain of an id is a millisecond
    assert first < target.a_file()["id"]


@values.says("2", "an id of a wrong kind or shape is a 404, as one that is unknown", OPEN, sdk=("meet_clear_errors",))
def _(target: Target) -> None:
    for wrong in (
        f"file_{NOBODY}",
        f"batch_{NOBODY}",
        "file-abc",
        "file_",
        "x",
        f"file_{NOBODY}0",
        "%00",
        "file_%2e%2e",
    ):
        target.raw.get(f"/files/{wrong}").refuses(404, None, "id")
        target.raw.get(f"/files/{wrong}/content").refuses(404, None, "id")
        target.raw.delete(f"/files/{wrong}").refuses(404, None, "id")
    for wrong in (f"batch_{NOBODY}", f"file_{NOBODY}", "batch_abc", "x", f"batch_{NOBODY}0", "%00"):
        target.raw.get(f"/batches/{wrong}").refuses(404, None, None)
        target.raw.post(f"/batches/{wrong}/cancel").refuses(404, None, None)
