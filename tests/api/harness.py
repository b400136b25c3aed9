"""The API in this process: on a SQLite cluster and a directory bucket, with a clock that a test moves.

Every answer is checked on its way to the test: against `/openapi.json`, and for what contract 1.3 and 1.4 promise of
each.
"""

import asyncio
import re
from collections.abc import AsyncIterator, Callable, Iterable, MutableMapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import httpx2
from starlette.types import ASGIApp, Message

from nightshift_api.app import PREFIXES, build_app
from nightshift_api.auth import Keyring
from nightshift_api.context import Context
from nightshift_api.lists import Lists, following
from nightshift_api.metrics import Metrics
from nightshift_api.settings import Settings
from nightshift_crds import names
from nightshift_crds.bucket import open_bucket
from nightshift_crds.bucket.port import Bucket
from nightshift_crds.cluster import open_cluster
from nightshift_crds.cluster.port import HOSTED_MODEL, STORED_FILE, Cluster, Selector, each
from nightshift_crds.keys import render_keys
from nightshift_crds.lines import CHAT
from nightshift_crds.models import StoredFile
from nightshift_crds.names import IdKind
from nightshift_crds.otel import Tracing
from tests.api.schema import Description, find_faults, find_operation
from tests.builders import NAMESPACE, a_line, jsonl

KEY, OTHER_KEY = "sk-of-team-a", "sk-of-team-b"
OTHER_NAMESPACE = "team-b"
BASE = "http://api"
JSON = "application/json"
ERROR_TYPES = {429: "rate_limit_error"} | dict.fromkeys(range(500, 600), "server_error")


class Clock:
    """The API's clock; it stands until a test moves it. The cluster has a clock of its own, as it has in life."""

    def __init__(self) -> None:
        self.now = datetime.now(UTC).replace(microsecond=0)

    def __call__(self) -> datetime:
        return self.now

    def advance(self, **duration: float) -> datetime:
        self.now += timedelta(**duration)
        return self.now


@dataclass(frozen=True)
class Api:
    """A running API and all that is around it."""

    client: httpx2.AsyncClient
    """Has a key of `NAMESPACE`; its URLs are relative to the first prefix."""
    stranger: httpx2.AsyncClient
    """Has a key of `OTHER_NAMESPACE`."""
    app: ASGIApp
    lists: Lists
    bucket: Bucket
    clock: Clock
    keys_file: Path
    description: Description
    metrics: Metrics
    closing: asyncio.Event

    @property
    def cluster(self) -> Cluster:
        """What is written through this is in the lists that are asked for afterwards."""
        return self.lists.cluster

    def _repr_pretty_(self, printer: Any, _: bool) -> None:
        """Be short: Hypothesis shows what a test was given, and the description is long."""
        printer.text("an API")

    async def upload(
        self, content: bytes | None = None, *, filename: str = "in.jsonl", **fields: str
    ) -> dict[str, Any]:
        """Upload a file, a moment after whatever was done before, and give its object."""
        self.clock.advance(milliseconds=1)
        content = jsonl(a_line()) if content is None else content
        answer = await self.client.post(
            "files", data={"purpose": "batch"} | fields, files={"file": (filename, content)}
        )
        return json_of(answer, 200)

    async def create_batch(self, **fields: Any) -> dict[str, Any]:
        """Create a batch, over a fresh file if none is named, and give its object."""
        if "input_file_id" not in fields:
            fields["input_file_id"] = (await self.upload())["id"]
        self.clock.advance(milliseconds=1)
        answer = await self.client.post("batches", json={"endpoint": CHAT, "completion_window": "24h"} | fields)
        return json_of(answer, 200)

    async def get(self, path: str, **query: str | int) -> dict[str, Any]:
        return json_of(await self.client.get(path, params=query), 200)

    async def ids(self, path: str, **query: str | int) -> list[str]:
        return [item["id"] for item in (await self.get(path, **query))["data"]]

    async def stored_keys(self) -> list[str]:
        return [info.key async for info in self.bucket.list("")]

    async def stored_files(self) -> list[StoredFile]:
        return [StoredFile.parse(manifest) async for manifest in each(self.cluster, STORED_FILE, Selector(NAMESPACE))]

    async def add_model(self, manifest: dict[str, Any]) -> None:
        await self.cluster.create(HOSTED_MODEL, manifest)


def json_of(answer: httpx2.Response, status: int) -> dict[str, Any]:
    assert answer.status_code == status, answer.text
    assert answer.headers["content-type"] == JSON
    body: dict[str, Any] = answer.json()
    return body


def error_of(answer: httpx2.Response, status: int) -> tuple[str | None, str | None]:
    """Give `code` and `param` of an error; its message is for people."""
    error = json_of(answer, status)["error"]
    return error["code"], error["param"]


def make_settings(folder: Path, **settings: Any) -> Settings:
    return Settings(
        cluster=f"sqlite://{folder / 'cluster.db'}",
        bucket=f"file://{folder / 'bucket'}",
        api_keys_file=folder / "api-keys.json",
        **settings,
    )


