"""Name every effect that a role has on the outside, and die there on demand.

All effects go through four ports: the bucket, the cluster, the model client and what posts webhooks. What stands here
is put around the ports and tells a `Watch` of each effect: before it, in the middle of a stream, and when it is done
but its answer has not reached the role. In a process (`Failpoints`) the watch writes a line of the trace, which
outlives a SIGKILL, and dies if the failpoint is armed. The product knows nothing of this.
"""

import asyncio
import json
import os
import signal
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from enum import StrEnum
from pathlib import Path
from typing import Any, Protocol
from uuid import uuid4

from nightshift_crds.bucket.port import Bucket, ObjectInfo
from nightshift_crds.cluster.port import Change, Cluster, Kind, Manifest, Page, Propagation, Selector
from nightshift_operator.facts import Answer as WebhookAnswer
from nightshift_operator.poster import Poster
from nightshift_operator.webhooks import Endpoint, WebhookEvent
from nightshift_processor.client import Answer, Hear, ModelClient, Result
from tests.crash import effects

DIR_VARIABLE = "CRASH_DIR"
_SENT_AFTER_S = 0.005
"""When a request has reached the stub model and waits there for its answer."""


class Moment(StrEnum):
    """Where in an effect."""

    BEFORE = "before"
    """Nothing has happened."""
    DURING = "during"
    """A stream has begun and not ended; a request is out and not answered."""
    AFTER = "after"
    """It is done, and whoever did it does not know."""


class Watch(Protocol):
    """What is told of effects; it may not return."""

    def __call__(self, effect: str, moment: Moment, about: Sequence[str] = ()) -> None: ...


class Failpoints:
    """The watch of a process: traces what it does, and dies where a file in `armed` says so.

    A failpoint fires once in an installation: whoever takes its file away dies. The file has the signal's number.
    """

    def __init__(self, folder: Path, role: str) -> None:
        self._armed, self._fired = folder / "armed", folder / "fired"
        self._role = role
        self._life = uuid4().hex[:12]
        self._trace = os.open(folder / "trace", os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, 0o600)

    def __call__(self, effect: str, moment: Moment, about: Sequence[str] = ()) -> None:
        name = f"{self._role} {effect}"
        self.note(name, moment, about)
        fired = self._fired / slug(name, moment)
        try:
            (self._armed / fired.name).rename(fired)
        except FileNotFoundError:
            return
        os.kill(os.getpid(), int(fired.read_text()))

    def note(self, effect: str, moment: str, about: Sequence[str] = ()) -> None:
        """Append a line to the trace."""
        line = {"life": self._life, "pid": os.getpid(), "effect": effect, "moment": moment, "about": list(about)}
        os.write(self._trace, json.dumps(line).encode() + b"\n")


def slug(effect: str, moment: Moment) -> str:
    """Name the file of a failpoint."""
    return f"{effect} {moment}".replace(" ", "_")


def arm(folder: Path, effect: str, moment: Moment, signal_number: int = signal.SIGKILL) -> None:
    """Arm a failpoint, whole or not at all."""
    draft = folder / f"draft-{uuid4().hex}"
    draft.write_text(str(int(signal_number)))
    draft.rename(folder / "armed" / slug(effect, moment))


def disarm(folder: Path, effect: str, moment: Moment) -> bool:
    """Take a failpoint back; False if it has fired."""
    try:
        (folder / "armed" / slug(effect, moment)).unlink()
    except FileNotFoundError:
        return False
    return True


class WatchedBucket:
    """The `Bucket` port over another one, watched."""

    def __init__(self, inner: Bucket, watch: Watch) -> None:
        self._inner = inner
        self._watch = watch

    @property
    def url(self) -> str:
        return self._inner.url

    async def put(self, key: str, data: bytes | AsyncIterator[bytes], *, create_only: bool) -> ObjectInfo:
        effect, about = f"bucket.put {effects.of_key(key, data)}", effects.ids_of(key, data)
        self._watch(effect, Moment.BEFORE, about)
        watched = data if isinstance(data, bytes) else self._watched(data, effect)
        info = await self._inner.put(key, watched, create_only=create_only)
        self._watch(effect, Moment.AFTER, about)
        return info

    async def _watched(self, chunks: AsyncIterator[bytes], effect: str) -> AsyncIterator[bytes]:
        async for chunk in chunks:
            yield chunk
            self._watch(effect, Moment.DURING)

    async def delete(self, key: str) -> None:
        effect = f"bucket.delete {effects.of_key(key)}"
        self._watch(effect, Moment.BEFORE)
        await self._inner.delete(key)
        self._watch(effect, Moment.AFTER)

    def read(self, key: str, start: int = 0, end: int | None = None) -> AsyncGenerator[bytes, None]:
        return self._inner.read(key, start, end)

    async def head(self, key: str) -> ObjectInfo | None:
        return await self._inner.head(key)

    async def checksum(self, key: str) -> int:
        return await self._inner.checksum(key)

    def list(self, prefix: str, *, after: str = "") -> AsyncGenerator[ObjectInfo, None]:
        return self._inner.list(prefix, after=after)


