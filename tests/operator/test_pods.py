"""What is read back of Jobs and pods, with statuses as a kubelet writes them."""

from datetime import UTC, datetime
from typing import Any

import pytest

from nightshift_crds.exits import Exit
from nightshift_operator.facts import JobState, Node, Pod, Trouble
from nightshift_operator.jobs import CONTAINER
from nightshift_operator.placement import MODEL_CONTAINER
from nightshift_operator.pods import parse_job, parse_node

JOB_METADATA = {"name": "job", "uid": "job-uid", "creationTimestamp": "2026-11-23T08:30:00Z"}


def a_job_manifest(*conditions: dict[str, str], **metadata: Any) -> dict[str, Any]:
    status = {"conditions": list(conditions), "active": 1} if conditions else {}
    return {"metadata": JOB_METADATA | metadata, "status": status}


def a_pod_manifest(*, containers: list[dict[str, Any]] | None = None, **more: Any) -> dict[str, Any]:
    status = {"phase": "Pending", "containerStatuses": containers or []} | more.pop("status", {})
    spec = more.pop("spec", {})
    return {"metadata": {"name": "job-0-x7d2k", "uid": "pod-uid"} | more, "spec": spec, "status": status}


def a_container(name: str = CONTAINER, **state: Any) -> dict[str, Any]:
    return {"name": name, "ready": False, "restartCount": 0, "state": state}


def condition(kind: str, status: str = "True", **more: str) -> dict[str, str]:
    return {"type": kind, "status": status} | more


@pytest.mark.parametrize(
    ("conditions", "state"),
    [
        ([], JobState.ACTIVE),
        ([condition("Complete")], JobState.COMPLETE),
        ([condition("Failed", reason="BackoffLimitExceeded")], JobState.FAILED),
        ([condition("FailureTarget")], JobState.ACTIVE),
        ([condition("SuccessCriteriaMet")], JobState.ACTIVE),
        ([condition("SuccessCriteriaMet"), condition("Complete")], JobState.COMPLETE),
        ([condition("Failed", "False")], JobState.ACTIVE),
        ([condition("Suspended")], JobState.ACTIVE),
    ],
)
def test_only_a_terminal_condition_ends_a_job(conditions: list[dict[str, str]], state: JobState) -> None:
    assert parse_job(a_job_manifest(*conditions), []).state is state


@pytest.mark.parametrize(("status", "is_suspended"), [("True", True), ("False", False)])
def test_a_job_that_a_queue_holds_is_suspended(status: str, is_suspended: bool) -> None:
    assert parse_job(a_job_manifest(condition("Suspended", status)), []).suspended is is_suspended


def test_a_job_that_nobody_has_looked_at_yet_is_active_and_says_nothing() -> None:
    job = parse_job({"metadata": JOB_METADATA}, [])
    assert (job.name, job.uid, job.state, job.message, job.deleting_at) == ("job", "job-uid", JobState.ACTIVE, "", None)
    assert (job.created_at, job.ended_at) == (datetime(2026, 11, 23, 8, 30, tzinfo=UTC), None)


def test_a_failed_job_says_why_and_when_it_was_deleted() -> None:
    failed = condition("Failed", reason="PodFailurePolicy", message="Container processor failed with exit code 40")
    job = parse_job(a_job_manifest(failed, deletionTimestamp="2026-11-23T09:00:00Z"), [])
    assert job.message.endswith("exit code 40")
    assert job.deleting_at == datetime(2026, 11, 23, 9, tzinfo=UTC)


def pod_of(manifest: dict[str, Any]) -> Pod:
    [pod] = parse_job(a_job_manifest(), [manifest]).pods
    return pod


