"""The chart in a namespace of its own, with a bucket emulator and a stub model beside it, as a test drives them."""

import contextlib
import json
import shutil
import subprocess
import tempfile
import threading
import time
import urllib.parse
import urllib.request
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml
from openai import OpenAI

from nightshift_crds.keys import hash_key
from tests.e2e.installation import ROOT, Watched, wait_until
from tests.kubernetes import KIND, Kubernetes, tools
from tests.ports import free_port

KEY, OTHER_KEY = "sk-of-the-cluster-tests", "sk-of-another-team"
SERVICE_MODEL, SERVER_MODEL = "stub:1", "beside:1"
BUCKET = "batches"
IMAGE, GCS_IMAGE = "nightshift", "localhost/fake-gcs:1"
GPU = "nvidia.com/gpu"
ENDS = frozenset({"completed", "failed", "expired", "cancelled"})
Manifest = dict[str, Any]
_GCS = ["/fake-gcs-server"]
_STUB = ["python3", "/stub/stub_model.py", "--host=0.0.0.0", "--port=8000"]


@dataclass
class Release:
    """An installed chart; `close` ends what reaches it from here. One of all brings the CRDs."""

    kubernetes: Kubernetes
    namespace: str
    owns_crds: bool = False
    forwards: dict[str, "Forward"] = field(default_factory=dict)

    # commands

    def kubectl(self, *arguments: str | Path) -> str:
        """Run kubectl in the release's namespace; gives what it printed."""
        return self.kubernetes.kubectl("--namespace", self.namespace, *arguments)

    def helm(self, *arguments: str | Path) -> str:
        """Run Helm for the release's namespace."""
        ran = subprocess.run([*self.tool("helm"), *arguments], capture_output=True, text=True, check=False)
        assert ran.returncode == 0, ran.stderr
        return ran.stdout

    def tool(self, name: str) -> list[str]:
        """Begin a command line of a tool for the release's namespace."""
        return [str(tools() / name), f"--kubeconfig={self.kubernetes.kubeconfig}", f"--namespace={self.namespace}"]

    def get(self, kind: str, *arguments: str) -> list[Manifest]:
        """List objects."""
        items: list[Manifest] = json.loads(self.kubectl("get", kind, "--output=json", *arguments))["items"]
        return items

    def apply(self, *manifests: Manifest) -> None:
        """Apply manifests; what the API server refuses is a CalledProcessError with its words."""
        command = [*self.tool("kubectl"), "apply", "--filename=-"]
        subprocess.run(command, input=yaml.safe_dump_all(manifests), text=True, check=True, capture_output=True)

    def create_raw(self, path: str, body: Manifest) -> None:
        """Post to a path of the API server."""
        command = [*self.tool("kubectl"), "create", f"--raw={path}", "--filename=-"]
        subprocess.run(command, input=json.dumps(body), text=True, check=True, capture_output=True)

    def install(self, **values: Any) -> None:
        """Install the chart, or upgrade it, and wait until it is ready."""
        path = ROOT / "build" / f"{self.namespace}.yaml"
        path.write_text(yaml.safe_dump(self.values(**values)))
        how = ("--install", "--take-ownership", "--wait", "--timeout=3m")  # of CRDs that an earlier release left
        self.helm("upgrade", "nightshift", ROOT / "charts" / "nightshift", "--values", path, *how)

    def values(self, **operator_settings: Any) -> Manifest:
        """The values of a small installation on the emulator, quick to react."""
        gcs = f"http://gcs.{self.namespace}.svc:4443"
        settings = {
            "flushIntervalS": 0.5,
            "progressIntervalS": 2,
            "resyncIntervalS": 10,
            "graceS": 10,
            "processorEnv": [f"STORAGE_EMULATOR_HOST={gcs}"],
            "toleratedTaints": [GPU],
        }
        shared = {key: value for key, value in operator_settings.items() if key == "completionWindowS"}
        return {
            "bucket": f"gs://{BUCKET}",
            "crds": {"install": self.owns_crds},
            "image": {"repository": IMAGE, "tag": "test"},
            "apiKeys": [{"sha256": hash_key(KEY), "namespace": self.namespace}],
            "extraEnv": [{"name": "STORAGE_EMULATOR_HOST", "value": gcs}],
            "settings": shared,
            "metrics": {"enabled": True},
            "operator": {
                "settings": settings | {k: v for k, v in operator_settings.items() if k not in shared},
                "tolerations": [{"key": GPU, "operator": "Exists"}],
            },
            "api": {"tolerations": [{"key": GPU, "operator": "Exists"}]},
            "models": self._models(),
        }

    def _models(self) -> list[Manifest]:
        server = {
            "image": f"{IMAGE}:test",
            "args": [*_STUB, "--latency-s=0.05"],
            "port": 8000,
            "readinessPath": "/asked",
            "resources": {"limits": {GPU: "1", "memory": "256Mi"}},
            "volumes": [{"name": "stub", "mountPath": "/stub", "configMap": "stub"}],
            "maxConcurrency": 8,
        }
        service = {"url": f"http://stub.{self.namespace}.svc:8000", "maxConcurrency": 8}
        return [
            {"name": "stub", "spec": {"name": SERVICE_MODEL, "service": service}},
            {"name": "beside", "spec": {"name": SERVER_MODEL, "server": server}},
        ]

    # what a user sees

    @property
    def base_url(self) -> str:
        """The API behind its Service."""
        return f"{self.forward('svc/nightshift', 443)}/openai/v1"

    def client(self, key: str = KEY) -> OpenAI:
        """The official client; it outlives a port-forward that breaks with its pod."""
        return OpenAI(base_url=self.base_url, api_key=key, max_retries=10)

    def submit(self, lines: bytes, **options: Any) -> Any:
        """Upload lines and create a batch of them."""
        client = self.client()
        uploaded = client.files.create(file=("in.jsonl", lines), purpose="batch")
        return client.batches.create(
            input_file_id=uploaded.id, endpoint="/v1/chat/completions", completion_window="24h", **options
        )

    def wait(self, batch_id: str, until: Callable[[Any], Any] | None = None, timeout_s: float = 240) -> Any:
        """Poll a batch until something is true of it, by default its end; nothing that it shows may go backwards."""
        client, seen = self.client(), Watched()

        def look() -> Any:
            batch = client.batches.retrieve(batch_id)
            seen.check(batch)
            assert until is None or batch.status not in ENDS or until(batch), f"it ended as {batch.status}"
            return batch if (until(batch) if until else batch.status in ENDS) else None

        return wait_until(look, f"{batch_id}", timeout_s)

    def content(self, file_id: str | None) -> list[Any]:
        """Read a result file as JSON lines; none if there is no file."""
        if file_id is None:
            return []
        return [json.loads(line) for line in self.client().files.content(file_id).content.splitlines()]

    # what the platform team sees

    def batch_job(self, batch_id: str) -> Manifest:
        """The BatchJob behind a batch that was made through the API."""
        name = batch_id.replace("_", "-", 1)
        found: Manifest = json.loads(self.kubectl("get", "batchjob", name, "--output=json"))
        return found

    def pods(self, batch_id: str, *, step: str = "run") -> list[Manifest]:
        """The pods of a step of a batch."""
        uid = self.batch_job(batch_id)["metadata"]["uid"]
        return self.get("pods", f"--selector=nightshift.dev/batch={uid},nightshift.dev/step={step}")

    def running_pod(self, batch_id: str) -> str:
        """The name of the pod that sends a batch's lines, once it does."""

        def look() -> str | None:
            return next((p["metadata"]["name"] for p in self.pods(batch_id) if _is_running(p)), None)

        return str(wait_until(look, f"a running pod of {batch_id}", 120))

    def keys(self, prefix: str = "") -> list[str]:
        """List the objects in the bucket."""
        query = urllib.parse.urlencode({"prefix": prefix})
        with urllib.request.urlopen(f"{self.forward('svc/gcs', 4443)}/storage/v1/b/{BUCKET}/o?{query}") as response:
            return [item["name"] for item in json.load(response).get("items", [])]

    def asked(self) -> dict[str, int]:
        """How often each prompt has reached the model behind the Service."""
        with urllib.request.urlopen(f"{self.forward('svc/stub', 8000)}/asked") as response:
            found: dict[str, int] = json.load(response)["asked"]
            return found

    def gpus_in_use(self) -> int:
        """How many counted GPUs the pods of the release hold."""
        live = [
            p for p in self.get("pods") if p["status"]["phase"] in {"Pending", "Running"} and p["spec"].get("nodeName")
        ]
        containers = [c for p in live for c in [*p["spec"].get("initContainers", []), *p["spec"]["containers"]]]
        return sum(int(c.get("resources", {}).get("limits", {}).get(GPU, 0)) for c in containers)

    # the way there

    def forward(self, target: str, port: int) -> str:
        """Give a URL here that leads to a Service there."""
        if target not in self.forwards:
            self.forwards[target] = Forward(self, target, port)
        return f"http://127.0.0.1:{self.forwards[target].port}"

    def close(self) -> None:
        """End what reaches the release from here."""
        for forward in self.forwards.values():
            forward.close()


