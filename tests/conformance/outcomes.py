"""What validation finds in lines, and what stands in the result files (contract 8, 9, 10)."""

import json
from typing import Any

from tests.conformance.statements import OPEN, Place, differs, half_known, superset
from tests.conformance.target import EMBEDDINGS, Target, a_line, an_embeddings_line

validation = Place("Validation: `errors` of a batch")
results = Place("Output and error files")


def a_body(target: Target, **replaced: Any) -> dict[str, Any]:
    return {"model": target.model, "messages": [{"role": "user", "content": "x"}]} | replaced


@validation.says("8", "all problems are found, in the order of lines; blank ones count", sdk=("fail_validation",))
def _(target: Target) -> None:
    content = b"{not json\n\n" + a_line("a", body=a_body(target)) + b"[]\n\r\n{broken\n"
    found = target.problems(content)
    assert found == [("invalid_json_line", 1, None), ("invalid_request", 4, None), ("invalid_json_line", 6, None)]


@validation.says("8", "each has `code`, `message`, `param` and `line`, all always there", sdk=("fail_validation",))
def _(target: Target) -> None:
    errors = target.failed.shown[-1]["errors"]
    assert errors.keys() == {"object", "data"}
    assert errors["object"] == "list"
    assert errors["data"]
    for problem in errors["data"]:
        assert problem.keys() == {"code", "message", "param", "line"}
        assert problem["message"]


@validation.says("8", "what is not strict JSON in UTF-8 is an `invalid_json_line`", OPEN, sdk=("fail_validation",))
def _(target: Target) -> None:
    wrong = [b"{", b"\xff{}", b'{"a": NaN}', b"[" * 50_000, b"{'a': 1}", b'{"a": 1} x', b'{"a": "\xed\xa0\x80"}']
    found = target.problems(b"\n".join(wrong))
    assert found == [("invalid_json_line", n + 1, None) for n in range(len(wrong))]


@validation.says("8", "a key of a line that is missing is a `missing_required_parameter`")
def _(target: Target) -> None:
    keys = ("custom_id", "method", "url", "body")
    content = b"".join(a_line(f"row-{n}", body=a_body(target), without=key) for n, key in enumerate(keys))
    assert target.problems(content) == [("missing_required_parameter", n + 1, key) for n, key in enumerate(keys)]


@validation.says("8", "one of a wrong type or value is an `invalid_request`", OPEN)
def _(target: Target) -> None:
    wrong: list[tuple[dict[str, Any], str]] = [
        ({"custom_id": ""}, "custom_id"),
        ({"custom_id": 7}, "custom_id"),
        ({"custom_id": "x" * 513}, "custom_id"),
        ({"method": "GET"}, "method"),
        ({"method": None}, "method"),
        ({"body": "x"}, "body"),
        ({"body": {"messages": []}}, "body.model"),
        ({"body": {"model": 1, "messages": []}}, "body.model"),
        ({"body": {"model": target.model}}, "body.messages"),
    ]
    lines = [json.loads(a_line(f"row-{n}", body=a_body(target))) | fields for n, (fields, _) in enumerate(wrong)]
    found = target.problems("\n".join(json.dumps(line) for line in lines).encode())
    assert found == [("invalid_request", n + 1, param) for n, (_, param) in enumerate(wrong)]


@validation.says(
    "8", "a `custom_id` seen before is a `duplicate_custom_id`", half_known("OpenAI's word is not known; it is Azure's")
)
def _(target: Target) -> None:
    content = b"".join(a_line(name, body=a_body(target)) for name in ("a", "b", "a"))
    assert target.problems(content) == [("duplicate_custom_id", 3, "custom_id")]


@validation.says("8", "a `url` other than the batch's endpoint is an `invalid_url`")
def _(target: Target) -> None:
    urls = (EMBEDDINGS, "/openai/v1/chat/completions")
    content = b"".join(a_line(url, url=url, body=a_body(target, input="x")) for url in urls)
    assert target.problems(content) == [("invalid_url", n + 1, "url") for n in range(2)]


@validation.says("8", "a model that is not served is a `model_not_found`", sdk=("fail_validation",))
def _(target: Target) -> None:
    content = b"".join(a_line(f"{n}", body=a_body(target, model="nothing")) for n in range(2))
    assert target.problems(content) == [("model_not_found", n + 1, "body.model") for n in range(2)]


@validation.says(
    "8", "a second model is a `mismatched_model`", half_known("OpenAI's word is not known; Azure says `model_mismatch`")
)
def _(target: Target) -> None:
    content = b"".join(a_line(name, body=a_body(target, model=name)) for name in target.models)
    assert target.problems(content) == [("mismatched_model", 2, "body.model")]


@validation.says("8", "`stream: true` is a `streaming_unsupported`")
def _(target: Target) -> None:
    content = a_line("a", body=a_body(target, stream=True)) + a_line("b", body=a_body(target, stream=False))
    assert target.problems(content) == [("streaming_unsupported", 1, "body.stream")]


@validation.says(
    "8", "a file without a line is an `empty_file`", half_known("OpenAI's word is not known; it is Azure's")
)
def _(target: Target) -> None:
    assert target.problems(b"\n\r\n\n") == [("empty_file", None, None)]


