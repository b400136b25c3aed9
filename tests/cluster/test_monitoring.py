"""Metrics on a real Kubernetes: each role at the port that the chart and the operator have given it."""

import urllib.request
from urllib.error import URLError

from tests.cluster.release import SERVICE_MODEL, Release
from tests.e2e.installation import chat_lines, wait_until

_PORT = 9464


def page_of(release: Release, what: str) -> str:
    """Read the metrics of a pod, or of one of a Deployment; empty while it does not answer."""
    try:
        with urllib.request.urlopen(f"{release.forward(what, _PORT)}/metrics", timeout=5) as answer:
            return str(answer.read().decode())
    except (URLError, OSError):
        return ""


def test_all_three_roles_show_what_they_count(release: Release) -> None:
    lines, ids = chat_lines([*(f"measured {n}" for n in range(20)), "measured slow:20"], SERVICE_MODEL)
    batch = release.submit(lines)
    pod = release.running_pod(batch.id)
    rows = f'nightshift_processor_rows_total{{model="{SERVICE_MODEL}",outcome="completed"}} {len(ids) - 1:.1f}'
    wait_until(lambda: rows in page_of(release, f"pod/{pod}"), "a processor with all rows but the slow one")
    release.forwards.pop(f"pod/{pod}").close()
    release.wait(batch.id)
    ends = f'nightshift_batch_ends_total{{model="{SERVICE_MODEL}",phase="COMPLETED"}}'
    wait_until(lambda: ends in page_of(release, "deploy/nightshift-operator"), "an operator that has counted the end")
    assert 'nightshift_kubernetes_calls_total{code="200",resource="jobs",verb="create"}' in page_of(
        release, "deploy/nightshift-operator"
    )
    assert "nightshift_http_requests_total{" in page_of(release, "deploy/nightshift-api")
