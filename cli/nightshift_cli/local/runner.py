"""The Job runner: Job controller and kubelet of `nightshift local`, as one program.

One level-triggered pass over all Jobs and pods follows every change. A pod is a process; its state is in the cluster,
so that a new runner goes on where the last one ended. What an earlier runner has started ends by itself when that
runner is gone, and is waited for by a lock that only the process holds.
"""

import asyncio
import base64
import os
import secrets
import shutil
import signal
import sys
from collections.abc import Mapping
from contextlib import aclosing, suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime
from itertools import count
from pathlib import Path
from typing import Annotated

import structlog
from pydantic import Field

from nightshift_cli.local import processes
from nightshift_cli.local.jobcontrol import (
    build_job_status,
    build_pod,
    build_pod_status,
    expiry_of,
    index_of,
    phase_of,
    plan,
)
from nightshift_crds.cluster import open_cluster
from nightshift_crds.cluster.lease import holding_lease
from nightshift_crds.cluster.port import EVERYTHING, JOB, POD, SECRET, Cluster, Kind, Manifest, Propagation, each
from nightshift_crds.errors import AlreadyExists, Missing, Rejected, Stale, Unavailable
from nightshift_crds.logs import configure_logs
from nightshift_crds.names import Step
from nightshift_crds.parent import FD_VARIABLE, end_with_parent
from nightshift_crds.settings import PREFIX, MetricsSettings

_log = structlog.get_logger()
_STEP_LABEL = "nightshift.dev/step"
_RETRY_S = 1.0
_LOCK_POLL_S = 0.2
_STOP_GRACE_S = 8.0
_GRACE_S = 30.0
_SOON_S = 0.05
_NEVER_STARTED = 128
_TERMINATED = 143


class RunnerSettings(MetricsSettings):
    """Settings of the Job runner."""

    cluster: str
    """URL of the cluster: `sqlite:///PATH`."""
    work_dir: Path
    """Folder for scratch volumes and locks."""
    lease: str = "nightshift/nightshift-runner"
    """Lease (`namespace/name`) that is held while working."""
    run_slots: Annotated[int, Field(ge=1)] = 4
    """Batches that send lines at the same time; others wait."""
    other_slots: Annotated[int, Field(ge=1)] = 4
    """Inspections and sealings at the same time; they never wait for a running batch."""
    metrics_port: Annotated[int, Field(ge=0, le=65535)] = 0
    """First of as many ports as there are `run_slots`, one for each processor that sends lines; 0: they show none."""


