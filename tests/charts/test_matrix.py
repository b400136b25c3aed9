"""Over many values: the chart lints, renders, and every Kubernetes that it is for knows each field of it."""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml

from nightshift_crds.models import GROUP, HostedModel
from tests.charts.helm import CHART, MATRIX, Manifest, of_kind, render, run_helm, write
from tests.layout.sources import ROOT

pytestmark = pytest.mark.cluster
VERSIONS = ["1.34", "1.35", "1.36", "1.37"]
FOREIGN = {f"{GROUP}/v1alpha1", "monitoring.coreos.com/v1"}


@pytest.fixture(scope="session")
def validator() -> Path:
    """Where kubernetes-validate is installed, with the schemas of many versions of Kubernetes."""
    command = ["make", "--silent", "--assume-old=.venv/.installed", "kubernetes-validate"]
    return Path(subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True).stdout.strip())


def find_faults(validator: Path, manifests: Path, version: str) -> str:
    command = [sys.executable, "-m", "kubernetes_validate", "--strict", "--quiet", "-k", version, str(manifests)]
    environ = os.environ | {"PYTHONPATH": str(validator)}
    return subprocess.run(command, env=environ, capture_output=True, text=True, check=False).stdout


def built_in(manifests: list[Manifest]) -> list[Manifest]:
    return [manifest for manifest in manifests if manifest["apiVersion"] not in FOREIGN]


@pytest.mark.parametrize("values", MATRIX.values(), ids=MATRIX)
def test_it_lints_with_nothing_to_say(values: dict[str, Any]) -> None:
    done = run_helm("lint", "--strict", str(CHART), values=values)
    assert done.returncode == 0, done.stdout
    assert "[WARNING]" not in done.stdout


@pytest.mark.parametrize("values", MATRIX.values(), ids=MATRIX)
def test_no_two_objects_are_the_same(values: dict[str, Any]) -> None:
    names = [(m["kind"], m["metadata"].get("namespace"), m["metadata"]["name"]) for m in render(values)]
    assert len(names) == len(set(names))


@pytest.mark.parametrize("values", MATRIX.values(), ids=MATRIX)
def test_its_models_are_models(values: dict[str, Any]) -> None:
    for manifest in of_kind(render(values), "HostedModel"):
        HostedModel.parse(manifest)


@pytest.mark.parametrize("version", VERSIONS)
def test_kubernetes_knows_every_field_of_it(version: str, validator: Path, tmp_path: Path) -> None:
    manifests = {json.dumps(m): m for values in MATRIX.values() for m in built_in(render(values))}  # each once
    assert find_faults(validator, write(manifests.values(), tmp_path / "all.yaml"), version) == ""


@pytest.mark.parametrize("version", VERSIONS)
def test_kubernetes_knows_every_field_of_the_demo(version: str, validator: Path) -> None:
    assert find_faults(validator, ROOT / "examples" / "kind-demo.yaml", version) == ""


def test_a_field_that_kubernetes_does_not_know_is_found(validator: Path, tmp_path: Path) -> None:
    (deployment, *_) = of_kind(render({}), "Deployment")
    deployment["spec"]["replica"] = 2
    assert "'replica' was unexpected" in find_faults(validator, write([deployment], tmp_path / "wrong.yaml"), "1.37")


def test_the_chart_has_the_version_of_the_project() -> None:
    chart = yaml.safe_load((CHART / "Chart.yaml").read_text())
    assert f'\nversion = "{chart["appVersion"]}"\n' in (ROOT / "pyproject.toml").read_text()
