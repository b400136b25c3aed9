"""What is read back of a Job and its pods: how far they are, and what keeps them from working, in words.

Pure. Of a pod that waits the kubelet says why in several places (kubernetes.md 5.3); the first that applies is taken.
"""

import re
from datetime import datetime
from typing import Any

from nightshift_crds.cluster.port import Manifest
from nightshift_operator.facts import Job, JobState, Node, Pod, Trouble
from nightshift_operator.jobs import CLOSES_AT, CONTAINER
from nightshift_operator.placement import MODEL_CONTAINER

_ENDS = {"Complete": JobState.COMPLETE, "Failed": JobState.FAILED}
_INSTANCE_TYPE = "node.kubernetes.io/instance-type"
_WAITS = {
    "ErrImagePull": Trouble.IMAGE_PULL,
    "ImagePullBackOff": Trouble.IMAGE_PULL,
    "ErrImageNeverPull": Trouble.IMAGE_PULL,
    "InvalidImageName": Trouble.IMAGE_PULL,
    "CreateContainerConfigError": Trouble.MISCONFIGURED,
    "CreateContainerError": Trouble.MISCONFIGURED,
    "RunContainerError": Trouble.MISCONFIGURED,
}
"""Reasons why a container waits that somebody must do something about."""
_STATUSES = ("containerStatuses", "initContainerStatuses")
_GPU = re.compile("/(gpu|mig-[^/]+)$")
"""Resources that are GPUs, or partitions of one: `nvidia.com/gpu`, `amd.com/gpu`, `nvidia.com/mig-1g.10gb`."""
_ADVICE = {
    Trouble.IMAGE_PULL: "Check the name of the image, and the Secret that it is pulled with.",
    Trouble.MISCONFIGURED: "Make what is missing, or correct the HostedModel.",
}
_LIMITS = {
    "processor": "Raise NIGHTSHIFT_PROCESSOR_MEMORY of the operator.",
    "model server": "Raise it in spec.server.resources of the HostedModel.",
}
_NO_TROUBLE = (None, "")


def parse_job(manifest: Manifest, pods: list[Manifest]) -> Job:
    """Read a Job and its pods."""
    conditions = {c["type"]: c for c in _status(manifest).get("conditions", []) if c["status"] == "True"}
    end: Manifest = next((conditions[kind] for kind in _ENDS if kind in conditions), {})
    return Job(
        name=manifest["metadata"]["name"],
        uid=manifest["metadata"]["uid"],
        created_at=datetime.fromisoformat(manifest["metadata"]["creationTimestamp"]),
        state=_ENDS.get(end.get("type", ""), JobState.ACTIVE),
        message=conditions.get("Failed", {}).get("message", ""),
        suspended="Suspended" in conditions,
        deleting_at=_parse_time(manifest["metadata"].get("deletionTimestamp")),
        closes_at=_parse_time(manifest["metadata"].get("annotations", {}).get(CLOSES_AT)),
        ended_at=_parse_time(end.get("lastTransitionTime")),
        pods=tuple(map(_parse_pod, pods)),
    )


def parse_node(manifest: Manifest, gpu_label: str) -> Node:
    """Read what a node is made of; clouds write it into its labels."""
    labels = manifest["metadata"].get("labels", {})
    return Node(labels.get(_INSTANCE_TYPE), labels.get(gpu_label))


def _parse_pod(manifest: Manifest) -> Pod:
    status = _status(manifest)
    processor, model = _container(status, "containerStatuses", CONTAINER), _model(status)
    state = processor.get("state", {})
    exit_code = state.get("terminated", {}).get("exitCode")
    trouble, message = _find_trouble(status, processor, model if exit_code is None else {})
    return Pod(
        name=manifest["metadata"]["name"],
        uid=manifest["metadata"]["uid"],
        exit_code=exit_code,
        trouble=trouble,
        message=message,
        running="running" in state,
        deleting_at=_parse_time(manifest["metadata"].get("deletionTimestamp")),
        node=manifest.get("spec", {}).get("nodeName", ""),
        scheduled_at=_parse_time(_condition(status, "PodScheduled", "True").get("lastTransitionTime")),
        model_restarts=model.get("restartCount", 0),
        gpus=sum(map(_count_gpus, _containers(manifest.get("spec", {})))),
        started_at=_parse_time(status.get("startTime")),
        ended_at=_ended_at(status),
    )


