"""Who may do what: the Roles that the chart renders, held against kubernetes.md 6.6 as design 8 amends it."""

from collections import defaultdict
from collections.abc import Iterable
from typing import Any

import pytest

from nightshift_crds.cluster import parse_namespaces
from tests.charts.helm import BUCKET, MATRIX, Manifest, environment_of, find, of_kind, pod_of, render

pytestmark = pytest.mark.cluster
READ = {"get", "list", "watch"}
OURS = "nightshift.dev"

IN_EACH_NAMESPACE: dict[str, dict[str, set[str]]] = {
    "api": {
        f"{OURS}/batchjobs": READ | {"create", "patch", "delete"},
        f"{OURS}/storedfiles": READ | {"create", "patch", "delete"},
        f"{OURS}/storedfiles/status": {"patch"},
        f"{OURS}/hostedmodels": READ,
    },
    "operator": {
        f"{OURS}/batchjobs": READ | {"delete"},
        f"{OURS}/batchjobs/status": {"patch"},
        f"{OURS}/storedfiles": {"get", "list", "create", "delete"},
        f"{OURS}/storedfiles/status": {"patch"},
        f"{OURS}/hostedmodels": READ,
        "batch/jobs": READ | {"create", "delete"},
        "/pods": {"get", "list", "delete"},
        "/events": {"create", "patch"},
    },
    "processor": {},
}
ACROSS_NAMESPACES: dict[str, dict[str, set[str]]] = {
    "api": {
        "authentication.k8s.io/tokenreviews": {"create"},
        "authorization.k8s.io/subjectaccessreviews": {"create"},
    },
    "operator": {"/nodes": {"get"}},
    "processor": {},
}


def rights(rules: Iterable[dict[str, Any]]) -> dict[str, set[str]]:
    """Verbs by resource, over all rules that are not for one name."""
    found: dict[str, set[str]] = defaultdict(set)
    for rule in rules:
        for group in rule["apiGroups"]:
            for resource in rule["resources"]:
                found[f"{group}/{resource}"] |= set(rule["verbs"])
    return dict(found)


def rights_of(manifests: list[Manifest], role: str, binding: str, namespace: str = "") -> dict[str, set[str]]:
    """What a role's account may do by bindings of a kind, in a namespace if they stand in one."""
    subject = {"kind": "ServiceAccount", "name": f"nightshift-{role}"}
    rules = [
        rule
        for bound in of_kind(manifests, binding)
        if bound["metadata"].get("namespace", "") == namespace and subject.items() <= bound["subjects"][0].items()
        for rule in find(manifests, bound["roleRef"]["kind"], bound["roleRef"]["name"], namespace)["rules"]
    ]
    return rights(rule for rule in rules if "leases" not in rule["resources"])


@pytest.mark.parametrize("namespace", ["team-a", "team-b"])
@pytest.mark.parametrize("role", IN_EACH_NAMESPACE)
def test_an_account_may_do_this_in_each_namespace_and_no_more(role: str, namespace: str) -> None:
    manifests = render(MATRIX["several namespaces"])
    assert rights_of(manifests, role, "RoleBinding", namespace) == IN_EACH_NAMESPACE[role]


@pytest.mark.parametrize("role", ACROSS_NAMESPACES)
def test_an_account_may_do_this_across_namespaces_and_no_more(role: str) -> None:
    assert rights_of(render(BUCKET), role, "ClusterRoleBinding") == ACROSS_NAMESPACES[role]


@pytest.mark.parametrize(("role", "setting"), [("api", "NIGHTSHIFT_MARKS_LEASE"), ("operator", "NIGHTSHIFT_LEASE")])
def test_a_role_may_write_its_own_lease_and_touch_no_other(role: str, setting: str) -> None:
    manifests = render(MATRIX["several namespaces"])
    create, hold = find(manifests, "Role", f"nightshift-{role}-lease")["rules"]
    assert (create["resources"], create["verbs"]) == (["leases"], ["create"])
    assert hold["resourceNames"] == [f"nightshift-{role}"]
    assert set(hold["verbs"]) == {"get", "update", "patch"}
    (subject,) = find(manifests, "RoleBinding", f"nightshift-{role}-lease")["subjects"]
    assert (subject["name"], subject["namespace"]) == (f"nightshift-{role}", "nightshift")
    assert environment_of(manifests, role)[setting] == f"nightshift/nightshift-{role}"


@pytest.mark.parametrize("values", MATRIX.values(), ids=MATRIX)
def test_no_rule_has_a_wildcard_or_reads_secrets(values: dict[str, Any]) -> None:
    for role in [m for m in render(values) if m["kind"] in {"Role", "ClusterRole"}]:
        for rule in role["rules"]:
            assert "*" not in rule["apiGroups"] + rule["resources"] + rule["verbs"]
            assert "secrets" not in rule["resources"]


@pytest.mark.parametrize("values", [MATRIX["a bucket"], MATRIX["several namespaces"]], ids=["one", "several"])
def test_the_namespaces_with_rights_are_those_that_are_served(values: dict[str, Any]) -> None:
    manifests = render(values)
    served = set(values.get("namespaces", ["nightshift"]))
    for role in ("api", "operator"):
        assert set(parse_namespaces(environment_of(manifests, role)["NIGHTSHIFT_CLUSTER"])) == served
        bound = {
            m["metadata"]["namespace"]
            for m in of_kind(manifests, "RoleBinding")
            if m["metadata"]["name"] == f"nightshift-{role}"
        }
        assert bound == served
    accounts = [m for m in of_kind(manifests, "ServiceAccount") if m["metadata"]["name"] == "nightshift-processor"]
    assert {account["metadata"]["namespace"] for account in accounts} == served


def test_every_binding_names_an_account_that_there_is() -> None:
    manifests = render(MATRIX["several namespaces"])
    for bound in of_kind(manifests, "RoleBinding") + of_kind(manifests, "ClusterRoleBinding"):
        (subject,) = bound["subjects"]
        assert find(manifests, subject["kind"], subject["name"], subject["namespace"])


def test_a_processor_gets_no_token() -> None:
    manifests = render(BUCKET)
    assert find(manifests, "ServiceAccount", "nightshift-processor")["automountServiceAccountToken"] is False
    assert environment_of(manifests, "operator")["NIGHTSHIFT_SERVICE_ACCOUNT"] == "nightshift-processor"


def test_each_role_runs_as_its_own_account() -> None:
    manifests = render(BUCKET)
    assert [pod_of(manifests, r)["spec"]["serviceAccountName"] for r in ("api", "operator")] == [
        "nightshift-api",
        "nightshift-operator",
    ]


def test_a_tenant_may_work_with_batches_but_make_neither_files_nor_models() -> None:
    assert rights(find(render(BUCKET), "Role", "nightshift-tenant")["rules"]) == {
        f"{OURS}/batchjobs": READ | {"create", "update", "patch", "delete"},
        f"{OURS}/storedfiles": READ | {"delete"},
        f"{OURS}/hostedmodels": READ,
    }
