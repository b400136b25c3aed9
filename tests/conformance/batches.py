"""The calls on batches (contract 4.2 to 4.5, 14)."""

from typing import Any

from tests.conformance.fields import is_time
from tests.conformance.raw import Answer
from tests.conformance.statements import OPEN, Place, differs, superset
from tests.conformance.target import CHAT, NOBODY, Object, Target

create = Place("POST /batches")
retrieve = Place("GET /batches/{id}")
cancel = Place("POST /batches/{id}/cancel")


def refused(target: Target, **fields: Any) -> Answer:
    """Ask for a batch of a file that there is not: what is refused first is what the fields are refused for."""
    return target.create(f"file_{NOBODY}", **fields)


@create.says(
    "4.2",
    "it answers 200 with a batch that is `validating`, before the input is looked at",
    sdk=("read_a_batch", "run_a_batch_to_its_end"),
)
def _(target: Target) -> None:
    for story in target.stories:
        assert (story.created["status"], story.created["metadata"]) == ("validating", story.shown[-1]["metadata"])


@create.says("14", "a body that is no JSON object is a 400 without a code (E3)", OPEN)
def _(target: Target) -> None:
    for body in (b"", b"not json", b"[]", b'"x"', b"null", b"{", b"[" * 100_000, b'{"a": NaN}', b"\xff"):
        target.raw.post("/batches", body).refuses(400, None, None)


@create.says("14", "a required field that is missing is refused by its name (E4)")
def _(target: Target) -> None:
    full = {"input_file_id": f"file_{NOBODY}", "endpoint": CHAT, "completion_window": "24h"}
    for name in full:
        left = {key: value for key, value in full.items() if key != name}
        target.raw.post("/batches", left).refuses(400, "missing_required_parameter", name)


@create.says("14", "a field of a wrong type is refused by its path (E5)")
def _(target: Target) -> None:
    for name, wrong in (("endpoint", 1), ("completion_window", 24), ("input_file_id", ["x"]), ("metadata", "x")):
        target.raw.post(
            "/batches", {"input_file_id": "x", "endpoint": CHAT, "completion_window": "24h"} | {name: wrong}
        ).refuses(400, "invalid_type", name)
    expiry = {"anchor": "created_at", "seconds": "3600"}
    refused(target, output_expires_after=expiry).refuses(400, "invalid_type", "output_expires_after.seconds")


@create.says(
    "14",
    "an endpoint that is not served is refused (E6)",
    differs("OpenAI's body has `detail` here"),
    sdk=("meet_clear_errors",),
)
def _(target: Target) -> None:
    for endpoint in ("/v1/nothing", "/openai/v1/chat/completions", "", "/v1/chat/completions/"):
        refused(target, endpoint=endpoint).refuses(400, "invalid_value", "endpoint")


@create.says("14", "a window other than `24h` is refused (E7)", sdk=("meet_clear_errors",))
def _(target: Target) -> None:
    for window in ("48h", "", "1d", "24H"):
        refused(target, completion_window=window).refuses(400, "invalid_value", "completion_window")


@create.says(
    "14",
    "a file that is unknown is a 404 (E8)",
    differs("OpenAI is said to answer 400, or to fail the batch later"),
    sdk=("meet_clear_errors",),
)
def _(target: Target) -> None:
    for file_id in (f"file_{NOBODY}", "file-abc", "", target.completed.id):
        target.create(file_id).refuses(404, None, "input_file_id")


@create.says("14", "a file with another purpose is refused (E9)", OPEN)
def _(target: Target) -> None:
    target.create(target.completed.shown[-1]["output_file_id"]).refuses(400, "invalid_purpose", "input_file_id")


@create.says("14", "at most 16 pairs of `metadata` (E11)", sdk=("meet_limits_of_metadata",))
def _(target: Target) -> None:
    pairs = {f"key-{n}": "x" for n in range(17)}
    refused(target, metadata=pairs).refuses(400, "object_above_max_properties", "metadata")


