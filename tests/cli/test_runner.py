"""The Job runner with small real commands as pods: what it starts, how it ends them, and what it tells of them."""

import asyncio
import base64
import os
import subprocess
import sys
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import aclosing, asynccontextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from nightshift_cli.local import processes
from nightshift_cli.local.jobcontrol import build_pod, build_pod_status, exit_code_of, phase_of
from nightshift_cli.local.runner import Runner, RunnerSettings
from nightshift_crds.cluster.port import JOB, POD, SECRET, Cluster, Kind, Manifest, Propagation, Selector, each
from tests.builders import NAMESPACE
from tests.cli.given import a_job

HERE = Selector(NAMESPACE)
TIMEOUT_S = 20
SLEEP = ("sleep", "60")
SHELL = ("sh", "-c")


async def poll(is_true: Callable[[], Awaitable[bool]]) -> None:
    """Ask again and again what nothing tells by itself."""
    async with asyncio.timeout(TIMEOUT_S):
        while not await is_true():  # noqa: ASYNC110 - as the sentence above says
            await asyncio.sleep(0.02)


class Bench:
    """A cluster with runners on it that come and go."""

    def __init__(self, cluster: Cluster, work_dir: Path) -> None:
        self.cluster = cluster
        self.work_dir = work_dir

    def a_runner(self, **settings: Any) -> Runner:
        loaded = RunnerSettings.model_validate({"cluster": "", "work_dir": self.work_dir} | settings)
        return Runner(self.cluster, loaded, {"PATH": os.environ["PATH"], "NIGHTSHIFT_X": "x", "HOME": "/h"})

    @asynccontextmanager
    async def running(self, **settings: Any) -> AsyncIterator[Runner]:
        """Run a runner until told to stop."""
        runner = self.a_runner(**settings)
        stop = asyncio.Event()
        work = asyncio.create_task(runner.run(stop))
        try:
            yield runner
        finally:
            stop.set()
            await work

    async def create(self, *command: str, env: list[Manifest] | None = None, **spec: Any) -> Manifest:
        job = a_job(*command, **spec)
        del job["metadata"]["uid"]
        job["spec"]["template"]["spec"]["containers"][0]["env"] = env or []
        return await self.cluster.create(JOB, job)

    async def until(self, is_true: Callable[[Manifest], bool], kind: Kind = JOB) -> Manifest:
        """Wait until an object is as wanted."""
        since = (await self.cluster.list(kind, limit=1)).resource_version
        async with asyncio.timeout(TIMEOUT_S), aclosing(self.cluster.watch(kind, HERE, since)) as changes:
            async for item in each(self.cluster, kind, HERE):
                if is_true(item):
                    return item
            async for change in changes:
                if is_true(change.manifest):
                    return change.manifest
        raise AssertionError("a watch ended")

    async def until_gone(self, kind: Kind) -> None:
        await poll(lambda: self.is_gone(kind))

    async def is_gone(self, kind: Kind) -> bool:
        return not (await self.cluster.list(kind, HERE)).items

    async def pods(self) -> list[Manifest]:
        return [pod async for pod in each(self.cluster, POD, HERE)]

    async def an_earlier_pod(self, job: Manifest, phase: str) -> tuple[Manifest, processes.Child]:
        """A pod whose process an earlier runner has started; the process outlives that runner."""
        pod = await self.cluster.create(POD, build_pod(job, 0, "early"))
        if phase == "Running":
            status = build_pod_status("processor", None, datetime.now(UTC), disrupted=False)
            pod = await self.cluster.patch_status(POD, NAMESPACE, pod["metadata"]["name"], {"status": status})
        (self.work_dir / pod["metadata"]["uid"]).mkdir()
        lock = processes.try_lock(self.work_dir / f"{pod['metadata']['uid']}.lock")
        assert lock is not None
        child = await processes.start(SLEEP, os.environ, (lock,))
        os.close(lock)
        return pod, child


@pytest.fixture
async def bench(cluster: Cluster, tmp_path: Path) -> Bench:
    work_dir = tmp_path / "work"
    work_dir.mkdir()
    return Bench(cluster, work_dir)


async def is_alone(bench: Bench) -> bool:
    return len(await bench.pods()) == 1


async def has_no_process(bench: Bench, pod: Manifest) -> bool:
    lock = processes.try_lock(bench.work_dir / f"{pod['metadata']['uid']}.lock")
    if lock is not None:
        os.close(lock)
    return lock is not None


def has_ended(manifest: Manifest) -> bool:
    return "completionTime" in manifest.get("status", {})