@dataclass
class Runner:
    """Runs the Jobs of a cluster; what it remembers is the processes that it has started."""

    cluster: Cluster
    settings: RunnerSettings
    environ: Mapping[str, str]
    _tasks: dict[str, "asyncio.Task[None]"] = field(default_factory=dict)
    _children: dict[str, processes.Child] = field(default_factory=dict)
    _ends: dict[str, "asyncio.Task[int]"] = field(default_factory=dict)
    _slots: dict[str, int] = field(default_factory=dict)
    """By pod, the slot that it runs in: what tells its port for metrics from that of others."""
    _changed: asyncio.Event = field(default_factory=asyncio.Event)
    _is_stopping: bool = False

    async def run(self, stop: asyncio.Event) -> None:
        """Run Jobs until told to stop; processes then get their SIGTERM, and their pods are not to blame."""
        async with asyncio.TaskGroup() as group:
            loops = [group.create_task(self._watch(kind)) for kind in (JOB, POD)]
            loops.append(group.create_task(self._pass_all()))
            await stop.wait()
            self._is_stopping = True
            for task in loops:
                task.cancel()
        for name in list(self._children):
            self._stop(name, _STOP_GRACE_S)
        await asyncio.gather(*self._tasks.values())

    async def _watch(self, kind: Kind) -> None:
        while True:
            try:
                since = (await self.cluster.list(kind, limit=1)).resource_version
                self._changed.set()
                async with aclosing(self.cluster.watch(kind, EVERYTHING, since)) as changes:
                    async for _ in changes:
                        self._changed.set()
            except (Stale, Unavailable):
                await asyncio.sleep(_RETRY_S)

    async def _pass_all(self) -> None:
        while True:
            self._changed.clear()
            try:
                wait_s = await self.pass_once(datetime.now(UTC))
            except (Unavailable, Missing, Stale, AlreadyExists) as error:
                _log.warning("pass.interrupted", problem=str(error))
                wait_s = _RETRY_S
            with suppress(TimeoutError):
                async with asyncio.timeout(wait_s):
                    await self._changed.wait()

    async def pass_once(self, now: datetime) -> float | None:
        """Look at every Job and every pod once; gives the seconds until time alone may change something."""
        jobs = [job async for job in each(self.cluster, JOB)]
        pods = [pod async for pod in each(self.cluster, POD)]
        moments = [await self._pass_job(job, _pods_of(job, pods), now) for job in jobs]
        owners = {job["metadata"]["uid"] for job in jobs if "deletionTimestamp" not in job["metadata"]}
        for pod in pods:
            await self._pass_pod(pod, is_owned=_owner_of(pod) in owners)
        for name in self._children.keys() - {pod["metadata"]["name"] for pod in pods}:  # taken away by force
            self._stop(name, _STOP_GRACE_S)
        self._fill_slots(pods)
        due = [moment for moment in moments if moment]
        return max((min(due) - now).total_seconds(), _SOON_S) if due else None

    # Jobs

    async def _pass_job(self, job: Manifest, pods: list[Manifest], now: datetime) -> datetime | None:
        metadata = job["metadata"]
        namespace, name = metadata["namespace"], metadata["name"]
        if "deletionTimestamp" in metadata:
            return None
        expires_at = expiry_of(job)
        if expires_at is not None:
            if expires_at <= now:
                await self.cluster.delete(JOB, namespace, name, propagation=Propagation.BACKGROUND)
            return expires_at
        planned = plan(job, pods, now)
        created = [build_pod(job, index, secrets.token_hex(3)) for index in planned.indexes]
        for pod in created:
            await self.cluster.create(POD, pod)
        for surplus in planned.surplus:
            await self.cluster.delete(POD, namespace, surplus, propagation=Propagation.BACKGROUND)
        status = build_job_status(job, [*pods, *created], planned.ending, now.replace(microsecond=0))
        await self.cluster.patch_status(JOB, namespace, name, {"status": status})
        return planned.again_at

    # pods

    async def _pass_pod(self, pod: Manifest, *, is_owned: bool) -> None:
        name, phase = pod["metadata"]["name"], phase_of(pod)
        if "deletionTimestamp" in pod["metadata"]:
            if name in self._tasks:
                self._stop(name, pod["spec"].get("terminationGracePeriodSeconds", _GRACE_S))
            elif self._is_gone(pod):
                await self._forget(pod)
        elif not is_owned:  # made for a Job that was deleted since it had been listed: nobody else would take it away
            await self.cluster.delete(POD, pod["metadata"]["namespace"], name, propagation=Propagation.BACKGROUND)
        elif phase == "Running" and name not in self._tasks and self._is_gone(pod):
            await self._report(pod, _TERMINATED, disrupted=True)

    def _is_gone(self, pod: Manifest) -> bool:
        """Tell whether the process that an earlier runner started for a pod is gone; if not, look again soon."""
        lock = processes.try_lock(self._lock_path(pod))
        if lock is None:
            asyncio.get_running_loop().call_later(_LOCK_POLL_S, self._changed.set)
            return False
        os.close(lock)
        return True

    async def _forget(self, pod: Manifest) -> None:
        metadata = pod["metadata"]
        self._lock_path(pod).unlink(missing_ok=True)
        shutil.rmtree(self._scratch_path(pod), ignore_errors=True)
        with suppress(Missing, Stale):
            await self.cluster.delete(
                POD,
                metadata["namespace"],
                metadata["name"],
                propagation=Propagation.BACKGROUND,
                uid=metadata["uid"],
                grace_s=0,
            )

    def _fill_slots(self, pods: list[Manifest]) -> None:
        """Start waiting pods, oldest first, while there is room for their kind."""
        for is_run, slots in ((True, self.settings.run_slots), (False, self.settings.other_slots)):
            kin = [pod for pod in pods if (pod["metadata"]["labels"].get(_STEP_LABEL) == Step.RUN) is is_run]
            waiting = [pod for pod in kin if _is_waiting(pod) and pod["metadata"]["name"] not in self._tasks]
            free = slots - sum(pod["metadata"]["name"] in self._tasks for pod in kin)
            for pod in sorted(waiting, key=lambda p: str(p["metadata"]["creationTimestamp"]))[: max(free, 0)]:
                name = pod["metadata"]["name"]
                if self._is_gone(pod):
                    if is_run:
                        self._slots[name] = next(n for n in count() if n not in self._slots.values())
                    self._tasks[name] = asyncio.create_task(self._run_pod(pod), name=name)

    def _stop(self, name: str, grace_s: float) -> None:
        """Ask a process to end, once."""
        child = self._children.get(name)
        if child is not None and name not in self._ends:
            self._ends[name] = asyncio.create_task(child.stop(grace_s), name=f"stop {name}")

    async def _run_pod(self, pod: Manifest) -> None:
        name = pod["metadata"]["name"]
        try:
            code = await self._run_process(pod)
            await self._report(pod, code, disrupted=self._is_stopping)
        except (Missing, Unavailable) as error:  # deleted meanwhile, or not to be told now: the next pass sees
            _log.warning("pod.lost", pod=name, problem=str(error))
        finally:
            for held in (self._tasks, self._children, self._ends, self._slots):
                held.pop(name, None)
            self._changed.set()

    async def _run_process(self, pod: Manifest) -> int:
        name, scratch = pod["metadata"]["name"], self._scratch_path(pod)
        lock = processes.try_lock(self._lock_path(pod))
        if lock is None:
            raise Unavailable("an earlier process of this pod is alive")
        try:
            child = await self._start_process(pod, scratch, lock)
        except (Missing, OSError) as error:
            _log.error("pod.cannot_start", pod=name, problem=str(error))
            return _NEVER_STARTED
        finally:
            os.close(lock)
        self._children[name] = child
        _log.info("pod.started", pod=name, pid=child.pid)
        if self._is_stopping:
            self._stop(name, _STOP_GRACE_S)
        try:
            await self._report(pod, None, disrupted=False)
        except (Missing, Unavailable):  # deleted meanwhile, or not to be told: nobody else would ever stop it
            self._stop(name, _STOP_GRACE_S)
        code = await child.wait()
        _log.info("pod.ended", pod=name, exit_code=code)
        shutil.rmtree(scratch, ignore_errors=True)
        return code

    async def _start_process(self, pod: Manifest, scratch: Path, lock: int) -> processes.Child:
        container = pod["spec"]["containers"][0]
        environ = {key: value for key, value in self.environ.items() if not key.startswith(PREFIX)}
        for variable in container.get("env", []):
            environ[variable["name"]] = await self._value_of(pod, variable)
        environ |= {"JOB_COMPLETION_INDEX": str(index_of(pod)), "NIGHTSHIFT_SCRATCH_DIR": str(scratch)}
        environ |= self._metrics_of(pod["metadata"]["name"])
        command = [*container["command"], *container.get("args", [])]
        return await processes.start(command, environ, pass_fds=(lock,))

    def _metrics_of(self, name: str) -> dict[str, str]:
        """Tell a processor where to show metrics, whatever its Job says: here pods share one address."""
        first, slot = self.settings.metrics_port, self._slots.get(name)
        port = 0 if slot is None or not first else first + slot
        return {"NIGHTSHIFT_METRICS_PORT": str(port), "NIGHTSHIFT_METRICS_HOST": self.settings.metrics_host}

    async def _value_of(self, pod: Manifest, variable: Manifest) -> str:
        if "value" in variable:
            return str(variable["value"])
        reference = variable["valueFrom"]["secretKeyRef"]
        secret = await self.cluster.get(SECRET, pod["metadata"]["namespace"], reference["name"])
        return base64.b64decode(secret["data"][reference["key"]]).decode()

    async def _report(self, pod: Manifest, exit_code: int | None, *, disrupted: bool) -> None:
        container = pod["spec"]["containers"][0]["name"]
        now = datetime.now(UTC)
        status = build_pod_status(container, exit_code, now, disrupted=disrupted)
        metadata = pod["metadata"]
        await self.cluster.patch_status(POD, metadata["namespace"], metadata["name"], {"status": status})

    def _lock_path(self, pod: Manifest) -> Path:
        return self.settings.work_dir / f"{pod['metadata']['uid']}.lock"

    def _scratch_path(self, pod: Manifest) -> Path:
        return self.settings.work_dir / str(pod["metadata"]["uid"])