@pytest.mark.parametrize(
    ("state", "exit_code", "running"),
    [
        ({"running": {"startedAt": "2026-11-23T09:00:00Z"}}, None, True),
        ({"running": {}}, None, True),
        ({"terminated": {"exitCode": 0, "reason": "Completed"}}, 0, False),
        ({"terminated": {"exitCode": 40, "reason": "Error"}}, 40, False),
        ({"waiting": {"reason": "ContainerCreating"}}, None, False),
        ({}, None, False),
    ],
)
def test_a_pod_is_as_its_processor_is(state: dict[str, Any], exit_code: int | None, running: bool) -> None:
    pod = pod_of(a_pod_manifest(containers=[a_container(**state)]))
    assert (pod.exit_code, pod.running, pod.trouble) == (exit_code, running, None)


def test_what_another_container_ends_with_is_not_the_processor_s_exit_code() -> None:
    sidecar = a_container("model", terminated={"exitCode": 41})
    pod = pod_of(a_pod_manifest(containers=[sidecar, a_container(running={})]))
    assert (pod.exit_code, pod.running) == (None, True)


def test_a_pod_without_a_status_is_one_that_waits() -> None:
    pod = pod_of({"metadata": {"name": "pod", "uid": "uid", "deletionTimestamp": "2026-11-23T09:00:00Z"}})
    assert (pod.exit_code, pod.running, pod.trouble) == (None, False, None)
    assert pod.deleting_at == datetime(2026, 11, 23, 9, tzinfo=UTC)


# --- what GPUs a pod has, and for how long ----------------------------------------------------------------------------

START = "2026-11-23T09:00:00Z"


def at(minute: int) -> datetime:
    return datetime(2026, 11, 23, 9, minute, tzinfo=UTC)


def finished(minute: int, code: int = 0, reason: str = "Completed") -> dict[str, Any]:
    return {"exitCode": code, "reason": reason, "startedAt": START, "finishedAt": f"2026-11-23T09:{minute:02}:00Z"}


def moved(kind: str, minute: int, status: str = "True", **more: str) -> dict[str, str]:
    return condition(kind, status, lastTransitionTime=f"2026-11-23T09:{minute:02}:00Z", **more)


EVICTED = moved("DisruptionTarget", 12, reason="TerminationByKubelet")


@pytest.mark.parametrize(
    ("limits", "gpus"),
    [
        ({}, 0),
        ({"cpu": "6", "memory": "32Gi"}, 0),
        ({"nvidia.com/gpu": "1", "cpu": "6"}, 1),
        ({"nvidia.com/gpu": 8}, 8),
        ({"amd.com/gpu": "2"}, 2),
        ({"nvidia.com/mig-1g.10gb": "3"}, 3),
        ({"nvidia.com/gpu": "1k", "example.com/gpu-memory": "4"}, 0),
    ],
)
def test_the_gpus_of_a_pod_are_those_of_its_model_server(limits: dict[str, Any], gpus: int) -> None:
    server = {"name": MODEL_CONTAINER, "restartPolicy": "Always", "resources": {"limits": limits, "requests": limits}}
    processor = {"name": CONTAINER, "resources": {"limits": {"memory": "1Gi"}}}
    assert pod_of(a_pod_manifest(spec={"initContainers": [server], "containers": [processor]})).gpus == gpus
    assert pod_of(a_pod_manifest(spec={"containers": [processor]})).gpus == 0