class Forward:
    """`kubectl port-forward`, begun again whenever the pod at its other end goes."""

    def __init__(self, release: Release, target: str, port: int) -> None:
        self.port = free_port()
        self._command = [*release.tool("kubectl"), "port-forward", target, f"{self.port}:{port}"]
        self._is_closed = False
        self._is_open = threading.Event()
        self._process: subprocess.Popen[str] | None = None
        self._thread = threading.Thread(target=self._keep, daemon=True)
        self._thread.start()
        assert self._is_open.wait(60), f"{target} cannot be reached"

    def _keep(self) -> None:
        while not self._is_closed:
            with subprocess.Popen(
                self._command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True
            ) as process:
                self._process = process
                assert process.stdout
                for line in process.stdout:
                    if line.startswith("Forwarding"):
                        self._is_open.set()
            time.sleep(0.2)

    def close(self) -> None:
        """End it."""
        self._is_closed = True
        if self._process:
            self._process.kill()
        self._thread.join()


def _is_running(pod: Manifest) -> bool:
    statuses = pod["status"].get("containerStatuses", [])
    return "deletionTimestamp" not in pod["metadata"] and any("running" in s["state"] for s in statuses)


# --- what is beside it ------------------------------------------------------------------------------------------------


def build_workload(
    name: str, image: str, command: list[str], port: int, volumes: list[Manifest] | None = None
) -> list[Manifest]:
    """Build a Deployment of one pod, and its Service."""
    container: Manifest = {
        "name": name,
        "image": image,
        "imagePullPolicy": "IfNotPresent",
        "args": command,
        "readinessProbe": {"tcpSocket": {"port": port}, "periodSeconds": 1},
        "volumeMounts": [{"name": volume["name"], "mountPath": f"/{volume['name']}"} for volume in volumes or []],
    }
    template: Manifest = {
        "metadata": {"labels": {"app": name}},
        "spec": {
            "containers": [container],
            "volumes": volumes or [],
            "tolerations": [{"key": GPU, "operator": "Exists"}],
            "terminationGracePeriodSeconds": 0,
        },
    }
    return [
        {
            "apiVersion": "apps/v1",
            "kind": "Deployment",
            "metadata": {"name": name},
            "spec": {"selector": {"matchLabels": {"app": name}}, "template": template},
        },
        {
            "apiVersion": "v1",
            "kind": "Service",
            "metadata": {"name": name},
            "spec": {"selector": {"app": name}, "ports": [{"port": port}]},
        },
    ]