def is_running(pod: Manifest) -> bool:
    return phase_of(pod) == "Running"


def ending_of(job: Manifest) -> str:
    (condition,) = job["status"]["conditions"]
    return f"{condition['type']} {condition['reason']}".strip()


# --- ends -------------------------------------------------------------------------------------------------------------


async def test_a_job_whose_pods_succeed_is_complete(bench: Bench) -> None:
    await bench.create("true", completions=3)
    async with bench.running():
        job = await bench.until(has_ended)
    assert ending_of(job) == "Complete"
    assert (job["status"]["succeeded"], job["status"]["failed"]) == (3, 0)


async def test_a_failed_pod_is_replaced_and_the_job_goes_on(bench: Bench, tmp_path: Path) -> None:
    await bench.create(*SHELL, f"mkdir {tmp_path}/second-time || exit 0; exit 7")
    async with bench.running():
        job = await bench.until(has_ended)
    assert ending_of(job) == "Complete"
    assert sorted(exit_code_of(pod) or 0 for pod in await bench.pods()) == [0, 7]


async def test_a_job_is_given_up_at_its_limit(bench: Bench) -> None:
    await bench.create("false", backoffLimit=1)
    async with bench.running():
        job = await bench.until(has_ended)
    assert ending_of(job) == "Failed BackoffLimitExceeded"
    assert [exit_code_of(pod) for pod in await bench.pods()] == [1, 1]


async def test_a_final_exit_code_ends_the_job_and_its_other_pods(bench: Bench) -> None:
    await bench.create(*SHELL, '[ "$JOB_COMPLETION_INDEX" = 0 ] && exit 40; exec sleep 60', completions=2)
    async with bench.running():
        job = await bench.until(has_ended)
    assert ending_of(job) == "Failed PodFailurePolicy"


async def test_a_deadline_ends_pods_with_sigterm_and_the_job_after_them(bench: Bench, tmp_path: Path) -> None:
    trap = f"trap 'touch {tmp_path}/flushed; exit 75' TERM; while :; do sleep 0.05; done"
    await bench.create(*SHELL, trap, activeDeadlineSeconds=1)
    async with bench.running():
        job = await bench.until(has_ended)
        assert (tmp_path / "flushed").exists()
    assert ending_of(job) == "Failed DeadlineExceeded"


async def test_a_command_that_is_not_there_fails_its_pod(bench: Bench) -> None:
    await bench.create("no-such-program-of-nightshift", backoffLimit=0)
    async with bench.running():
        assert ending_of(await bench.until(has_ended)) == "Failed BackoffLimitExceeded"


async def test_a_job_goes_with_its_pods_when_its_time_to_live_is_over(bench: Bench) -> None:
    await bench.create("true", ttlSecondsAfterFinished=0)
    async with bench.running():
        await bench.until_gone(JOB)
        await bench.until_gone(POD)
    assert list(bench.work_dir.iterdir()) == []


# --- deletion ---------------------------------------------------------------------------------------------------------


async def test_a_job_deleted_in_the_foreground_goes_after_its_process_has_flushed(bench: Bench, tmp_path: Path) -> None:
    trap = f"trap 'sleep 0.3; touch {tmp_path}/flushed; exit 75' TERM; while :; do sleep 0.05; done"
    await bench.create(*SHELL, trap)
    async with bench.running():
        await bench.until(is_running, POD)
        await asyncio.sleep(0.2)  # the shell sets its trap
        await bench.cluster.delete(JOB, NAMESPACE, "job", propagation=Propagation.FOREGROUND)
        await bench.until_gone(JOB)
        assert (tmp_path / "flushed").exists()
    assert list(bench.work_dir.iterdir()) == []


async def test_a_process_that_does_not_listen_is_killed_after_its_grace(bench: Bench, tmp_path: Path) -> None:
    stubborn = f"trap '' TERM; touch {tmp_path}/ready; while :; do sleep 0.05; done"
    job = a_job(*SHELL, stubborn)
    job["spec"]["template"]["spec"]["terminationGracePeriodSeconds"] = 0.3
    await bench.cluster.create(JOB, job)
    async with bench.running():
        await bench.until(is_running, POD)
        await bench.cluster.delete(JOB, NAMESPACE, "job", propagation=Propagation.FOREGROUND)
        await bench.until_gone(JOB)


