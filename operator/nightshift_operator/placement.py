"""Where the pods of a run may go, and the model server that is started beside each processor.

Pure. What a pod is comes from the administrator's HostedModel; a BatchJob has a say only in the fields of `scheduling`
that the HostedModel lets it set (design 4). Sources of the fields: kubernetes.md 5.3 and 5.4.
"""

from math import ceil

from pydantic.alias_generators import to_camel

from nightshift_crds.cluster.port import Manifest
from nightshift_crds.models import BatchError, BatchJob, HostedModel, ModelServer, ModelVolume, Scheduling

MODEL_CONTAINER = "model"
QUEUE_LABEL = "kueue.x-k8s.io/queue-name"
GPU = "nvidia.com/gpu"
_SPOT = "cloud.google.com/gke-spot"
_PROBE_S = 5
_DEVICES = "devices"
_SHM = "shm"


def forbidden_fields(batch: BatchJob, model: HostedModel) -> list[str]:
    """Name the fields of `scheduling` that a batch sets and its model does not let it set."""
    asked = batch.spec.scheduling.dump() if batch.spec.scheduling else {}
    return sorted(set(asked) - set(model.spec.overridable))


def find_scheduling_errors(batch: BatchJob, model: HostedModel) -> list[BatchError]:
    """List the fields of `scheduling` that a batch sets though its model does not let it."""
    message = "Expected no field of 'scheduling' but those that the model lets a batch set."
    return [
        BatchError(code="invalid_request", message=message, param=f"scheduling.{field}")
        for field in forbidden_fields(batch, model)
    ]


def choose_scheduling(batch: BatchJob, model: HostedModel) -> Scheduling:
    """Combine what a model says with what a batch may change of it."""
    defaults, asked = model.spec.scheduling or Scheduling(), batch.spec.scheduling or Scheduling()
    allowed = [field for field in Scheduling.model_fields if to_camel(field) in model.spec.overridable]
    changes = {field: getattr(asked, field) for field in allowed if getattr(asked, field) is not None}
    return defaults.model_copy(update=changes)


def place_pod(pod: Manifest, model: HostedModel, scheduling: Scheduling, gpu_label: str) -> Manifest:
    """Add to a pod where it may go and, for a model that is started for the batch, its server."""
    placed = pod | {"tolerations": [*pod["tolerations"], *_spot_toleration(scheduling)]}
    if scheduling.priority_class_name:
        placed["priorityClassName"] = scheduling.priority_class_name
    return _beside_server(placed, model.spec.server, scheduling, gpu_label) if model.spec.server else placed


def disruption_annotations(scheduling: Scheduling) -> Manifest:
    """Ask autoscalers to leave a pod alone; on spot nodes that would be a lie."""
    if scheduling.spot:
        return {}
    return {"cluster-autoscaler.kubernetes.io/safe-to-evict": "false", "karpenter.sh/do-not-disrupt": "true"}


def _spot_toleration(scheduling: Scheduling) -> list[Manifest]:
    toleration = {"key": _SPOT, "operator": "Equal", "value": "true", "effect": "NoSchedule"}
    return [toleration] if scheduling.spot else []


def _beside_server(pod: Manifest, server: ModelServer, scheduling: Scheduling, gpu_label: str) -> Manifest:
    wanted = {gpu_label: scheduling.gpu_type} if scheduling.gpu_type else {}
    claims = [{"name": _DEVICES, "resourceClaimTemplateName": server.resource_claim_template}]
    return (
        pod
        | {
            "initContainers": [build_model_server(server)],
            "volumes": [*pod["volumes"], *_volumes(server)],
            "nodeSelector": server.node_selector | wanted,
            "tolerations": [*pod["tolerations"], {"key": GPU, "operator": "Exists"}, *server.tolerations],
        }
        | ({"resourceClaims": claims} if server.resource_claim_template else {})
    )


def build_model_server(server: ModelServer) -> Manifest:
    """Build the native sidecar: it starts first, the processor once its startup probe has passed, and goes with it."""
    limits = server.resources.get("limits", server.resources)
    resources: Manifest = {"limits": limits, "requests": limits} if limits else {}
    if server.resource_claim_template:
        resources["claims"] = [{"name": _DEVICES}]
    security: Manifest = {"allowPrivilegeEscalation": False, "capabilities": {"drop": ["ALL"]}}
    return {
        "name": MODEL_CONTAINER,
        "image": server.image,
        "imagePullPolicy": "IfNotPresent",
        "restartPolicy": "Always",
        "args": server.args,
        "env": [{"name": name, "value": value} for name, value in sorted(server.env.items())],
        "ports": [{"containerPort": server.port}],
        "resources": resources,
        "startupProbe": {
            "httpGet": {"path": server.readiness_path, "port": server.port},
            "periodSeconds": _PROBE_S,
            "failureThreshold": ceil(server.startup_seconds / _PROBE_S),
        },
        "volumeMounts": _mounts(server),
        "securityContext": security | ({"runAsUser": server.run_as_user} if server.run_as_user else {}),
    }


def _mounts(server: ModelServer) -> list[Manifest]:
    mounts = [{"name": v.name, "mountPath": v.mount_path, "readOnly": True} for v in server.volumes]
    return [*mounts, *([{"name": _SHM, "mountPath": "/dev/shm"}] if server.shm_size else [])]  # noqa: S108 - the container's


def _volumes(server: ModelServer) -> list[Manifest]:
    shm = {"name": _SHM, "emptyDir": {"medium": "Memory", "sizeLimit": server.shm_size}}
    return [*map(_volume, server.volumes), *([shm] if server.shm_size else [])]


def _volume(volume: ModelVolume) -> Manifest:
    sources: dict[str, tuple[str | None, Manifest]] = {
        "persistentVolumeClaim": (
            volume.persistent_volume_claim,
            {"claimName": volume.persistent_volume_claim, "readOnly": True},
        ),
        "image": (volume.image, {"reference": volume.image, "pullPolicy": "IfNotPresent"}),
        "configMap": (volume.config_map, {"name": volume.config_map}),
        "secret": (volume.secret, {"secretName": volume.secret}),
    }
    return {"name": volume.name} | {kind: source for kind, (name, source) in sources.items() if name}
