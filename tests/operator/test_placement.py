"""Where pods may go, and the model server beside a processor."""

from typing import Any

import pytest

from nightshift_crds.cluster.port import Manifest
from nightshift_crds.models import HostedModel, Scheduling
from nightshift_operator.placement import (
    build_model_server,
    choose_scheduling,
    disruption_annotations,
    forbidden_fields,
    place_pod,
)
from tests.builders import a_batch, a_model

GPU_LABEL = "gpu-label"
GPU_NODES = {"key": "nvidia.com/gpu", "operator": "Exists"}
SPOT_NODES = {"key": "cloud.google.com/gke-spot", "operator": "Equal", "value": "true", "effect": "NoSchedule"}
POD: Manifest = {
    "tolerations": [],
    "containers": [{"name": "processor"}],
    "volumes": [{"name": "scratch"}],
    "priorityClassName": "own",
}


def a_served_model(**server: Any) -> HostedModel:
    return a_model(service=None, server={"image": "vllm:1"} | server)


def placed(model: HostedModel, **scheduling: Any) -> Manifest:
    return place_pod(POD, model, Scheduling(**scheduling), GPU_LABEL)


def sidecar_of(**server: Any) -> Manifest:
    model = a_served_model(**server).spec.server
    assert model
    return build_model_server(model)


# --- who may say what -------------------------------------------------------------------------------------------------


def test_a_batch_changes_what_its_model_lets_it_change_and_nothing_else() -> None:
    model = a_model(
        scheduling={"gpuType": "l4", "spot": True, "queue": "default"}, overridable=["spot", "priorityClassName"]
    )
    batch = a_batch(spec={"scheduling": {"gpuType": "h100", "spot": False, "priorityClassName": "high"}})
    chosen = choose_scheduling(batch, model)
    assert chosen == Scheduling(gpu_type="l4", spot=False, queue="default", priority_class_name="high")
    assert forbidden_fields(batch, model) == ["gpuType"]


def test_a_batch_that_asks_for_nothing_gets_what_its_model_says() -> None:
    model = a_model(scheduling={"gpuType": "l4"}, overridable=["gpuType"])
    assert choose_scheduling(a_batch(), model) == Scheduling(gpu_type="l4")
    assert choose_scheduling(a_batch(), a_model()) == Scheduling()
    assert forbidden_fields(a_batch(), a_model()) == []


# --- a model that runs already ----------------------------------------------------------------------------------------


def test_a_processor_of_a_service_needs_no_gpu() -> None:
    pod = placed(a_model(), gpu_type="l4")
    assert not {"initContainers", "nodeSelector", "resourceClaims"} & set(pod)
    assert (pod["tolerations"], pod["priorityClassName"]) == ([], "own")


def test_a_processor_of_a_service_may_run_on_spot_nodes_and_with_a_priority() -> None:
    pod = placed(a_model(), spot=True, priority_class_name="low")
    assert (pod["tolerations"], pod["priorityClassName"]) == ([SPOT_NODES], "low")


@pytest.mark.parametrize(("spot", "asked"), [(True, 0), (False, 2), (None, 2)])
def test_only_spot_nodes_may_be_taken_away_by_an_autoscaler(spot: bool | None, asked: int) -> None:
    assert len(disruption_annotations(Scheduling(spot=spot))) == asked


# --- a model server beside the processor ------------------------------------------------------------------------------


def test_a_pod_with_a_model_server_goes_to_the_nodes_that_have_its_gpus() -> None:
    own = {"key": "team", "operator": "Exists"}
    pod = placed(a_served_model(nodeSelector={"pool": "a"}, tolerations=[own]), gpu_type="nvidia-l4", spot=True)
    assert pod["nodeSelector"] == {"pool": "a", GPU_LABEL: "nvidia-l4"}
    assert pod["tolerations"] == [SPOT_NODES, GPU_NODES, own]
    assert placed(a_served_model())["nodeSelector"] == {}


