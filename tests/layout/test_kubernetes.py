"""Which clusters the tests would fill and empty."""

from pathlib import Path

import pytest

from tests.kubernetes import check_context


def a_kubeconfig(folder: Path, content: str) -> Path:
    kubeconfig = folder / "kubeconfig"
    kubeconfig.write_text(content)
    return kubeconfig


@pytest.mark.parametrize("context", ["nightshift", "nightshift-dev", "kind-nightshift", "kind-kind"])
def test_a_cluster_for_tests_says_so_by_the_name_of_its_context(tmp_path: Path, context: str) -> None:
    kubeconfig = a_kubeconfig(tmp_path, f"current-context: {context}")
    assert check_context(kubeconfig) == kubeconfig


@pytest.mark.parametrize(
    "content", ["current-context: gke_production_eu_main", "current-context: my-kind-cluster", "current-context:", "{}"]
)
def test_any_other_cluster_is_left_alone(tmp_path: Path, content: str) -> None:
    with pytest.raises(ValueError, match=r"must be called kind-\* or nightshift\*"):
        check_context(a_kubeconfig(tmp_path, content))