@create.says("14", "a key of at most 64 characters (E12)", OPEN, sdk=("meet_limits_of_metadata",))
def _(target: Target) -> None:
    refused(target, metadata={"k" * 65: "x"}).refuses(400, "string_above_max_length", "metadata")


@create.says("14", "a value of at most 512 characters (E13)", sdk=("meet_limits_of_metadata",))
def _(target: Target) -> None:
    refused(target, metadata={"team": "x" * 513}).refuses(400, "string_above_max_length", "metadata.team")


@create.says("14", "which is a string (E14)")
def _(target: Target) -> None:
    wrong: list[Any] = [1, None, True, ["x"], {}]
    for value in wrong:
        refused(target, metadata={"team": value}).refuses(400, "invalid_type", "metadata.team")


@create.says(
    "4.2",
    "`metadata` up to these limits, counted in code points, comes back as it was",
    sdk=("meet_limits_of_metadata",),
)
def _(target: Target) -> None:
    pairs = {"\U0001f319" * 63 + f"{n:x}": "\u00e9" * 511 + "\U0001f319" for n in range(16)}
    batch = target.create(target.a_file()["id"], metadata=pairs).ok
    assert batch["metadata"] == pairs
    assert target.raw.get(f"/batches/{batch['id']}").ok["metadata"] == pairs


@create.says("18", "`metadata` may be null or empty, and is so shown", OPEN)
def _(target: Target) -> None:
    file_id = target.a_file()["id"]
    emptied: list[Any] = [None, {}]
    for given in emptied:
        body = {"input_file_id": file_id, "endpoint": CHAT, "completion_window": "24h", "metadata": given}
        assert target.raw.post("/batches", body).ok["metadata"] == given


@create.says("15", "a name in `cast.ai/batch-name` is a pair like others", sdk=("run_a_batch_to_its_end",))
def _(target: Target) -> None:
    assert target.completed.shown[-1]["metadata"] == {"cast.ai/batch-name": "A name, with spaces"}


@create.says("14", "`output_expires_after` has the bounds of `expires_after` (E15, E16)", OPEN)
def _(target: Target) -> None:
    wrong: list[tuple[Object, str, str]] = [
        ({"anchor": "x", "seconds": 3_600}, "invalid_value", "anchor"),
        ({"anchor": "created_at", "seconds": 3_599}, "integer_below_min_value", "seconds"),
        ({"anchor": "created_at", "seconds": 2_592_001}, "integer_above_max_value", "seconds"),
        ({"anchor": "created_at"}, "missing_required_parameter", "seconds"),
        ({"seconds": 3_600}, "missing_required_parameter", "anchor"),
    ]
    for expiry, code, name in wrong:
        refused(target, output_expires_after=expiry).refuses(400, code, f"output_expires_after.{name}")


@create.says("14", "the first failure wins: JSON, required, types, values, metadata, expiry, file", OPEN)
def _(target: Target) -> None:
    faults: list[tuple[Object, str, str]] = [
        (
            {"input_file_id": 1, "endpoint": "x", "metadata": {"a": 1}},
            "missing_required_parameter",
            "completion_window",
        ),
        ({"input_file_id": 1, "endpoint": "x", "completion_window": "24h"}, "invalid_type", "input_file_id"),
        ({"completion_window": "1h", "metadata": {"a": 1}}, "invalid_value", "completion_window"),
        ({"metadata": {"a": 1}, "output_expires_after": {}}, "invalid_type", "metadata.a"),
        (
            {"output_expires_after": {"anchor": "created_at", "seconds": 1}},
            "integer_below_min_value",
            "output_expires_after.seconds",
        ),
    ]
    full = {"input_file_id": f"file_{NOBODY}", "endpoint": CHAT, "completion_window": "24h"}
    for n, (fields, code, param) in enumerate(faults):
        target.raw.post("/batches", fields if n == 0 else full | fields).refuses(400, code, param)


