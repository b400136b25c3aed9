"""A running service that the statements are held against, and batches in it that many of them look at.

It is met from outside only: by its URL, its keys and the names of its models.
"""

import json
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, Protocol
from uuid import uuid4

from tests.conformance.raw import Answer, Raw
from tests.e2e.installation import ENDS, a_chat_line, wait_until

CHAT, EMBEDDINGS = "/v1/chat/completions", "/v1/embeddings"
NOBODY = "0192f0c2-0000-7000-8000-000000000000"
"""A UUID of our making that names nothing."""
Object = dict[str, Any]


def a_line(custom_id: str = "row-0", *, without: str = "", **replaced: Any) -> bytes:
    """Write a line of a chat batch, with some of its keys replaced or one left out."""
    line = {"custom_id": custom_id, "method": "POST", "url": CHAT} | replaced
    line.pop(without, None)
    return json.dumps(line).encode() + b"\n"


def an_embeddings_line(custom_id: str, model: str, given: Any) -> bytes:
    return a_line(custom_id, url=EMBEDDINGS, body={"model": model, "input": given})


@dataclass
class Story:
    """A batch, and what every look at it has shown."""

    raw: Raw
    created: Object
    shown: list[Object] = field(default_factory=list)

    @property
    def id(self) -> str:
        return str(self.created["id"])

    def look(self) -> Object:
        self.shown.append(self.raw.get(f"/batches/{self.id}").ok)
        return self.shown[-1]

    def wait(self, until: Callable[[Object], Any] = lambda batch: batch["status"] in ENDS) -> Object:
        def found() -> Object | None:
            batch = self.look()
            return batch if until(batch) else None

        ended: Object = wait_until(found, f"{self.id}, last {self.shown[-1:]}", timeout_s=240)
        return ended

    def rows(self, kind: str) -> list[Object]:
        """Read a result file of the batch."""
        answer = self.raw.get(f"/files/{self.shown[-1][f'{kind}_file_id']}/content")
        assert answer.status == 200, answer
        return [json.loads(line) for line in answer.body.splitlines()]


@dataclass(frozen=True)
class Stopped:
    """A batch that ran and was cancelled, with what was answered while it ran."""

    story: Story
    running: Object
    output: Object
    error: Object
    content: Answer
    deletes: tuple[Answer, ...]
    cancels: tuple[Answer, ...]
    ended: Object


class HasInside(Protocol):
    """What can be done to a service that runs on this machine."""

    def without_bucket(self) -> AbstractContextManager[None]: ...

    def apart(self, **environ: int) -> "AbstractContextManager[Target]": ...


