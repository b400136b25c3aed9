"""The batch object, field by field, and the course of its life (contract 4.1, 5, 10.4, 11, 12)."""

from itertools import pairwise

from tests.conformance.fields import Field, is_time, state_fields
from tests.conformance.statements import Place, superset
from tests.conformance.target import Object, Target

the_batch = Place("The batch object")
READ = ("read_a_batch",)
RUN = (*READ, "run_a_batch_to_its_end")
ORDER = ("validating", "in_progress", "finalizing", "cancelling", "completed", "failed", "expired", "cancelled")
COUNTS = ("total", "completed", "failed")
DETAILS = {
    "name", "resource", "suspended", "conditions", "gpu_type", "instance_type", "attempt", "failed_attempts",
    "started_at", "duration_s", "remaining", "rate", "eta_s", "gpu_seconds", "cost", "rerun_of", "reused",
}  # fmt: skip
AT_THE_END = superset("OpenAI sets it when the batch has ended")


def every_batch(target: Target) -> list[Object]:
    return [batch for story in target.stories for batch in (story.created, *story.shown)]


def since(name: str, *statuses: str) -> Field:
    """A time that is set by entering a status, and must be there in these."""

    def is_so(batch: Object) -> bool:
        return is_time(batch[name]) if batch["status"] in statuses else batch[name] is None or is_time(batch[name])

    return Field(name, f"the time of entering `{name.removesuffix('_at')}`, else null", is_so, sdk=READ)


def are_counts(batch: Object) -> bool:
    counts = batch["request_counts"]
    is_whole = counts.keys() == set(COUNTS) and all(type(counts[name]) is int for name in COUNTS)
    return is_whole and counts["completed"] + counts["failed"] <= counts["total"]


state_fields(
    the_batch,
    "4.1",
    every_batch,
    Field("id", "a string", lambda batch: batch["id"].startswith("batch_"), sdk=READ),
    Field("object", "`batch`", lambda batch: batch["object"] == "batch", sdk=RUN),
    Field("endpoint", "as it was asked for", lambda batch: batch["endpoint"].startswith("/v1/"), sdk=RUN),
    Field(
        "model",
        "the model of all lines, null before validation",
        lambda batch: batch["model"] is None if batch["status"] in {"validating", "failed"} else bool(batch["model"]),
        sdk=RUN,
    ),
    Field(
        "errors",
        "what validation found, if the batch has `failed`; else null",
        lambda batch: (batch["errors"] is not None) is (batch["status"] == "failed"),
        sdk=(*READ, "fail_validation"),
    ),
    Field("input_file_id", "the file", lambda batch: batch["input_file_id"].startswith("file_"), sdk=READ),
    Field("completion_window", "`24h`", lambda batch: batch["completion_window"] == "24h", sdk=READ),
    Field("status", "one of the eight, in lower case", lambda batch: batch["status"] in ORDER, sdk=RUN),
    Field(
        "output_file_id",
        "set by the first line that succeeded, null if none did",
        lambda batch: (batch["output_file_id"] is not None) or batch["request_counts"]["completed"] == 0,
        AT_THE_END,
        sdk=(*READ, "download_while_it_is_in_progress"),
    ),
    Field(
        "error_file_id",
        "set by the first line that failed, null if none did",
        lambda batch: (batch["error_file_id"] is not None) or batch["request_counts"]["failed"] == 0,
        AT_THE_END,
        sdk=RUN,
    ),
    Field("created_at", "a time", lambda batch: is_time(batch["created_at"]), sdk=READ),
    since("in_progress_at", "in_progress", "finalizing", "completed"),
    Field(
        "expires_at",
        "`created_at` and 86400 s, from the first",
        lambda batch: batch["expires_at"] == batch["created_at"] + 86_400,
        sdk=RUN,
    ),
    since("finalizing_at", "finalizing", "completed"),
    since("completed_at", "completed"),
    since("failed_at", "failed"),
    since("expired_at", "expired"),
    since("cancelling_at", "cancelling", "cancelled"),
    since("cancelled_at", "cancelled"),
    Field(
        "request_counts",
        "`total`, `completed` and `failed`, zero until validated, never null",
        are_counts,
        superset("OpenAI may leave it out"),
        sdk=RUN,
    ),
    Field(
        "usage",
        "tokens of the lines that succeeded, with both detail objects; null until there are any",
        lambda batch: batch["usage"] is None or batch["usage"]["input_tokens_details"].keys() == {"cached_tokens"},
        sdk=(*READ, "read_usage"),
    ),
    Field(
        "metadata",
        "as it was given, null if it was not",
        lambda batch: batch["metadata"] is None or all(isinstance(value, str) for value in batch["metadata"].values()),
        sdk=RUN,
    ),
    Field(
        "x_details",
        "what OpenAI has no field for, always with all its keys",
        lambda batch: batch["x_details"].keys() == DETAILS,
        superset("OpenAI has no such key; the SDKs let it through"),
        sdk=RUN,
    ),
)