def _containers(spec: Manifest) -> list[Manifest]:
    """List the containers that hold their devices as long as the pod lives: a model server is an init container."""
    return [*spec.get("initContainers", []), *spec.get("containers", [])]


def _count_gpus(container: Manifest) -> int:
    """Count whole devices and partitions of one; Kubernetes has them in whole numbers."""
    limits = container.get("resources", {}).get("limits", {})
    return sum(int(str(number)) for name, number in limits.items() if _GPU.search(name) and str(number).isdecimal())


def _ended_at(status: Manifest) -> datetime | None:
    """Tell when the last container of a pod ended, or where it never had one, when it was given up."""
    if status.get("phase") not in {"Succeeded", "Failed"}:
        return None
    states = [c.get("state", {}) for where in _STATUSES for c in status.get(where, [])]
    ends = [_parse_time(state.get("terminated", {}).get("finishedAt")) for state in states]
    moves = [_parse_time(condition.get("lastTransitionTime")) for condition in status.get("conditions", [])]
    return max(filter(None, ends), default=None) or max(
        filter(None, moves), default=_parse_time(status.get("startTime"))
    )


def _model(status: Manifest) -> Manifest:
    return _container(status, "initContainerStatuses", MODEL_CONTAINER)


def _find_trouble(status: Manifest, processor: Manifest, model: Manifest) -> tuple[Trouble | None, str]:
    """Find what keeps a pod from working: no node, the processor's container, or the model server."""
    if unscheduled := _condition(status, "PodScheduled", "False"):
        said = unscheduled.get("message", "")
        text = "No node can take the pod, which waits for one that can."
        return Trouble.NO_NODE, f"{text} The scheduler says: {said.removesuffix('.')}." if said else text
    found = _find_container_trouble(processor, "processor")
    return found if found[0] else _find_model_trouble(model)


def _find_container_trouble(container: Manifest, what: str) -> tuple[Trouble | None, str]:
    state = container.get("state", {})
    waiting, terminated = state.get("waiting", {}), state.get("terminated", {})
    reason, text = waiting.get("reason", ""), waiting.get("message", "")
    if reason in _WAITS:
        said = f"{reason}: {text}" if text else reason
        return _WAITS[reason], f"The {what} cannot start: {said.removesuffix('.')}. {_ADVICE[_WAITS[reason]]}"
    if terminated.get("reason") == "OOMKilled":
        return Trouble.OUT_OF_MEMORY, f"The {what} was killed: it needs more memory than its limit. {_LIMITS[what]}"
    return _NO_TROUBLE


def _find_model_trouble(model: Manifest) -> tuple[Trouble | None, str]:
    """Tell how a model server fares that has not passed its startup probe, or has ended though it should go on."""
    state, restarts = model.get("state", {}), model.get("restartCount", 0)
    waiting = _find_container_trouble(model, "model server")
    if waiting[0]:
        return waiting
    if model.get("started") or not state:
        return _NO_TROUBLE
    ended = state.get("terminated") or model.get("lastState", {}).get("terminated")
    if ended:
        return _find_crash(ended, restarts)
    return (
        (Trouble.MODEL_LOADING, "The model server is loading its model; it has spec.server.startupSeconds for it.")
        if "running" in state
        else _NO_TROUBLE
    )


def _find_crash(ended: dict[str, Any], restarts: int) -> tuple[Trouble, str]:
    again = f"it was started again {restarts} time{'s' * (restarts != 1)}"
    if ended.get("reason") == "OOMKilled":
        text = f"The model server was killed: it needs more memory than its limit; {again}."
        return Trouble.OUT_OF_MEMORY, f"{text} {_LIMITS['model server']}"
    text = f"The model server ended with exit code {ended.get('exitCode')} or did not answer in time; {again}."
    return Trouble.MODEL_CRASHED, f"{text} The log of its container says why."


def _container(status: Manifest, where: str, name: str) -> Manifest:
    found: list[Manifest] = [c for c in status.get(where, []) if c["name"] == name]
    return found[0] if found else {}


def _condition(status: Manifest, kind: str, value: str) -> Manifest:
    found: list[Manifest] = [c for c in status.get("conditions", []) if c["type"] == kind and c["status"] == value]
    return found[0] if found else {}


def _status(manifest: Manifest) -> Manifest:
    status: Manifest = manifest.get("status", {})
    return status


def _parse_time(text: str | None) -> datetime | None:
    return datetime.fromisoformat(text) if text else None