@pytest.mark.parametrize(
    ("status", "started", "ended"),
    [
        ({"phase": "Pending", "conditions": [condition("PodScheduled", "False")]}, None, None),
        ({"phase": "Pending", "startTime": START}, at(0), None),
        ({"phase": "Running", "startTime": START, "containerStatuses": [a_container(running={})]}, at(0), None),
        (
            {  # the processor has ended, and its model server still holds the GPU
                "phase": "Running",
                "startTime": START,
                "containerStatuses": [a_container(terminated=finished(10))],
                "initContainerStatuses": [a_container(MODEL_CONTAINER, running={"startedAt": START})],
            },
            at(0),
            None,
        ),
        (
            {
                "phase": "Succeeded",
                "startTime": START,
                "conditions": [moved("Ready", 12, "False", reason="PodCompleted")],
                "containerStatuses": [a_container(terminated=finished(10))],
                "initContainerStatuses": [a_container(MODEL_CONTAINER, terminated=finished(11, 143, "Error"))],
            },
            at(0),
            at(11),
        ),
        (  # evicted by its node: what is left says nothing of the containers
            {"phase": "Failed", "reason": "Evicted", "startTime": START, "conditions": [moved("Ready", 11), EVICTED]},
            at(0),
            at(12),
        ),
        (
            {
                "phase": "Failed",
                "startTime": START,
                "conditions": [EVICTED],
                "containerStatuses": [a_container(terminated={"exitCode": 137, "reason": "ContainerStatusUnknown"})],
            },
            at(0),
            at(12),
        ),
        ({"phase": "Failed", "reason": "NodeAffinity", "startTime": START}, at(0), at(0)),
        ({"phase": "Failed", "reason": "UnexpectedAdmissionError"}, None, None),
    ],
)
def test_a_pod_has_its_gpus_from_its_start_to_the_end_of_its_last_container(
    status: dict[str, Any], started: datetime | None, ended: datetime | None
) -> None:
    pod = pod_of(a_pod_manifest(status=status))
    assert (pod.started_at, pod.ended_at) == (started, ended)


@pytest.mark.parametrize(
    ("conditions", "minute"),
    [
        ([moved("Failed", 7)], 7),
        ([moved("Complete", 7)], 7),
        ([moved("FailureTarget", 5), moved("Failed", 7)], 7),
        ([moved("FailureTarget", 5)], None),
        ([moved("Suspended", 5), moved("Failed", 7, "False")], None),
        ([condition("Failed")], None),
    ],
)
def test_a_job_ended_when_its_terminal_condition_says_so(conditions: list[dict[str, str]], minute: int | None) -> None:
    assert parse_job(a_job_manifest(*conditions), []).ended_at == (None if minute is None else at(minute))


def a_pod_that_ended(minute: int) -> dict[str, Any]:
    return a_pod_manifest(status={"phase": "Failed", "containerStatuses": [a_container(terminated=finished(minute))]})


@pytest.mark.parametrize(
    ("job", "pods", "since"),
    [
        (moved("Failed", 20), [a_pod_that_ended(11)], at(20)),
        (condition("Failed"), [a_pod_that_ended(11), a_pod_that_ended(14), a_pod_manifest()], at(14)),
        (condition("Failed"), [a_pod_manifest()], datetime(2026, 11, 23, 8, 30, tzinfo=UTC)),
    ],
    ids=["by its condition", "by its last pod", "by its creation"],
)
def test_a_job_that_does_not_say_when_it_ended_is_over_since_what_is_nearest_to_it(
    job: dict[str, str], pods: list[dict[str, Any]], since: datetime
) -> None:
    assert parse_job(a_job_manifest(job), pods).over_since == since


# --- what keeps a pod from working ------------------------------------------------------------------------------------

NO_GPU = "0/3 nodes are available: 3 Insufficient nvidia.com/gpu. no new claims to deallocate."
UNSCHEDULED = condition("PodScheduled", "False", reason="Unschedulable", message=NO_GPU)
PULL = 'Back-off pulling image "vllm:none": ErrImagePull: failed to resolve reference "vllm:none": not found'
NOWHERE = "No node can take the pod, which waits for one that can."
CHECK = "Check the name of the image, and the Secret that it is pulled with."
MAKE = "Make what is missing, or correct the HostedModel."
MORE = "Raise NIGHTSHIFT_PROCESSOR_MEMORY of the operator."
RAISE = "Raise it in spec.server.resources of the HostedModel."
LOG = "The log of its container says why."
NO_SECRET = 'secret "keys" not found'
ROOT = "container has runAsNonRoot and image will run as root"
KILLED = {"exitCode": 137, "reason": "OOMKilled", "startedAt": "2026-11-23T09:00:00Z"}
DIED = {"exitCode": 1, "reason": "Error"}
BACK_OFF = {"waiting": {"reason": "CrashLoopBackOff", "message": "back-off 40s restarting failed container=model"}}
RUNNING: dict[str, Any] = {"running": {"startedAt": "2026-11-23T09:00:00Z"}}


