"""Any life of batches against a small model of it: create, cancel, expire, delete, kill and restart in any order.

Here all roles run in this process, over the real adapters, so that Hypothesis can shrink what it finds. A kill is an
exception that nobody catches, and whoever it has hit makes no further effect; a SIGKILL is `test_failpoints`.
"""

import asyncio
import json
import tempfile
from collections import Counter, defaultdict
from collections.abc import Coroutine, Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass, field
from datetime import timedelta
from pathlib import Path
from typing import Any, TypeVar

from aiohttp import web
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import Bundle, RuleBasedStateMachine, invariant, multiple, rule

from nightshift_crds.bucket.port import Bucket
from nightshift_crds.cluster import open_cluster
from nightshift_crds.cluster.port import BATCH_JOB, HOSTED_MODEL, JOB, Cluster, Manifest, Selector, each
from nightshift_crds.exits import Exit
from nightshift_crds.lines import CHAT
from nightshift_crds.models import BatchJob
from nightshift_operator.apply import Applier
from nightshift_operator.budget import Budget
from nightshift_operator.controller import Controller, Key
from nightshift_operator.courier import Courier, Endpoints
from nightshift_operator.observe import Observer
from nightshift_operator.queue import WorkQueue
from nightshift_operator.settings import Settings
from nightshift_operator.view import Policy
from nightshift_processor.inspect import inspect
from nightshift_processor.run import run
from nightshift_processor.seal import seal
from nightshift_processor.settings import InspectSettings, RunSettings, SealSettings
from tests.api.harness import Api, json_of, open_api
from tests.builders import NAMESPACE, a_model_manifest
from tests.crash.audit import Ended, find_wrong_batch
from tests.crash.failpoints import Moment, WatchedBucket, WatchedCluster
from tests.crash.stories import lines_of
from tests.e2e.installation import ENDS, MODEL
from tests.operator.world import Receivers
from tests.stub_model import StubModel

WINDOW_S = 3_600
PASSES = 60
"""More than any batch needs from any state to its end, if nobody is killed."""
_T = TypeVar("_T")


class Killed(BaseException):
    """Whoever sees it is dead."""


@dataclass
class Mortal:
    """The watch of a process that may die at its nth effect: before it, or when it is done."""

    dies_at: int | None = None
    moment: Moment = Moment.BEFORE
    is_dead: bool = False
    durable: set[str] = field(default_factory=set)

    def __call__(self, effect: str, moment: Moment, about: Sequence[str] = ()) -> None:  # noqa: ARG002 - whatever it is
        if self.is_dead:
            raise Killed
        if self.dies_at is not None and moment is self.moment:
            self.dies_at -= 1
            if self.dies_at < 0:
                self.is_dead = True
                raise Killed
        if moment is Moment.AFTER:
            self.durable.update(about)


@dataclass
class Known:
    """What the model knows of a batch."""

    id: str
    file_id: str
    rows: list[str]
    is_cancelled: bool = False
    is_late: bool = False
    shown: list[Any] = field(default_factory=list)
    taken: int = 0
    """Rows that it has taken over from the batch that it runs again."""
    reruns: "list[Known]" = field(default_factory=list)

    @property
    def status(self) -> str:
        return str(self.shown[-1]["status"])

    def ends(self) -> set[str]:
        """How it may end."""
        if self.is_cancelled:
            return {"cancelled"}
        return {"completed", "expired"} if self.is_late else {"completed"}


