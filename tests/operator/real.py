"""An installation on a real API server: the operator as a process, and the test as people, scheduler and kubelet.

No node has to be there: a pod is bound to one that exists only as an object, and its status is written as a kubelet
would. What a processor does to the bucket is `World`'s.
"""

import asyncio
import json
import os
import signal
import sys
from collections.abc import AsyncIterator, Callable
from contextlib import aclosing, asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import aiohttp

from nightshift_crds import names
from nightshift_crds.cluster.port import (
    BATCH_JOB,
    JOB,
    NODE,
    POD,
    STORED_FILE,
    Cluster,
    Kind,
    Manifest,
    Selector,
)
from nightshift_crds.errors import Missing
from nightshift_crds.models import BatchJob
from nightshift_crds.names import Step, job_name
from nightshift_operator.controller import Key
from tests.builders import FILE_ID, FILE_UUID, MODEL, a_batch_manifest, a_file_manifest, a_model_manifest, a_verdict
from tests.operator.world import World

GPUS = {"limits": {"nvidia.com/gpu": "64"}}
"""More than any node of a test has: what asks for them waits for ever."""
PATIENCE_S = 60
SHORT_TIMES = {
    "PROGRESS_INTERVAL_S": "0.5",
    "SCRATCH_RETENTION_S": "0",
    "GRACE_S": "1",
    "LOST_POD_S": "1",
}


def name_of(setting: str) -> str:
    return setting if setting == "KUBECONFIG" else f"NIGHTSHIFT_{setting}"


@dataclass
class Operator:
    """A running `nightshift-operator`; its log is read as it comes."""

    process: asyncio.subprocess.Process
    port: int
    lines: list[str] = field(default_factory=list)

    async def says(self, event: str) -> None:
        """Wait for an event in its log."""
        assert self.process.stderr
        async with asyncio.timeout(PATIENCE_S):
            while event not in "".join(self.lines):
                line = await self.process.stderr.readline()
                assert line, f"the operator ended without {event}: {self.lines}"
                self.lines.append(line.decode())

    async def ends(self, signal_number: int | None = None) -> int:
        """Wait for its end, after a signal if one is given; gives its exit code."""
        if signal_number is not None:
            self.process.send_signal(signal_number)
        async with asyncio.timeout(PATIENCE_S):
            _, rest = await self.process.communicate()
        self.lines.append(rest.decode())
        assert self.process.returncode is not None
        return self.process.returncode

    async def probe(self) -> int:
        """Ask the probe as a kubelet does; gives the HTTP status."""
        async with aiohttp.ClientSession() as session, session.get(f"http://127.0.0.1:{self.port}/healthz") as answer:
            return answer.status

    @property
    def events(self) -> list[str]:
        return [json.loads(line)["event"] for line in "".join(self.lines).splitlines() if line.startswith("{")]