def waiting(reason: str, message: str = "") -> dict[str, Any]:
    return {"waiting": {"reason": reason} | ({"message": message} if message else {})}


def a_model_container(state: dict[str, Any], *, last: dict[str, Any] | None = None, **more: Any) -> dict[str, Any]:
    """Build the status of the native sidecar, as the kubelet writes it."""
    past = {"lastState": {"terminated": last} if last else {}}
    return a_container(MODEL_CONTAINER, **state) | {"started": False} | past | more


def beside(model: dict[str, Any], *processor: dict[str, Any]) -> dict[str, Any]:
    """Build the status of a pod with a model server; its processor waits for it if nothing else is said."""
    waits = [a_container(**waiting("PodInitializing"))]
    return {"initContainerStatuses": [model], "containerStatuses": list(processor) or waits}


@pytest.mark.parametrize(
    ("status", "trouble", "words"),
    [
        ({"conditions": [UNSCHEDULED]}, Trouble.NO_NODE, f"{NOWHERE} The scheduler says: {NO_GPU}"),
        (
            {"conditions": [condition("PodScheduled", "False", reason="SchedulingGated", message="gated")]},
            Trouble.NO_NODE,
            f"{NOWHERE} The scheduler says: gated.",
        ),
        ({"conditions": [condition("PodScheduled", "False")]}, Trouble.NO_NODE, NOWHERE),
        (
            {"containerStatuses": [a_container(**waiting("ImagePullBackOff", PULL))]},
            Trouble.IMAGE_PULL,
            f"The processor cannot start: ImagePullBackOff: {PULL}. {CHECK}",
        ),
        (
            {"containerStatuses": [a_container(**waiting("CreateContainerConfigError", NO_SECRET))]},
            Trouble.MISCONFIGURED,
            f"The processor cannot start: CreateContainerConfigError: {NO_SECRET}. {MAKE}",
        ),
        (
            {"containerStatuses": [a_container(terminated=KILLED)]},
            Trouble.OUT_OF_MEMORY,
            f"The processor was killed: it needs more memory than its limit. {MORE}",
        ),
        (
            beside(a_model_container(waiting("ErrImagePull", PULL))),
            Trouble.IMAGE_PULL,
            f"The model server cannot start: ErrImagePull: {PULL}. {CHECK}",
        ),
        (
            beside(a_model_container(waiting("InvalidImageName"))),
            Trouble.IMAGE_PULL,
            f"The model server cannot start: InvalidImageName. {CHECK}",
        ),
        (
            beside(a_model_container(waiting("CreateContainerConfigError", ROOT))),
            Trouble.MISCONFIGURED,
            f"The model server cannot start: CreateContainerConfigError: {ROOT}. {MAKE}",
        ),
        (
            beside(a_model_container(RUNNING)),
            Trouble.MODEL_LOADING,
            "The model server is loading its model; it has spec.server.startupSeconds for it.",
        ),
        (
            beside(a_model_container({"terminated": DIED})),
            Trouble.MODEL_CRASHED,
            f"The model server ended with exit code 1 or did not answer in time; it was started again 0 times. {LOG}",
        ),
        (
            beside(a_model_container(BACK_OFF, last=DIED, restartCount=1)),
            Trouble.MODEL_CRASHED,
            f"The model server ended with exit code 1 or did not answer in time; it was started again 1 time. {LOG}",
        ),
        (
            beside(a_model_container(RUNNING, last=DIED, restartCount=3)),
            Trouble.MODEL_CRASHED,
            f"The model server ended with exit code 1 or did not answer in time; it was started again 3 times. {LOG}",
        ),
        (
            beside(a_model_container(BACK_OFF, last=KILLED, restartCount=2)),
            Trouble.OUT_OF_MEMORY,
            f"The model server was killed: it needs more memory than its limit; it was started again 2 times. {RAISE}",
        ),
        (
            beside(a_model_container({"terminated": KILLED})),
            Trouble.OUT_OF_MEMORY,
            f"The model server was killed: it needs more memory than its limit. {RAISE}",
        ),
        (
            beside(a_model_container(BACK_OFF, last=DIED, restartCount=1), a_container(**RUNNING)),
            Trouble.MODEL_CRASHED,
            f"The model server ended with exit code 1 or did not answer in time; it was started again 1 time. {LOG}",
        ),
    ],
)
def test_what_keeps_a_pod_from_working_is_told_in_words(status: dict[str, Any], trouble: Trouble, words: str) -> None:
    pod = pod_of(a_pod_manifest(status=status))
    assert (pod.trouble, pod.message) == (trouble, words)


