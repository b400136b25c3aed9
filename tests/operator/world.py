"""A small installation: one SQLite cluster, one directory bucket, a clock, and the test as Kubernetes and processor."""

import asyncio
import json
import sqlite3
from collections.abc import AsyncGenerator, AsyncIterator, Callable
from contextlib import aclosing, closing
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any, cast

from nightshift_crds import names
from nightshift_crds.bucket.port import Bucket
from nightshift_crds.cluster.local import merge
from nightshift_crds.cluster.port import (
    BATCH_JOB,
    EVENT,
    HOSTED_MODEL,
    JOB,
    NODE,
    POD,
    STORED_FILE,
    Cluster,
    Manifest,
    Propagation,
    Selector,
    each,
)
from nightshift_crds.cluster.port import Kind as ResourceKind
from nightshift_crds.lifecycle import Phase, Sealing
from nightshift_crds.lines import Usage
from nightshift_crds.models import BatchJob, StoredFile
from nightshift_crds.names import ResultKind, Step, job_name
from nightshift_crds.records import (
    BatchManifest,
    Header,
    Progress,
    RecordKind,
    SealedFile,
    State,
    encode_manifest,
    encode_progress,
    encode_record,
)
from nightshift_operator.apply import Applier
from nightshift_operator.budget import Budget
from nightshift_operator.controller import Controller, Key
from nightshift_operator.courier import Courier, Endpoints
from nightshift_operator.facts import Answer
from nightshift_operator.observe import Observer
from nightshift_operator.queue import WorkQueue
from nightshift_operator.settings import Settings
from nightshift_operator.sweep import Sweep
from nightshift_operator.view import Policy
from nightshift_operator.webhooks import Endpoint, WebhookEvent
from tests.builders import FILE_ID, NAMESPACE, a_batch_manifest, a_file_manifest, a_model_manifest, a_verdict, timestamp

HERE = Selector(NAMESPACE)
INPUT_KEY = names.file_key(FILE_ID)


@dataclass
class Clock:
    """The real time, and what the test adds to it."""

    offset: timedelta = timedelta()

    def __call__(self) -> datetime:
        return datetime.now(UTC) + self.offset


class Crash(Exception):
    """The process is gone."""


@dataclass
class Fuse:
    """Burns after so many calls: before one reaches the other side, or before its answer comes back."""

    calls: int
    loses_answer: bool = False

    def burn(self, *, is_answer: bool) -> None:
        if is_answer is not self.loses_answer:
            return
        self.calls -= 1
        if self.calls < 0:
            raise Crash


@dataclass
class Outage:
    """After so many calls, so many fail with an error; the next ones reach the other side again."""

    after: int
    error: Exception
    calls: int = 1

    def burn(self, *, is_answer: bool) -> None:
        if is_answer:
            return
        self.after -= 1
        if self.after < 0 and self.calls > 0:
            self.calls -= 1
            raise self.error


class Fragile:
    """A port whose calls may fail."""

    def __init__(self, port: Any, fuse: Fuse | Outage) -> None:
        self._port = port
        self._fuse = fuse

    @property
    def url(self) -> str:
        return str(self._port.url)

    def __getattr__(self, name: str) -> Any:
        call = getattr(self._port, name)
        if name in {"read", "watch"} or (name == "list" and hasattr(self._port, "checksum")):
            return lambda *args, **more: self._stream(call(*args, **more))
        return lambda *args, **more: self._await(call, *args, **more)

    async def _await(self, call: Callable[..., Any], *args: Any, **more: Any) -> Any:
        self._fuse.burn(is_answer=False)
        answer = await call(*args, **more)
        self._fuse.burn(is_answer=True)
        return answer

    async def _stream(self, items: AsyncGenerator[Any, None]) -> AsyncIterator[Any]:
        self._fuse.burn(is_answer=False)
        async with aclosing(items):
            async for item in items:
                yield item


@dataclass
class Receivers:
    """Whoever webhooks are sent to: gives the answers that it was told, by endpoint, and a yes once they run out."""

    answers: dict[str, list[Answer | Exception]] = field(default_factory=dict)
    heard: list[tuple[str, str]] = field(default_factory=list)
    """The endpoint and the id of every event that came in."""
    gate: asyncio.Event | None = None
    """What is waited for before an answer is given."""

    async def post(self, endpoint: Endpoint, event: WebhookEvent) -> Answer:
        self.heard.append((endpoint.name, event.id))
        if self.gate:
            await self.gate.wait()
        told = self.answers.get(endpoint.name)
        answer = told.pop(0) if told else Answer("HTTP 200", is_taken=True)
        if isinstance(answer, Exception):
            raise answer
        return answer


