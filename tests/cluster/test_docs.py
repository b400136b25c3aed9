"""The commands of the documentation that need a Kubernetes, page by page, as they are printed.

What the pages take for granted is laid out: the bucket `my-batches` (by an emulator), the model server
`llama.models.svc`, and a `helm` that adds where the emulator is and which image was built here.
"""

import contextlib
import json
import os
import shutil
import stat
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.cluster.release import IMAGE, Release, bucket_emulator, stub_model
from tests.docs.pages import ROOT, sessions
from tests.docs.shell import shell
from tests.e2e.installation import BIN, chat_lines, wait_until
from tests.kubernetes import Kubernetes, tools

SESSIONS = sessions("cluster")
NAMESPACE, BUCKET, MODEL = "nightshift", "my-batches", "llama3.2:1b"
# An installation is an installation, however often a page begins with one.
_HELM = """#!/bin/sh
case "$1" in
  install) shift; exec {helm} upgrade --install "$@" --take-ownership --wait {more} ;;
  upgrade) exec {helm} "$@" --wait {more} ;;
  *) exec {helm} "$@" ;;
esac
"""


@pytest.fixture(scope="module")
def place(kubernetes: Kubernetes, images: None) -> Iterator[Release]:
    """A cluster as the pages find it: namespaces, a bucket with an input, a model server."""
    release = Release(kubernetes, NAMESPACE)
    with contextlib.ExitStack() as stack:
        for name in (NAMESPACE, "models", "team-a"):
            kubernetes.kubectl("create", "namespace", name)
            stack.callback(kubernetes.kubectl, "delete", "namespace", name, "--wait=true")
        stack.callback(release.close)
        release.apply(*bucket_emulator(NAMESPACE))
        Release(kubernetes, "models").apply(*stub_model("llama"))
        release.kubectl("rollout", "status", "deployment/gcs", "--timeout=2m")
        _fill_bucket(release.forward("svc/gcs", 4443))
        yield release


def _fill_bucket(gcs: str) -> None:
    _post(f"{gcs}/storage/v1/b", json.dumps({"name": BUCKET}).encode())
    where = f"{gcs}/upload/storage/v1/b/{BUCKET}/o?uploadType=media&name=inbox/summaries.jsonl"
    _post(where, chat_lines([f"summary {n}" for n in range(20)], MODEL)[0])


def _post(url: str, body: bytes) -> None:
    urllib.request.urlopen(urllib.request.Request(url, body, method="POST")).close()


@pytest.fixture
def environ(place: Release, tmp_path: Path) -> dict[str, str]:
    """What a reader has: kubectl, Helm and nightshift on the PATH, and a kubeconfig of their own."""
    bin_folder, values = tmp_path / "bin", tmp_path / "values.yaml"
    bin_folder.mkdir()
    kubeconfig = shutil.copy(place.kubernetes.kubeconfig, tmp_path / "kubeconfig")
    values.write_text(yaml.safe_dump(_here(place)))
    helm = bin_folder / "helm"
    image = f"--set image.repository={IMAGE} --set image.tag=test --set crds.install=false"
    helm.write_text(_HELM.format(helm=tools() / "helm", more=f"--values {values} {image}"))
    helm.chmod(helm.stat().st_mode | stat.S_IEXEC)
    path = f"{bin_folder}:{tools()}:{BIN}:{os.environ['PATH']}"
    return {"PATH": path, "KUBECONFIG": str(kubeconfig)}


def _here(place: Release) -> dict[str, Any]:
    values = place.values()
    return {key: values[key] for key in ("extraEnv", "operator", "api")} | {"namespaces": [NAMESPACE, "team-a"]}


@pytest.mark.parametrize("page", SESSIONS, ids=lambda page: str(page.relative_to(ROOT)))
def test_the_commands_of_a_page_work_as_printed(
    page: Path, place: Release, environ: dict[str, str], tmp_path: Path
) -> None:
    folder = tmp_path / "checkout"
    folder.mkdir()
    (folder / "my_batch_input.jsonl").write_bytes(chat_lines(["one", "two", "fail:400"], MODEL)[0])
    with shell(folder, environ) as session:
        for fence in SESSIONS[page]:
            session.run(fence)
    place.kubectl("delete", "batchjobs", "--all", "--wait=true")
    wait_until(lambda: not place.get("pods", "--selector=nightshift.dev/batch"), "the pods of the page to go", 90)