@asynccontextmanager
async def open_api(
    folder: Path,
    *,
    around_cluster: Callable[[Cluster], Cluster] = lambda cluster: cluster,
    around_bucket: Callable[[Bucket], Bucket] = lambda bucket: bucket,
    tracing: Tracing | None = None,
    **settings: Any,
) -> AsyncIterator[Api]:
    """Start the API; what is put around a port sees each call before the adapter does."""
    loaded = make_settings(folder, **settings)
    loaded.api_keys_file.write_text(render_keys({KEY: NAMESPACE, OTHER_KEY: OTHER_NAMESPACE}))
    clock = Clock()
    async with (
        open_cluster(loaded.cluster) as cluster,
        open_bucket(loaded.bucket) as bucket,
        filled_lists(around_cluster(cluster), loaded) as lists,
    ):
        context = Context(lists, around_bucket(bucket), loaded, now=clock, tracing=tracing)
        app = build_app(context, Keyring(loaded.api_keys_file))
        async with client_of(app) as plain:
            description = json_of(await plain.get(f"{BASE}/openapi.json"), 200)
        async with client_of(app, KEY, description) as client, client_of(app, OTHER_KEY, description) as stranger:
            keys, metrics = loaded.api_keys_file, context.metrics
            yield Api(client, stranger, app, lists, bucket, clock, keys, description, metrics, context.closing)


@asynccontextmanager
async def filled_lists(cluster: Cluster, settings: Settings) -> AsyncIterator[Lists]:
    async with following(cluster, settings) as lists:
        for follower in lists.followers.values():
            await follower.reach(NAMESPACE, 0)
        yield lists


def client_of(app: ASGIApp, key: str | None = None, description: Description | None = None) -> httpx2.AsyncClient:
    """Make a client; with a description every answer is held against it."""

    async def check(answer: httpx2.Response) -> None:
        await answer.aread()
        check_answer(answer, description)

    return httpx2.AsyncClient(
        transport=httpx2.ASGITransport(app, raise_app_exceptions=False),
        base_url=f"{BASE}{PREFIXES[0]}/",
        headers={"Authorization": f"Bearer {key}"} if key else {},
        event_hooks={"response": [check]},
    )


def check_answer(answer: httpx2.Response, description: Description | None) -> None:
    assert answer.headers["x-request-id"].startswith("req_")
    if answer.request.method == "HEAD":
        return
    if answer.status_code >= 400:
        error = json_of(answer, answer.status_code)["error"]
        assert error["type"] == ERROR_TYPES.get(answer.status_code, "invalid_request_error")
    assert answer.headers.get("x-should-retry") == ("false" if answer.status_code == 409 else None)
    assert ("Retry-After" in answer.headers) == (answer.status_code in {429, 503})
    assert 1 <= int(answer.headers.get("Retry-After", 1)) <= 60
    if description:
        check_described(answer, description)


def check_described(answer: httpx2.Response, description: Description) -> None:
    prefix = next((prefix for prefix in PREFIXES if answer.url.path.startswith(f"{prefix}/")), None)
    if prefix is None:
        return
    operation = find_operation(description, answer.request.method, answer.url.path.removeprefix(prefix))
    if operation is None:
        assert answer.status_code in {401, 404, 405, 429}
        return
    response = operation["responses"][str(answer.status_code)]
    for name, header in response["headers"].items():
        assert re.search(header["schema"].get("pattern", ""), answer.headers[name])
        assert header["schema"].get("const", answer.headers[name]) == answer.headers[name]
    described = response["content"]
    (media_type,) = described
    assert answer.headers["content-type"] == media_type
    if media_type == JSON:
        assert find_faults(answer.json(), described[media_type]["schema"], description) == []


async def call(app: ASGIApp, scope: dict[str, Any], messages: Iterable[Message]) -> list[MutableMapping[str, Any]]:
    """Speak ASGI without a client, as a server does whose client may go at any time; gives what was sent."""
    whole = {"type": "http", "http_version": "1.1", "query_string": b"", "headers": [], "asgi": {"version": "3.0"}}
    incoming = iter(messages)
    sent: list[MutableMapping[str, Any]] = []

    async def receive() -> Message:
        return next(incoming, {"type": "http.disconnect"})

    async def send(message: Message) -> None:
        sent.append(message)

    await app(whole | scope, receive, send)
    return sent


def key_of(file_id: str) -> str:
    return names.file_key(file_id)


def file_name(file_id: str) -> str:
    """The Kubernetes name of a file."""
    value = names.parse_id(IdKind.FILE, file_id)
    assert value is not None
    return names.resource_name(IdKind.FILE, value)


def batch_name(batch_id: str) -> str:
    """The Kubernetes name of a batch that was made through the API."""
    value = names.parse_id(IdKind.BATCH, batch_id)
    assert value is not None
    return names.resource_name(IdKind.BATCH, value)
