"""Send webhooks beside the reconcile loop: a receiver that hangs holds up neither a worker nor another receiver.

What has been answered is kept here until the status says it. If the process dies before, it is sent again under the
same id.
"""

import asyncio
from collections import defaultdict
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

import structlog
from pydantic import ValidationError

from nightshift_crds.errors import Rejected
from nightshift_crds.models import BatchJob
from nightshift_operator.facts import Answer, Attempt
from nightshift_operator.poster import Poster
from nightshift_operator.webhooks import Endpoint, build_event, parse_endpoints

_log = structlog.get_logger()


class Endpoints:
    """The endpoints of the file, as fresh as the file; one that cannot be read leaves the last good one in force."""

    def __init__(self, path: Path | None) -> None:
        """Read the file. Raises `Rejected` if it cannot be used."""
        self._path = path
        self._version: tuple[int, int] | None = None
        self._endpoints: tuple[Endpoint, ...] = ()
        try:
            self._refresh()
        except (OSError, ValidationError) as error:
            raise Rejected(f"The file of webhooks {path} cannot be used: {_words_of(error)}") from None

    def all(self) -> tuple[Endpoint, ...]:
        """Give the endpoints that there are now."""
        try:
            self._refresh()
        except (OSError, ValidationError) as error:
            _log.error("webhooks.unreadable", path=str(self._path), problem=_words_of(error))
        return self._endpoints

    def _refresh(self) -> None:
        if self._path is None:
            return
        found = self._path.stat()
        version = (found.st_mtime_ns, found.st_ino)
        if version != self._version:
            self._endpoints = parse_endpoints(self._path.read_bytes())
            self._version = version


def _words_of(error: OSError | ValidationError) -> str:
    """Say what is wrong with a file and where, but nothing of what it holds."""
    if isinstance(error, OSError):
        return error.strerror or type(error).__name__
    problems = error.errors(include_url=False, include_context=False, include_input=False)
    return "; ".join(f"{'.'.join(map(str, problem['loc']))}: {problem['msg']}" for problem in problems)


@dataclass(frozen=True)
class Courier:
    """Sends the webhooks of one installation.

    Attributes:
        on_answer: is told the namespace and the name of a batch about which there is news.
    """

    endpoints: Endpoints
    poster: Poster
    concurrency: int
    on_answer: Callable[[str, str], None]
    _attempts: dict[str, dict[str, Attempt]] = field(default_factory=dict)
    _slots: dict[str, asyncio.Semaphore] = field(default_factory=dict)
    _tasks: set[asyncio.Task[None]] = field(default_factory=set)

    def listeners(self, namespace: str) -> tuple[str, ...]:
        """Name the endpoints that are told of the batches of a namespace."""
        return tuple(e.name for e in self.endpoints.all() if not e.namespaces or namespace in e.namespaces)

    def attempts(self, batch: BatchJob) -> Mapping[str, Attempt]:
        """Give what is not in a batch's status yet, by endpoint; what is, is forgotten."""
        recorded = defaultdict(int, {d.name: d.attempts for d in batch.status.webhooks})
        known = self._attempts.pop(batch.metadata.uid, {})
        news = {name: attempt for name, attempt in known.items() if attempt.number > recorded[name]}
        if news and not batch.status.settled:
            self._attempts[batch.metadata.uid] = news
        return dict(news)

    def send(self, batch: BatchJob, name: str, number: int) -> None:
        """Begin to tell an endpoint that a batch has ended; one that is not there any more is left out."""
        endpoint = next((e for e in self.endpoints.all() if e.name == name), None)
        if endpoint is not None:
            self._attempts.setdefault(batch.metadata.uid, {})[name] = Attempt(number)
            task = asyncio.create_task(self._deliver(batch, endpoint, number), name=f"webhook {name}")
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)

    async def _deliver(self, batch: BatchJob, endpoint: Endpoint, number: int) -> None:
        async with self._slots.setdefault(endpoint.name, asyncio.Semaphore(self.concurrency)):
            answer = await self._post(batch, endpoint)
        _log.info("webhook.answered", batch=batch.id, endpoint=endpoint.name, attempt=number, answer=answer.text)
        known = self._attempts.get(batch.metadata.uid, {})
        if endpoint.name in known:
            known[endpoint.name] = Attempt(number, answer)
            self.on_answer(batch.metadata.namespace, batch.metadata.name)

    async def _post(self, batch: BatchJob, endpoint: Endpoint) -> Answer:
        try:
            return await self.poster.post(endpoint, build_event(batch))
        except Exception as error:  # noqa: BLE001 - a bug must not keep a batch from settling
            _log.error("webhook.failed", endpoint=endpoint.name, problem=type(error).__name__)
            return Answer(f"the operator failed: {type(error).__name__}")