@validation.says(
    "8", "more than 50,000 lines are `too_many_tasks`", half_known("OpenAI's word is not known; it is Azure's")
)
def _(target: Target) -> None:
    row = a_line("%05d", body=a_body(target)).decode()
    assert target.problems("".join(row % n for n in range(50_001)).encode()) == [("too_many_tasks", None, None)]


@validation.says("8", "more than 50,000 embedding inputs are `too_many_embedding_inputs`", OPEN)
def _(target: Target) -> None:
    content = an_embeddings_line("a", target.model, ["x"] * 50_001)
    assert target.problems(content, endpoint=EMBEDDINGS) == [("too_many_embedding_inputs", None, None)]


@validation.says("8", "no more than 100 are shown, and one that says how many are left out", OPEN)
def _(target: Target) -> None:
    found = target.problems(b"{\n" * 150)
    assert found[:100] == [("invalid_json_line", n + 1, None) for n in range(100)]
    assert [(line, param) for _, line, param in found[100:]] == [(None, None)]


@validation.says("8", "a BOM, `\\r\\n` and a last line without an end are fine", superset("Azure refuses a BOM"))
def _(target: Target) -> None:
    ended = target.odd.shown[-1]
    assert ended["request_counts"] == {"total": 2, "completed": 2, "failed": 0}


@validation.says("8", "keys of a line that nobody knows are ignored", OPEN)
def _(target: Target) -> None:
    assert "again" in {row["custom_id"] for row in target.odd.rows("output")}


# --- result files -----------------------------------------------------------------------------------------------------


@results.says(
    "10.1", "a line of the output file is `{id, custom_id, response, error: null}`", sdk=("run_a_batch_to_its_end",)
)
def _(target: Target) -> None:
    for row in target.completed.rows("output"):
        assert row.keys() == {"id", "custom_id", "response", "error"}
        assert row["error"] is None
        assert row["response"].keys() == {"status_code", "request_id", "body"}
        assert (row["response"]["status_code"], bool(row["response"]["request_id"])) == (200, True)


@results.says("10.1", "`response.body` is what the model answered", sdk=("run_a_batch_to_its_end",))
def _(target: Target) -> None:
    bodies = {row["custom_id"]: row["response"]["body"] for row in target.completed.rows("output")}
    said = {name: body["choices"][0]["message"]["content"] for name, body in bodies.items()}
    assert said == {"row-0": "echo one", "row-1": "echo two", "row-2": "echo three"}


@results.says("2", "the `id` of a line is `batch_req_...`, and no two are the same")
def _(target: Target) -> None:
    rows = target.completed.rows("output") + target.completed.rows("error")
    assert all(row["id"].startswith("batch_req_") for row in rows)
    assert len({row["id"] for row in rows}) == 4


@results.says(
    "10.2",
    "a line that the model refused is in the error file: `response` null, `error` filled",
    differs("OpenAI has the answer in `response`; so does Nightshift with `errorLineFormat: openai`"),
    sdk=("run_a_batch_to_its_end",),
)
def _(target: Target) -> None:
    (row,) = target.completed.rows("error")
    assert (row["custom_id"], row["response"]) == ("row-3", None)
    assert row["error"]["code"] == "invalid_request"
    assert row["error"]["message"] == "as you asked"


@results.says(
    "10.2",
    "`error` has `type`, `param`, `status_code` and `request_id` besides",
    superset("OpenAI has code and message"),
)
def _(target: Target) -> None:
    (row,) = target.completed.rows("error")
    error = row["error"]
    assert error.keys() == {"code", "message", "type", "param", "status_code", "request_id"}
    assert (error["type"], error["param"], error["status_code"]) == ("invalid_request_error", None, 400)


@results.says("10.2", "the code of an error is the model server's own, or goes by its status", OPEN)
def _(target: Target) -> None:
    codes = {400: "invalid_request", 401: "upstream_auth_error", 404: "model_not_found", 413: "request_too_large"}
    errors = [row["error"] for row in target.hopeless.rows("error")]
    assert {error["status_code"]: error["code"] for error in errors if error["status_code"] != 200} == codes


@results.says("10.2", "an answer that is no JSON is an `invalid_response`", OPEN)
def _(target: Target) -> None:
    (row,) = [row for row in target.hopeless.rows("error") if row["custom_id"] == "row-0"]
    assert (row["response"], row["error"]["code"]) == (None, "invalid_response")


@results.says(
    "10.3",
    "what may pass is tried again: only how it ended is written and counted",
    OPEN,
)
def _(target: Target) -> None:
    assert "again" in {row["custom_id"] for row in target.odd.rows("output")}
    assert target.odd.shown[-1]["error_file_id"] is None


@results.says(
    "10",
    "lines end with a newline each; each `custom_id` is there once over both files",
    sdk=("run_a_batch_to_its_end",),
)
def _(target: Target) -> None:
    ended = target.completed.shown[-1]
    bodies = [target.raw.get(f"/files/{ended[f'{kind}_file_id']}/content").body for kind in ("output", "error")]
    assert all(body.endswith(b"\n") for body in bodies)
    ids = [json.loads(line)["custom_id"] for body in bodies for line in body.splitlines()]
    assert len(ids) == len(set(ids)) == 4
