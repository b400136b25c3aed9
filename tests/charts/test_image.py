"""The Dockerfile: what it is told to install exists, and nothing in it runs as root."""

import re
import tomllib

from tests.layout.sources import ROOT

DOCKERFILE = (ROOT / "Dockerfile").read_text()
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]


def test_it_installs_the_three_roles_both_clients_and_what_makes_traces() -> None:
    (extras,) = re.findall(r"'nightshift-batch\[(.*)\]'", DOCKERFILE)
    assert set(extras.split(",")) == {"api", "operator", "processor", "kubernetes", "gcs", "otel"}
    assert set(extras.split(",")) <= set(PROJECT["optional-dependencies"])


def test_it_ends_as_a_user_whom_the_kubelet_knows_by_number_not_to_be_root() -> None:
    (user,) = re.findall(r"^USER (\d+):\d+$", DOCKERFILE, re.MULTILINE)
    assert int(user) > 0


def test_the_scripts_that_it_removes_are_those_whose_dependencies_it_lacks() -> None:
    (removed,) = re.findall(r"cd /opt/nightshift/bin && rm (.+)", DOCKERFILE)
    roles = {"nightshift-api", "nightshift-operator", "nightshift-processor"}
    assert set(PROJECT["scripts"]) == roles | set(removed.split())