@dataclass
class Town:
    """One installation in this process: the API as it is served, and operator and processors one step at a time."""

    folder: Path
    api: Api
    cluster: Cluster
    stub: StubModel
    settings: Settings
    api_mortal: Mortal
    durable: dict[str, set[str]] = field(default_factory=lambda: defaultdict(set))
    """By batch."""
    excuses: Counter[str] = field(default_factory=Counter)
    """How often a row may be asked again: once for each run that ended before the row was durable, and each rerun."""

    async def reconcile(self, mortal: Mortal) -> None:
        """Make one pass of a new operator over every batch."""
        cluster, bucket = WatchedCluster(self.cluster, mortal), WatchedBucket(self.api.bucket, mortal)
        seconds = lambda: self.api.clock().timestamp()  # noqa: E731 - one clock for all
        window = timedelta(seconds=WINDOW_S)
        courier = Courier(Endpoints(None), Receivers(), 1, lambda *_: None)
        controller = Controller(
            observer=Observer(cluster, bucket, window, (), self.settings.gpu_label, courier),
            applier=Applier(cluster, bucket, self.settings, Budget(1_000, seconds), courier),
            policy=Policy.of(self.settings),
            queue=WorkQueue(seconds),
            now=self.api.clock,
        )
        async for manifest in each(self.cluster, BATCH_JOB):
            await controller.reconcile(Key(NAMESPACE, manifest["metadata"]["name"]))

    async def jobs(self) -> list[Manifest]:
        jobs = [job async for job in each(self.cluster, JOB, Selector(NAMESPACE))]
        return [job for job in jobs if not job.get("status", {}).get("conditions")]

    async def work(self, job: Manifest, mortal: Mortal, *, stops: bool = False) -> None:
        """Run the pod of a Job, once; it ends the Job if it does its work."""
        container = job["spec"]["template"]["spec"]["containers"][0]
        environ = {variable["name"]: variable["value"] for variable in container["env"]}
        environ |= {"NIGHTSHIFT_SCRATCH_DIR": str(self.folder / "scratch"), "JOB_COMPLETION_INDEX": "0"}
        bucket = WatchedBucket(self.api.bucket, mortal)
        if container["args"] == ["seal"]:
            exit_code = await seal(SealSettings.load(environ), bucket)
        elif container["args"] == ["inspect"]:
            exit_code = await inspect(InspectSettings.load(environ), bucket)
        else:
            exit_code = await self._run(RunSettings.load(environ), bucket, mortal, stops=stops)
        assert exit_code in {Exit.DONE, Exit.INTERRUPTED}
        if exit_code is Exit.DONE:
            status = {"status": {"conditions": [{"type": "Complete", "status": "True"}]}}
            await self.cluster.patch_status(JOB, NAMESPACE, job["metadata"]["name"], status)

    async def _run(self, loaded: RunSettings, bucket: Bucket, mortal: Mortal, *, stops: bool) -> Exit:
        before, stop = Counter(self.stub.asked), asyncio.Event()
        running = asyncio.create_task(run(loaded, bucket, stop))
        if stops:
            await asyncio.wait(
                {running, asyncio.create_task(self.stub.was_asked(before.total() + 1))},
                return_when=asyncio.FIRST_COMPLETED,
            )
            stop.set()
        try:
            return await running
        finally:
            asked = {row for row, times in self.stub.asked.items() if times > before[row]}
            durable = self.durable[loaded.batch_uid]
            assert not asked & durable, "what is durable is not asked again"
            durable |= mortal.durable
            self.excuses.update(asked - durable)


def died(error: BaseException) -> bool:
    """Tell whether somebody was killed, and nothing else went wrong."""
    if isinstance(error, BaseExceptionGroup):
        return all(died(inner) for inner in error.exceptions)
    return isinstance(error, Killed)


KILL = st.none() | st.integers(0, 12)
MOMENT = st.sampled_from([Moment.BEFORE, Moment.AFTER])