@dataclass(frozen=True)
class Real:
    """One installation in a namespace of its own."""

    cluster: Cluster
    world: World
    namespace: str
    kubeconfig: Path
    kubectl: Path
    find_port: Callable[[], int]

    # people

    async def run(self, *arguments: str, stdin: str = "") -> str:
        """Run kubectl in the namespace."""
        process = await asyncio.create_subprocess_exec(
            self.kubectl,
            f"--kubeconfig={self.kubeconfig}",
            f"--namespace={self.namespace}",
            *arguments,
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
        )
        out, _ = await process.communicate(stdin.encode())
        assert process.returncode == 0, arguments
        return out.decode()

    async def apply(self, manifest: Manifest) -> None:
        """Hand a manifest to kubectl, as a person would."""
        moved = manifest | {"metadata": manifest["metadata"] | {"namespace": self.namespace}}
        await self.run("apply", "-f", "-", stdin=json.dumps(moved))

    async def add_model(self, **spec: Any) -> None:
        await self.apply(a_model_manifest(**spec))

    async def add_served_model(self, **server: Any) -> None:
        """Add a model whose server asks for more GPUs than there are."""
        given = {"image": "vllm:1", "resources": GPUS, "shmSize": "1Gi"} | server
        manifest = a_model_manifest()
        manifest["spec"] = {"name": MODEL, "server": given}
        await self.apply(manifest)

    async def add_input(self) -> None:
        """Upload ten lines."""
        await self.world.bucket.put(names.file_key(FILE_ID), b"{}\n" * 10, create_only=False)
        await self.apply(a_file_manifest())
        patch = {"status": {"phase": "Ready", "verdict": a_verdict().dump()}}
        await self.cluster.patch_status(
            STORED_FILE, self.namespace, names.resource_name(names.IdKind.FILE, FILE_UUID), patch
        )

    async def add_batch(self, name: str = "batch", **spec: Any) -> Key:
        await self.apply(a_batch_manifest(name=name, **spec))
        return Key(self.namespace, name)

    async def ask(self, key: Key, **spec: Any) -> None:
        patch = json.dumps({"spec": spec})
        await self.run("patch", "batchjob", key.name, "--type=merge", f"--patch={patch}")

    # what becomes of things

    async def batch_when(self, key: Key, holds: Callable[[BatchJob], Any]) -> BatchJob:
        """Wait until something is true of a batch."""
        manifest = await self.when(BATCH_JOB, key.name, lambda manifest: holds(BatchJob.parse(manifest)))
        return BatchJob.parse(manifest)

    async def when(self, kind: Kind, name: str, holds: Callable[[Manifest], Any]) -> Manifest:
        """Wait until something is true of an object, which may still have to come."""
        here = Selector(self.namespace)
        since = (await self.cluster.list(kind, here)).resource_version
        async with asyncio.timeout(PATIENCE_S), aclosing(self.cluster.watch(kind, here, since)) as changes:
            found = await self._find(kind, name)
            while found is None or not holds(found):
                await anext(changes)
                found = await self._find(kind, name)
        return found

    async def gone(self, kind: Kind, name: str) -> None:
        """Wait until an object is gone."""
        here = Selector(self.namespace)
        since = (await self.cluster.list(kind, here)).resource_version
        async with asyncio.timeout(PATIENCE_S), aclosing(self.cluster.watch(kind, here, since)) as changes:
            while await self._find(kind, name):
                await anext(changes)

    async def _find(self, kind: Kind, name: str) -> Manifest | None:
        try:
            return await self.cluster.get(kind, self.namespace, name)
        except Missing:
            return None

    async def job_of(self, key: Key, step: Step = Step.RUN, attempt: int = 1) -> Manifest:
        """Wait for the Job of a step."""
        uid = (await self.world.batch(key)).metadata.uid
        return await self.when(JOB, job_name(uid, step, attempt), lambda _: True)

    async def pod_of(self, job: Manifest) -> Manifest:
        """Wait for the pod of a Job that Kubernetes' own controller makes."""
        labels = (("batch.kubernetes.io/job-name", job["metadata"]["name"]),)
        here = Selector(self.namespace, labels)
        page = await self.cluster.list(POD, here)
        async with asyncio.timeout(PATIENCE_S), aclosing(self.cluster.watch(POD, here, page.resource_version)) as new:
            return page.items[0] if page.items else (await anext(new)).manifest

    # scheduler and kubelet

    async def bind(self, pod: Manifest, node: str) -> None:
        """Give a pod to a node."""
        name = pod["metadata"]["name"]
        binding = {
            "apiVersion": "v1",
            "kind": "Binding",
            "metadata": {"name": name},
            "target": {"apiVersion": "v1", "kind": "Node", "name": node},
        }
        path = f"/api/v1/namespaces/{self.namespace}/pods/{name}/binding"
        await self.run("create", f"--raw={path}", "-f", "-", stdin=json.dumps(binding))

    async def report(self, pod: Manifest, **status: Any) -> None:
        """Write the status of a pod as the kubelet of its node would."""
        await self.cluster.patch_status(POD, self.namespace, pod["metadata"]["name"], {"status": status})

    @asynccontextmanager
    async def node(self, **labels: str) -> AsyncIterator[str]:
        """Add a node that is nothing but an object; nothing is ever scheduled to it."""
        name = f"node-{self.namespace}"
        node = {"apiVersion": "v1", "kind": "Node", "metadata": {"name": name, "labels": labels}}
        await self.run("create", "-f", "-", stdin=json.dumps(node | {"spec": {"unschedulable": True}}))
        await self.cluster.get(NODE, "", name)
        yield name
        await self.run("delete", "node", name, "--wait=false")

    # the operator

    @asynccontextmanager
    async def operator(self, holder: str = "one", **settings: str) -> AsyncIterator[Operator]:
        """Start an operator, and see to it that it does not outlive the test."""
        port = self.find_port()
        given = SHORT_TIMES | {
            "CLUSTER": f"kubernetes://{self.namespace}",
            "BUCKET": self.world.bucket.url,
            "LEASE": f"{self.namespace}/operator",
            "HOLDER": holder,
            "PROBE_PORT": str(port),
        }
        process = await asyncio.create_subprocess_exec(
            Path(sys.executable).with_name("nightshift-operator"),
            env=os.environ | {name_of(name): value for name, value in (given | settings).items()},
            stderr=asyncio.subprocess.PIPE,
        )
        started = Operator(process, port)
        try:
            yield started
        finally:
            if process.returncode is None:
                await started.ends(signal.SIGKILL)
            print(f"--- {holder}", *started.lines, sep="\n")