def stub_model(name: str) -> Iterator[Manifest]:
    """Build the stub model server, as a Service of that name on port 8000."""
    code = (ROOT / "tests" / "stub_model.py").read_text()
    metadata = {"name": "stub"}
    yield {"apiVersion": "v1", "kind": "ConfigMap", "metadata": metadata, "data": {"stub_model.py": code}}
    command = [*_STUB, "--latency-s=0.02"]
    yield from build_workload(name, f"{IMAGE}:test", command, 8000, [{"name": "stub", "configMap": metadata}])


def bucket_emulator(namespace: str) -> list[Manifest]:
    """Build the bucket emulator, as the Service `gcs` on port 4443."""
    url = f"-external-url=http://gcs.{namespace}.svc:4443"
    command = ["-scheme=http", "-host=0.0.0.0", "-port=4443", "-backend=memory", url]
    return build_workload("gcs", GCS_IMAGE, command, 4443)


@contextlib.contextmanager
def installed(
    kubernetes: Kubernetes, namespace: str, *, owns_crds: bool = False, **operator_settings: Any
) -> Iterator[Release]:
    """Install the chart and what it needs into a namespace; all of it goes with the namespace."""
    (ROOT / "build").mkdir(exist_ok=True)
    release = Release(kubernetes, namespace, owns_crds)
    release.apply(*stub_model("stub"), *bucket_emulator(namespace))
    for name in ("gcs", "stub"):
        release.kubectl("rollout", "status", f"deployment/{name}", "--timeout=2m")
    try:
        body = json.dumps({"name": BUCKET}).encode()
        made = urllib.request.Request(f"{release.forward('svc/gcs', 4443)}/storage/v1/b", body, method="POST")
        urllib.request.urlopen(made).close()
        release.install(**operator_settings)
        yield release
    finally:
        release.close()


def load_images(kubernetes: Kubernetes) -> None:
    """Build the image of the roles and that of the emulator, and bring both to the nodes."""
    image = f"{IMAGE}:test"
    subprocess.run(["make", "--silent", "images", f"IMAGE={image}"], cwd=ROOT, check=True)
    with tempfile.TemporaryDirectory() as folder:
        shutil.copy2(tools() / "fake-gcs-server", folder)
        if kubernetes.is_kind:
            (Path(folder) / "Dockerfile").write_text(
                f"FROM scratch\nCOPY {_GCS[0][1:]} /\nENTRYPOINT {json.dumps(_GCS)}\n"
            )
            subprocess.run(["docker", "build", f"--tag={GCS_IMAGE}", folder], check=True)
            subprocess.run(["kind", "load", "docker-image", image, GCS_IMAGE, f"--name={KIND}"], check=True)
        else:
            kubernetes.tool("load-archive", ROOT / "build" / "nightshift.tar")
            kubernetes.tool("load", GCS_IMAGE, folder, "--entrypoint", json.dumps(_GCS))