@create.says(
    "1.5",
    "with an `Idempotency-Key` a create that is sent again makes nothing again",
    superset("OpenAI documents none"),
    sdk=("send_a_create_again",),
)
def _(target: Target) -> None:
    file_id = target.a_file()["id"]
    body = {"input_file_id": file_id, "endpoint": CHAT, "completion_window": "24h"}
    first, second = (target.raw.post("/batches", body, Idempotency_Key=f"key-{file_id}").ok for _ in range(2))
    assert first["id"] == second["id"]


@create.says("1.5", "one that is used for another create is a 409", superset("as above"), sdk=("send_a_create_again",))
def _(target: Target) -> None:
    file_id = target.a_file()["id"]
    body = {"input_file_id": file_id, "endpoint": CHAT, "completion_window": "24h"}
    assert target.raw.post("/batches", body, Idempotency_Key=f"other-{file_id}").ok
    other = target.raw.post("/batches", body | {"metadata": {"a": "b"}}, Idempotency_Key=f"other-{file_id}")
    assert other.refuses(409, "idempotency_key_reuse", "Idempotency-Key").headers["x-should-retry"] == "false"


# --- retrieve and cancel ----------------------------------------------------------------------------------------------


@retrieve.says(
    "4.4", "it gives the batch object; an unknown id is a 404 without a param (E24)", sdk=("meet_clear_errors",)
)
def _(target: Target) -> None:
    assert target.raw.get(f"/batches/{target.completed.id}").ok == target.completed.shown[-1]
    target.raw.get(f"/batches/batch_{NOBODY}").refuses(404, None, None)


@cancel.says(
    "4.5", "a batch that has not ended is `cancelling` at once, with `cancelling_at`", sdk=("cancel_a_running_batch",)
)
def _(target: Target) -> None:
    found = target.stopped.cancels[0].ok
    assert (found["status"], is_time(found["cancelling_at"])) == ("cancelling", True)


@cancel.says("4.5", "again, or when it is `cancelled`, it changes nothing", sdk=("cancel_a_running_batch",))
def _(target: Target) -> None:
    first, second, third = (answer.ok for answer in target.stopped.cancels)
    assert second["cancelling_at"] == first["cancelling_at"]
    assert third == target.stopped.ended
    assert third["status"] == "cancelled"


@cancel.says(
    "15",
    "requests in flight are aborted, and end as `batch_cancelled`",
    differs("OpenAI lets them finish, for up to 10 minutes"),
    sdk=("cancel_a_running_batch",),
)
def _(target: Target) -> None:
    ended = target.stopped.ended
    assert ended["cancelled_at"] - ended["cancelling_at"] < 200  # the model would have taken 300 s
    never = [row for row in target.stopped.story.rows("error") if row["error"]["code"] == "batch_cancelled"]
    assert sorted(row["custom_id"] for row in never) == ["row-4", "row-5"]


@cancel.says("4.5", "a batch that is `completed`, `failed` or `expired` is a 409 (E26)", sdk=("cancel_what_has_ended",))
def _(target: Target) -> None:
    for story in (target.completed, target.failed):
        answer = target.raw.post(f"/batches/{story.id}/cancel").refuses(409, None, None)
        assert answer.headers["x-should-retry"] == "false"
        assert story.look() == story.shown[-1]


@cancel.says("4.5", "its body is never read, whatever is said of its type")
def _(target: Target) -> None:
    for body in (b"", b"{}", b"not json", b"[1]"):
        assert target.raw.post(f"/batches/{target.stopped.story.id}/cancel", body).ok == target.stopped.ended


@cancel.says("5", "cancelled while `validating` it has no counts and no files")
def _(target: Target) -> None:
    story = target.submit(target.lines(*["x"] * 3))
    answer = target.raw.post(f"/batches/{story.id}/cancel").ok
    if answer["in_progress_at"] is None:
        ended = story.wait()
        assert (ended["status"], ended["request_counts"]["completed"], ended["output_file_id"]) == (
            "cancelled",
            0,
            None,
        )


@cancel.says("4.5", "an unknown id is a 404 (E24)")
def _(target: Target) -> None:
    target.raw.post(f"/batches/batch_{NOBODY}/cancel").refuses(404, None, None)
