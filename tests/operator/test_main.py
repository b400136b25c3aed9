"""What the operator does before it works: an API server that cannot be worked with is told in words."""

import json
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
import yaml

from nightshift_crds.errors import Rejected
from nightshift_operator.main import operate
from nightshift_operator.settings import Settings
from nightshift_operator.tracing import Traces
from tests.serving import serving_in_thread


@pytest.fixture
def server(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """An API server that gives one verdict on everything, as one without our CRDs or our roles does."""

    class Verdict(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            body = json.dumps({"kind": "Status", "code": request.param, "message": "words of the server"}).encode()
            self.send_response(request.param)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: object) -> None: ...

    with serving_in_thread(ThreadingHTTPServer(("127.0.0.1", 0), Verdict)) as url:
        config = {
            "current-context": "test",
            "contexts": [{"name": "test", "context": {"cluster": "test", "user": "test"}}],
            "clusters": [{"name": "test", "cluster": {"server": url}}],
            "users": [{"name": "test", "user": {"token": "t0ken"}}],
        }
        (tmp_path / "kubeconfig").write_text(yaml.safe_dump(config))
        monkeypatch.setenv("KUBECONFIG", str(tmp_path / "kubeconfig"))
        monkeypatch.delenv("KUBERNETES_SERVICE_HOST", raising=False)
        yield


@pytest.mark.parametrize(
    ("server", "words"),
    [(404, r"kubectl apply -f crds/"), (403, r"does not let the operator read BatchJobs: words of the server")],
    indirect=["server"],
)
async def test_a_cluster_without_our_crds_or_rights_ends_the_operator_with_the_reason(
    server: None, words: str, tmp_path: Path
) -> None:
    with pytest.raises(Rejected, match=words):
        await operate(Settings(cluster="kubernetes://team-a", bucket=f"file://{tmp_path / 'bucket'}"), Traces())
