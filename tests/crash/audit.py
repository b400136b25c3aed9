"""What must be true whatever was killed: of a batch as its user finds it, and of what its runs have asked the model.

Pure. An audit gives a list of sentences, one for each thing that is wrong.
"""

import json
from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Any

_ORDER = ("validating", "in_progress", "finalizing", "cancelling", "completed", "failed", "expired", "cancelled")
_FIRST_OF_THE_ENDS = _ORDER.index("completed")
_NEVER_RAN = {"cancelled": "batch_cancelled", "expired": "batch_expired"}
_SEND = "run model.send"
_RECORD = "run bucket.put record"

Line = Mapping[str, Any]


# --- a batch ----------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Ended:
    """A batch after its end.

    Attributes:
        shown: every answer about it, in order; the last is how it ended.
        custom_ids: those of its input.
        taken: how many lines the output file begins with that were taken over from a batch that it runs again.
    """

    shown: Sequence[Mapping[str, Any]]
    custom_ids: Sequence[str]
    output: bytes
    error: bytes
    taken: int = 0


def find_wrong_batch(ended: Ended) -> list[str]:
    """Say what is wrong with a batch that has ended: rows, counts, usage, or what was shown on the way."""
    return [*_wrong_rows(ended), *_wrong_counts(ended), *_steps_back(ended.shown)]


def _lines_of(file: bytes) -> list[dict[str, Any]]:
    return [json.loads(line) for line in file.splitlines()]


def _wrong_rows(ended: Ended) -> Iterator[str]:
    batch = ended.shown[-1]
    output, errors = _lines_of(ended.output), _lines_of(ended.error)
    rows = Counter(line["custom_id"] for line in [*output, *errors])
    yield from (f"{row} stands {times} times in the files" for row, times in rows.items() if times > 1)
    yield from (f"{row} was never asked for" for row in rows.keys() - set(ended.custom_ids))
    if (
        batch["status"] != "failed" and batch["request_counts"]["total"]
    ):  # failed has what ran; one never begun, nothing
        yield from (f"{row} is in no file" for row in set(ended.custom_ids) - rows.keys())
    if len({line["id"] for line in [*output, *errors]}) < len(output) + len(errors):
        yield "two lines have one id"
    for file, name in ((ended.output, "output"), (ended.error, "error")):
        if file and not file.endswith(b"\n"):
            yield f"the {name} file is torn"


def _wrong_counts(ended: Ended) -> Iterator[str]:
    batch = ended.shown[-1]
    if batch["request_counts"]["total"] not in {0, len(ended.custom_ids)}:
        yield f"the total is {batch['request_counts']['total']}"
    if batch["status"] == "completed" and not batch["request_counts"]["total"]:
        yield "it is complete without a line"
    output, errors = _lines_of(ended.output), _lines_of(ended.error)
    never_ran = [line for line in errors if line["error"]["code"] == _NEVER_RAN.get(batch["status"])]
    found = {"total": batch["request_counts"]["total"], "completed": len(output)}
    found["failed"] = len(errors) - len(never_ran)
    if batch["request_counts"] != found:
        yield f"counts are {batch['request_counts']}, the files have {found}"
    usages = [line["response"]["body"]["usage"] for line in output[ended.taken :]]
    sums = {
        "input_tokens": sum(usage["prompt_tokens"] for usage in usages),
        "output_tokens": sum(usage["completion_tokens"] for usage in usages),
        "total_tokens": sum(usage["total_tokens"] for usage in usages),
    }
    shown = {key: (batch.get("usage") or dict.fromkeys(sums, 0))[key] for key in sums}
    if shown != sums:
        yield f"usage is {shown}, the files have {sums}"