def test_a_model_server_is_a_native_sidecar_that_has_to_answer_before_the_processor_starts() -> None:
    [sidecar] = placed(a_served_model(port=8123, readinessPath="/ready", startupSeconds=601))["initContainers"]
    assert (sidecar["name"], sidecar["image"], sidecar["restartPolicy"]) == ("model", "vllm:1", "Always")
    probe = sidecar["startupProbe"]
    assert probe["httpGet"] == {"path": "/ready", "port": 8123}
    assert probe["periodSeconds"] * probe["failureThreshold"] == 605


def test_a_model_server_gets_its_arguments_its_environment_and_no_right_that_it_does_not_need() -> None:
    sidecar = sidecar_of(args=["--model", "/models/x"], env={"B": "2", "A": "1"}, runAsUser=1000)
    assert sidecar["args"] == ["--model", "/models/x"]
    assert sidecar["env"] == [{"name": "A", "value": "1"}, {"name": "B", "value": "2"}]
    assert sidecar["securityContext"] == {
        "allowPrivilegeEscalation": False,
        "capabilities": {"drop": ["ALL"]},
        "runAsUser": 1000,
    }
    assert "runAsUser" not in sidecar_of()["securityContext"]
    assert sidecar["imagePullPolicy"] == "IfNotPresent"


@pytest.mark.parametrize(
    ("given", "resources"),
    [
        ({}, {}),
        ({"nvidia.com/gpu": 1}, {"limits": {"nvidia.com/gpu": 1}, "requests": {"nvidia.com/gpu": 1}}),
        (
            {"limits": {"memory": "8Gi"}, "requests": {"memory": "1Gi"}},
            {"limits": {"memory": "8Gi"}, "requests": {"memory": "8Gi"}},
        ),
    ],
)
def test_a_model_server_requests_exactly_what_it_may_use(given: dict[str, Any], resources: Manifest) -> None:
    assert sidecar_of(resources=given)["resources"] == resources


def test_devices_may_be_claimed_instead_of_counted() -> None:
    pod = placed(a_served_model(resourceClaimTemplate="one-gpu"))
    [claim] = pod["resourceClaims"]
    assert claim["resourceClaimTemplateName"] == "one-gpu"
    assert pod["initContainers"][0]["resources"] == {"claims": [{"name": claim["name"]}]}
    assert "resourceClaims" not in placed(a_served_model())


def test_shared_memory_is_a_volume_of_its_size() -> None:
    pod = placed(a_served_model(shmSize="2Gi"))
    assert pod["volumes"] == [
        {"name": "scratch"},
        {"name": "shm", "emptyDir": {"medium": "Memory", "sizeLimit": "2Gi"}},
    ]
    assert pod["initContainers"][0]["volumeMounts"] == [{"name": "shm", "mountPath": "/dev/shm"}]
    assert placed(a_served_model())["volumes"] == POD["volumes"]


@pytest.mark.parametrize(
    ("volume", "source"),
    [
        ({"persistentVolumeClaim": "m"}, {"persistentVolumeClaim": {"claimName": "m", "readOnly": True}}),
        ({"image": "reg/m:1"}, {"image": {"reference": "reg/m:1", "pullPolicy": "IfNotPresent"}}),
        ({"configMap": "m"}, {"configMap": {"name": "m"}}),
        ({"secret": "m"}, {"secret": {"secretName": "m"}}),
    ],
)
def test_a_volume_of_a_model_is_mounted_read_only(volume: dict[str, str], source: Manifest) -> None:
    pod = placed(a_served_model(volumes=[{"name": "weights", "mountPath": "/models"} | volume]))
    assert pod["volumes"][1:] == [{"name": "weights"} | source]
    mounts = pod["initContainers"][0]["volumeMounts"]
    assert mounts == [{"name": "weights", "mountPath": "/models", "readOnly": True}]