async def test_a_pod_that_waits_for_a_slot_is_deleted_without_ever_running(bench: Bench, tmp_path: Path) -> None:
    await bench.create(*SLEEP, name="first")
    async with bench.running(run_slots=1):
        await bench.until(is_running, POD)
        await bench.create(*SHELL, f"touch {tmp_path}/ran", name="second")
        await bench.until(lambda pod: pod["metadata"]["name"].startswith("second"), POD)
        await bench.cluster.delete(JOB, NAMESPACE, "second", propagation=Propagation.FOREGROUND)
        await poll(lambda: is_alone(bench))
    assert not (tmp_path / "ran").exists()


# --- slots ------------------------------------------------------------------------------------------------------------


async def test_sealing_never_waits_for_batches_that_run(bench: Bench) -> None:
    await bench.create(*SLEEP, completions=2)
    await bench.create("true", name="seal", labels={"nightshift.dev/step": "seal"})
    async with bench.running(run_slots=1, other_slots=1):
        assert ending_of(await bench.until(has_ended)) == "Complete"
        assert sorted(phase_of(pod) for pod in await bench.pods()) == ["Pending", "Running", "Succeeded"]


async def test_what_waits_for_a_slot_gets_it(bench: Bench) -> None:
    await bench.create("true", completions=5)
    async with bench.running(run_slots=1):
        assert ending_of(await bench.until(has_ended)) == "Complete"


# --- what a process is told -------------------------------------------------------------------------------------------


