"""Jobs and pods as `nightshift local` handles them: say only what a test is about."""

from datetime import datetime, timedelta
from typing import Any

from nightshift_cli.local.jobcontrol import build_pod, build_pod_status
from nightshift_crds.cluster.port import Manifest
from tests.builders import NAMESPACE, T0, timestamp

RUN_LABELS = {"nightshift.dev/step": "run"}
FAILURE_POLICY: Manifest = {
    "rules": [
        {"action": "FailJob", "onExitCodes": {"containerName": "processor", "operator": "In", "values": [40, 41]}},
        {"action": "Ignore", "onPodConditions": [{"type": "DisruptionTarget", "status": "True"}]},
    ]
}


def a_job(*command: str, name: str = "job", labels: Manifest | None = None, **spec: Any) -> Manifest:
    """A Job whose container runs a command."""
    pod_spec = {"terminationGracePeriodSeconds": 5, "containers": [{"name": "processor", "command": list(command)}]}
    return {
        "apiVersion": "batch/v1",
        "kind": "Job",
        "metadata": {"name": name, "namespace": NAMESPACE, "uid": f"uid-of-{name}"},
        "spec": {
            "completions": 1,
            "completionMode": "Indexed",
            "backoffLimit": 6,
            "podFailurePolicy": FAILURE_POLICY,
            "template": {"metadata": {"labels": labels or RUN_LABELS}, "spec": pod_spec},
        }
        | spec,
    }


def a_pod(job: Manifest, index: int = 0, name: str = "a") -> Manifest:
    """A pod that has not been started."""
    return build_pod(job, index, name)


def running(pod: Manifest) -> Manifest:
    return pod | {"status": build_pod_status("processor", None, T0, disrupted=False)}


def ended(pod: Manifest, exit_code: int, at: datetime = T0, *, disrupted: bool = False) -> Manifest:
    return pod | {"status": build_pod_status("processor", exit_code, at, disrupted=disrupted)}


def being_deleted(pod: Manifest) -> Manifest:
    return pod | {"metadata": pod["metadata"] | {"deletionTimestamp": timestamp(T0)}}


def started(job: Manifest, at: datetime = T0) -> Manifest:
    return job | {"status": {"startTime": timestamp(at)}}


def later(seconds: float) -> datetime:
    return T0 + timedelta(seconds=seconds)