class WatchedCluster:
    """The `Cluster` port over another one, watched."""

    def __init__(self, inner: Cluster, watch: Watch) -> None:
        self._inner = inner
        self._watch = watch

    async def create(self, kind: Kind, manifest: Manifest) -> Manifest:
        with_what = f"cluster.create {effects.of_manifest(kind, manifest)}"
        self._watch(with_what, Moment.BEFORE)
        created = await self._inner.create(kind, manifest)
        self._watch(with_what, Moment.AFTER)
        return created

    async def patch(self, kind: Kind, namespace: str, name: str, patch: Manifest) -> Manifest:
        effect = f"cluster.patch {effects.of_patch(kind, name, patch)}"
        self._watch(effect, Moment.BEFORE)
        patched = await self._inner.patch(kind, namespace, name, patch)
        self._watch(effect, Moment.AFTER)
        return patched

    async def patch_status(self, kind: Kind, namespace: str, name: str, patch: Manifest) -> Manifest:
        effect = f"cluster.patch_status {effects.of_status(kind, patch)}"
        self._watch(effect, Moment.BEFORE)
        patched = await self._inner.patch_status(kind, namespace, name, patch)
        self._watch(effect, Moment.AFTER)
        return patched

    async def delete(
        self,
        kind: Kind,
        namespace: str,
        name: str,
        *,
        propagation: Propagation,
        uid: str = "",
        grace_s: int | None = None,
    ) -> None:
        effect = f"cluster.delete {effects.of_name(kind, name)}"
        self._watch(effect, Moment.BEFORE)
        await self._inner.delete(kind, namespace, name, propagation=propagation, uid=uid, grace_s=grace_s)
        self._watch(effect, Moment.AFTER)

    async def record_event(self, about: Manifest, *, warning: bool, reason: str, message: str) -> None:
        effect = f"cluster.record_event {reason}"
        self._watch(effect, Moment.BEFORE)
        await self._inner.record_event(about, warning=warning, reason=reason, message=message)
        self._watch(effect, Moment.AFTER)

    async def get(self, kind: Kind, namespace: str, name: str) -> Manifest:
        return await self._inner.get(kind, namespace, name)

    async def list(self, kind: Kind, *args: Any, **options: Any) -> Page:
        return await self._inner.list(kind, *args, **options)

    def watch(self, kind: Kind, selector: Selector, since: str) -> AsyncGenerator[Change, None]:
        return self._inner.watch(kind, selector, since)


class WatchedClient:
    """The model client over another one, watched."""

    def __init__(self, inner: ModelClient, watch: Watch) -> None:
        self._inner = inner
        self._watch = watch

    def send(self, body: bytes, hear: Hear) -> None:
        about = [effects.prompt_of(body)]
        self._watch("model.send", Moment.BEFORE, about)
        during = asyncio.get_running_loop().call_later(_SENT_AFTER_S, self._watch, "model.send", Moment.DURING, about)

        def hear_watched(result: Result) -> None:
            during.cancel()
            if isinstance(result, Answer):
                self._watch("model.send", Moment.AFTER, about)
            hear(result)

        self._inner.send(body, hear_watched)


class WatchedPoster:
    """What posts webhooks, over another one, watched."""

    def __init__(self, inner: Poster, watch: Watch) -> None:
        self._inner = inner
        self._watch = watch

    async def post(self, endpoint: Endpoint, event: WebhookEvent) -> WebhookAnswer:
        self._watch("webhook.post", Moment.BEFORE)
        answer = await self._inner.post(endpoint, event)
        self._watch("webhook.post", Moment.AFTER)
        return answer


def opening_watched(
    open_port: Callable[..., AbstractAsyncContextManager[Any]], wrap: Callable[..., Any], watches: Callable[[], Watch]
) -> Callable[..., AbstractAsyncContextManager[Any]]:
    """Make of a function that opens a port one that opens it watched."""

    @asynccontextmanager
    async def open_watched(*args: Any) -> AsyncIterator[Any]:
        async with open_port(*args) as port:
            yield wrap(port, watches())

    return open_watched


def read_trace(folder: Path) -> list[dict[str, Any]]:
    """Read what the processes of a folder have written; a line may still be on its way."""
    whole = (folder / "trace").read_bytes().rpartition(b"\n")[0]
    return [json.loads(line) for line in whole.splitlines()]