def _pods_of(job: Manifest, pods: list[Manifest]) -> list[Manifest]:
    return [pod for pod in pods if _owner_of(pod) == job["metadata"]["uid"]]


def _owner_of(pod: Manifest) -> str | None:
    return next((owner["uid"] for owner in pod["metadata"].get("ownerReferences", [])), None)


def _is_waiting(pod: Manifest) -> bool:
    return phase_of(pod) == "Pending" and "deletionTimestamp" not in pod["metadata"]


def main() -> None:
    """Run the role."""
    configure_logs("runner")
    end_with_parent(os.environ)
    try:
        asyncio.run(_run(RunnerSettings.load(os.environ)))
    except Rejected as error:
        sys.stderr.write(f"nightshift local: {error.message}\n")
        sys.exit(2)


async def _run(settings: RunnerSettings) -> None:
    stop = asyncio.Event()
    for signal_number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(signal_number, stop.set)
    environ = {key: value for key, value in os.environ.items() if key != FD_VARIABLE}
    namespace, _, name = settings.lease.partition("/")
    async with (
        open_cluster(settings.cluster) as cluster,
        holding_lease(cluster, namespace, name, "nightshift-local", on_lost=stop.set),
    ):
        await Runner(cluster, settings, environ).run(stop)


if __name__ == "__main__":
    main()