def _steps_back(shown: Sequence[Mapping[str, Any]]) -> Iterator[str]:
    for before, after in pairwise(shown):
        was, is_ = _ORDER.index(before["status"]), _ORDER.index(after["status"])
        if is_ < was or (was >= _FIRST_OF_THE_ENDS and is_ != was):
            yield f"status went from {before['status']} to {after['status']}"
        for count in ("total", "completed", "failed"):
            if after["request_counts"][count] < before["request_counts"][count]:
                yield f"count {count} fell"
        for name, value in before.items():
            is_fixed = name.endswith(("_at", "_file_id")) and value is not None
            if is_fixed and after[name] != value:
                yield f"{name} changed from {value} to {after[name]}"


# --- what the model was asked -----------------------------------------------------------------------------------------


@dataclass
class Life:
    """What one `run` process did, in the words of its trace."""

    begun: list[str] = field(default_factory=list)
    answered: list[str] = field(default_factory=list)
    unflushed: set[str] = field(default_factory=set)
    """Answered since it last began to write a record."""
    attempted: set[str] = field(default_factory=set)
    durable: set[str] = field(default_factory=set)
    most_open: int = 0
    batch: str = ""
    exit_code: str | None = None

    @property
    def lost(self) -> set[str]:
        """What must be asked again."""
        return set(self.begun) - self.durable


def find_wrong_asks(trace: Sequence[Line], concurrency: int, *, fenced: bool = False) -> list[str]:
    """Say where a run asked the model for more than a kill can excuse.

    A batch has a request executed again only if it was in flight at a kill, or answered since the last record was
    begun; none of the latter after a SIGTERM, unless another writer has `fenced` the one that was told to end.
    """
    wrong: list[str] = []
    lives: dict[str, Life] = defaultdict(Life)
    durable: dict[str, set[str]] = defaultdict(set)
    for line in trace:
        if line["effect"].startswith("run "):
            life = lives[line["life"]]
            wrong += _follow(life, line, durable[life.batch])
    for life in lives.values():
        wrong += _judge(life, concurrency, is_fenced=fenced)
    return wrong


def _follow(life: Life, line: Line, durable: set[str]) -> Iterator[str]:
    effect, moment, about = line["effect"], line["moment"], line["about"]
    if moment == "start":
        life.batch = about[0]
    elif moment == "exit":
        life.exit_code = about[0]
    elif effect == _SEND and moment == "before":
        if about[0] in durable:
            yield f"{about[0]} is durable and was asked again"
        if about[0] in life.begun:
            yield f"{about[0]} was asked twice by one process"
        life.begun += about
        life.most_open = max(life.most_open, len(life.begun) - len(life.answered))
    elif effect == _SEND and moment == "after":
        life.answered += about
        life.unflushed.update(about)
    elif effect.startswith(_RECORD) and moment == "before":
        life.unflushed.clear()
        life.attempted.update(about)
    elif effect.startswith(_RECORD) and moment == "after":
        yield from (f"{row} is twice in the log" for row in about if row in durable)
        life.durable.update(about)
        durable.update(about)


def _judge(life: Life, concurrency: int, *, is_fenced: bool) -> Iterator[str]:
    if life.most_open > concurrency:
        yield f"{life.most_open} requests were in flight"
    forgotten = set(life.answered) - life.unflushed - life.attempted
    yield from (f"{row} was answered before a record was begun, and is not in it" for row in forgotten)
    if life.exit_code is not None and not is_fenced:
        lost = set(life.answered) - life.durable
        yield from (f"{row} was answered and is lost, though its run ended gently" for row in lost)


def count_begun(trace: Sequence[Line]) -> Counter[str]:
    """Count how often each prompt was sent."""
    return Counter(
        row for line in trace if (line["effect"], line["moment"]) == (_SEND, "before") for row in line["about"]
    )


def find_unexplained(trace: Sequence[Line], asked: Mapping[str, int]) -> list[str]:
    """Say what the model server was asked more often than the runs say that they have asked."""
    begun = count_begun(trace)
    return [f"{row} was asked {times} times, sent {begun[row]}" for row, times in asked.items() if times > begun[row]]