@dataclass(frozen=True)
class World:
    """One installation and what the test does to it."""

    cluster: Cluster
    bucket: Bucket
    settings: Settings
    clock: Clock = field(default_factory=Clock)
    receivers: Receivers = field(default_factory=Receivers)

    # the operator

    def operator(self, fuse: Fuse | Outage | None = None) -> Controller:
        """Start an operator; every one has a memory of its own."""
        cluster = cast("Cluster", Fragile(self.cluster, fuse)) if fuse else self.cluster
        bucket = cast("Bucket", Fragile(self.bucket, fuse)) if fuse else self.bucket
        window = timedelta(seconds=self.settings.completion_window_s)
        seconds = lambda: self.clock().timestamp()  # noqa: E731 - one clock for all
        queue: WorkQueue[Key] = WorkQueue(seconds)
        endpoints = Endpoints(self.settings.webhooks_file)
        courier = Courier(endpoints, self.receivers, self.settings.webhook_concurrency, lambda *k: queue.add(Key(*k)))
        budget = Budget(self.settings.progress_writes_per_s, seconds)
        return Controller(
            observer=Observer(cluster, bucket, window, self.settings.uri_prefixes, self.settings.gpu_label, courier),
            applier=Applier(cluster, bucket, self.settings, budget, courier),
            policy=Policy.of(self.settings),
            queue=queue,
            now=self.clock,
        )

    def sweep(self, fuse: Fuse | Outage | None = None, **settings: Any) -> Sweep:
        cluster = cast("Cluster", Fragile(self.cluster, fuse)) if fuse else self.cluster
        return Sweep(cluster, self.bucket, self.settings.model_copy(update=settings))

    # people

    async def add_model(self, **spec: Any) -> None:
        await self.cluster.create(HOSTED_MODEL, a_model_manifest(**spec))

    async def add_input(self, **status: Any) -> StoredFile:
        """Upload ten lines."""
        await self.bucket.put(INPUT_KEY, b"{}\n" * 10, create_only=False)
        return await self.add_file(a_file_manifest(), phase="Ready", verdict=a_verdict().dump(), **status)

    async def add_file(self, manifest: Manifest, **status: Any) -> StoredFile:
        created = await self.cluster.create(STORED_FILE, manifest)
        metadata = created["metadata"]
        patch = {"status": status}
        return StoredFile.parse(
            await self.cluster.patch_status(STORED_FILE, metadata["namespace"], metadata["name"], patch)
        )

    async def add_batch(self, **manifest: Any) -> Key:
        created = await self.cluster.create(BATCH_JOB, a_batch_manifest(**manifest))
        return Key(created["metadata"]["namespace"], created["metadata"]["name"])

    async def ask(self, key: Key, **spec: Any) -> None:
        await self.cluster.patch(BATCH_JOB, *key, {"spec": spec})

    async def cancel(self, key: Key) -> None:
        await self.ask(key, cancelRequested=True, cancelRequestedAt=timestamp(self.clock().replace(microsecond=0)))

    async def batch(self, key: Key) -> BatchJob:
        return BatchJob.parse(await self.cluster.get(BATCH_JOB, *key))

    async def reaches(self, key: Key, phase: Phase) -> None:
        """Wait until a batch is in a phase."""
        page = await self.cluster.list(BATCH_JOB)
        changes = self.cluster.watch(BATCH_JOB, HERE, page.resource_version)
        async with asyncio.timeout(10), aclosing(changes):
            if (await self.batch(key)).phase is phase:
                return
            async for change in changes:
                manifest = change.manifest
                if manifest["metadata"]["name"] == key.name and manifest.get("status", {}).get("phase") == phase:
                    return

    async def disappears(self, kind: ResourceKind, name: str) -> None:
        """Wait until an object is gone."""
        page = await self.cluster.list(kind)
        changes = self.cluster.watch(kind, HERE, page.resource_version)
        async with asyncio.timeout(10), aclosing(changes):
            while name in [manifest["metadata"]["name"] for manifest in await self.all(kind)]:
                await anext(changes)

    async def result(self, key: Key, kind: ResultKind) -> StoredFile:
        file_id = (await self.batch(key)).result_file_id(kind)
        return StoredFile.parse(await self.cluster.get(STORED_FILE, key.namespace, file_id.replace("_", "-", 1)))

    async def all(self, kind: ResourceKind) -> list[Manifest]:
        return [manifest async for manifest in each(self.cluster, kind)]

    async def events(self) -> list[str]:
        return [event["reason"] for event in await self.all(EVENT)]

    async def keys(self, prefix: str = "") -> list[str]:
        return [info.key async for info in self.bucket.list(prefix)]

    def write_oddly(self, kind: ResourceKind, name: str, **parts: Any) -> None:
        """Patch an object behind the back of schema and rules, as a later version of Nightshift might."""
        path = self.settings.cluster.removeprefix("sqlite://")
        with closing(sqlite3.connect(path, timeout=10)) as database, database:
            where = (kind.kind, NAMESPACE, name)
            [version] = database.execute("UPDATE clock SET version=version+1 RETURNING version").fetchone()
            [body] = database.execute(
                "SELECT body FROM objects WHERE kind=? AND namespace=? AND name=?", where
            ).fetchone()
            odd = json.dumps(merge(json.loads(body), merge(parts, {"metadata": {"resourceVersion": str(version)}})))
            database.execute(
                "UPDATE objects SET body=?, version=? WHERE kind=? AND namespace=? AND name=?", (odd, version, *where)
            )

    # Kubernetes

    async def job(self, key: Key, step: Step = Step.RUN) -> Manifest:
        batch = await self.batch(key)
        return await self.cluster.get(JOB, NAMESPACE, job_name(batch.metadata.uid, step, batch.status.attempt))

    async def end_job(
        self, key: Key, step: Step = Step.RUN, how: str = "Complete", exit_code: int | None = None
    ) -> None:
        """End a Job, with a pod of that exit code."""
        job = await self.job(key, step)
        if exit_code is not None:
            state = {"terminated": {"exitCode": exit_code}}
            await self.add_pod(job, containerStatuses=[{"name": "processor", "state": state}])
        condition = {"type": how, "status": "True", "lastTransitionTime": timestamp(self.clock())}
        status = {"status": {"conditions": [condition]}}
        await self.cluster.patch_status(JOB, NAMESPACE, job["metadata"]["name"], status)

    async def add_node(self, name: str, **labels: str) -> None:
        metadata = {"name": name, "namespace": "", "labels": labels}
        await self.cluster.create(NODE, {"apiVersion": "v1", "kind": "Node", "metadata": metadata, "spec": {}})

    async def add_pod(self, job: Manifest, node: str = "", **status: Any) -> str:
        metadata = job["metadata"]
        owner = {"apiVersion": "batch/v1", "kind": "Job", "name": metadata["name"], "uid": metadata["uid"]}
        name = f"{metadata['name']}-0"
        pod = {
            "apiVersion": "v1",
            "kind": "Pod",
            "metadata": {
                "name": name,
                "namespace": NAMESPACE,
                "labels": {"batch.kubernetes.io/job-name": metadata["name"]},
                "ownerReferences": [owner | {"controller": True}],
            },
            "spec": job["spec"]["template"]["spec"] | ({"nodeName": node} if node else {}),
        }
        await self.cluster.create(POD, pod)
        await self.cluster.patch_status(POD, NAMESPACE, name, {"status": status})
        return name

    async def reap_pods(self) -> None:
        """End the processes of pods that were told to go."""
        for pod in await self.all(POD):
            if "deletionTimestamp" in pod["metadata"]:
                await self.cluster.delete(
                    POD, NAMESPACE, pod["metadata"]["name"], propagation=Propagation.BACKGROUND, grace_s=0
                )

    # the processor

    async def log(self, key: Key, kind: RecordKind, *, completed: int, failed: int, seq: int = 0) -> None:
        """Append a record to the only log, and report it."""
        uid = (await self.batch(key)).metadata.uid
        state = State(completed=completed, failed=failed, output_bytes=10 * completed, error_bytes=10 * failed)
        header = Header(kind=kind, writer="writer", state=state)
        await self.bucket.put(names.record_key(uid, 0, seq), encode_record(header), create_only=True)
        progress = encode_progress(Progress(seq=seq, state=state))
        await self.bucket.put(names.progress_key(uid, 0, 0), progress, create_only=False)

    async def seal(self, key: Key, *, completed: int, failed: int) -> None:
        """Do what `nightshift-processor seal` does."""
        batch = await self.batch(key)
        assert batch.status.sealing is not None
        is_padded = batch.status.sealing in {Sealing.CANCELLED, Sealing.EXPIRED}
        lines = {
            ResultKind.OUTPUT: completed,
            ResultKind.ERROR: batch.status.counts.total - completed if is_padded else failed,
        }
        files = {
            kind: SealedFile(file_id=batch.result_file_id(kind), bytes=3 * n, crc32c=n, lines=n)
            for kind, n in lines.items()
            if n
        }
        for kind, file in files.items():
            await self.bucket.put(names.file_key(file.file_id), b"{}\n" * lines[kind], create_only=True)
        usage = Usage(input_tokens=3 * completed, output_tokens=completed, total_tokens=4 * completed)
        manifest = BatchManifest(
            reason=batch.status.sealing, completed=completed, failed=failed, usage=usage, files=files
        )
        uid = batch.metadata.uid
        await self.bucket.put(names.manifest_key(uid), encode_manifest(manifest), create_only=True)