@the_batch.says(
    "10.4", "`completed`: counts add up to the total and are the lines of both files", sdk=("run_a_batch_to_its_end",)
)
def _(target: Target) -> None:
    story = target.completed
    ended, output, error = story.shown[-1], story.rows("output"), story.rows("error")
    assert ended["request_counts"] == {"total": 4, "completed": len(output), "failed": len(error)}
    assert sorted(row["custom_id"] for row in output + error) == [f"row-{n}" for n in range(4)]


@the_batch.says(
    "10.4",
    "`cancelled`: lines that never ran are in the error file and not in `failed`",
    sdk=("cancel_a_running_batch",),
)
def _(target: Target) -> None:
    story = target.stopped.story
    assert target.stopped.ended["request_counts"] == {"total": 6, "completed": 3, "failed": 1}
    codes = sorted(row["error"]["code"] for row in story.rows("error"))
    assert (len(story.rows("output")), codes) == (3, ["batch_cancelled", "batch_cancelled", "invalid_request"])


@the_batch.says("10.3", "if nothing failed there is no error file", sdk=("read_usage",))
def _(target: Target) -> None:
    assert target.succeeded.shown[-1]["error_file_id"] is None


@the_batch.says("10.3", "if everything failed it is `completed`, with no output file")
def _(target: Target) -> None:
    ended = target.hopeless.shown[-1]
    assert (ended["status"], ended["output_file_id"]) == ("completed", None)
    assert ended["request_counts"] == {"total": 5, "completed": 0, "failed": 5}
    assert ended["error_file_id"] is not None


@the_batch.says("12", "`usage` is the sum over the lines that succeeded", sdk=("read_usage",))
def _(target: Target) -> None:
    usages = [row["response"]["body"]["usage"] for row in target.completed.rows("output")]
    asked, answered = (sum(usage[name] for usage in usages) for name in ("prompt_tokens", "completion_tokens"))
    assert target.completed.shown[-1]["usage"] == {
        "input_tokens": asked,
        "input_tokens_details": {"cached_tokens": 0},
        "output_tokens": answered,
        "output_tokens_details": {"reasoning_tokens": 0},
        "total_tokens": asked + answered,
    }


@the_batch.says("12", "embeddings have no output tokens")
def _(target: Target) -> None:
    usage = target.succeeded.shown[-1]["usage"]
    assert (usage["input_tokens"], usage["output_tokens"], usage["total_tokens"]) == (6, 0, 6)


@the_batch.says(
    "5",
    "a status never goes back, a time that is set never changes, counts never fall",
    sdk=("cancel_a_running_batch",),
)
def _(target: Target) -> None:
    for story in target.stories:
        looks = [story.created, *story.shown]
        for before, after in pairwise(looks):
            assert ORDER.index(before["status"]) <= ORDER.index(after["status"])
            assert all(before["request_counts"][name] <= after["request_counts"][name] for name in COUNTS)
            kept = [name for name in before if name.endswith(("_at", "_file_id")) and before[name] is not None]
            assert {name: before[name] for name in kept} == {name: after[name] for name in kept}


@the_batch.says("5", "the times stand in the order of the life", sdk=("run_a_batch_to_its_end",))
def _(target: Target) -> None:
    for batch in every_batch(target):
        for names in (
            ("created_at", "in_progress_at", "finalizing_at", "completed_at"),
            ("created_at", "in_progress_at", "cancelling_at", "cancelled_at"),
            ("created_at", "failed_at"),
        ):
            found = [batch[name] for name in names if batch[name] is not None]
            assert found == sorted(found)


@the_batch.says("5", "`failed`: counts are zero, and there are no files", sdk=("fail_validation",))
def _(target: Target) -> None:
    ended = target.failed.shown[-1]
    assert ended["request_counts"] == {"total": 0, "completed": 0, "failed": 0}
    assert ended["output_file_id"] is ended["error_file_id"] is ended["usage"] is None


@the_batch.says(
    "5",
    "`expired`: what ran is kept, and what did not is in the error file as `batch_expired`",
    only_local="it takes an installation with a window of seconds",
)
def _(target: Target) -> None:
    assert target.inside
    with target.inside.apart(NIGHTSHIFT_COMPLETION_WINDOW_S=5) as hasty:
        story = hasty.submit(hasty.lines("in time", "slow:300 late"))
        ended = story.wait()
        assert (ended["status"], ended["request_counts"]) == ("expired", {"total": 2, "completed": 1, "failed": 0})
        assert is_time(ended["expired_at"])
        assert [row["error"]["code"] for row in story.rows("error")] == ["batch_expired"]
        assert [row["custom_id"] for row in story.rows("output")] == ["row-0"]
        hasty.raw.post(f"/batches/{story.id}/cancel").refuses(409, None, None)


@the_batch.says("11", "result files live for 30 days from their sealing")
def _(target: Target) -> None:
    ended = target.completed.shown[-1]
    file = target.raw.get(f"/files/{ended['output_file_id']}").ok
    assert 0 <= ended["completed_at"] - (file["expires_at"] - 2_592_000) <= 60


@the_batch.says("11", "or as long as `output_expires_after` says")
def _(target: Target) -> None:
    ended = target.succeeded.shown[-1]
    file = target.raw.get(f"/files/{ended['output_file_id']}").ok
    assert 0 <= ended["completed_at"] - (file["expires_at"] - 3_600) <= 60