async def test_a_process_gets_the_environment_of_its_pod_and_none_of_ours(bench: Bench, tmp_path: Path) -> None:
    secret = {"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "s", "namespace": NAMESPACE}}
    await bench.cluster.create(SECRET, secret | {"data": {"k": base64.b64encode(b"sk-model").decode()}})
    reference = {"secretKeyRef": {"name": "s", "key": "k"}}
    env: list[Manifest] = [
        {"name": "NIGHTSHIFT_A", "value": "1"},
        {"name": "NIGHTSHIFT_MODEL_API_KEY", "valueFrom": reference},
    ]
    await bench.create(*SHELL, f"env > {tmp_path}/env; [ -n $NIGHTSHIFT_SCRATCH_DIR ]", env=env)
    async with bench.running():
        assert ending_of(await bench.until(has_ended)) == "Complete"
    told = dict(line.split("=", 1) for line in (tmp_path / "env").read_text().splitlines())
    (pod,) = await bench.pods()
    assert told["NIGHTSHIFT_A"] == "1"
    assert told["NIGHTSHIFT_MODEL_API_KEY"] == "sk-model"
    assert told["JOB_COMPLETION_INDEX"] == "0"
    assert told["NIGHTSHIFT_SCRATCH_DIR"] == str(bench.work_dir / pod["metadata"]["uid"])
    assert told["HOME"] == "/h"
    assert "NIGHTSHIFT_X" not in told


async def test_a_secret_that_is_not_there_fails_the_pod(bench: Bench) -> None:
    reference = {"secretKeyRef": {"name": "gone", "key": "k"}}
    await bench.create("true", env=[{"name": "KEY", "valueFrom": reference}], backoffLimit=0)
    async with bench.running():
        assert ending_of(await bench.until(has_ended)) == "Failed BackoffLimitExceeded"


async def test_scratch_is_removed_with_the_process(bench: Bench, tmp_path: Path) -> None:
    await bench.create(*SHELL, "mkdir $NIGHTSHIFT_SCRATCH_DIR && echo prompt > $NIGHTSHIFT_SCRATCH_DIR/spool")
    async with bench.running():
        assert ending_of(await bench.until(has_ended)) == "Complete"
        assert [path for path in bench.work_dir.iterdir() if path.is_dir()] == []


# --- runners come and go ----------------------------------------------------------------------------------------------


async def test_a_runner_that_stops_ends_its_processes_and_the_next_one_runs_them_again(bench: Bench) -> None:
    await bench.create(*SLEEP, backoffLimit=0)
    async with bench.running():
        first = await bench.until(is_running, POD)
    async with bench.running():
        second = await bench.until(
            lambda pod: is_running(pod) and pod["metadata"]["uid"] != first["metadata"]["uid"], POD
        )
        (job,) = [job async for job in each(bench.cluster, JOB)]
        assert not has_ended(job)
    assert second["metadata"]["name"] != first["metadata"]["name"]


@pytest.mark.parametrize("phase", ["Pending", "Running"])
async def test_a_process_of_an_earlier_runner_is_waited_for_and_is_not_to_blame(bench: Bench, phase: str) -> None:
    pod, child = await bench.an_earlier_pod(await bench.create("true", backoffLimit=0), phase)
    async with bench.running():
        await bench.until(lambda job: job.get("status", {}).get("active") == 1)
        await asyncio.sleep(0.3)  # nothing shall happen
        assert [p["metadata"]["uid"] for p in await bench.pods()] == [pod["metadata"]["uid"]]
        child.kill()
        await child.wait()
        assert ending_of(await bench.until(has_ended)) == "Complete"
        await bench.cluster.delete(JOB, NAMESPACE, "job", propagation=Propagation.FOREGROUND)
        await bench.until_gone(JOB)
    assert list(bench.work_dir.iterdir()) == []


@pytest.mark.parametrize("phase", ["Pending", "Running"])
async def test_a_deleted_pod_stays_while_a_process_of_an_earlier_runner_lives(bench: Bench, phase: str) -> None:
    _, child = await bench.an_earlier_pod(await bench.create("true"), phase)
    await bench.cluster.delete(JOB, NAMESPACE, "job", propagation=Propagation.FOREGROUND)
    async with bench.running():
        await asyncio.sleep(0.3)  # nothing shall happen
        assert len(await bench.pods()) == 1
        child.kill()
        await child.wait()
        await bench.until_gone(JOB)
    assert list(bench.work_dir.iterdir()) == []


async def test_a_pod_taken_away_by_force_takes_its_process_along(bench: Bench) -> None:
    await bench.create(*SLEEP)
    async with bench.running():
        pod = await bench.until(is_running, POD)
        await bench.cluster.delete(
            POD, NAMESPACE, pod["metadata"]["name"], propagation=Propagation.BACKGROUND, grace_s=0
        )
        await poll(lambda: has_no_process(bench, pod))


@pytest.mark.parametrize("propagation", list(Propagation))
async def test_a_pod_made_for_a_job_that_was_being_deleted_goes_with_it(bench: Bench, propagation: Propagation) -> None:
    job = await bench.create(*SLEEP)
    await bench.cluster.create(POD, build_pod(job, 0, "known"))
    await bench.cluster.delete(JOB, NAMESPACE, job["metadata"]["name"], propagation=propagation)
    await bench.cluster.create(POD, build_pod(job, 0, "late"))
    async with bench.running():
        await bench.until_gone(POD)
        await bench.until_gone(JOB)


async def test_a_bug_ends_the_runner_instead_of_leaving_it_deaf(bench: Bench) -> None:
    await bench.cluster.create(POD, {"metadata": {"name": "not-ours", "namespace": NAMESPACE}})
    async with asyncio.timeout(TIMEOUT_S):
        with pytest.raises(ExceptionGroup):
            await bench.a_runner().run(asyncio.Event())


def test_a_runner_that_is_told_nothing_says_what_it_needs_and_ends_with_2() -> None:
    command = [sys.executable, "-m", "nightshift_cli.local.runner"]
    ran = subprocess.run(command, env={"NIGHTSHIFT_RUN_SLOTS": "0"}, capture_output=True, text=True, check=False)
    assert ran.returncode == 2
    assert all(f"NIGHTSHIFT_{name}: " in ran.stderr for name in ("CLUSTER", "WORK_DIR", "RUN_SLOTS"))


# --- metrics ----------------------------------------------------------------------------------------------------------


async def ports_of(bench: Bench, **settings: Any) -> list[str]:
    """Tell which ports two processors that run at once are given, and an inspection beside them."""
    show = (
        *SHELL,
        'echo "$NIGHTSHIFT_METRICS_HOST:$NIGHTSHIFT_METRICS_PORT" > "$NIGHTSHIFT_SCRATCH_DIR.port"; sleep 60',
    )
    async with bench.running(**settings):
        for name, step in (("one", "run"), ("two", "run"), ("three", "inspect")):
            await bench.create(*show, name=name, labels={"nightshift.dev/step": step})
        await poll(lambda: asyncio.sleep(0, len([p for p in bench.work_dir.glob("*.port") if p.read_text()]) == 3))
        return sorted(path.read_text().strip() for path in bench.work_dir.glob("*.port"))


async def test_processors_that_run_at_once_show_metrics_on_ports_of_their_own(bench: Bench) -> None:
    shown = await ports_of(bench, metrics_port=9_700, metrics_host="127.0.0.1")
    assert shown == ["127.0.0.1:0", "127.0.0.1:9700", "127.0.0.1:9701"]


async def test_without_a_port_they_show_none(bench: Bench) -> None:
    assert {shown.rpartition(":")[2] for shown in await ports_of(bench)} == {"0"}