@dataclass
class Target:
    """A service. Of its models the first is called like `name:tag`, the other one has a slash in its name."""

    base_url: str
    key: str
    models: tuple[str, str]
    other_key: str | None = None
    inside: HasInside | None = None
    raw: Raw = field(init=False)

    def __post_init__(self) -> None:
        self.raw = Raw(self.base_url, self.key)

    @property
    def model(self) -> str:
        return self.models[0]

    def with_key(self, key: str | None) -> Raw:
        """Ask as somebody else."""
        return Raw(self.base_url, key, self.raw.seen)

    def lines(self, *prompts: str, model: str | None = None) -> bytes:
        return b"".join(a_chat_line(f"row-{n}", prompt, model or self.model) for n, prompt in enumerate(prompts))

    def a_file(self, content: bytes | None = None, **fields: Any) -> Object:
        answered: Object = self.raw.upload(content or self.lines("hello"), **fields).ok
        return answered

    def create(self, file_id: Any, **fields: Any) -> Answer:
        """Ask for a batch; a field that is None is left out."""
        body = {"input_file_id": file_id, "endpoint": CHAT, "completion_window": "24h"} | fields
        return self.raw.post("/batches", {name: value for name, value in body.items() if value is not None})

    def submit(self, content: bytes, **fields: Any) -> Story:
        return Story(self.raw, self.create(self.a_file(content)["id"], **fields).ok)

    def problems(self, content: bytes, **fields: Any) -> list[tuple[Any, ...]]:
        """Give what the validation of a batch finds: code, line and param of each problem."""
        ended = self.submit(content, **fields).wait()
        assert ended["status"] == "failed", ended
        return [(found["code"], found["line"], found["param"]) for found in ended["errors"]["data"]]

    # batches that many statements look at

    @cached_property
    def completed(self) -> Story:
        """A batch of four lines, of which the model refused the last one."""
        story = self.submit(
            self.lines("one", "two", "three", "fail:400 four"), metadata={"cast.ai/batch-name": "A name, with spaces"}
        )
        assert story.wait()["status"] == "completed"
        return story

    @cached_property
    def again(self) -> Story:
        """The same batch, run again: the model refuses its last line once more."""
        story = Story(self.raw, self.raw.post(f"/batches/{self.completed.id}/rerun").ok)
        assert story.wait()["status"] == "completed"
        return story

    @cached_property
    def succeeded(self) -> Story:
        """A batch of embeddings in which nothing failed, with a life of its results."""
        lines = an_embeddings_line("row-0", self.model, "alpha") + an_embeddings_line("row-1", self.model, ["a", "b"])
        expiry = {"anchor": "created_at", "seconds": 3_600}
        story = self.submit(lines, endpoint=EMBEDDINGS, output_expires_after=expiry)
        assert story.wait()["status"] == "completed"
        return story

    @cached_property
    def failed(self) -> Story:
        """A batch that validation has failed."""
        story = self.submit(b"{not json\n")
        assert story.wait()["status"] == "failed"
        return story

    @cached_property
    def stopped(self) -> Stopped:
        """A batch that was cancelled with three lines done, one failed, and two at the model."""
        story = self.submit(self.lines("a", "b", "c", "fail:400 d", "slow:300 e", "slow:300 f"))
        running = story.wait(lambda batch: (counts := batch["request_counts"])["completed"] + counts["failed"] == 4)
        ids = [running[f"{kind}_file_id"] for kind in ("input", "output", "error")]
        output, error = (self.raw.get(f"/files/{file_id}").ok for file_id in ids[1:])
        content = self.raw.get(f"/files/{output['id']}/content")
        deletes = tuple(self.raw.delete(f"/files/{file_id}") for file_id in ids)
        cancels = [self._cancel(story), self._cancel(story)]
        ended = story.wait()
        cancels.append(self._cancel(story))
        return Stopped(story, running, output, error, content, deletes, tuple(cancels), ended)

    def _cancel(self, story: Story) -> Answer:
        answer = self.raw.post(f"/batches/{story.id}/cancel")
        story.shown.append(answer.ok)
        return answer

    @cached_property
    def hopeless(self) -> Story:
        """A batch in which nothing succeeded, each line for a reason of its own."""
        story = self.submit(self.lines("not-json", "fail:400", "fail:401", "fail:404", "fail:413"))
        assert story.wait()["status"] == "completed"
        return story

    @cached_property
    def odd(self) -> Story:
        """A batch with a BOM, other ends of lines, a key that nobody knows, and a model that is tried again."""
        again = {"model": self.model, "messages": [{"role": "user", "content": f"fail-once:503 {uuid4()}"}]}
        lines = self.lines("x").replace(b"\n", b"\r\n") + a_line("again", body=again, priority=1).rstrip()
        story = self.submit(b"\xef\xbb\xbf" + lines)
        assert story.wait()["status"] == "completed"
        return story

    @cached_property
    def emptied(self) -> Story:
        """A batch whose files were deleted after its end."""
        story = self.submit(self.lines("x"))
        ended = story.wait()
        for kind in ("input", "output"):
            assert self.raw.delete(f"/files/{ended[f'{kind}_file_id']}").ok["deleted"] is True
        story.look()
        return story

    @cached_property
    def stories(self) -> list[Story]:
        """All of these, made at the same time."""
        makers: list[Callable[[], Story]] = [
            lambda: self.stopped.story,
            lambda: self.completed,
            lambda: self.succeeded,
            lambda: self.failed,
            lambda: self.hopeless,
            lambda: self.odd,
            lambda: self.emptied,
        ]
        with ThreadPoolExecutor() as threads:
            return [made.result() for made in [threads.submit(make) for make in makers]]
