"""Calls that OpenAI does not have: to run a batch again, to suspend and to resume it."""

from tests.conformance.statements import Place, superset
from tests.conformance.target import NOBODY, Object, Target

OURS = superset("OpenAI has no such call")
rerun = Place("POST /batches/{id}/rerun")
suspend = Place("POST /batches/{id}/suspend")
resume = Place("POST /batches/{id}/resume")


@rerun.says("extension", "it answers 200 with a new batch that is `validating`, as the first one was asked for", OURS)
def _(target: Target) -> None:
    first, again = target.completed.shown[-1], target.again.created
    assert (again["status"], again["id"] != first["id"]) == ("validating", True)
    for name in ("input_file_id", "endpoint", "completion_window", "metadata"):
        assert again[name] == first[name]


@rerun.says(
    "extension", "`metadata` and `output_expires_after` of its body, which is optional, are asked for instead", OURS
)
def _(target: Target) -> None:
    body: Object = {"metadata": {"a": "b"}, "output_expires_after": {"anchor": "created_at", "seconds": 3_600}}
    assert target.raw.post(f"/batches/{target.completed.id}/rerun", body).ok["metadata"] == {"a": "b"}
    wrong = body | {"metadata": {"a": 1}}
    target.raw.post(f"/batches/{target.completed.id}/rerun", wrong).refuses(400, "invalid_type", "metadata.a")


@rerun.says("extension", "rows that have a result are not sent; they count as `completed`, and stand first", OURS)
def _(target: Target) -> None:
    first, again = target.completed, target.again
    assert again.shown[-1]["request_counts"] == {"total": 4, "completed": 3, "failed": 1}
    assert again.rows("output") == first.rows("output")
    assert [row["custom_id"] for row in again.rows("error")] == ["row-3"]
    assert again.rows("error")[0]["id"] != first.rows("error")[0]["id"]


@rerun.says("extension", "`usage` is of the rows that the rerun has sent itself", OURS)
def _(target: Target) -> None:
    assert target.again.shown[-1]["usage"]["total_tokens"] == 0


@rerun.says("extension", "with an `Idempotency-Key` one that is sent again makes nothing again", OURS)
def _(target: Target) -> None:
    path, key = f"/batches/{target.completed.id}/rerun", f"again-{target.completed.id}"
    first, second = (target.raw.post(path, Idempotency_Key=key).ok for _ in range(2))
    assert first["id"] == second["id"]
    target.raw.post(path, {"metadata": {"a": "b"}}, Idempotency_Key=key).refuses(
        409, "idempotency_key_reuse", "Idempotency-Key"
    )


@rerun.says("extension", "a batch of which nothing is left, or a file that it needs is gone, is a 409", OURS)
def _(target: Target) -> None:
    target.raw.post(f"/batches/{target.succeeded.id}/rerun").refuses(409, "nothing_to_rerun", None)
    story = target.submit(target.lines("fail:400"))
    story.wait()
    assert target.raw.delete(f"/files/{story.created['input_file_id']}").ok["deleted"] is True
    target.raw.post(f"/batches/{story.id}/rerun").refuses(409, "file_missing", "input_file_id")


@rerun.says("extension", "a batch that has not ended is a 409, an unknown id a 404", OURS)
def _(target: Target) -> None:
    story = target.submit(target.lines("slow:300"))
    answer = target.raw.post(f"/batches/{story.id}/rerun").refuses(409, None, None)
    assert answer.headers["x-should-retry"] == "false"
    assert target.raw.post(f"/batches/{story.id}/cancel").ok["status"] == "cancelling"
    target.raw.post(f"/batches/batch_{NOBODY}/rerun").refuses(404, None, None)


@suspend.says("extension", "it stops what runs; the status stays, and again it changes nothing", OURS)
def _(target: Target) -> None:
    story = target.submit(target.lines("slow:300"))
    story.wait(lambda batch: batch["status"] == "in_progress")
    for _ in range(2):
        assert target.raw.post(f"/batches/{story.id}/suspend").ok["status"] == "in_progress"
    assert target.raw.post(f"/batches/{story.id}/cancel").ok["status"] == "cancelling"
    assert story.wait()["status"] == "cancelled"


@suspend.says("extension", "once a batch is cancelling or has ended it is a 409, as is a resume", OURS)
def _(target: Target) -> None:
    for story in (target.completed, target.failed, target.stopped.story):
        for call in ("suspend", "resume"):
            answer = target.raw.post(f"/batches/{story.id}/{call}").refuses(409, None, None)
            assert answer.headers["x-should-retry"] == "false"


@resume.says("extension", "what was suspended goes on to its end, with every row once", OURS)
def _(target: Target) -> None:
    story = target.submit(target.lines("a", "slow:2 b", "slow:2 c"))
    assert target.raw.post(f"/batches/{story.id}/suspend").ok["status"] in {"validating", "in_progress"}
    story.wait(lambda batch: batch["status"] == "in_progress")
    for _ in range(2):
        target.raw.post(f"/batches/{story.id}/resume").ok  # noqa: B018 - sees that it is a 200
    assert story.wait()["status"] == "completed"
    assert sorted(row["custom_id"] for row in story.rows("output")) == ["row-0", "row-1", "row-2"]


@resume.says("extension", "an unknown id is a 404, as it is to a suspend", OURS)
def _(target: Target) -> None:
    for call in ("suspend", "resume"):
        target.raw.post(f"/batches/batch_{NOBODY}/{call}").refuses(404, None, None)