class Lives(RuleBasedStateMachine):
    """What people, operator and processors do, in any order."""

    batches = Bundle("batches")

    def __init__(self) -> None:
        super().__init__()
        self._loop = asyncio.new_event_loop()
        self._stack = AsyncExitStack()
        self._folder = tempfile.TemporaryDirectory()
        self._known: list[Known] = []
        self._is_late = False
        self._town = self._do(self._open())

    def _do(self, work: Coroutine[Any, Any, _T]) -> _T:
        return self._loop.run_until_complete(work)

    async def _open(self) -> Town:
        folder, mortal, stub = Path(self._folder.name), Mortal(), StubModel(latency_s=0)
        around_bucket = lambda bucket: WatchedBucket(bucket, mortal)  # noqa: E731 - one line each
        around_cluster = lambda cluster: WatchedCluster(cluster, mortal)  # noqa: E731
        opening = open_api(
            folder, around_bucket=around_bucket, around_cluster=around_cluster, completion_window_s=WINDOW_S
        )
        api = await self._stack.enter_async_context(opening)
        runner = web.AppRunner(stub.build_app(), access_log=None, shutdown_timeout=1)
        await runner.setup()
        self._stack.push_async_callback(runner.cleanup)
        await web.TCPSite(runner, "127.0.0.1", 0).start()
        url = f"http://127.0.0.1:{runner.addresses[0][1]}"
        cluster = await self._stack.enter_async_context(open_cluster(f"sqlite://{folder / 'cluster.db'}"))
        await cluster.create(HOSTED_MODEL, a_model_manifest(MODEL, url))
        loaded = Settings(
            cluster="sqlite:///unused",
            bucket=api.bucket.url,
            completion_window_s=WINDOW_S,
            scratch_retention_s=0,
            flush_interval_s=0.001,
        )
        return Town(folder, api, cluster, stub, loaded, mortal)

    def _mortally(self, work: Coroutine[Any, Any, None]) -> bool:
        """Do something that may be killed; True if it was not."""
        try:
            self._do(work)
        except BaseException as error:
            if not died(error):
                raise
            return False
        return True

    def _ask(self, dies_at: int | None, moment: Moment, method: str, path: str, **options: Any) -> Any:
        """Ask the API; if it is killed, it is started again and asked again."""
        mortal = self._town.api_mortal
        mortal.dies_at, mortal.moment = dies_at, moment
        try:
            return self._do(self._town.api.client.request(method, path, **options))
        except BaseException as error:
            if not died(error):
                raise
        finally:
            mortal.dies_at, mortal.is_dead = None, False
        return self._do(self._town.api.client.request(method, path, **options))

    # people

    @rule(
        target=batches,
        words=st.lists(st.sampled_from(["row", "fail:400"]), min_size=1, max_size=5),
        dies_at=KILL,
        moment=MOMENT,
    )
    def create(self, words: list[str], dies_at: int | None, moment: Moment) -> Known:
        self._town.api.clock.advance(seconds=1)
        rows = [f"{word} {len(self._known)} {n}" for n, word in enumerate(words)]
        form = {"data": {"purpose": "batch"}, "files": {"file": ("in.jsonl", lines_of(rows))}}
        uploaded = json_of(self._ask(dies_at, moment, "POST", "files", **form), 200)
        body = {"input_file_id": uploaded["id"], "endpoint": CHAT, "completion_window": "24h"}
        headers = {"Idempotency-Key": f"key {len(self._known)}"}
        first, again = (
            json_of(self._ask(at, moment, "POST", "batches", json=body, headers=headers), 200)["id"]
            for at in (dies_at and dies_at % 3, None)
        )
        assert first == again, "a key makes one batch"
        batch = Known(first, uploaded["id"], rows, is_late=self._is_late)
        self._known.append(batch)
        return batch

    @rule(batch=batches, dies_at=st.none() | st.integers(0, 2), moment=MOMENT)
    def cancel(self, batch: Known, dies_at: int | None, moment: Moment) -> None:
        answer = self._ask(dies_at, moment, "POST", f"batches/{batch.id}/cancel")
        if answer.status_code == 200:
            batch.is_cancelled = True
        else:
            assert answer.status_code == 409
            assert not batch.is_cancelled, "what was accepted stays accepted"

    @rule(target=batches, batch=batches, dies_at=st.none() | st.integers(0, 2), moment=MOMENT)
    def rerun(self, batch: Known, dies_at: int | None, moment: Moment) -> Any:
        self.look()
        headers = {"Idempotency-Key": f"key {len(self._known)}"}
        answer = self._ask(dies_at, moment, "POST", f"batches/{batch.id}/rerun", headers=headers)
        if answer.status_code == 409:
            assert answer.json()["error"]["code"] or batch.status not in ENDS
            return multiple()
        taken = {json.loads(line)["custom_id"] for line in self._content(batch, "output").splitlines()}
        assert len(taken) < len(batch.rows)
        self._town.excuses.update(set(batch.rows) - taken)
        new = Known(json_of(answer, 200)["id"], batch.file_id, batch.rows, is_late=self._is_late, taken=len(taken))
        batch.reruns.append(new)
        self._known.append(new)
        return new

    @rule()
    def expire(self) -> None:
        self._town.api.clock.advance(seconds=WINDOW_S + 60)
        self._is_late = True  # of later batches too: the cluster has a clock of its own, and stamps them
        for batch in self._known:
            batch.is_late = True

    @rule(batch=batches, dies_at=st.none() | st.integers(0, 2), moment=MOMENT)
    def delete(self, batch: Known, dies_at: int | None, moment: Moment) -> None:
        self.look()
        answer = self._ask(dies_at, moment, "DELETE", f"files/{batch.file_id}")
        needed = [user for known in self._known if known.file_id == batch.file_id for user in [known, *known.reruns]]
        if all(user.status in ENDS for user in needed):
            assert answer.status_code in {200, 404}
        elif batch.status in ENDS:
            assert answer.status_code in {200, 404, 409}, "a rerun may hold it, until it has what it needs"
        else:
            assert answer.status_code == 409, "a batch that has not ended holds its input"

    # operator and processors

    @rule(dies_at=KILL, moment=MOMENT)
    def reconcile(self, dies_at: int | None, moment: Moment) -> None:
        self._mortally(self._town.reconcile(Mortal(dies_at, moment)))

    @rule(which=st.integers(0, 9), dies_at=KILL, moment=MOMENT, stops=st.booleans())
    def work(self, which: int, dies_at: int | None, moment: Moment, stops: bool) -> None:
        jobs = self._do(self._town.jobs())
        if jobs:
            mortal = Mortal(dies_at, moment)
            self._mortally(self._town.work(jobs[which % len(jobs)], mortal, stops=stops))

    @rule()
    def wait(self) -> None:
        """Let everything go on undisturbed for a while: else few batches would come to an end that can be run again."""
        for _ in range(6):
            self._go_on()

    def _go_on(self) -> None:
        self._do(self._town.reconcile(Mortal()))
        for job in self._do(self._town.jobs()):
            self._do(self._town.work(job, Mortal()))

    # what must be true

    @invariant()
    def look(self) -> None:
        for batch in self._known:
            batch.shown.append(self._do(self._town.api.get(f"batches/{batch.id}")))
            ended = Ended(batch.shown[-2:], [], b"", b"")
            backwards = [
                w for w in find_wrong_batch(ended) if w.startswith(("status went", "count ")) or "changed" in w
            ]
            assert backwards == []

    def teardown(self) -> None:
        try:
            self._live_to_the_end()
        finally:
            self._do(self._stack.aclose())
            self._loop.close()
            self._folder.cleanup()

    def _live_to_the_end(self) -> None:
        for _ in range(PASSES):
            self._go_on()
            if self._do(self._all_settled()):
                break
        self.look()
        for batch in self._known:
            assert batch.status in batch.ends(), batch
            output, error = self._content(batch, "output"), self._content(batch, "error")
            ended = Ended(batch.shown, batch.rows, output, error, batch.taken)
            assert find_wrong_batch(ended) == []
        for row, times in self._town.stub.asked.items():
            assert times <= 1 + self._town.excuses[row], row

    async def _all_settled(self) -> bool:
        return all([BatchJob.parse(m).status.settled async for m in each(self._town.cluster, BATCH_JOB)])

    def _content(self, batch: Known, name: str) -> bytes:
        file_id = batch.shown[-1][f"{name}_file_id"]
        if file_id is None:
            return b""
        content: bytes = self._do(self._town.api.client.get(f"files/{file_id}/content")).content
        return content


TestLives = Lives.TestCase
TestLives.settings = settings(
    max_examples=15, stateful_step_count=20, deadline=None, suppress_health_check=list(HealthCheck)
)