SCHEDULED = condition("PodScheduled", lastTransitionTime="2026-11-23T09:00:00Z")


@pytest.mark.parametrize(
    "status",
    [
        {"conditions": [condition("Ready", "False"), SCHEDULED]},
        {"conditions": [condition("Ready", "False"), condition("PodScheduled", "Unknown")]},
        beside(a_model_container(waiting("PodInitializing"))),
        beside(a_model_container({})),
        beside(a_model_container(RUNNING, started=True), a_container(**RUNNING)),
        beside(a_model_container(RUNNING, started=True, last=KILLED, restartCount=1), a_container(**RUNNING)),
        beside(a_model_container({"terminated": {"exitCode": 143}}), a_container(terminated={"exitCode": 0})),
        {"initContainerStatuses": [a_container("istio-proxy", **BACK_OFF)]},
    ],
    ids=[
        "has a node",
        "nobody knows yet",
        "sidecar is being made",
        "sidecar without a state",
        "model answers",
        "model answers again",
        "model goes with its processor",
        "a container of somebody else",
    ],
)
def test_a_pod_that_works_or_is_on_its_way_is_in_no_trouble(status: dict[str, Any]) -> None:
    pod = pod_of(a_pod_manifest(status=status))
    assert (pod.trouble, pod.message) == (None, "")


def test_a_pod_says_where_it_is_since_when_and_how_often_its_model_was_started_again() -> None:
    status = {"conditions": [SCHEDULED]} | beside(a_model_container(RUNNING, restartCount=4))
    pod = pod_of(a_pod_manifest(status=status, spec={"nodeName": "node-1"}))
    assert (pod.node, pod.model_restarts) == ("node-1", 4)
    assert pod.scheduled_at == datetime(2026, 11, 23, 9, tzinfo=UTC)


@pytest.mark.parametrize(
    ("labels", "node"),
    [
        ({"node.kubernetes.io/instance-type": "g2-standard-8", "gpu": "nvidia-l4"}, Node("g2-standard-8", "nvidia-l4")),
        ({"kubernetes.io/os": "linux"}, Node()),
        (None, Node()),
    ],
)
def test_a_node_says_what_it_is_by_its_labels(labels: dict[str, str] | None, node: Node) -> None:
    assert parse_node({"metadata": {"name": "node-1"} | ({"labels": labels} if labels else {})}, "gpu") == node


def test_a_job_knows_the_exit_codes_of_all_its_pods() -> None:
    pods = [a_pod_manifest(containers=[a_container(terminated={"exitCode": code})]) for code in (0, 75, 75)]
    job = parse_job(a_job_manifest(), [*pods, a_pod_manifest()])
    assert job.exit_codes == {Exit.DONE, Exit.INTERRUPTED}
